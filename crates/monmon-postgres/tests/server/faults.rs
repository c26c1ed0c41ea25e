//! A store that goes away, says no, or is somebody else's: none lost, none twice.

use std::sync::atomic::{AtomicU32, Ordering};

use monmon_testkit::{Proxy, ProxyMode, Way};
use tokio_postgres::Client;

use crate::support::{Running, Store, check, client, series, setting, until};

/// A role of its own, with all rights on the store's schema.
pub(crate) async fn role(store: &Store, admin: &Client) -> (String, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let role = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    admin
        .batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'hunter2' IN ROLE app"))
        .await
        .expect("a role");
    let url = store.url.replacen("app:secret@", &format!("{role}:hunter2@"), 1);
    (role, url)
}

pub(crate) async fn drop_role(admin: &Client, role: &str) {
    admin.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.expect("dropped");
}

pub(crate) async fn admin() -> Client {
    client(&setting("MONMON_TEST_POSTGRES_ADMIN")).await
}

pub(crate) async fn terminate(client: &Client, name: &str) -> i64 {
    client
        .query_one(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1",
            &[&name],
        )
        .await
        .expect("terminated")
        .get(0)
}

#[tokio::test]
async fn connections_killed_under_load_lose_nothing_and_double_nothing() {
    let store = Store::migrated().await;
    let name = format!("killed_{}", store.schema);
    let url = store.url_with(&format!("application_name={name}"));
    let mut running = Running::new(&format!("url \"{url}\"\nbatch 200\nlinger \"1ms\"\nconnections 2")).await;
    let rows = series(&check("docs", 1_000_000), 30_000);
    let mut killed = 0;
    for (round, part) in rows.chunks(500).enumerate() {
        running.send(part.to_vec()).await;
        if round % 5 == 4 {
            killed += terminate(&store.client, &name).await;
        }
    }
    let counters = running.counters.clone();
    let (result, delivered, failed) = running.end().await;
    result.expect("the sink ends well");
    assert!(killed >= 5, "the fault happened {killed} times");
    assert!(counters.counts().retries > 0);
    assert_eq!((delivered, failed), (30_000, 0));
    assert_eq!(store.count("monmon_measurement").await, 30_000);
    store.gone().await;
}

/// Among the places are the answers to BEGIN, to each insert and to COMMIT, which is the one that leaves it open whether
/// the batch was stored.
#[tokio::test]
async fn a_connection_cut_at_any_byte_of_a_batch_loses_nothing_and_doubles_nothing() {
    let store = Store::migrated().await;
    let direct = setting("MONMON_TEST_POSTGRES");
    let server = direct.split('@').nth(1).and_then(|rest| rest.split('/').next()).expect("a host and a port");
    let mut proxy = Proxy::start(server.parse().expect("an address")).expect("a proxy");
    let url = store.url.replacen(server, &proxy.addr().to_string(), 1);
    let mut running = Running::new(&format!("url \"{url}\"\nconnections 1\nlinger \"0s\"")).await;
    let mut rows = series(&check("docs", 1_000_000), 2_000);
    let to_client = (0..100).step_by(5).map(|bytes| (bytes, Way::ToClient));
    let to_server = (0..6_000).step_by(300).map(|bytes| (bytes, Way::ToServer));
    let mut sent = 0;
    let mut cut = 0;
    for (bytes, way) in to_client.chain(to_server) {
        let before = proxy.counters().reset;
        proxy.set(ProxyMode::CutAfter { bytes, way }).expect("set");
        let part = rows.split_off(rows.len() - 20);
        sent += part.len();
        running.send(part).await;
        until("a cut or an answer", async || {
            proxy.counters().reset > before || running.resolved_now() >= sent
        })
        .await;
        cut += usize::from(proxy.counters().reset > before);
        proxy.set(ProxyMode::Pass).expect("set");
        running.resolved(sent).await;
    }
    let (result, delivered, failed) = running.end().await;
    result.expect("the sink ends well");
    assert!(cut >= 20, "the fault happened {cut} times");
    assert_eq!((delivered, failed), (sent, 0));
    assert_eq!(store.count("monmon_measurement").await, i64::try_from(sent).expect("few"));
    store.gone().await;
}

#[tokio::test]
async fn a_read_only_server_is_waited_out() {
    let store = Store::migrated().await;
    let admin = admin().await;
    let (role, url) = role(&store, &admin).await;
    let set = format!("ALTER ROLE {role} SET default_transaction_read_only = on");
    admin.batch_execute(&set).await.expect("set");
    let mut running = Running::new(&format!("url \"{url}\"")).await;
    running.send(series(&check("docs", 1_000_000), 100)).await;
    let counters = running.counters.clone();
    until("a retry", async || counters.counts().retries >= 1).await;
    assert_eq!(store.count("monmon_measurement").await, 0);
    admin
        .batch_execute(&format!("ALTER ROLE {role} RESET default_transaction_read_only"))
        .await
        .expect("reset");
    let (result, delivered, _) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, store.count("monmon_measurement").await), (100, 100));
    assert_eq!(store.count("monmon_dead_letter").await, 0);
    drop_role(&admin, &role).await;
    store.gone().await;
}

