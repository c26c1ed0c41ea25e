//! What a pipeline file asks of a detector.

use std::time::Duration;

use monmon_model::{Check, Measurement, Outcome};

use crate::glob;
use crate::window::{LATE_SLOTS, Mark};

/// Slots are this much rarer than on average where a crontab line says when they are.
const SCHEDULE_SLACK: i64 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// So many bad slots ...
    pub(crate) down_after: usize,
    /// ... of the last so many are down.
    pub(crate) down_of: usize,
    /// So many good slots in a row are up.
    pub(crate) up_after: usize,
    /// A bad attempt before this one is not the slot's last word.
    pub(crate) attempts: u32,
    /// So many probers must find a check down ...
    pub(crate) quorum: usize,
    /// ... of so many whose word is kept.
    pub(crate) probers: usize,
    /// A prober that has told nothing for so long has no say.
    pub(crate) silent_us: i64,
    pub(crate) degraded: Mark,
    pub(crate) flapping: Option<Flapping>,
    /// A check that fits any of them is watched; all are when there are none.
    pub(crate) selections: Vec<Selection>,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flapping {
    pub(crate) changes: usize,
    pub(crate) within_us: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) pattern: String,
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) pattern: String,
    /// Name of the check that the others need.
    pub(crate) on: String,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            down_after: 2,
            down_of: 3,
            up_after: 2,
            attempts: 1,
            quorum: 1,
            probers: 16,
            silent_us: micros(Duration::from_secs(600)),
            degraded: Mark::Good,
            flapping: None,
            selections: Vec::new(),
            dependencies: Vec::new(),
        }
    }
}

impl Policy {
    pub(crate) fn window_slots(&self) -> usize {
        self.down_of.max(self.up_after) + LATE_SLOTS
    }

    /// How old a slot may be, beside the newest one, and still count.
    pub(crate) fn span_us(&self, check: &Check) -> i64 {
        let slots = i64::try_from(self.window_slots()).unwrap_or(i64::MAX);
        interval_us(check).saturating_mul(slots)
    }

    pub(crate) fn mark(&self, measurement: &Measurement) -> Mark {
        let in_maintenance =
            measurement.details.as_ref().is_some_and(|details| details.maintenance.is_some());
        match measurement.outcome {
            _ if in_maintenance => Mark::Nothing,
            Outcome::Up => Mark::Good,
            Outcome::Degraded => self.degraded,
            Outcome::Down => Mark::Bad,
            Outcome::Unknown => Mark::Nothing,
        }
    }

    pub(crate) fn watches(&self, check: &Check) -> bool {
        self.selections.is_empty() || self.selections.iter().any(|selection| selection.fits(check))
    }
}

impl Selection {
    fn fits(&self, check: &Check) -> bool {
        let has = |(name, value): &(String, String)| {
            check.labels.get(name).is_some_and(|found| glob::matches(value, found))
        };
        fits_name(&self.pattern, check) && self.labels.iter().all(has)
    }
}

/// Whether a pattern is for a check: by its name alone, or by `pipeline/source/name`.
pub(crate) fn fits_name(pattern: &str, check: &Check) -> bool {
    glob::matches(pattern, &check.name)
        || glob::matches(pattern, &format!("{}/{}/{}", check.pipeline, check.source, check.name))
}

/// Time from slot to slot, at most.
pub(crate) fn interval_us(check: &Check) -> i64 {
    let interval = i64::try_from(check.interval_us).unwrap_or(i64::MAX);
    if check.schedule.is_some() { interval.saturating_mul(SCHEDULE_SLACK) } else { interval }
}

pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
