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
//! What is there already stays: of two rows with one id the first wins and the second is counted as a duplicate, without
//! a look at its content. Ids are made of what makes a measurement unique, so other content under the same id is a
//! prober's fault that costs one comparison of every replayed row to find; the audit finds it by the sequence.

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
    matches: Statement,
    dead_letters: Statement,
    upserts: Vec<Statement>,
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
            measurements: prepare(MeasurementRows::statement()).await?,
            matches: prepare(MatchRows::statement()).await?,
            dead_letters: prepare(DeadLetterRows::statement()).await?,
        })
    }
}

/// Stores all rows or none, and tells how many of them were new. On any error nothing may be taken as stored: the answer
/// to COMMIT may have been lost.
pub(crate) async fn write(
    connection: &Connection,
    statements: &Statements,
    rows: &Rows<'_>,
    needed: &Needed<'_>,
    place: &str,
) -> Result<u64, StoreError> {
    let client = &connection.client;
    let upserts = needed.upserts();
    let upsert_parameters: Vec<Parameters<'_>> = upserts
        .iter()
        .map(|upsert| upsert.arrays.iter().map(|array| &**array as &(dyn ToSql + Sync)).collect())
        .collect();
    let measurements = rows.measurements.parameters();
    let matches = rows.matches.parameters();
    let dead_letters = rows.dead_letters.parameters();
    let mut inserts = Vec::new();
    if !rows.measurements.is_empty() {
        inserts.push(client.execute(&statements.measurements, &measurements));
    }
    if !rows.dead_letters.is_empty() {
        inserts.push(client.execute(&statements.dead_letters, &dead_letters));
    }
    // Matches stand and fall with their measurements and are not counted.
    let counted = inserts.len();
    if !rows.matches.is_empty() {
        inserts.push(client.execute(&statements.matches, &matches));
    }
    let upserts = upserts
        .iter()
        .zip(&upsert_parameters)
        .map(|(upsert, parameters)| client.execute(&statements.upserts[upsert.table], parameters));
    let work = join(join_all(inserts), join_all(upserts));
    let (begun, ((inserted, upserted), committed)) =
        join(client.batch_execute("BEGIN"), join(work, client.batch_execute("COMMIT"))).await;
    // The first error is the cause; what follows it only says that the transaction is over.
    let sort = |error| StoreError::sort(&error, place);
    begun.map_err(sort)?;
    let inserted: Vec<u64> = inserted.into_iter().collect::<Result<_, _>>().map_err(sort)?;
    upserted.into_iter().collect::<Result<Vec<u64>, _>>().map_err(sort)?;
    committed.map_err(sort)?;
    Ok(inserted.iter().take(counted).sum())
}
