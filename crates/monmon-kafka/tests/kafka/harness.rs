//! Topics, stages and measurements for the tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{Check, Failure, FailureKind, Measurement, Phase, Prober, check_id, measurement_id, wire};
use monmon_stage::{
    Ack, AckTracker, Batch, DecodeContext, EDGE_PLACES, Emitter, Envelope, Inlet, Item, Mode, OpenStage,
    ProberIdentity, Section, Sink, Source, StageContext, StageCounters, StageError, StageKind, StageSpec,
    SystemClock, SystemWorld, inlet,
};
use monmon_syntax::{MemoryLoader, Problems, SourceMap, load, read};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A bound for what must happen; reached only when it does not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const PROBER: Uuid = Uuid::from_u128(0x0b0b0b0b_0b0b_4b0b_8b0b_0b0b0b0b0b0b);

/// What `cargo xtask test` tells of the services that it has started.
pub(crate) fn env(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the tests' addresses come by the environment")]
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

pub(crate) fn brokers() -> String {
    env("MONMON_TEST_KAFKA")
}

/// A topic of this test alone.
pub(crate) async fn topic(partitions: i32, settings: &[(&str, &str)]) -> String {
    let name = format!("test.{}", Uuid::new_v4());
    make_topic(&name, partitions, settings).await;
    name
}

pub(crate) async fn make_topic(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin = admin();
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let made = admin.create_topics([&topic], &options).await.expect("the broker answers");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("an admin client")
}

/// Deletes a topic and makes it again, as soon as the broker lets the name go.
pub(crate) async fn make_topic_anew(name: &str, partitions: i32) {
    let admin = admin();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let gone = admin.delete_topics(&[name], &options).await.expect("the broker answers");
    assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    let made = async {
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        while admin.create_topics([&topic], &options).await.expect("the broker answers")[0].is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, made).await.expect("the name is free again");
}

/// A stage's spec from its text, and what is wrong with it.
pub(crate) fn decode(kind: &StageKind, text: &str) -> (Box<dyn StageSpec>, Problems, SourceMap) {
    let mut problems = Problems::new();
    let loader = MemoryLoader::new().with("pipeline.kdl", text);
    let loaded = load(Path::new("pipeline.kdl"), &loader, &mut problems);
    let top = loaded.nodes.first().expect("the text holds one node");
    let node = read(&top.node, top.file, kind.spec, &mut problems);
    let context = DecodeContext {
        pipeline: "test",
        stage: "events",
        sources: &loaded.sources,
        folder: Path::new("."),
        loader: &loader,
    };
    let spec = (kind.decode)(&node, &context, &mut problems);
    (spec, problems, loaded.sources)
}

pub(crate) fn spec(kind: &StageKind, options: &str) -> Box<dyn StageSpec> {
    let from = if kind.section == Section::Sinks { "from=\"x\"" } else { "" };
    let (spec, problems, _) = decode(kind, &format!("kafka \"events\" {from} {{\n{options}\n}}"));
    assert!(problems.is_empty(), "{problems:?}");
    spec
}

pub(crate) struct Run {
    pub(crate) context: StageContext,
}

impl Run {
    pub(crate) fn new() -> Run {
        log();
        Run {
            context: StageContext {
                pipeline: "test".into(),
                stage: "events".into(),
                mode: Mode::Continuous,
                stop: CancellationToken::new(),
                world: Arc::new(SystemWorld),
                clock: Arc::new(SystemClock),
                prober: ProberIdentity { id: PROBER, name: "test".to_owned(), location: None, state: None },
                keep_pages: false,
                fail_fast: false,
                grace: Duration::from_secs(10),
                counters: Arc::new(StageCounters::default()),
            },
        }
    }

    pub(crate) fn once(mut self) -> Run {
        self.context.mode = Mode::Once;
        self
    }

    pub(crate) fn fail_fast(mut self) -> Run {
        self.context.fail_fast = true;
        self
    }

    pub(crate) async fn sink(&self, options: &str) -> Result<Box<dyn Sink>, StageError> {
        match spec(&monmon_kafka::SINK, options).open(self.context.clone()).await? {
            OpenStage::Sink(sink) => Ok(sink),
            _ => panic!("a sink opens as a sink"),
        }
    }

    pub(crate) async fn source(&self, options: &str) -> Result<Box<dyn Source>, StageError> {
        match spec(&monmon_kafka::SOURCE, options).open(self.context.clone()).await? {
            OpenStage::Source(source) => Ok(source),
            _ => panic!("a source opens as a source"),
        }
    }
}

/// A sink at work, fed by the test.
pub(crate) struct RunningSink {
    pub(crate) run: Run,
    pub(crate) book: Arc<Book>,
    out: Emitter,
    tasks: JoinSet<Result<(), StageError>>,
}

impl RunningSink {
    pub(crate) async fn start(options: &str) -> RunningSink {
        let run = Run::new();
        let sink = run.sink(options).await.expect("the sink opens");
        let (outlet, input) = inlet(EDGE_PLACES, false);
        let mut tasks = JoinSet::new();
        tasks.spawn(sink.run(input));
        RunningSink { run, book: Arc::default(), out: Emitter::new(vec![outlet]), tasks }
    }

    pub(crate) async fn send(&self, items: Vec<Item>) {
        let tracker: Arc<dyn AckTracker> = self.book.clone();
        let batch: Batch = items
            .into_iter()
            .map(|item| Envelope { item, ack: Ack::new(tracker.clone(), self.book.open()) })
            .collect();
        self.out.emit(batch).await.expect("the sink listens");
    }

    /// Ends the inlet and waits for the sink.
    pub(crate) async fn finish(mut self) -> (Run, Arc<Book>) {
        drop(self.out);
        let ended = tokio::time::timeout(PATIENCE, self.tasks.join_next()).await.expect("the sink ends");
        ended.expect("one task").expect("no panic").expect("the sink ends well");
        (self.run, self.book)
    }
}

/// Acks as they are resolved.
#[derive(Default)]
pub(crate) struct Book {
    state: Mutex<(u64, Vec<(u64, bool)>)>,
    changed: Notify,
}

impl Book {
    fn open(&self) -> u64 {
        let mut state = self.state.lock().expect("no panic under the lock");
        state.0 += 1;
        state.0
    }

    pub(crate) fn count(&self, delivered: bool) -> usize {
        let state = self.state.lock().expect("no panic under the lock");
        state.1.iter().filter(|(_, was)| *was == delivered).count()
    }

    pub(crate) async fn until(&self, delivered: usize) {
        let all = async {
            loop {
                let changed = self.changed.notified();
                if self.count(true) >= delivered {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("the acks come");
    }
}

impl AckTracker for Book {
    fn resolved(&self, token: u64, delivered: bool) {
        self.state.lock().expect("no panic under the lock").1.push((token, delivered));
        self.changed.notify_one();
    }
}

/// A source at work; the test is what stands behind it.
pub(crate) struct RunningSource {
    pub(crate) run: Run,
    pub(crate) input: Inlet,
    tasks: JoinSet<Result<(), StageError>>,
}

impl RunningSource {
    pub(crate) async fn start(options: &str) -> RunningSource {
        RunningSource::start_as(Run::new(), options).await
    }

    pub(crate) async fn start_as(run: Run, options: &str) -> RunningSource {
        let source = run.source(options).await.expect("the source opens");
        let (outlet, input) = inlet(EDGE_PLACES, false);
        let mut tasks = JoinSet::new();
        tasks.spawn(source.run(Emitter::new(vec![outlet])));
        RunningSource { run, input, tasks }
    }

    pub(crate) async fn recv(&mut self) -> Option<Batch> {
        tokio::time::timeout(PATIENCE, self.input.recv()).await.expect("the source emits or ends")
    }

    /// So many envelopes.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<Envelope> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.recv().await.expect("the source goes on"));
        }
        assert_eq!(all.len(), count);
        all
    }

    pub(crate) async fn stop(self) -> Result<(), StageError> {
        self.run.context.stop.cancel();
        self.end().await
    }

    pub(crate) async fn end(mut self) -> Result<(), StageError> {
        let rest = async {
            while let Some(batch) = self.input.recv().await {
                drop(batch);
            }
            self.tasks.join_next().await
        };
        let ended = tokio::time::timeout(PATIENCE, rest).await.expect("the source ends");
        ended.expect("one task").expect("no panic")
    }
}

pub(crate) fn values(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    numbers.map(|number| encoded(&measurement(number))).collect()
}

pub(crate) fn seq(envelope: &Envelope) -> u64 {
    match &envelope.item {
        Item::Measurement(measured) => measured.measurement.seq,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn deliver(envelopes: Vec<Envelope>) {
    envelopes.into_iter().for_each(|envelope| envelope.ack.deliver());
}

/// Until it holds; the work of others goes on in between.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: never"));
}

/// The `number`th measurement of one of four checks.
pub(crate) fn measurement(number: u64) -> Measurement {
    let name = format!("check-{}", number % 4);
    let check = Check {
        id: check_id("test", "sites", &name),
        name,
        pipeline: "test".to_owned(),
        source: "sites".to_owned(),
        method: "GET".to_owned(),
        url: "https://example.org/".to_owned(),
        schedule: None,
        interval_us: 1_000_000,
        timeout_us: 1_000_000,
        labels: BTreeMap::new(),
    };
    let prober = Prober { id: PROBER, name: "test".to_owned(), location: None, boot: Uuid::nil() };
    let start: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
    let slot = start + Duration::from_millis(number);
    Measurement::not_made(
        measurement_id(PROBER, check.id, slot, 1),
        number + 1,
        1,
        Arc::new(check),
        Arc::new(prober),
        slot,
        Failure::new(FailureKind::FdExhausted, Phase::Start, "no descriptor left"),
    )
}

pub(crate) fn items(numbers: std::ops::Range<u64>) -> Vec<Item> {
    numbers.map(|number| item(measurement(number))).collect()
}

pub(crate) fn item(measurement: Measurement) -> Item {
    Envelope::measurement(measurement, None, Ack::ignored()).item
}

pub(crate) fn encoded(measurement: &Measurement) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(measurement, &mut bytes);
    bytes
}

/// What a topic holds, read past monmon: partition, key, value, timestamp.
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) timestamp: Option<i64>,
}

