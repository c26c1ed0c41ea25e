//! Rows a second of the sink beside a plain COPY of the same rows into the same tables, in one run; and how many bytes a
//! measurement and a match take.
//!
//! `MONMON_TEST_POSTGRES=postgres://app:secret@127.0.0.1:15432/test cargo run --profile light -p monmon-postgres
//! --example bench [rows] [options of the sink, such as 'connections 2; batch 5000']...`; with `bytes` for the options it
//! stores once and tells the bytes alone.

#[path = "../tests/support/mod.rs"]
mod support;

use std::pin::pin;
use std::time::Duration;

use futures_util::{SinkExt, TryStreamExt};
use monmon_model::{Match, MatchStatus, Measurement};
use monmon_stage::Batch;
use support::{Running, Store, check, measurement, noon, tls_facts};
use tokio::time::Instant;

const CHECKS: u64 = 100;
const PARTITIONS: usize = 6;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
async fn main() {
    let rows: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let mut options: Vec<String> = std::env::args().skip(2).collect();
    if options.is_empty() {
        options = ["connections 1", "connections 2"].map(str::to_owned).to_vec();
    }
    bytes(rows).await;
    if options == ["bytes"] {
        return;
    }
    let measurements = measurements(rows);
    let rate = |elapsed: Duration| rows as f64 / elapsed.as_secs_f64();
    for round in 1..=3 {
        let mut plain = None;
        for options in &options {
            let store = Store::migrated().await;
            let sink = rate(sink(&store, measurements.clone(), options).await);
            let plain = match plain {
                Some(plain) => plain,
                None => {
                    let copied = rate(copy(&store).await);
                    let staged = rate(staging(&store).await);
                    println!(
                        "round {round}: plain COPY {copied:.0} rows/s; COPY to staging, then INSERT {staged:.0} ({:.2})",
                        staged / copied
                    );
                    *plain.insert(copied)
                }
            };
            println!("round {round}: sink with {options}: {sink:.0} rows/s ({:.2} of COPY)", sink / plain);
            store.gone().await;
        }
    }
}

fn measurements(rows: u64) -> Vec<Measurement> {
    let checks: Vec<_> = (0..CHECKS).map(|at| check(&format!("site-{at}"), 1_000_000)).collect();
    let first = noon() - Duration::from_secs(rows / CHECKS + 1);
    (0..rows)
        .map(|row| {
            // Spread within the second, as slots are.
            let slot = first + Duration::from_micros(row * 1_000_000 / CHECKS);
            measurement(&checks[(row % CHECKS) as usize], row + 1, slot)
        })
        .collect()
}

async fn sink(store: &Store, measurements: Vec<Measurement>, options: &str) -> Duration {
    let count = measurements.len();
    let mut running = Running::new(&format!("url \"{}\"\n{options}", store.url)).await;
    // The first batch connects, makes the partition and stores the checks; it is not timed.
    let mut batches: Vec<Batch> = Vec::new();
    let mut measurements = measurements.into_iter();
    // As they come from Kafka, so that the batches are put on record: parts of 500 of each partition in turn.
    let mut offsets = [0; PARTITIONS];
    while measurements.len() > 0 {
        let partition = batches.len() % PARTITIONS;
        let batch = measurements.by_ref().take(500).map(|measurement| {
            offsets[partition] += 1;
            running.read(i32::try_from(partition).unwrap_or(0), offsets[partition], measurement)
        });
        batches.push(batch.collect());
    }
    let mut batches = batches.into_iter();
    running.emit(batches.next().expect("a batch")).await;
    running.resolved(1).await;
    let begun = Instant::now();
    for batch in batches {
        running.emit(batch).await;
    }
    let (result, delivered, _) = running.end().await;
    let elapsed = begun.elapsed();
    result.expect("the sink ends well");
    assert_eq!(delivered, count);
    elapsed
}

/// The same rows, as the server itself writes them, into an empty copy of the tables.
async fn copy(from: &Store) -> Duration {
    let to = Store::migrated().await;
    to.client
        .execute("SELECT monmon_create_partitions('2026-11-20', '2026-11-24')", &[])
        .await
        .expect("partitions");
    let rows = rows(from).await;
    let begun = Instant::now();
    copy_in(&to, "monmon_measurement", rows).await;
    let elapsed = begun.elapsed();
    to.gone().await;
    elapsed
}

