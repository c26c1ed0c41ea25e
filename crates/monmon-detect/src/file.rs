//! What must not be forgotten, in a file: one row for each check that something is at stake of.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use uuid::Uuid;

use crate::watch::Watch;

/// Several processes of one machine may share the file.
const BUSY_WAIT: Duration = Duration::from_secs(2);

const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS watch (check_id TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID";
const READ: &str = "SELECT content FROM watch WHERE check_id = ?1";
const WRITE: &str = "INSERT INTO watch (check_id, content) VALUES (?1, ?2) \
    ON CONFLICT (check_id) DO UPDATE SET content = excluded.content";

/// When a change is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safe {
    /// From the death of the process, at once.
    Soon,
    /// From a power cut as well.
    AtOnce,
}

pub(crate) struct StateFile {
    connection: Connection,
}

impl StateFile {
    pub(crate) fn open(path: &Path) -> Result<StateFile, rusqlite::Error> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch(TABLE)?;
        Ok(StateFile { connection })
    }

    /// What is kept of a check. A row that cannot be read any more is as good as none.
    pub(crate) fn read(&self, check: Uuid) -> Result<Option<Watch>, rusqlite::Error> {
        let mut query = self.connection.prepare_cached(READ)?;
        let text: Option<String> =
            query.query_row([check.hyphenated().to_string()], |row| row.get(0)).optional()?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    pub(crate) fn write<'a>(
        &mut self,
        watches: impl Iterator<Item = (Uuid, &'a Watch)>,
        safe: Safe,
    ) -> Result<(), rusqlite::Error> {
        self.connection.execute_batch(match safe {
            Safe::Soon => "PRAGMA synchronous = NORMAL",
            Safe::AtOnce => "PRAGMA synchronous = FULL",
        })?;
        let transaction = self.connection.transaction()?;
        {
            let mut query = transaction.prepare_cached(WRITE)?;
            for (check, watch) in watches {
                let content = serde_json::to_string(watch).expect("a watch has text keys only");
                query.execute([check.hyphenated().to_string(), content])?;
            }
        }
        transaction.commit()
    }
}
