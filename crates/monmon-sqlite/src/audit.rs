//! Reading the store for an audit: everything in one snapshot, a row at a time.

use std::path::Path;

use jiff::Timestamp;
use monmon_model::{
    AuditBoot, AuditDefinition, AuditFacts, AuditIncident, AuditLetter, AuditOffsets, AuditProber,
    AuditReader, AuditReceipt, AuditRollup, AuditRow, AuditWindow, Outcome,
};
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::audit_sums::sums;
use crate::database::open_to_read;
use crate::error::StoreError;
use crate::maintain::faults_between;
use crate::rollup::time;
use crate::rows::instant;
use crate::status::id_floor;

const PROBERS: &str = "SELECT id, name FROM monmon_prober";

const BOOTS: &str = "SELECT id, prober_id, first_seen_at FROM monmon_boot";

const DEFINITIONS: &str = "SELECT id, check_id, pipeline, source, name, interval_us, schedule, labels, first_seen_at \
    FROM monmon_check_definition";

const RECEIPTS: &str = "SELECT boot_id, pipeline, source, at, began_at, slots_from, slots_until, first_seq, last_seq, \
        ids_xor, failed, last \
    FROM monmon_receipt WHERE id >= ?1 AND id < ?2";

const ROWS: &str = "SELECT id, check_id, definition_id, boot_id, scheduled_at, seq, attempt, outcome, \
        CASE WHEN outcome = 'unknown' THEN error_kind END, \
        CASE WHEN outcome = 'unknown' AND error_phase = 'start' THEN error_message END, \
        CASE WHEN error_kind IS NULL AND outcome <> 'unknown' THEN total_us END, \
        details ->> 'maintenance' IS NOT NULL \
    FROM monmon_measurement WHERE id >= ?1 AND id < ?2";

const LETTERS: &str = "SELECT id, reason, bytes FROM monmon_dead_letter \
    WHERE occurred_at >= ?1 AND occurred_at < ?2 AND length(bytes) > 0";

const OFFSETS: &str = "SELECT topic, partition_id, r.first, r.last, pipeline, source, stored_at FROM ( \
        SELECT topic, partition_id, first_offset AS first, last_offset AS last, pipeline, source, stored_at \
        FROM monmon_batch WHERE offsets IS NULL AND id >= ?1 AND id < ?2 \
        UNION ALL \
        SELECT topic, partition_id, run.value ->> 0, run.value ->> 1, pipeline, source, stored_at \
        FROM monmon_batch AS b CROSS JOIN json_each(b.offsets) AS run WHERE b.id >= ?1 AND b.id < ?2 \
    ) AS r ORDER BY topic, partition_id, r.first";

const PARTITIONS: &str = "SELECT topic, partition_id, max(last_offset) FROM monmon_batch GROUP BY 1, 2";

const CHECKS: &str = "SELECT check_id, ended_at FROM monmon_check_span";

/// Days of which retention has deleted measurements.
const DROPPED: &str = "SELECT unixepoch(day) FROM monmon_rollup_checked WHERE sealed_at IS NOT NULL";
const DAY_US: i64 = 86_400_000_000;

/// What nobody was told of, because another check that it depends on was down, is no incident of its own.
const INCIDENTS: &str = "SELECT check_id, began_at, coalesce(recovered_at, closed_at), reason FROM monmon_incident \
    WHERE suppressed_by IS NULL AND began_at < ?2 AND coalesce(recovered_at, closed_at, ?2) >= ?1 \
    ORDER BY began_at, id";

/// Gives the reader all that is stored of a window's slots. Works beside a writer.
pub fn audit(path: &Path, window: AuditWindow, reader: &mut dyn AuditReader) -> Result<(), StoreError> {
    let connection = open_to_read(path)?;
    read(&connection, window, reader).map_err(|error| StoreError::sort(error, path))
}

/// The topics and partitions of which batches are stored, each with its highest offset.
pub fn audit_partitions(path: &Path) -> Result<Vec<(String, i32, i64)>, StoreError> {
    let connection = open_to_read(path)?;
    let partition = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    all(&connection, PARTITIONS, &[], partition).map_err(|error| StoreError::sort(error, path))
}

