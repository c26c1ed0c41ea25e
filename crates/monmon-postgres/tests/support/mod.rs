//! What the tests and the bench share: a schema of their own on the real server, measurements, and a sink that runs.
#![allow(dead_code, reason = "each program that includes this module uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{
    Certificate, Check, Failure, FailureKind, Match, MatchStatus, Measurement, Metric, Outcome, Phase,
    Prober, Timings, Tls, check_id, measurement_id,
};
use monmon_postgres::{SINK, Target, migrate};
use monmon_stage::{
    Ack, AckTracker, Batch, Clock, DecodeContext, EDGE_PLACES, Emitter, Envelope, Feed, Mode, OpenStage,
    Place, ProberIdentity, StageContext, StageCounters, StageError, StageSpec, SystemWorld, inlet,
};
use monmon_syntax::{FileId, MemoryLoader, Problems, SourceMap, parse, read};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;
use uuid::{Uuid, uuid};

pub(crate) const PROBER: Uuid = uuid!("0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b");
/// The noon that all tests live around.
pub(crate) const NOON: &str = "2026-11-23T12:00:00Z";

pub(crate) fn noon() -> Timestamp {
    NOON.parse().expect("a time")
}

/// A setting that `cargo xtask test` gives.
pub(crate) fn setting(name: &str) -> String {
    let value = std::env::var_os(name).and_then(|value| value.into_string().ok());
    value.unwrap_or_else(|| panic!("{name} is not set; run `cargo xtask test`"))
}

/// A schema of its own for each test, on the real server.
pub(crate) struct Store {
    pub(crate) url: String,
    pub(crate) client: tokio_postgres::Client,
    pub(crate) schema: String,
}

impl Store {
    pub(crate) async fn empty() -> Store {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let schema = format!("test_{}_{}", std::process::id(), number);
        let base = setting("MONMON_TEST_POSTGRES");
        let url = with_schema(&base, &schema);
        let client = client(&url).await;
        client
            .batch_execute(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}"))
            .await
            .expect("a schema");
        Store { url, client, schema }
    }

    /// The URL with more parameters.
    pub(crate) fn url_with(&self, parameters: &str) -> String {
        format!("{}&{parameters}", self.url)
    }

    pub(crate) async fn migrated() -> Store {
        let store = Store::empty().await;
        migrate(&store.target()).await.expect("migrations");
        store
    }

    pub(crate) fn target(&self) -> Target {
        Target::parse(&self.url, None, Arc::new(SystemWorld)).expect("a URL")
    }

    pub(crate) async fn count(&self, what: &str) -> i64 {
        self.client.query_one(&format!("SELECT count(*) FROM {what}"), &[]).await.expect(what).get(0)
    }

    /// Drops the schema. A test that fails leaves it for a look. What a sink has asked for last the server may still be at,
    /// and of the two one is told to begin again.
    pub(crate) async fn gone(self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.schema);
        for _ in 0..20 {
            match self.client.batch_execute(&drop).await {
                Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {}
                dropped => return dropped.expect("dropped"),
            }
        }
        panic!("the schema cannot be dropped");
    }
}

/// The URL with a search path.
pub(crate) fn with_schema(url: &str, schema: &str) -> String {
    format!("{url}{}options=-csearch_path%3D{schema}", if url.contains('?') { '&' } else { '?' })
}

pub(crate) async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("a connection");
    spawn(async move { drop(connection.await) });
    client
}

#[expect(clippy::disallowed_methods, reason = "a test has no engine whose set could hold the task")]
pub(crate) fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(task)
}

/// A check that is due every `interval_us`.
pub(crate) fn check(name: &str, interval_us: u64) -> Arc<Check> {
    Arc::new(Check {
        id: check_id("producer", "sites", name),
        name: name.to_owned(),
        pipeline: "producer".to_owned(),
        source: "sites".to_owned(),
        method: "GET".to_owned(),
        url: format!("https://{name}.example.org/"),
        schedule: None,
        interval_us,
        timeout_us: 10_000_000,
        labels: BTreeMap::from([("team".to_owned(), "docs".to_owned())]),
    })
}

pub(crate) fn prober() -> Arc<Prober> {
    Arc::new(Prober {
        id: PROBER,
        name: "laptop".to_owned(),
        location: Some("hel".to_owned()),
        boot: uuid!("01932b00-0000-7000-8000-000000000000"),
    })
}

