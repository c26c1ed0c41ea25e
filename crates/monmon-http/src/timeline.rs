//! The time that slots are counted in: the wall clock as it was at the start, carried on by the monotonic clock.

use jiff::Timestamp;
use tokio::time::Instant;

/// A wall clock that is farther off than this has jumped (it was set, or the machine slept).
const JUMP_US: i64 = 2_000_000;
/// How far the timeline follows a wall clock that is a little off, each time it is watched.
const SLEW_US: i64 = 1_000;

/// What the wall clock did since it was last watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shift {
    Steady,
    /// It went ahead: the timeline follows at once, and what lies between was slept through.
    Forward {
        by_us: i64,
    },
    /// It went back: the timeline goes on as before, because its slots were given already.
    Back {
        by_us: i64,
    },
}

#[derive(Debug)]
pub(crate) struct Timeline {
    wall_us: i64,
    anchor: Instant,
    /// How far the wall clock is known to be behind; told once.
    behind_us: i64,
}

impl Timeline {
    pub(crate) fn new(anchor: Instant, wall: Timestamp) -> Timeline {
        Timeline { wall_us: wall.as_microsecond(), anchor, behind_us: 0 }
    }

    /// Microseconds since the Unix epoch.
    pub(crate) fn at(&self, instant: Instant) -> i64 {
        let passed = instant.saturating_duration_since(self.anchor).as_micros();
        self.wall_us.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    /// When the timeline comes to `at_us`; the anchor for what is past.
    pub(crate) fn instant(&self, at_us: i64) -> Instant {
        let ahead = u64::try_from(at_us.saturating_sub(self.wall_us)).unwrap_or(0);
        self.anchor + std::time::Duration::from_micros(ahead)
    }

    /// Holds the timeline against the wall clock.
    pub(crate) fn watch(&mut self, instant: Instant, wall: Timestamp) -> Shift {
        let off = wall.as_microsecond().saturating_sub(self.at(instant));
        if off > JUMP_US {
            self.wall_us = self.wall_us.saturating_add(off);
            self.behind_us = 0;
            return Shift::Forward { by_us: off };
        }
        if off < -JUMP_US {
            if (self.behind_us + off).abs() <= JUMP_US {
                return Shift::Steady;
            }
            self.behind_us = -off;
            return Shift::Back { by_us: -off };
        }
        self.behind_us = 0;
        self.wall_us += off.clamp(-SLEW_US, SLEW_US);
        Shift::Steady
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn jumps_are_told_once_and_small_errors_are_slewed() {
        let wall = |us: i64| Timestamp::from_microsecond(1_795_000_000_000_000 + us).unwrap();
        let start = Instant::now();
        let mut line = Timeline::new(start, wall(0));
        let at = |s: u64| start + Duration::from_secs(s);
        assert_eq!(line.watch(at(1), wall(1_000_500)), Shift::Steady);
        assert_eq!(line.at(at(1)), wall(1_000_500).as_microsecond());
        assert_eq!(line.watch(at(2), wall(62_000_500)), Shift::Forward { by_us: 60_000_000 });
        let ahead = line.at(at(3));
        assert_eq!(line.watch(at(3), wall(-3_537_000_000)), Shift::Back { by_us: 3_600_000_500 });
        assert_eq!(line.watch(at(4), wall(-3_536_000_000)), Shift::Steady);
        assert_eq!(line.at(at(3)), ahead, "the timeline never goes back");
        assert_eq!(line.instant(ahead), at(3));
    }
}