fn read(connection: &Connection, window: AuditWindow, reader: &mut dyn AuditReader) -> rusqlite::Result<()> {
    let time_of = |at_us| Timestamp::from_microsecond(at_us).unwrap_or(Timestamp::UNIX_EPOCH);
    let (since, until) = (time_of(window.since_us), time_of(window.until_us));
    let ids = [id_floor(since), id_floor(until)];
    // What is read in one transaction is of one moment.
    let snapshot = connection.unchecked_transaction()?;
    let mut facts = facts(&snapshot, (since, until))?;
    if window.sums.is_some() {
        facts.checks = checks(&snapshot)?;
    }
    reader.facts(facts);
    let mut query = snapshot.prepare(RECEIPTS)?;
    let mut receipts = query.query(params![ids[0], ids[1]])?;
    while let Some(row) = receipts.next()? {
        reader.receipt(&receipt(row)?);
    }
    let mut query = snapshot.prepare(ROWS)?;
    let mut rows = query.query(params![ids[0], ids[1]])?;
    while let Some(row) = rows.next()? {
        reader.row(&AuditRow {
            id: id(row, 0)?,
            check_id: id(row, 1)?,
            definition_id: id(row, 2)?,
            boot_id: id(row, 3)?,
            slot_us: micros(row, 4)?,
            seq: long(row, 5)?,
            attempt: row.get(6)?,
            outcome: Outcome::from_word(text(row, 7)?.unwrap_or_default()).unwrap_or(Outcome::Unknown),
            error_kind: text(row, 8)?,
            message: text(row, 9)?,
            total_us: row.get::<_, Option<i64>>(10)?.and_then(|us| u32::try_from(us).ok()),
            maintenance: row.get(11)?,
        });
    }
    let mut query = snapshot.prepare(LETTERS)?;
    let mut letters = query.query(params![instant(since), instant(until)])?;
    while let Some(row) = letters.next()? {
        let bytes = row.get_ref(2)?.as_bytes().unwrap_or_default();
        let reason = text(row, 1)?.unwrap_or_default();
        reader.letter(&AuditLetter { id: id(row, 0)?, reason, bytes });
    }
    let mut query = snapshot.prepare(OFFSETS)?;
    let mut offsets = query.query(params![ids[0], ids[1]])?;
    while let Some(row) = offsets.next()? {
        let topic = text(row, 0)?.unwrap_or_default();
        reader.offsets(&AuditOffsets {
            topic,
            partition: row.get(1)?,
            pipeline: text(row, 4)?.unwrap_or_default(),
            source: text(row, 5)?.unwrap_or_default(),
            first: row.get(2)?,
            last: row.get(3)?,
            stored_us: micros(row, 6)?,
        });
    }
    if has_rollups(&snapshot)? {
        rollups(&snapshot, &ids, reader)?;
        if let Some((since_us, until_us)) = window.sums {
            sums(&snapshot, (time_of(since_us), time_of(until_us)), reader)?;
        }
    }
    Ok(())
}

/// Days with measurements in the window are worked out anew.
fn rollups(connection: &Connection, ids: &[String; 2], reader: &mut dyn AuditReader) -> rusqlite::Result<()> {
    let end = |order: &str| {
        let sql = format!(
            "SELECT scheduled_at FROM monmon_measurement WHERE id >= ?1 AND id < ?2 ORDER BY id {order} LIMIT 1"
        );
        connection.query_row(&sql, params![ids[0], ids[1]], |row| time(row, 0)).optional()
    };
    let (Some(first), Some(last)) = (end("ASC")?, end("DESC")?) else { return Ok(()) };
    for (level, day) in faults_between(connection, first, last)? {
        reader.rollup(&AuditRollup {
            level,
            check_id: None,
            start_us: day.as_microsecond(),
            difference: "is not what the measurements come to",
        });
    }
    Ok(())
}

fn has_rollups(connection: &Connection) -> rusqlite::Result<bool> {
    has_table(connection, "monmon_rollup_checked")
}

