//! Indexes of days that are over, written anew without gaps.
//!
//! Rows of many checks come in turns, so the index by check is filled in many places at once, and its pages are left half
//! full: 87 bytes a measurement, where a page that was written in order takes 45. A day that is over changes no more (a late
//! row still finds its place), so its indexes are built once more, full to the brim, while everybody reads and writes on.
//!
//! `REINDEX CONCURRENTLY` is no transaction, and it waits for whoever uses the day, and for older snapshots. Nobody waits for
//! it meanwhile, but it must not wait forever: a day that is in use is passed over, and what does not come to its end in time
//! is cancelled. That is done from here, because a setting would stay with the session, which behind a pooler is another's.
//! What is left behind half done is taken away by the next run.

use std::pin::pin;
use std::time::Duration;

use jiff::civil::Date;
use tokio::time::Instant;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, SimpleQueryMessage};

use crate::connect::{Connection, connect};
use crate::error::{StoreError, chain};
use crate::migrate::check_schema;
use crate::target::Target;

/// How long each index may take beyond the time that it needs to be written.
const WAIT: Duration = Duration::from_secs(30);
/// What a slow server writes at least, with others beside it.
const BYTES_PER_SECOND: u64 = 2 << 20;
/// For statements that only look, and those that mark.
const SHORT: Duration = Duration::from_secs(10);
/// Who holds a day for longer than this is in the way.
const IN_USE: Duration = Duration::from_secs(1);
/// After so long without a word from here the server lets the lock go, and others may maintain the store.
const HOLD: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '15min'; \
    SET LOCAL statement_timeout = '10s'; SELECT monmon_maintenance_lock()";
/// Of one run: ten years of days, each with its three, thrice over.
const INDEXES_MAX: usize = 30_000;
/// Of one run, each of which may wait for its time: what holds up so many holds up all.
const LEFT_MAX: usize = 10;

/// By this mark an index is known to be packed. It is set last, so that a run that was cut off is begun again; a table that
/// takes the place of a day gets no comments with its indexes.
const MARK: &str = "Packed: built once more, without gaps, when its day was over.";

/// When a day is over: its last measurements have come by then.
const OVER: &str = "SELECT ((now() - interval '1 hour') AT TIME ZONE 'UTC')::date";

/// The next index of earlier days that was not packed yet, or that a broken attempt left behind, but for those of these names.
const NEXT: &str = "
    SELECT format('%I.%I', n.nspname, i.relname), format('%I.%I', n.nspname, p.relname),
           NOT x.indisvalid AS is_broken, pg_relation_size(i.oid)
    FROM pg_inherits AS h
    JOIN pg_class AS p ON p.oid = h.inhrelid
    JOIN pg_namespace AS n ON n.oid = p.relnamespace
    JOIN pg_index AS x ON x.indrelid = p.oid
    JOIN pg_class AS i ON i.oid = x.indexrelid
    WHERE h.inhparent IN ('monmon_measurement'::regclass, 'monmon_match'::regclass)
      AND right(p.relname, 8) < to_char($1::date, 'YYYYMMDD')
      AND CASE WHEN x.indisvalid THEN obj_description(i.oid, 'pg_class') IS DISTINCT FROM $2
               ELSE i.relname ~ '_cc(new|old)[0-9]*$' END
      AND format('%I.%I', n.nspname, i.relname) <> ALL ($3)
    ORDER BY is_broken DESC, p.relname, i.relname
    LIMIT 1";

/// Transactions that use a table.
const USERS: &str = "
    SELECT l.virtualtransaction FROM pg_locks AS l
    WHERE l.relation = $1::text::regclass AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())";

/// What became of the indexes of days that are over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    pub indexes: Vec<String>,
    /// Those that could not be packed now, each with the reason.
    pub left: Vec<(String, String)>,
    /// Another maintains this store.
    pub busy: bool,
}

/// An index that is to be packed, or to be taken away.
struct Index {
    name: String,
    table: String,
    is_broken: bool,
    bytes: u64,
}

