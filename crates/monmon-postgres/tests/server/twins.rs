//! Measurements whose ids are stored already.

use std::sync::Arc;

use monmon_model::{Hop, Measurement, Metric, Note, Prober, Timings, wire};
use monmon_stage::Envelope;
use uuid::Uuid;

use crate::support::{
    Running, Store, a_match, check, down, measurement, noon, series, store, tls_facts, unknown,
};

/// With something in every column.
fn full() -> Measurement {
    let mut full = measurement(&check("full", 60_000_000), 1, noon());
    full.scheduled_at += jiff::SignedDuration::from_nanos(1_234_567);
    full.id = monmon_model::measurement_id(full.prober.id, full.check.id, full.scheduled_at, 1);
    full.started_at = Some(full.scheduled_at + jiff::SignedDuration::from_nanos(318_999));
    full.url = "https://full.example.org/start".to_owned();
    full.method = "HEAD".to_owned();
    full.tls = Some(tls_facts());
    let mut other = a_match();
    other.name = "h1 \u{7f}\u{1f}\"\\".to_owned();
    other.values.insert("\u{2028}".to_owned(), "\u{1f600}".to_owned());
    other.metrics.insert("tiny".to_owned(), Metric::new(1.1e-300, "").expect("a number"));
    other.metrics.insert("large".to_owned(), Metric::new(-1.7e308, "").expect("a number"));
    other.found = None;
    other.message = Some("a \t word".to_owned());
    full.matches = vec![a_match(), other, a_match()];
    full.redirects = vec![Hop {
        url: full.check.url.clone(),
        status: 301,
        remote_addr: None,
        timings: Timings { total_us: 900, ..Timings::default() },
    }];
    full.body_wire_bytes = Some(77);
    full.details_mut().evidence = Some("\u{fffd}<title>\u{2028}".to_owned());
    full.details_mut().notes = vec![Note::LengthAndChunks];
    full.miss("status", "status 404 \u{fffd} is not in 200-299".to_owned());
    full
}

fn in_another_boot(mut measurement: Measurement) -> Measurement {
    let boot = Uuid::from_u128(measurement.prober.boot.as_u128() + 1);
    measurement.prober = Arc::new(Prober { boot, ..(*measurement.prober).clone() });
    measurement.seq += 40;
    measurement.timings.total_us += 7;
    measurement.matches.clear();
    measurement
}

fn redelivered(measurement: &Measurement) -> Measurement {
    let mut bytes = Vec::new();
    wire::encode(measurement, &mut bytes);
    wire::decode(&bytes).expect("a measurement")
}

/// As the Kafka source gives them, by their offsets.
fn read(running: &mut Running, offset: i64, measurement: Measurement) -> Envelope {
    running.read(3, offset, measurement)
}

/// Measurements that differ in what they have and have not.
pub(crate) fn every_kind() -> Vec<Measurement> {
    let mut rows = series(&check("docs", 1_000_000), 10);
    rows[7] = down(&rows[7].check, 8, rows[7].scheduled_at);
    rows[8] = unknown(&rows[8].check, 9, rows[8].scheduled_at);
    rows[3].tls = Some(tls_facts());
    rows[4].remote_addr = Some("[2001:db8::7]:443".to_owned());
    rows.push(full());
    rows
}

async fn letters(place: &Store) -> Vec<(String, String, Option<i64>)> {
    let sql = "SELECT reason, message, kafka_offset FROM monmon_dead_letter ORDER BY kafka_offset, message";
    let rows = place.client.query(sql, &[]).await.expect("letters");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test]
async fn the_same_again_is_counted_and_nothing_more() {
    let place = Store::migrated().await;
    let mut rows = series(&check("docs", 1_000_000), 3_000);
    rows[7] = down(&rows[7].check, 8, rows[7].scheduled_at);
    rows.extend([full(), full()]);
    rows.push(rows[7].clone());
    let counters = store(&place, rows.clone()).await;
    assert_eq!(counters.counts().duplicates, 2, "twice in one run");
    let counters = store(&place, rows.iter().map(redelivered).collect()).await;
    assert_eq!((counters.counts().duplicates, counters.counts().rejected), (3_003, 0), "there already");
    assert_eq!(place.count("monmon_measurement").await, 3_001);
    assert_eq!(place.count("monmon_match").await, 2);
    assert_eq!(letters(&place).await, []);
    place.gone().await;
}

