//! Migrations, by monmon and by psql; the functions over ids; partitions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use monmon_model::{Selection, wire};
use monmon_postgres::{Reader, Target, migrate};
use monmon_stage::{StoreReader, SystemWorld};

use crate::support::{Running, Store, client, setting, spec};

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let store = Store::empty().await;
    let applied = migrate(&store.target()).await.expect("migrated");
    let versions: Vec<i32> = applied.iter().map(|applied| applied.version).collect();
    assert!(versions.is_sorted_by(|one, next| one < next), "what is applied is found by the highest number");
    // The numbers that the files' names begin with.
    let number = |path: &PathBuf| path.file_name()?.to_str()?.split('_').next()?.parse().ok();
    assert_eq!(versions, files().iter().filter_map(number).collect::<Vec<i32>>());
    assert_eq!(migrate(&store.target()).await.expect("nothing to do"), []);
    assert_eq!(store.count("monmon_schema_version").await, i64::try_from(files().len()).expect("few"));
    store.gone().await;
}

#[tokio::test]
async fn many_migrate_at_once_and_each_step_is_applied_once() {
    let store = Store::empty().await;
    let target = store.target();
    let (a, b, c, d) = tokio::join!(migrate(&target), migrate(&target), migrate(&target), migrate(&target));
    let applied: usize = [a, b, c, d].into_iter().map(|applied| applied.expect("migrated").len()).sum();
    assert_eq!(applied, files().len());
    store.gone().await;
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql/postgres");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    files
}

