//! A small catalogue for the tests, with every kind of value in it.

use std::path::Path;
use std::time::Duration;

use miette::{GraphicalReportHandler, GraphicalTheme};
use monmon_syntax::{
    ArgSpec, MemoryLoader, Node, NodeSpec, Occurs, OptionSpec, Problems, Report, SourceMap, ValueKind, load,
    read,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const INTERVAL: ValueKind = ValueKind::Duration { min: SECOND, max: DAY };

static MATCH: NodeSpec = NodeSpec {
    name: "match",
    help: "looks for a pattern in the page",
    example: "match \"title\" #\"<title>\"#",
    args: &[
        ArgSpec { name: "name", kind: ValueKind::Name, ..ArgSpec::BLANK },
        ArgSpec { name: "pattern", kind: ValueKind::Pattern, ..ArgSpec::BLANK },
    ],
    options: &[OptionSpec {
        name: "present",
        kind: ValueKind::Bool,
        default: Some("true"),
        ..OptionSpec::BLANK
    }],
    ..NodeSpec::BLANK
};

static EXPECT: NodeSpec = NodeSpec {
    name: "expect",
    options: &[
        OptionSpec {
            name: "status",
            kind: ValueKind::Ranges { min: 100, max: 599 },
            default: Some("200-299"),
            ..OptionSpec::BLANK
        },
        OptionSpec { name: "time", kind: ValueKind::Below, ..OptionSpec::BLANK },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static LABEL: NodeSpec =
    NodeSpec { name: "label", open_properties: Some(ValueKind::Text), ..NodeSpec::BLANK };

static HEADER: NodeSpec = NodeSpec {
    name: "header",
    args: &[
        ArgSpec { name: "name", kind: ValueKind::Name, ..ArgSpec::BLANK },
        ArgSpec { name: "value", kind: ValueKind::Text, ..ArgSpec::BLANK },
    ],
    ..NodeSpec::BLANK
};

static CHECK: NodeSpec = NodeSpec {
    name: "check",
    help: "one URL to be checked",
    example: "check \"docs\" \"https://docs.example.org/\"",
    args: &[
        ArgSpec { name: "name", kind: ValueKind::Name, ..ArgSpec::BLANK },
        ArgSpec { name: "URL", kind: ValueKind::Url { schemes: &["https", "http"] }, ..ArgSpec::BLANK },
    ],
    options: &[
        OptionSpec { name: "interval", kind: INTERVAL, ..OptionSpec::BLANK },
        OptionSpec { name: "password", kind: ValueKind::Secret, ..OptionSpec::BLANK },
    ],
    children: &[&EXPECT, &HEADER, &LABEL, &MATCH],
    ..NodeSpec::BLANK
};

static HTTP: NodeSpec = NodeSpec {
    name: "http",
    help: "checks websites",
    args: &[ArgSpec { name: "name", kind: ValueKind::Name, ..ArgSpec::BLANK }],
    options: &[
        OptionSpec { name: "interval", kind: INTERVAL, default: Some("30s"), ..OptionSpec::BLANK },
        OptionSpec { name: "timeout", kind: INTERVAL, default: Some("10s"), ..OptionSpec::BLANK },
        OptionSpec {
            name: "body",
            kind: ValueKind::Size { min: 0, max: 64 << 20 },
            default: Some("1MiB"),
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "concurrency",
            kind: ValueKind::Integer { min: 1, max: 10_000 },
            default: Some("100"),
            ..OptionSpec::BLANK
        },
        OptionSpec { name: "reuse", kind: ValueKind::Bool, default: Some("false"), ..OptionSpec::BLANK },
        OptionSpec {
            name: "address",
            kind: ValueKind::OneOf(&["any", "ipv4", "ipv6"]),
            default: Some("any"),
            ..OptionSpec::BLANK
        },
    ],
    children: &[&CHECK],
    ..NodeSpec::BLANK
};

static TLS: NodeSpec = NodeSpec {
    name: "tls",
    options: &[OptionSpec { name: "ca", kind: ValueKind::Path, ..OptionSpec::BLANK }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static KAFKA: NodeSpec = NodeSpec {
    name: "kafka",
    args: &[ArgSpec { name: "name", kind: ValueKind::Name, ..ArgSpec::BLANK }],
    options: &[
        OptionSpec {
            name: "brokers",
            required: true,
            example: "brokers \"localhost:9092\"",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "topic",
            required: true,
            kind: ValueKind::Name,
            example: "topic \"monmon.measurements\"",
            ..OptionSpec::BLANK
        },
        OptionSpec { name: "password", kind: ValueKind::Secret, ..OptionSpec::BLANK },
        OptionSpec { name: "url", kind: ValueKind::Url { schemes: &["postgres"] }, ..OptionSpec::BLANK },
    ],
    children: &[&TLS],
    ..NodeSpec::BLANK
};

static PIPELINE: NodeSpec = NodeSpec {
    name: "pipeline",
    args: &[ArgSpec { name: "name", kind: ValueKind::Name, ..ArgSpec::BLANK }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};
static CONFIG: NodeSpec = NodeSpec {
    name: "config",
    example: "config { require \"username\"; }",
    occurs: Occurs::Once,
    ..NodeSpec::BLANK
};
static WASM: NodeSpec = NodeSpec { name: "wasm", children: &[&CONFIG], ..NodeSpec::BLANK };
static SOURCES: NodeSpec = NodeSpec { name: "sources", children: &[&HTTP, &KAFKA, &WASM], ..NodeSpec::BLANK };
static SINKS: NodeSpec = NodeSpec { name: "sinks", children: &[&KAFKA], ..NodeSpec::BLANK };

/// The whole file is one node of this.
pub(crate) static FILE: NodeSpec =
    NodeSpec { name: "a pipeline", children: &[&PIPELINE, &SOURCES, &SINKS], ..NodeSpec::BLANK };

/// Reads all files of a pipeline; the first is the one to begin with.
pub(crate) fn read_files(files: &[(&str, &[u8])]) -> (SourceMap, Vec<Node>, Problems) {
    let loader = files.iter().fold(MemoryLoader::new(), |loader, (name, bytes)| loader.with(name, *bytes));
    let mut problems = Problems::new();
    let loaded = load(Path::new(files[0].0), &loader, &mut problems);
    let mut nodes = Vec::new();
    for top in &loaded.nodes {
        let mut around = kdl::KdlNode::new("file");
        around.set_children(kdl::KdlDocument::new());
        around.ensure_children().nodes_mut().push(top.node.clone());
        nodes.push(read(&around, top.file, &FILE, &mut problems));
    }
    (loaded.sources, nodes, problems)
}

pub(crate) fn handler() -> GraphicalReportHandler {
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100).with_links(false)
}

/// What a user would see of these files.
pub(crate) fn shown(files: &[(&str, &[u8])]) -> String {
    let (sources, _, problems) = read_files(files);
    Report::new(&problems, &sources).render(&handler())
}
