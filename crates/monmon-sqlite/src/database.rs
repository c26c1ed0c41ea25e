//! Opening a database file, and the numbered files of `sql/sqlite/` that make its tables.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::error::{StoreError, StoreErrorKind};

/// How long SQLite itself waits for another process before a statement is busy.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// How long opening waits for others that open the same file. To turn a file to write-ahead logging takes all of its locks,
/// and who meets another at that is refused at once, whatever `BUSY_WAIT` says.
const OPEN_WAIT: Duration = Duration::from_secs(5);
const OPEN_PAUSE: Duration = Duration::from_millis(10);
/// Prepared statements that are kept: there are fewer.
const STATEMENTS_MAX: usize = 32;

struct Migration {
    version: i64,
    file: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $file:literal)*) => {
        &[$(Migration { version: $version, file: $file, sql: include_str!(concat!("../../../sql/sqlite/", $file)) },)*]
    };
}

const MIGRATIONS: &[Migration] = migrations! {
    1 "0001_tables.sql"
    2 "0002_views.sql"
    3 "0003_uptime.sql"
    4 "0004_metrics.sql"
    5 "0005_details.sql"
    6 "0006_batches.sql"
    7 "0007_receipts.sql"
    8 "0008_rollups.sql"
    9 "0009_incidents.sql"
    10 "0010_upkeep.sql"
};

/// When a commit is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Synchronous {
    /// Before it is acked: no ack is lost with the power.
    Full,
    /// Some time later: a killed process loses nothing, a power cut the last commits.
    Normal,
}

/// A file that is open for writing.
pub(crate) struct Database {
    pub(crate) connection: Connection,
    path: PathBuf,
    /// Which file the path was when it was opened.
    file: Option<FileId>,
    log: Option<FileId>,
}

impl Database {
    /// Opens the file, makes it when it is not there, and brings its tables up to date.
    pub(crate) fn open(path: &Path, synchronous: Synchronous) -> Result<Database, StoreError> {
        let (connection, _) = open_current(path, synchronous)?;
        Ok(Database { connection, path: path.to_owned(), file: FileId::of(path), log: None })
    }

    /// Whether what was committed can be found under the path. SQLite itself would write on to a file without a name.
    pub(crate) fn check_place(&mut self) -> Result<(), StoreError> {
        let log = FileId::of(&log_path(&self.path));
        let known = self.log.is_none() || self.log == log;
        self.log = log;
        match self.file.is_some() && self.file == FileId::of(&self.path) && known {
            true => Ok(()),
            false => Err(StoreError::new(StoreErrorKind::Moved, &self.path)),
        }
    }
}

/// Brings the tables of the file at `path` up to date and makes it when it is not there; gives the files that were
/// applied, in their order. Several callers at once wait for each other.
pub fn migrate(path: &Path) -> Result<Vec<String>, StoreError> {
    let (_, applied) = open_current(path, Synchronous::Full)?;
    Ok(applied)
}

/// Opens the file for reading. Makes nothing.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::new(StoreErrorKind::Missing, path));
    }
    check_is_file(path)?;
    let sort = |error| StoreError::sort(error, path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sort)?;
    connection.busy_timeout(BUSY_WAIT).map_err(sort)?;
    let found = version(&connection).map_err(sort)?;
    if found == 0 {
        return Err(StoreError::new(StoreErrorKind::NoTables, path));
    }
    match known_version().cmp(&found) {
        std::cmp::Ordering::Equal => Ok(connection),
        std::cmp::Ordering::Less => Err(newer(path, found)),
        std::cmp::Ordering::Greater => Err(StoreError::new(StoreErrorKind::Schema, path)),
    }
}

/// What cannot be a database is told as what it is; SQLite would only say that it cannot open it, or wait for a pipe.
fn check_is_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(StoreError::new(StoreErrorKind::Folder, path)),
        Ok(metadata) if !metadata.is_file() => Err(StoreError::new(StoreErrorKind::NotADatabase, path)),
        _ => Ok(()),
    }
}

/// Opens a file whose tables are up to date for writing. Makes nothing.
pub(crate) fn open_current_only(path: &Path, synchronous: Synchronous) -> Result<Connection, StoreError> {
    drop(open_to_read(path)?);
    let sort = |error| StoreError::sort(error, path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sort)?;
    set_up(&connection, synchronous).map_err(sort)?;
    Ok(connection)
}

/// Waits, on this thread, where others are at opening the same file.
pub(crate) fn open_current(
    path: &Path,
    synchronous: Synchronous,
) -> Result<(Connection, Vec<String>), StoreError> {
    check_is_file(path)?;
    let begun = Instant::now();
    let mut applied = Vec::new();
    loop {
        match try_open(path, synchronous, &mut applied) {
            Ok(connection) => return Ok((connection, applied)),
            Err(error) if error.kind() == StoreErrorKind::Busy && begun.elapsed() < OPEN_WAIT => {
                std::thread::sleep(OPEN_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// What this call has applied goes into `applied`, also when it fails later.
fn try_open(
    path: &Path,
    synchronous: Synchronous,
    applied: &mut Vec<String>,
) -> Result<Connection, StoreError> {
    let sort = |error| StoreError::sort(error, path);
    // Without the flag for URIs, so that a path is a path whatever it begins with.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sort)?;
    set_up(&connection, synchronous).map_err(sort)?;
    let found = version(&connection).map_err(sort)?;
    if found > known_version() {
        return Err(newer(path, found));
    }
    for migration in MIGRATIONS.iter().filter(|migration| migration.version > found) {
        if let Err(error) = connection.execute_batch(migration.sql) {
            // Each file is one transaction, which is still open where a statement inside of it failed.
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK").map_err(sort)?;
            }
            // A step that cannot be made twice, as a new column, fails for all but the first of several.
            if version(&connection).map_err(sort)? >= migration.version {
                continue;
            }
            return Err(sort(error));
        }
        // Of several that run a file at once one adds its row; with the others it changed nothing.
        if connection.changes() > 0 {
            applied.push(migration.file.to_owned());
        }
    }
    Ok(connection)
}

fn set_up(connection: &Connection, synchronous: Synchronous) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.busy_timeout(BUSY_WAIT)?;
    // Readers go on while there is a writer. Where the file system cannot do it the mode stays what it is, and only
    // readers lose by that.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch(match synchronous {
        Synchronous::Full => "PRAGMA synchronous = FULL",
        Synchronous::Normal => "PRAGMA synchronous = NORMAL",
    })
}

/// The last migration that was applied; 0 for an empty file.
fn version(connection: &Connection) -> rusqlite::Result<i64> {
    const TABLE: &str = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'monmon_schema_version'";
    if connection.query_row(TABLE, [], |_| Ok(())).optional()?.is_none() {
        return Ok(0);
    }
    connection.query_row("SELECT coalesce(max(version), 0) FROM monmon_schema_version", [], |row| row.get(0))
}

fn known_version() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

fn newer(path: &Path, found: i64) -> StoreError {
    StoreError::new(StoreErrorKind::NewerSchema { found, known: known_version() }, path)
}

fn log_path(path: &Path) -> PathBuf {
    let mut log: OsString = path.into();
    log.push("-wal");
    log.into()
}

/// Which file a path names: the same path may be another file later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    #[cfg(unix)]
    fn of(path: &Path) -> Option<FileId> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(FileId { device: metadata.dev(), number: metadata.ino() })
    }

    /// Elsewhere an open file can't be deleted, and that it is there is all one needs to know.
    #[cfg(not(unix))]
    fn of(path: &Path) -> Option<FileId> {
        path.exists().then_some(FileId { device: 0, number: 0 })
    }
}
