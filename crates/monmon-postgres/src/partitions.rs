//! Day partitions, made when the first row of a day comes, within a window around now.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use tokio_postgres::types::{ToSql, Type};

use crate::connect::{Connection, transact};
use crate::error::StoreError;

/// How many days are remembered: more than any window holds.
const DAYS_MAX: usize = 4_000;

/// The days for which rows are taken. Without it one wrong clock would make partitions for the year 2106.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) past: Duration,
    pub(crate) future: Duration,
}

impl Window {
    /// What a sink takes if nothing else is said.
    pub(crate) const USUAL: Window =
        Window { past: Duration::from_secs(400 * 86_400), future: Duration::from_secs(2 * 86_400) };

    /// Why a time is not taken, if it is not.
    pub(crate) fn refuse(&self, at: Timestamp, now: Timestamp) -> Option<String> {
        let distance = Duration::try_from(at.duration_since(now).abs()).unwrap_or(Duration::MAX);
        let (bound, side) = if at > now { (self.future, "ahead of") } else { (self.past, "behind") };
        (distance > bound).then(|| {
            format!(
                "the time {at} is {} days {side} now; at most {} are taken",
                distance.as_secs() / 86_400,
                bound.as_secs() / 86_400
            )
        })
    }
}

/// The days whose partitions are known to be there.
#[derive(Default)]
pub(crate) struct Days {
    made: BTreeSet<Date>,
}

impl Days {
    pub(crate) fn forget(&mut self) {
        self.made.clear();
    }

    /// Makes what is missing for these times, and the day after each, so that midnight finds its partition made.
    pub(crate) async fn ensure(
        &mut self,
        connection: &Connection,
        begin: &str,
        times: impl Iterator<Item = Timestamp>,
        place: &str,
    ) -> Result<(), StoreError> {
        let mut missing: Vec<Date> = Vec::new();
        for time in times {
            let day = TimeZone::UTC.to_datetime(time).date();
            // Rows come in the order of their times, so a day is seen in one run.
            if missing.last() != Some(&day) && !self.made.contains(&day) {
                missing.push(day);
            }
        }
        for day in missing {
            let next = day.tomorrow().unwrap_or(day);
            let days: [(&(dyn ToSql + Sync), Type); 2] = [(&day, Type::DATE), (&next, Type::DATE)];
            let made = connection.client.execute_typed("SELECT monmon_create_partitions($1, $2)", &days);
            transact(connection, begin, made, place).await?;
            if self.made.len() >= DAYS_MAX {
                self.made.clear();
            }
            self.made.insert(day);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_has_two_edges() {
        let window =
            Window { past: Duration::from_secs(400 * 86_400), future: Duration::from_secs(2 * 86_400) };
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
        for (at, taken) in [
            ("2026-11-23T12:00:00Z", true),
            ("2026-11-25T12:00:00Z", true),
            ("2026-11-25T12:00:01Z", false),
            ("2025-10-20T00:00:00Z", true),
            ("2025-10-18T00:00:00Z", false),
            ("1970-01-01T00:00:00Z", false),
            ("9999-12-30T00:00:00Z", false),
        ] {
            let refusal = window.refuse(at.parse().expect("a time"), now);
            assert_eq!(refusal.is_none(), taken, "{at}: {refusal:?}");
        }
    }
}