#[tokio::test]
async fn a_locked_table_is_waited_out() {
    let store = Store::migrated().await;
    store
        .client
        .batch_execute("BEGIN; LOCK TABLE monmon_measurement IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("locked");
    let mut running = Running::new(&format!("url \"{}\"\nstatement-timeout \"1s\"", store.url)).await;
    running.send(series(&check("docs", 1_000_000), 100)).await;
    let counters = running.counters.clone();
    until("a retry", async || counters.counts().retries >= 1).await;
    store.client.batch_execute("COMMIT").await.expect("unlocked");
    let (result, delivered, _) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, store.count("monmon_measurement").await), (100, 100));
    store.gone().await;
}

#[tokio::test]
async fn wrong_credentials_end_a_start_and_are_waited_out_later() {
    let store = Store::migrated().await;
    let admin = admin().await;
    let (role, url) = role(&store, &admin).await;
    let wrong = url.replacen("hunter2", "hunter3", 1);
    for bad in [&wrong, &url.replacen("/test", "/nowhere", 1)] {
        let (result, _, _) = Running::new(&format!("url \"{bad}\"")).await.end().await;
        let error = result.expect_err("no login");
        assert!(!error.is_transient(), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains("refused the login") && !text.contains("hunter"), "{text}");
    }
    let url = format!("{url}&application_name={role}");
    let mut running = Running::new(&format!("url \"{url}\"\nconnections 1")).await;
    running.send(series(&check("docs", 1_000_000), 10)).await;
    running.resolved(10).await;
    admin.batch_execute(&format!("ALTER ROLE {role} PASSWORD 'changed'")).await.expect("changed");
    assert_eq!(terminate(&admin, &role).await, 1);
    running.send(series(&check("home", 1_000_000), 10)).await;
    let counters = running.counters.clone();
    until("retries", async || counters.counts().retries >= 2).await;
    admin.batch_execute(&format!("ALTER ROLE {role} PASSWORD 'hunter2'")).await.expect("changed back");
    let (result, delivered, _) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, store.count("monmon_measurement").await), (20, 20));
    drop_role(&admin, &role).await;
    store.gone().await;
}

#[tokio::test]
async fn a_role_without_rights_is_told_so() {
    let store = Store::migrated().await;
    let admin = admin().await;
    let (role, url) = role(&store, &admin).await;
    let schema = &store.schema;
    let grants = format!(
        "REVOKE app FROM {role}; GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}"
    );
    admin.batch_execute(&grants).await.expect("rights");
    let mut running = Running::new(&format!("url \"{url}\"")).await;
    running.send(series(&check("docs", 1_000_000), 10)).await;
    let (result, delivered, failed) = running.end().await;
    let error = result.expect_err("no rights");
    assert!(!error.is_transient() && error.help_text().is_some_and(|help| help.contains("own")), "{error:?}");
    assert_eq!((delivered, failed), (0, 10), "nothing is acked, nothing is dropped in silence");
    assert_eq!(store.count("monmon_dead_letter").await, 0);
    drop_role(&admin, &role).await;
    store.gone().await;
}

#[tokio::test]
async fn a_table_that_goes_in_the_middle_ends_the_sink() {
    let store = Store::migrated().await;
    let mut running = Running::new(&format!("url \"{}\"\nconnections 1", store.url)).await;
    running.send(series(&check("docs", 1_000_000), 10)).await;
    running.resolved(10).await;
    store.client.batch_execute("ALTER TABLE monmon_measurement RENAME TO elsewhere").await.expect("renamed");
    running.send(series(&check("home", 1_000_000), 10)).await;
    let (result, delivered, failed) = running.end().await;
    let error = result.expect_err("no table");
    assert!(error.help_text().is_some_and(|help| help.contains("monmon db migrate")), "{error:?}");
    assert_eq!((delivered, failed), (10, 10));
    store.gone().await;
}

#[tokio::test]
async fn an_unreachable_server_fails_fast_where_asked_and_is_waited_for_else() {
    // Bound and let go: nobody listens here.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let url = format!("postgres://app:sekret@127.0.0.1:{port}/test");
    let (result, _, _) = Running::with(&format!("url \"{url}\""), true).await.end().await;
    let error = result.expect_err("nobody there");
    assert!(error.is_transient() && error.to_string().contains(&format!("127.0.0.1:{port}/test")), "{error}");
    assert!(!format!("{error:?}").contains("sekret"));
    let running = Running::new(&format!("url \"{url}\"")).await;
    running.stop.cancel();
    let (result, _, _) = running.end().await;
    result.expect("a run that is stopped with nothing to store ends well");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let url = format!("postgres://app:sekret@127.0.0.1:{port}/test");
    let running = Running::with(&format!("url \"{url}\"\nconnect-timeout \"1s\""), true).await;
    let _held = silent.accept().await.expect("the sink comes");
    let (result, _, _) = running.end().await;
    let error = result.expect_err("no answer");
    assert!(error.is_transient() && error.to_string().contains("no login within 1s"), "{error}");
}
