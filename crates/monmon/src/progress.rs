//! The progress line on a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use monmon_engine::{Progress, StageProgress};
use monmon_model::Outcome;
use monmon_stage::Section;
use tokio::time::{MissedTickBehavior, interval};

use crate::logs;

const EVERY: Duration = Duration::from_millis(500);

/// Shows a line for as long as it is polled; does nothing where standard error is no terminal.
pub(crate) async fn show(progress: Progress) {
    if !stderr().is_terminal() {
        return std::future::pending().await;
    }
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        logs::wipe_progress();
        logs::show_progress(&line(&progress));
    }
}

fn line(progress: &Progress) -> String {
    let stages = progress.stages();
    let outcomes: Vec<String> = Outcome::ALL
        .into_iter()
        .map(|outcome| (outcome, progress.verdicts().count(outcome)))
        .filter(|(_, count)| *count > 0)
        .map(|(outcome, count)| format!("{count} {}", outcome.as_str()))
        .collect();
    let ends = stages.iter().filter(|stage| stage.section != Section::Transforms).map(end);
    let outcomes = if outcomes.is_empty() { "nothing yet".to_owned() } else { outcomes.join(", ") };
    format!("{outcomes} | {}", ends.collect::<Vec<_>>().join(" | "))
}

/// One source or sink.
fn end(stage: &StageProgress) -> String {
    let counts = &stage.counts;
    let waiting = counts.received.saturating_sub(counts.delivered + counts.failed + counts.rejected);
    format!("{}: {} in, {} done, {waiting} under way", stage.stage, counts.received, counts.delivered)
}
