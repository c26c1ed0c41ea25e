//! Dead letters read back: shown, dropped, or stored after all.

use std::sync::LazyLock;

use futures_util::future::join;
use jiff::Timestamp;
use monmon_model::{DeadLetter, DeadLetterFilter, Replayed, wire};
use monmon_stage::{Measured, Twins};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::connect::{Connection, Timeouts, begin, connect, transact};
use crate::error::StoreError;
use crate::migrate::check_schema;
use crate::partitions::{Days, Window};
use crate::reference::{Needed, Remembered};
use crate::rows::{MatchRows, MeasurementRows, misfit};
use crate::target::Target;
use crate::twins::{TwinRows, differing};
use crate::write::{new_and_found, upserted};

/// Somebody waits in front of it.
const TIMEOUTS: Timeouts =
    Timeouts { statement: std::time::Duration::from_secs(60), lock: std::time::Duration::from_secs(10) };

const CONDITION: &str = "WHERE (cardinality($1::uuid[]) = 0 OR id = ANY($1::uuid[]))
      AND ($2::text IS NULL OR reason = $2) AND ($3::text IS NULL OR topic = $3)
      AND ($4::timestamptz IS NULL OR stored_at >= $4) AND ($5::timestamptz IS NULL OR stored_at < $5)
      AND ($6::uuid IS NULL OR id > $6)";

const COLUMNS: &str =
    "id, reason, message, pipeline, source, topic, kafka_partition, kafka_offset, occurred_at, stored_at,
    key, bytes";

/// The measurement and, if it is new, the end of its letter. What is there already may be something else.
static REPLAY: LazyLock<String> = LazyLock::new(|| {
    let first = MeasurementRows::COLUMNS.names_and_types.len() + MatchRows::COLUMNS.names_and_types.len() + 1;
    format!(
        "WITH {}, gone AS (DELETE FROM monmon_dead_letter WHERE id = ${first}::uuid AND EXISTS (SELECT FROM new))
         SELECT count(*) FROM new",
        new_and_found()
    )
});

/// A store's dead letters, over one connection.
pub struct DeadLetters {
    target: Target,
    connection: Connection,
    begin: String,
    remembered: Remembered,
    days: Days,
    window: Window,
}

impl DeadLetters {
    pub async fn open(target: &Target) -> Result<DeadLetters, StoreError> {
        let connection = connect(target).await?;
        check_schema(&connection.client, target).await?;
        Ok(DeadLetters {
            target: target.clone(),
            connection,
            begin: begin(TIMEOUTS),
            remembered: Remembered::default(),
            days: Days::default(),
            window: Window::USUAL,
        })
    }

    /// In the order of their ids, which is that of the messages' own times; at most so many.
    pub async fn list(&self, filter: &DeadLetterFilter, max: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM monmon_dead_letter {CONDITION} ORDER BY id LIMIT {max}");
        let parameters = parameters(filter);
        let asked = self.connection.client.query_typed(&sql, &parameters);
        let rows = transact(&self.connection, &self.begin, asked, self.target.place()).await?;
        rows.iter().map(|row| letter(row).map_err(|error| self.sort(&error))).collect()
    }