fn psql(store: &Store, file: &Path) {
    let output = Command::new("psql")
        .args(["-qX", "-v", "ON_ERROR_STOP=1", "-d", &store.url, "-f"])
        .arg(file)
        .output()
        .expect("psql runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What an older monmon left, with the view as it was then, is brought up to date by either.
#[tokio::test]
async fn an_older_database_is_brought_up_to_date() {
    for by_psql in [false, true] {
        let store = Store::empty().await;
        let files = files();
        files[..3].iter().for_each(|file| psql(&store, file));
        let older = "CREATE VIEW monmon_uptime_day AS SELECT id AS check_id FROM monmon_check";
        store.client.batch_execute(older).await.expect("the view");
        match by_psql {
            true => files.iter().for_each(|file| psql(&store, file)),
            false => assert_eq!(migrate(&store.target()).await.expect("migrated").len(), files.len() - 3),
        }
        assert_eq!(store.count("monmon_uptime_day WHERE coverage < 1").await, 0);
        assert_eq!(migrate(&store.target()).await.expect("nothing to do"), []);
        store.gone().await;
    }
}

#[tokio::test]
async fn days_that_are_over_are_packed_once() {
    let store = Store::migrated().await;
    let mut rows = Vec::new();
    for seq in 0..10_000 {
        let check = crate::support::check(&format!("check {}", seq % 50), 1_000_000);
        let slot = crate::support::noon() - std::time::Duration::from_millis(10 * (10_000 - seq));
        rows.push(crate::support::measurement(&check, seq, slot));
    }
    crate::support::store(&store, rows).await;
    let size = async || -> i64 {
        let sql = "SELECT pg_indexes_size('monmon_measurement_20261123')";
        store.client.query_one(sql, &[]).await.expect("a size").get(0)
    };
    let before = size().await;
    let days = ["2026-11-23", "2026-11-24"].map(|day| day.parse().expect("a day"));
    let target = store.target();
    let pack = async |day| monmon_postgres::pack(&target, Some(day), None).await.expect("packed");
    let packed = pack(days[0]).await;
    assert!(!packed.indexes.iter().any(|name| name.contains("20261123")), "the day is not over: {packed:?}");
    // Somebody reads the day, and goes on for longer than anybody would wait.
    let reader = client(&store.url).await;
    reader.batch_execute("BEGIN; SELECT FROM monmon_match_20261123 LIMIT 1").await.expect("read");
    let first = pack(days[1]).await;
    let in_use =
        |(index, why): &(String, String)| index.contains("match_20261123") && why.ends_with("is in use");
    assert!(!first.left.is_empty() && first.left.iter().all(in_use), "{first:?}");
    // Those that come after are packed all the same.
    assert!(first.indexes.iter().any(|name| name.contains("measurement_20261123")), "{first:?}");
    reader.batch_execute("COMMIT").await.expect("done");
    // Somebody maintains the store.
    reader.batch_execute("BEGIN; SELECT monmon_maintenance_lock()").await.expect("locked");
    assert!(pack(days[1]).await.busy);
    reader.batch_execute("COMMIT").await.expect("done");
    // What is left of a run that was cut off.
    let broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'monmon_measurement_20261123_pkey_ccnew'::regclass";
    let made = "CREATE INDEX monmon_measurement_20261123_pkey_ccnew ON monmon_measurement_20261123 (seq)";
    store.client.batch_execute(made).await.expect("an index");
    let admin =
        client(&crate::support::with_schema(&setting("MONMON_TEST_POSTGRES_ADMIN"), &store.schema)).await;
    admin.batch_execute(broken).await.expect("broken");
    let packed = pack(days[1]).await;
    assert_eq!(packed.left, []);
    let all: Vec<_> =
        first.indexes.iter().chain(&packed.indexes).filter(|name| name.contains("20261123")).collect();
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(
        store
            .count("pg_class WHERE relname LIKE '%_ccnew' AND relnamespace = current_schema::regnamespace")
            .await,
        0
    );
    assert!(size().await * 20 < before * 17, "{} of {before}", size().await);
    assert_eq!(pack(days[1]).await, monmon_postgres::Packed::default(), "nothing to do");
    store.gone().await;
}

/// Rows as monmon stored them before there were contexts and verdicts: nobody sees a difference.
#[tokio::test]
async fn rows_of_an_older_schema_are_read_and_known_as_before() {
    let store = Store::migrated().await;
    let rows = crate::twins::every_kind();
    crate::support::store(&store, rows.clone()).await;
    let new = read_back(&store).await;
    assert_eq!(new.len(), rows.len() + 1, "all, and one of them once more");
    let views = "SELECT md5(coalesce(string_agg(said, ' ' ORDER BY said), '')) FROM (
                     SELECT m::text AS said FROM monmon_measurement_full AS m UNION ALL
                     SELECT x::text FROM monmon_match_full AS x UNION ALL SELECT s::text FROM monmon_check_state AS s UNION ALL
                     SELECT t::text FROM monmon_metric AS t UNION ALL SELECT r::text FROM monmon_check_span AS r UNION ALL
                     SELECT (c.name, c.subject, c.measurement_id)::text FROM monmon_certificate AS c UNION ALL
                     SELECT r::text FROM monmon_rollup_of('2026-11-23Z', '2026-11-24Z', '1 hour') AS r UNION ALL
                     SELECT r::text FROM monmon_rollup_check_of('2026-11-23Z', '2026-11-24Z', '1 hour') AS r) AS told";
    let told = async || -> String { store.client.query_one(views, &[]).await.expect("told").get(0) };
    let before = told().await;
    let as_before = "
        UPDATE monmon_measurement AS m SET definition_id = x.definition_id, boot_id = x.boot_id, tls_id = x.tls_id,
            http_version = x.http_version, remote_addr = x.remote_addr, context_id = NULL
        FROM monmon_context AS x WHERE x.id = m.context_id;
        UPDATE monmon_match AS m SET stage = v.stage, name = v.name, kind = v.kind, status = v.status, found = v.found,
            verdict_id = NULL
        FROM monmon_verdict AS v WHERE v.id = m.verdict_id;
        DELETE FROM monmon_context; DELETE FROM monmon_verdict";
    store.client.batch_execute(as_before).await.expect("changed");
    assert_eq!(told().await, before);
    assert_eq!(read_back(&store).await, new);
    let counters = crate::support::store(&store, rows.clone()).await;
    let counts = counters.counts();
    assert_eq!((counts.duplicates, counts.rejected), (rows.len() as u64, 0), "each is known");
    store.gone().await;
}

/// All measurements as they go over the wire.
async fn read_back(store: &Store) -> Vec<Vec<u8>> {
    let mut read = Vec::new();
    for checks in [vec![], vec!["full".to_owned()]] {
        let selection = Selection { checks, ..Selection::default() };
        let mut reader = Reader::open(store.target(), &selection).await.expect("opened");
        loop {
            let page = reader.next().await.expect("a page");
            if page.is_empty() {
                break;
            }
            read.extend(page.measurements.iter().map(|measurement| {
                let mut bytes = Vec::new();
                wire::encode(measurement, &mut bytes);
                bytes
            }));
        }
    }
    read
}

/// A row as an older monmon inserts it, with an id of now.
const OLD_INSERT: &str = "
    INSERT INTO monmon_measurement (id, check_id, definition_id, boot_id, scheduled_at, seq, total_us, attempt, outcome)
    SELECT (left(monmon_uuid_floor(now())::text, 15) || substr(h, 1, 3) || '-8' || substr(h, 4, 3) || '-' ||
            substr(h, 7, 12))::uuid, md5('check')::uuid, md5('definition')::uuid, md5('boot')::uuid, now(), n, 1, 1, 'up'
    FROM (SELECT n, md5(random()::text) AS h FROM generate_series(1, 20) AS n) AS r";

/// From the schema that has no records of batches, with data in it, while others insert.
#[tokio::test]
async fn a_database_with_data_is_migrated_while_rows_come_in() {
    let store = Store::empty().await;
    let files = files();
    files[..6].iter().for_each(|file| psql(&store, file));
    for _ in 0..500 {
        store.client.batch_execute(OLD_INSERT).await.expect("inserted");
    }
    let stop = std::cell::Cell::new(false);
    let inserting = async |client: &tokio_postgres::Client| {
        let mut count = 0;
        while !stop.get() {
            client.batch_execute(OLD_INSERT).await.expect("no insert fails");
            count += 20;
        }
        count
    };
    let (one, other) = (client(&store.url).await, client(&store.url).await);
    let migrating = async {
        let applied = migrate(&store.target()).await.expect("migrated");
        stop.set(true);
        applied.len()
    };
    let (a, b, applied) = tokio::join!(inserting(&one), inserting(&other), migrating);
    assert_eq!(applied, files.len() - 6);
    assert_eq!(store.count("monmon_measurement").await, 10_000 + a + b);
    assert_eq!(
        store.count("monmon_measurement WHERE outcome = 'up' AND body_truncated = false").await,
        10_000 + a + b
    );
    crate::support::store(&store, crate::support::series(&crate::support::check("docs", 1_000_000), 100))
        .await;
    store.client.batch_execute(OLD_INSERT).await.expect("an older monmon goes on");
    assert_eq!(store.count("monmon_measurement").await, 10_120 + a + b);
    store.gone().await;
}

#[tokio::test]
async fn psql_applies_the_files_too() {
    let store = Store::empty().await;
    for _ in 0..2 {
        files().iter().for_each(|file| psql(&store, file));
    }
    assert_eq!(migrate(&store.target()).await.expect("nothing to do"), []);
    store.gone().await;
}

#[tokio::test]
async fn every_table_and_column_is_explained() {
    let store = Store::migrated().await;
    let rows = store
        .client
        .query(
            "SELECT c.relname || '.' || coalesce(a.attname, '') FROM pg_class c
             JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1
             LEFT JOIN LATERAL (SELECT attname, attnum FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
                                UNION ALL SELECT '', 0) a ON true
             WHERE c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
               AND col_description(c.oid, a.attnum) IS NULL AND (a.attnum > 0 OR obj_description(c.oid) IS NULL)",
            &[&store.schema],
        )
        .await
        .expect("the catalogue");
    let bare: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(bare, [""; 0], "without a comment");
    store.gone().await;
}

#[tokio::test]
async fn ids_and_instants() {
    let store = Store::migrated().await;
    let row = store
        .client
        .query_one(
            "SELECT monmon_uuid_floor('2026-11-23T12:00:07.250999Z')::text,
                    monmon_uuid_time('01a20847-1a52-74fb-92fe-0191c3bea848') = '2026-11-23T12:00:07.250Z',
                    (SELECT count(*) FROM generate_series(0, 100000) ms
                     WHERE monmon_uuid_time(monmon_uuid_floor(timestamptz '2026-11-23Z' + ms * interval '1 ms'))
                           <> timestamptz '2026-11-23Z' + ms * interval '1 ms')",
            &[],
        )
        .await
        .expect("functions");
    assert_eq!(row.get::<_, String>(0), "01a20847-1a52-7000-8000-000000000000");
    assert!(row.get::<_, bool>(1));
    assert_eq!(row.get::<_, i64>(2), 0, "the way there and back is exact to the millisecond");
    store.gone().await;
}

#[tokio::test]
async fn partitions_are_made_once_by_any_number_of_callers() {
    let store = Store::migrated().await;
    let clients = futures_util::future::join_all((0..4).map(|_| client(&store.url))).await;
    let made =
        futures_util::future::join_all(clients.iter().map(|client| {
            client.query_one("SELECT monmon_create_partitions('2030-01-01', '2030-01-10')", &[])
        }))
        .await;
    let made: i32 = made.into_iter().map(|row| row.expect("made").get::<_, i32>(0)).sum();
    assert_eq!(made, 30, "ten days, three tables");
    let refused =
        store.client.execute("SELECT monmon_create_partitions('2030-01-01', '2040-01-01')", &[]).await;
    assert!(refused.is_err(), "a slip of the keyboard does not make thousands");
    store.gone().await;
}

#[tokio::test]
async fn a_missing_schema_is_an_error_that_names_the_command() {
    let store = Store::empty().await;
    let (result, _, _) = Running::new(&format!("url \"{}\"", store.url)).await.end().await;
    let error = result.expect_err("no tables");
    assert!(!error.is_transient());
    assert!(
        error.help_text().is_some_and(|help| help.contains("monmon db migrate --store URL")),
        "{error:?}"
    );
    let (result, _, _) = Running::new(&format!("url \"{}\"\nmigrate #true", store.url)).await.end().await;
    result.expect("migrated by the sink");
    assert_eq!(store.count("monmon_schema_version").await, i64::try_from(files().len()).expect("few"));
    store.gone().await;
}

#[test]
fn retention_is_checked() {
    let url = r#"url "postgres://u:sekret@h/d""#;
    let inside = r#"retention measurements="30d" minutes="90d" hours="5y" days="forever" keep-failures="1y" {
        label team="docs" measurements="7d"
    }"#;
    let (spec, problems) = spec(&format!("{url}\n{inside}"));
    assert!(problems.is_empty(), "{problems:?}");
    let shown = format!("{} {spec:?}", spec.describe());
    assert!(!shown.contains("sekret") && shown.contains("***"), "{shown}");
    assert_eq!(
        spec.describe()["retention"].to_string(),
        r#"{"days":"forever","hours":"5y","keep-failures":"1y","label team=docs":{"measurements":"7d"},"measurements":"30d","minutes":"90d"}"#
    );
    for (wrong, why) in [
        (r#"retention measurements="30d" minutes="7d""#, "minutes are made of measurements"),
        (r#"retention measurements="30d" keep-failures="7d""#, "failures are measurements"),
        (r#"retention measurements="forever" days="7d""#, "days are made of measurements"),
        (r#"retention measurements="1h""#, "whole days go at once"),
        ("retention { label measurements=\"7d\"; }", "no label"),
        (r#"tls cert="service.cert""#, "a certificate without its key"),
    ] {
        let (_, problems) = crate::support::spec(&format!("{url}; {wrong}"));
        assert!(problems.has_errors(), "{why}");
    }
}

/// In another encoding most of what sites say could not be stored, and each such row would be refused by itself.
#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let admin = client(&setting("MONMON_TEST_POSTGRES_ADMIN")).await;
    let name = format!("latin_{}", std::process::id());
    let made = format!(
        "CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' OWNER app"
    );
    admin.batch_execute(&made).await.expect("a database");
    let usual = setting("MONMON_TEST_POSTGRES");
    let (server, _) = usual.rsplit_once('/').expect("a database");
    let url = format!("{server}/{name}");
    let target = Target::parse(&url, None, Arc::new(SystemWorld)).expect("a URL");
    let migrated = migrate(&target).await;
    // As an earlier version has left it.
    let older = "CREATE TABLE monmon_schema_version AS SELECT 1000 AS version";
    let tables = client(&url).await.batch_execute(older).await;
    let opened = Reader::open(target, &Selection::default()).await;
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.expect("dropped");
    tables.expect("tables");
    for error in [migrated.err(), opened.err()] {
        let error = error.expect("refused");
        assert!(error.to_string().contains("LATIN1"), "{error}");
        assert!(error.help().is_some_and(|help| help.contains("ENCODING 'UTF8'")), "{error}");
        assert!(!error.is_transient());
    }
}
