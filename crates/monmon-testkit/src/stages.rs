//! Stages that do as a test says, and the book in which acks are found.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use monmon_model::{
    Certificate, Check, Failure, FailureKind, Hop, Match, MatchStatus, Measurement, Metric, Note, Outcome,
    Phase, Prober, Timings, Tls, check_id, measurement_id,
};
use monmon_stage::{
    Ack, AckTracker, Batch, Emitter, Envelope, Inlet, Item, Mode, OpenFuture, OpenStage, ProberIdentity,
    Sink, Source, StageContext, StageError, StageSpec, SystemClock, SystemWorld, Transform,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A context with the machine's clock and world, whose `stop` is the test's to cancel.
pub fn stage_context(stage: &str) -> StageContext {
    StageContext {
        pipeline: "test".into(),
        stage: stage.into(),
        mode: Mode::Continuous,
        stop: CancellationToken::new(),
        world: Arc::new(SystemWorld),
        clock: Arc::new(SystemClock),
        prober: ProberIdentity {
            id: Uuid::from_u128(1),
            name: "test".to_owned(),
            location: None,
            state: None,
        },
        keep_pages: false,
        fail_fast: false,
        grace: Duration::from_secs(5),
        counters: Arc::default(),
    }
}

/// The measurement of one slot of the check `name`: slots are seconds from 2026-11-23T12:00:00Z, and `seq` counts them.
/// It is `unknown`; a test changes what matters to it.
pub fn measurement(name: &str, seq: u64) -> Measurement {
    let id = check_id("test", "source", name);
    let check = Check {
        id,
        name: name.to_owned(),
        pipeline: "test".to_owned(),
        source: "source".to_owned(),
        method: "GET".to_owned(),
        url: format!("http://127.0.0.1/{name}"),
        schedule: None,
        interval_us: 1_000_000,
        timeout_us: 500_000,
        labels: BTreeMap::new(),
    };
    let prober =
        Prober { id: Uuid::from_u128(1), name: "test".to_owned(), location: None, boot: Uuid::from_u128(2) };
    let first = jiff::Timestamp::from_second(1_795_435_200).expect("a time in range");
    let at = first + jiff::SignedDuration::from_secs(i64::try_from(seq).expect("a small number"));
    let failure = Failure::new(FailureKind::Internal, Phase::Start, "made by a test");
    let made = measurement_id(prober.id, id, at, 1);
    Measurement::not_made(made, seq, 1, check.into(), prober.into(), at, failure)
}

/// A measurement with everything in it.
pub fn full_measurement() -> Measurement {
    let mut full = measurement("docs", 1);
    full.outcome = Outcome::Up;
    full.reason = None;
    full.error = None;
    full.miss("status", "status 404 is not in 200-299".to_owned());
    full.started_at = Some(full.scheduled_at + jiff::SignedDuration::from_micros(318));
    full.url = "http://127.0.0.1/moved".to_owned();
    full.status = Some(404);
    full.http_version = Some("1.1".to_owned());
    full.remote_addr = Some("127.0.0.1:80".to_owned());
    full.body_bytes = Some(10_240);
    full.body_truncated = true;
    full.body_wire_bytes = Some(3_000);
    let details = full.details_mut();
    details.maintenance = Some("patching".to_owned());
    details.notes = vec![Note::LengthAndChunks];
    Arc::make_mut(&mut full.check).schedule = Some("*/5 * * * * UTC".to_owned());
    full.timings = Timings {
        dns_us: Some(1),
        connect_us: Some(2),
        tls_us: Some(3),
        wait_us: Some(4),
        transfer_us: Some(5),
        total_us: 15,
    };
    full.redirects = vec![Hop {
        url: "http://127.0.0.1/docs".to_owned(),
        status: 301,
        remote_addr: None,
        timings: Timings::default(),
    }];
    full.tls = Some(Tls {
        version: Some("TLSv1.3".to_owned()),
        cipher: None,
        verified: Some(true),
        certificate: Some(Certificate {
            subject: "CN=docs".to_owned(),
            issuer: "CN=ca".to_owned(),
            not_before: "2026-10-01T00:00:00Z".parse().expect("a time"),
            not_after: "2026-12-30T00:00:00Z".parse().expect("a time"),
            sha256: Some("cd".repeat(32)),
        }),
        chain: vec![Certificate {
            subject: "CN=ca".to_owned(),
            issuer: "CN=root".to_owned(),
            not_before: "2020-10-01T00:00:00Z".parse().expect("a time"),
            not_after: "2030-12-30T00:00:00Z".parse().expect("a time"),
            sha256: None,
        }],
    });
    full.matches = vec![Match {
        name: "title".to_owned(),
        stage: "titles".to_owned(),
        kind: "regex".to_owned(),
        status: MatchStatus::Passed,
        found: Some(true),
        message: None,
        values: BTreeMap::from([("title".to_owned(), "Docs \u{2014} \"start\"".to_owned())]),
        metrics: BTreeMap::from([("price".to_owned(), Metric::new(12.5, "EUR").expect("a number"))]),
    }];
    full
}

/// A source's book: what was resolved, and how. A token that is resolved twice is a test's failure.
#[derive(Debug)]
pub struct AckBook {
    entries: watch::Sender<BTreeMap<u64, bool>>,
}

impl AckBook {
    pub fn new() -> Arc<AckBook> {
        Arc::new(AckBook { entries: watch::Sender::new(BTreeMap::new()) })
    }

    pub fn ack(self: &Arc<Self>, token: u64) -> Ack {
        Ack::new(self.clone(), token)
    }

    /// Tokens and whether they were delivered, in order.
    pub fn entries(&self) -> Vec<(u64, bool)> {
        self.entries.borrow().iter().map(|(token, delivered)| (*token, *delivered)).collect()
    }

    pub fn delivered(&self) -> Vec<u64> {
        self.tokens(true)
    }

    pub fn failed(&self) -> Vec<u64> {
        self.tokens(false)
    }

    fn tokens(&self, wanted: bool) -> Vec<u64> {
        self.entries()
            .into_iter()
            .filter(|(_, delivered)| *delivered == wanted)
            .map(|(token, _)| token)
            .collect()
    }

    /// Waits until so many are resolved, one way or the other.
    pub async fn resolved(&self, count: usize) {
        let mut entries = self.entries.subscribe();
        // The sender is `self`, so it outlives the wait.
        let found = entries.wait_for(|entries| entries.len() >= count).await;
        found.expect("the book is open as long as it is asked");
    }
}

impl AckTracker for AckBook {
    fn resolved(&self, token: u64, delivered: bool) {
        self.entries.send_modify(|entries| {
            let before = entries.insert(token, delivered);
            assert_eq!(before, None, "token {token} was resolved twice");
        });
    }
}

/// One thing that a [`ScriptedSource`] does.
#[derive(Debug)]
pub enum Step {
    /// Emits one batch with this many measurements of the check `scripted`; tokens and `seq` count on from 1.
    Emit(u64),
    /// Waits until everything emitted so far is resolved.
    AwaitAcks,
    /// Waits until the run is stopped.
    UntilStopped,
    Fail(StageError),
    Panic,
}

/// Does its steps, stops early when it is told to, and waits for its acks at the end.
#[derive(Debug)]
pub struct ScriptedSource {
    steps: Vec<Step>,
    book: Arc<AckBook>,
    stop: CancellationToken,
}

impl ScriptedSource {
    pub fn new(steps: Vec<Step>, book: Arc<AckBook>, context: &StageContext) -> ScriptedSource {
        ScriptedSource { steps, book, stop: context.stop.clone() }
    }
}

#[async_trait]
impl Source for ScriptedSource {
    async fn run(self: Box<Self>, out: Emitter) -> Result<(), StageError> {
        let mut emitted = 0;
        for step in self.steps {
            if self.stop.is_cancelled() {
                break;
            }
            match step {
                Step::Emit(count) => {
                    let tokens = emitted + 1..=emitted + count;
                    emitted += count;
                    let envelope = |token| {
                        Envelope::measurement(measurement("scripted", token), None, self.book.ack(token))
                    };
                    if out.emit(tokens.map(envelope).collect()).await.is_err() {
                        break;
                    }
                }
                Step::AwaitAcks => self.book.resolved(usize::try_from(emitted).unwrap_or(usize::MAX)).await,
                Step::UntilStopped => self.stop.cancelled().await,
                Step::Fail(error) => return Err(error),
                Step::Panic => panic!("a source's bug, made by a test"),
            }
        }
        drop(out);
        self.book.resolved(usize::try_from(emitted).unwrap_or(usize::MAX)).await;
        Ok(())
    }
}

/// What a [`CaptureSink`] got. Copies see the same.
#[derive(Clone, Debug, Default)]
pub struct Captured(Arc<Mutex<Vec<Item>>>);

impl Captured {
    pub fn items(&self) -> Vec<Item> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn measurements(&self) -> Vec<Measurement> {
        let measured = |item| match item {
            Item::Measurement(measured) => Some(*measured.measurement),
            Item::Event(_) | Item::Rejected(_) => None,
        };
        self.items().into_iter().filter_map(measured).collect()
    }

    fn keep(&self, item: Item) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(item);
    }
}

