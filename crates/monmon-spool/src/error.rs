//! Why a spool's file cannot be used, sorted by what can be done about it.

use std::fmt;
use std::io;
use std::path::Path;

use monmon_stage::StageError;
use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Why the spool could not be used.
#[derive(Debug)]
pub struct SpoolError {
    kind: SpoolErrorKind,
    path: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolErrorKind {
    /// Nothing is there, and a reader makes nothing.
    Missing,
    /// The folder it should lie in is not there.
    NoFolder,
    /// A folder is there.
    Folder,
    CannotOpen,
    /// Another process, or another stage of this one, has it open.
    InUse {
        /// None where it could not be found out.
        pid: Option<u32>,
    },
    /// Somebody reads for longer than the wait.
    Busy,
    DiskFull,
    /// More than the bound allows would have been written.
    Bound,
    /// The disk failed a read or a write.
    Io,
    ReadOnly,
    OutOfMemory,
    /// Deleted or replaced while it was open.
    Moved,
    Damaged,
    /// Something else than a spool.
    Foreign,
    /// Made by a later version of monmon.
    Newer {
        found: i64,
        known: i64,
    },
    Other,
}

impl SpoolError {
    pub(crate) fn new(kind: SpoolErrorKind, path: &Path) -> SpoolError {
        SpoolError { kind, path: path.display().to_string(), cause: None }
    }

    /// Sorts an error of the driver.
    pub(crate) fn sort(cause: rusqlite::Error, path: &Path) -> SpoolError {
        let kind = match &cause {
            rusqlite::Error::SqliteFailure(failure, _)
                if failure.extended_code == ffi::SQLITE_READONLY_DBMOVED =>
            {
                SpoolErrorKind::Moved
            }
            rusqlite::Error::SqliteFailure(failure, _) => sort_code(failure.code),
            // A value of another type than was written, or a table that is not as it was made.
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::QueryReturnedNoRows
            | rusqlite::Error::SqlInputError { .. } => SpoolErrorKind::Damaged,
            _ => SpoolErrorKind::Other,
        };
        SpoolError { cause: Some(Box::new(cause)), ..SpoolError::new(kind, path) }
    }

    pub(crate) fn sort_io(cause: io::Error, path: &Path) -> SpoolError {
        let kind = match cause.kind() {
            io::ErrorKind::NotFound => SpoolErrorKind::NoFolder,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolErrorKind::DiskFull,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => SpoolErrorKind::ReadOnly,
            io::ErrorKind::IsADirectory => SpoolErrorKind::Folder,
            _ => SpoolErrorKind::Io,
        };
        SpoolError { cause: Some(Box::new(cause)), ..SpoolError::new(kind, path) }
    }

    pub fn kind(&self) -> SpoolErrorKind {
        self.kind
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&'static str> {
        match self.kind {
            SpoolErrorKind::Missing => Some("a sink with a spool makes the file when it starts"),
            SpoolErrorKind::NoFolder => {
                Some("make the folder; a path in a pipeline file starts from that file's folder")
            }
            SpoolErrorKind::Folder => Some("name a file in it, such as monmon.spool"),
            SpoolErrorKind::CannotOpen | SpoolErrorKind::ReadOnly => {
                Some("file and folder must be writable: a spool keeps a journal and a lock beside the file")
            }
            SpoolErrorKind::InUse { .. } => {
                Some("a spool belongs to one sink of one process; give each its own")
            }
            SpoolErrorKind::Foreign => Some("name another path: monmon leaves this file as it is"),
            SpoolErrorKind::Newer { .. } => Some("use the newer monmon for this file"),
            _ => None,
        }
    }
}

fn sort_code(code: ErrorCode) -> SpoolErrorKind {
    match code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted
        | ErrorCode::SchemaChanged => SpoolErrorKind::Busy,
        ErrorCode::DiskFull => SpoolErrorKind::DiskFull,
        ErrorCode::SystemIoFailure => SpoolErrorKind::Io,
        ErrorCode::OutOfMemory => SpoolErrorKind::OutOfMemory,
        ErrorCode::CannotOpen => SpoolErrorKind::CannotOpen,
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => SpoolErrorKind::ReadOnly,
        // Our own statements fit our own tables, so a table or a row that they do not fit is not what was written.
        ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::TypeMismatch
        | ErrorCode::ConstraintViolation
        | ErrorCode::Unknown => SpoolErrorKind::Damaged,
        _ => SpoolErrorKind::Other,
    }
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match self.kind {
            SpoolErrorKind::Missing => write!(f, "there is no spool `{path}`"),
            SpoolErrorKind::NoFolder => write!(f, "the folder of the spool `{path}` is not there"),
            SpoolErrorKind::Folder => write!(f, "`{path}` is a folder, not a spool"),
            SpoolErrorKind::CannotOpen => write!(f, "the spool `{path}` cannot be opened"),
            SpoolErrorKind::InUse { pid: Some(pid) } => {
                write!(f, "the spool `{path}` is in use by the process {pid}")
            }
            SpoolErrorKind::InUse { pid: None } => {
                write!(f, "the spool `{path}` is in use by another process")
            }
            SpoolErrorKind::Busy => write!(f, "another process keeps the spool `{path}` locked"),
            SpoolErrorKind::DiskFull => write!(f, "the disk of the spool `{path}` is full"),
            SpoolErrorKind::Bound => write!(f, "the spool `{path}` has no room within its bound"),
            SpoolErrorKind::Io => write!(f, "the disk of the spool `{path}` failed"),
            SpoolErrorKind::ReadOnly => write!(f, "the spool `{path}` may not be written"),
            SpoolErrorKind::OutOfMemory => write!(f, "no memory was left for the spool `{path}`"),
            SpoolErrorKind::Moved => write!(f, "the spool `{path}` was deleted or replaced while in use"),
            SpoolErrorKind::Damaged => write!(f, "the spool `{path}` is damaged"),
            SpoolErrorKind::Foreign => write!(f, "`{path}` is something else than a spool of monmon's"),
            SpoolErrorKind::Newer { found, known } => write!(
                f,
                "the spool `{path}` was made by a newer monmon: it is of version {found}, this one knows {known}"
            ),
            SpoolErrorKind::Other => write!(f, "the spool `{path}` cannot be used"),
        }
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

impl From<SpoolError> for StageError {
    fn from(error: SpoolError) -> StageError {
        let stage = StageError::permanent(error.to_string());
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
