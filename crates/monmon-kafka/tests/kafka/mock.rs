//! Answers that a real broker rarely gives, from librdkafka's own mock cluster.

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::harness::{RunningSink, items};

async fn all_arrive(errors: &[RDKafkaRespErr]) -> u64 {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let options = format!("brokers \"{}\"\ntopic \"t\"\nlinger \"0ms\"", cluster.bootstrap_servers());
    let sink = RunningSink::start(&options).await;
    sink.send(items(0..50)).await;
    sink.book.until(50).await;
    cluster.request_errors(RDKafkaApiKey::Produce, errors);
    for start in (50..500).step_by(10) {
        sink.send(items(start..start + 10)).await;
    }
    let (run, book) = sink.finish().await;
    assert_eq!((book.count(true), book.count(false)), (500, 0));
    run.context.counters.counts().retries
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_pass_are_librdkafkas_own_to_retry() {
    use RDKafkaRespErr as Error;
    let retries = all_arrive(&[
        Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Error::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    ])
    .await;
    assert_eq!(retries, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_librdkafka_gives_up_at_are_ours_to_retry() {
    let retries = all_arrive(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]).await;
    assert!(retries > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_lost_its_way_is_made_anew() {
    let retries = all_arrive(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]).await;
    assert!(retries > 0, "the fault did not happen");
}

/// The answer to a request that the broker has carried out is lost with its connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_and_comes_back_loses_nothing() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let options = format!("brokers \"{}\"\ntopic \"t\"\nlinger \"0ms\"", cluster.bootstrap_servers());
    let sink = RunningSink::start(&options).await;
    sink.send(items(0..50)).await;
    sink.book.until(50).await;
    cluster.broker_round_trip_time(1, std::time::Duration::from_millis(750)).expect("slow");
    sink.send(items(50..100)).await;
    cluster.broker_down(1).expect("down");
    sink.send(items(100..200)).await;
    assert!(sink.book.count(true) < 200, "the fault did not happen");
    cluster.broker_round_trip_time(1, std::time::Duration::ZERO).expect("fast");
    cluster.broker_up(1).expect("up");
    let (_, book) = sink.finish().await;
    assert_eq!((book.count(true), book.count(false)), (200, 0));
}
