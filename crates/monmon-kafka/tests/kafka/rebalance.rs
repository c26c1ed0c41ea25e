//! Members come and go under load.

use std::collections::{BTreeMap, BTreeSet};

use monmon_stage::{Envelope, Item};
use uuid::Uuid;

use crate::harness::{RunningSource, brokers, committed, encoded, measurement, publish, topic};

const PARTITIONS: i32 = 4;
const EACH: u64 = 3_000;

fn numbers(envelopes: &[Envelope]) -> Vec<u64> {
    let number = |envelope: &Envelope| match &envelope.item {
        Item::Measurement(measured) => measured.measurement.seq,
        Item::Rejected(rejected) => panic!("{rejected:?}"),
    };
    envelopes.iter().map(number).collect()
}

/// One member reads from the start to the end; a second one joins and leaves again and again. What is acked counts as
/// stored. In the end everything is stored and committed, and no more was read twice than a rebalance may cost.
async fn members_come_and_go(assignment: &str) {
    let topic = topic(PARTITIONS, &[]).await;
    let group = format!("group.{}", Uuid::new_v4());
    for partition in 0..PARTITIONS {
        let first = u64::from(partition.unsigned_abs()) * EACH;
        let values: Vec<_> = (first..first + EACH).map(|number| encoded(&measurement(number))).collect();
        publish(&topic, partition, &values).await;
    }
    let options = format!(
        "brokers \"{}\"\ntopic \"{topic}\"\ngroup \"{group}\"\nassignment \"{assignment}\"\nmax-in-flight 100",
        brokers()
    );
    let all = u64::from(PARTITIONS.unsigned_abs()) * EACH;
    let mut stored: BTreeMap<u64, usize> = BTreeMap::new();
    let mut by_second = 0;
    let mut first = RunningSource::start(&options).await;
    let mut second: Option<RunningSource> = None;
    while (stored.len() as u64) < all {
        let batch = match &mut second {
            Some(other) => {
                tokio::select! {
                    batch = first.recv() => batch.expect("the first goes on"),
                    batch = other.recv() => {
                        let batch = batch.expect("the second goes on");
                        by_second += batch.len();
                        batch
                    }
                }
            }
            None => first.recv().await.expect("the first goes on"),
        };
        for number in numbers(&batch) {
            *stored.entry(number).or_default() += 1;
        }
        batch.into_iter().for_each(|envelope| envelope.ack.deliver());
        second = match second {
            None if (stored.len() as u64) < all => Some(RunningSource::start(&options).await),
            // It has had its share: it leaves, with acks of the first outstanding.
            Some(other) if by_second > 500 => {
                by_second = 0;
                let (left, ()) = tokio::join!(other.stop(), async {
                    if let Some(batch) = first.recv().await {
                        for number in numbers(&batch) {
                            *stored.entry(number).or_default() += 1;
                        }
                        batch.into_iter().for_each(|envelope| envelope.ack.deliver());
                    }
                });
                left.expect("a good end");
                None
            }
            second => second,
        };
    }
    if let Some(second) = second {
        second.stop().await.expect("a good end");
    }
    first.stop().await.expect("a good end");
    let expected: BTreeSet<u64> = (1..=all).collect();
    assert_eq!(stored.keys().copied().collect::<BTreeSet<_>>(), expected);
    for offset in committed(&group, &topic, PARTITIONS).into_iter().flatten() {
        assert!(offset <= EACH as i64, "{offset} is past the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cooperative() {
    members_come_and_go("cooperative-sticky").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eager() {
    members_come_and_go("range").await;
}
