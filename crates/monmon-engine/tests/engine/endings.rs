//! How runs end, and what is left then: nothing.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use monmon_engine::{Ending, RunOptions, RunReport, StopHandle, stop_pair};
use monmon_stage::{Ack, Batch, Emitter, Envelope, Mode, OpenStage, Section, Source, StageError, Transform};
use monmon_testkit::stages::{
    AckBook, BrokenSink, CaptureSink, Captured, PanicTransform, ScriptedSource, SlowSink, Step, TestSpec,
    measurement,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::support::{
    GRACE, Pass, Written, assert_alone, failed, holder, open, options, plan, run, run_with, sink, source,
    transform,
};

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
    assert_eq!(failed(&report), ["s2"]);
    assert_eq!(captured.items().len(), 4, "the other sink has all and was flushed");
    assert_eq!(book.entries(), [(1, true), (2, true), (3, false), (4, false)]);
}

#[tokio::test]
async fn a_source_that_errs_ends_the_run_and_what_it_emitted_is_stored() {
    let book = AckBook::new();
    let captured = Captured::default();
    let lost = Step::Fail(StageError::permanent("the topic is gone"));
    let report = run(plan(vec![
        source(vec![Step::Emit(3), lost], &book),
        transform(Pass::default(), &[0]),
        sink(CaptureSink::new(&captured), &[1]),
    ]))
    .await;
    assert_eq!(report.ending, Ending::StageFailed);
    assert_eq!(failed(&report), ["s0"]);
    assert_eq!(report.failed[0].error.to_string(), "the topic is gone");
    assert_eq!(captured.items().len(), 3);
    assert_eq!(book.delivered(), [1, 2, 3]);
}

#[tokio::test]
async fn all_that_fails_is_in_the_report() {
    let book = AckBook::new();
    let broken = |error_after| BrokenSink { error_after: Some(error_after), ..BrokenSink::default() };
    let report = run(plan(vec![
        source(vec![Step::Emit(1), Step::AwaitAcks, Step::Emit(9)], &book),
        sink(broken(1), &[0]),
        sink(broken(2), &[0]),
    ]))
    .await;
    assert_eq!(report.ending, Ending::StageFailed);
    let mut names = failed(&report);
    names.sort_unstable();
    assert_eq!(names, ["s1", "s2"]);
    assert_eq!(book.entries().len(), 10);
}

/// A run in which the stage at this place panics at what it gets third; and what the sink beside it has.
async fn panicking(place: usize) -> (RunReport, Arc<AckBook>, Captured) {
    let book = AckBook::new();
    let captured = Captured::default();
    let mut steps = vec![Step::Emit(2), Step::Emit(2)];
    steps.push(if place == 0 { Step::Panic } else { Step::UntilStopped });
    let guard = Arc::new(());
    let plan = plan(vec![
        source(steps, &book),
        transform(PanicTransform::at(if place == 1 { 3 } else { 1_000 }), &[0]),
        sink(
            BrokenSink { error_after: (place == 2).then_some(2), panics: true, ..BrokenSink::default() },
            &[1],
        ),
        transform(Pass::holding(&guard), &[0]),
        sink(CaptureSink::new(&captured), &[3]),
    ]);
    let report = run(plan).await;
    assert_alone(&guard);
    (report, book, captured)
}

#[tokio::test]
async fn a_panic_is_a_failure_with_a_name() {
    for (place, name, kind) in [(0, "s0", "source"), (1, "s1", "transform"), (2, "s2", "sink")] {
        let (report, book, captured) = panicking(place).await;
        assert_eq!((report.ending, report.overran), (Ending::StageFailed, false), "{kind}");
        assert_eq!(failed(&report), [name], "{kind}: {:?}", report.failed);
        let error = &report.failed[0].error;
        assert!(error.to_string().contains("panicked"), "{kind}: {error}");
        let cause = std::error::Error::source(error).expect("the panic").to_string();
        assert!(cause.contains("bug, made by a test"), "{kind}: {cause}");
        assert_eq!(captured.items().len(), 4, "{kind}: the other sink has all and was flushed");
        // What the panic took with it is not taken for delivered.
        let lost: &[u64] = if place == 0 { &[] } else { &[3, 4] };
        assert_eq!((book.entries().len(), book.failed().as_slice()), (4, lost), "{kind}");
    }
}

