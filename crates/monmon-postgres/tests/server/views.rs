//! The views' answers, and that they read no more than they need.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{Measurement, Outcome, Prober, measurement_id};
use monmon_postgres::check_states;

use crate::support::{PROBER, Running, Store, check, down, measurement, noon, series, store, unknown};

/// Another try of the same slot.
fn attempt(mut measurement: Measurement, attempt: u32) -> Measurement {
    measurement.attempt = attempt;
    measurement.id = measurement_id(PROBER, measurement.check.id, measurement.scheduled_at, attempt);
    measurement
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Day, uptime, coverage, slots due, slots known, up, down, unknown.
type Day = (String, Option<f64>, Option<f64>, [i64; 5]);

async fn days(store: &Store, condition: &str) -> Vec<Day> {
    let sql = format!(
        "SELECT day::text, uptime, coverage, slots_due, slots_known, measurements_up, measurements_down,
                measurements_unknown FROM monmon_uptime_day {condition} ORDER BY name, day"
    );
    let rows = store.client.query(&sql, &[]).await.expect("the view");
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), [3, 4, 5, 6, 7].map(|at| row.get(at))))
        .collect()
}

/// The prober began anew at an instant, and measured another check of the source for a long day: what it did not measure
/// is no longer in its file.
fn without(removed: &Measurement, at: Timestamp) -> Vec<Measurement> {
    let other = check("other", 3_600_000_000);
    let boot = uuid::Uuid::from_u128(removed.prober.boot.as_u128() + 1);
    let prober = Arc::new(Prober { boot, ..(*removed.prober).clone() });
    let measured = |hours: u64| {
        let mut other = measurement(&other, hours + 1, at + Duration::from_secs(3_600 * hours));
        other.prober = prober.clone();
        other
    };
    [0, 25].map(measured).to_vec()
}

#[tokio::test]
async fn uptime_is_told_with_its_coverage() {
    let place = Store::migrated().await;
    let hourly = check("hourly", 3_600_000_000);
    let slot = |hours: u64| at("2026-11-20T20:30:00Z") + Duration::from_secs(3_600 * hours);
    // 20:30 to 23:30 of the 20th: up, down, unknown, up. Nothing on the 21st. On the 22nd two, the second after a retry.
    let rows = vec![
        measurement(&hourly, 1, slot(0)),
        down(&hourly, 2, slot(1)),
        unknown(&hourly, 3, slot(2)),
        measurement(&hourly, 4, slot(3)),
        measurement(&hourly, 5, slot(28)),
        down(&hourly, 6, slot(30)),
        attempt(measurement(&hourly, 7, slot(30)), 2),
    ];
    // Taken out of the file at 3:00.
    let end = without(&rows[0], at("2026-11-22T03:00:00Z"));
    store(&place, [rows, end].concat()).await;
    let expected: Vec<Day> = vec![
        ("2026-11-20".to_owned(), Some(2.0 / 3.0), Some(0.75), [4, 3, 2, 1, 1]),
        ("2026-11-21".to_owned(), None, Some(0.0), [24, 0, 0, 0, 0]),
        ("2026-11-22".to_owned(), Some(1.0), Some(2.0 / 3.0), [3, 2, 2, 0, 0]),
    ];
    assert_eq!(days(&place, "WHERE name = 'hourly'").await, expected);
    assert_eq!(days(&place, "WHERE name = 'hourly' AND day = '2026-11-21'").await, expected[1..2]);
    place.gone().await;
}

#[tokio::test]
async fn a_changed_interval_changes_what_was_due() {
    let place = Store::migrated().await;
    let slow = check("docs", 3_600_000_000);
    let mut fast = (*slow).clone();
    fast.interval_us = 600_000_000;
    let fast = Arc::new(fast);
    let start = at("2026-11-23T00:00:00Z");
    // Hourly from 0:00 to 5:00, then every ten minutes from 6:00 to 7:00.
    let mut rows: Vec<_> =
        (0..6).map(|hour| measurement(&slow, hour + 1, start + Duration::from_secs(3_600 * hour))).collect();
    rows.extend(
        (0..7).map(|part| measurement(&fast, part + 7, start + Duration::from_secs(21_600 + 600 * part))),
    );
    let end = without(&rows[0], start + Duration::from_secs(3_600 * 7 + 60));
    store(&place, [rows, end].concat()).await;
    let expected = [("2026-11-23".to_owned(), Some(1.0), Some(1.0), [13, 13, 13, 0, 0])];
    assert_eq!(days(&place, "WHERE name = 'docs'").await, expected);
    place.gone().await;
}

