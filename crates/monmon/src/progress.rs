//! The progress line on a terminal.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use monmon_engine::{Look, Progress};
use monmon_model::Outcome;
use monmon_stage::Section;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::logs;

const EVERY: Duration = Duration::from_millis(500);
const BAR_COLUMNS: usize = 30;

/// Shows a line for as long as it is polled; does nothing where standard error is no terminal.
pub(crate) async fn show(progress: Progress) {
    if !stderr().is_terminal() {
        return std::future::pending().await;
    }
    let begun = Instant::now();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        logs::wipe_progress();
        logs::show_progress(&line(&progress, begun));
    }
}

fn line(progress: &Progress, begun: Instant) -> String {
    let outcomes: Vec<String> = Outcome::ALL
        .into_iter()
        .map(|outcome| (outcome, progress.verdicts().count(outcome)))
        .filter(|(_, count)| *count > 0)
        .map(|(outcome, count)| format!("{count} {}", outcome.as_str()))
        .collect();
    let ends = progress
        .looks()
        .filter(|look| look.progress.section != Section::Transforms)
        .map(|look| end(&look, begun));
    let outcomes = if outcomes.is_empty() { "nothing yet".to_owned() } else { outcomes.join(", ") };
    format!("{outcomes} | {}", ends.collect::<Vec<_>>().join(" | "))
}

/// How far something has come whose length is known; where standard error is no terminal nothing is shown.
pub(crate) struct Bar {
    expected: u64,
    begun: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    pub(crate) fn new(expected: u64) -> Bar {
        Bar { expected, begun: Instant::now(), shown: None, terminal: stderr().is_terminal() }
    }

    pub(crate) fn show(&mut self, done: u64) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.shown = Some(Instant::now());
            logs::wipe_progress();
            logs::show_progress(&bar(done, self.expected, self.begun.elapsed()));
        }
    }

    pub(crate) fn wipe(&self) {
        logs::wipe_progress();
    }
}

/// `[=====>    ]  52 %, 1234 of 2345, 32s left`. The expected number may be an estimate.
fn bar(done: u64, expected: u64, taken: Duration) -> String {
    let share = (done as f64 / expected.max(1) as f64).clamp(0.0, 1.0);
    let filled = (share * BAR_COLUMNS as f64) as usize;
    let left = match (done, share < 1.0) {
        (0, _) | (_, false) => String::new(),
        _ => format!(", {}s left", (taken.as_secs_f64() * (1.0 / share - 1.0)).ceil()),
    };
    format!(
        "[{}{}] {:3.0} %, {done} of {expected}{left}",
        "=".repeat(filled),
        " ".repeat(BAR_COLUMNS - filled),
        (share * 100.0).floor()
    )
}

/// One source or sink.
fn end(look: &Look<'_>, begun: Instant) -> String {
    let stage = &look.progress;
    let counts = &stage.counts;
    if counts.expected > 0 {
        // The time is the run's: a source that ends by itself begins with it.
        return format!("{}: {}", stage.stage, bar(counts.delivered, counts.expected, begun.elapsed()));
    }
    let waiting = counts.received.saturating_sub(counts.delivered + counts.failed + counts.rejected);
    let behind = look.state.lag().map(|lag| format!(", {lag} behind")).unwrap_or_default();
    let waits = look.state.waiting().first().map(|(_, words)| format!(" ({words})")).unwrap_or_default();
    format!(
        "{}: {} in, {} done, {waiting} under way{behind}{waits}",
        stage.stage, counts.received, counts.delivered
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_tells_how_far_and_how_long() {
        let shown = |done, expected| bar(done, expected, Duration::from_secs(10));
        assert_eq!(shown(0, 10), format!("[{}]   0 %, 0 of 10", " ".repeat(30)));
        assert_eq!(shown(5, 10), format!("[{}{}]  50 %, 5 of 10, 10s left", "=".repeat(15), " ".repeat(15)));
        assert_eq!(shown(10, 10), format!("[{}] 100 %, 10 of 10", "=".repeat(30)));
        // More than was expected, or nothing at all.
        assert_eq!(shown(12, 10), format!("[{}] 100 %, 12 of 10", "=".repeat(30)));
        assert_eq!(shown(0, 0), format!("[{}]   0 %, 0 of 0", " ".repeat(30)));
    }
}
