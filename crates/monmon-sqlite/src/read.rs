//! Reading a store from its first row to its last: what the sink has taken apart is put together again.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use async_trait::async_trait;
use monmon_model::{Event, Measurement, Rejected, Selection};
use monmon_stage::{StageError, StoreReader, StoredPage};
use rusqlite::{Connection, params};

use crate::database::open_to_read;
use crate::error::StoreError;
use crate::incidents::stored;
use crate::restore::{Known, dead_letter, measurement, receipt};
use crate::rows::{MEASUREMENT_COLUMNS, id_text};
use crate::status::{id_floor, parsed};

/// How many rows are read at once.
const PAGE_ROWS: i64 = 1_000;
/// Dead letters may be a megabyte each.
const LETTERS: i64 = 16;
/// Above every id.
const END: &str = "g";

const WANTED: &str = "(?3 IS NULL OR check_id IN (SELECT value FROM json_each(?3)))";
static MEASUREMENTS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {} FROM monmon_measurement WHERE id > ?1 AND id < ?2 AND {WANTED} ORDER BY id LIMIT ?4",
        MEASUREMENT_COLUMNS.join(", ")
    )
});
const RECEIPTS: &str = "SELECT * FROM monmon_receipt WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3";
const INCIDENTS: &str = "SELECT i.*, c.name AS check_name, c.definition_id FROM monmon_incident AS i \
    JOIN monmon_check AS c ON c.id = i.check_id WHERE i.id > ?1 AND i.id < ?2 ORDER BY i.id LIMIT ?3";
const DEAD_LETTERS: &str = "SELECT id, reason, message, pipeline, source, topic, kafka_partition, kafka_offset, \
        occurred_at, key, bytes \
    FROM monmon_dead_letter WHERE id > ?1 AND id < ?2 ORDER BY id LIMIT ?3";
const CHECKS: &str =
    "SELECT id FROM monmon_check WHERE name = ?1 OR pipeline || '/' || source || '/' || name = ?1";

/// A store that is being read.
pub struct Reader {
    /// Elsewhere while a thread works with it.
    cursor: Option<Cursor>,
}

/// How far the reading has come.
struct Cursor {
    path: PathBuf,
    connection: Connection,
    /// The ids of the checks that are wanted, as JSON; none where all are.
    checks: Option<String>,
    /// No id up to here is wanted.
    start: String,
    /// No id of a measurement from here on is wanted.
    end: String,
    /// The same of everything else: what is no measurement may be later than the last one, and a letter has the time that
    /// its message claims.
    receipts_end: String,
    incidents_end: String,
    letters_end: String,
    part: Part,
    /// The last id that was read of this part.
    after: String,
    known: Known,
}

/// The tables, in the order in which they are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Measurements,
    Receipts,
    Incidents,
    DeadLetters,
    Done,
}

impl Reader {
    /// Opens a file for reading. What is stored after this is not read.
    pub fn open(path: PathBuf, selection: &Selection) -> Result<Reader, StoreError> {
        Cursor::open(path, selection).map(|cursor| Reader { cursor: Some(cursor) })
    }

    /// Works with the cursor on a thread that may wait for a disk.
    async fn work<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Cursor) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StageError> {
        let mut cursor =
            self.cursor.take().ok_or_else(|| StageError::permanent("the reading thread ended"))?;
        let working = tokio::task::spawn_blocking(move || {
            let done = job(&mut cursor);
            (cursor, done)
        });
        let (cursor, done) = working
            .await
            .map_err(|error| StageError::permanent("the reading thread ended").caused_by(error))?;
        self.cursor = Some(cursor);
        done.map_err(StageError::from)
    }
}

#[async_trait]
impl StoreReader for Reader {
    async fn count(&mut self) -> Result<u64, StageError> {
        self.work(Cursor::count).await
    }

    async fn next(&mut self) -> Result<StoredPage, StageError> {
        self.work(Cursor::next).await
    }
}

impl Cursor {
    fn open(path: PathBuf, selection: &Selection) -> Result<Cursor, StoreError> {
        let connection = open_to_read(&path)?;
        let sort = |error| StoreError::sort(error, &path);
        let checks = match selection.checks.is_empty() {
            true => None,
            false => Some(find_checks(&connection, &selection.checks, &path)?),
        };
        // Receipts first: what they are about is there when they are.
        let receipts_end = end(&connection, "monmon_receipt", selection).map_err(sort)?;
        let incidents_end = end(&connection, "monmon_incident", selection).map_err(sort)?;
        let letters_end = end(&connection, "monmon_dead_letter", selection).map_err(sort)?;
        let end = end(&connection, "monmon_measurement", selection).map_err(sort)?;
        let start = selection.since.map(id_floor).unwrap_or_default();
        Ok(Cursor {
            connection,
            checks,
            after: start.clone(),
            start,
            end,
            receipts_end,
            incidents_end,
            letters_end,
            part: Part::Measurements,
            known: Known::default(),
            path,
        })
    }

