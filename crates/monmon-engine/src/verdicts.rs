//! What the run found out: the newest outcome of each check, and how many of each there were.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use monmon_model::{Measurement, Outcome, Reason};
use monmon_stage::{Envelope, Item, Tap};
use uuid::Uuid;

/// Most checks whose newest outcome is kept by name; those past it are counted only.
const CHECKS_MAX: usize = 200_000;

/// Filled by taps on the edges that lead into sinks.
#[derive(Debug, Default)]
pub struct Verdicts {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    newest: BTreeMap<Uuid, Verdict>,
    counts: BTreeMap<Outcome, u64>,
}

/// A check's newest outcome.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub check: String,
    pub outcome: Outcome,
    pub reason: Option<String>,
}

impl Verdicts {
    pub(crate) fn tap(self: &Arc<Verdicts>) -> Tap {
        let verdicts = Arc::clone(self);
        Arc::new(move |batch: &[Envelope]| verdicts.look(batch))
    }

    fn look(&self, batch: &[Envelope]) {
        let mut inner = self.lock();
        for envelope in batch {
            if let Item::Measurement(measured) = &envelope.item {
                inner.add(&measured.measurement);
            }
        }
    }

    /// The newest outcome of each check whose newest outcome is this one.
    pub fn with(&self, outcome: Outcome) -> Vec<Verdict> {
        self.lock().newest.values().filter(|verdict| verdict.outcome == outcome).cloned().collect()
    }

    /// How many measurements had this outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.lock().counts.get(&outcome).copied().unwrap_or(0)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A tap that panicked leaves counts that are at worst one short.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, measurement: &Measurement) {
        *self.counts.entry(measurement.outcome).or_default() += 1;
        let check = &measurement.check;
        let room = self.newest.len() < CHECKS_MAX;
        if room || self.newest.contains_key(&check.id) {
            let outcome = measurement.outcome;
            let verdict = Verdict { check: check.name.clone(), outcome, reason: reason(measurement) };
            self.newest.insert(check.id, verdict);
        }
    }
}

fn reason(measurement: &Measurement) -> Option<String> {
    measurement.reason.as_ref().map(|reason| Reason::message(reason).to_owned())
}
