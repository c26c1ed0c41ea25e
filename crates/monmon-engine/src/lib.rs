//! Runs a plan: tasks joined by bounded channels of batches, and an orderly end.
//!
//! Every task lives in one set. The end is always the same road: sources stop, channels close downstream, sinks flush,
//! all within one deadline. What begins it may be a signal, the run's own end, or the first stage that can't go on.

mod ending;
mod open;
mod report;
mod run;
mod tasks;
mod verdicts;

pub use ending::{Ending, StopHandle, StopListener, stop_pair};
pub use report::{Failed, Look, Progress, RunReport, StageFailed, StageProgress};
pub use run::{Engine, RunOptions};
pub use verdicts::{Verdict, Verdicts};