async fn database_now(place: &Store) -> Timestamp {
    place.client.query_one("SELECT now()", &[]).await.expect("a time").get(0)
}

/// Rows of around the real now, which may be far from the tests' own.
async fn store_at(place: &Store, now: Timestamp, rows: Vec<Measurement>) {
    let mut running = Running::at(&format!("url \"{}\"", place.url), false, now).await;
    let count = rows.len();
    running.send(rows).await;
    let (result, delivered, _) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, place.count("monmon_measurement").await), (count, count as i64));
}

/// Slots lie half an hour off the hour that now is, so that none becomes due while the test runs.
#[tokio::test]
async fn silence_lowers_the_coverage_until_now() {
    let place = Store::migrated().await;
    let now = database_now(&place).await;
    let hourly = check("hourly", 3_600_000_000);
    let ago = |hours: u64| now - Duration::from_secs(3_600 * hours + 1_800);
    // From 50.5 hours ago to 20.5 hours ago; then the prober died.
    store_at(&place, now, (20..=50).rev().map(|age| measurement(&hourly, 51 - age, ago(age))).collect())
        .await;
    let all = days(&place, "").await;
    let sum = |at: usize| all.iter().map(|day| day.3[at]).sum::<i64>();
    assert_eq!((sum(0), sum(1), sum(2)), (51, 31, 31), "{all:?}");
    // In the first hour of a day none may have been due yet.
    let newest = all.iter().rev().find_map(|day| day.2);
    assert_eq!(newest.map(|coverage| coverage < 1.0), Some(true), "{all:?}");
    let states = check_states(&place.target(), now).await.expect("states");
    assert_eq!((states[0].uptime, states[0].coverage), (Some(1.0), Some(4.0 / 24.0)));
    place.gone().await;
}

#[tokio::test]
async fn a_check_that_was_taken_out_owes_nothing_more() {
    let place = Store::migrated().await;
    let now = database_now(&place).await;
    let hourly = check("hourly", 3_600_000_000);
    let other = check("other", 3_600_000_000);
    let ago = |hours: u64| now - Duration::from_secs(3_600 * hours + 1_800);
    let mut rows: Vec<_> = (10..=15).rev().map(|age| measurement(&hourly, 16 - age, ago(age))).collect();
    let mut prober = (*rows[0].prober).clone();
    prober.boot = uuid::Uuid::from_u128(prober.boot.as_u128() + 1);
    let prober = Arc::new(prober);
    // The prober was away for two slots, and came back without the check.
    let anew = |age: u64| {
        let mut other = measurement(&other, 9 - age, ago(age));
        other.prober = prober.clone();
        other
    };
    rows.extend((0..=7).rev().map(anew));
    store_at(&place, now, rows).await;
    let span =
        "SELECT name, ended_at FROM monmon_check_span JOIN monmon_check ON id = check_id ORDER BY name";
    let spans = place.client.query(span, &[]).await.expect("the view");
    let ended: Vec<Option<Timestamp>> = spans.iter().map(|row| row.get(1)).collect();
    let micros = |at: Timestamp| Timestamp::from_microsecond(at.as_microsecond()).expect("a time");
    assert_eq!(ended, [Some(micros(ago(7))), None]);
    let due = |days: Vec<Day>| {
        days.iter().map(|day| (day.3[0], day.3[1])).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    };
    assert_eq!(due(days(&place, "WHERE name = 'hourly'").await), (8, 6));
    assert_eq!(due(days(&place, "WHERE name = 'other'").await), (8, 8));
    let states = check_states(&place.target(), now).await.expect("states");
    let coverage: Vec<_> = states.iter().map(|state| state.coverage).collect();
    assert_eq!(coverage, [Some(6.0 / 8.0), Some(1.0)]);
    place.gone().await;
}

