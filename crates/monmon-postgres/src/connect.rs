//! One connection: its driver runs beside it and ends with it.
//!
//! There is no pool (deadpool-postgres was looked at): each writer keeps one connection for as long as it lives, and with it
//! what it knows of the server behind it (which rows and partitions are there), so that a pool would have nothing to hand
//! round, would test with a round trip of its own what the batch's round trip tells anyway, and would keep its own
//! timeouts and retries beside the writer's.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::error::{StoreError, chain};
use crate::target::{Door, Login, Target};

/// How many addresses of all hosts are tried before the next wait.
const ADDRESSES_MAX: usize = 32;

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

/// Tries every address of every host in turn, as libpq does, each for as long as a login may take.
pub(crate) async fn connect(target: &Target) -> Result<Connection, StoreError> {
    let login = target.login()?;
    let mut doors = Vec::new();
    let mut refusal = None;
    for door in &login.doors {
        match addresses(door, &login, target).await {
            Ok(addresses) => doors.extend(addresses.into_iter().map(|address| (door, address))),
            Err(error) => refusal = Some(error),
        }
    }
    if login.any_order {
        doors.sort_by_cached_key(|_| Uuid::new_v4());
    }
    for (door, address) in doors.into_iter().take(ADDRESSES_MAX) {
        match enter(door, address, &login, target).await {
            Ok(connection) => return Ok(connection),
            // What only people can mend is told rather than that some other server cannot be reached.
            Err(error) if refusal.as_ref().is_none_or(StoreError::is_transient) => refusal = Some(error),
            Err(_) => {}
        }
    }
    Err(refusal.unwrap_or_else(|| unreachable(target, "no host has an address".to_owned())))
}

fn unreachable(target: &Target, message: String) -> StoreError {
    StoreError::Unreachable { place: target.place().to_owned(), message }
}

/// The addresses of a host; none of a socket, which has a path.
async fn addresses(door: &Door, login: &Login, target: &Target) -> Result<Vec<Option<IpAddr>>, StoreError> {
    if door.host.starts_with('/') || door.address.is_some() {
        return Ok(vec![door.address]);
    }
    let looked_up = tokio::net::lookup_host((door.host.as_str(), door.port));
    match tokio::time::timeout(login.timeout, looked_up).await {
        Ok(Ok(found)) => Ok(found.map(|address| Some(address.ip())).collect()),
        Ok(Err(error)) => Err(unreachable(target, format!("{} has no address: {error}", door.host))),
        Err(_) => Err(unreachable(target, format!("no address of {} within {:?}", door.host, login.timeout))),
    }
}

async fn enter(
    door: &Door,
    address: Option<IpAddr>,
    login: &Login,
    target: &Target,
) -> Result<Connection, StoreError> {
    let mut config = login.config.clone();
    config.host(&door.host).port(door.port);
    if let Some(address) = address {
        config.hostaddr(address);
    }
    if let Some(password) = &door.password {
        config.password(password.expose());
    }
    let connecting = config.connect(login.tls.clone());
    // The driver's own bound covers TCP only; a server may also hang in TLS or in the login.
    let (client, connection) = match tokio::time::timeout(login.timeout, connecting).await {
        Ok(connected) => connected.map_err(|error| StoreError::sort(&error, target.place()))?,
        Err(_) => return Err(unreachable(target, format!("no login within {:?}", login.timeout))),
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
