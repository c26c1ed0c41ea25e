//! The spool's file: opening it, holding it alone, and knowing that it is still the one at its path.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::error::{SpoolError, SpoolErrorKind};

/// In the header of every spool: "mmsp".
pub(crate) const APPLICATION: i64 = 0x6d6d_7370;
/// Of the tables.
pub(crate) const VERSION: i64 = 1;
pub(crate) const PAGE_BYTES: u64 = 4096;
/// How long SQLite waits for somebody who reads.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Pages that are kept in memory, in KiB.
const CACHE_KIB: i64 = 4096;
/// Prepared statements that are kept: there are fewer.
const STATEMENTS_MAX: usize = 32;
/// Where a name of our tables is looked for in a file that SQLite cannot read.
const LOOK_BYTES: u64 = 64 << 10;

const LOST: &str = include_str!("../../../sql/spool/0002_lost.sql");

/// How much room there is within a bound, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) bytes_max: u64,
    /// Largest main file.
    pub(crate) pages_max: u64,
    /// What rows may take of it: counts and the tree itself need some.
    pub(crate) pages_of_rows: u64,
    /// What the journal keeps between transactions.
    pub(crate) journal_bytes: u64,
}

impl Bound {
    pub(crate) const BYTES_MIN: u64 = 1 << 20;
    pub(crate) const JOURNAL_BYTES_MIN: u64 = 64 << 10;
    /// For a file that is being made anew.
    pub(crate) const NONE: Bound = Bound {
        bytes_max: 0,
        pages_max: u32::MAX as u64 - 1,
        pages_of_rows: u32::MAX as u64 - 1,
        journal_bytes: 4 << 20,
    };

    pub(crate) fn new(bytes_max: u64) -> Bound {
        let bytes_max = bytes_max.max(Bound::BYTES_MIN);
        let journal_bytes = (bytes_max / 16).clamp(Bound::JOURNAL_BYTES_MIN, 4 << 20);
        let pages_max = (bytes_max - journal_bytes) / PAGE_BYTES;
        Bound { bytes_max, pages_max, pages_of_rows: pages_max - (16 + pages_max / 64), journal_bytes }
    }
}

/// Opens the file at `path`, which may be new, with everything set that a spool relies on. Looks at no table.
pub(crate) fn connect(path: &Path, bound: Bound) -> Result<Connection, SpoolError> {
    let sort = |error| SpoolError::sort(error, path);
    // Without the flag for URIs, so that a path is a path whatever it begins with.
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sort)?;
    connection.busy_timeout(BUSY_WAIT).map_err(sort)?;
    // Nothing is set before it is known whose file it is.
    match application(&connection).map_err(sort)? {
        (0, 0) => {
            set_up(&connection, bound).map_err(sort)?;
            make_tables(&connection, bound).map_err(sort)?;
            Ok(connection)
        }
        (APPLICATION, VERSION) => {
            // Whether it may be written also stands in the file itself.
            let writable = OpenOptions::new().write(true).open(path).is_ok();
            if writable && connection.is_readonly("main").map_err(sort)? {
                return Err(SpoolError::new(SpoolErrorKind::Damaged, path));
            }
            set_up(&connection, bound).map_err(sort)?;
            if !has_lost(&connection).map_err(sort)? {
                connection.execute_batch(LOST).map_err(sort)?;
            }
            Ok(connection)
        }
        (APPLICATION, found) if found > VERSION => {
            Err(SpoolError::new(SpoolErrorKind::Newer { found, known: VERSION }, path))
        }
        _ => Err(SpoolError::new(SpoolErrorKind::Damaged, path)),
    }
}

/// Looked at first: a file that lies on a full disk can still be opened.
fn has_lost(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'monmon_spool_lost'";
    connection.query_row(sql, [], |row| row.get(0))
}

fn set_up(connection: &Connection, bound: Bound) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // These two count only before the first table is made.
    connection.pragma_update(None, "page_size", PAGE_BYTES.cast_signed())?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    // A rollback journal and no log: what was committed lies in one file, where damage shows. A log that is damaged in its
    // middle ends there without a word.
    connection.query_row("PRAGMA journal_mode = PERSIST", [], |_| Ok(()))?;
    limit_journal(connection, bound.journal_bytes)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    let pages = bound.pages_max.cast_signed();
    connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
}

