//! The detector as a whole: slots in, incidents out.

mod clocks;
mod heirs;
mod kills;
mod tables;
mod written;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use monmon_model::{Check, Event, Incident, Measurement, Outcome, Prober, Reason, check_id, measurement_id};
use monmon_stage::{Batch, Envelope, Item, Transform};
use monmon_testkit::stages::{AckBook, measurement, stage_context};
use uuid::Uuid;

use crate::file::StateFile;
use crate::policy::Policy;
use crate::transform::Detector;

/// Slots of these tests are ten seconds apart.
pub(crate) const STEP: i64 = 10;

pub(crate) fn detector(policy: &Policy, file: Option<Arc<Mutex<StateFile>>>) -> Detector {
    Detector::new(Arc::new(policy.clone()), stage_context("outages"), file, None)
}

pub(crate) fn memory() -> Arc<Mutex<StateFile>> {
    Arc::new(Mutex::new(StateFile::open(":memory:".as_ref()).expect("a database in memory")))
}

pub(crate) fn at(slot: i64) -> Timestamp {
    let first: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
    first + SignedDuration::from_secs(slot * STEP)
}

/// Which slot an instant is.
pub(crate) fn slot_of(instant: Timestamp) -> i64 {
    instant.duration_since(at(0)).as_secs() / STEP
}

/// A measurement of a slot, by a letter: `u`p, `d`own, de`g`raded, un`k`nown, and `D`own in maintenance.
pub(crate) fn made(check: &str, prober: &str, slot: i64, attempt: u32, letter: char) -> Measurement {
    let mut made = measurement(check, 1);
    let id = check_id("test", "source", check);
    let prober_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, prober.as_bytes());
    made.check = Arc::new(Check { interval_us: 1_000_000 * STEP as u64, ..(*made.check).clone() });
    made.prober = Arc::new(Prober { id: prober_id, name: prober.to_owned(), ..(*made.prober).clone() });
    made.scheduled_at = at(slot);
    made.attempt = attempt;
    made.id = measurement_id(prober_id, id, at(slot), attempt);
    made.error = None;
    made.reason = None;
    made.outcome = match letter {
        'u' => Outcome::Up,
        'g' => Outcome::Degraded,
        'k' => Outcome::Unknown,
        'd' | 'D' => Outcome::Down,
        other => panic!("`{other}` is no outcome"),
    };
    if made.outcome == Outcome::Down {
        let message = format!("slot {slot} is bad");
        made.reason = Some(Reason::Expectation { name: "status".to_owned(), message });
    }
    if letter == 'D' {
        made.details_mut().maintenance = Some("nightly".to_owned());
    }
    made
}

/// What a store has that was told all of it, in whatever order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Store(pub(crate) BTreeMap<Uuid, Incident>);

impl Store {
    pub(crate) fn put(&mut self, incident: &Incident) {
        let known = self.0.entry(incident.id).or_insert_with(|| incident.clone());
        if known.closed_at.is_none() && incident.revision > known.revision {
            *known = incident.clone();
        }
    }
}

/// The incidents of a batch that went through.
pub(crate) fn incidents(batch: &Batch) -> Vec<&Incident> {
    batch
        .iter()
        .filter_map(|envelope| match &envelope.item {
            Item::Event(reported) => match &*reported.event {
                Event::Incident(incident) => Some(incident),
                Event::Receipt(_) => None,
            },
            _ => None,
        })
        .collect()
}

/// Lets measurements through one by one; what was told is delivered at once.
pub(crate) fn run(policy: &Policy, measurements: Vec<Measurement>) -> Vec<Incident> {
    let book = AckBook::new();
    let mut detector = detector(policy, Some(memory()));
    let mut told = Vec::new();
    for (token, measurement) in (1..).zip(measurements) {
        let mut batch = vec![Envelope::measurement(measurement, None, book.ack(token))];
        detector.apply(&mut batch);
        told.extend(incidents(&batch).into_iter().cloned());
        batch.into_iter().for_each(|envelope| envelope.ack.deliver());
    }
    assert!(book.failed().is_empty());
    told
}
