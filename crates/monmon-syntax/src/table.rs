//! The catalogue's tables: what a node is called, what it takes, and what it means. Plain data that can stand in a
//! `static`; decoding, validation, suggestions and the reference all work from it.

use std::time::Duration;

use crate::quantity::{format_duration, format_size};

/// How often a child may be there.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Occurs {
    AtMostOnce,
    Once,
    Many,
    AtLeastOnce,
}

/// One kind of node.
#[derive(Copy, Clone, Debug)]
pub struct NodeSpec {
    pub name: &'static str,
    /// One line.
    pub help: &'static str,
    pub example: &'static str,
    pub args: &'static [ArgSpec],
    pub options: &'static [OptionSpec],
    pub children: &'static [&'static NodeSpec],
    pub occurs: Occurs,
    /// The kind of the values of properties whose names the user chooses, as in `label team="docs"`.
    pub open_properties: Option<ValueKind>,
}

impl NodeSpec {
    /// For `..NodeSpec::BLANK` in a table.
    pub const BLANK: NodeSpec = NodeSpec {
        name: "",
        help: "",
        example: "",
        args: &[],
        options: &[],
        children: &[],
        occurs: Occurs::Many,
        open_properties: None,
    };

    pub fn option(&self, name: &str) -> Option<&'static OptionSpec> {
        self.options.iter().find(|option| option.name == name)
    }

    pub fn child(&self, name: &str) -> Option<&'static NodeSpec> {
        self.children.iter().copied().find(|child| child.name == name)
    }
}

/// An argument: a value that is known by its place.
#[derive(Copy, Clone, Debug)]
pub struct ArgSpec {
    pub name: &'static str,
    pub kind: ValueKind,
    pub required: bool,
    /// The last argument may be given any number of times.
    pub many: bool,
    pub help: &'static str,
}

impl ArgSpec {
    /// For `..ArgSpec::BLANK` in a table: one required text.
    pub const BLANK: ArgSpec =
        ArgSpec { name: "", kind: ValueKind::Text, required: true, many: false, help: "" };
}

/// An option: a value that is known by its name, as a property or as a child with one argument.
#[derive(Copy, Clone, Debug)]
pub struct OptionSpec {
    pub name: &'static str,
    pub kind: ValueKind,
    /// The value's text without quotes (`30s`, `true`, `3`); read by the same code as what the user writes.
    pub default: Option<&'static str>,
    pub required: bool,
    /// One line.
    pub help: &'static str,
    pub example: &'static str,
}

impl OptionSpec {
    /// For `..OptionSpec::BLANK` in a table: an optional text.
    pub const BLANK: OptionSpec =
        OptionSpec { name: "", kind: ValueKind::Text, default: None, required: false, help: "", example: "" };
}

/// The type of a value, with its bounds.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ValueKind {
    /// Any text; may come late, so it is read with `late`.
    Text,
    /// A text that is never shown; may come late.
    Secret,
    Bool,
    Integer {
        min: i64,
        max: i64,
    },
    Duration {
        min: Duration,
        max: Duration,
    },
    /// Bytes.
    Size {
        min: u64,
        max: u64,
    },
    /// Numbers and ranges of them: `200-299,304`.
    Ranges {
        min: u16,
        max: u16,
    },
    /// An upper bound of a duration: `<2s`.
    Below,
    /// May come late.
    Url {
        schemes: &'static [&'static str],
    },
    /// May come late.
    Path,
    OneOf(&'static [&'static str]),
    /// A regular expression; whoever compiles it checks it.
    Pattern,
    /// A name by which things are told apart: short, printable, written in place.
    Name,
}

impl ValueKind {
    /// Whether `(env)` and `(file)` may give the value.
    pub fn may_be_late(self) -> bool {
        matches!(self, ValueKind::Text | ValueKind::Secret | ValueKind::Url { .. } | ValueKind::Path)
    }

    /// What is expected, with unit, bounds and an example: for labels and the reference.
    pub fn expected(self) -> String {
        match self {
            ValueKind::Text => "a text such as \"abc\"".to_owned(),
            ValueKind::Secret => "a secret, best as (env)\"NAME\" or (file)\"path\"".to_owned(),
            ValueKind::Bool => "#true or #false".to_owned(),
            ValueKind::Integer { min: i64::MIN, max: i64::MAX } => "a whole number such as 3".to_owned(),
            ValueKind::Integer { min, max: i64::MAX } => format!("a whole number of at least {min}"),
            ValueKind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            ValueKind::Duration { min, max } => {
                let example = [30, 1, 60, 3_600, 86_400]
                    .map(Duration::from_secs)
                    .into_iter()
                    .find(|example| (min..=max).contains(example))
                    .unwrap_or(max);
                format!(
                    "a duration from {} to {} such as \"{}\"",
                    format_duration(min),
                    format_duration(max),
                    format_duration(example)
                )
            }
            ValueKind::Size { min, max } => {
                let example = [16 << 20, 64 << 10, 1 << 30, 1 << 10]
                    .into_iter()
                    .find(|example| (min..=max).contains(example))
                    .unwrap_or(max);
                format!(
                    "a size from {} to {} such as \"{}\"",
                    format_size(min),
                    format_size(max),
                    format_size(example)
                )
            }
            ValueKind::Ranges { min, max } => {
                let example =
                    if min <= 200 && max >= 299 { "200-299".to_owned() } else { format!("{min}-{max}") };
                format!("numbers from {min} to {max} and ranges of them such as \"{example}\"")
            }
            ValueKind::Below => "an upper bound such as \"<2s\"".to_owned(),
            ValueKind::Url { schemes } => match schemes.first() {
                Some(scheme) => format!("a URL such as \"{scheme}://example.org/\""),
                None => "a URL".to_owned(),
            },
            ValueKind::Path => "a path such as \"folder/file\"".to_owned(),
            ValueKind::OneOf(words) => {
                format!(
                    "one of {}",
                    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
                )
            }
            ValueKind::Pattern => "a regular expression, best as a raw string such as #\"\\d+\"#".to_owned(),
            ValueKind::Name => "a name such as \"docs\"".to_owned(),
        }
    }
}
