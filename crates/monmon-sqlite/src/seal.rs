//! Whether a day's rollups are what its measurements come to, and the word that they are, without which none of these goes.

use jiff::{Timestamp, tz::TimeZone};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::maintain::State;
use crate::rollup::{DAY, HOUR, MINUTE, floor, gather, stored};
use crate::rows::instant;

/// What differs of which day.
pub(crate) type Fault = (&'static str, Timestamp);

pub(crate) fn day_name(day: Timestamp) -> String {
    TimeZone::UTC.to_datetime(day).date().to_string()
}

pub(crate) fn is_sealed(connection: &Connection, day: Timestamp) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM monmon_rollup_checked WHERE day = ?1 AND sealed_at IS NOT NULL";
    Ok(connection.query_row(sql, params![day_name(day)], |_| Ok(())).optional()?.is_some())
}

pub(crate) fn has_late(connection: &Connection, from: Timestamp, to: Timestamp) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM monmon_rollup_late WHERE hour >= ?1 AND hour < ?2 LIMIT 1";
    Ok(connection.query_row(sql, params![instant(from), instant(to)], |_| Ok(())).optional()?.is_some())
}

/// Where a day's rollups are not what its measurements come to.
pub(crate) fn day_faults(
    connection: &Connection,
    state: &State,
    day: Timestamp,
) -> rusqlite::Result<Vec<Fault>> {
    let end = state.rolled_until.map_or(day, |until| until.min(day + DAY));
    let mut faults = Vec::new();
    for (width, level, table, check_level, check_table) in [
        (MINUTE, "minute", "monmon_rollup_minute", "", None),
        (HOUR, "hour", "monmon_rollup_hour", "check hour", Some("monmon_rollup_check_hour")),
        (DAY, "day", "monmon_rollup_day", "check day", Some("monmon_rollup_check_day")),
    ] {
        if state.kept_from(width).is_some_and(|from| day < from) {
            continue;
        }
        let gathered = gather(connection, day, end, width)?;
        if stored(connection, table, day, end)? != gathered.probers {
            faults.push((level, day));
        }
        if let Some(table) = check_table
            && stored(connection, table, day, end)? != gathered.checks
        {
            faults.push((check_level, day));
        }
    }
    Ok(faults)
}

fn day_count(connection: &Connection, day: Timestamp) -> rusqlite::Result<i64> {
    let sql = "SELECT count(*) FROM monmon_measurement WHERE id >= ?1 AND id < ?2";
    connection.query_row(sql, params![floor(day), floor(day + DAY)], |row| row.get(0))
}

/// A day is worked out anew beside whoever writes, and the file is theirs again but for the moment in which it is sealed.
pub(crate) fn seal(connection: &mut Connection, day: Timestamp) -> rusqlite::Result<bool> {
    match checked(connection, day)? {
        Some(measurements) => seal_as(connection, day, measurements),
        None => Ok(false),
    }
}

/// How many measurements a day has, if its rollups are what they come to: all in one snapshot, without a lock.
fn checked(connection: &mut Connection, day: Timestamp) -> rusqlite::Result<Option<i64>> {
    let snapshot = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let state = State::read(&snapshot)?;
    let whole = state.rolled_until.is_some_and(|until| until >= day + DAY);
    if !whole || has_late(&snapshot, day, day + DAY)? || !day_faults(&snapshot, &state, day)?.is_empty() {
        return Ok(None);
    }
    day_count(&snapshot, day).map(Some)
}

/// Measurements are only ever added: as long as there are as many, and none is marked as late, they are those that were
/// looked at.
fn seal_as(connection: &mut Connection, day: Timestamp, measurements: i64) -> rusqlite::Result<bool> {
    let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if has_late(&step, day, day + DAY)? || day_count(&step, day)? != measurements {
        return Ok(false);
    }
    step.execute(
        "INSERT INTO monmon_rollup_checked (id, day, measurements, checked_at, sealed_at)
         VALUES (?1, ?2, ?3, strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'), strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
         ON CONFLICT (id) DO UPDATE SET measurements = excluded.measurements, sealed_at = excluded.sealed_at",
        params![floor(day), day_name(day), measurements],
    )?;
    step.commit()?;
    Ok(true)
}

/// Marks all hours of a day to be made again.
pub(crate) fn mark(connection: &Connection, day: Timestamp) -> rusqlite::Result<()> {
    let mut hour = day;
    while hour < day + DAY {
        let sql = "INSERT OR IGNORE INTO monmon_rollup_late (id, hour) VALUES (?1, ?2)";
        connection.execute(sql, params![floor(hour), instant(hour)])?;
        hour += HOUR;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Synchronous, open_current};

    #[test]
    fn a_day_that_has_changed_since_it_was_looked_at_is_not_sealed() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = open_current(&folder.path().join("monmon.db"), Synchronous::Normal);
        let mut connection = opened.expect("a file").0;
        let day: Timestamp = "2026-11-20T00:00:00Z".parse().expect("a time");
        assert_eq!(checked(&mut connection, day), Ok(None), "it is not rolled up");
        let rolled = "UPDATE monmon_rollup_state SET rolled_until = '2026-11-22T00:00:00.000000Z'";
        connection.execute(rolled, []).expect("rolled up");
        assert_eq!(checked(&mut connection, day), Ok(Some(0)));
        // One has gone, or come, meanwhile.
        assert_eq!(seal_as(&mut connection, day, 1), Ok(false));
        mark(&connection, day).expect("marked");
        assert_eq!(seal_as(&mut connection, day, 0), Ok(false), "something came late");
        connection.execute("DELETE FROM monmon_rollup_late", []).expect("made again");
        assert_eq!((seal_as(&mut connection, day, 0), is_sealed(&connection, day)), (Ok(true), Ok(true)));
    }
}
