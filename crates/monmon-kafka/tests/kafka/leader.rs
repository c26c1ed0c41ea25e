//! Leaders are killed under load: a cluster of three brokers of this test's own, with three replicas and two in sync.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::harness::{RunningSink, RunningSource, committed_at, env, items, seq, until};

const NODES: i32 = 3;
const PARTITIONS: i32 = 2;
const PORT: u16 = 21_092;

/// How many leaders are killed, one after the other; more by the setting.
const KILLS: &str = "MONMON_TEST_LEADER_KILLS";
const KILLS_LEAST: usize = 2;

/// A cluster in a folder of its own. What was downloaded for the shared one serves it too.
struct Cluster {
    folder: tempfile::TempDir,
    script: PathBuf,
}

impl Cluster {
    fn start() -> Cluster {
        let script = PathBuf::from(env("MONMON_TEST_SERVICES")).join("kafka.sh");
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = Cluster { folder, script };
        std::fs::create_dir(cluster.folder.path().join("kafka")).expect("a folder");
        let data = PathBuf::from(env("MONMON_SERVICES_DIR")).join("kafka");
        for entry in std::fs::read_dir(data).expect("the shared broker's folder").flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with("libs-") {
                let link = cluster.folder.path().join("kafka").join(name);
                std::os::unix::fs::symlink(entry.path(), link).expect("a link");
            }
        }
        cluster.run(&["start"]);
        cluster
    }

    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.script);
        command.args(arguments).env("MONMON_SERVICES_DIR", self.folder.path());
        command
            .env("KAFKA_NODES", NODES.to_string())
            .env("KAFKA_PORT", PORT.to_string())
            .env("KAFKA_HEAP", "256m");
        let done = command.output().expect("the script starts");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    async fn act(&self, arguments: &'static [&'static str], node: i32) {
        let node = node.to_string();
        let arguments: Vec<&str> = arguments.iter().copied().chain([node.as_str()]).collect();
        tokio::task::block_in_place(|| self.run(&arguments));
    }

    fn brokers() -> String {
        let ports = (0..NODES as u16).map(|node| format!("127.0.0.1:{}", PORT + 10 * node));
        ports.collect::<Vec<_>>().join(",")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A failed test has said why already.
        let stop = || self.run(&["reset"]);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(stop)).ok();
    }
}

fn config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", Cluster::brokers()).set("group.id", "look").set("log_level", "0");
    config
}

async fn make_topic(name: &str) {
    let admin: AdminClient<DefaultClientContext> = config().create().expect("an admin client");
    let topic =
        NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(NODES)).set("min.insync.replicas", "2");
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let made = admin.create_topics([&topic], &options).await.expect("the cluster answers");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

/// Who leads a partition, and how many replicas are in sync.
fn look(topic: &str, partition: i32) -> Option<(i32, usize)> {
    let consumer: BaseConsumer = config().create().expect("a consumer");
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
    let found = metadata.topics().first()?.partitions().iter().find(|one| one.id() == partition)?;
    (found.leader() > 0).then(|| (found.leader(), found.isr().len()))
}

/// What the far end has stored: how often each.
#[derive(Default)]
struct Store(BTreeMap<u64, usize>);

/// Everything that was acknowledged is read, through any number of leaders that are killed in the middle of the load. With
/// two of three brokers down nothing is acknowledged, and when they are back everything is.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_acknowledged_outlives_its_leaders() {
    #[expect(clippy::disallowed_methods, reason = "a longer run is asked for by the environment")]
    let kills = std::env::var(KILLS).ok().and_then(|kills| kills.parse().ok()).unwrap_or(KILLS_LEAST);
    let cluster = tokio::task::block_in_place(Cluster::start);
    let topic = "leaders";
    make_topic(topic).await;
    let common = format!("brokers \"{}\"\ntopic \"{topic}\"", Cluster::brokers());
    let sink =
        RunningSink::start(&format!("{common}\nrequest-timeout \"2s\"\ndelivery-timeout \"5s\"")).await;
    let mut source =
        RunningSource::start(&format!("{common}\ngroup \"g\"\nsession-timeout \"6s\"\nmax-in-flight 500"))
            .await;
    let mut store = Store::default();
    let mut sent = 0;
    for kill in 0..kills {
        let partition = kill as i32 % PARTITIONS;
        until("all replicas are in sync", || look(topic, partition).is_some_and(|(_, in_sync)| in_sync == 3))
            .await;
        let (leader, _) = look(topic, partition).expect("a leader");
        let before = sent;
        for _ in 0..10 {
            sink.send(items(sent..sent + 100)).await;
            sent += 100;
        }
        // Some of it is acknowledged and some is under way.
        sink.book.until(before as usize + 1).await;
        cluster.act(&["kill"], leader).await;
        for _ in 0..10 {
            sink.send(items(sent..sent + 100)).await;
            sent += 100;
        }
        read(&mut source, &mut store, sent).await;
        sink.book.until(sent as usize).await;
        cluster.act(&["up"], leader).await;
    }
    // Two brokers down: one replica is left, and that is not enough.
    until("all replicas are in sync", || {
        (0..PARTITIONS).all(|one| look(topic, one).is_some_and(|(_, isr)| isr == 3))
    })
    .await;
    cluster.act(&["kill"], 1).await;
    cluster.act(&["kill"], 2).await;
    let acked = sink.book.count(true);
    let counters = sink.run.context.counters.clone();
    let retries = counters.counts().retries;
    sink.send(items(sent..sent + 100)).await;
    sent += 100;
    until("what was not delivered comes back", || counters.counts().retries > retries).await;
    assert_eq!(sink.book.count(true), acked, "acknowledged by one replica");
    cluster.act(&["up"], 1).await;
    cluster.act(&["up"], 2).await;
    read(&mut source, &mut store, sent).await;
    sink.book.until(sent as usize).await;
    let (run, book) = sink.finish().await;
    assert_eq!((book.count(true), book.count(false)), (sent as usize, 0));
    let again = store.0.values().filter(|times| **times > 1).count();
    println!("{kills} leaders killed, {sent} sent, {again} read again, {:?}", run.context.counters.counts());
    until("all is committed", || {
        let committed = committed_at(&Cluster::brokers(), "g", topic, PARTITIONS);
        let ends: i64 = committed.into_iter().flatten().sum();
        // What was sent twice is in the log twice.
        ends >= sent as i64
    })
    .await;
    source.stop().await.expect("a good end");
}

/// Reads until everything that was sent is stored.
async fn read(source: &mut RunningSource, store: &mut Store, sent: u64) {
    while (store.0.len() as u64) < sent {
        for envelope in source.recv().await.expect("the source goes on") {
            *store.0.entry(seq(&envelope)).or_default() += 1;
            envelope.ack.deliver();
        }
    }
    assert_eq!(store.0.keys().copied().max(), Some(sent), "what was never sent");
}