/// A measurement that went well.
pub(crate) fn measurement(check: &Arc<Check>, seq: u64, scheduled_at: Timestamp) -> Measurement {
    Measurement {
        id: measurement_id(PROBER, check.id, scheduled_at, 1),
        seq,
        attempt: 1,
        method: check.method.clone(),
        url: check.url.clone(),
        check: check.clone(),
        prober: prober(),
        scheduled_at,
        started_at: Some(scheduled_at + Duration::from_micros(318)),
        outcome: Outcome::Up,
        reason: None,
        error: None,
        status: Some(200),
        http_version: Some("1.1".to_owned()),
        remote_addr: Some("192.0.2.7:443".to_owned()),
        timings: Timings {
            dns_us: None,
            connect_us: Some(10_000 + seq % 100),
            tls_us: None,
            wait_us: Some(31_000),
            transfer_us: Some(400),
            total_us: 41_400 + seq % 100,
        },
        body_bytes: Some(10_240),
        body_wire_bytes: None,
        body_truncated: false,
        redirects: Vec::new(),
        tls: None,
        details: None,
        matches: Vec::new(),
    }
}

pub(crate) fn down(check: &Arc<Check>, seq: u64, scheduled_at: Timestamp) -> Measurement {
    let mut measurement = measurement(check, seq, scheduled_at);
    measurement.status = None;
    measurement.fail(Failure::new(FailureKind::ConnectRefused, Phase::Connect, "192.0.2.7:443 refused"));
    measurement
}

pub(crate) fn unknown(check: &Arc<Check>, seq: u64, scheduled_at: Timestamp) -> Measurement {
    let failure = Failure::new(FailureKind::Overslept, Phase::Start, "slept through the slot");
    let id = measurement_id(PROBER, check.id, scheduled_at, 1);
    Measurement::not_made(id, seq, 1, check.clone(), prober(), scheduled_at, failure)
}

pub(crate) fn a_match() -> Match {
    Match {
        name: "title".to_owned(),
        stage: "titles".to_owned(),
        kind: "regex".to_owned(),
        status: MatchStatus::Passed,
        found: Some(true),
        message: None,
        values: BTreeMap::from([("title".to_owned(), "Docs \u{2014} \"start\"".to_owned())]),
        metrics: BTreeMap::from([("price".to_owned(), Metric::new(12.5, "EUR").expect("a number"))]),
    }
}

pub(crate) fn tls_facts() -> Tls {
    Tls {
        version: Some("TLSv1.3".to_owned()),
        cipher: Some("TLS13_AES_256_GCM_SHA384".to_owned()),
        verified: Some(true),
        certificate: Some(Certificate {
            subject: "CN=docs.example.org".to_owned(),
            issuer: "CN=Example CA".to_owned(),
            not_before: "2026-10-01T00:00:00Z".parse().expect("a time"),
            not_after: "2026-12-30T00:00:00Z".parse().expect("a time"),
            sha256: Some("cd".repeat(32)),
        }),
        chain: vec![Certificate {
            subject: "CN=Example CA".to_owned(),
            issuer: "CN=Example Root".to_owned(),
            not_before: "2020-10-01T00:00:00Z".parse().expect("a time"),
            not_after: "2030-12-30T00:00:00Z".parse().expect("a time"),
            sha256: None,
        }],
    }
}

/// `count` measurements of one check, a second apart, up to noon.
pub(crate) fn series(check: &Arc<Check>, count: u64) -> Vec<Measurement> {
    (1..=count).map(|seq| measurement(check, seq, noon() - Duration::from_secs(count - seq))).collect()
}

struct StoppedClock(Timestamp);

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// What became of the acks.
#[derive(Default)]
struct Book {
    delivered: Mutex<Vec<u64>>,
    failed: Mutex<Vec<u64>>,
    resolved: watch::Sender<usize>,
}

impl AckTracker for Book {
    fn resolved(&self, token: u64, delivered: bool) {
        let list = if delivered { &self.delivered } else { &self.failed };
        list.lock().expect("no panic").push(token);
        self.resolved.send_modify(|resolved| *resolved += 1);
    }
}

/// A sink that runs.
pub(crate) struct Running {
    pub(crate) counters: Arc<StageCounters>,
    pub(crate) stop: CancellationToken,
    emitter: Option<Emitter>,
    book: Arc<Book>,
    tokens: u64,
    pub(crate) feed: Arc<Feed>,
    task: JoinHandle<Result<(), StageError>>,
}

/// Waits until something holds that no channel tells of.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..6_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} has not come about in 30 s");
}

