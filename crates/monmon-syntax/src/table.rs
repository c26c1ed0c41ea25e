//! The catalogue's tables: what a node is called, what it takes, and what it means. Plain data that can stand in a
//! `static`; decoding, validation, suggestions and the reference all work from it.

use std::time::Duration;

use crate::decode::decode_default;
use crate::quantity::{format_duration, format_size};
use crate::span::{FileId, Span};

/// What a [`ValueKind::Kept`] is called that has no end.
pub const FOREVER: &str = "forever";

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
    /// The block takes any names, with texts, numbers and flags: a schema from elsewhere says what may be there.
    pub free_block: bool,
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
        free_block: false,
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
    /// A duration, or `forever`, which reads as [`Duration::MAX`].
    Kept {
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
            ValueKind::Kept { min, max } => {
                let duration = ValueKind::Duration { min, max }.expected();
                format!("{duration}, or \"{FOREVER}\"")
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

impl NodeSpec {
    /// What is wrong with the table itself: defaults that do not parse, names that clash, texts that are missing. For
    /// the tests of whoever writes a table.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        self.collect_faults(self.name, 0, &mut faults);
        faults
    }

    fn collect_faults(&self, path: &str, depth: usize, faults: &mut Vec<String>) {
        const DEPTH_MAX: usize = 8;
        if depth > DEPTH_MAX {
            return;
        }
        let mut names: Vec<&str> = self.options.iter().map(|option| option.name).collect();
        names.extend(self.children.iter().map(|child| child.name));
        names.sort_unstable();
        for pair in names.windows(2).filter(|pair| pair[0] == pair[1]) {
            faults.push(format!("{path}: `{}` is there twice", pair[0]));
        }
        if self.help.is_empty() {
            faults.push(format!("{path}: has no help"));
        }
        for (index, arg) in self.args.iter().enumerate() {
            if arg.many && index + 1 < self.args.len() {
                faults.push(format!(
                    "{path}: only the last argument may be there many times, not `{}`",
                    arg.name
                ));
            }
            if arg.required && index > 0 && !self.args[index - 1].required {
                faults.push(format!("{path}: `{}` is required after one that is not", arg.name));
            }
        }
        for option in self.options {
            option.collect_faults(path, faults);
        }
        for child in self.children {
            child.collect_faults(&format!("{path} > {}", child.name), depth + 1, faults);
        }
    }
}

impl OptionSpec {
    fn collect_faults(&self, path: &str, faults: &mut Vec<String>) {
        let place = Span::new(FileId(0), 0, 0);
        if let Some(default) = self.default
            && let Err(problem) = decode_default(self.name, default, self.kind, place)
        {
            faults.push(format!("{path}: the default of `{}`: {}", self.name, problem.message));
        }
        if self.required && self.default.is_some() {
            faults.push(format!("{path}: `{}` is required and has a default", self.name));
        }
        if self.help.is_empty() {
            faults.push(format!("{path}: `{}` has no help", self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: OptionSpec = OptionSpec {
        name: "interval",
        kind: ValueKind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(60) },
        default: Some("30s"),
        help: "how often",
        ..OptionSpec::BLANK
    };

    #[test]
    fn faults_of_a_table_are_found() {
        static CHILD: NodeSpec = NodeSpec { name: "interval", help: "x", ..NodeSpec::BLANK };
        static BROKEN: NodeSpec = NodeSpec {
            name: "http",
            args: &[
                ArgSpec { name: "names", many: true, ..ArgSpec::BLANK },
                ArgSpec { name: "last", ..ArgSpec::BLANK },
            ],
            options: &[SOUND, OptionSpec { name: "timeout", default: Some("30"), required: true, ..SOUND }],
            children: &[&CHILD],
            ..NodeSpec::BLANK
        };
        assert_eq!(
            BROKEN.faults(),
            [
                "http: `interval` is there twice",
                "http: has no help",
                "http: only the last argument may be there many times, not `names`",
                "http: the default of `timeout`: `timeout`: the number `30` has no unit",
                "http: `timeout` is required and has a default",
            ]
        );
        static WHOLE: NodeSpec = NodeSpec { name: "http", help: "x", options: &[SOUND], ..NodeSpec::BLANK };
        assert_eq!(WHOLE.faults(), [""; 0]);
    }

    #[test]
    fn what_is_expected_has_bounds_and_an_example_within_them() {
        let second = Duration::from_secs(1);
        let check = |kind: ValueKind, expected: &str| assert_eq!(kind.expected(), expected);
        check(SOUND.kind, "a duration from 1s to 1m such as \"30s\"");
        check(
            ValueKind::Duration { min: Duration::from_millis(1), max: second / 2 },
            "a duration from 1ms to 500ms such as \"500ms\"",
        );
        check(
            ValueKind::Kept { min: second, max: second * 60 },
            "a duration from 1s to 1m such as \"30s\", or \"forever\"",
        );
        check(ValueKind::Size { min: 1, max: 4096 }, "a size from 1B to 4KiB such as \"1KiB\"");
        check(ValueKind::Integer { min: 1, max: i64::MAX }, "a whole number of at least 1");
        check(
            ValueKind::Ranges { min: 1, max: 50 },
            "numbers from 1 to 50 and ranges of them such as \"1-50\"",
        );
        check(ValueKind::OneOf(&["a", "b"]), "one of \"a\", \"b\"");
    }
}
