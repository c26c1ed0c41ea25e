//! The `match` node, which stands inside a check and inside a `regex` stage alike.

use monmon_syntax::{ArgSpec, Node, NodeSpec, Occurs, OptionSpec, Spanned, ValueKind};
use serde_json::{Value, json};

/// How a matcher is written.
pub static MATCH: NodeSpec = NodeSpec {
    name: "match",
    help: "a pattern that the page must have, or with present=#false must not have; named groups become values",
    example: r##"match "title" #"<title>(?<title>[^<]*)</title>"#"##,
    args: &[
        ArgSpec { name: "name", kind: ValueKind::Name, help: "the matcher's name", ..ArgSpec::BLANK },
        ArgSpec {
            name: "pattern",
            kind: ValueKind::Pattern,
            help: "a regular expression over the decoded body",
            ..ArgSpec::BLANK
        },
    ],
    options: &[OptionSpec {
        name: "present",
        kind: ValueKind::Bool,
        default: Some("true"),
        help: "#false: the page must not have it",
        example: "present=#false",
        ..OptionSpec::BLANK
    }],
    occurs: Occurs::Many,
    ..NodeSpec::BLANK
};

/// A matcher as the file asks for it. The pattern is not compiled yet.
#[derive(Clone, Debug)]
pub struct MatchSpec {
    pub name: Spanned<String>,
    pub pattern: Spanned<String>,
    pub present: bool,
}

impl MatchSpec {
    /// Reads a `match` node; `None` where something was reported already.
    pub fn read(node: &Node) -> Option<MatchSpec> {
        let name = node.arg_text(0)?;
        let pattern = node.arg_text(1)?;
        Some(MatchSpec { name, pattern, present: node.flag("present") })
    }

    /// What a snapshot shows.
    pub fn describe(&self) -> Value {
        json!({ "name": self.name.value, "pattern": self.pattern.value, "present": self.present })
    }
}
