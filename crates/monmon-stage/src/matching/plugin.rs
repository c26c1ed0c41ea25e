//! The `wasm` node, which is a stage of its own or stands inside a check.

use std::path::{Path, PathBuf};
use std::time::Duration;

use monmon_syntax::{
    ArgSpec, Code, FreeBlock, FreeValue, Node, NodeSpec, Occurs, OptionSpec, Problem, Problems, Span,
    Spanned, ValueKind, format_duration, format_size,
};
use serde_json::{Map, Value, json};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Most memory that a plugin can be given.
const PLUGIN_MEMORY_BYTES_MAX: u64 = 256 * MIB;

/// What a `wasm` node takes wherever it stands.
pub const PLUGIN_OPTIONS: [OptionSpec; 3] = [
    OptionSpec {
        name: "plugin",
        kind: ValueKind::Path,
        required: true,
        help: "the plugin's file: a component, or a core module that one can be made of; the path starts from this file's folder",
        example: r#"plugin="plugins/html-form.wasm""#,
        ..OptionSpec::BLANK
    },
    OptionSpec {
        name: "present",
        kind: ValueKind::Bool,
        default: Some("true"),
        help: "#false: what the plugin looks for must not be there",
        example: "present=#false",
        ..OptionSpec::BLANK
    },
    OptionSpec {
        name: "fresh",
        kind: ValueKind::Bool,
        default: Some("false"),
        help: "#true: a new instance for every page, so that nothing can be carried from one page to the next; else an instance is used again until it fails",
        example: "fresh=#true",
        ..OptionSpec::BLANK
    },
];

/// What may stand in a `wasm` node's block.
pub const PLUGIN_CHILDREN: &[&NodeSpec] = &[&CONFIG, &LIMITS];

/// `wasm` inside a check.
pub static INLINE_PLUGIN: NodeSpec = NodeSpec {
    name: "wasm",
    help: "a plugin that looks at the page; its verdict is a match",
    example: r#"wasm "login-form" plugin="plugins/html-form.wasm" { config { require "username" "password"; }; }"#,
    args: &[ArgSpec { name: "name", kind: ValueKind::Name, help: "the matcher's name", ..ArgSpec::BLANK }],
    options: &PLUGIN_OPTIONS,
    children: PLUGIN_CHILDREN,
    occurs: Occurs::Many,
    ..NodeSpec::BLANK
};

static CONFIG: NodeSpec = NodeSpec {
    name: "config",
    help: "what the plugin is told; `monmon plugin inspect` lists its parameters, with their types",
    example: r#"config { require "username" "password"; }"#,
    occurs: Occurs::AtMostOnce,
    free_block: true,
    ..NodeSpec::BLANK
};

