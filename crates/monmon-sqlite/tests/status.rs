//! What `monmon status` is told.

mod support;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use monmon_model::{CheckState, Measurement, Outcome, measurement_id};
use monmon_sqlite::check_states;
use monmon_testkit::stages::measurement;
use rusqlite::Row;
use support::Rig;
use uuid::Uuid;

fn answered(name: &str, seq: u64, outcome: Outcome, total_us: u64) -> Measurement {
    let mut measurement = measurement(name, seq);
    measurement.outcome = outcome;
    measurement.error = None;
    measurement.reason = None;
    measurement.status = Some(if outcome == Outcome::Up { 200 } else { 500 });
    measurement.timings.total_us = total_us;
    measurement
}

async fn states(measurements: Vec<Measurement>, now: &str) -> Vec<CheckState> {
    let rig = Rig::new();
    let batch = measurements.into_iter().zip(1..).map(|(one, token)| rig.envelope(token, one)).collect();
    rig.store(vec![batch]).await.ended.expect("stored");
    check_states(&rig.path(), now.parse().expect("a time")).expect("it can be read")
}

#[tokio::test]
async fn the_last_day_in_numbers() {
    // Slots 0 to 9, of which 6 is missing and 7 is unknown; the one due at the 10th second is not owed yet.
    let mut all: Vec<Measurement> = (0..10)
        .filter(|seq| !matches!(seq, 6 | 7))
        .map(|seq| answered("docs", seq, Outcome::Up, (seq + 1) * 1_000))
        .collect();
    all[1].outcome = Outcome::Down;
    all[2].outcome = Outcome::Degraded;
    all.push(measurement("docs", 7));
    let states = states(all, "2026-11-23T12:00:10.4Z").await;
    assert_eq!(states.len(), 1);
    let docs = &states[0];
    assert_eq!((docs.name.as_str(), docs.outcome, docs.status), ("docs", Outcome::Up, Some(200)));
    assert_eq!(docs.reason, None);
    assert_eq!(docs.scheduled_at.to_string(), "2026-11-23T12:00:09Z");
    // Times with an answer: 1, 2, 3, 4, 5, 6, 9 and 10 ms.
    assert_eq!((docs.total_p50_us, docs.total_p95_us), (Some(4_000), Some(10_000)));
    assert_eq!(docs.uptime, Some(7.0 / 8.0));
    assert_eq!(docs.coverage, Some(8.0 / 10.0));
}

#[tokio::test]
async fn silence_lowers_the_coverage_and_nothing_else() {
    let states = states(vec![answered("docs", 0, Outcome::Up, 1)], "2026-11-23T12:00:10.6Z").await;
    assert_eq!((states[0].uptime, states[0].coverage), (Some(1.0), Some(1.0 / 11.0)));
}

#[tokio::test]
async fn of_a_day_ago_only_the_state_is_left() {
    let states = states(vec![answered("docs", 0, Outcome::Down, 1)], "2026-11-25T12:00:00.5Z").await;
    let docs = &states[0];
    assert_eq!((docs.outcome, docs.total_p50_us, docs.uptime), (Outcome::Down, None, None));
    assert_eq!(docs.coverage, Some(0.0));
}

