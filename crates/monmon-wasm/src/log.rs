//! What a plugin writes to the log: tied to its place, cut, counted, and no more than so much within a minute.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use monmon_syntax::printable;
use tracing::{debug, error, info, warn};

use crate::bindings::monmon::matcher::host::Level;

/// Longest line, in characters.
const LINE_CHARS_MAX: usize = 500;
const MINUTE: Duration = Duration::from_secs(60);

/// Where a plugin's lines come from, and how many there may be, over all its instances.
#[derive(Debug)]
pub struct Logbook {
    pipeline: Arc<str>,
    stage: Arc<str>,
    matcher: Arc<str>,
    lines_max: u32,
    rate: Mutex<Rate>,
}

#[derive(Debug, Default)]
struct Rate {
    since: Option<Instant>,
    written: u32,
    dropped: u64,
}

impl Logbook {
    pub fn new(pipeline: Arc<str>, stage: Arc<str>, matcher: Arc<str>, lines_max: u32) -> Logbook {
        Logbook { pipeline, stage, matcher, lines_max, rate: Mutex::default() }
    }

    /// Counts a line; whether it may be written. What was dropped within a minute is told at the next line after it.
    fn has_room(&self) -> bool {
        // Counts are whole at every moment.
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if rate.since.is_none_or(|since| now.duration_since(since) >= MINUTE) {
            let dropped = rate.dropped;
            *rate = Rate { since: Some(now), ..Rate::default() };
            if dropped > 0 {
                self.tell_dropped(dropped);
            }
        }
        if rate.written >= self.lines_max {
            rate.dropped += 1;
            return false;
        }
        rate.written += 1;
        true
    }

    fn tell_dropped(&self, dropped: u64) {
        info!(pipeline = %self.pipeline, stage = %self.stage, matcher = %self.matcher, dropped,
            "more lines of the plugin's than `log-lines` allows");
    }
}

impl Drop for Logbook {
    fn drop(&mut self) {
        let dropped = self.rate.get_mut().unwrap_or_else(PoisonError::into_inner).dropped;
        if dropped > 0 {
            self.tell_dropped(dropped);
        }
    }
}

/// The log as one instance has it.
pub(crate) struct Lines {
    book: Option<Arc<Logbook>>,
    check: Option<Arc<str>>,
}

impl Lines {
    /// Nothing is written without a book.
    pub(crate) fn new(book: Option<Arc<Logbook>>) -> Lines {
        Lines { book, check: None }
    }

    pub(crate) fn of_check(&mut self, check: &Arc<str>) {
        if self.book.is_some() {
            self.check = Some(check.clone());
        }
    }

    pub(crate) fn write(&self, level: Level, message: &str) {
        let Some(book) = self.book.as_ref().filter(|book| book.has_room()) else { return };
        let (pipeline, stage, matcher) = (&book.pipeline, &book.stage, &book.matcher);
        // None yet while the plugin is configured.
        let check = self.check.as_deref();
        let message = line(message);
        match level {
            Level::Debug => debug!(%pipeline, %stage, %matcher, check, "plugin: {message}"),
            Level::Info => info!(%pipeline, %stage, %matcher, check, "plugin: {message}"),
            Level::Warn => warn!(%pipeline, %stage, %matcher, check, "plugin: {message}"),
            Level::Error => error!(%pipeline, %stage, %matcher, check, "plugin: {message}"),
        }
    }
}

/// A message as one line that a terminal does not obey.
pub(crate) fn line(message: &str) -> String {
    let mut chars = message.chars();
    let mut line: String =
        chars.by_ref().take(LINE_CHARS_MAX).map(|c| if c == '\n' { ' ' } else { c }).collect();
    if chars.next().is_some() {
        line.push('\u{2026}');
    }
    printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_has_so_many_lines() {
        let book = Logbook::new("p".into(), "s".into(), "m".into(), 2);
        assert_eq!([book.has_room(), book.has_room(), book.has_room()], [true, true, false]);
        assert_eq!(book.rate.lock().map(|rate| rate.dropped).ok(), Some(1));
    }

    #[test]
    fn a_line_is_one_line_and_bounded() {
        assert_eq!(line("a\nb\u{1b}[31m"), "a b\\u{1b}[31m");
        assert_eq!(line(&"x".repeat(10_000)).chars().count(), LINE_CHARS_MAX + 1);
    }
}
