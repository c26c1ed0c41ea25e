//! Members come and go under load.

use std::collections::{BTreeMap, BTreeSet};

use monmon_stage::{Batch, Item};
use uuid::Uuid;

use crate::harness::{RunningSource, brokers, committed, encoded, measurement, publish, topic};

const PARTITIONS: i32 = 4;
const ROUNDS: u64 = 3;
/// How many messages each partition gets at a time.
const EACH: u64 = 250;

/// What the sinks behind both members have stored.
#[derive(Default)]
struct Store {
    times: BTreeMap<u64, usize>,
    published: u64,
}

impl Store {
    fn keep(&mut self, batch: Batch) {
        for envelope in batch {
            match &envelope.item {
                Item::Measurement(measured) => *self.times.entry(measured.measurement.seq).or_default() += 1,
                other => panic!("{other:?}"),
            }
            envelope.ack.deliver();
        }
    }

    async fn publish(&mut self, topic: &str) {
        for partition in 0..PARTITIONS {
            let numbers = self.published..self.published + EACH;
            publish(
                topic,
                partition,
                &numbers.map(|number| encoded(&measurement(number))).collect::<Vec<_>>(),
            )
            .await;
            self.published += EACH;
        }
    }

    fn is_complete(&self) -> bool {
        self.times.len() as u64 == self.published
    }
}

/// A second member joins, takes over while acks of the first are outstanding, and leaves while messages wait: again and
/// again. In the end everything is stored, and no more is committed than there was.
async fn members_come_and_go(assignment: &str) {
    let topic = topic(PARTITIONS, &[]).await;
    let group = format!("group.{}", Uuid::new_v4());
    let options = format!(
        "brokers \"{}\"\ntopic \"{topic}\"\ngroup \"{group}\"\nassignment \"{assignment}\"\nmax-in-flight 100",
        brokers()
    );
    let mut store = Store::default();
    let mut first = RunningSource::start(&options).await;
    for _ in 0..ROUNDS {
        store.publish(&topic).await;
        store.keep(first.recv().await.expect("the first reads"));
        // The first holds messages without an ack when the second takes partitions from it: both read them.
        let outstanding = first.recv().await.expect("the first reads");
        let mut second = RunningSource::start(&options).await;
        store.publish(&topic).await;
        store.keep(second.recv().await.expect("the second reads"));
        store.keep(outstanding);
        while !store.is_complete() {
            tokio::select! {
                batch = first.recv() => store.keep(batch.expect("the first goes on")),
                batch = second.recv() => store.keep(batch.expect("the second goes on")),
            }
        }
        store.publish(&topic).await;
        store.keep(second.recv().await.expect("the second reads"));
        let (left, batch) = tokio::join!(second.stop(), first.recv());
        left.expect("a good end");
        store.keep(batch.expect("the first reads"));
        while !store.is_complete() {
            store.keep(first.recv().await.expect("the first goes on"));
        }
    }
    first.stop().await.expect("a good end");
    assert_eq!(store.times.keys().copied().collect::<BTreeSet<_>>(), (1..=store.published).collect());
    assert!(store.times.values().any(|times| *times > 1), "nothing changed hands while it was outstanding");
    let end = (ROUNDS * 3 * EACH) as i64;
    assert_eq!(committed(&group, &topic, PARTITIONS), [Some(end); PARTITIONS as usize]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cooperative() {
    members_come_and_go("cooperative-sticky").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eager() {
    members_come_and_go("range").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_wants_another_assignment_is_refused() {
    let topic = topic(1, &[]).await;
    publish(&topic, 0, &[encoded(&measurement(0))]).await;
    let group = format!("group.{}", Uuid::new_v4());
    let options = |assignment: &str| {
        format!(
            "brokers \"{}\"\ntopic \"{topic}\"\ngroup \"{group}\"\nassignment \"{assignment}\"",
            brokers()
        )
    };
    let mut first = RunningSource::start(&options("cooperative-sticky")).await;
    first.take(1).await.into_iter().for_each(|envelope| envelope.ack.deliver());
    let second = RunningSource::start(&options("range")).await;
    let error = second.end().await.expect_err("the group has another assignment");
    assert!(!error.is_transient());
    assert_eq!(error.to_string(), "the consumer group cannot be joined");
    first.stop().await.expect("a good end");
}
