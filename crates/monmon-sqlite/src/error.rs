//! What SQLite says when it says no, sorted by what can be done about it.

use std::fmt;
use std::path::Path;

use monmon_stage::StageError;
use rusqlite::ErrorCode;

/// Why the store could not be used.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    path: String,
    /// What it is about, where that is not the file.
    name: Option<String>,
    cause: Option<Box<rusqlite::Error>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// Nothing is there, and a reader makes nothing.
    Missing,
    /// A folder is there.
    Folder,
    /// The file cannot be opened or made.
    CannotOpen,
    /// Another process writes, and goes on for longer than the wait.
    Busy,
    DiskFull,
    /// The disk failed a read or write.
    Io,
    OutOfMemory,
    /// The file, or its log, was deleted or replaced while it was open.
    Moved,
    ReadOnly,
    Damaged,
    NotADatabase,
    /// A database, and none of monmon's tables in it.
    NoTables,
    /// A table or column is not there.
    Schema,
    /// Made by a later version of monmon.
    NewerSchema {
        found: i64,
        known: i64,
    },
    /// A row holds what no measurement has.
    Unreadable,
    /// No check of the name that was asked for.
    NoCheck,
    /// The tables do not take this row.
    Row,
    Other,
}

impl StoreError {
    pub(crate) fn new(kind: StoreErrorKind, path: &Path) -> StoreError {
        StoreError { kind, path: path.display().to_string(), name: None, cause: None }
    }

    /// No check of this name is in the store.
    pub(crate) fn no_check(name: &str, path: &Path) -> StoreError {
        StoreError { name: Some(name.to_owned()), ..StoreError::new(StoreErrorKind::NoCheck, path) }
    }

    /// Sorts an error of the driver.
    pub(crate) fn sort(cause: rusqlite::Error, path: &Path) -> StoreError {
        let kind = match &cause {
            rusqlite::Error::SqliteFailure(failure, _) => sort_code(failure.code),
            rusqlite::Error::SqlInputError { .. } => StoreErrorKind::Schema,
            rusqlite::Error::ToSqlConversionFailure(_) => StoreErrorKind::Row,
            rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
                StoreErrorKind::Unreadable
            }
            _ => StoreErrorKind::Other,
        };
        StoreError { cause: Some(Box::new(cause)), ..StoreError::new(kind, path) }
    }

    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether it may go away by itself.
    pub fn is_transient(&self) -> bool {
        use StoreErrorKind::{Busy, DiskFull, Io, Moved, OutOfMemory};
        matches!(self.kind, Busy | DiskFull | Io | OutOfMemory | Moved)
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self.kind {
            StoreErrorKind::Missing => {
                Some("a sqlite sink makes the file when it starts, and so does `monmon db migrate`")
            }
            StoreErrorKind::Folder => Some("name a file in it, such as monmon.db"),
            StoreErrorKind::CannotOpen => Some(
                "its folder must exist and be writable; a path in a pipeline file starts from that file's folder",
            ),
            StoreErrorKind::ReadOnly => {
                Some("file and folder must be writable: SQLite keeps its log beside the file")
            }
            StoreErrorKind::Damaged => {
                Some("save what can be read with `sqlite3 FILE .recover`, and move the file away")
            }
            StoreErrorKind::NotADatabase => Some("name another path: monmon leaves this file as it is"),
            StoreErrorKind::NoTables => Some(
                "name the file that a sqlite sink writes to, or make the tables here: \
                 `monmon db migrate --store sqlite:PATH`",
            ),
            StoreErrorKind::Schema => Some("run `monmon db migrate --store sqlite:PATH`"),
            StoreErrorKind::Unreadable => {
                Some("a newer monmon may have stored it: read the store with that one")
            }
            StoreErrorKind::NoCheck => Some("`monmon status` lists them as pipeline/source/name"),
            StoreErrorKind::NewerSchema { .. } => Some("use the newer monmon for this file"),
            _ => None,
        }
    }
}

fn sort_code(code: ErrorCode) -> StoreErrorKind {
    match code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted
        | ErrorCode::SchemaChanged => StoreErrorKind::Busy,
        ErrorCode::DiskFull => StoreErrorKind::DiskFull,
        ErrorCode::SystemIoFailure => StoreErrorKind::Io,
        ErrorCode::OutOfMemory => StoreErrorKind::OutOfMemory,
        ErrorCode::CannotOpen => StoreErrorKind::CannotOpen,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreErrorKind::ReadOnly,
        ErrorCode::DatabaseCorrupt => StoreErrorKind::Damaged,
        ErrorCode::NotADatabase => StoreErrorKind::NotADatabase,
        ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig => StoreErrorKind::Row,
        // SQL that does not fit the tables.
        ErrorCode::Unknown => StoreErrorKind::Schema,
        _ => StoreErrorKind::Other,
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match self.kind {
            StoreErrorKind::Missing => write!(f, "there is no file `{path}`"),
            StoreErrorKind::Folder => write!(f, "`{path}` is a folder, not a database"),
            StoreErrorKind::CannotOpen => write!(f, "`{path}` cannot be opened"),
            StoreErrorKind::Busy => write!(f, "another process keeps `{path}` locked"),
            StoreErrorKind::DiskFull => write!(f, "the disk of `{path}` is full"),
            StoreErrorKind::Io => write!(f, "the disk of `{path}` failed"),
            StoreErrorKind::OutOfMemory => write!(f, "no memory was left for `{path}`"),
            StoreErrorKind::Moved => write!(f, "`{path}` or its log was deleted or replaced while in use"),
            StoreErrorKind::ReadOnly => write!(f, "`{path}` may not be written"),
            StoreErrorKind::Damaged => write!(f, "`{path}` is damaged"),
            StoreErrorKind::NotADatabase => write!(f, "`{path}` is not a SQLite database"),
            StoreErrorKind::NoTables => write!(f, "`{path}` is a database without monmon's tables"),
            StoreErrorKind::Schema => write!(f, "`{path}` has not the tables that monmon needs"),
            StoreErrorKind::NewerSchema { found, known } => write!(
                f,
                "`{path}` was made by a newer monmon: its tables are of version {found}, this one knows {known}"
            ),
            StoreErrorKind::Unreadable => write!(f, "a row of `{path}` cannot be read"),
            StoreErrorKind::NoCheck => {
                write!(f, "`{path}` knows no check `{}`", self.name.as_deref().unwrap_or_default())
            }
            StoreErrorKind::Row => write!(f, "`{path}` does not take a row"),
            StoreErrorKind::Other => write!(f, "`{path}` cannot be used"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

impl From<StoreError> for StageError {
    fn from(error: StoreError) -> StageError {
        let text = error.to_string();
        let stage = match error.is_transient() {
            true => StageError::transient(text),
            false => StageError::permanent(text),
        };
        let stage = match error.help() {
            Some(help) => stage.help(help),
            None => stage,
        };
        match error.cause {
            Some(cause) => stage.caused_by(cause),
            None => stage,
        }
    }
}