#[tokio::test]
async fn the_state_of_a_check_is_the_last_attempt_of_its_newest_slot() {
    let place = Store::migrated().await;
    let docs = check("docs", 60_000_000);
    let quiet = check("quiet", 60_000_000);
    let minute = |minutes: u64| noon() - Duration::from_secs(60 * minutes);
    let mut rows =
        vec![measurement(&docs, 1, minute(2)), down(&docs, 2, minute(1)), measurement(&quiet, 3, minute(9))];
    rows.extend((2..=9).map(|tries| attempt(measurement(&docs, 10, minute(1)), tries)));
    store(&place, rows).await;
    let rows = place
        .client
        .query("SELECT name, outcome, attempt, prober_name FROM monmon_check_state ORDER BY name", &[])
        .await
        .expect("the view");
    let states: Vec<(&str, &str, i32, &str)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    assert_eq!(states, [("docs", "up", 9, "laptop"), ("quiet", "up", 1, "laptop")]);
    place.gone().await;
}

#[tokio::test]
async fn states_with_their_day_in_numbers() {
    let place = Store::migrated().await;
    let docs = check("docs", 60_000_000);
    let minute = |minutes: u64| noon() - Duration::from_secs(60 * minutes);
    let mut rows: Vec<_> = (1..=10).map(|age| measurement(&docs, 100 - age, minute(age))).collect();
    rows[0] = down(&docs, 99, minute(1));
    rows[4] = unknown(&docs, 95, minute(5));
    rows.push(measurement(&docs, 1, noon() - Duration::from_secs(40 * 3_600)));
    store(&place, rows).await;
    let states = check_states(&place.target(), noon()).await.expect("states");
    assert_eq!(states.len(), 1);
    let state = &states[0];
    assert_eq!((state.name.as_str(), state.outcome, state.status), ("docs", Outcome::Down, None));
    assert_eq!(state.reason.as_deref(), Some("192.0.2.7:443 refused"));
    assert_eq!(state.uptime, Some(8.0 / 9.0));
    // 24 hours of minutes were due, the last of them at 11:59: the slot of noon may still be under way.
    assert_eq!(state.coverage, Some(9.0 / 1_440.0));
    assert!(state.total_p50_us.is_some_and(|us| (41_400..41_500).contains(&us)), "{state:?}");
    assert!(state.total_p95_us >= state.total_p50_us);
    place.gone().await;
}

async fn plan(store: &Store, sql: &str) -> String {
    let rows = store.client.query(&format!("EXPLAIN (ANALYZE, COSTS OFF) {sql}"), &[]).await.expect("a plan");
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

#[tokio::test]
async fn the_views_read_by_the_indexes() {
    let place = Store::migrated().await;
    for name in ["a", "b", "c"] {
        let check = check(name, 1_000_000);
        let mut rows = series(&check, 3_000);
        rows.extend(
            rows.clone()
                .into_iter()
                .map(|row| measurement(&check, row.seq, row.scheduled_at - Duration::from_secs(86_400))),
        );
        store(&place, rows).await;
    }
    place.client.batch_execute("ANALYZE").await.expect("analysed");
    let state = plan(&place, "SELECT * FROM monmon_check_state").await;
    let index = state.contains("monmon_measurement_20261123_check_id_id_idx");
    // Partitions without a row are as well read whole.
    let scans =
        ["20261122", "20261123"].map(|day| state.contains(&format!("Seq Scan on monmon_measurement_{day}")));
    assert!(index && scans == [false; 2], "{state}");
    let day = plan(&place, "SELECT * FROM monmon_uptime_day WHERE day = '2026-11-22'").await;
    // The other day is looked into for the first and the last slot of each check, one row each, and no further.
    let read: Vec<&str> = day
        .lines()
        .filter(|line| {
            line.contains("20261123")
                && !line.contains("never executed")
                && !line.contains("rows=1 ")
                && !line.contains("rows=0 ")
        })
        .collect();
    assert_eq!(read, [""; 0], "{day}");
    place.gone().await;
}
