//! One batch, one transaction, one round trip.
//!
//! All statements of a batch are sent at once (the driver sends a prepared statement when its future is first polled,
//! and `join` polls them in order), so the transaction is open only as long as the server works on it, and a writer
//! that is stopped or cut off holds no locks that others wait for. That is also why rows come as arrays and not by COPY:
//! COPY needs a round trip before its data and a staging table beside it, and a client stopped in the middle of it is
//! ended by no timeout. Over one connection COPY to staging and INSERT is a little faster, over two this is: in one run
//! of `examples/bench.rs` on two busy cores a plain COPY stored 237,000 rows a second, COPY to staging and INSERT 135,000
//! (one connection each), this 122,000 over one connection and 162,000 over two, which is what the sink uses if nothing
//! else is said; three or batches of 5,000 rows gained nothing.
//!
//! What is there already stays, whole: of two measurements with one id the first wins, and matches are stored only with
//! the measurement that they came with. How many were new is the server's own count, so that a batch of new rows pays
//! nothing for the question what the others are; `twins.rs` asks it for the batches in which there are such.

use futures_util::future::{join, join_all};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::connect::Connection;
use crate::error::StoreError;
use crate::reference::{Needed, UPSERTS};
use crate::rows::{DeadLetterRows, MatchRows, MeasurementRows, Parameters};

/// Everything of one batch.
#[derive(Default)]
pub(crate) struct Rows<'a> {
    pub(crate) measurements: MeasurementRows<'a>,
    pub(crate) matches: MatchRows<'a>,
    pub(crate) dead_letters: DeadLetterRows<'a>,
}

/// The inserts, prepared once for a connection.
pub(crate) struct Statements {
    measurements: Statement,
    measurements_with_matches: Statement,
    dead_letters: Statement,
    pub(crate) twins: Statement,
    upserts: Vec<Statement>,
}

/// How many rows of a batch were new.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct New {
    pub(crate) measurements: u64,
    pub(crate) dead_letters: u64,
}

impl Statements {
    pub(crate) async fn prepare(client: &Client, place: &str) -> Result<Statements, StoreError> {
        let prepare =
            async |sql: String| client.prepare(&sql).await.map_err(|error| StoreError::sort(&error, place));
        let mut upserts = Vec::new();
        for sql in UPSERTS {
            upserts.push(prepare(sql.to_owned()).await?);
        }
        Ok(Statements {
            upserts,
            measurements: prepare(MeasurementRows::COLUMNS.insert(1, "")).await?,
            measurements_with_matches: prepare(with_matches()).await?,
            dead_letters: prepare(DeadLetterRows::COLUMNS.insert(1, "")).await?,
            twins: prepare(crate::twins::statement()).await?,
        })
    }
}

/// Both inserts in one statement. Of a measurement that is there already no match may be stored: it need not be the
/// same measurement. Gives the number of new measurements.
fn with_matches() -> String {
    let measurements = MeasurementRows::COLUMNS.insert(1, "");
    let first = MeasurementRows::COLUMNS.names_and_types.len() + 1;
    let matches = MatchRows::COLUMNS.insert(first, "WHERE r.measurement_id IN (SELECT new.id FROM new)");
    format!("WITH new AS ({measurements} RETURNING id), found AS ({matches}) SELECT count(*) FROM new")
}

/// Stores all rows or none, and tells how many of them were new. On any error nothing may be taken as stored: the answer
/// to COMMIT may have been lost.
pub(crate) async fn write(
    connection: &Connection,
    statements: &Statements,
    rows: &Rows<'_>,
    needed: &Needed<'_>,
    place: &str,
) -> Result<New, StoreError> {
    let client = &connection.client;
    let upserts = needed.upserts();
    let upsert_parameters: Vec<Parameters<'_>> = upserts
        .iter()
        .map(|upsert| upsert.arrays.iter().map(|array| &**array as &(dyn ToSql + Sync)).collect())
        .collect();
    let measurements = measurements(client, statements, rows);
    let dead_letters = async {
        match rows.dead_letters.is_empty() {
            true => Ok(0),
            false => client.execute(&statements.dead_letters, &rows.dead_letters.parameters()).await,
        }
    };
    let upserts = upserts
        .iter()
        .zip(&upsert_parameters)
        .map(|(upsert, parameters)| client.execute(&statements.upserts[upsert.table], parameters));
    let work = join(join(measurements, dead_letters), join_all(upserts));
    let (begun, (((measurements, dead_letters), upserted), committed)) =
        join(client.batch_execute("BEGIN"), join(work, client.batch_execute("COMMIT"))).await;
    // The first error is the cause; what follows it only says that the transaction is over.
    let sort = |error| StoreError::sort(&error, place);
    begun.map_err(sort)?;
    let new = New { measurements: measurements.map_err(sort)?, dead_letters: dead_letters.map_err(sort)? };
    upserted.into_iter().collect::<Result<Vec<u64>, _>>().map_err(sort)?;
    committed.map_err(sort)?;
    Ok(new)
}

async fn measurements(
    client: &Client,
    statements: &Statements,
    rows: &Rows<'_>,
) -> Result<u64, tokio_postgres::Error> {
    if rows.measurements.is_empty() {
        return Ok(0);
    }
    let mut parameters = rows.measurements.parameters();
    if rows.matches.is_empty() {
        return client.execute(&statements.measurements, &parameters).await;
    }
    parameters.extend(rows.matches.parameters());
    let row = client.query_one(&statements.measurements_with_matches, &parameters).await?;
    row.try_get::<_, i64>(0).map(i64::unsigned_abs)
}
