//! Small plans, made as files are: through `monmon_plan::compile`; and the stages that only these tests have.

use std::sync::Arc;
use std::time::Duration;

use monmon_engine::{Engine, Failed, RunOptions, RunReport, StopListener, stop_pair};
use monmon_plan::{Catalogue, PipelineSpec, Plan, StageEntry, compile};
use monmon_stage::{
    Batch, DecodeContext, Inlet, Mode, Section, Sink, StageError, StageKind, StageSpec, Transform,
};
use monmon_syntax::{FileId, MemoryLoader, Node, NodeSpec, Problems, Span, Spanned};
use monmon_testkit::stages::{AckBook, Step, TestSpec, stage_context};
use tokio::sync::oneshot;

pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// A stage: its section, its spec, the places it takes from.
pub(crate) type Written = (Section, Box<dyn StageSpec>, Vec<usize>);

static SPEC: NodeSpec = NodeSpec { name: "test", ..NodeSpec::BLANK };
static SOURCE: StageKind = StageKind { section: Section::Sources, spec: &SPEC, decode: no_file };
static TRANSFORM: StageKind = StageKind { section: Section::Transforms, spec: &SPEC, decode: no_file };
static SINK: StageKind = StageKind { section: Section::Sinks, spec: &SPEC, decode: no_file };

fn no_file(_: &Node, _: &DecodeContext<'_>, _: &mut Problems) -> Box<dyn StageSpec> {
    unreachable!("these stages are in no file")
}

/// A plan whose stages are named by their place in the list: `s0`, `s1`, ...
pub(crate) fn plan(stages: Vec<Written>) -> Plan {
    plan_named("test", stages)
}

pub(crate) fn plan_named(pipeline: &str, stages: Vec<Written>) -> Plan {
    let span = Span::new(FileId(0), 0, 0);
    let name = |place: usize| Spanned::new(format!("s{place}"), span);
    let entry = |(place, (section, spec, from)): (usize, Written)| StageEntry {
        name: name(place),
        section,
        kind: match section {
            Section::Sources => &SOURCE,
            Section::Transforms => &TRANSFORM,
            Section::Sinks => &SINK,
        },
        kind_span: span,
        from: from.into_iter().map(name).collect(),
        spec,
    };
    let stages = stages.into_iter().enumerate().map(entry).collect();
    let spec = PipelineSpec { name: Spanned::new(pipeline.to_owned(), span), stages };
    let catalogue = Catalogue { kinds: &[], inline_kinds: &[] };
    let mut problems = Problems::new();
    compile(spec, &catalogue, &MemoryLoader::new(), &mut problems)
        .unwrap_or_else(|| panic!("the test's plan is bad: {problems:?}"))
}

pub(crate) fn source(steps: Vec<Step>, book: &Arc<AckBook>) -> Written {
    (Section::Sources, TestSpec::source(steps, book), Vec::new())
}

pub(crate) fn transform(transform: impl Transform + 'static, from: &[usize]) -> Written {
    (Section::Transforms, TestSpec::transform(transform), from.to_vec())
}

pub(crate) fn sink(sink: impl Sink + 'static, from: &[usize]) -> Written {
    (Section::Sinks, TestSpec::sink(sink), from.to_vec())
}

pub(crate) fn options() -> RunOptions {
    let context = stage_context("options");
    RunOptions {
        mode: Mode::Continuous,
        run_for: None,
        grace: GRACE,
        fail_fast: false,
        keep_newest: false,
        world: context.world,
        clock: context.clock,
        prober: context.prober,
    }
}

pub(crate) async fn open(
    plan: Plan,
    options: RunOptions,
    listener: &StopListener,
) -> Result<Engine, Vec<Failed>> {
    let opened = Engine::open(vec![plan], options, listener.clone()).await;
    opened.map(|engine| engine.expect("nobody asked for a stop"))
}

/// Runs to the end, with nobody asking for it.
pub(crate) async fn run(plan: Plan) -> RunReport {
    run_with(plan, options()).await
}

pub(crate) async fn run_with(plan: Plan, options: RunOptions) -> RunReport {
    let (_stop, listener) = stop_pair();
    let engine = open(plan, options, &listener).await.expect("the test's stages open");
    engine.run(listener).await
}

/// The names of the stages that failed, in the report's order.
pub(crate) fn failed(report: &RunReport) -> Vec<&str> {
    report.failed.iter().map(|failed| failed.stage.as_str()).collect()
}

/// Whatever else is held by the run is gone when this is the only one left.
pub(crate) fn assert_alone(guard: &Arc<()>) {
    assert_eq!(Arc::strong_count(guard), 1, "a task, a thread or a queue was left behind");
}

/// Lets everything pass.
#[derive(Default)]
pub(crate) struct Pass {
    _guard: Arc<()>,
}

impl Pass {
    pub(crate) fn holding(guard: &Arc<()>) -> Pass {
        Pass { _guard: guard.clone() }
    }
}

impl Transform for Pass {
    fn apply(&mut self, _batch: &mut Batch) {}
}

/// Holds the first batch that it takes for ever and acks nothing; says when it has it.
pub(crate) struct Holder(Option<oneshot::Sender<()>>);

pub(crate) fn holder() -> (Holder, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    (Holder(Some(sender)), receiver)
}

#[async_trait::async_trait]
impl Sink for Holder {
    async fn run(mut self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let held = input.recv().await;
        if let Some(holding) = self.0.take() {
            holding.send(()).expect("the test waits");
        }
        std::future::pending::<()>().await;
        drop(held);
        Ok(())
    }
}
