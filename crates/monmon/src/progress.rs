//! The progress line on a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use monmon_engine::{Look, Progress};
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
    let outcomes: Vec<String> = Outcome::ALL
        .into_iter()
        .map(|outcome| (outcome, progress.verdicts().count(outcome)))
        .filter(|(_, count)| *count > 0)
        .map(|(outcome, count)| format!("{count} {}", outcome.as_str()))
        .collect();
    let ends =
        progress.looks().filter(|look| look.progress.section != Section::Transforms).map(|look| end(&look));
    let outcomes = if outcomes.is_empty() { "nothing yet".to_owned() } else { outcomes.join(", ") };
    format!("{outcomes} | {}", ends.collect::<Vec<_>>().join(" | "))
}

/// One source or sink.
fn end(look: &Look<'_>) -> String {
    let stage = &look.progress;
    let counts = &stage.counts;
    let waiting = counts.received.saturating_sub(counts.delivered + counts.failed + counts.rejected);
    let behind = look.state.lag().map(|lag| format!(", {lag} behind")).unwrap_or_default();
    let waits = look.state.waiting().first().map(|(_, words)| format!(" ({words})")).unwrap_or_default();
    format!(
        "{}: {} in, {} done, {waiting} under way{behind}{waits}",
        stage.stage, counts.received, counts.delivered
    )
}
