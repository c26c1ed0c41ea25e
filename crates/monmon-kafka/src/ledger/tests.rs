use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn commits(ledger: &Ledger) -> Vec<(i32, i64)> {
    ledger.to_commit().collect()
}

fn token(ledger: &mut Ledger, offset: i64) -> u64 {
    ledger.receive(0, offset, 10).expect("the partition is assigned")
}

#[test]
fn only_the_longest_delivered_prefix_is_committed() {
    let mut ledger = Ledger::default();
    ledger.assign(0, Some(5));
    let tokens: Vec<u64> = (5..9).map(|offset| token(&mut ledger, offset)).collect();
    assert_eq!(ledger.settle(tokens[1], true), Settled::Delivered);
    assert_eq!(commits(&ledger), []);
    ledger.settle(tokens[0], true);
    assert_eq!(commits(&ledger), [(0, 7)]);
    ledger.committed(0, 7);
    assert_eq!(commits(&ledger), []);
    ledger.settle(tokens[3], true);
    assert_eq!(commits(&ledger), []);
    ledger.settle(tokens[2], true);
    assert_eq!(commits(&ledger), [(0, 9)]);
    assert_eq!((ledger.in_flight(), ledger.in_flight_bytes()), (0, 0));
}

#[test]
fn after_a_failure_the_partition_is_read_again_from_its_first_undelivered_message() {
    let mut ledger = Ledger::default();
    ledger.assign(0, None);
    let tokens: Vec<u64> = (0..4).map(|offset| token(&mut ledger, offset)).collect();
    ledger.settle(tokens[0], true);
    assert_eq!(ledger.settle(tokens[2], false), Settled::Failed { partition: 0 });
    assert_eq!(ledger.restart(0), Some(1));
    // Fenced: what was on its way already is not taken, and old tokens only free their memory.
    assert_eq!(ledger.receive(0, 4, 10), None);
    assert_eq!(ledger.settle(tokens[1], true), Settled::Stale);
    assert_eq!(ledger.in_flight(), 1);
    assert_eq!(commits(&ledger), [(0, 1)]);
    assert_eq!(ledger.resume(0), Some(1));
    let again = token(&mut ledger, 1);
    ledger.settle(again, true);
    assert_eq!(commits(&ledger), [(0, 2)]);
}

#[test]
fn acks_of_a_revoked_partition_are_stale_also_when_it_comes_back() {
    let mut ledger = Ledger::default();
    ledger.assign(0, None);
    let old = token(&mut ledger, 0);
    ledger.revoke(0);
    ledger.assign(0, None);
    let new = token(&mut ledger, 0);
    assert_eq!(ledger.settle(old, true), Settled::Stale);
    assert_eq!(commits(&ledger), []);
    ledger.settle(new, true);
    assert_eq!(commits(&ledger), [(0, 1)]);
}

#[test]
fn offsets_that_do_not_come_are_a_gap_and_offsets_that_go_back_a_new_beginning() {
    let mut ledger = Ledger::default();
    ledger.assign(0, Some(10));
    let far = token(&mut ledger, 50);
    assert_eq!(ledger.take_gaps(), [(0, Gap { from: 10, to: 50 })]);
    assert_eq!(ledger.take_gaps(), []);
    let back = token(&mut ledger, 3);
    assert_eq!(ledger.settle(far, true), Settled::Stale);
    assert_eq!(commits(&ledger), []);
    ledger.settle(back, true);
    assert_eq!(commits(&ledger), [(0, 4)]);
}

/// How long each partition's log is in the model.
const LOG: i64 = 12;

#[derive(Clone, Copy, Debug)]
enum Act {
    Receive,
    Deliver,
    Fail,
    Restart,
    Resume,
    Commit,
    CommitLost,
    Revoke,
    Assign,
}

/// A broker, a group of one, and the stages behind.
#[derive(Default)]
struct Model {
    ledger: Ledger,
    /// Where the next poll reads, for assigned partitions.
    position: BTreeMap<i32, i64>,
    fenced: BTreeSet<i32>,
    committed: BTreeMap<i32, i64>,
    open: Vec<(u64, i32, i64)>,
    delivered: BTreeSet<(i32, i64)>,
}

impl Model {
    fn act(&mut self, act: Act, partition: i32, pick: usize) {
        match act {
            Act::Assign if !self.ledger.is_assigned(partition) => {
                let start = self.committed.get(&partition).copied();
                self.ledger.assign(partition, start);
                self.position.insert(partition, start.unwrap_or(0));
            }
            Act::Revoke => {
                self.ledger.revoke(partition);
                self.position.remove(&partition);
                self.fenced.remove(&partition);
            }
            Act::Receive => self.receive(partition),
            Act::Deliver | Act::Fail if !self.open.is_empty() => {
                let (token, partition, offset) = self.open.swap_remove(pick % self.open.len());
                self.settle(token, partition, offset, matches!(act, Act::Deliver));
            }
            Act::Restart => self.restart(partition),
            Act::Resume if self.fenced.remove(&partition) => {
                let from = self.ledger.resume(partition).expect("a fenced partition has a place");
                self.position.insert(partition, from);
            }
            Act::Commit => {
                for (partition, offset) in self.ledger.to_commit().collect::<Vec<_>>() {
                    self.committed.insert(partition, offset);
                    self.ledger.committed(partition, offset);
                }
            }
            // The broker took it; the answer never came.
            Act::CommitLost => self.committed.extend(self.ledger.to_commit()),
            _ => {}
        }
    }