/// Keeps everything, delivers every ack.
#[derive(Debug, Default)]
pub struct CaptureSink {
    captured: Captured,
}

impl CaptureSink {
    pub fn new(captured: &Captured) -> CaptureSink {
        CaptureSink { captured: captured.clone() }
    }
}

#[async_trait]
impl Sink for CaptureSink {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        while let Some(batch) = input.recv().await {
            for envelope in batch {
                self.captured.keep(envelope.item);
                envelope.ack.deliver();
            }
        }
        Ok(())
    }
}

/// Delivers every ack but these.
#[derive(Debug, Default)]
pub struct BrokenSink {
    /// Each so-many-th ack is failed; 0 for none.
    pub fail_every: u64,
    /// After so many items it ends with an error, and what it holds is dropped.
    pub error_after: Option<u64>,
    /// It panics rather than errs.
    pub panics: bool,
}

#[async_trait]
impl Sink for BrokenSink {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let mut count = 0;
        while let Some(batch) = input.recv().await {
            for envelope in batch {
                if self.error_after.is_some_and(|after| count >= after) {
                    assert!(!self.panics, "a sink's bug, made by a test");
                    return Err(StageError::permanent("broken by a test"));
                }
                count += 1;
                match self.fail_every != 0 && count % self.fail_every == 0 {
                    true => envelope.ack.fail(),
                    false => envelope.ack.deliver(),
                }
            }
        }
        Ok(())
    }
}