#[tokio::test]
async fn other_content_under_the_same_id_becomes_a_dead_letter_once() {
    let place = Store::migrated().await;
    let stored = full();
    let mut other = stored.clone();
    other.status = Some(500);
    other.tls = None;
    let mut unmatched = stored.clone();
    unmatched.matches.pop();
    unmatched.matches.pop();
    let mut labelled = stored.clone();
    Arc::make_mut(&mut labelled.check).labels.insert("team".to_owned(), "web".to_owned());
    let mut matched = measurement(&check("home", 60_000_000), 9, noon());
    let plain = matched.clone();
    matched.matches = vec![a_match()];
    for round in 0..2 {
        let mut running = Running::new(&format!("url \"{}\"", place.url)).await;
        let all = [&stored, &other, &unmatched, &labelled, &stored, &plain, &matched];
        let batch = all.into_iter().zip(40..).map(|(one, at)| read(&mut running, at, one.clone())).collect();
        running.emit(batch).await;
        let counters = running.counters.clone();
        let (result, delivered, failed) = running.end().await;
        result.expect("stored");
        assert_eq!((delivered, failed), (7, 0));
        let counts = counters.counts();
        // Of the second round both measurements, and of either the one redelivered; letters that are there count too.
        assert_eq!((counts.delivered, counts.rejected, counts.duplicates), (7, 4, 1 + round * 6));
        let said =
            |differing: &str, id: Uuid| format!("id {id} is stored already with other content: {differing}");
        let expected = [
            (said("tls_id, status", stored.id), 41),
            (said("matches", stored.id), 42),
            (said("definition_id", stored.id), 43),
            (said("matches", plain.id), 46),
        ];
        let expected = expected.map(|(message, at)| ("duplicate_id".to_owned(), message, Some(at)));
        assert_eq!(letters(&place).await, expected);
    }
    assert_eq!(place.count("monmon_measurement").await, 2);
    assert_eq!(
        place.count("monmon_match").await,
        2,
        "no match of another measurement has come to the stored one"
    );
    let row = place
        .client
        .query_one(
            "SELECT pipeline, source, topic, kafka_partition, bytes FROM monmon_dead_letter WHERE kafka_offset = 41",
            &[],
        )
        .await
        .expect("one letter");
    let texts: [&str; 3] = [0, 1, 2].map(|at| row.get(at));
    assert_eq!((texts, row.get::<_, i32>(3)), (["consumer", "events", "measurements"], 3));
    let mut bytes = Vec::new();
    wire::encode(&other, &mut bytes);
    assert_eq!(row.get::<_, Vec<u8>>(4), bytes);
    place.gone().await;
}

#[tokio::test]
async fn a_pipeline_that_runs_twice_fills_no_dead_letters() {
    let place = Store::migrated().await;
    let rows = series(&check("docs", 1_000_000), 500);
    let mut all = rows.clone();
    // Some of them in one batch with the first ones.
    all.extend(rows.iter().cloned().map(in_another_boot));
    let mut of_nobody = in_another_boot(rows[0].clone());
    Arc::make_mut(&mut of_nobody.prober).id = Uuid::from_u128(7);
    all.push(of_nobody);
    let counters = store(&place, all).await;
    assert_eq!((counters.counts().duplicates, counters.counts().rejected), (500, 1));
    assert_eq!(place.count("monmon_measurement WHERE seq > 500").await, 0);
    let letters = letters(&place).await;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].1.ends_with("boot_id, seq, total_us, prober_id"), "{letters:?}");
    place.gone().await;
}

#[tokio::test]
async fn two_writers_with_one_id_store_one_and_keep_the_other() {
    let place = Store::migrated().await;
    let rows = series(&check("docs", 1_000_000), 2_000);
    let others = rows.iter().cloned().map(|mut other| {
        other.status = Some(500);
        other
    });
    let mut running = Running::new(&format!("url \"{}\"\nconnections 2\nbatch 100", place.url)).await;
    let pairs: Vec<_> = rows.iter().cloned().zip(others).collect();
    for part in pairs.chunks(100) {
        running.send(part.iter().map(|(one, _)| one.clone()).collect()).await;
        running.send(part.iter().map(|(_, other)| other.clone()).collect()).await;
    }
    let (result, delivered, failed) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, failed), (4_000, 0));
    assert_eq!(place.count("monmon_measurement").await, 2_000);
    assert_eq!(place.count("monmon_dead_letter WHERE reason = 'duplicate_id'").await, 2_000);
    place.gone().await;
}
