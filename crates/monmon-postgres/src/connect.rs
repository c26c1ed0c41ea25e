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
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::error::{StoreError, chain};
use crate::target::{Door, Login, Target};

/// How many addresses of all hosts are tried before the next wait.
const ADDRESSES_MAX: usize = 32;

/// How long all addresses together may take, names included, unless one alone may take longer. The more addresses there
/// are, the less each has.
const WHOLE_MAX: Duration = Duration::from_secs(60);

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

/// Tries every address of every host in turn, as libpq does, each for as long as a login may take, or for its share of
/// what all of them may take.
pub(crate) async fn connect(target: &Target) -> Result<Connection, StoreError> {
    let login = target.login()?;
    let mut doors = Vec::new();
    let mut refusal = None;
    let end = Instant::now() + WHOLE_MAX.max(login.timeout);
    // Half of it is for finding addresses.
    let found_within = login.timeout.min(end.duration_since(Instant::now()) / 2 / count(login.doors.len()));
    for door in &login.doors {
        match addresses(door, found_within, target).await {
            Ok(addresses) => doors.extend(addresses.into_iter().map(|address| (door, address))),
            Err(error) => refusal = Some(error),
        }
    }
    if login.any_order {
        doors.sort_by_cached_key(|_| Uuid::new_v4());
    }
    doors.truncate(ADDRESSES_MAX);
    let all = doors.len();
    for (tried, (door, address)) in doors.into_iter().enumerate() {
        let share = end.saturating_duration_since(Instant::now()) / count(all - tried);
        match enter(door, address, &login, login.timeout.min(share), target).await {
            Ok(connection) => return Ok(connection),
            // What only people can mend is told rather than that some other server cannot be reached.
            Err(error) if refusal.as_ref().is_none_or(StoreError::is_transient) => refusal = Some(error),
            Err(_) => {}
        }
    }
    Err(refusal.unwrap_or_else(|| unreachable(target, "no host has an address".to_owned())))
}

/// What a time is divided by.
fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX).max(1)
}

fn unreachable(target: &Target, message: String) -> StoreError {
    StoreError::Unreachable { place: target.place().to_owned(), message }
}

/// The addresses of a host; none of a socket, which has a path.
async fn addresses(
    door: &Door,
    within: Duration,
    target: &Target,
) -> Result<Vec<Option<IpAddr>>, StoreError> {
    if door.host.starts_with('/') || door.address.is_some() {
        return Ok(vec![door.address]);
    }
    let looked_up = tokio::net::lookup_host((door.host.as_str(), door.port));
    match tokio::time::timeout(within, looked_up).await {
        Ok(Ok(found)) => Ok(found.map(|address| Some(address.ip())).collect()),
        Ok(Err(error)) => Err(unreachable(target, format!("{} has no address: {error}", door.host))),
        Err(_) => Err(unreachable(target, format!("no address of {} within {within:?}", door.host))),
    }
}

async fn enter(
    door: &Door,
    address: Option<IpAddr>,
    login: &Login,
    within: Duration,
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
    let (client, connection) = match tokio::time::timeout(within, connecting).await {
        Ok(connected) => connected.map_err(|error| StoreError::sort(&error, target.place()))?,
        Err(_) => return Err(unreachable(target, format!("no login within {within:?}"))),
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
///
/// A commit that does not wait for the disk may be gone after a crash, and what it stored would be acknowledged.
pub(crate) fn begin(timeouts: Timeouts) -> String {
    let (statement, lock) = (timeouts.statement.as_millis(), timeouts.lock.as_millis());
    format!(
        "BEGIN; SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {statement}; SET LOCAL timezone = 'UTC'; SET LOCAL jit = off; \
         SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') IN ('off', 'local')"
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use monmon_stage::SystemWorld;

    use super::*;

    /// Time goes on by itself where everybody waits, so this takes none.
    #[tokio::test(start_paused = true)]
    async fn many_addresses_where_nobody_answers_are_given_up_together() {
        let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = mute.local_addr().expect("bound").port();
        for (addresses, timeout, most) in [(1, 10, 10), (3, 10, 30), (32, 10, 60), (40, 10, 60), (2, 90, 90)]
        {
            let hosts = vec![format!("127.0.0.1:{port}"); addresses].join(",");
            let url = format!("postgres://u:p@{hosts}/d?sslmode=disable&connect_timeout={timeout}");
            let target = Target::parse(&url, None, Arc::new(SystemWorld)).expect("a target");
            let begun = Instant::now();
            let error = connect(&target).await.err().expect("nobody answers");
            assert!(error.is_transient(), "{error}");
            let most = Duration::from_secs(most);
            assert!(begun.elapsed() <= most + Duration::from_secs(1), "{addresses}: {:?}", begun.elapsed());
        }
    }
}