/// Takes its time over each batch (tokio's clock: a test pauses it), then delivers its acks.
#[derive(Debug)]
pub struct SlowSink {
    pub each: Duration,
}

#[async_trait]
impl Sink for SlowSink {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        while let Some(batch) = input.recv().await {
            tokio::time::sleep(self.each).await;
            batch.into_iter().for_each(|envelope| envelope.ack.deliver());
        }
        Ok(())
    }
}

/// Panics at the so-many-th item, counted from 1; lets all before it pass.
#[derive(Debug)]
pub struct PanicTransform {
    at: u64,
    count: AtomicU64,
}

impl PanicTransform {
    pub fn at(at: u64) -> PanicTransform {
        PanicTransform { at, count: AtomicU64::new(0) }
    }
}

impl Transform for PanicTransform {
    fn apply(&mut self, batch: &mut Batch) {
        let before = self.count.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let reached = (before + 1..=before + batch.len() as u64).contains(&self.at);
        assert!(!reached, "a transform's bug, made by a test");
    }
}

type Make = Box<dyn FnOnce(StageContext) -> Result<OpenStage, StageError> + Send>;

/// The spec of a stage that a test makes: for plans without a pipeline file. It opens once.
pub struct TestSpec {
    needs_page: bool,
    gives_page: bool,
    make: Mutex<Option<Make>>,
}