static LIMITS: NodeSpec = NodeSpec {
    name: "limits",
    help: "what the plugin may use; a call that goes beyond it is a match with an error",
    example: r#"limits memory="16MiB" time="50ms""#,
    options: &[
        OptionSpec {
            name: "memory",
            kind: ValueKind::Size { min: 64 * KIB, max: PLUGIN_MEMORY_BYTES_MAX },
            default: Some("64MiB"),
            help: "most memory of one instance",
            example: r#"memory="16MiB""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "time",
            kind: ValueKind::Duration { min: Duration::from_millis(1), max: Duration::from_secs(10) },
            default: Some("100ms"),
            help: "longest time of one call, to within 10 ms; a new instance and its configuration have 1 s beside it",
            example: r#"time="50ms""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "fuel",
            kind: ValueKind::Integer { min: 1000, max: 1_000_000_000_000 },
            help: "most instructions of one call, about: unlike time, the same on every machine; makes every call a third slower",
            example: "fuel=10000000",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "output",
            kind: ValueKind::Size { min: KIB, max: 16 * MIB },
            default: Some("256KiB"),
            help: "most that one call may give back, or write to the log, at once",
            example: r#"output="64KiB""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "log-lines",
            kind: ValueKind::Integer { min: 0, max: 10_000 },
            default: Some("60"),
            help: "most lines of the plugin's own in the log within a minute; more are counted",
            example: "log-lines=10",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "table",
            kind: ValueKind::Integer { min: 0, max: 50_000 },
            default: Some("50000"),
            help: "most elements of its tables, which hold its functions",
            example: "table=10000",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "instances",
            kind: ValueKind::Integer { min: 1, max: 64 },
            default: Some("64"),
            help: "most core modules of one instance; Python has some 30",
            example: "instances=4",
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

/// What a plugin may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PluginLimits {
    pub memory_bytes: u64,
    pub time: Duration,
    pub fuel: Option<u64>,
    pub output_bytes: u64,
    /// Within a minute.
    pub log_lines: u32,
    pub table_elements: u32,
    pub instances: u32,
}

impl Default for PluginLimits {
    /// As the table has them.
    fn default() -> PluginLimits {
        PluginLimits {
            memory_bytes: 64 * MIB,
            time: Duration::from_millis(100),
            fuel: None,
            output_bytes: 256 * KIB,
            log_lines: 60,
            table_elements: 50_000,
            instances: 64,
        }
    }
}

impl PluginLimits {
    fn read(node: Option<&Node>) -> PluginLimits {
        let defaults = PluginLimits::default();
        let Some(node) = node else { return defaults };
        let size = |name, otherwise| node.size(name).map_or(otherwise, |given| given.value);
        let count = |name, otherwise| {
            node.integer(name).and_then(|given| u32::try_from(given.value).ok()).unwrap_or(otherwise)
        };
        PluginLimits {
            memory_bytes: size("memory", defaults.memory_bytes),
            time: node.duration("time").map_or(defaults.time, |given| given.value),
            fuel: node.integer("fuel").and_then(|given| u64::try_from(given.value).ok()),
            output_bytes: size("output", defaults.output_bytes),
            log_lines: count("log-lines", defaults.log_lines),
            table_elements: count("table", defaults.table_elements),
            instances: count("instances", defaults.instances),
        }
    }

    fn describe(&self) -> Value {
        json!({
            "memory": format_size(self.memory_bytes),
            "time": format_duration(self.time),
            "fuel": self.fuel,
            "output": format_size(self.output_bytes),
            "log-lines": self.log_lines,
            "table": self.table_elements,
            "instances": self.instances,
        })
    }
}

/// A plugin as the file asks for it. Its file has not been looked at yet.
#[derive(Clone, Debug)]
pub struct PluginSpec {
    pub name: Spanned<String>,
    /// As it was written.
    pub plugin: Spanned<String>,
    /// From the folder of the pipeline file.
    pub path: PathBuf,
    pub config: FreeBlock,
    /// Where something that is missing from the configuration is told.
    pub config_span: Span,
    pub present: bool,
    pub fresh: bool,
    pub limits: PluginLimits,
}

impl PluginSpec {
    /// Reads a `wasm` node; `None` where something was reported already.
    pub fn read(node: &Node, folder: &Path, problems: &mut Problems) -> Option<PluginSpec> {
        let late = node.late("plugin")?;
        let Some(plugin) = late.as_literal() else {
            let message = "the plugin's path is written in place: the plugin is read with the pipeline";
            problems.push(
                Problem::new(Code::LateNotAllowed, late.span, message)
                    .label("expected a path such as \"plugins/html-form.wasm\""),
            );
            return None;
        };
        let config = node.child("config");
        Some(PluginSpec {
            name: node.arg_text(0)?,
            plugin: Spanned::new(plugin.to_owned(), late.span),
            path: folder.join(plugin),
            config: config.map(|config| config.free.clone()).unwrap_or_default(),
            config_span: config.map_or(node.name_span, |config| config.name_span),
            present: node.flag("present"),
            fresh: node.flag("fresh"),
            limits: PluginLimits::read(node.child("limits")),
        })
    }

    /// What a snapshot shows. A late value's own `Debug` hides what came from elsewhere.
    pub fn describe(&self) -> Value {
        let mut config: Map<String, Value> = Map::new();
        for entry in &self.config.entries {
            let given = config.entry(&entry.name.value).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(given) = given {
                given.extend(entry.values.iter().map(|value| describe_value(&value.value)));
            }
        }
        json!({
            "name": self.name.value,
            "plugin": self.plugin.value,
            "present": self.present,
            "fresh": self.fresh,
            "config": config,
            "limits": self.limits.describe(),
        })
    }
}

fn describe_value(value: &FreeValue) -> Value {
    match value {
        FreeValue::Bool(flag) => json!(flag),
        FreeValue::Integer(number) => json!(number),
        FreeValue::Number(number) => json!(number),
        FreeValue::Text(late) => match late.as_literal() {
            Some(text) => json!(text),
            None => json!(format!("{late:?}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use monmon_syntax::{FileId, parse, read};

    use super::*;

    #[test]
    fn the_limits_of_the_table_are_those_of_the_code() {
        assert_eq!(INLINE_PLUGIN.faults(), [""; 0]);
        let mut problems = Problems::new();
        let document = parse(FileId(0), "limits", &mut problems).expect("KDL");
        let node = read(&document.nodes()[0], FileId(0), &LIMITS, &mut problems);
        assert!(problems.is_empty());
        assert_eq!(PluginLimits::read(Some(&node)), PluginLimits::default());
    }
}
