//! Runs of small graphs: what arrives, what is acked, and how runs end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use monmon_engine::{Ending, Engine, Failed, RunOptions, RunReport, StopHandle, StopListener, stop_pair};
use monmon_model::{Origin, Rejected, RejectedReason};
use monmon_plan::{EDGE_BATCHES, Plan, PlanEdge, PlanStage, PlanTask, StageId};
use monmon_stage::{
    Batch, Emitter, Envelope, Inlet, Item, Mode, OpenStage, Page, PageHold, Section, Sink, Source,
    StageError, Transform,
};
use monmon_testkit::stages::{
    AckBook, BrokenSink, CaptureSink, Captured, PanicTransform, SlowSink, Step, TestSpec, measurement,
    stage_context,
};
use proptest::prelude::*;
use tokio::sync::oneshot;

const GRACE: Duration = Duration::from_secs(30);

/// A plan in which each stage is named by its place and takes from the places listed. Each stage is a task.
fn plan(stages: Vec<(Section, Box<TestSpec>, Vec<usize>)>) -> Plan {
    let mut edges = Vec::new();
    let mut planned = Vec::new();
    for (place, (section, spec, from)) in stages.into_iter().enumerate() {
        let needs_page = monmon_stage::StageSpec::needs_page(&*spec);
        for from in from {
            let (from, to) = (StageId(from), StageId(place));
            edges.push(PlanEdge { from, to, capacity: EDGE_BATCHES, carries_pages: needs_page });
        }
        let name = format!("s{place}").into();
        planned.push(PlanStage { name, section, kind: "test", spec, keep_pages: true, needs_page });
    }
    let tasks = (0..planned.len()).map(|place| PlanTask { stages: vec![StageId(place)] }).collect();
    Plan { pipeline: "test".into(), stages: planned, edges, tasks }
}

fn source(steps: Vec<Step>, book: &Arc<AckBook>) -> (Section, Box<TestSpec>, Vec<usize>) {
    (Section::Sources, TestSpec::source(steps, book), Vec::new())
}

fn transform(transform: impl Transform + 'static, from: &[usize]) -> (Section, Box<TestSpec>, Vec<usize>) {
    (Section::Transforms, TestSpec::transform(transform), from.to_vec())
}

fn sink(sink: impl Sink + 'static, from: &[usize]) -> (Section, Box<TestSpec>, Vec<usize>) {
    (Section::Sinks, TestSpec::sink(sink), from.to_vec())
}

fn options() -> RunOptions {
    let context = stage_context("options");
    RunOptions {
        mode: Mode::Continuous,
        run_for: None,
        grace: GRACE,
        fail_fast: false,
        world: context.world,
        clock: context.clock,
        prober: context.prober,
    }
}

async fn open(plan: Plan, options: RunOptions, listener: &StopListener) -> Result<Engine, Vec<Failed>> {
    Engine::open(vec![plan], options, listener.clone())
        .await
        .map(|engine| engine.expect("nobody asked for a stop"))
}

/// Runs to the end, with nobody asking for it.
async fn run(plan: Plan) -> RunReport {
    run_with(plan, options()).await
}

async fn run_with(plan: Plan, options: RunOptions) -> RunReport {
    let (_stop, listener) = stop_pair();
    let engine = open(plan, options, &listener).await.expect("the test's stages open");
    engine.run(listener).await
}

/// Lets everything pass.
struct Pass;

impl Transform for Pass {
    fn apply(&mut self, _batch: &mut Batch) {}
}

/// Holds what it takes for ever and acks nothing; says when it has something.
struct Holder(Option<oneshot::Sender<()>>);

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

fn holder() -> (Holder, oneshot::Receiver<()>) {
    let (sender, receiver) = oneshot::channel();
    (Holder(Some(sender)), receiver)
}

