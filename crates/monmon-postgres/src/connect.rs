//! One connection: its driver runs beside it and ends with it.
//!
//! There is no pool (deadpool-postgres was looked at): each writer keeps one connection for as long as it lives, and with it
//! what it knows of the server behind it (which rows and partitions are there), so that a pool would have nothing to hand
//! round, would test with a round trip of its own what the batch's round trip tells anyway, and would keep its own
//! timeouts and retries beside the writer's.

use std::time::Duration;

use futures_util::future::join;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::error::{StoreError, chain};
use crate::target::Target;

/// A client whose driver task is aborted when the client goes.
pub(crate) struct Connection {
    pub(crate) client: Client,
    driver: JoinSet<()>,
}

/// How long the server may be kept busy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) statement: Duration,
    pub(crate) lock: Duration,
}

impl Connection {
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.driver.is_empty()
    }
}

pub(crate) async fn connect(target: &Target) -> Result<Connection, StoreError> {
    let place = target.place();
    let connecting = target.config.connect(target.tls.clone());
    // The driver's own bound covers TCP only; a server may also hang in TLS or in the login.
    let (client, connection) = match tokio::time::timeout(target.connect_timeout, connecting).await {
        Ok(connected) => connected.map_err(|error| StoreError::sort(&error, place))?,
        Err(_) => {
            let message = format!("no login within {:?}", target.connect_timeout);
            return Err(StoreError::Unreachable { place: place.to_owned(), message });
        }
    };
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Whoever waits for an answer hears of the same error; this one is for the log.
        if let Err(error) = connection.await {
            tracing::debug!(error = chain(&error), "a connection to PostgreSQL ended");
        }
    });
    Ok(Connection { client, driver })
}

/// Without just-in-time compilation: where tables have no statistics yet the server takes a look at a thousand ids for one
/// at millions of rows, and compiles for 50 ms what runs for 5.
pub(crate) fn begin(timeouts: Timeouts) -> String {
    let (statement, lock) = (timeouts.statement.as_millis(), timeouts.lock.as_millis());
    format!(
        "BEGIN; SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {statement}; SET LOCAL timezone = 'UTC'; SET LOCAL jit = off"
    )
}

/// Sends a transaction at once, so that it is open only as long as the server works on it: no statement, lock or forgotten
/// transaction holds others for long. `work` sends all of its statements when it is first polled, as the driver does; what
/// it sends later would be outside of the transaction.
///
/// Nothing is left with the session, neither settings nor prepared statements: behind a pooler like PgBouncer the next
/// transaction may get another one. On any error nothing may be taken as done: the answer to COMMIT may have been lost.
pub(crate) async fn transact<T>(
    connection: &Connection,
    begin: &str,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    place: &str,
) -> Result<T, StoreError> {
    let client = &connection.client;
    let (begun, (worked, committed)) =
        join(client.batch_execute(begin), join(work, client.batch_execute("COMMIT"))).await;
    // The first error is the cause; what follows it only says that the transaction is over.
    let sort = |error| StoreError::sort(&error, place);
    begun.map_err(sort)?;
    let done = worked.map_err(sort)?;
    committed.map_err(sort)?;
    Ok(done)
}
