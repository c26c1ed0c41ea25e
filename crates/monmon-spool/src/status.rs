//! What a spool says of itself, also while a process works with it: the rows of `monmon status --spool`.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use serde::Serialize;

use crate::error::{SpoolError, SpoolErrorKind};
use crate::file::{APPLICATION, VERSION, bytes_on_disk, check_path, holder};

/// A spool at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpoolStatus {
    pub items: u64,
    /// What it takes on the disk.
    pub bytes: u64,
    pub bytes_max: u64,
    /// The slots of the first and the last item.
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
    /// Items that the sink has refused again and again.
    pub refused: u64,
    /// The process that has it open.
    pub pid: Option<u32>,
    /// What the bound made it drop, since the file was made.
    pub dropped: Vec<DroppedCheck>,
    /// Damaged files that were put aside.
    pub quarantined: Vec<Quarantined>,
}

/// What was dropped of one check. The name is empty for what belongs to no check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DroppedCheck {
    pub pipeline: String,
    pub source: String,
    pub check: String,
    pub count: u64,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// In the folder of the spool.
    pub file: String,
    pub at: Option<Timestamp>,
    /// Rows that could be read.
    pub kept: u64,
    /// Rows that could not; unknown where the file could not tell how many it had.
    pub lost: Option<u64>,
}

/// Looks at the spool at `path`. Makes nothing.
pub fn status(path: &Path) -> Result<SpoolStatus, SpoolError> {
    if !path.exists() {
        return Err(SpoolError::new(SpoolErrorKind::Missing, path));
    }
    check_path(path)?;
    let sort = |error| SpoolError::sort(error, path);
    let connection = open(path)?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    match (number("PRAGMA application_id").map_err(sort)?, number("PRAGMA user_version").map_err(sort)?) {
        (APPLICATION, VERSION) => {}
        (APPLICATION, found) if found > VERSION => {
            return Err(SpoolError::new(SpoolErrorKind::Newer { found, known: VERSION }, path));
        }
        _ => return Err(SpoolError::new(SpoolErrorKind::Foreign, path)),
    }
    // One look, though a writer goes on.
    let reading = connection.unchecked_transaction().map_err(sort)?;
    let status = read(&reading, path).map_err(sort)?;
    reading.finish().map_err(sort)?;
    Ok(status)
}

/// After a crash the journal has to be applied first, which a reader that may write does.
fn open(path: &Path) -> Result<Connection, SpoolError> {
    let sort = |error| SpoolError::sort(error, path);
    let open = |flags| {
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    };
    match open(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        Err(rusqlite::Error::SqliteFailure(failure, _))
            if matches!(failure.code, ErrorCode::CannotOpen | ErrorCode::ReadOnly) =>
        {
            open(OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sort)
        }
        other => other.map_err(sort),
    }
}

fn read(connection: &Connection, path: &Path) -> rusqlite::Result<SpoolStatus> {
    let (items, bytes_max) =
        connection.query_row("SELECT items, bytes_max FROM monmon_spool_total", [], |row| {
            Ok((count(row.get(0)?), count(row.get(1)?)))
        })?;
    let end = |order: &str| {
        let sql = format!("SELECT at FROM monmon_spool_item ORDER BY position {order} LIMIT 1");
        let at: Option<i64> = connection.query_row(&sql, [], |row| row.get(0)).optional()?;
        Ok::<_, rusqlite::Error>(at.and_then(time))
    };
    let refused = connection.query_row("SELECT count(*) FROM monmon_spool_refused", [], |row| row.get(0))?;
    let mut statement = connection.prepare(
        "SELECT pipeline, source, name, count, first_at, last_at FROM monmon_spool_dropped \
         ORDER BY pipeline, source, name",
    )?;
    let dropped = statement.query_map([], |row| {
        Ok(DroppedCheck {
            pipeline: row.get(0)?,
            source: row.get(1)?,
            check: row.get(2)?,
            count: count(row.get(3)?),
            first: time(row.get(4)?),
            last: time(row.get(5)?),
        })
    })?;
    let dropped = dropped.collect::<rusqlite::Result<_>>()?;
    let mut statement =
        connection.prepare("SELECT file, at, kept, lost FROM monmon_spool_quarantine ORDER BY at, file")?;
    let quarantined = statement.query_map([], |row| {
        Ok(Quarantined {
            file: row.get(0)?,
            at: time(row.get(1)?),
            kept: count(row.get(2)?),
            lost: row.get::<_, Option<i64>>(3)?.map(count),
        })
    })?;
    let quarantined = quarantined.collect::<rusqlite::Result<_>>()?;
    Ok(SpoolStatus {
        items,
        bytes: bytes_on_disk(path),
        bytes_max,
        oldest: end("ASC")?,
        newest: end("DESC")?,
        refused: count(refused),
        pid: holder(path),
        dropped,
        quarantined,
    })
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn time(us: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(us).ok()
}