#[tokio::test]
async fn everything_goes_everywhere_once() {
    let book = AckBook::new();
    let (left, right) = (Captured::default(), Captured::default());
    let report = run(plan(vec![
        source(vec![Step::Emit(3), Step::Emit(2)], &book),
        transform(Pass, &[0]),
        sink(CaptureSink::new(&left), &[1]),
        sink(CaptureSink::new(&right), &[0, 1]),
    ]))
    .await;
    assert_eq!(report.ending, Ending::Finished);
    assert!(report.failed.is_empty() && !report.overran);
    let seqs = |captured: &Captured| {
        let mut seqs: Vec<u64> = captured.measurements().iter().map(|measurement| measurement.seq).collect();
        seqs.sort_unstable();
        seqs
    };
    assert_eq!(seqs(&left), [1, 2, 3, 4, 5]);
    // By two ways, so twice; yet each ack is resolved once.
    assert_eq!(seqs(&right), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    assert_eq!(book.delivered(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn one_sink_that_fails_an_ack_fails_it_for_all() {
    let book = AckBook::new();
    let captured = Captured::default();
    let report = run(plan(vec![
        source(vec![Step::Emit(4)], &book),
        sink(CaptureSink::new(&captured), &[0]),
        sink(BrokenSink { fail_every: 2, ..BrokenSink::default() }, &[0]),
    ]))
    .await;
    assert_eq!(report.ending, Ending::Finished);
    assert_eq!(captured.items().len(), 4);
    assert_eq!(book.entries(), [(1, true), (2, false), (3, true), (4, false)]);
}

#[tokio::test]
async fn a_sink_that_errs_ends_the_run_and_its_acks_fail() {
    let book = AckBook::new();
    let captured = Captured::default();
    let report = run(plan(vec![
        source(vec![Step::Emit(4), Step::UntilStopped], &book),
        sink(CaptureSink::new(&captured), &[0]),
        sink(BrokenSink { error_after: Some(2), ..BrokenSink::default() }, &[0]),
    ]))
    .await;
    assert_eq!(report.ending, Ending::StageFailed);
    assert!(!report.overran, "the rest came to its end in order");
    let failed: Vec<&str> = report.failed.iter().map(|failed| failed.stage.as_str()).collect();
    assert_eq!(failed, ["s2"]);
    assert_eq!(captured.items().len(), 4, "the other sink has all and was flushed");
    assert_eq!(book.entries(), [(1, true), (2, true), (3, false), (4, false)]);
}

#[tokio::test]
async fn a_panic_is_a_failure_with_a_name() {
    for place in ["source", "transform", "sink"] {
        let book = AckBook::new();
        let captured = Captured::default();
        let steps = match place {
            "source" => vec![Step::Emit(2), Step::Panic],
            _ => vec![Step::Emit(2), Step::Emit(2), Step::UntilStopped],
        };
        let panics_at = if place == "transform" { 3 } else { 1_000 };
        let error_after = (place == "sink").then_some(2);
        let report = run(plan(vec![
            source(steps, &book),
            transform(PanicTransform::at(panics_at), &[0]),
            sink(BrokenSink { error_after, panics: true, ..BrokenSink::default() }, &[1]),
            sink(CaptureSink::new(&captured), &[0]),
        ]))
        .await;
        assert_eq!(report.ending, Ending::StageFailed, "{place}");
        let stage = match place {
            "source" => "s0",
            "transform" => "s1",
            _ => "s2",
        };
        assert_eq!(report.failed[0].stage, stage, "{place}: {:?}", report.failed);
        assert!(report.failed[0].error.to_string().contains("panicked"), "{place}");
        // Whatever was emitted is resolved, and what the panic took with it is not taken for delivered.
        let emitted = if place == "source" { 2 } else { 4 };
        assert_eq!(book.entries().len(), emitted, "{place}");
        if place != "source" {
            assert_eq!(book.failed(), [3, 4], "{place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_holds_the_source_back() {
    let book = AckBook::new();
    let batches = 200;
    let steps = (0..batches).map(|_| Step::Emit(1)).chain([Step::UntilStopped]).collect();
    let (stop, listener) = stop_pair();
    let slow = SlowSink { each: Duration::from_secs(1) };
    let engine = open(plan(vec![source(steps, &book), sink(slow, &[0])]), options(), &listener).await;
    let engine = engine.expect("the test's stages open");
    let looking = async {
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        let under_way = book.entries().len();
        stop.ask();
        under_way
    };
    let (report, resolved) = tokio::join!(engine.run(listener), looking);
    assert_eq!(resolved, 10, "one batch a second");
    // The source stops at the stop; what the edge held is still stored: its capacity, what the sink had, what waited.
    let delivered = book.delivered().len();
    assert!(
        delivered <= resolved + EDGE_BATCHES + 2,
        "{delivered} were emitted behind a sink that had {resolved}"
    );
    assert_eq!(report.ending, Ending::Asked);
    assert!(!report.overran && book.failed().is_empty());
}

/// A run with a sink that never gives anything back.
async fn stuck(steer: impl AsyncFnOnce(StopHandle, oneshot::Receiver<()>)) -> (RunReport, Arc<AckBook>) {
    let book = AckBook::new();
    let (holder, holding) = holder();
    let (stop, listener) = stop_pair();
    let stages = vec![source(vec![Step::Emit(2), Step::UntilStopped], &book), sink(holder, &[0])];
    let engine = open(plan(stages), options(), &listener).await.expect("the test's stages open");
    let (report, ()) = tokio::join!(engine.run(listener), steer(stop, holding));
    (report, book)
}

#[tokio::test(start_paused = true)]
async fn the_grace_is_kept_and_its_end_is_reported() {
    let begun = tokio::time::Instant::now();
    let (report, book) = stuck(async |stop, holding| {
        holding.await.expect("the sink holds something");
        stop.ask();
    })
    .await;
    assert_eq!(report.ending, Ending::Asked);
    assert!(report.overran);
    assert!(begun.elapsed() >= GRACE && begun.elapsed() < GRACE * 2);
    assert_eq!(book.failed(), [1, 2], "what was held is not taken for delivered");
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_waits_for_nothing() {
    let begun = tokio::time::Instant::now();
    let (report, book) = stuck(async |stop, holding| {
        holding.await.expect("the sink holds something");
        stop.ask();
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.ask();
    })
    .await;
    assert_eq!(report.ending, Ending::Interrupted);
    assert!(!report.overran);
    assert!(begun.elapsed() < GRACE);
    assert_eq!(book.failed(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_run_with_a_length_ends_by_itself() {
    let book = AckBook::new();
    let captured = Captured::default();
    let length = RunOptions { run_for: Some(Duration::from_secs(60)), ..options() };
    let stages =
        vec![source(vec![Step::Emit(1), Step::UntilStopped], &book), sink(CaptureSink::new(&captured), &[0])];
    let report = run_with(plan(stages), length).await;
    assert_eq!(report.ending, Ending::TimeOver);
    assert_eq!(book.delivered(), [1]);
}

#[tokio::test]
async fn what_opens_badly_is_named_and_ends_the_rest() {
    let book = AckBook::new();
    let (_stop, listener) = stop_pair();
    let broken = TestSpec::new(|_| Err(StageError::permanent("no such server")));
    let stages = vec![source(vec![], &book), (Section::Sinks, broken, vec![0])];
    let failed = open(plan(stages), options(), &listener).await.err().expect("the sink can't open");
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].stage.as_str(), failed[0].error.to_string().as_str()), ("s1", "no such server"));
}

/// Emits one page and one rejected message.
struct Mixed(Arc<AckBook>);

#[async_trait::async_trait]
impl Source for Mixed {
    async fn run(self: Box<Self>, out: Emitter) -> Result<(), StageError> {
        let page = Page::new(Default::default(), Bytes::from_static(b"page"), false, PageHold::default());
        let origin = Origin {
            pipeline: "test".to_owned(),
            source: "s0".to_owned(),
            topic: Some("t".to_owned()),
            partition: Some(0),
            offset: Some(7),
        };
        let at = "2026-11-23T12:00:00Z".parse().expect("a time");
        let rejected = Rejected::new(RejectedReason::NotJson, "no JSON", origin, at, None, b"{".to_vec());
        let batch = vec![
            Envelope::measurement(measurement("paged", 1), Some(page), self.0.ack(1)),
            Envelope::rejected(rejected, self.0.ack(2)),
        ];
        out.emit(batch).await.expect("someone listens");
        Ok(())
    }
}

/// Tells whether what it got had pages.
struct PageSink(Option<oneshot::Sender<Vec<bool>>>);

#[async_trait::async_trait]
impl Sink for PageSink {
    async fn run(mut self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let mut seen = Vec::new();
        while let Some(batch) = input.recv().await {
            for envelope in batch {
                seen.push(matches!(&envelope.item, Item::Measurement(measured) if measured.page.is_some()));
                envelope.ack.deliver();
            }
        }
        self.0.take().expect("a sink runs once").send(seen).expect("the test waits");
        Ok(())
    }
}

#[tokio::test]
async fn pages_go_only_where_they_are_wanted() {
    let book = AckBook::new();
    let (wanting, wanted) = oneshot::channel();
    let (not_wanting, not_wanted) = oneshot::channel();
    let mixed = Mixed(book.clone());
    let pages = TestSpec::sink(PageSink(Some(wanting))).needing_pages();
    let report = run(plan(vec![
        (Section::Sources, TestSpec::new(|_| Ok(OpenStage::Source(Box::new(mixed)))), Vec::new()),
        (Section::Sinks, pages, vec![0]),
        sink(PageSink(Some(not_wanting)), &[0]),
    ]))
    .await;
    assert_eq!(report.ending, Ending::Finished);
    assert_eq!(wanted.await.expect("the first sink ran"), [true, false]);
    assert_eq!(not_wanted.await.expect("the second sink ran"), [false, false]);
    assert_eq!(book.delivered(), [1, 2], "what was rejected is acked like all else");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Random graphs with sinks that fail some: every token is resolved once, and delivered only if every sink that it
    /// reaches delivered it.
    #[test]
    fn every_token_is_resolved_once(
        batches in prop::collection::vec(1u64..6, 1..8),
        transforms in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        sinks in prop::collection::vec((any::<prop::sample::Index>(), 0u64..4), 1..4),
    ) {
        let book = AckBook::new();
        let total: u64 = batches.iter().sum();
        let mut stages = vec![source(batches.into_iter().map(Step::Emit).collect(), &book)];
        for from in transforms {
            let from = from.index(stages.len());
            stages.push(transform(Pass, &[from]));
        }
        let feeders = stages.len();
        let mut fed = vec![false; feeders];
        for (from, fail_every) in &sinks {
            let from = from.index(feeders);
            fed[from] = true;
            stages.push(sink(BrokenSink { fail_every: *fail_every, ..BrokenSink::default() }, &[from]));
        }
        // A compiled plan has no dead ends.
        let captured = Captured::default();
        for dead_end in (0..feeders).filter(|place| !fed[*place]) {
            stages.push(sink(CaptureSink::new(&captured), &[dead_end]));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let report = runtime.block_on(run(plan(stages)));
        prop_assert_eq!(report.ending, Ending::Finished);
        let expected: Vec<(u64, bool)> = (1..=total)
            .map(|token| (token, sinks.iter().all(|(_, every)| *every == 0 || token % every != 0)))
            .collect();
        prop_assert_eq!(book.entries(), expected);
    }
}
