//! A sink that keeps what comes, for the one who asked.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use monmon_model::Measurement;
use monmon_stage::{
    DecodeContext, FROM, Inlet, Item, OpenFuture, OpenStage, STAGE_NAME, Section, Sink, StageContext,
    StageCounters, StageError, StageKind, StageSpec,
};
use monmon_syntax::{Node, NodeSpec, Problems};
use serde_json::{Value, json};

pub(super) static SINK: StageKind = StageKind { section: Section::Sinks, spec: &NODE, decode };

static NODE: NodeSpec = NodeSpec {
    name: "collect",
    help: "keeps what comes for whoever asked",
    example: r#"collect "shown""#,
    args: &[STAGE_NAME],
    options: &[FROM],
    ..NodeSpec::BLANK
};

/// A process probes once: the stage is opened by the engine, and this is where the two meet.
static COLLECTED: Mutex<Vec<Measurement>> = Mutex::new(Vec::new());

/// What came, in the order in which it was asked for.
pub(super) fn take() -> Vec<Measurement> {
    let mut all = std::mem::take(&mut *COLLECTED.lock().unwrap_or_else(PoisonError::into_inner));
    all.sort_by(|a, b| (&a.check.name, a.attempt).cmp(&(&b.check.name, b.attempt)));
    all
}

/// One that came on several ways is one, with what was found on each.
fn keep(collected: &mut Vec<Measurement>, measurement: Measurement) {
    let Some(known) = collected.iter_mut().find(|known| known.id == measurement.id) else {
        return collected.push(measurement);
    };
    if measurement.outcome > known.outcome {
        (known.outcome, known.reason) = (measurement.outcome, measurement.reason);
    }
    for found in measurement.matches {
        if !known.matches.contains(&found) {
            known.matches.push(found);
        }
    }
}

#[derive(Debug)]
struct CollectSpec;

pub(super) fn spec() -> Box<dyn StageSpec> {
    Box::new(CollectSpec)
}

fn decode(_node: &Node, _context: &DecodeContext<'_>, _problems: &mut Problems) -> Box<dyn StageSpec> {
    Box::new(CollectSpec)
}

impl StageSpec for CollectSpec {
    fn describe(&self) -> Value {
        json!({})
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move { Ok(OpenStage::Sink(Box::new(CollectSink(context.counters)))) })
    }
}

struct CollectSink(Arc<StageCounters>);

#[async_trait]
impl Sink for CollectSink {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        while let Some(batch) = input.recv().await {
            self.0.add_received(batch.len() as u64);
            self.0.add_delivered(batch.len() as u64);
            for envelope in batch {
                if let Item::Measurement(measured) = envelope.item {
                    let mut collected = COLLECTED.lock().unwrap_or_else(PoisonError::into_inner);
                    keep(&mut collected, *measured.measurement);
                }
                envelope.ack.deliver();
            }
        }
        Ok(())
    }
}