/// Packs the indexes of the days before this one, or of those that are over by the server's clock, and begins with none more
/// after so long. Those that were packed are left alone, so it may be run as often as one likes.
pub async fn pack(
    target: &Target,
    before: Option<Date>,
    within: Option<Duration>,
) -> Result<Packed, StoreError> {
    let begun = Instant::now();
    let connection = connect(target).await?;
    let client = &connection.client;
    check_schema(client, target).await?;
    let sort = |error| StoreError::sort(&error, target.place());
    let before: Date = match before {
        Some(day) => day,
        None => client.query_typed_one(OVER, &[]).await.and_then(|row| row.try_get(0)).map_err(sort)?,
    };
    let mut packed = Packed::default();
    if next(client, before, &packed.left).await.map_err(sort)?.is_none() {
        return Ok(packed);
    }
    let keeper = connect(target).await?;
    for _ in 0..INDEXES_MAX {
        // The lock is a transaction's, which a pooler leaves with it, and between two indexes it is anybody's. It is asked for
        // without parameters: a portal would stay open with its snapshot, and the work beside it would wait for that.
        let answer = keeper.client.simple_query(HOLD).await.map_err(sort)?;
        let is_held = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
            _ => false,
        };
        packed.busy = !answer.iter().any(is_held);
        if packed.busy {
            break;
        }
        let Some(index) = next(client, before, &packed.left).await.map_err(sort)? else { break };
        match pack_one(&connection, target, &index).await? {
            None if index.is_broken => {}
            None => packed.indexes.push(index.name),
            Some(why) => packed.left.push((index.name, why)),
        }
        keeper.client.batch_execute("COMMIT").await.map_err(sort)?;
        if packed.left.len() >= LEFT_MAX || within.is_some_and(|within| begun.elapsed() >= within) {
            break;
        }
    }
    Ok(packed)
}

async fn next(
    client: &Client,
    before: Date,
    left: &[(String, String)],
) -> Result<Option<Index>, tokio_postgres::Error> {
    let left: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
    let asked: [(&(dyn ToSql + Sync), Type); 3] =
        [(&before, Type::DATE), (&MARK, Type::TEXT), (&left, Type::TEXT_ARRAY)];
    let rows = client.query_typed(NEXT, &asked).await?;
    let index = |row: &Row| {
        Ok(Index {
            name: row.try_get(0)?,
            table: row.try_get(1)?,
            is_broken: row.try_get(2)?,
            bytes: row.try_get::<_, i64>(3)?.unsigned_abs(),
        })
    };
    rows.first().map(index).transpose()
}

/// Why it could not be done now, if it could not.
async fn pack_one(
    connection: &Connection,
    target: &Target,
    index: &Index,
) -> Result<Option<String>, StoreError> {
    let in_use = is_in_use(&connection.client, &index.table).await;
    if in_use.map_err(|error| StoreError::sort(&error, target.place()))? {
        return Ok(Some(format!("{} is in use", index.table)));
    }
    let name = &index.name;
    let long = WAIT + Duration::from_secs(index.bytes / BYTES_PER_SECOND);
    let steps = match index.is_broken {
        true => vec![(format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"), WAIT)],
        false => vec![
            (format!("ALTER INDEX {name} SET (fillfactor = 100)"), SHORT),
            (format!("REINDEX INDEX CONCURRENTLY {name}"), long),
            (format!("COMMENT ON INDEX {name} IS '{MARK}'"), SHORT),
        ],
    };
    for (statement, within) in steps {
        if let Some(why) = run(connection, target, &statement, within).await? {
            return Ok(Some(why));
        }
    }
    Ok(None)
}

/// Runs a statement for so long and no longer. `Err` is what ends the connection.
async fn run(
    connection: &Connection,
    target: &Target,
    statement: &str,
    within: Duration,
) -> Result<Option<String>, StoreError> {
    let mut running = pin!(connection.client.batch_execute(statement));
    let Ok(done) = tokio::time::timeout(within, running.as_mut()).await else {
        let cancelling = connection.client.cancel_token();
        let cancelled = tokio::time::timeout(SHORT, cancelling.cancel_query(target.login()?.tls)).await;
        // Where nobody hears of it, the end of the connection ends the wait for it.
        let ended = tokio::time::timeout(SHORT, running).await;
        tracing::debug!(statement, ?cancelled, ?ended, "cancelled");
        return Ok(Some(format!("it was not done within {within:?}: something holds it up")));
    };
    match done {
        Ok(()) => Ok(None),
        Err(error) if error.as_db_error().is_some() => Ok(Some(chain(&error))),
        Err(error) => Err(StoreError::sort(&error, target.place())),
    }
}

/// Whether one and the same transaction uses a table for a while.
async fn is_in_use(client: &Client, table: &str) -> Result<bool, tokio_postgres::Error> {
    let users = async || -> Result<Vec<String>, tokio_postgres::Error> {
        let asked: [(&(dyn ToSql + Sync), Type); 1] = [(&table, Type::TEXT)];
        client.query_typed(USERS, &asked).await?.iter().map(|row| row.try_get(0)).collect()
    };
    let before = users().await?;
    if before.is_empty() {
        return Ok(false);
    }
    tokio::time::sleep(IN_USE).await;
    let after = users().await?;
    Ok(before.iter().any(|user| after.contains(user)))
}
