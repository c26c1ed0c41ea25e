//! The source against a real broker.

use std::collections::BTreeSet;

use monmon_model::RejectedReason;
use monmon_stage::{Envelope, Item, Place, Refused};
use uuid::Uuid;

use crate::harness::{
    PATIENCE, Run, RunningSource, brokers, commit, committed, delete_before, deliver, encoded, logged,
    make_topic, measurement, publish, seq, topic, until_logged, values,
};

fn options(topic: &str, group: &str) -> String {
    format!("brokers \"{}\"\ntopic \"{topic}\"\ngroup \"{group}\"", brokers())
}

fn group() -> String {
    format!("group.{}", Uuid::new_v4())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acked_is_committed_and_read_no_more() {
    let (topic, group) = (topic(2, &[]).await, group());
    publish(&topic, 0, &values(0..30)).await;
    publish(&topic, 1, &values(30..50)).await;
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    let all = source.take(50).await;
    assert_eq!(all.iter().map(seq).collect::<BTreeSet<_>>(), (1..=50).collect());
    deliver(all);
    let counters = source.run.context.counters.clone();
    source.stop().await.expect("a good end");
    assert_eq!((counters.counts().received, counters.counts().delivered), (50, 50));
    assert_eq!(committed(&group, &topic, 2), [Some(30), Some(20)]);

    publish(&topic, 0, &values(50..51)).await;
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    let next = source.take(1).await;
    assert_eq!(seq(&next[0]), 51);
    deliver(next);
    source.stop().await.expect("a good end");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_past_an_ack_that_is_withheld() {
    let (topic, group) = (topic(1, &[]).await, group());
    publish(&topic, 0, &values(0..20)).await;
    let mut run = Run::new();
    run.context.grace = std::time::Duration::from_secs(2);
    let mut source = RunningSource::start_as(run, &options(&topic, &group)).await;
    let mut all = source.take(20).await;
    let withheld = all.remove(7);
    deliver(all);
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(7)]);
    drop(withheld);

    let mut source = RunningSource::start(&options(&topic, &group)).await;
    let rest = source.take(13).await;
    assert_eq!(rest.iter().map(seq).collect::<Vec<_>>(), (8..=20).collect::<Vec<_>>());
    deliver(rest);
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(20)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_ack_has_the_messages_read_again() {
    let (topic, group) = (topic(1, &[]).await, group());
    publish(&topic, 0, &values(0..20)).await;
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    let mut all = source.take(20).await;
    all.remove(5).ack.fail();
    deliver(all);
    let again = source.take(15).await;
    assert_eq!(again.iter().map(seq).collect::<Vec<_>>(), (6..=20).collect::<Vec<_>>());
    deliver(again);
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(20)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_holds_back_and_goes_on() {
    let (topic, group) = (topic(2, &[]).await, group());
    publish(&topic, 0, &values(0..500)).await;
    publish(&topic, 1, &values(500..1_000)).await;
    let options = format!("{}\nmax-in-flight 50", options(&topic, &group));
    let mut source = RunningSource::start(&options).await;
    let mut seen = BTreeSet::new();
    let mut held: Vec<Envelope> = Vec::new();
    while seen.len() < 1_000 {
        // A window that was full takes more when half of it is free again.
        if held.len() >= 25 {
            deliver(std::mem::take(&mut held));
        }
        let batch = source.recv().await.expect("the source goes on");
        assert!(held.len() + batch.len() <= 50, "more is under way than may be");
        for envelope in batch {
            assert!(seen.insert(seq(&envelope)), "read twice");
            held.push(envelope);
        }
    }
    deliver(held);
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 2), [Some(500), Some(500)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_were_deleted_before_they_were_read_are_a_reported_gap() {
    let (topic, group) = (topic(1, &[]).await, group());
    publish(&topic, 0, &values(0..5)).await;
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    deliver(source.take(5).await);
    source.stop().await.expect("a good end");
    publish(&topic, 0, &values(5..20)).await;
    delete_before(&topic, 0, 12).await;
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    let rest = source.take(8).await;
    assert_eq!(seq(&rest[0]), 13);
    deliver(rest);
    until_logged(&topic, "WARN").await;
    let source_counters = source.run.context.counters.clone();
    source.stop().await.expect("a good end");
    let lines = logged(&topic);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("partition=0 from=5 to=12 lost=7"), "{lines:?}");
    assert_eq!(source_counters.counts().missed, 7);
    assert_eq!(committed(&group, &topic, 1), [Some(20)]);
}

/// As after an unclean election: the log ends before where the group stands. Committed as it is, a later start would skip
/// what has come in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_went_back_takes_the_committed_offset_with_it() {
    let (topic, group) = (topic(1, &[]).await, group());
    publish(&topic, 0, &values(0..5)).await;
    commit(&group, &topic, 0, 1_000);
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    deliver(source.take(5).await);
    let gone_back = async {
        while committed(&group, &topic, 1) != [Some(5)] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone_back).await.expect("committed while it runs");
    publish(&topic, 0, &values(5..8)).await;
    deliver(source.take(3).await);
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(8)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_flows_on_with_its_place() {
    let (topic, group) = (topic(1, &[]).await, group());
    let good = encoded(&measurement(0));
    let newer = String::from_utf8(good.clone()).expect("UTF-8").replacen("\"v\":1", "\"v\":99", 1);
    let nul =
        String::from_utf8(good.clone()).expect("UTF-8").replacen("no descriptor", "no\\u0000descriptor", 1);
    let poison = [
        (b"no json".to_vec(), RejectedReason::NotJson),
        (Vec::new(), RejectedReason::Empty),
        (vec![0xff; 10], RejectedReason::NotUtf8),
        (b"{\"a\":1}".to_vec(), RejectedReason::NotOurs),
        (newer.into_bytes(), RejectedReason::NewerVersion),
        (nul.into_bytes(), RejectedReason::NulInText),
    ];
    let mut values: Vec<Vec<u8>> = poison.iter().map(|(value, _)| value.clone()).collect();
    values.push(good);
    publish(&topic, 0, &values).await;
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    let all = source.take(7).await;
    for (offset, (envelope, (value, reason))) in all.iter().zip(&poison).enumerate() {
        let Item::Rejected(Refused { rejected, place }) = &envelope.item else { panic!("{envelope:?}") };
        assert_eq!(place.as_ref().map(Place::origin).as_ref(), Some(&rejected.origin));
        assert_eq!((&rejected.bytes, rejected.reason), (value, *reason));
        assert_eq!(rejected.key.as_deref(), Some(b"key".as_slice()));
        assert_eq!(rejected.origin.offset, Some(offset as i64));
        assert_eq!(
            (rejected.origin.topic.as_deref(), rejected.origin.partition),
            (Some(topic.as_str()), Some(0))
        );
    }
    assert_eq!(seq(&all[6]), 1);
    deliver(all);
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn once_ends_where_the_topic_ended() {
    let (topic, group) = (topic(3, &[]).await, group());
    publish(&topic, 0, &values(0..700)).await;
    publish(&topic, 2, &values(700..710)).await;
    let mut source = RunningSource::start_as(Run::new().once(), &options(&topic, &group)).await;
    deliver(source.take(710).await);
    source.end().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 3), [Some(700), None, Some(10)]);

    // Nothing new: it ends at once.
    let mut source = RunningSource::start_as(Run::new().once(), &options(&topic, &group)).await;
    assert!(source.recv().await.is_none());
    source.end().await.expect("a good end");
}

#[tokio::test(flavor = "multi_thread")]
async fn once_reads_again_what_failed() {
    let (topic, group) = (topic(1, &[]).await, group());
    publish(&topic, 0, &values(0..10)).await;
    let mut source = RunningSource::start_as(Run::new().once(), &options(&topic, &group)).await;
    let mut all = source.take(10).await;
    drop(all.split_off(4));
    deliver(all);
    deliver(source.take(6).await);
    source.end().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(10)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_is_waited_for() {
    let (topic, group) = (format!("test.{}", Uuid::new_v4()), group());
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    make_topic(&topic, 1, &[]).await;
    publish(&topic, 0, &values(0..5)).await;
    deliver(source.take(5).await);
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_ends_the_start_when_nobody_waits() {
    let topic = format!("test.{}", Uuid::new_v4());
    let error = Run::new().fail_fast().source(&options(&topic, "g")).await.err().expect("no topic");
    assert!(error.is_transient());
    assert_eq!(error.to_string(), format!("the topic `{topic}` does not exist"));
}
