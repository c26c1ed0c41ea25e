//! What a run says of itself, while it runs and at its end.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use monmon_stage::{Counts, EdgeGauge, Section, StageCounters, StageError, StageState};

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
    pub(crate) failed: Arc<Mutex<Vec<StageFailed>>>,
}

/// A stage that could not go on, while the others come to their end.
#[derive(Clone, Debug)]
pub struct StageFailed {
    pub pipeline: Arc<str>,
    pub stage: String,
    /// The error's own words, without its cause.
    pub words: String,
}

/// One stage, to look at while it runs.
#[derive(Debug)]
pub struct Look<'a> {
    pub progress: StageProgress,
    pub state: &'a StageState,
    /// The edge that leads into the stage.
    pub edge: Option<&'a EdgeGauge>,
}

#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) pipeline: Arc<str>,
    pub(crate) stage: Arc<str>,
    pub(crate) kind: &'static str,
    pub(crate) section: Section,
    pub(crate) measures: bool,
    pub(crate) counters: Arc<StageCounters>,
    /// Once the run has begun, for a stage that has one.
    pub(crate) edge: OnceLock<EdgeGauge>,
}

impl Watched {
    fn progress(&self) -> StageProgress {
        StageProgress {
            pipeline: self.pipeline.clone(),
            stage: self.stage.clone(),
            kind: self.kind,
            section: self.section,
            measures: self.measures,
            counts: self.counters.counts(),
        }
    }
}

impl Progress {
    pub fn stages(&self) -> Vec<StageProgress> {
        self.stages.iter().map(Watched::progress).collect()
    }

    /// Each stage with all that it says of itself.
    pub fn looks(&self) -> impl Iterator<Item = Look<'_>> {
        self.stages.iter().map(|watched| Look {
            progress: watched.progress(),
            state: watched.counters.state(),
            edge: watched.edge.get(),
        })
    }

    /// The stages that could not go on.
    pub fn failed(&self) -> Vec<StageFailed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_failed(&self, failed: &Failed) {
        let noted = StageFailed {
            pipeline: failed.pipeline.clone(),
            stage: failed.stage.clone(),
            words: failed.error.to_string(),
        };
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
    }

    pub(crate) fn note_edge(&self, pipeline: &str, stage: &str, edge: EdgeGauge) {
        let found = self.stages.iter().find(|one| *one.pipeline == *pipeline && *one.stage == *stage);
        if let Some(watched) = found {
            // A stage has one edge into it, which is noted once.
            watched.edge.get_or_init(|| edge);
        }
    }

    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }
}
