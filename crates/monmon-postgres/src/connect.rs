//! One connection: its driver runs beside it and ends with it.
//!
//! There is no pool (deadpool-postgres was looked at): each writer keeps one session for as long as it lives, and with it
//! what only that session knows (prepared statements, which rows and partitions are there), so that a pool would have
//! nothing to hand round, would test with a round trip of its own what the batch's round trip tells anyway, and would
//! keep its own timeouts and retries beside the writer's.

use std::time::Duration;

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

/// Opens a session in which no statement, lock or forgotten transaction holds others for long. Without just-in-time
/// compilation: where tables have no statistics yet the server takes a look at a thousand ids for one at millions of rows,
/// and compiles for 50 ms what runs for 5.
pub(crate) async fn open_session(target: &Target, timeouts: Timeouts) -> Result<Connection, StoreError> {
    let connection = connect(target).await?;
    let settings = format!(
        "SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
         SET timezone = 'UTC'; SET jit = off",
        timeouts.statement.as_millis(),
        timeouts.lock.as_millis(),
        timeouts.statement.as_millis(),
    );
    let set = connection.client.batch_execute(&settings);
    match tokio::time::timeout(target.connect_timeout, set).await {
        Ok(set) => set.map_err(|error| StoreError::sort(&error, target.place()))?,
        Err(_) => {
            let message = format!("no answer within {:?}", target.connect_timeout);
            return Err(StoreError::Unreachable { place: target.place().to_owned(), message });
        }
    }
    Ok(connection)
}
