//! Making a spool anew from one that is damaged or was deleted: every row that can be read goes into the new file, and the
//! damaged one is put aside.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::error::SpoolError;
use crate::file::{Bound, beside, connect, journal};
use crate::lost::Lost;
use crate::record::Record;
use crate::salvage;
use crate::store::{insert, record};

/// Rows that one transaction of a renewal writes.
const CHUNK_ROWS: usize = 2_000;
/// Damaged files of one second that keep apart.
const NAMES_MAX: u32 = 1_000;

/// What a renewal has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renewal {
    /// Where the damaged file is now; nowhere if it had been deleted.
    pub(crate) put_aside: Option<PathBuf>,
    pub(crate) kept: u64,
    /// Not known where the damaged file could not tell how many rows it had.
    pub(crate) lost: Option<u64>,
}

/// Makes the file at `path` anew. Whatever ends this midway, the next try begins with the same file.
pub(crate) fn renew(path: &Path, now: Timestamp) -> Result<Renewal, SpoolError> {
    let sort = |error| SpoolError::sort(error, path);
    let sort_io = |error| SpoolError::sort_io(error, path);
    let rebuilt = beside(path, "-rebuild");
    remove(&rebuilt)?;
    // What was within the bound before may need some pages more in another order.
    let connection = connect(&rebuilt, Bound::NONE)?;
    let mut chunks = Chunks::new(&connection);
    let known = salvage_all(path, &connection, &mut chunks)?;
    let kept = chunks.end().map_err(sort)?;
    let lost = known.map(|known| known.saturating_sub(kept));
    let aside = aside(path, now);
    let file = aside.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    note(&connection, &file, now, kept, lost).map_err(sort)?;
    connection.close().map_err(|(_, error)| sort(error))?;
    fs::rename(path, &aside).map_err(sort_io)?;
    // There may be none; left where it is it would be taken for the new file's.
    rename_if_there(&journal(path), &journal(&aside)).map_err(sort_io)?;
    fs::rename(&rebuilt, path).map_err(sort_io)?;
    remove(&rebuilt)?;
    Ok(Renewal { put_aside: Some(aside), kept, lost })
}

/// A renewal that was killed between its last two steps is brought to its end.
pub(crate) fn finish_renewal(path: &Path) -> Result<(), SpoolError> {
    let rebuilt = beside(path, "-rebuild");
    if !path.exists() && rebuilt.exists() {
        fs::rename(&rebuilt, path).map_err(|error| SpoolError::sort_io(error, path))?;
    }
    remove(&rebuilt)
}

/// Copies what an open file has that was deleted into the one that took its place.
pub(crate) fn rescue(
    old: &Connection,
    new: &Connection,
    path: &Path,
    now: Timestamp,
) -> Result<Renewal, SpoolError> {
    let sort = |error| SpoolError::sort(error, path);
    let known: i64 =
        old.query_row("SELECT items FROM monmon_spool_total", [], |row| row.get(0)).map_err(sort)?;
    let mut chunks = Chunks::new(new);
    each_row(old, |record| chunks.put(&record)).map_err(sort)?;
    let kept = chunks.end().map_err(sort)?;
    copy_counts(old, new).map_err(sort)?;
    let lost = u64::try_from(known).unwrap_or(0).saturating_sub(kept);
    note(new, "(deleted)", now, kept, Some(lost)).map_err(sort)?;
    Ok(Renewal { put_aside: None, kept, lost: Some(lost) })
}

/// By SQL as long as the file's structure is sound, since then only rows are found that are in the queue; else page by
/// page. Gives how many rows the file says that it had, if it can still say so.
fn salvage_all(path: &Path, new: &Connection, chunks: &mut Chunks<'_>) -> Result<Option<u64>, SpoolError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let old = Connection::open_with_flags(path, flags).ok();
    let known = old.as_ref().and_then(|old| count(old, "SELECT items FROM monmon_spool_total"));
    if let Some(old) = &old {
        // What can't be copied of these is not worth the measurements.
        let _best_effort = copy_counts(old, new);
    }
    if let Some(old) = old.as_ref().filter(|old| is_sound(old, known)) {
        each_row(old, |record| chunks.put(&record)).map_err(|error| SpoolError::sort(error, path))?;
        return Ok(known);
    }
    drop(old);
    let salvaged = salvage::rows(path, |record| chunks.put(&record).map_err(Fault::Sql));
    salvaged.map_err(|fault| match fault {
        Fault::Io(error) => SpoolError::sort_io(error, path),
        Fault::Sql(error) => SpoolError::sort(error, path),
    })?;
    Ok(known)
}

fn count(connection: &Connection, sql: &str) -> Option<u64> {
    let number: i64 = connection.query_row(sql, [], |row| row.get(0)).ok()?;
    u64::try_from(number).ok()
}

