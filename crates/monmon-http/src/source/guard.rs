//! Whether the prober's own network is alive. Asked when a check could not be reached, not on a schedule: as long as all
//! is well it costs nothing, and its answer is never older than the failure that it is asked about.

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::probe::{Prober, Target};

pub(crate) struct Guard {
    references: Vec<Target>,
    known: Mutex<Known>,
}

/// What the references have said so far.
#[derive(Debug, Default)]
struct Known {
    /// When they were last asked, and whether one of them answered.
    last: Option<(Instant, bool)>,
    /// Since when one answers again, if none did before.
    well_since: Option<Instant>,
}

impl Known {
    /// What is known for a check that began at `since`; nothing if the references were not asked since then.
    fn of(&self, since: Instant) -> Option<bool> {
        let (_, alive) = self.last.filter(|(at, _)| *at >= since)?;
        // What began before the network was back may have failed of that, though it is back now.
        Some(alive && self.well_since.is_none_or(|well| since >= well))
    }

    /// They were asked at `at` and the answer was there at `now`.
    fn learn(&mut self, at: Instant, now: Instant, alive: bool) {
        if alive && self.last.is_some_and(|(_, was_alive)| !was_alive) {
            self.well_since = Some(now);
        }
        self.last = Some((at, alive));
    }
}

impl Guard {
    pub(crate) fn new(references: Vec<Target>) -> Guard {
        Guard { references, known: Mutex::default() }
    }

    /// Whether the network was well from `since` on, as far as the references tell: one answers, at some time after that,
    /// and it was not before then that none did. Whoever asks meanwhile waits for the same answer.
    pub(crate) async fn is_alive(&self, prober: &Prober, since: Instant) -> bool {
        let mut known = self.known.lock().await;
        if let Some(alive) = known.of(since) {
            return alive;
        }
        let at = Instant::now();
        let mut alive = false;
        for reference in &self.references {
            if prober.probe(reference).await.is_alive() {
                alive = true;
                break;
            }
        }
        if !alive {
            tracing::warn!(
                references = self.references.len(),
                "no reference answers: what cannot be reached is unknown"
            );
        }
        known.learn(at, Instant::now(), alive);
        known.of(since).unwrap_or(alive)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_began_in_an_outage_is_not_blamed_on_its_site_when_the_outage_is_over() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut known = Known::default();
        assert_eq!(known.of(at(0)), None);
        known.learn(at(1), at(2), true);
        assert_eq!((known.of(at(0)), known.of(at(1))), (Some(true), Some(true)));
        assert_eq!(known.of(at(2)), None, "asked before it began");
        known.learn(at(10), at(12), false);
        assert_eq!(known.of(at(9)), Some(false));
        // The network is back while they are asked; whoever began before that may have been cut off.
        known.learn(at(13), at(14), true);
        assert_eq!((known.of(at(9)), known.of(at(13))), (Some(false), Some(false)));
        known.learn(at(16), at(17), true);
        assert_eq!((known.of(at(13)), known.of(at(15))), (Some(false), Some(true)));
    }
}