/// The other way to keep duplicates out: batches of 2,000 through a temporary table.
async fn staging(from: &Store) -> Duration {
    let to = Store::migrated().await;
    to.client
        .execute("SELECT monmon_create_partitions('2026-11-20', '2026-11-24')", &[])
        .await
        .expect("partitions");
    to.client
        .batch_execute("CREATE TEMPORARY TABLE staging (LIKE monmon_measurement) ON COMMIT DELETE ROWS")
        .await
        .expect("staging");
    let ids: Vec<String> = from
        .client
        .query("SELECT id::text FROM monmon_measurement ORDER BY id", &[])
        .await
        .expect("ids")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut parts = Vec::new();
    for part in ids.chunks(2_000) {
        let bounds = format!("WHERE id BETWEEN '{}' AND '{}'", part[0], part[part.len() - 1]);
        parts.push(rows_where(from, &bounds).await);
    }
    let begun = Instant::now();
    for part in parts {
        to.client.batch_execute("BEGIN").await.expect("begun");
        copy_in(&to, "staging", part).await;
        to.client
            .batch_execute(
                "INSERT INTO monmon_measurement SELECT * FROM staging ORDER BY id ON CONFLICT DO NOTHING; COMMIT",
            )
            .await
            .expect("stored");
    }
    let elapsed = begun.elapsed();
    to.gone().await;
    elapsed
}

type Chunks = Vec<bytes::Bytes>;

async fn rows(from: &Store) -> Chunks {
    rows_where(from, "").await
}

async fn rows_where(from: &Store, condition: &str) -> Chunks {
    let sql = format!("COPY (SELECT * FROM monmon_measurement {condition} ORDER BY id) TO STDOUT BINARY");
    from.client.copy_out(&sql).await.expect("copied out").try_collect().await.expect("rows")
}

async fn copy_in(to: &Store, table: &str, rows: Chunks) {
    let sink = to.client.copy_in(&format!("COPY {table} FROM STDIN BINARY")).await.expect("copy");
    let mut sink = pin!(sink);
    for rows in rows {
        sink.feed(rows).await.expect("fed");
    }
    sink.close().await.expect("copied");
}

/// The bytes of each part: of measurements of `http://` as they are elsewhere in this bench, of such with all phases and TLS
/// facts, and of two matches beside each.
#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
async fn bytes(rows: u64) {
    let plain = measurements(rows);
    let mut whole = plain.clone();
    for measurement in &mut whole {
        measurement.tls = Some(tls_facts());
        measurement.timings.dns_us = Some(900);
        measurement.timings.tls_us = Some(12_000);
        measurement.matches = ["title", "no-trace"].map(a_match_of_few_words).into();
    }
    for (what, measurements) in [("without TLS", plain), ("with DNS, TLS and two matches", whole)] {
        let store = Store::migrated().await;
        sink(&store, measurements, "connections 2").await;
        for state in ["as stored", "packed"] {
            if state == "packed" {
                let packed =
                    monmon_postgres::pack(&store.target(), Some(noon_day().tomorrow().expect("a day")), None)
                        .await;
                assert_eq!(packed.expect("packed").left, []);
            }
            for table in ["measurement", "match"] {
                tell_bytes(&store, table, &format!("{what}, {state}")).await;
            }
        }
        for table in ["monmon_context", "monmon_verdict"] {
            println!("{what}: {} rows in {table}", store.count(table).await);
        }
        store.gone().await;
    }
}

fn noon_day() -> jiff::civil::Date {
    jiff::tz::TimeZone::UTC.to_datetime(noon()).date()
}

fn a_match_of_few_words(name: &str) -> Match {
    Match {
        name: name.to_owned(),
        stage: "sites".to_owned(),
        kind: "regex".to_owned(),
        status: MatchStatus::Passed,
        found: Some(true),
        message: None,
        values: std::collections::BTreeMap::new(),
        metrics: std::collections::BTreeMap::new(),
    }
}

#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
async fn tell_bytes(store: &Store, table: &str, what: &str) {
    let rows = store.count(&format!("monmon_{table}")).await;
    if rows == 0 {
        return;
    }
    let sql = "
        SELECT substring(c.relname FROM '_[0-9]{8}_?(.*)$') AS part, sum(pg_table_size(c.oid))::bigint
        FROM pg_class AS c
        WHERE c.relnamespace = current_schema::regnamespace AND c.relkind IN ('r', 'i') AND c.relname ~ $1
        GROUP BY 1 ORDER BY 1";
    let parts = store.client.query(sql, &[&format!("^monmon_{table}_[0-9]{{8}}")]).await.expect("sizes");
    let mut whole = 0.0;
    let mut told = Vec::new();
    for part in &parts {
        let (name, size): (&str, i64) = (part.get(0), part.get(1));
        let each = size as f64 / rows as f64;
        whole += each;
        told.push(format!("{} {each:.1}", if name.is_empty() { "rows" } else { name }));
    }
    println!("bytes a {table}, {what}: {whole:.1} ({}), {rows} rows", told.join(", "));
}
