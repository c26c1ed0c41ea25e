//! Measurements whose ids are stored already: what sinks do with them, and say of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use monmon_model::{RejectedReason, Twin};
use tokio::time::Instant;
use tracing::warn;
use uuid::Uuid;

use crate::{Measured, Refused};

/// What a store has under the id of a measurement that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTwin {
    pub boot_id: Uuid,
    /// Names of the columns in which the two differ, with spaces between them.
    pub differing: String,
}

/// What became of the measurements of one batch that were stored already.
#[derive(Debug, Default)]
pub struct Twins {
    /// How many were the same slot, measured in another boot.
    pub second_runs: u64,
    /// How many have other content, and go to the dead letters.
    pub conflicts: u64,
    second_run: Option<SecondRun>,
    conflict: Option<Conflict>,
}

/// One of each, for the log.
#[derive(Debug)]
struct SecondRun {
    pipeline: String,
    source: String,
    check: String,
    stored_boot: Uuid,
    other_boot: Uuid,
}

#[derive(Debug)]
struct Conflict {
    id: Uuid,
    check: String,
    differing: String,
}

impl Twins {
    /// Holds a measurement against the stored one; gives the dead letter that it becomes, if it does.
    pub fn meet(&mut self, measured: &Measured, stored: &StoredTwin) -> Option<Refused> {
        let measurement = &*measured.measurement;
        let check = &measurement.check;
        let differing: Vec<&str> = stored.differing.split_whitespace().collect();
        match Twin::of(&differing) {
            Twin::Redelivery => None,
            Twin::SecondRun => {
                self.second_runs += 1;
                self.second_run.get_or_insert_with(|| SecondRun {
                    pipeline: check.pipeline.clone(),
                    source: check.source.clone(),
                    check: check.name.clone(),
                    stored_boot: stored.boot_id,
                    other_boot: measurement.prober.boot,
                });
                None
            }
            Twin::Conflict => {
                let differing = differing.join(", ");
                self.conflicts += 1;
                let message =
                    format!("id {} is stored already with other content: {differing}", measurement.id);
                self.conflict.get_or_insert_with(|| Conflict {
                    id: measurement.id,
                    check: check.name.clone(),
                    differing,
                });
                Some(measured.reject(RejectedReason::DuplicateId, message))
            }
        }
    }
}

/// Says now and then what twins came: two runs of one pipeline make one for every slot.
#[derive(Debug, Default)]
pub struct TwinLog {
    second_runs: Mutex<Unsaid>,
    conflicts: Mutex<Unsaid>,
}

impl TwinLog {
    /// The first is said at once, the following ones together, this long after.
    pub const EVERY: Duration = Duration::from_secs(60);

    pub fn tell(&self, stage: &str, twins: &Twins) {
        if let Some(met) = &twins.second_run
            && let Some(count) = Unsaid::say(&self.second_runs, twins.second_runs)
        {
            warn!(stage, pipeline = met.pipeline, source = met.source, check = met.check,
                stored_boot = %met.stored_boot, other_boot = %met.other_boot, count,
                "slots were measured twice by one prober, in two boots: is the same pipeline run twice? The first \
                 measurement stays");
        }
        if let Some(met) = &twins.conflict
            && let Some(count) = Unsaid::say(&self.conflicts, twins.conflicts)
        {
            warn!(stage, id = %met.id, check = met.check, differing = met.differing, count,
                "ids came again with other content; these went to the dead letters");
        }
    }
}

/// What was counted and not yet said.
#[derive(Debug, Default)]
struct Unsaid {
    count: u64,
    said_at: Option<Instant>,
}

impl Unsaid {
    /// The count, when it may be said.
    fn say(this: &Mutex<Unsaid>, more: u64) -> Option<u64> {
        let mut this = this.lock().unwrap_or_else(PoisonError::into_inner);
        this.count += more;
        if this.said_at.is_some_and(|said| said.elapsed() < TwinLog::EVERY) {
            return None;
        }
        this.said_at = Some(Instant::now());
        Some(std::mem::take(&mut this.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_said_at_once_and_the_others_are_counted() {
        let unsaid = Mutex::default();
        assert_eq!(Unsaid::say(&unsaid, 3), Some(3));
        assert_eq!(Unsaid::say(&unsaid, 2), None);
        tokio::time::advance(TwinLog::EVERY / 2).await;
        assert_eq!(Unsaid::say(&unsaid, 1), None);
        tokio::time::advance(TwinLog::EVERY / 2).await;
        assert_eq!(Unsaid::say(&unsaid, 1), Some(4));
        assert_eq!(Unsaid::say(&unsaid, 1), None);
    }
}
