//! What the run found out: the newest outcome of each check, and how many of each there were.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{Check, Measurement, Outcome, Reason};
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
    /// Whether anyone will ask for checks by name: of a run that goes on there is nobody, and many checks take much memory.
    named: bool,
    /// By check.
    newest: BTreeMap<Uuid, Newest>,
    counts: BTreeMap<Outcome, u64>,
}

#[derive(Debug)]
struct Newest {
    measurement: Uuid,
    /// The slot and the attempt.
    made: (Timestamp, u32),
    verdict: Verdict,
}

/// A check's newest outcome.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub check: Arc<Check>,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub scheduled_at: Timestamp,
    /// How long the measurement took; nothing if it was not made.
    pub duration: Option<Duration>,
    /// When the site's certificate ends.
    pub certificate_ends: Option<Timestamp>,
}

impl Verdicts {
    /// `named`: whether the newest outcome of each check is kept.
    pub(crate) fn new(named: bool) -> Verdicts {
        Verdicts { inner: Mutex::new(Inner { named, ..Inner::default() }) }
    }

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

    /// The newest outcome of each check whose newest outcome is this one; none of a run that is not `Mode::Once`.
    pub fn with(&self, outcome: Outcome) -> Vec<Verdict> {
        let inner = self.lock();
        let verdicts = inner.newest.values().map(|newest| &newest.verdict);
        verdicts.filter(|verdict| verdict.outcome == outcome).cloned().collect()
    }

    /// The newest outcomes of at most so many checks, in the order of their ids, and how many checks there are.
    pub fn newest(&self, max: usize) -> (Vec<Verdict>, usize) {
        let inner = self.lock();
        let verdicts = inner.newest.values().take(max).map(|newest| newest.verdict.clone());
        (verdicts.collect(), inner.newest.len())
    }

    /// How many measurements had this outcome. Where they reach sinks both with and without passing a transform, each way
    /// counts: on each the outcome may be another.
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
        if !self.named {
            return;
        }
        let check = &measurement.check;
        let made = (measurement.scheduled_at, measurement.attempt);
        let outcome = measurement.outcome;
        match self.newest.get(&check.id) {
            Some(newest) if newest.made > made => return,
            // The same, come another way: what was found wrong on any way holds.
            Some(newest) if newest.measurement == measurement.id && newest.verdict.outcome >= outcome => {
                return;
            }
            None if self.newest.len() >= CHECKS_MAX => return,
            _ => {}
        }
        let certificate = measurement.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        let verdict = Verdict {
            check: Arc::clone(check),
            outcome,
            reason: reason(measurement),
            scheduled_at: measurement.scheduled_at,
            duration: measurement.started_at.map(|_| Duration::from_micros(measurement.timings.total_us)),
            certificate_ends: certificate.map(|certificate| certificate.not_after),
        };
        self.newest.insert(check.id, Newest { measurement: measurement.id, made, verdict });
    }
}

fn reason(measurement: &Measurement) -> Option<String> {
    measurement.reason.as_ref().map(|reason| Reason::message(reason).to_owned())
}

#[cfg(test)]
mod tests {
    use monmon_stage::Ack;
    use monmon_testkit::stages::measurement;

    use super::*;

    fn newest(seen: &[(u64, Outcome)]) -> Outcome {
        let verdicts = Verdicts::new(true);
        for (seq, outcome) in seen {
            let mut measurement = measurement("a", *seq);
            measurement.outcome = *outcome;
            verdicts.look(&[Envelope::measurement(measurement, None, Ack::ignored())]);
        }
        let of = |outcome: &Outcome| !verdicts.with(*outcome).is_empty();
        let found: Vec<Outcome> = Outcome::ALL.into_iter().filter(of).collect();
        assert_eq!(found.len(), 1, "one check has one newest outcome");
        found[0]
    }

    #[test]
    fn the_newest_slot_counts_and_its_worst_outcome() {
        use Outcome::{Down, Up};
        assert_eq!(newest(&[(1, Down), (2, Up)]), Up);
        assert_eq!(newest(&[(1, Up), (2, Down)]), Down);
        // A slow branch brings old slots.
        assert_eq!(newest(&[(1, Up), (2, Up), (1, Down)]), Up);
        // One branch has a matcher, the other has not; whichever comes first.
        assert_eq!(newest(&[(1, Up), (1, Down)]), Down);
        assert_eq!(newest(&[(1, Down), (1, Up)]), Down);
    }
}
