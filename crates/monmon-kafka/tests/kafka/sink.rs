//! The sink against a real broker.

use std::collections::BTreeSet;

use monmon_model::{Origin, Rejected, RejectedReason, wire};
use monmon_stage::{Ack, Envelope};

use crate::harness::{
    PATIENCE, Run, RunningSink, brokers, item, items, logged, make_topic, measurement, records, topic,
};

fn options(topic: &str) -> String {
    format!("brokers \"{}\"\ntopic \"{topic}\"", brokers())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_measurement_arrives_once_and_in_order() {
    let topic = topic(4, &[]).await;
    let sink = RunningSink::start(&options(&topic)).await;
    for start in (0..5_000).step_by(500) {
        sink.send(items(start..start + 500)).await;
    }
    let (run, book) = sink.finish().await;
    assert_eq!((book.count(true), book.count(false)), (5_000, 0));
    let counts = run.context.counters.counts();
    assert_eq!((counts.received, counts.delivered, counts.failed, counts.retries), (5_000, 5_000, 0, 0));

    let mut last = std::collections::BTreeMap::new();
    let mut ids = BTreeSet::new();
    for record in records(&topic) {
        let measurement = wire::decode(&record.value).expect("ours");
        assert_eq!(record.key, measurement.check.id.to_string().into_bytes());
        assert_eq!(record.timestamp, Some(measurement.scheduled_at.as_millisecond()));
        let before = last.insert(measurement.check.id, (record.partition, measurement.seq));
        if let Some((partition, seq)) = before {
            assert_eq!(partition, record.partition);
            assert!(seq < measurement.seq);
        }
        assert!(ids.insert(measurement.id), "{} is there twice", measurement.id);
    }
    assert_eq!(ids.len(), 5_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_may_be_under_way_and_all_arrive() {
    let topic = topic(1, &[]).await;
    let sink = RunningSink::start(&format!("{}\nmax-in-flight 3\nlinger \"0ms\"", options(&topic))).await;
    sink.send(items(0..1_000)).await;
    let (_, book) = sink.finish().await;
    assert_eq!((book.count(true), book.count(false)), (1_000, 0));
    assert_eq!(records(&topic).len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_is_waited_for() {
    let topic = format!("test.{}", uuid::Uuid::new_v4());
    let sink = RunningSink::start(&options(&topic)).await;
    sink.send(items(0..100)).await;
    make_topic(&topic, 2, &[]).await;
    sink.book.until(100).await;
    let (_, book) = sink.finish().await;
    assert_eq!((book.count(true), book.count(false)), (100, 0));
    assert_eq!(records(&topic).len(), 100);
    let lines = logged(&topic);
    assert!(lines[0].contains("WARN") && lines[0].contains("the topic does not exist; waiting"), "{lines:?}");
    assert!(lines[1].contains("WARN") && lines[1].contains(NO_LETTERS), "{lines:?}");
    assert!(lines[2].contains("INFO") && lines[2].contains("kafka works again"), "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_ends_the_start_when_nobody_waits() {
    let topic = format!("test.{}", uuid::Uuid::new_v4());
    let error = Run::new().fail_fast().sink(&options(&topic)).await.err().expect("no topic");
    assert!(error.is_transient());
    assert_eq!(error.to_string(), format!("the topic `{topic}` does not exist"));
}

const NO_LETTERS: &str = "the topic for dead letters does not exist";

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_dead_letters_that_is_missing_is_told_at_the_start() {
    let topic = topic(1, &[]).await;
    RunningSink::start(&options(&topic)).await.finish().await;
    let lines = logged(&topic);
    assert_eq!(lines.iter().filter(|line| line.contains(NO_LETTERS)).count(), 1, "{lines:?}");

    // One that is named is meant to be there.
    let named = format!("{}\ndead-letter-topic \"{topic}.letters\"", options(&topic));
    let error = Run::new().fail_fast().sink(&named).await.err().expect("no topic");
    assert!(error.is_transient());
    assert_eq!(error.to_string(), format!("the topic `{topic}.letters` for dead letters does not exist"));
    make_topic(&format!("{topic}.letters"), 1, &[]).await;
    Run::new().fail_fast().sink(&named).await.expect("the sink opens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_one_replica_is_told_once() {
    let topic = topic(3, &[]).await;
    make_topic(&format!("{topic}.dead-letter"), 1, &[]).await;
    let sink = RunningSink::start(&options(&topic)).await;
    sink.send(items(0..10)).await;
    sink.finish().await;
    let lines = logged(&topic);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let told = "the topic has one replica: what its broker loses is lost, though it was acknowledged";
    assert!(lines[0].contains("WARN") && lines[0].contains(told), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_broker_ends_the_start_when_nobody_waits() {
    let error =
        Run::new().fail_fast().sink("brokers \"127.0.0.1:1\"\ntopic \"t\"").await.err().expect("no broker");
    assert!(error.is_transient());
    assert_eq!(error.to_string(), "no kafka broker can be reached");
    assert!(error.help_text().is_some());
}

fn rejected(bytes: &[u8]) -> monmon_stage::Item {
    let origin = Origin {
        pipeline: "test".to_owned(),
        source: "in".to_owned(),
        topic: Some("t".to_owned()),
        partition: Some(3),
        offset: Some(7),
    };
    let at = measurement(0).scheduled_at;
    let rejected =
        Rejected::new(RejectedReason::NotJson, "not JSON", origin, at, Some(b"key".to_vec()), bytes.to_vec());
    Envelope::rejected(rejected, None, Ack::ignored()).item
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rejected_goes_to_the_dead_letters() {
    let topic = topic(1, &[]).await;
    make_topic(&format!("{topic}.dead-letter"), 1, &[]).await;
    let sink = RunningSink::start(&options(&topic)).await;
    sink.send(vec![rejected(b"no \xff json")]).await;
    sink.send(items(0..3)).await;
    let (run, book) = sink.finish().await;
    assert_eq!((book.count(true), book.count(false)), (4, 0));
    assert_eq!(run.context.counters.counts().rejected, 1);
    assert_eq!(records(&topic).len(), 3);
    let letters = records(&format!("{topic}.dead-letter"));
    let letter: serde_json::Value = serde_json::from_slice(&letters[0].value).expect("JSON");
    assert_eq!(letters[0].key, b"key");
    assert_eq!(letter["reason"], "not_json");
    assert_eq!(letter["origin"]["offset"], 7);
    assert_eq!(letter["bytes_hex"], "6e6f20ff206a736f6e");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_without_a_topic_hold_up_nothing() {
    let topic = topic(1, &[]).await;
    let sink = RunningSink::start(&options(&topic)).await;
    sink.send(vec![rejected(b"no json")]).await;
    sink.send(items(0..100)).await;
    sink.book.until(100).await;
    let (run, book) = sink.finish().await;
    assert_eq!((book.count(true), book.count(false)), (100, 1));
    assert_eq!(run.context.counters.counts().failed, 1);
}

/// One message is larger than the topic takes, and so are the batches of the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_measurement_that_is_too_large_becomes_a_dead_letter() {
    let topic = topic(1, &[("max.message.bytes", "20000")]).await;
    make_topic(&format!("{topic}.dead-letter"), 1, &[]).await;
    let sink =
        RunningSink::start(&format!("{}\ncompression \"none\"\nlinger \"100ms\"", options(&topic))).await;
    let mut all = items(0..200);
    let mut large = measurement(1_000);
    large.url = format!("https://example.org/{}", "x".repeat(30_000));
    all.insert(100, item(large));
    sink.send(all).await;
    let (run, book) = sink.finish().await;
    assert_eq!((book.count(true), book.count(false)), (201, 0));
    let counts = run.context.counters.counts();
    assert_eq!((counts.delivered, counts.rejected), (200, 1));
    let numbers: BTreeSet<u64> =
        records(&topic).iter().map(|record| wire::decode(&record.value).expect("ours").seq).collect();
    assert_eq!(numbers, (1..=200).collect());
    let letters = records(&format!("{topic}.dead-letter"));
    let letter: serde_json::Value = serde_json::from_slice(&letters[0].value).expect("JSON");
    assert_eq!(letter["reason"], "too_large");
}

/// Larger than librdkafka itself takes, and the dead letter larger still: its beginning is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_too_large_is_cut() {
    let topic = topic(1, &[]).await;
    make_topic(&format!("{topic}.dead-letter"), 1, &[]).await;
    let sink = RunningSink::start(&options(&topic)).await;
    let mut huge = measurement(0);
    huge.url = format!("https://example.org/{}", "ü".repeat(600_000));
    sink.send(vec![item(huge)]).await;
    sink.send(items(1..10)).await;
    tokio::time::timeout(PATIENCE, sink.book.until(10)).await.expect("all are kept");
    sink.finish().await;
    let letters = records(&format!("{topic}.dead-letter"));
    let letter: serde_json::Value = serde_json::from_slice(&letters[0].value).expect("JSON");
    assert_eq!(letter["cut"], true);
    assert!(letters[0].value.len() < 250_000);
}

/// What is long need not be the message: its key, and what is said of it, which has the field in it that is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn no_letter_is_too_large_to_be_cut() {
    let topic = topic(1, &[]).await;
    make_topic(&format!("{topic}.dead-letter"), 1, &[]).await;
    let sink = RunningSink::start(&options(&topic)).await;
    let text = format!(r#"{{"v":1,"type":"measurement","seq":"{}"}}"#, "A".repeat(850_000));
    let error = wire::decode(text.as_bytes()).expect_err("a number that is a text");
    let origin = Origin {
        pipeline: "test".to_owned(),
        source: "in".to_owned(),
        topic: Some("t".to_owned()),
        partition: Some(0),
        offset: Some(0),
    };
    let rejected = |key: Vec<u8>, offset: i64| {
        let origin = Origin { offset: Some(offset), ..origin.clone() };
        let at = measurement(0).scheduled_at;
        let rejected =
            Rejected::new(error.reason, &error.message, origin, at, Some(key), text.as_bytes().to_vec());
        Envelope::rejected(rejected, None, Ack::ignored()).item
    };
    sink.send(vec![rejected(b"key".to_vec(), 0), rejected(vec![b'k'; 600_000], 1)]).await;
    tokio::time::timeout(PATIENCE, sink.book.until(2)).await.expect("both are kept");
    sink.finish().await;
    let letters = records(&format!("{topic}.dead-letter"));
    for letter in &letters {
        let letter: serde_json::Value = serde_json::from_slice(&letter.value).expect("JSON");
        assert_eq!((&letter["cut"], &letter["reason"]), (&true.into(), &"bad_field".into()));
    }
}
