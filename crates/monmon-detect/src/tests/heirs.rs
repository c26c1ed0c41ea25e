//! A consumer that dies, and another one that has nothing but the store of the incidents and reads from the last commit on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use monmon_model::{Incident, Measurement, Outcome, StoredIncident};
use monmon_stage::{Ack, Envelope, Transform};
use monmon_testkit::stages::stage_context;
use proptest::prelude::*;
use uuid::Uuid;

use super::{Store, incidents, made, slot_of};
use crate::policy::Policy;
use crate::recall::Recall;
use crate::transform::Detector;
use crate::watch::DetectorName;

type Shared = Arc<Mutex<Store>>;

struct Asked(Shared);

impl Recall for Asked {
    fn newest(&mut self, _: &DetectorName, checks: &[Uuid]) -> Option<Vec<StoredIncident>> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest: BTreeMap<Uuid, &Incident> = BTreeMap::new();
        for incident in store.0.values().filter(|incident| checks.contains(&incident.check.id)) {
            let known = newest.entry(incident.check.id).or_insert(incident);
            if incident.began_at > known.began_at {
                *known = incident;
            }
        }
        Some(newest.into_values().map(stored).collect())
    }
}

fn stored(incident: &Incident) -> StoredIncident {
    let one = incident.clone();
    StoredIncident {
        id: one.id,
        state: incident.state(),
        check_id: one.check.id,
        check: None,
        pipeline: one.pipeline,
        detector: one.detector,
        revision: one.revision,
        began_at: one.began_at,
        opened_at: one.opened_at,
        last_bad_at: one.last_bad_at,
        recovered_at: one.recovered_at,
        closed_at: one.closed_at,
        reason: one.reason,
        probers: one.probers,
        flapping: one.flapping,
        suppressed_by: one.suppressed_by,
    }
}

fn heir(policy: &Policy, store: &Shared) -> Detector {
    let recall: Box<dyn Recall> = Box::new(Asked(store.clone()));
    Detector::new(Arc::new(policy.clone()), stage_context("outages"), None, Some(recall))
}

/// Lets measurements through one by one; the store has at once what was told.
fn read(detector: &mut Detector, store: &Shared, measurements: &[Measurement]) {
    for one in measurements {
        let mut batch = vec![Envelope::measurement(one.clone(), None, Ack::ignored())];
        detector.apply(&mut batch);
        let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
        incidents(&batch).into_iter().for_each(|incident| store.put(incident));
        drop(store);
        batch.into_iter().for_each(|envelope| envelope.ack.deliver());
    }
}

/// When each incident began and was closed, by slots.
fn told(store: &Shared) -> Vec<(i64, Option<i64>)> {
    let store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let mut told: Vec<_> =
        store.0.values().map(|one| (slot_of(one.began_at), one.closed_at.map(slot_of))).collect();
    told.sort_unstable();
    told
}

fn row(prober: &str, letters: &str) -> Vec<Measurement> {
    (0..).zip(letters.chars()).map(|(slot, letter)| made("shop", prober, slot, 1, letter)).collect()
}

#[test]
fn slots_from_before_an_incident_do_not_close_it() {
    let (policy, store) = (Policy::default(), Shared::default());
    let log = row("berlin", "uuuudddduu");
    read(&mut heir(&policy, &store), &store, &log[..6]);
    assert_eq!(told(&store), [(4, None)]);
    let mut heir = heir(&policy, &store);
    read(&mut heir, &store, &log[..9]);
    assert_eq!(told(&store), [(4, None)]);
    read(&mut heir, &store, &log[9..]);
    assert_eq!(told(&store), [(4, Some(9))]);
}

#[test]
fn a_prober_that_found_the_check_down_is_asked_before_the_incident_is_closed() {
    let (policy, store) = (Policy::default(), Shared::default());
    let both: Vec<Measurement> = row("oslo", "uuuuuuuuuuuu")
        .into_iter()
        .zip(row("berlin", "uuuudddddduu"))
        .flat_map(|(oslo, berlin)| [oslo, berlin])
        .collect();
    read(&mut heir(&policy, &store), &store, &both[..12]);
    assert_eq!(told(&store), [(4, None)]);
    let mut heir = heir(&policy, &store);
    read(&mut heir, &store, &both[8..20]);
    assert_eq!(told(&store), [(4, None)]);
    read(&mut heir, &store, &both[20..]);
    assert_eq!(told(&store), [(4, Some(11))]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whoever dies when, and from wherever the heir reads: no incident is closed but by good slots behind its bad ones, none
    /// begins within another, and what is down in the end has one that is open.
    #[test]
    fn heirs_close_nothing_wrongly(
        (after, more, up) in (1usize..4, 0usize..3, 1usize..4),
        letters in "[ud]{1,60}",
        lives in prop::collection::vec((1usize..12, 0usize..12), 0..12),
    ) {
        let policy = Policy { down_after: after, down_of: after + more, up_after: up, ..Policy::default() };
        let log = row("berlin", &format!("{letters}{}", "d".repeat(after + more)));
        let store = Shared::default();
        let (mut committed, mut next) = (0, 0);
        let mut running = heir(&policy, &store);
        for (length, behind) in lives {
            let end = (next + length).min(log.len());
            read(&mut running, &store, &log[next..end]);
            committed = committed.max(end.saturating_sub(behind));
            next = committed;
            running = heir(&policy, &store);
        }
        read(&mut running, &store, &log[next..]);
        let store = store.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<&Incident> = store.0.values().collect();
        all.sort_by_key(|incident| incident.began_at);
        prop_assert!(all.last().is_some_and(|last| last.closed_at.is_none()), "{all:?}");
        for incident in &all {
            let Some(closed) = incident.closed_at else { continue };
            let within = |one: &&Measurement| (incident.began_at..=closed).contains(&one.scheduled_at);
            let last: Vec<&Measurement> = log.iter().filter(within).rev().take(up).collect();
            prop_assert!(last.len() == up && last.iter().all(|one| one.outcome == Outcome::Up), "{incident:?}");
        }
        for pair in all.windows(2) {
            prop_assert!(pair[0].closed_at.is_some_and(|closed| closed < pair[1].began_at), "{pair:?}");
        }
    }
}
