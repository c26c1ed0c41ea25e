//! Open files: as many as the system lets us have, and a word when they are too few.

use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::time::Instant;

/// What the process opens beside the sockets of its checks: sinks, lookups, logs.
const OTHER_FILES: u64 = 128;
/// How often a shortage is told.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Raises the limit of open files as far as the system allows, and gives it; `None` where there is none. The low default
/// is for programs that wait with select(2), which monmon does not.
pub(crate) fn raise() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            before
        }
    }
}

/// Warns where fewer files may be open than checks can be under way.
pub(crate) fn warn_if_few(stage: &str, checks: usize, concurrency: usize, limit: Option<u64>) {
    let needed = needed(checks, concurrency);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        tracing::warn!(
            stage,
            limit,
            needed,
            "fewer files may be open than the checks can need; slots beyond will be unknown (fd_exhausted): \
             raise `ulimit -n` (LimitNOFILE= of a service), or lower `concurrency`"
        );
    }
}

fn needed(checks: usize, concurrency: usize) -> u64 {
    checks.min(concurrency) as u64 + OTHER_FILES
}

/// Checks that found no file descriptor, told now and then and not each.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    untold: u64,
    told_at: Option<Instant>,
}

impl Shortage {
    pub(crate) fn note(&mut self) {
        self.untold += 1;
    }

    /// Tells at once of the first, then once a minute how many there were.
    pub(crate) fn tell(&mut self, stage: &str, now: Instant) {
        if let Some(checks) = self.due(now) {
            let limit = getrlimit(Resource::Nofile).current;
            tracing::warn!(
                stage,
                checks,
                limit,
                "checks found no file descriptor and are unknown (fd_exhausted): raise `ulimit -n` \
                 (LimitNOFILE= of a service), or lower `concurrency`"
            );
        }
    }

    /// At the end of a run there is no next minute.
    pub(crate) fn tell_rest(&mut self, stage: &str, now: Instant) {
        self.told_at = None;
        self.tell(stage, now);
    }

    fn due(&mut self, now: Instant) -> Option<u64> {
        let is_quiet =
            self.told_at.is_some_and(|told_at| now.saturating_duration_since(told_at) < TOLD_EVERY);
        if self.untold == 0 || is_quiet {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let mut limit = getrlimit(Resource::Nofile);
        // One less, so that no other test of this process runs out meanwhile.
        limit.current = limit.current.or(limit.maximum).map(|current| current - 1);
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(raise(), limit.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shortage_is_told_at_once_and_then_once_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut shortage = Shortage::default();
        assert_eq!(shortage.due(at(0)), None);
        shortage.note();
        assert_eq!(shortage.due(at(1)), Some(1));
        (0..500).for_each(|_| shortage.note());
        assert_eq!((shortage.due(at(2)), shortage.due(at(60))), (None, None));
        assert_eq!((shortage.due(at(61)), shortage.due(at(200))), (Some(500), None));
    }

    #[test]
    fn what_checks_can_need() {
        assert_eq!((needed(10, 2000), needed(100_000, 2000)), (138, 2128));
    }
}