    fn count(&mut self) -> Result<u64, StoreError> {
        let rest = match self.checks {
            None => {
                "(SELECT count(*) FROM monmon_dead_letter WHERE id > ?1 AND id < ?6) \
                    + (SELECT count(*) FROM monmon_receipt WHERE id > ?1 AND id < ?4) \
                    + (SELECT count(*) FROM monmon_incident WHERE id > ?1 AND id < ?5)"
            }
            // What belongs to no check stays where it is.
            Some(_) => "0 * length(?4 || ?5 || ?6)",
        };
        let query = format!(
            "SELECT {rest} + (SELECT count(*) FROM monmon_measurement WHERE id > ?1 AND id < ?2 AND {WANTED})"
        );
        let parameters = params![
            self.start,
            self.end,
            self.checks,
            self.receipts_end,
            self.incidents_end,
            self.letters_end
        ];
        let count: i64 = self
            .connection
            .query_row(&query, parameters, |row| row.get(0))
            .map_err(|error| StoreError::sort(error, &self.path))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    fn next(&mut self) -> Result<StoredPage, StoreError> {
        let mut page = StoredPage::default();
        if self.part == Part::Measurements {
            page.measurements = self.measurements()?;
            if page.is_empty() {
                self.turn_to(if self.checks.is_none() { Part::Receipts } else { Part::Done });
            }
        }
        if self.part == Part::Receipts {
            page.events = self.receipts()?;
            if page.is_empty() {
                self.turn_to(Part::Incidents);
            }
        }
        if self.part == Part::Incidents {
            page.events = self.incidents()?;
            if page.is_empty() {
                self.turn_to(Part::DeadLetters);
            }
        }
        if self.part == Part::DeadLetters {
            page.rejected = self.dead_letters()?;
            if page.is_empty() {
                self.turn_to(Part::Done);
            }
        }
        Ok(page)
    }

    fn turn_to(&mut self, part: Part) {
        self.part = part;
        self.after.clone_from(&self.start);
    }

    fn measurements(&mut self) -> Result<Vec<Measurement>, StoreError> {
        let Cursor { connection, known, .. } = self;
        let mut read = || -> rusqlite::Result<Vec<Measurement>> {
            let mut query = connection.prepare_cached(&MEASUREMENTS)?;
            let mut rows = query.query(params![self.after, self.end, self.checks, PAGE_ROWS])?;
            let mut page = Vec::new();
            while let Some(row) = rows.next()? {
                page.push(measurement(connection, known, row)?);
            }
            Ok(page)
        };
        let page = read().map_err(|error| StoreError::sort(error, &self.path))?;
        if let Some(last) = page.last() {
            self.after = id_text(last.id);
        }
        Ok(page)
    }

    fn receipts(&mut self) -> Result<Vec<Event>, StoreError> {
        let Cursor { connection, known, .. } = self;
        let mut read = || -> rusqlite::Result<Vec<Event>> {
            let mut query = connection.prepare_cached(RECEIPTS)?;
            let mut rows = query.query(params![self.after, self.receipts_end, PAGE_ROWS])?;
            let mut page = Vec::new();
            while let Some(row) = rows.next()? {
                page.push(Event::Receipt(receipt(connection, known, row)?));
            }
            Ok(page)
        };
        let page = read().map_err(|error| StoreError::sort(error, &self.path))?;
        if let Some(last) = page.last() {
            self.after = id_text(last.id());
        }
        Ok(page)
    }

    fn incidents(&mut self) -> Result<Vec<Event>, StoreError> {
        let Cursor { connection, known, .. } = self;
        let mut read = || -> rusqlite::Result<Vec<Event>> {
            let mut query = connection.prepare_cached(INCIDENTS)?;
            let mut rows = query.query(params![self.after, self.incidents_end, PAGE_ROWS])?;
            let mut page = Vec::new();
            while let Some(row) = rows.next()? {
                let check = known.definition(connection, parsed(row, "definition_id")?)?;
                page.push(Event::Incident(stored(row)?.of(check)));
            }
            Ok(page)
        };
        let page = read().map_err(|error| StoreError::sort(error, &self.path))?;
        if let Some(last) = page.last() {
            self.after = id_text(last.id());
        }
        Ok(page)
    }

    fn dead_letters(&mut self) -> Result<Vec<Rejected>, StoreError> {
        let read = || -> rusqlite::Result<Vec<Rejected>> {
            let mut query = self.connection.prepare_cached(DEAD_LETTERS)?;
            let rows = query.query_map(params![self.after, self.letters_end, LETTERS], dead_letter)?;
            rows.collect()
        };
        let page = read().map_err(|error| StoreError::sort(error, &self.path))?;
        if let Some(last) = page.last() {
            self.after = id_text(last.id);
        }
        Ok(page)
    }
}

/// The first id that is not wanted of a table: what the selection says, else right behind the newest.
fn end(connection: &Connection, table: &str, selection: &Selection) -> rusqlite::Result<String> {
    if let Some(until) = selection.until {
        return Ok(id_floor(until));
    }
    let newest: Option<String> =
        connection.query_row(&format!("SELECT max(id) FROM {table}"), [], |row| row.get(0))?;
    Ok(newest.map_or_else(|| END.to_owned(), |newest| newest + "\u{0}"))
}

/// The ids of checks by their names, as JSON.
fn find_checks(connection: &Connection, names: &[String], path: &Path) -> Result<String, StoreError> {
    let mut ids: Vec<String> = Vec::new();
    for name in names {
        let mut query = connection.prepare_cached(CHECKS).map_err(|error| StoreError::sort(error, path))?;
        let found = query
            .query_map([name], |row| row.get(0))
            .and_then(Iterator::collect::<Result<Vec<String>, _>>)
            .map_err(|error| StoreError::sort(error, path))?;
        if found.is_empty() {
            return Err(StoreError::no_check(name, path));
        }
        ids.extend(found);
    }
    Ok(serde_json::json!(ids).to_string())
}