/// What the journal may keep between transactions. On a full disk that is what there is for deleting rows.
pub(crate) fn limit_journal(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    connection.query_row(&format!("PRAGMA journal_size_limit = {bytes}"), [], |_| Ok(()))
}

/// Id and version in the header. A database with tables and no id is nobody's that we know.
fn application(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let id: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(if id == 0 && tables > 0 { (-1, version) } else { (id, version) })
}

fn make_tables(connection: &Connection, bound: Bound) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {} {LOST} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; \
         UPDATE monmon_spool_total SET bytes_max = {}; COMMIT",
        include_str!("../../../sql/spool/0001_spool.sql"),
        bound.bytes_max
    ))
}

/// Whether a file that SQLite may not be able to read is, or once was, a spool.
pub(crate) fn looks_like_ours(path: &Path) -> std::io::Result<bool> {
    const NAME: &[u8] = b"monmon_spool_item";
    let mut head = Vec::new();
    File::open(path)?.take(LOOK_BYTES).read_to_end(&mut head)?;
    let marked = head.get(68..72) == Some(&(APPLICATION as u32).to_be_bytes()[..]);
    Ok(head.is_empty() || marked || head.windows(NAME.len()).any(|bytes| bytes == NAME))
}

/// Nothing at the path, a folder, or something that no file is.
pub(crate) fn check_path(path: &Path) -> Result<(), SpoolError> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(SpoolError::new(SpoolErrorKind::Folder, path)),
        Ok(metadata) if !metadata.is_file() => Err(SpoolError::new(SpoolErrorKind::Foreign, path)),
        _ => Ok(()),
    }
}

/// How often, and how far apart, a lock is tried: somebody may just look who holds it.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The right to use a spool, held by one at a time: a lock on a file beside it, which says by whom.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    id: Option<FileId>,
}

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Lock, SpoolError> {
        let beside = beside(path, "-lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&beside);
        let mut file = opened.map_err(|error| SpoolError::sort_io(error, path))?;
        let mut locked = file.try_lock();
        for _ in 1..LOCK_TRIES {
            if !matches!(locked, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
            locked = file.try_lock();
        }
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who has just taken it may not have written its number yet.
                let pid = file.read_to_string(&mut holder).ok().and_then(|_| holder.trim().parse().ok());
                return Err(SpoolError::new(SpoolErrorKind::InUse { pid }, path));
            }
            Err(TryLockError::Error(error)) => return Err(SpoolError::sort_io(error, path)),
        }
        let told = format!("{}\n", std::process::id());
        // On a full disk the number is not there; the lock is.
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(told.as_bytes()));
        drop(written);
        Ok(Lock { _file: file, id: FileId::of(&beside) })
    }

    /// Whether the file that is locked is still the one at its path.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.id.is_some() && self.id == FileId::of(&beside(path, "-lock"))
    }
}

/// The number of the process that has the spool open, if one has.
pub(crate) fn holder(path: &Path) -> Option<u32> {
    let mut file = File::open(beside(path, "-lock")).ok()?;
    match file.try_lock_shared() {
        Ok(()) => None,
        Err(_held) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok()?;
            holder.trim().parse().ok()
        }
    }
}

/// A path in the same folder.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut other: OsString = path.into();
    other.push(suffix);
    other.into()
}

pub(crate) fn journal(path: &Path) -> PathBuf {
    beside(path, "-journal")
}

/// What the spool takes on the disk: the file, and the journal beside it.
pub(crate) fn bytes_on_disk(path: &Path) -> u64 {
    let of = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    of(path) + of(&journal(path))
}

/// Which file a path names: the same path may be another file later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    number: u64,
}

impl FileId {
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> Option<FileId> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(FileId { device: metadata.dev(), number: metadata.ino() })
    }

    /// Elsewhere an open file can't be deleted, and that it is there is all one needs to know.
    #[cfg(not(unix))]
    pub(crate) fn of(path: &Path) -> Option<FileId> {
        path.exists().then_some(FileId { device: 0, number: 0 })
    }
}