/// A run with a sink that never gives anything back, its queues full up to the source.
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
async fn the_grace_is_kept_and_who_overran_is_named() {
    let begun = Instant::now();
    let (report, book) = stuck(async |stop, holding| {
        holding.await.expect("the sink holds something");
        stop.ask();
    })
    .await;
    assert_eq!(report.ending, Ending::Asked);
    assert!(report.overran);
    assert_eq!(begun.elapsed().as_secs(), GRACE.as_secs());
    assert_eq!(book.failed(), [1, 2], "what was held is not taken for delivered");
    // The source waits for its acks, so it could not end either.
    let mut names = failed(&report);
    names.sort_unstable();
    assert_eq!(names, ["s0", "s1"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_stop_waits_for_nothing() {
    let begun = Instant::now();
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
    assert_eq!(failed(&report), [] as [&str; 0], "who was stopped did not fail");
    assert_eq!(book.failed(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_first_stop_drains() {
    let book = AckBook::new();
    let captured = Captured::default();
    let (stop, listener) = stop_pair();
    let slow = Duration::from_secs(2);
    let steps = vec![Step::Emit(2), Step::Emit(2), Step::Emit(2), Step::UntilStopped, Step::Emit(2)];
    let stages = vec![
        source(steps, &book),
        sink(SlowSink { each: slow }, &[0]),
        sink(CaptureSink::new(&captured), &[0]),
    ];
    let engine = open(plan(stages), options(), &listener).await.expect("the test's stages open");
    let asking = async {
        book.resolved(2).await;
        stop.ask();
    };
    let (report, ()) = tokio::join!(engine.run(listener), asking);
    assert_eq!((report.ending, report.overran), (Ending::Asked, false));
    assert!(report.failed.is_empty());
    assert_eq!(book.delivered(), [1, 2, 3, 4, 5, 6], "all that was emitted, and nothing more");
    assert_eq!(captured.items().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_stop_before_the_start_is_heard() {
    let book = AckBook::new();
    let (stop, listener) = stop_pair();
    let stages = vec![source(vec![Step::UntilStopped], &book), sink(CaptureSink::default(), &[0])];
    let engine = open(plan(stages), options(), &listener).await.expect("the test's stages open");
    stop.ask();
    assert_eq!(engine.run(listener).await.ending, Ending::Asked);
}

#[tokio::test(start_paused = true)]
async fn a_run_with_a_length_ends_by_itself() {
    let begun = Instant::now();
    let book = AckBook::new();
    let captured = Captured::default();
    let length = RunOptions { run_for: Some(Duration::from_secs(60)), ..options() };
    let stages =
        vec![source(vec![Step::Emit(1), Step::UntilStopped], &book), sink(CaptureSink::new(&captured), &[0])];
    let report = run_with(plan(stages), length).await;
    assert_eq!((report.ending, report.overran), (Ending::TimeOver, false));
    assert_eq!(begun.elapsed().as_secs(), 60);
    assert_eq!(book.delivered(), [1]);
}

/// Emits once where everything is to be done once, else until it is stopped.
fn once_source(book: &Arc<AckBook>) -> Written {
    let book = book.clone();
    let spec = TestSpec::new(move |context| {
        let mut steps = vec![Step::Emit(1), Step::Emit(1)];
        if context.mode == Mode::Continuous {
            steps.push(Step::UntilStopped);
        }
        Ok(OpenStage::Source(Box::new(ScriptedSource::new(steps, book, &context))))
    });
    (Section::Sources, spec, Vec::new())
}

#[tokio::test(start_paused = true)]
async fn what_is_done_once_is_done_to_the_end() {
    let begun = Instant::now();
    let book = AckBook::new();
    let once = RunOptions { mode: Mode::Once, ..options() };
    let slow = SlowSink { each: GRACE * 2 };
    let report = run_with(plan(vec![once_source(&book), sink(slow, &[0])]), once).await;
    // Nobody asked for the end, so there is no deadline.
    assert_eq!((report.ending, report.overran), (Ending::Finished, false));
    assert_eq!(begun.elapsed().as_secs(), GRACE.as_secs() * 4);
    assert_eq!(book.delivered(), [1, 2]);
}

/// Emits as long as someone takes it.
struct Flood {
    _guard: Arc<()>,
}

#[async_trait::async_trait]
impl Source for Flood {
    async fn run(self: Box<Self>, out: Emitter) -> Result<(), StageError> {
        let envelope = || Envelope::measurement(measurement("flood", 1), None, Ack::ignored());
        while out.emit(vec![envelope()]).await.is_ok() {}
        Ok(())
    }
}

#[tokio::test]
async fn no_task_and_no_thread_is_left_behind() {
    let guard = Arc::new(());
    let (holder, holding) = holder();
    let (stop, listener) = stop_pair();
    let flood = Flood { _guard: guard.clone() };
    let stages = vec![
        (Section::Sources, TestSpec::new(|_| Ok(OpenStage::Source(Box::new(flood)))) as _, Vec::new()),
        transform(Pass::holding(&guard), &[0]),
        sink(holder, &[1]),
        sink(CaptureSink::default(), &[1]),
    ];
    let engine = open(plan(stages), options(), &listener).await.expect("the test's stages open");
    let asking = async {
        holding.await.expect("the sink holds something");
        stop.ask();
        stop.ask();
    };
    let (report, ()) = tokio::join!(engine.run(listener), asking);
    assert_eq!(report.ending, Ending::Interrupted);
    // The thread waited at a full queue, and has ended with the sink that it led to.
    assert_alone(&guard);
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

/// Takes a lifetime over its first batch, or as long as the test says.
struct Busy(Option<(oneshot::Sender<()>, mpsc::Receiver<()>)>);

impl Transform for Busy {
    fn apply(&mut self, _batch: &mut Batch) {
        if let Some((begun, until)) = self.0.take() {
            begun.send(()).expect("the test waits");
            until.recv().expect("the test says when");
        }
    }
}

#[tokio::test]
async fn a_thread_that_is_busy_does_not_keep_the_run_from_ending() {
    let book = AckBook::new();
    let (until, busy_until) = mpsc::channel();
    let (begun, busy) = oneshot::channel();
    let (stop, listener) = stop_pair();
    let stages = vec![
        source(vec![Step::Emit(1), Step::UntilStopped], &book),
        transform(Busy(Some((begun, busy_until))), &[0]),
        sink(CaptureSink::default(), &[1]),
    ];
    let engine = open(plan(stages), options(), &listener).await.expect("the test's stages open");
    let asking = async {
        busy.await.expect("the transform has begun");
        stop.ask();
        stop.ask();
    };
    let (report, ()) = tokio::join!(engine.run(listener), asking);
    assert_eq!(report.ending, Ending::Interrupted);
    assert!(book.entries().is_empty(), "the thread has it still");
    until.send(()).expect("the transform waits");
    // Nobody takes what it has worked on any more, and the ack says so.
    book.resolved(1).await;
    assert_eq!(book.failed(), [1]);
}
