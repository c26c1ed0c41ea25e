//! What arrives where, with what, and how fast.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use monmon_engine::{Ending, stop_pair};
use monmon_model::{Origin, Rejected, RejectedReason};
use monmon_stage::{
    Batch, Emitter, Envelope, Inlet, Item, OpenStage, Page, PageHold, Section, Sink, Source, StageError,
    Transform,
};
use monmon_testkit::stages::{
    AckBook, BrokenSink, CaptureSink, Captured, SlowSink, Step, TestSpec, measurement,
};
use tokio::sync::oneshot;

use crate::support::{Pass, assert_alone, holder, open, options, plan, run, sink, source, transform};

#[tokio::test]
async fn everything_goes_everywhere_once() {
    let book = AckBook::new();
    let (left, right) = (Captured::default(), Captured::default());
    let guard = Arc::new(());
    let report = run(plan(vec![
        source(vec![Step::Emit(3), Step::Emit(2)], &book),
        transform(Pass::holding(&guard), &[0]),
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
    assert_alone(&guard);
}

#[tokio::test]
async fn sources_meet_in_one_sink() {
    let books = [AckBook::new(), AckBook::new()];
    let captured = Captured::default();
    let report = run(plan(vec![
        source(vec![Step::Emit(3)], &books[0]),
        source(vec![Step::Emit(1), Step::Emit(1)], &books[1]),
        sink(CaptureSink::new(&captured), &[0, 1]),
    ]))
    .await;
    assert_eq!(report.ending, Ending::Finished);
    assert_eq!(captured.items().len(), 5);
    assert_eq!(books.map(|book| book.delivered()), [vec![1, 2, 3], vec![1, 2]]);
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

#[tokio::test(start_paused = true)]
async fn a_slow_sink_holds_the_source_back() {
    let book = AckBook::new();
    let batches = 200;
    let steps = (0..batches).map(|_| Step::Emit(1)).chain([Step::UntilStopped]).collect();
    let (stop, listener) = stop_pair();
    let slow = SlowSink { each: Duration::from_secs(1) };
    let mut plan = plan(vec![source(steps, &book), sink(slow, &[0])]);
    let capacity = 16;
    plan.edges.iter_mut().for_each(|edge| edge.capacity = capacity);
    let engine = open(plan, options(), &listener).await.expect("the test's stages open");
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
        delivered <= resolved + capacity + 2,
        "{delivered} were emitted behind a sink that had {resolved}"
    );
    assert_eq!(report.ending, Ending::Asked);
    assert!(!report.overran && book.failed().is_empty());
}

/// Emits single measurements for ever, and counts those it has made.
struct Endless {
    made: Arc<AtomicU64>,
    book: Arc<AckBook>,
}

#[async_trait::async_trait]
impl Source for Endless {
    async fn run(self: Box<Self>, out: Emitter) -> Result<(), StageError> {
        loop {
            let token = self.made.fetch_add(1, Ordering::Relaxed) + 1;
            let envelope = Envelope::measurement(measurement("endless", token), None, self.book.ack(token));
            if out.emit(vec![envelope]).await.is_err() {
                return Ok(());
            }
        }
    }
}

#[tokio::test]
async fn no_more_is_under_way_than_the_edges_hold() {
    for capacity in [1, 3] {
        let (made, book, captured) = (Arc::new(AtomicU64::new(0)), AckBook::new(), Captured::default());
        let endless = Endless { made: made.clone(), book: book.clone() };
        let (holder, holding) = holder();
        let mut plan = plan(vec![
            (Section::Sources, TestSpec::new(|_| Ok(OpenStage::Source(Box::new(endless)))), Vec::new()),
            sink(holder, &[0]),
            sink(CaptureSink::new(&captured), &[0]),
        ]);
        plan.edges.iter_mut().for_each(|edge| edge.capacity = capacity);
        let (stop, listener) = stop_pair();
        let engine = open(plan, options(), &listener).await.expect("the test's stages open");
        let looking = async {
            holding.await.expect("the sink holds something");
            // One thread runs all tasks, so each has had many turns after these.
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
            let (made, captured) = (made.load(Ordering::Relaxed), captured.items().len());
            stop.ask();
            stop.ask();
            (made, captured)
        };
        let (report, (made, captured)) = tokio::join!(engine.run(listener), looking);
        // In the edge, in the hands of the sink, and in those of the source, which waits.
        assert_eq!(made, capacity as u64 + 2);
        assert!(captured as u64 <= made, "the sink that is not slow waits with the source");
        assert_eq!(report.ending, Ending::Interrupted);
        assert_eq!(book.failed().len() as u64, made, "what the stuck sink had no time for is not delivered");
    }
}

/// Emits one page and one rejected message.
struct Mixed(Arc<AckBook>);

fn rejected() -> Rejected {
    let origin = Origin {
        pipeline: "test".to_owned(),
        source: "s0".to_owned(),
        topic: Some("t".to_owned()),
        partition: Some(0),
        offset: Some(7),
    };
    let at = "2026-11-23T12:00:00Z".parse().expect("a time");
    Rejected::new(RejectedReason::NotJson, "no JSON", origin, at, None, b"{".to_vec())
}

#[async_trait::async_trait]
impl Source for Mixed {
    async fn run(self: Box<Self>, out: Emitter) -> Result<(), StageError> {
        let page = Page::new(Default::default(), Bytes::from_static(b"page"), false, PageHold::default());
        let batch = vec![
            Envelope::measurement(measurement("paged", 1), Some(page), self.0.ack(1)),
            Envelope::rejected(rejected(), None, self.0.ack(2)),
        ];
        out.emit(batch).await.expect("someone listens");
        Ok(())
    }
}

/// What one stage got, item by item: whether it had a page.
type Seen = Vec<bool>;

fn seen(batch: &Batch) -> impl Iterator<Item = bool> {
    batch
        .iter()
        .map(|envelope| matches!(&envelope.item, Item::Measurement(measured) if measured.page.is_some()))
}

/// Tells whether what it got had pages.
struct PageSink(Option<oneshot::Sender<Seen>>);

#[async_trait::async_trait]
impl Sink for PageSink {
    async fn run(mut self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let mut all = Vec::new();
        while let Some(batch) = input.recv().await {
            all.extend(seen(&batch));
            batch.into_iter().for_each(|envelope| envelope.ack.deliver());
        }
        self.0.take().expect("a sink runs once").send(all).expect("the test waits");
        Ok(())
    }
}

/// Tells of its first batch whether it had pages.
struct PageTransform(Option<oneshot::Sender<Seen>>);

impl Transform for PageTransform {
    fn apply(&mut self, batch: &mut Batch) {
        if let Some(sender) = self.0.take() {
            sender.send(seen(batch).collect()).expect("the test waits");
        }
    }
}

#[tokio::test]
async fn pages_go_only_where_they_are_wanted() {
    let book = AckBook::new();
    let [(matching, matched), (behind, came_behind), (beside, came_beside)] =
        [(); 3].map(|()| oneshot::channel());
    let mixed = Mixed(book.clone());
    let pages = TestSpec::new(|_| Ok(OpenStage::Source(Box::new(mixed)))).giving_pages();
    let report = run(plan(vec![
        (Section::Sources, pages, Vec::new()),
        (Section::Transforms, TestSpec::transform(PageTransform(Some(matching))).needing_pages(), vec![0]),
        sink(PageSink(Some(behind)), &[1]),
        sink(PageSink(Some(beside)), &[0]),
    ]))
    .await;
    assert_eq!(report.ending, Ending::Finished);
    assert_eq!(matched.await.expect("the transform ran"), [true, false]);
    assert_eq!(came_behind.await.expect("the sink behind it ran"), [false, false]);
    assert_eq!(came_beside.await.expect("the sink beside it ran"), [false, false]);
    assert_eq!(book.delivered(), [1, 2], "what was rejected is acked like all else");
}

#[tokio::test]
async fn what_was_rejected_passes_through() {
    let book = AckBook::new();
    let (behind, beside) = (Captured::default(), Captured::default());
    let mixed = Mixed(book.clone());
    let report = run(plan(vec![
        (Section::Sources, TestSpec::new(|_| Ok(OpenStage::Source(Box::new(mixed)))), Vec::new()),
        transform(Pass::default(), &[0]),
        sink(CaptureSink::new(&behind), &[1]),
        sink(CaptureSink::new(&beside), &[0]),
    ]))
    .await;
    assert_eq!(report.ending, Ending::Finished);
    for captured in [behind, beside] {
        let items = captured.items();
        let found: Vec<&Rejected> = items
            .iter()
            .filter_map(|item| match item {
                Item::Rejected(refused) => Some(&*refused.rejected),
                Item::Measurement(_) | Item::Event(_) => None,
            })
            .collect();
        assert_eq!(found, [&rejected()]);
    }
    assert_eq!(book.delivered(), [1, 2]);
}
