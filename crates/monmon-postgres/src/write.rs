//! One batch, one transaction, one round trip.
//!
//! All statements of a batch are sent at once (the driver sends a statement with its parameters when its future is first
//! polled, and `join` polls them in order), so the transaction is open only as long as the server works on it, and a writer
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

use std::sync::LazyLock;

use futures_util::future::{join_all, join3, join4};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

use crate::connect::{Connection, transact};
use crate::error::StoreError;
use crate::incidents::NEWER;
use crate::reference::{Needed, RELIED_ON, ReliedOn};
use crate::rows::{
    BatchRows, DeadLetterRows, IncidentRows, MatchRows, MeasurementRows, Parameters, ReceiptRows,
};

/// Everything of one batch.
#[derive(Default)]
pub(crate) struct Rows<'a> {
    pub(crate) measurements: MeasurementRows<'a>,
    /// For each measurement the place of its row in `batches`, or -1.
    pub(crate) slices: Vec<i32>,
    /// For each row of `batches` how many measurements are of it.
    pub(crate) slice_rows: Vec<i32>,
    pub(crate) matches: MatchRows<'a>,
    pub(crate) dead_letters: DeadLetterRows<'a>,
    pub(crate) batches: BatchRows<'a>,
    pub(crate) receipts: ReceiptRows<'a>,
    pub(crate) incidents: IncidentRows<'a>,
}

/// How many rows of a batch were new.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct New {
    pub(crate) measurements: u64,
    pub(crate) dead_letters: u64,
}

static MEASUREMENTS: LazyLock<String> = LazyLock::new(|| MeasurementRows::COLUMNS.insert(1, ""));
static DEAD_LETTERS: LazyLock<String> = LazyLock::new(|| DeadLetterRows::COLUMNS.insert(1, ""));
static RECEIPTS: LazyLock<String> = LazyLock::new(|| ReceiptRows::COLUMNS.insert(1, ""));
static INCIDENTS: LazyLock<String> =
    LazyLock::new(|| format!("{} {NEWER}", IncidentRows::COLUMNS.insert_all(1, "")));
static WITH_MATCHES: LazyLock<String> = LazyLock::new(|| format!("WITH {} {COUNT}", new_and_found()));
static WITH_BATCHES: LazyLock<String> =
    LazyLock::new(|| format!("WITH {}, told AS ({}) {COUNT}", new_and_found(), batches()));

const COUNT: &str = "SELECT count(*) FROM new";

/// Both inserts in one statement. Of a measurement that is there already no match may be stored: it need not be the
/// same measurement.
pub(crate) fn new_and_found() -> String {
    let measurements = MeasurementRows::COLUMNS.insert(1, "");
    let first = MeasurementRows::COLUMNS.names_and_types.len() + 1;
    let matches = MatchRows::COLUMNS.insert(first, "WHERE r.measurement_id IN (SELECT new.id FROM new)");
    format!("new AS ({measurements} RETURNING id), found AS ({matches})")
}

/// The records of the batch, in the same statement: only the server knows which of the rows were new. Nearly always all
/// are, and then nothing is looked up.
fn batches() -> String {
    let batch = BatchRows::COLUMNS;
    let slices =
        MeasurementRows::COLUMNS.names_and_types.len() + MatchRows::COLUMNS.names_and_types.len() + 1;
    let names = batch.names();
    let rows = slices + 1 + batch.names_and_types.len();
    format!(
        "INSERT INTO monmon_batch ({names}, stored, duplicates)
         SELECT {}, t.stored, r.messages - r.dead_letters - r.events - t.stored
         FROM unnest({}, ${rows}::integer[]) WITH ORDINALITY AS r({names}, rows, slice)
         CROSS JOIN LATERAL (
             SELECT CASE WHEN (SELECT count(*) FROM new) = cardinality($1::uuid[]) THEN r.rows
                    ELSE (SELECT count(*) FROM unnest($1::uuid[], ${slices}::integer[]) AS p(id, slice)
                          WHERE p.slice = r.slice - 1 AND p.id IN (SELECT new.id FROM new)) END AS stored
             OFFSET 0
         ) AS t",
        batch.picked(),
        batch.arrays(slices + 1),
    )
}

