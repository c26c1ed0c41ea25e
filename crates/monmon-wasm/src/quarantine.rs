//! A plugin that fails time after time is left alone for a while, and what it may use of its thread has a bound.

use std::time::{Duration, Instant};

use monmon_stage::Backoff;

/// So many faults in a row, and the plugin is left alone.
pub const FAULTS_MAX: u32 = 5;
/// For how long at first, and at most; each time twice as long, less a random part.
const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(300);

/// Share of its thread that a plugin may use in the long run, while pages wait for it.
const BUSY_SHARE: f64 = 0.5;
/// What it may use beyond that for a while.
const BUSY_BURST_SECONDS: f64 = 1.0;
/// So many pages wait when a plugin is too slow for them.
pub(crate) const BACKLOG_MAX: usize = 256;

/// Whether a plugin may be called.
#[derive(Debug)]
pub(crate) struct Quarantine {
    /// In a row.
    faults: u32,
    until: Option<Instant>,
    backoff: Backoff,
}

/// What a fault or a success changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// It is left alone from now on, for so long.
    Begun(Duration),
    Over,
}

impl Quarantine {
    pub(crate) fn new(seed: u64) -> Quarantine {
        Quarantine { faults: 0, until: None, backoff: Backoff::between(FIRST, LONGEST, seed) }
    }

    /// How long it is still left alone.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
    }

    pub(crate) fn fault(&mut self, now: Instant) -> Change {
        self.faults += 1;
        // Whoever fails the first try after a quarantine has not mended its ways.
        if self.faults < FAULTS_MAX && self.until.is_none() {
            return Change::None;
        }
        let wait = self.backoff.wait();
        self.until = Some(now + wait);
        Change::Begun(wait)
    }

    pub(crate) fn success(&mut self) -> Change {
        self.faults = 0;
        if self.until.take().is_none() {
            return Change::None;
        }
        self.backoff.reset();
        Change::Over
    }
}

/// What a plugin may use of its thread, so that a slow one can't pile up pages until there is no memory for any.
#[derive(Debug)]
pub(crate) struct Budget {
    /// In seconds; less than nothing after a long call.
    left: f64,
    at: Instant,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Budget {
        Budget { left: BUSY_BURST_SECONDS, at: now }
    }

    pub(crate) fn is_spent(&mut self, now: Instant) -> bool {
        let earned = now.duration_since(self.at).as_secs_f64() * BUSY_SHARE;
        self.left = (self.left + earned).min(BUSY_BURST_SECONDS);
        self.at = now;
        self.left <= 0.0
    }

    pub(crate) fn spend(&mut self, time: Duration) {
        self.left -= time.as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_a_row_are_what_counts() {
        let now = Instant::now();
        let mut quarantine = Quarantine::new(1);
        for _ in 1..FAULTS_MAX {
            assert_eq!(quarantine.fault(now), Change::None);
        }
        assert_eq!(quarantine.success(), Change::None);
        for _ in 1..FAULTS_MAX {
            assert_eq!(quarantine.fault(now), Change::None);
        }
        assert!(matches!(quarantine.fault(now), Change::Begun(_)));
        assert!(quarantine.left(now).is_some_and(|left| left <= FIRST));
        let later = now + FIRST;
        assert_eq!(quarantine.left(later), None);
        assert!(matches!(quarantine.fault(later), Change::Begun(_)), "one more try, and one more fault");
        assert_eq!(quarantine.success(), Change::Over);
        assert_eq!(quarantine.fault(later), Change::None);
    }

    #[test]
    fn a_quarantine_has_a_longest_time() {
        let now = Instant::now();
        let mut quarantine = Quarantine::new(1);
        for _ in 0..100 {
            quarantine.fault(now);
            assert!(quarantine.left(now).is_none_or(|left| left <= LONGEST));
        }
    }

    #[test]
    fn a_budget_is_spent_and_earned() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert!(!budget.is_spent(now));
        budget.spend(Duration::from_secs_f64(BUSY_BURST_SECONDS));
        assert!(budget.is_spent(now));
        assert!(!budget.is_spent(now + Duration::from_millis(100)));
        budget.spend(Duration::from_millis(51));
        assert!(budget.is_spent(now + Duration::from_millis(100)), "half of the time is for others");
    }
}
