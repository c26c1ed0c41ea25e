//! Clocks that are wrong, and tellings that nobody takes.

use jiff::Timestamp;
use monmon_model::{Incident, Measurement};
use monmon_stage::{Envelope, Transform};
use monmon_testkit::stages::AckBook;

use super::{STEP, detector, incidents, made, memory, run, slot_of};
use crate::policy::Policy;

const HOUR: i64 = 3_600 / STEP;

fn now() -> i64 {
    slot_of(Timestamp::now())
}

fn row(prober: &str, first: i64, letters: &str) -> Vec<Measurement> {
    (first..).zip(letters.chars()).map(|(slot, letter)| made("shop", prober, slot, 1, letter)).collect()
}

fn states(told: &[Incident]) -> Vec<&'static str> {
    told.iter().map(|incident| incident.state().as_str()).collect()
}

#[test]
fn a_prober_whose_clock_is_ahead_makes_nobody_silent() {
    let mut measurements = row("ahead", now() + HOUR, "uuuu");
    measurements.extend(row("right", now() - 10, "uuddduuu"));
    assert_eq!(states(&run(&Policy::default(), measurements)), ["open", "closed"]);
}

#[test]
fn a_clock_that_is_set_right_is_heard_at_once() {
    let mut measurements = row("prober", now() + HOUR, "uudduuuuuuuuuuuu");
    measurements.extend(row("prober", now() - 10, "uuddduuu"));
    assert_eq!(states(&run(&Policy::default(), measurements)), ["open", "closed", "open", "closed"]);
}

#[test]
fn a_prober_whose_clock_stays_ahead_is_heard() {
    assert_eq!(states(&run(&Policy::default(), row("ahead", now() + HOUR, "uudduuu"))), ["open", "closed"]);
}

/// The server that is told was away all the time, and the process is started anew.
#[test]
fn no_incident_loses_its_last_word() {
    let file = memory();
    let book = AckBook::new();
    let mut went = detector(&Policy::default(), Some(file.clone()));
    for (token, measurement) in (1..).zip(row("prober", now() - 100, &"udduuu".repeat(7))) {
        let mut batch = vec![Envelope::measurement(measurement, None, book.ack(token))];
        went.apply(&mut batch);
        batch.into_iter().for_each(|envelope| envelope.ack.fail());
    }
    drop(went);
    let mut came = detector(&Policy::default(), Some(file));
    let measurement = row("prober", now() - 10, "u").remove(0);
    let mut batch = vec![Envelope::measurement(measurement, None, book.ack(0))];
    came.apply(&mut batch);
    let told: Vec<Incident> = incidents(&batch).into_iter().cloned().collect();
    let closed = told.iter().filter(|incident| incident.closed_at.is_some()).count();
    assert_eq!(closed, 7, "{:?}", states(&told));
}

#[test]
fn what_others_see_after_a_closing_counts_beside_a_prober_whose_clock_is_ahead() {
    let now = now();
    for ahead in [20, HOUR] {
        // `ahead` finds nothing wrong; or both find it down, and either is the last one.
        for (letters, is_first) in [("uuuuuu", true), ("uudduu", true), ("uudduu", false)] {
            let (one, other) = (row("ahead", now - 5 + ahead, letters), row("right", now - 5, "uudduu"));
            let pairs = one.into_iter().zip(other);
            let order = |(one, other)| if is_first { [one, other] } else { [other, one] };
            let mut measurements: Vec<Measurement> = pairs.flat_map(order).collect();
            measurements.extend(row("right", now + 1, "ddduu"));
            let told = run(&Policy::default(), measurements);
            let of = format!("{letters} {is_first} {ahead}: {told:?}");
            assert_eq!(states(&told), ["open", "closed", "open", "closed"], "{of}");
            let [began, closed] =
                [Some(told[1].began_at), told[1].closed_at].map(|at| slot_of(at.expect("it is closed")));
            assert!(ahead < HOUR || began > now || closed <= now, "{of}");
        }
    }
}

#[test]
fn a_detector_whose_clock_is_behind_tells_when_an_incident_ended() {
    let told = run(&Policy::default(), row("right", now() + HOUR, "uudddduu"));
    let closed = told[1].closed_at.expect("it is closed");
    assert_eq!(slot_of(closed) - slot_of(told[1].opened_at), 4);
}