pub(crate) fn records(topic: &str) -> Vec<Record> {
    let consumer: BaseConsumer = reader("test-reader");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let partitions = metadata.topics()[0].partitions().len() as i32;
    let mut list = TopicPartitionList::new();
    let mut left = 0;
    for partition in 0..partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE).expect("watermarks");
        left += high - low;
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let mut records = Vec::new();
    while (records.len() as i64) < left {
        let message = consumer.poll(PATIENCE).expect("a message").expect("no error");
        records.push(Record {
            partition: message.partition(),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            timestamp: message.timestamp().to_millis(),
        });
    }
    records
}

/// What the group has committed, by partition.
pub(crate) fn committed(group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
    committed_at(&brokers(), group, topic, partitions)
}

/// The same on another cluster.
pub(crate) fn committed_at(brokers: &str, group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
    let consumer: BaseConsumer = reader_at(brokers, group);
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let list = consumer.committed_offsets(list, PATIENCE).expect("the broker tells");
    let offset = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
    list.elements().iter().map(|element| offset(element.offset())).collect()
}

/// Has the group stand at an offset.
pub(crate) fn commit(group: &str, topic: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
    let consumer = reader(group);
    consumer.assign(&list).expect("assigned");
    consumer.commit(&list, CommitMode::Sync).expect("committed");
}

