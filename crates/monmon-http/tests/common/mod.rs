//! The source as a pipeline file asks for it, run without an engine.

#![allow(dead_code, reason = "each test program uses a part")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use monmon_http::SOURCE;
use monmon_model::Measurement;
use monmon_stage::{
    Clock, DecodeContext, Emitter, Inlet, Item, Mode, OpenStage, ProberIdentity, StageContext, StageCounters,
    StageSpec, SystemClock, SystemWorld, inlet,
};
use monmon_syntax::{MemoryLoader, Problems, SourceFile, SourceMap, parse, read};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) fn decoded(text: &str, loader: &MemoryLoader) -> (Box<dyn StageSpec>, Problems) {
    let mut sources = SourceMap::new();
    let file = sources.add(SourceFile::new("test.kdl", text));
    let mut problems = Problems::new();
    let document = parse(file, text, &mut problems).expect("the tests write KDL");
    let node = read(&document.nodes()[0], file, SOURCE.spec, &mut problems);
    let context = DecodeContext {
        pipeline: "tests",
        stage: "sites",
        sources: &sources,
        folder: Path::new("."),
        loader,
    };
    let spec = (SOURCE.decode)(&node, &context, &mut problems);
    (spec, problems)
}

pub(crate) fn told(text: &str, loader: &MemoryLoader) -> String {
    let (_, problems) = decoded(text, loader);
    let lines = problems.iter().map(|problem| format!("{}: {}", problem.code.as_str(), problem.message));
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) struct Running {
    pub(crate) task: JoinHandle<Result<(), monmon_stage::StageError>>,
    pub(crate) inlet: Inlet,
    pub(crate) stop: CancellationToken,
    pub(crate) counters: Arc<StageCounters>,
}

pub(crate) async fn started(text: &str, mode: Mode, grace: Duration, capacity: usize) -> Running {
    started_at(text, mode, grace, capacity, Arc::new(SystemClock)).await
}

pub(crate) async fn started_at(
    text: &str,
    mode: Mode,
    grace: Duration,
    capacity: usize,
    clock: Arc<dyn Clock>,
) -> Running {
    started_in(text, mode, grace, capacity, clock, None).await
}

/// With a folder in which the source keeps what outlives it.
pub(crate) async fn started_in(
    text: &str,
    mode: Mode,
    grace: Duration,
    capacity: usize,
    clock: Arc<dyn Clock>,
    state: Option<std::path::PathBuf>,
) -> Running {
    let (spec, problems) = decoded(text, &MemoryLoader::new());
    assert!(!problems.has_errors(), "{:?}", problems.iter().collect::<Vec<_>>());
    let (stop, counters) = (CancellationToken::new(), Arc::new(StageCounters::default()));
    let context = StageContext {
        pipeline: "tests".into(),
        stage: "sites".into(),
        mode,
        stop: stop.clone(),
        world: Arc::new(SystemWorld),
        clock,
        prober: ProberIdentity { id: Uuid::from_u128(7), name: "here".to_owned(), location: None, state },
        keep_pages: true,
        fail_fast: false,
        grace,
        counters: Arc::clone(&counters),
    };
    let (outlet, inlet) = inlet(capacity, true);
    let OpenStage::Source(source) = spec.open(context).await.unwrap() else { panic!("http is a source") };
    #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
    let task = tokio::spawn(source.run(Emitter::new(vec![outlet])));
    Running { task, inlet, stop, counters }
}

impl Running {
    /// Takes at least so many measurements, then all until the end, delivering each.
    pub(crate) async fn take(&mut self, at_least: usize) -> Vec<Measurement> {
        let mut taken = Vec::new();
        while taken.len() < at_least {
            let Some(batch) = self.inlet.recv().await else { break };
            for envelope in batch {
                if let Item::Measurement(measured) = envelope.item {
                    taken.push(*measured.measurement);
                }
                envelope.ack.deliver();
            }
        }
        taken
    }

    pub(crate) async fn end(mut self) -> (Vec<Measurement>, monmon_stage::Counts) {
        let rest = self.take(usize::MAX).await;
        self.task.await.unwrap().unwrap();
        (rest, self.counters.counts())
    }
}

/// Each check of the text once, by their names.
pub(crate) async fn once(text: &str) -> Vec<Measurement> {
    let (mut measurements, _) = started(text, Mode::Once, Duration::from_secs(30), 64).await.end().await;
    measurements.sort_by(|a, b| (&a.check.name, a.attempt).cmp(&(&b.check.name, b.attempt)));
    measurements
}

/// Checks inside of a source, each once.
pub(crate) async fn checked(checks: &str) -> Vec<Measurement> {
    once(&format!("http \"sites\" {{\n{checks}\n}}")).await
}

/// What failed, in one word, and where.
pub(crate) fn failure(measurement: &Measurement) -> (&'static str, &'static str) {
    match &measurement.error {
        Some(failure) => (failure.kind.as_str(), failure.phase.as_str()),
        None => (measurement.outcome.as_str(), ""),
    }
}
