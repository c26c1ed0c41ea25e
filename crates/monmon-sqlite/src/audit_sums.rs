//! What a report needs of days of which measurements have gone: what they came to before.

use jiff::{SignedDuration, Timestamp};
use monmon_model::{AuditReader, AuditSum, AuditTimes, Histogram};
use rusqlite::{Connection, params};

use crate::audit::{bad, id, long, micros};
use crate::rollup::{DAY, HOUR, floor, start_of, time};

pub(crate) fn sums(
    connection: &Connection,
    (since, until): (Timestamp, Timestamp),
    reader: &mut dyn AuditReader,
) -> rusqlite::Result<()> {
    const GONE: &str = "SELECT day || 'T00:00:00Z' FROM monmon_rollup_checked \
        WHERE sealed_at IS NOT NULL AND id >= ?1 AND id <= ?2 ORDER BY id";
    let ends = [start_of(since, DAY), start_of(until, DAY)];
    let mut days = connection.prepare(GONE)?;
    // One day more before and behind, by which a check is known to have been there.
    let mut days = days.query(params![floor(ends[0] - DAY), floor(ends[1] + DAY)])?;
    while let Some(row) = days.next()? {
        let day = time(row, 0)?;
        sums_of(connection, day, ("day", DAY), reader)?;
        if ends.contains(&day) {
            sums_of(connection, day, ("hour", HOUR), reader)?;
        }
    }
    Ok(())
}

/// Of one day, as a whole or by the hour.
fn sums_of(
    connection: &Connection,
    day: Timestamp,
    (level, width): (&str, SignedDuration),
    reader: &mut dyn AuditReader,
) -> rusqlite::Result<()> {
    let width_us = i64::try_from(width.as_micros()).unwrap_or(i64::MAX);
    let ids = [floor(day), floor(day + DAY)];
    let sql = format!(
        "SELECT check_id, definition_id, start_at, first_at, last_at, slots_known, measurements_up, measurements_down \
         FROM monmon_rollup_check_{level} WHERE id >= ?1 AND id < ?2"
    );
    let mut query = connection.prepare_cached(&sql)?;
    let mut rows = query.query(params![ids[0], ids[1]])?;
    while let Some(row) = rows.next()? {
        reader.sum(&AuditSum {
            check_id: id(row, 0)?,
            definition_id: id(row, 1)?,
            start_us: micros(row, 2)?,
            width_us,
            first_us: micros(row, 3)?,
            last_us: micros(row, 4)?,
            slots_known: long(row, 5)?,
            up: long(row, 6)?,
            down: long(row, 7)?,
        });
    }
    let sql = format!(
        "SELECT check_id, prober_id, start_at, histogram FROM monmon_rollup_{level} WHERE id >= ?1 AND id < ?2"
    );
    let mut query = connection.prepare_cached(&sql)?;
    let mut rows = query.query(params![ids[0], ids[1]])?;
    while let Some(row) = rows.next()? {
        let packed: Vec<i32> =
            serde_json::from_str(row.get_ref(3)?.as_str()?).map_err(|error| bad(3, error))?;
        reader.times(&AuditTimes {
            check_id: id(row, 0)?,
            prober_id: id(row, 1)?,
            start_us: micros(row, 2)?,
            width_us,
            histogram: Histogram::unpacked(packed),
        });
    }
    Ok(())
}