impl TestSpec {
    pub fn new(
        make: impl FnOnce(StageContext) -> Result<OpenStage, StageError> + Send + 'static,
    ) -> Box<TestSpec> {
        Box::new(TestSpec { needs_page: false, gives_page: false, make: Mutex::new(Some(Box::new(make))) })
    }

    pub fn source(steps: Vec<Step>, book: &Arc<AckBook>) -> Box<TestSpec> {
        let book = book.clone();
        TestSpec::new(|context| Ok(OpenStage::Source(Box::new(ScriptedSource::new(steps, book, &context)))))
    }

    pub fn transform(transform: impl Transform + 'static) -> Box<TestSpec> {
        TestSpec::new(|_| Ok(OpenStage::Transform(Box::new(transform))))
    }

    pub fn sink(sink: impl Sink + 'static) -> Box<TestSpec> {
        TestSpec::new(|_| Ok(OpenStage::Sink(Box::new(sink))))
    }

    #[must_use]
    pub fn needing_pages(mut self: Box<Self>) -> Box<TestSpec> {
        self.needs_page = true;
        self
    }

    #[must_use]
    pub fn giving_pages(mut self: Box<Self>) -> Box<TestSpec> {
        self.gives_page = true;
        self
    }
}

impl fmt::Debug for TestSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestSpec")
    }
}

impl StageSpec for TestSpec {
    fn needs_page(&self) -> bool {
        self.needs_page
    }

    fn gives_page(&self) -> bool {
        self.gives_page
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        let make = self.make.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move { make.expect("a test's stage opens once")(context) })
    }
}

#[cfg(test)]
mod tests {
    use monmon_stage::inlet;

    use super::*;

    async fn run(steps: Vec<Step>, sink: impl Sink) -> (Arc<AckBook>, Result<(), StageError>) {
        let book = AckBook::new();
        let context = stage_context("scripted");
        let (outlet, input) = inlet(4, false);
        let source = Box::new(ScriptedSource::new(steps, book.clone(), &context));
        let (from, to) = tokio::join!(source.run(Emitter::new(vec![outlet])), Box::new(sink).run(input));
        from.expect("the source does its steps");
        (book, to)
    }

    #[tokio::test]
    async fn a_capture_sink_keeps_what_a_script_emits() {
        let captured = Captured::default();
        let steps = vec![Step::Emit(2), Step::AwaitAcks, Step::Emit(1)];
        let (book, ended) = run(steps, CaptureSink::new(&captured)).await;
        ended.expect("it keeps all");
        assert_eq!(book.entries(), [(1, true), (2, true), (3, true)]);
        let seqs: Vec<u64> = captured.measurements().iter().map(|measurement| measurement.seq).collect();
        assert_eq!(seqs, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_broken_sink_fails_what_it_says() {
        let sink = BrokenSink { fail_every: 2, error_after: Some(4), panics: false };
        let (book, ended) = run(vec![Step::Emit(6)], sink).await;
        ended.expect_err("broken");
        assert_eq!((book.delivered(), book.failed()), (vec![1, 3], vec![2, 4, 5, 6]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_sink_takes_its_time() {
        let before = tokio::time::Instant::now();
        let each = Duration::from_secs(7);
        let (book, ended) = run(vec![Step::Emit(1), Step::Emit(1)], SlowSink { each }).await;
        ended.expect("slow is not broken");
        assert_eq!(book.delivered(), [1, 2]);
        assert_eq!(before.elapsed(), each * 2);
    }

    #[test]
    fn a_panic_transform_panics_where_it_says() {
        let mut transform = PanicTransform::at(3);
        let batch = || -> Batch {
            (0..2).map(|seq| Envelope::measurement(measurement("a", seq), None, Ack::ignored())).collect()
        };
        transform.apply(&mut batch());
        let second = std::thread::spawn(move || transform.apply(&mut batch()));
        assert!(second.join().is_err());
    }
}
