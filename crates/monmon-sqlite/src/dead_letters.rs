//! Dead letters read back: shown, dropped, or stored after all.

use std::path::{Path, PathBuf};

use monmon_model::{DeadLetter, DeadLetterFilter, Replayed, wire};
use monmon_stage::{Measured, Twins};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, TransactionBehavior, params};
use uuid::Uuid;

use crate::database::{Synchronous, open_current_only};
use crate::error::{StoreError, StoreErrorKind};
use crate::reference::Remembered;
use crate::rows::{id_text, instant, misfit, put_measurement};
use crate::twins::differing;

const CONDITION: &str = "WHERE (?1 IS NULL OR id IN (SELECT value FROM json_each(?1)))
      AND (?2 IS NULL OR reason = ?2) AND (?3 IS NULL OR topic = ?3)
      AND (?4 IS NULL OR stored_at >= ?4) AND (?5 IS NULL OR stored_at < ?5) AND (?6 IS NULL OR id > ?6)";

const COLUMNS: &str =
    "id, reason, message, pipeline, source, topic, kafka_partition, kafka_offset, occurred_at, stored_at,
    key, bytes";

/// A file's dead letters.
pub struct DeadLetters {
    path: PathBuf,
    connection: Connection,
}

impl DeadLetters {
    /// Makes no file where there is none, and leaves the tables as they are.
    pub fn open(path: &Path) -> Result<DeadLetters, StoreError> {
        let connection = open_current_only(path, Synchronous::Full)?;
        Ok(DeadLetters { path: path.to_owned(), connection })
    }

    /// In the order of their ids, which is that of the messages' own times; at most so many.
    pub fn list(&self, filter: &DeadLetterFilter, max: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM monmon_dead_letter {CONDITION} ORDER BY id LIMIT {max}");
        let listed = self.connection.prepare(&sql).and_then(|mut query| {
            with_filter(filter, |values| query.query_map(values, letter)?.collect::<Result<Vec<_>, _>>())
        });
        self.sorted(listed)
    }

    pub fn count(&self, filter: &DeadLetterFilter) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM monmon_dead_letter {CONDITION}");
        let counted =
            with_filter(filter, |values| self.connection.query_row(&sql, values, |row| row.get::<_, i64>(0)));
        self.sorted(counted).map(i64::unsigned_abs)
    }

    /// How many there were.
    pub fn remove(&self, filter: &DeadLetterFilter) -> Result<u64, StoreError> {
        let sql = format!("DELETE FROM monmon_dead_letter {CONDITION}");
        let dropped = with_filter(filter, |values| self.connection.execute(&sql, values));
        self.sorted(dropped).map(|count| count as u64)
    }

    /// Reads a letter once more, and stores what can be stored now in the transaction that ends the letter.
    pub fn replay(&mut self, letter: &DeadLetter) -> Result<Replayed, StoreError> {
        let measurement = match wire::decode_message(&letter.bytes) {
            Ok(wire::Message::Measurement(measurement)) => measurement,
            Ok(wire::Message::Event(_)) => {
                return Ok(Replayed::Kept("it is no measurement: send it to the topic once more".to_owned()));
            }
            Err(error) => return Ok(Replayed::Kept(format!("{}: {}", error.reason.as_str(), error.message))),
        };
        if let Some(why) = misfit(&measurement) {
            return Ok(Replayed::Kept(why));
        }
        let measured = Measured { measurement: Box::new(measurement), page: None, place: None };
        match self.store(letter.id, &measured).map_err(|error| StoreError::sort(error, &self.path)) {
            Err(error) if error.kind() == StoreErrorKind::Row => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Ok(Replayed::Kept(cause.unwrap_or_else(|| error.to_string())))
            }
            other => other,
        }
    }

    fn store(&mut self, letter: Uuid, measured: &Measured) -> rusqlite::Result<Replayed> {
        let measurement = &*measured.measurement;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let references = Remembered::default().store(&transaction, measurement)?;
        let replayed = match put_measurement(&transaction, measurement, &references)? {
            true => Replayed::Stored,
            false => {
                let twin = differing(&transaction, measurement, &references)?;
                match Twins::default().meet(measured, &twin) {
                    Some(conflict) => return Ok(Replayed::Kept(conflict.rejected.message)),
                    None => Replayed::Known,
                }
            }
        };
        transaction.execute("DELETE FROM monmon_dead_letter WHERE id = ?1", [id_text(letter)])?;
        transaction.commit()?;
        Ok(replayed)
    }

    fn sorted<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| StoreError::sort(error, &self.path))
    }
}

fn with_filter<T>(
    filter: &DeadLetterFilter,
    job: impl FnOnce(&[&dyn rusqlite::ToSql]) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let ids: Vec<String> = filter.ids.iter().copied().map(id_text).collect();
    let ids = (!ids.is_empty()).then(|| crate::rows::json_text(&ids));
    job(params![
        ids,
        filter.reason,
        filter.topic,
        filter.since.map(instant),
        filter.until.map(instant),
        filter.after.map(id_text),
    ])
}

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        id: parsed(row, 0)?,
        reason: row.get(1)?,
        message: row.get(2)?,
        pipeline: row.get(3)?,
        source: row.get(4)?,
        topic: row.get(5)?,
        partition: row.get(6)?,
        offset: row.get(7)?,
        occurred_at: parsed(row, 8)?,
        stored_at: parsed(row, 9)?,
        key: row.get(10)?,
        bytes: row.get(11)?,
    })
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, at: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(at)?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(error)))
}