fn facts(connection: &Connection, bounds: (Timestamp, Timestamp)) -> rusqlite::Result<AuditFacts> {
    let prober = |row: &Row<'_>| Ok(AuditProber { id: id(row, 0)?, name: row.get(1)? });
    let boot = |row: &Row<'_>| {
        Ok(AuditBoot { id: id(row, 0)?, prober_id: id(row, 1)?, first_seen_us: micros(row, 2)? })
    };
    let definition = |row: &Row<'_>| {
        Ok(AuditDefinition {
            id: id(row, 0)?,
            check_id: id(row, 1)?,
            pipeline: row.get(2)?,
            source: row.get(3)?,
            name: row.get(4)?,
            interval_us: long(row, 5)?,
            schedule: row.get(6)?,
            labels: serde_json::from_str(text(row, 7)?.unwrap_or_default()).unwrap_or_default(),
            first_seen_us: micros(row, 8)?,
        })
    };
    let day = |row: &Row<'_>| {
        let begins_us = row.get::<_, i64>(0)? * 1_000_000;
        Ok((begins_us, begins_us + DAY_US))
    };
    let has_rollups = has_rollups(connection)?;
    let dropped = match has_rollups {
        true => all(connection, DROPPED, &[], day)?,
        false => Vec::new(),
    };
    Ok(AuditFacts {
        probers: all(connection, PROBERS, &[], prober)?,
        boots: all(connection, BOOTS, &[], boot)?,
        checks: Vec::new(),
        definitions: all(connection, DEFINITIONS, &[], definition)?,
        dropped,
        incidents: incidents(connection, bounds)?,
        has_rollups,
    })
}

fn checks(connection: &Connection) -> rusqlite::Result<Vec<(Uuid, Option<i64>)>> {
    let check = |row: &Row<'_>| {
        let ended_us = text(row, 1)?.is_some().then(|| micros(row, 1)).transpose()?;
        Ok((id(row, 0)?, ended_us))
    };
    all(connection, CHECKS, &[], check)
}

fn incidents(
    connection: &Connection,
    (since, until): (Timestamp, Timestamp),
) -> rusqlite::Result<Vec<AuditIncident>> {
    if !has_table(connection, "monmon_incident")? {
        return Ok(Vec::new());
    }
    let incident = |row: &Row<'_>| {
        let recovered_us = text(row, 2)?.is_some().then(|| micros(row, 2)).transpose()?;
        Ok(AuditIncident {
            check_id: id(row, 0)?,
            began_us: micros(row, 1)?,
            recovered_us,
            reason: row.get(3)?,
        })
    };
    all(connection, INCIDENTS, &[instant(since), instant(until)], incident)
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    connection.query_row(sql, [name], |row| row.get(0))
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    ids: &[String],
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map(rusqlite::params_from_iter(ids), read)?.collect()
}

fn receipt<'a>(row: &'a Row<'_>) -> rusqlite::Result<AuditReceipt<'a>> {
    Ok(AuditReceipt {
        boot_id: id(row, 0)?,
        pipeline: text(row, 1)?.unwrap_or_default(),
        source: text(row, 2)?.unwrap_or_default(),
        at_us: micros(row, 3)?,
        began_us: micros(row, 4)?,
        slots_from_us: micros(row, 5)?,
        slots_until_us: micros(row, 6)?,
        first_seq: long(row, 7)?,
        last_seq: long(row, 8)?,
        ids_xor: id(row, 9)?,
        failed: long(row, 10)?,
        last: row.get(11)?,
    })
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<Option<&'a str>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        value => value.as_str().map(Some).map_err(|error| bad(column, error)),
    }
}

pub(crate) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    text(row, column)?.unwrap_or_default().parse().map_err(|error| bad(column, error))
}

pub(crate) fn micros(row: &Row<'_>, column: usize) -> rusqlite::Result<i64> {
    let at: Timestamp = text(row, column)?.unwrap_or_default().parse().map_err(|error| bad(column, error))?;
    Ok(at.as_microsecond())
}

/// A number that is never negative.
pub(crate) fn long(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}

pub(crate) fn bad(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
