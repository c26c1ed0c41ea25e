//! The group's place in the log, and the member's place in the group, when either is pulled away.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::harness::{
    PATIENCE, RunningSource, brokers, committed, deliver, logged, make_topic_anew, publish, seq, topic,
    until, values,
};

fn options(topic: &str, group: &str) -> String {
    format!("brokers \"{}\"\ntopic \"{topic}\"\ngroup \"{group}\"", brokers())
}

fn group() -> String {
    format!("group.{}", Uuid::new_v4())
}

/// The new topic has more messages than the old one had when the reader comes to look: where it was in the old one is a
/// good offset in the new one, and what stands before it must not count as read.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_read_from_its_beginning_however_much_it_holds() {
    let (topic, group) = (topic(1, &[]).await, group());
    publish(&topic, 0, &values(0..20)).await;
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    deliver(source.take(20).await);
    until("the place in the old topic is committed", || committed(&group, &topic, 1) == [Some(20)]).await;
    make_topic_anew(&topic, 1).await;
    publish(&topic, 0, &values(1_000..1_060)).await;
    let mut seen = BTreeSet::new();
    let all: BTreeSet<u64> = (1_001..=1_060).collect();
    while seen != all {
        for envelope in source.recv().await.expect("the source goes on") {
            assert!(seq(&envelope) > 1_000, "of the old topic");
            seen.insert(seq(&envelope));
            envelope.ack.deliver();
        }
    }
    until("the place in the new topic is committed", || committed(&group, &topic, 1) == [Some(60)]).await;
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(60)]);
    let lines = logged(&topic);
    assert!(lines.iter().any(|line| line.contains("deleted and made anew")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_with_less_in_it_is_read_from_its_beginning() {
    let (topic, group) = (topic(1, &[]).await, group());
    publish(&topic, 0, &values(0..50)).await;
    let mut source = RunningSource::start(&options(&topic, &group)).await;
    deliver(source.take(50).await);
    until("the place in the old topic is committed", || committed(&group, &topic, 1) == [Some(50)]).await;
    make_topic_anew(&topic, 1).await;
    publish(&topic, 0, &values(1_000..1_005)).await;
    let mut seen = BTreeSet::new();
    while seen.len() < 5 {
        for envelope in source.recv().await.expect("the source goes on") {
            assert!(seq(&envelope) > 1_000, "of the old topic");
            seen.insert(seq(&envelope));
            envelope.ack.deliver();
        }
    }
    until("the place in the new topic is committed", || committed(&group, &topic, 1) == [Some(5)]).await;
    source.stop().await.expect("a good end");
}

/// The store takes nothing for longer than librdkafka waits for a poll: partitions are paused and polling goes on. The
/// lag grows meanwhile, and is seen to.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_nothing_for_long_costs_no_membership() {
    let (topic, group) = (topic(1, &[]).await, group());
    publish(&topic, 0, &values(0..100)).await;
    let slow = "session-timeout \"6s\"\nproperty \"max.poll.interval.ms\" \"6000\"\nmax-in-flight 50";
    let mut source = RunningSource::start(&format!("{}\n{slow}", options(&topic, &group))).await;
    let held = source.take(50).await;
    let counters = source.run.context.counters.clone();
    // Ends are asked for every few seconds while partitions are paused: three times take longer than six seconds.
    for more in 0..3 {
        let published = 100 + more * 10;
        publish(&topic, 0, &values(published..published + 10)).await;
        until("the lag is seen", || counters.state().lag() == Some(published + 10)).await;
    }
    deliver(held);
    let mut stored = 50;
    while stored < 130 {
        let batch = source.recv().await.expect("the source goes on");
        stored += batch.len();
        deliver(batch);
    }
    assert_eq!(stored, 130, "nothing was read twice");
    until("there is no lag", || counters.state().lag() == Some(0)).await;
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(130)]);
    assert!(!logged(&topic).iter().any(|line| line.contains("the group went on without us")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_of_the_same_name_takes_over_and_the_first_says_why_it_ends() {
    let (topic, group) = (topic(2, &[]).await, group());
    publish(&topic, 0, &values(0..10)).await;
    let options = format!("{}\ngroup-instance-id \"one\"", options(&topic, &group));
    let mut first = RunningSource::start(&options).await;
    deliver(first.take(10).await);
    let mut second = RunningSource::start(&options).await;
    let ended = tokio::time::timeout(PATIENCE, first.end()).await.expect("the first ends");
    let error = ended.expect_err("its name is another's");
    assert!(!error.is_transient());
    assert!(error.to_string().contains("`group-instance-id`"), "{error}");
    assert!(error.help_text().is_some());
    publish(&topic, 1, &values(10..20)).await;
    let mut seen = BTreeSet::new();
    // What the first had not committed yet comes again.
    while !(11..=20).all(|number| seen.contains(&number)) {
        let batch = second.recv().await.expect("the second goes on");
        seen.extend(batch.iter().map(seq));
        deliver(batch);
    }
    second.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 2), [Some(10), Some(10)]);
}

/// The session is longer than any test waits: only the same name gets the partitions of a member that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_a_name_goes_on_where_it_was_after_a_restart() {
    let (topic, group) = (topic(1, &[]).await, group());
    let options = format!("{}\nsession-timeout \"10m\"\ngroup-instance-id \"one\"", options(&topic, &group));
    publish(&topic, 0, &values(0..10)).await;
    let mut source = RunningSource::start(&options).await;
    deliver(source.take(10).await);
    source.stop().await.expect("a good end");
    assert_eq!(committed(&group, &topic, 1), [Some(10)]);
    publish(&topic, 0, &values(10..20)).await;
    let mut source = RunningSource::start(&options).await;
    let next = source.take(10).await;
    assert_eq!(seq(&next[0]), 11);
    deliver(next);
    source.stop().await.expect("a good end");
}
