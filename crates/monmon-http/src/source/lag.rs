//! How late this process itself is. Where it gets no processor, time runs out for checks whose sites have answered long ago;
//! whoever is late himself can't tell that from a site that says nothing.

use std::time::Duration;

use tokio::time::Instant;

/// For so many seconds it is known how late we were.
const SECONDS: usize = 128;
/// A check may have begun a little earlier than its timeout ago.
const BEFORE: Duration = Duration::from_secs(1);
/// We explain what ran out of time when we were once late by this share of that time.
const SHARE: u32 = 4;

pub(crate) struct Lag {
    begun: Instant,
    /// The worst of each second, in a ring.
    worst: [Duration; SECONDS],
    newest: usize,
}

impl Lag {
    pub(crate) fn new(begun: Instant) -> Lag {
        Lag { begun, worst: [Duration::ZERO; SECONDS], newest: 0 }
    }

    /// At `now` it was somebody's turn whose turn it was at `due`.
    pub(crate) fn note(&mut self, now: Instant, due: Instant) {
        let second = self.second(now).max(self.newest);
        for missed in (self.newest + 1..=second).take(SECONDS) {
            self.worst[missed % SECONDS] = Duration::ZERO;
        }
        self.newest = second;
        let worst = &mut self.worst[second % SECONDS];
        *worst = (*worst).max(now.saturating_duration_since(due));
    }

    /// Whether a check that ran out of this time just now may have done so for our sake.
    pub(crate) fn explains(&self, now: Instant, timeout: Duration) -> bool {
        let since = now.checked_sub(timeout + BEFORE).unwrap_or(self.begun);
        let first = self.second(since).max((self.newest + 1).saturating_sub(SECONDS));
        let worst = (first..=self.newest).map(|second| self.worst[second % SECONDS]).max();
        worst.is_some_and(|worst| worst > timeout / SHARE)
    }

    fn second(&self, at: Instant) -> usize {
        usize::try_from(at.saturating_duration_since(self.begun).as_secs()).unwrap_or(usize::MAX / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_lateness_within_the_time_of_the_check_explains_its_end() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let second = Duration::from_secs(1);
        let mut lag = Lag::new(begun);
        assert!(!lag.explains(at(0), second));
        lag.note(at(5_000), at(4_900));
        assert!(!lag.explains(at(5_100), second), "a tenth of its time");
        lag.note(at(6_000), at(5_600));
        assert!(lag.explains(at(6_100), second));
        assert!(!lag.explains(at(6_100), 4 * second));
        lag.note(at(7_500), at(7_500));
        assert!(lag.explains(at(7_900), second), "within its time, and a little more");
        lag.note(at(9_000), at(9_000));
        assert!(!lag.explains(at(9_000), second), "long ago");
        lag.note(at(1_000_000), at(999_000));
        assert!(lag.explains(at(1_000_000), second));
        lag.note(at(2_000_000), at(2_000_000));
        assert!(!lag.explains(at(2_000_000), 100 * second), "what is older was forgotten");
    }
}