#[tokio::test]
async fn unknown_is_no_downtime_and_says_why() {
    let states = states(vec![measurement("b", 0), measurement("a", 0)], "2026-11-23T12:00:01Z").await;
    let names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!((states[0].uptime, states[0].coverage), (None, Some(0.0)));
    assert_eq!(states[0].reason.as_deref(), Some("made by a test"));
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// An hourly check's measurement in the slot at `at`.
fn hourly(name: &str, at: Timestamp) -> Measurement {
    let mut hourly = answered(name, 1, Outcome::Up, 1);
    Arc::make_mut(&mut hourly.check).interval_us = 3_600_000_000;
    hourly.scheduled_at = at;
    hourly.id = measurement_id(hourly.prober.id, hourly.check.id, at, 1);
    hourly
}

fn in_a_later_boot(mut measurement: Measurement) -> Measurement {
    Arc::make_mut(&mut measurement.prober).boot = Uuid::from_u128(3);
    measurement
}

/// Day, coverage, slots due, slots known.
type Day = (String, Option<f64>, i64, i64);

async fn stored(measurements: Vec<Measurement>) -> Rig {
    let rig = Rig::new();
    let batch = measurements.into_iter().zip(1..).map(|(one, token)| rig.envelope(token, one)).collect();
    rig.store(vec![batch]).await.ended.expect("stored");
    rig
}

fn days(rig: &Rig, condition: &str) -> Vec<Day> {
    let query = format!(
        "SELECT day, coverage, slots_due, slots_known FROM monmon_uptime_day WHERE {condition} ORDER BY day"
    );
    let connection = rig.read();
    let mut query = connection.prepare(&query).expect("the view");
    let day = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    query.query_map([], day).expect("the view").collect::<Result<_, _>>().expect("its rows")
}

fn sums(days: &[Day]) -> (i64, i64) {
    days.iter().fold((0, 0), |sum, day| (sum.0 + day.2, sum.1 + day.3))
}

/// What SQLite takes for now.
fn database_now() -> Timestamp {
    let connection = rusqlite::Connection::open_in_memory().expect("memory");
    let seconds = connection.query_row("SELECT unixepoch('now')", [], |row| row.get(0)).expect("a time");
    Timestamp::from_second(seconds).expect("a time")
}

#[tokio::test]
async fn days_are_told_with_their_coverage() {
    let at = |text: &str| text.parse::<Timestamp>().expect("a time");
    let first = at("2026-11-20T20:30:00Z");
    // 20:30 to 23:30 of the 20th, nothing on the 21st, and on the 22nd until it was taken out of the file at 3:00.
    let mut all: Vec<Measurement> =
        [0, 1, 3, 28, 30].map(|hour| hourly("docs", first + HOUR * hour)).to_vec();
    all.extend(
        [0, 25].map(|hour| in_a_later_boot(hourly("other", at("2026-11-22T03:00:00Z") + HOUR * hour))),
    );
    let rig = stored(all).await;
    let expected = [
        ("2026-11-20".to_owned(), Some(0.75), 4, 3),
        ("2026-11-21".to_owned(), Some(0.0), 24, 0),
        ("2026-11-22".to_owned(), Some(2.0 / 3.0), 3, 2),
    ];
    assert_eq!(days(&rig, "name = 'docs'"), expected);
    assert_eq!(days(&rig, "name = 'docs' AND day = '2026-11-21'"), expected[1..2]);
}

/// Slots lie half an hour off the hour that now is, so that none becomes due while the test runs.
#[tokio::test]
async fn silence_lowers_the_coverage_until_now() {
    let now = database_now();
    let ago = |hours: i32| now - HOUR * hours - HOUR / 2;
    let rig = stored((20..=50).rev().map(|age| hourly("docs", ago(age))).collect()).await;
    let all = days(&rig, "name = 'docs'");
    assert_eq!(sums(&all), (51, 31), "{all:?}");
    let states = check_states(&rig.path(), now).expect("states");
    assert_eq!((states[0].uptime, states[0].coverage), (Some(1.0), Some(4.0 / 24.0)));
}

#[tokio::test]
async fn a_check_that_was_taken_out_owes_nothing_more() {
    let now = database_now();
    let ago = |hours: i32| now - HOUR * hours - HOUR / 2;
    let mut all: Vec<_> = (10..=15).rev().map(|age| hourly("docs", ago(age))).collect();
    // The prober was away for two slots, and came back without the check.
    all.extend((0..=7).rev().map(|age| in_a_later_boot(hourly("other", ago(age)))));
    let rig = stored(all).await;
    assert_eq!(sums(&days(&rig, "name = 'docs'")), (8, 6));
    assert_eq!(sums(&days(&rig, "name = 'other'")), (8, 8));
    let states = check_states(&rig.path(), now).expect("states");
    let coverage: Vec<_> = states.iter().map(|state| state.coverage).collect();
    assert_eq!(coverage, [Some(6.0 / 8.0), Some(1.0)]);
}
