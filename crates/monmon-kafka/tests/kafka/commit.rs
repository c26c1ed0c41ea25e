//! What a coordinator may answer to a commit or a heartbeat, from librdkafka's own mock cluster.

use std::collections::BTreeSet;

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::harness::{RunningSink, RunningSource, committed_at, items, seq, until};

const ROUNDS: u64 = 10;
const EACH: u64 = 50;

/// Reads on through the errors: nothing is lost, nothing is committed that was not acked, and in the end everything is.
async fn nothing_is_lost(topic: &str, api: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic(topic, 1, 1).expect("a topic");
    let brokers = cluster.bootstrap_servers();
    let common = format!("brokers \"{brokers}\"\ntopic \"{topic}\"");
    let sink = RunningSink::start(&format!("{common}\nlinger \"0ms\"")).await;
    let options = format!("{common}\ngroup \"g\"\nsession-timeout \"6s\"");
    let mut source = RunningSource::start(&options).await;
    let mut stored = BTreeSet::new();
    for round in 0..ROUNDS {
        sink.send(items(round * EACH..(round + 1) * EACH)).await;
        if round == 2 {
            cluster.request_errors(api, errors);
        }
        while stored.len() < ((round + 1) * EACH) as usize {
            for envelope in source.recv().await.expect("the source goes on") {
                stored.insert(seq(&envelope));
                envelope.ack.deliver();
            }
        }
        let committed = committed_at(&brokers, "g", topic, 1)[0].unwrap_or(0);
        assert!(committed <= stored.len() as i64, "{committed} committed of {} stored", stored.len());
    }
    // What was not taken is committed by and by, without another message.
    let all = (ROUNDS * EACH) as i64;
    let store = async {
        // What is read again has to be acked again.
        while let Some(batch) = source.input.recv().await {
            batch.into_iter().for_each(|envelope| envelope.ack.deliver());
        }
    };
    tokio::select! {
        () = store => panic!("the source has ended"),
        () = until("all is committed", || committed_at(&brokers, "g", topic, 1) == [Some(all)]) => {}
    }
    source.stop().await.expect("a good end");
    assert_eq!(committed_at(&brokers, "g", topic, 1), [Some(all)]);
    sink.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_generation() {
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION;
    nothing_is_lost("old-generation", RDKafkaApiKey::OffsetCommit, &[error; 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_nobody_knows() {
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID;
    nothing_is_lost("unknown-member", RDKafkaApiKey::OffsetCommit, &[error; 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebalance_that_goes_on() {
    let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS;
    nothing_is_lost("rebalance-in-progress", RDKafkaApiKey::OffsetCommit, &[error; 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_loads_and_moves() {
    use RDKafkaRespErr as Error;
    let errors = [
        Error::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
        Error::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        Error::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    nothing_is_lost("loading-coordinator", RDKafkaApiKey::OffsetCommit, &errors).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_comes_from_the_dead() {
    use RDKafkaRespErr as Error;
    let errors = [Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION];
    nothing_is_lost("dead-heartbeat", RDKafkaApiKey::Heartbeat, &errors).await;
}