/// A spec from the inside of its node, and the codes of what was wrong.
pub(crate) fn spec(inside: &str) -> (Box<dyn StageSpec>, Problems) {
    let mut problems = Problems::new();
    let text = format!("postgres \"store\" from=\"events\" {{\n{inside}\n}}");
    let document = parse(FileId(0), &text, &mut problems).expect("KDL");
    let node = read(&document.nodes()[0], FileId(0), SINK.spec, &mut problems);
    let context = DecodeContext {
        pipeline: "consumer",
        stage: "store",
        sources: &SourceMap::default(),
        folder: Path::new("/"),
        loader: &MemoryLoader::default(),
    };
    let spec = (SINK.decode)(&node, &context, &mut problems);
    (spec, problems)
}

pub(crate) fn context(fail_fast: bool) -> StageContext {
    StageContext {
        pipeline: "consumer".into(),
        stage: "store".into(),
        mode: Mode::Continuous,
        stop: CancellationToken::new(),
        world: Arc::new(SystemWorld),
        clock: Arc::new(StoppedClock(noon())),
        prober: ProberIdentity { id: PROBER, name: "laptop".to_owned(), location: None, state: None },
        keep_pages: false,
        fail_fast,
        grace: Duration::from_secs(30),
        counters: Arc::new(StageCounters::default()),
    }
}

impl Running {
    pub(crate) async fn new(inside: &str) -> Running {
        Running::with(inside, false).await
    }

    pub(crate) async fn with(inside: &str, fail_fast: bool) -> Running {
        Running::at(inside, fail_fast, noon()).await
    }

    pub(crate) async fn at(inside: &str, fail_fast: bool, now: Timestamp) -> Running {
        let (spec, problems) = spec(inside);
        assert!(!problems.has_errors(), "{problems:?}");
        let context = StageContext { clock: Arc::new(StoppedClock(now)), ..context(fail_fast) };
        let (counters, stop) = (context.counters.clone(), context.stop.clone());
        let OpenStage::Sink(sink) = spec.open(context).await.expect("opened") else { panic!("no sink") };
        let (outlet, inlet) = inlet(EDGE_PLACES, false);
        let task = spawn(async move { sink.run(inlet).await });
        let emitter = Some(Emitter::new(vec![outlet]));
        let feed =
            Feed { pipeline: "consumer".into(), source: "events".into(), topic: "measurements".to_owned() };
        Running { counters, stop, emitter, book: Arc::default(), tokens: 0, feed: Arc::new(feed), task }
    }

    pub(crate) fn envelope(&mut self, measurement: Measurement) -> Envelope {
        self.tokens += 1;
        Envelope::measurement(measurement, None, Ack::new(self.book.clone(), self.tokens))
    }

    /// As the Kafka source gives it.
    pub(crate) fn read(&mut self, partition: i32, offset: i64, measurement: Measurement) -> Envelope {
        let feed = self.feed.clone();
        self.tokens += 1;
        let ack = Ack::new(self.book.clone(), self.tokens);
        Envelope::read(measurement, Place { feed, partition, offset }, ack)
    }

    pub(crate) fn ack(&mut self) -> Ack {
        self.tokens += 1;
        Ack::new(self.book.clone(), self.tokens)
    }

    pub(crate) async fn send(&mut self, measurements: Vec<Measurement>) {
        let batch: Batch = measurements.into_iter().map(|measurement| self.envelope(measurement)).collect();
        self.emit(batch).await;
    }

    pub(crate) async fn emit(&mut self, batch: Batch) {
        // A sink that has failed is seen by `end`.
        self.emitter.as_ref().expect("still open").emit(batch).await.unwrap_or(());
    }

    /// Waits until so many acks are resolved.
    pub(crate) async fn resolved(&self, count: usize) {
        let mut resolved = self.book.resolved.subscribe();
        resolved.wait_for(|resolved| *resolved >= count).await.expect("the book is here");
    }

    pub(crate) fn resolved_now(&self) -> usize {
        *self.book.resolved.borrow()
    }

    /// Ends the input and waits for the sink; how many acks were delivered and how many failed.
    pub(crate) async fn end(mut self) -> (Result<(), StageError>, usize, usize) {
        self.emitter = None;
        let result = self.task.await.expect("no panic");
        let delivered = self.book.delivered.lock().expect("no panic").len();
        let failed = self.book.failed.lock().expect("no panic").len();
        (result, delivered, failed)
    }
}

/// Stores measurements through a sink and expects all of them to be acked.
pub(crate) async fn store(store: &Store, measurements: Vec<Measurement>) -> Arc<StageCounters> {
    let mut running = Running::new(&format!("url \"{}\"", store.url)).await;
    let count = measurements.len();
    for part in measurements.chunks(1_000) {
        running.send(part.to_vec()).await;
    }
    let counters = running.counters.clone();
    let (result, delivered, failed) = running.end().await;
    result.expect("the sink ends well");
    assert_eq!((delivered, failed), (count, 0));
    counters
}
