//! Ways in: service and password files that change while a sink runs, several hosts, a pooler.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use monmon_postgres::{Target, check_states, migrate};
use monmon_stage::SystemWorld;
use tempfile::TempDir;

use crate::faults::{admin, drop_role, role, terminate};
use crate::support::{Running, Store, a_match, check, client, noon, series, setting, until};

/// Host and port of the test server.
fn server() -> (String, u16) {
    let url = setting("MONMON_TEST_POSTGRES");
    let place = url.split('@').nth(1).and_then(|rest| rest.split('/').next()).expect("a host");
    let (host, port) = place.split_once(':').expect("a port");
    (host.to_owned(), port.parse().expect("a number"))
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("private");
}

/// The password is wrong for a while, then the service itself, and each is mended on the disk alone.
#[tokio::test]
async fn files_are_read_anew_for_each_connection() {
    let store = Store::migrated().await;
    let admin = admin().await;
    let (role, _) = role(&store, &admin).await;
    let folder = TempDir::new().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let (host, port) = server();
    let service = format!(
        "[store]\nhost={host}\nport={port}\nuser={role}\ndbname=test\napplication_name={role}\n\
         options=-csearch_path={}\npassfile={}\n",
        store.schema,
        file("pass").display()
    );
    write_private(&file("services"), &service);
    write_private(&file("pass"), "*:*:*:*:hunter2\n");
    write_private(&file("url"), &format!("service=store servicefile={}\n", file("services").display()));
    let mut running = Running::new(&format!("url (file)\"{}\"\nconnections 1", file("url").display())).await;
    running.send(series(&check("docs", 1_000_000), 10)).await;
    running.resolved(10).await;
    let counters = running.counters.clone();
    let mut sent = 10;
    let broken = [("pass", "*:*:*:*:hunter3\n"), ("services", "[other]\nhost=nowhere\n"), ("url", "host='")];
    for (name, broken) in broken {
        let right = std::fs::read_to_string(file(name)).expect("there");
        write_private(&file(name), broken);
        assert_eq!(terminate(&admin, &role).await, 1);
        let retries = counters.counts().retries;
        running.send(series(&check(name, 1_000_000), 10)).await;
        until("retries", async || counters.counts().retries >= retries + 2).await;
        assert_eq!(running.resolved_now(), sent, "nothing goes through with a broken {name}");
        write_private(&file(name), &right);
        sent += 10;
        running.resolved(sent).await;
    }
    let (result, delivered, failed) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, failed), (40, 0));
    assert_eq!(store.count("monmon_measurement").await, 40);
    drop_role(&admin, &role).await;
    store.gone().await;
}

#[tokio::test]
async fn of_several_hosts_the_one_that_can_be_written_is_taken() {
    let store = Store::migrated().await;
    let (host, port) = server();
    // Bound and let go: nobody listens there. Bound and held: nobody answers there.
    let closed =
        TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).expect("a port").port();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mute = silent.local_addr().expect("bound").port();
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("url");
    let url = format!(
        "postgres://app:secret@127.0.0.1:{closed},127.0.0.1:{mute},{host}:{port}/test?target_session_attrs=read-write\
         &connect_timeout=2&options=-csearch_path%3D{}",
        store.schema
    );
    write_private(&path, &url);
    let mut running = Running::new(&format!("url (file)\"{}\"\nconnections 1", path.display())).await;
    running.send(series(&check("docs", 1_000_000), 10)).await;
    let (result, delivered, _) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, store.count("monmon_measurement").await), (10, 10));
    store.gone().await;
}

/// PgBouncer in transaction mode, which hands each transaction to whichever session is free.
struct Pooler {
    process: Child,
    url: String,
    _folder: TempDir,
}

impl Pooler {
    async fn start(role: &str) -> Pooler {
        use std::os::unix::fs::PermissionsExt;
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).expect("a port").port();
        let (host, server_port) = server();
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("pgbouncer.ini");
        let config = format!(
            "[databases]\ntest = host={host} port={server_port} dbname=test user={role} password=hunter2\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\nunix_socket_dir =\n\
             pool_mode = transaction\ndefault_pool_size = 2\n"
        );
        std::fs::write(&path, config).expect("written");
        // It refuses to run as root, and whom it becomes then has to read its file.
        let mut command = Command::new("pgbouncer");
        if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("open");
            command.args(["-u", "nobody"]);
        }
        let process = command.arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.expect("pgbouncer runs: `cargo xtask doctor` tells how to install it");
        let url = format!("postgres://anyone@127.0.0.1:{port}/test");
        let pooler = Pooler { process, url, _folder: folder };
        until("the pooler", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        pooler
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_no_hindrance() {
    let store = Store::empty().await;
    let admin = admin().await;
    let (role, _) = role(&store, &admin).await;
    let set = format!(
        "ALTER ROLE {role} SET search_path = {}; GRANT ALL ON SCHEMA {} TO {role}",
        store.schema, store.schema
    );
    admin.batch_execute(&set).await.expect("set");
    let pooler = Pooler::start(&role).await;
    let target = Target::parse(&pooler.url, None, Arc::new(SystemWorld)).expect("a URL");
    assert!(!migrate(&target).await.expect("migrated").is_empty());
    let mut running =
        Running::new(&format!("url \"{}\"\nconnections 6\nbatch 50\nlinger \"1ms\"", pooler.url)).await;
    let mut rows = series(&check("docs", 1_000_000), 3_000);
    for row in rows.iter_mut().step_by(7) {
        row.matches = vec![a_match()];
    }
    // Twins as well: known ones, and one with other content.
    rows.extend_from_within(..100);
    let mut other = rows[0].clone();
    other.timings.total_us += 1;
    rows.push(other);
    for part in rows.chunks(100) {
        running.send(part.to_vec()).await;
    }
    let (result, delivered, failed) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, failed), (3_101, 0));
    let behind = client(&pooler.url).await;
    let row = behind
        .query_typed_one(
            "SELECT current_setting('statement_timeout'), current_setting('jit'), (SELECT count(*) FROM pg_prepared_statements),
                    (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user),
                    (SELECT count(*) FROM monmon_measurement), (SELECT count(*) FROM monmon_dead_letter)",
            &[],
        )
        .await
        .expect("a row");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("0", "on"), "no setting stays behind");
    let counts = [2, 3, 4, 5].map(|at| row.get::<_, i64>(at));
    assert!(
        counts[0] == 0 && counts[1] <= 2,
        "no statement stays behind, and two sessions served all: {counts:?}"
    );
    assert_eq!(counts[2..], [3_000, 1]);
    assert_eq!(check_states(&target, noon()).await.expect("a state").len(), 1);
    drop(pooler);
    let owned = format!("REASSIGN OWNED BY {role} TO app");
    admin.batch_execute(&owned).await.expect("reassigned");
    drop_role(&admin, &role).await;
    store.gone().await;
}
