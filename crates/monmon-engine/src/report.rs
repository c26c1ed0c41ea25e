//! What a run says of itself, while it runs and at its end.

use std::sync::Arc;

use monmon_stage::{Counts, Section, StageCounters, StageError};

use crate::{Ending, Verdicts};

/// A stage that could not go on.
#[derive(Debug)]
pub struct Failed {
    pub pipeline: Arc<str>,
    /// The stage; for a run of transforms, their names.
    pub stage: String,
    pub error: StageError,
}

/// How a run went.
#[derive(Debug)]
pub struct RunReport {
    pub ending: Ending,
    /// All stages that failed, the first one first; at the end those that were cut off when the grace was over.
    pub failed: Vec<Failed>,
    /// The grace was over before all tasks had come to their end.
    pub overran: bool,
    pub verdicts: Arc<Verdicts>,
    pub stages: Vec<StageProgress>,
}

/// One stage's counts.
#[derive(Clone, Debug)]
pub struct StageProgress {
    pub pipeline: Arc<str>,
    pub stage: Arc<str>,
    pub kind: &'static str,
    pub section: Section,
    /// Whether the stage makes measurements, so that one whose ack failed is nowhere else.
    pub measures: bool,
    pub counts: Counts,
}

impl RunReport {
    /// Measurements that were made and are not known to be stored. An ack that nobody resolved, since a client took it
    /// along when the run was cut off, is one of them, so failures alone do not tell.
    pub fn lost(&self) -> u64 {
        let lost = |stage: &StageProgress| stage.counts.received.saturating_sub(stage.counts.delivered);
        self.stages.iter().filter(|stage| stage.measures).map(lost).sum()
    }
}

/// The counts of a run that is under way.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub(crate) stages: Arc<Vec<Watched>>,
    pub(crate) verdicts: Arc<Verdicts>,
}

#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) pipeline: Arc<str>,
    pub(crate) stage: Arc<str>,
    pub(crate) kind: &'static str,
    pub(crate) section: Section,
    pub(crate) measures: bool,
    pub(crate) counters: Arc<StageCounters>,
}

impl Progress {
    pub fn stages(&self) -> Vec<StageProgress> {
        let now = |watched: &Watched| StageProgress {
            pipeline: watched.pipeline.clone(),
            stage: watched.stage.clone(),
            kind: watched.kind,
            section: watched.section,
            measures: watched.measures,
            counts: watched.counters.counts(),
        };
        self.stages.iter().map(now).collect()
    }

    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }
}
