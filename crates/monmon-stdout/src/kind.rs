//! How a stdout sink is written in a pipeline file.

use monmon_spool::{SPOOL, wrap};
use monmon_stage::{
    DecodeContext, FROM, OpenFuture, OpenStage, STAGE_NAME, Section, StageContext, StageKind, StageSpec,
};
use monmon_syntax::{Node, NodeSpec, Problems};
use serde_json::{Value, json};

use crate::sink::StdoutSink;

/// `stdout`: JSON lines in the wire format.
pub static SINK: StageKind = StageKind { section: Section::Sinks, spec: &NODE, decode };

static NODE: NodeSpec = NodeSpec {
    name: "stdout",
    help: "writes each measurement as one line of JSON to the standard output",
    example: r#"stdout "lines" from="sites""#,
    args: &[STAGE_NAME],
    options: &[FROM],
    children: &[&SPOOL],
    ..NodeSpec::BLANK
};

#[derive(Debug)]
struct StdoutSpec;

fn decode(node: &Node, context: &DecodeContext<'_>, _problems: &mut Problems) -> Box<dyn StageSpec> {
    wrap(node, context, Box::new(StdoutSpec))
}

impl StageSpec for StdoutSpec {
    fn describe(&self) -> Value {
        json!({})
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        let sink = StdoutSink::new(std::io::stdout(), context.counters);
        Box::pin(async move { Ok(OpenStage::Sink(Box::new(sink))) })
    }
}