fn reader(group: &str) -> BaseConsumer {
    reader_at(&brokers(), group)
}

fn reader_at(brokers: &str, group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer")
}

/// Publishes values past monmon, all to one partition.
pub(crate) async fn publish(topic: &str, partition: i32, values: &[Vec<u8>]) {
    use rdkafka::producer::{FutureProducer, FutureRecord};
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", brokers()).create().expect("a producer");
    let mut sent = Vec::new();
    for value in values {
        let record = FutureRecord::<[u8], [u8]>::to(topic).partition(partition).payload(value).key(b"key");
        sent.push(producer.send_result(record).expect("there is room"));
    }
    for report in sent {
        report.await.expect("a report").expect("delivered");
    }
}

/// What all stages of this process have logged.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

static LOGGED: Notify = Notify::const_new();

struct LogWriter;

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().expect("no panic under the lock").extend_from_slice(bytes);
        LOGGED.notify_waiters();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() {
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(|| LogWriter);
    // Only the first test of a process sets it.
    tracing::subscriber::set_global_default(log.finish()).ok();
}

/// The lines, from `info` on, that name the topic.
pub(crate) fn logged(topic: &str) -> Vec<String> {
    let log = LOG.lock().expect("no panic under the lock");
    let lines = String::from_utf8_lossy(&log);
    lines.lines().filter(|line| line.contains(topic)).map(str::to_owned).collect()
}

/// Waits for a line that names the topic and holds the word.
pub(crate) async fn until_logged(topic: &str, word: &str) {
    let there = async {
        loop {
            let more = LOGGED.notified();
            if logged(topic).iter().any(|line| line.contains(word)) {
                return;
            }
            more.await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await.expect("the line is logged");
}

/// Deletes a partition's messages before the offset, as retention does.
pub(crate) async fn delete_before(topic: &str, partition: i32, offset: i64) {
    let admin = admin();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
    admin.delete_records(&list, &AdminOptions::new()).await.expect("the broker deletes");
}