fn is_sound(connection: &Connection, known: Option<u64>) -> bool {
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    let rows = count(connection, "SELECT count(*) FROM monmon_spool_item");
    verdict.is_ok_and(|verdict| verdict == "ok") && rows.is_some() && rows == known
}

enum Fault {
    Io(std::io::Error),
    Sql(rusqlite::Error),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        Fault::Io(error)
    }
}

/// Gives every row with the right checksum to `each`.
fn each_row(
    connection: &Connection,
    mut each: impl FnMut(Record) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let sql = "SELECT position, kind, at, body, origin, checksum FROM monmon_spool_item ORDER BY position";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // A value of the wrong type is one row's damage.
        if let Ok(Some(record)) = record(row) {
            each(record)?;
        }
    }
    Ok(())
}

/// Writes rows, so many to a transaction.
struct Chunks<'a> {
    connection: &'a Connection,
    kept: u64,
    pending: usize,
}

impl<'a> Chunks<'a> {
    fn new(connection: &'a Connection) -> Chunks<'a> {
        Chunks { connection, kept: 0, pending: 0 }
    }

    fn put(&mut self, record: &Record) -> rusqlite::Result<()> {
        if self.pending == 0 {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
        }
        self.kept += insert(self.connection, record)?.unsigned_abs();
        self.pending += 1;
        if self.pending >= CHUNK_ROWS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> rusqlite::Result<()> {
        match std::mem::take(&mut self.pending) {
            0 => Ok(()),
            _ => self.connection.execute_batch("COMMIT"),
        }
    }

    /// How many rows are new.
    fn end(mut self) -> rusqlite::Result<u64> {
        self.flush()?;
        recount(self.connection)?;
        Ok(self.kept)
    }
}

/// What was dropped before, and what was put or set aside before; each as far as it can be read. Gives the first error.
fn copy_counts(old: &Connection, new: &Connection) -> rusqlite::Result<()> {
    // A damaged file of before may have no such table; a half of it is no harm.
    let lost = Lost::read(old).map_or(Ok(()), |lost| lost.write(new));
    let dropped = copy_table(old, new, "monmon_spool_dropped", 6);
    let quarantine = copy_table(old, new, "monmon_spool_quarantine", 4);
    lost.and(dropped).and(quarantine).and(copy_set_aside(old, new))
}

fn copy_table(old: &Connection, new: &Connection, table: &str, columns: usize) -> rusqlite::Result<()> {
    let mut statement = old.prepare(&format!("SELECT * FROM {table}"))?;
    let mut rows = statement.query([])?;
    let places = vec!["?"; columns].join(", ");
    while let Some(row) = rows.next()? {
        let values: Vec<Value> = (0..columns).map(|at| row.get(at)).collect::<Result<_, _>>()?;
        let sql = format!("INSERT OR IGNORE INTO {table} VALUES ({places})");
        new.execute(&sql, params_from_iter(values))?;
    }
    Ok(())
}

fn copy_set_aside(old: &Connection, new: &Connection) -> rusqlite::Result<()> {
    let mut statement = old.prepare(
        "SELECT position, kind, at, body, origin, checksum FROM monmon_spool_refused ORDER BY position",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let values: Vec<Value> = (0..6).map(|at| row.get(at)).collect::<Result<_, _>>()?;
        new.execute(
            "INSERT OR IGNORE INTO monmon_spool_refused VALUES (?, ?, ?, ?, ?, ?)",
            params_from_iter(values),
        )?;
    }
    Ok(())
}

fn recount(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "UPDATE monmon_spool_total SET items = (SELECT count(*) FROM monmon_spool_item), \
         last_position = max(last_position, (SELECT coalesce(max(position), 0) FROM monmon_spool_item))",
    )
}

fn note(
    connection: &Connection,
    file: &str,
    now: Timestamp,
    kept: u64,
    lost: Option<u64>,
) -> rusqlite::Result<()> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    connection.execute(
        "INSERT OR REPLACE INTO monmon_spool_quarantine (file, at, kept, lost) VALUES (?1, ?2, ?3, ?4)",
        (file, now.as_microsecond(), signed(kept), lost.map(signed)),
    )?;
    Ok(())
}

/// A name for the damaged file; nothing has it yet, unless a thousand of the same second have.
fn aside(path: &Path, now: Timestamp) -> PathBuf {
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    let first = beside(path, &format!(".damaged-{time}"));
    let others = (2..=NAMES_MAX).map(|number| beside(path, &format!(".damaged-{time}-{number}")));
    std::iter::once(first.clone()).chain(others).find(|name| !name.exists()).unwrap_or(first)
}

fn rename_if_there(from: &Path, to: &Path) -> std::io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove(path: &Path) -> Result<(), SpoolError> {
    for file in [path.to_owned(), journal(path)] {
        match fs::remove_file(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(SpoolError::sort_io(error, path)),
        }
    }
    Ok(())
}
