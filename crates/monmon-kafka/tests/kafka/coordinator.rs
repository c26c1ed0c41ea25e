//! A coordinator that takes connections and never answers, on librdkafka's own mock cluster: a real broker names its own
//! address to its clients, so that nothing can stand between them.

use std::time::Duration;

use monmon_stage::Envelope;
use rdkafka::mocking::{MockCluster, MockCoordinator};

use crate::harness::{Run, RunningSink, RunningSource, items, logged, until_logged};

/// Reads and leads partitions, and never goes silent.
const LEADER: i32 = 1;
/// Coordinates the group.
const COORDINATOR: i32 = 2;

/// Longer than any test waits: whoever waits for the coordinator fails.
const SILENCE: Duration = Duration::from_secs(600);

struct Cluster {
    mock: MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    sink: RunningSink,
    options: String,
}

impl Cluster {
    async fn new(topic: &str) -> Cluster {
        let mock = MockCluster::new(2).expect("a mock cluster");
        mock.create_topic(topic, 1, 1).expect("a topic");
        mock.partition_leader(topic, 0, Some(LEADER)).expect("a leader");
        mock.coordinator(MockCoordinator::Group("g".to_owned()), COORDINATOR).expect("a coordinator");
        let common = format!("brokers \"{}\"\ntopic \"{topic}\"", mock.bootstrap_servers());
        let sink = RunningSink::start(&common).await;
        // A dead member's session outlives the test too.
        Cluster { mock, sink, options: format!("{common}\ngroup \"g\"\nsession-timeout \"10m\"") }
    }

    async fn source(&self) -> RunningSource {
        let mut run = Run::new();
        run.context.grace = Duration::from_secs(3);
        RunningSource::start_as(run, &self.options).await
    }

    fn silence(&self) {
        self.mock.broker_round_trip_time(COORDINATOR, SILENCE).expect("silent");
    }
}

fn deliver(envelopes: Vec<Envelope>) {
    envelopes.into_iter().for_each(|envelope| envelope.ack.deliver());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_silent_holds_up_neither_reading_nor_the_end() {
    let topic = "silent-coordinator";
    let cluster = Cluster::new(topic).await;
    let mut source = cluster.source().await;
    cluster.sink.send(items(0..100)).await;
    deliver(source.take(100).await);
    cluster.silence();
    // Each of these has something to commit, and no commit is answered.
    for start in (100..1_000).step_by(100) {
        cluster.sink.send(items(start..start + 100)).await;
        deliver(source.take(100).await);
    }
    let counters = source.run.context.counters.clone();
    source.stop().await.expect("a good end");
    assert_eq!(counters.counts().delivered, 1_000);
    until_logged(topic, "WARN").await;
    let warnings: Vec<String> = logged(topic)
        .into_iter()
        .filter(|line| line.contains("the consumer group gives no answer"))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    cluster.sink.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_silent_from_the_start_does_not_hold_up_the_end() {
    let cluster = Cluster::new("never-a-coordinator").await;
    cluster.silence();
    let source = cluster.source().await;
    source.stop().await.expect("a good end");
    cluster.sink.finish().await;
}
