//! What the demo shows: the newest rows and how many there are of each outcome, as `psql` prints them.

use super::Demo;
use crate::say;

const NEWEST: &str = include_str!("newest.sql");
const OUTCOMES: &str = include_str!("outcomes.sql");

pub(super) struct Table<'a> {
    demo: &'a Demo<'a>,
    shown: String,
}

impl<'a> Table<'a> {
    pub(super) fn new(demo: &'a Demo<'a>) -> Self {
        Self { demo, shown: String::new() }
    }

    pub(super) fn show(&mut self) {
        let newest = self.demo.sql(&["-P", "footer=off"], NEWEST);
        let outcomes = self.demo.sql(&["-A", "-t"], OUTCOMES);
        let text = match (newest, outcomes) {
            (Some(newest), Some(outcomes)) => format!("{newest}\n{outcomes}\n"),
            _ => "PostgreSQL does not answer\n".to_owned(),
        };
        if text != self.shown {
            say::line(&text);
            self.shown = text;
        }
    }
}

/// How many measurements are stored.
pub(super) fn rows(demo: &Demo<'_>) -> Option<u64> {
    demo.sql(&["-A", "-t"], "SELECT count(*) FROM monmon_measurement")?.parse().ok()
}