/// Stores all rows or none, and tells how many of them were new. Nothing is stored, and nothing told, where a row is gone
/// that was remembered.
pub(crate) async fn write(
    connection: &Connection,
    begin: &str,
    rows: &Rows<'_>,
    needed: &Needed<'_>,
    place: &str,
) -> Result<Option<New>, StoreError> {
    let client = &connection.client;
    let dead_letters = async {
        match rows.dead_letters.is_empty() {
            true => Ok(0),
            false => client.execute_typed(&DEAD_LETTERS, &rows.dead_letters.parameters()).await,
        }
    };
    let receipts = async {
        match rows.receipts.is_empty() {
            true => Ok(0),
            false => client.execute_typed(&RECEIPTS, &rows.receipts.parameters()).await,
        }
    };
    let incidents = async {
        match rows.incidents.is_empty() {
            true => Ok(0),
            false => client.execute_typed(&INCIDENTS, &rows.incidents.parameters()).await,
        }
    };
    let relied_on = needed.relied_on();
    let work = async {
        let stored = join4(measurements(client, rows), dead_letters, receipts, incidents);
        let ((measurements, dead_letters, receipts, incidents), upserted, known) =
            join3(stored, upserted(client, needed), known(client, &relied_on)).await;
        // In the order of sending: what was sent after a refused statement is refused for the transaction's sake only.
        let new = New { measurements: measurements?, dead_letters: dead_letters? };
        receipts?;
        incidents?;
        upserted?;
        Ok(known?.then_some(new))
    };
    transact(connection, begin, work, place).await
}

/// Whether all that is relied on is there. Where it is not the transaction has failed.
async fn known(client: &Client, relied_on: &ReliedOn) -> Result<bool, Error> {
    if relied_on.is_empty() {
        return Ok(true);
    }
    match client.execute_typed(&RELIED_ON, &relied_on.parameters()).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INVALID_TEXT_REPRESENTATION) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Stores what measurements refer to. All statements are sent at the first poll.
pub(crate) async fn upserted(client: &Client, needed: &Needed<'_>) -> Result<(), Error> {
    let upserts = needed.upserts();
    let parameters: Vec<Parameters<'_>> = upserts
        .iter()
        .map(|upsert| {
            let arrays = upsert.arrays.iter();
            arrays.map(|(array, sql)| (&**array as &(dyn ToSql + Sync), sql.clone())).collect()
        })
        .collect();
    let sent = upserts
        .iter()
        .zip(&parameters)
        .map(|(upsert, parameters)| client.execute_typed(upsert.sql, parameters));
    join_all(sent).await.into_iter().collect::<Result<Vec<u64>, _>>().map(drop)
}

async fn measurements(client: &Client, rows: &Rows<'_>) -> Result<u64, Error> {
    let mut parameters = rows.measurements.parameters();
    let sql = if !rows.batches.is_empty() {
        parameters.extend(rows.matches.parameters());
        parameters.push((&rows.slices, Type::INT4_ARRAY));
        parameters.extend(rows.batches.parameters());
        parameters.push((&rows.slice_rows, Type::INT4_ARRAY));
        &WITH_BATCHES
    } else if rows.measurements.is_empty() {
        return Ok(0);
    } else if rows.matches.is_empty() {
        return client.execute_typed(&MEASUREMENTS, &parameters).await;
    } else {
        parameters.extend(rows.matches.parameters());
        &WITH_MATCHES
    };
    let row = client.query_typed_one(sql, &parameters).await?;
    row.try_get::<_, i64>(0).map(i64::unsigned_abs)
}