    pub async fn count(&self, filter: &DeadLetterFilter) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM monmon_dead_letter {CONDITION}");
        let parameters = parameters(filter);
        let asked = self.connection.client.query_typed_one(&sql, &parameters);
        let row = transact(&self.connection, &self.begin, asked, self.target.place()).await?;
        row.try_get::<_, i64>(0).map(i64::unsigned_abs).map_err(|error| self.sort(&error))
    }

    /// How many there were.
    pub async fn remove(&self, filter: &DeadLetterFilter) -> Result<u64, StoreError> {
        let sql = format!("DELETE FROM monmon_dead_letter {CONDITION}");
        let parameters = parameters(filter);
        let asked = self.connection.client.execute_typed(&sql, &parameters);
        transact(&self.connection, &self.begin, asked, self.target.place()).await
    }

    /// Reads a letter once more, and stores what can be stored now in the transaction that ends the letter.
    pub async fn replay(&mut self, letter: &DeadLetter, now: Timestamp) -> Result<Replayed, StoreError> {
        let measurement = match wire::decode_message(&letter.bytes) {
            Ok(wire::Message::Measurement(measurement)) => measurement,
            Ok(wire::Message::Event(_)) => {
                return Ok(Replayed::Kept("it is no measurement: send it to the topic once more".to_owned()));
            }
            Err(error) => return Ok(Replayed::Kept(format!("{}: {}", error.reason.as_str(), error.message))),
        };
        let refusal = self.window.refuse(measurement.scheduled_at, now).or_else(|| misfit(&measurement));
        if let Some(refusal) = refusal {
            return Ok(Replayed::Kept(refusal));
        }
        let measured = Measured { measurement: Box::new(measurement), page: None, place: None };
        match self.store(letter.id, &measured).await {
            Ok(true) => Ok(Replayed::Stored),
            Ok(false) => self.meet(letter.id, &measured).await,
            Err(StoreError::Row(message) | StoreError::Partition(message)) => Ok(Replayed::Kept(message)),
            Err(error) => Err(error),
        }
    }

    /// Whether the measurement is new.
    async fn store(&mut self, letter: Uuid, measured: &Measured) -> Result<bool, StoreError> {
        let DeadLetters { target, connection, begin, remembered, days, .. } = self;
        let measurement = &*measured.measurement;
        let (mut rows, mut matches, mut needed) =
            (MeasurementRows::default(), MatchRows::default(), Needed::default());
        let references = remembered.refer(measurement, &mut needed);
        rows.push(measurement, references.context_id);
        for found in &measurement.matches {
            let verdict_id = remembered.refer_match(found, &mut needed);
            matches.push(measurement, found, verdict_id);
        }
        days.ensure(connection, begin, std::iter::once(measurement.scheduled_at), target.place()).await?;
        let mut parameters = rows.parameters();
        parameters.extend(matches.parameters());
        parameters.push((&letter, Type::UUID));
        let client = &connection.client;
        let work = async {
            let (stored, upserted) =
                join(client.query_typed_one(&REPLAY, &parameters), upserted(client, &needed)).await;
            let stored = stored?;
            upserted?;
            stored.try_get::<_, i64>(0)
        };
        let stored = transact(connection, begin, work, target.place()).await?;
        remembered.commit(&needed);
        Ok(stored > 0)
    }

    /// Holds a measurement against the one that has its id.
    async fn meet(&mut self, letter: Uuid, measured: &Measured) -> Result<Replayed, StoreError> {
        let measurement = &*measured.measurement;
        let mut unneeded = Needed::default();
        let references = self.remembered.refer(measurement, &mut unneeded);
        let mut rows = TwinRows::default();
        rows.push(measurement, references);
        let differing = differing(&self.connection, &self.begin, &rows, self.target.place()).await?;
        if let Some(conflict) = differing.get(&0).and_then(|twin| Twins::default().meet(measured, twin)) {
            return Ok(Replayed::Kept(conflict.rejected.message));
        }
        self.remove(&DeadLetterFilter { ids: vec![letter], ..DeadLetterFilter::default() }).await?;
        Ok(Replayed::Known)
    }

    fn sort(&self, error: &tokio_postgres::Error) -> StoreError {
        StoreError::sort(error, self.target.place())
    }
}

fn parameters(filter: &DeadLetterFilter) -> [(&(dyn ToSql + Sync), Type); 6] {
    [
        (&filter.ids, Type::UUID_ARRAY),
        (&filter.reason, Type::TEXT),
        (&filter.topic, Type::TEXT),
        (&filter.since, Type::TIMESTAMPTZ),
        (&filter.until, Type::TIMESTAMPTZ),
        (&filter.after, Type::UUID),
    ]
}

fn letter(row: &Row) -> Result<DeadLetter, tokio_postgres::Error> {
    Ok(DeadLetter {
        id: row.try_get(0)?,
        reason: row.try_get(1)?,
        message: row.try_get(2)?,
        pipeline: row.try_get(3)?,
        source: row.try_get(4)?,
        topic: row.try_get(5)?,
        partition: row.try_get(6)?,
        offset: row.try_get(7)?,
        occurred_at: row.try_get(8)?,
        stored_at: row.try_get(9)?,
        key: row.try_get(10)?,
        bytes: row.try_get(11)?,
    })
}
