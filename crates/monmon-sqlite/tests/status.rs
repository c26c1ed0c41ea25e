//! What `monmon status` is told.

mod support;

use monmon_model::{CheckState, Measurement, Outcome};
use monmon_sqlite::check_states;
use monmon_testkit::stages::measurement;
use support::Rig;

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
