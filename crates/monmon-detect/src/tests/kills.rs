//! Whatever is killed when, and whatever is read again: the same incidents.

use std::collections::BTreeMap;

use monmon_model::{Incident, Measurement, Outcome};
use monmon_stage::{Ack, Envelope, Transform};
use monmon_testkit::stages::AckBook;
use proptest::prelude::*;
use uuid::Uuid;

use super::{Store, detector, incidents, made, memory};
use crate::policy::{Flapping, Policy};

/// What happens to a batch.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// All of it is delivered.
    Delivered,
    /// It is delivered, and the process is killed before it heard so.
    KilledBehind,
    /// The process is killed when only what was told, not the measurements, was delivered.
    KilledBetween,
    /// The process is killed before anything was delivered.
    KilledBefore,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Delivered),
        1 => Just(Fate::KilledBehind),
        1 => Just(Fate::KilledBetween),
        1 => Just(Fate::KilledBefore),
    ]
}

/// Reads a log of measurements in batches as a consumer does: from the last commit on after each kill.
fn consumed(policy: &Policy, log: &[Measurement], fates: &[(usize, Fate)]) -> Store {
    let file = memory();
    let mut store = Store::default();
    let mut fates = fates.iter().copied();
    let mut running = detector(policy, Some(file.clone()));
    let mut next = 0;
    while next < log.len() {
        let (size, fate) = fates.next().unwrap_or((3, Fate::Delivered));
        let end = (next + size.max(1)).min(log.len());
        let book = AckBook::new();
        let envelope = |(token, one): (usize, &Measurement)| {
            Envelope::measurement(one.clone(), None, book.ack(token as u64))
        };
        let mut batch: Vec<Envelope> = log[next..end].iter().enumerate().map(envelope).collect();
        running.apply(&mut batch);
        let told: Vec<Incident> = incidents(&batch).into_iter().cloned().collect();
        match fate {
            Fate::Delivered => {
                told.iter().for_each(|incident| store.put(incident));
                batch.into_iter().for_each(|envelope| envelope.ack.deliver());
                assert_eq!(book.delivered().len(), end - next, "an event's ack is part of its measurement's");
                next = end;
            }
            Fate::KilledBehind | Fate::KilledBetween | Fate::KilledBefore => {
                if !matches!(fate, Fate::KilledBefore) {
                    told.iter().for_each(|incident| store.put(incident));
                }
                if matches!(fate, Fate::KilledBehind) {
                    next = end;
                }
                // The file stays as it is: what is dropped in order would write to it once more.
                let acks: Vec<Ack> = batch.into_iter().map(|envelope| envelope.ack).collect();
                std::mem::forget(acks);
                std::mem::forget(running);
                running = detector(policy, Some(file.clone()));
            }
        }
    }
    // A killed process tells again with the next measurement of the check.
    let last: BTreeMap<Uuid, &Measurement> = log.iter().map(|one| (one.check.id, one)).collect();
    let mut batch: Vec<Envelope> =
        last.into_values().map(|one| Envelope::measurement(one.clone(), None, Ack::ignored())).collect();
    running.apply(&mut batch);
    incidents(&batch).into_iter().for_each(|incident| store.put(incident));
    batch.into_iter().for_each(|envelope| envelope.ack.deliver());
    store
}

fn policy() -> impl Strategy<Value = Policy> {
    (1usize..4, 0usize..3, 1usize..4, 1usize..3, prop::bool::ANY).prop_map(
        |(after, more, up, quorum, flaps)| Policy {
            down_after: after,
            down_of: after + more,
            up_after: up,
            quorum,
            flapping: flaps.then_some(Flapping { changes: 4, within_us: 300_000_000 }),
            ..Policy::default()
        },
    )
}

/// Slots of two checks and two probers, mostly in order, some of them twice or late.
fn log() -> impl Strategy<Value = Vec<Measurement>> {
    let one = (
        prop::sample::select(vec!["a", "b"]),
        prop::sample::select(vec!["x", "y"]),
        0i64..3,
        "[uuuddddk]",
        0usize..20,
    );
    prop::collection::vec(one, 1..120).prop_map(|made_of| {
        let mut log = Vec::new();
        for (place, (check, prober, back, letter, again)) in made_of.into_iter().enumerate() {
            let slot = (place as i64 / 3 - back).max(0);
            let letter = letter.chars().next().expect("a letter");
            let one = made(check, prober, slot, 1, letter);
            // What has one id is one measurement.
            let known = log.iter().find(|known: &&Measurement| known.id == one.id).cloned();
            log.push(known.unwrap_or(one));
            if again == 0 {
                let twice: Measurement = log[log.len() / 2].clone();
                log.push(twice);
            }
        }
        log
    })
}

/// Without bad slots that come behind newer ones of their check. Good slots of a check that nothing is wrong with are not
/// in the file, so that after a kill such a slot may be the newest that is known.
fn without_late_bad_ones(log: Vec<Measurement>) -> Vec<Measurement> {
    let mut newest = BTreeMap::new();
    let mut kept: Vec<Measurement> = Vec::new();
    for one in log {
        let newest = newest.entry(one.check.id).or_insert(one.scheduled_at);
        let is_late = one.scheduled_at < *newest;
        let is_known = kept.iter().any(|known| known.id == one.id);
        if one.outcome != Outcome::Down || !is_late || is_known {
            *newest = one.scheduled_at.max(*newest);
            kept.push(one);
        }
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// As if nothing had ever been killed.
    #[test]
    fn kills_and_replays_change_nothing(
        policy in policy(),
        log in log().prop_map(without_late_bad_ones),
        fates in prop::collection::vec((1usize..8, fate()), 0..60),
    ) {
        let calm = consumed(&policy, &log, &[]);
        let killed = consumed(&policy, &log, &fates);
        prop_assert_eq!(&killed, &calm);
        // Of one check at most one incident is open, and they follow each other.
        let mut by_check: BTreeMap<Uuid, Vec<&Incident>> = BTreeMap::new();
        for incident in calm.0.values() {
            by_check.entry(incident.check.id).or_default().push(incident);
        }
        for mut incidents in by_check.into_values() {
            incidents.sort_by_key(|incident| incident.opened_at);
            for pair in incidents.windows(2) {
                prop_assert!(pair[0].closed_at.is_some_and(|closed| closed < pair[1].began_at), "{pair:?}");
            }
        }
    }

    /// Everything read once more, in any order, after it was counted: nothing is told.
    #[test]
    fn what_was_counted_tells_nothing_new(policy in policy(), log in log(), order in any::<u64>()) {
        let mut running = detector(&policy, Some(memory()));
        let feed = |running: &mut crate::transform::Detector, one: &Measurement| {
            let mut batch = vec![Envelope::measurement(one.clone(), None, Ack::ignored())];
            running.apply(&mut batch);
            let told = incidents(&batch).len();
            batch.into_iter().for_each(|envelope| envelope.ack.deliver());
            told
        };
        for one in &log {
            feed(&mut running, one);
        }
        let mut again = log.clone();
        again.sort_by_key(|one| one.id.as_u64_pair().1 ^ order);
        for one in &again {
            prop_assert_eq!(feed(&mut running, one), 0);
        }
    }
}