    fn receive(&mut self, partition: i32) {
        let Some(position) = self.position.get_mut(&partition).filter(|position| **position < LOG) else {
            return;
        };
        if let Some(token) = self.ledger.receive(partition, *position, 1) {
            self.open.push((token, partition, *position));
        }
        *position += 1;
    }

    fn settle(&mut self, token: u64, partition: i32, offset: i64, delivered: bool) {
        if delivered {
            self.delivered.insert((partition, offset));
        }
        if let Settled::Failed { partition } = self.ledger.settle(token, delivered) {
            self.restart(partition);
        }
    }

    fn restart(&mut self, partition: i32) {
        if self.ledger.restart(partition).is_some() {
            self.fenced.insert(partition);
        }
    }

    /// Nothing that is committed, or would be, is undelivered; memory is counted right.
    fn check(&self) -> Result<(), TestCaseError> {
        let all = self.committed.iter().map(|(partition, offset)| (*partition, *offset));
        for (partition, offset) in all.chain(self.ledger.to_commit()) {
            for before in 0..offset {
                prop_assert!(
                    self.delivered.contains(&(partition, before)),
                    "{partition}: {before} before {offset}"
                );
            }
        }
        let windows: usize = self.ledger.partitions.values().map(|held| held.window.len()).sum();
        prop_assert_eq!(self.ledger.remembered(), windows);
        prop_assert_eq!(self.ledger.in_flight(), self.open.len());
        prop_assert_eq!(self.ledger.in_flight_bytes(), self.open.len());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: what is committed was delivered; and once the trouble is over, everything is.
    #[test]
    fn nothing_is_committed_before_it_is_delivered(acts in prop::collection::vec(
        (prop::sample::select(vec![
            Act::Receive, Act::Receive, Act::Receive, Act::Deliver, Act::Deliver, Act::Fail, Act::Restart,
            Act::Resume, Act::Commit, Act::CommitLost, Act::Revoke, Act::Assign,
        ]), 0..3, any::<usize>()),
        0..200,
    )) {
        let mut model = Model::default();
        for (act, partition, pick) in acts {
            model.act(act, partition, pick);
            model.check()?;
        }
        let zero = 0;
        for partition in 0..3 {
            model.act(Act::Assign, partition, zero);
            model.act(Act::Resume, partition, zero);
            for _ in 0..LOG {
                model.act(Act::Receive, partition, zero);
            }
        }
        while !model.open.is_empty() {
            model.act(Act::Deliver, 0, zero);
        }
        model.act(Act::Commit, 0, zero);
        model.check()?;
        for partition in 0..3 {
            prop_assert_eq!(model.committed.get(&partition), Some(&LOG));
        }
    }
}

#[test]
fn a_topic_made_anew_is_read_from_its_beginning_and_takes_the_groups_place_along() {
    let mut ledger = Ledger::default();
    ledger.assign(0, Some(20));
    let old = token(&mut ledger, 20);
    ledger.begin_anew(0);
    // What librdkafka has read ahead of the new topic, where it was in the old one.
    assert_eq!(ledger.receive(0, 21, 10), None);
    assert_eq!(ledger.settle(old, true), Settled::Stale);
    assert_eq!(ledger.to_commit_backwards().collect::<Vec<_>>(), [(0, 0)]);
    assert_eq!(ledger.resume(0), Some(0));
    let first = token(&mut ledger, 0);
    ledger.settle(first, true);
    assert_eq!(ledger.to_commit_backwards().collect::<Vec<_>>(), [(0, 1)]);
    assert_eq!((ledger.take_gaps(), ledger.take_went_back()), (Vec::new(), Vec::new()));
}

#[test]
fn a_log_that_went_back_is_told_once() {
    let mut ledger = Ledger::default();
    ledger.assign(0, Some(20));
    token(&mut ledger, 3);
    token(&mut ledger, 4);
    assert_eq!(ledger.take_went_back(), [(0, WentBack { expected: 20, came: 3 })]);
    assert_eq!(ledger.take_went_back(), []);
}

#[test]
fn what_is_delivered_behind_one_that_is_stuck_is_counted_until_that_one_is_delivered() {
    let mut ledger = Ledger::default();
    ledger.assign(0, None);
    let stuck = token(&mut ledger, 0);
    for offset in 1..100 {
        let behind = token(&mut ledger, offset);
        ledger.settle(behind, true);
    }
    assert_eq!((ledger.in_flight(), ledger.remembered()), (1, 100));
    ledger.settle(stuck, true);
    assert_eq!((ledger.in_flight(), ledger.remembered()), (0, 0));
}

#[test]
fn what_is_under_way_gets_older_until_it_is_settled() {
    let mut ledger = Ledger::default();
    ledger.assign(0, None);
    assert_eq!(ledger.oldest_ms(), None);
    ledger.tell_time(100);
    let first = token(&mut ledger, 0);
    ledger.tell_time(400);
    token(&mut ledger, 1);
    ledger.tell_time(1_000);
    assert_eq!(ledger.oldest_ms(), Some(900));
    ledger.settle(first, true);
    assert_eq!(ledger.oldest_ms(), Some(600));
}
