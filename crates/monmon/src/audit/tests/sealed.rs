//! A report says the same of a day before and after its measurements have gone.

use std::collections::BTreeMap;

use monmon_model::Histogram;

use super::*;
use crate::audit::judge::judged;
use crate::audit::service::{Service, services};

const DAY: i64 = 86_400;
/// From T0 to the next midnight.
const MIDNIGHT: i64 = DAY - T0 / SECOND % DAY;

/// What a check came to, in few words.
fn fared(service: &Service) -> String {
    let Service { check, eras, probers, latency_us, .. } = service;
    format!("{check} {eras:?} {probers:?} {latency_us:?}")
}

fn report(store: &Store, since_s: i64, until_s: i64) -> Vec<String> {
    let found = services(judged(store.ledger(Some(since_s), Some(until_s), true)));
    found.checks.iter().map(fared).collect()
}

/// Three days of two checks by two probers, with outages, retries, slots that nobody knows of, a new definition, and a night
/// in which one prober was away.
fn three_days() -> Store {
    let mut store = Store::default();
    let (home, docs) = (store.check("home", 600, None), store.check("docs", 600, Some("*/20 * * * * UTC")));
    store.life(1, &[home, docs], MIDNIGHT, MIDNIGHT + DAY + 7_200, End::Orderly);
    let boot = store.boot(1);
    store.live(
        boot,
        &[home, docs],
        (MIDNIGHT + DAY + 7_200, MIDNIGHT + DAY + 20_000, MIDNIGHT + 2 * DAY),
        End::Orderly,
    );
    store.life(2, &[home], MIDNIGHT + 3_000, MIDNIGHT + 2 * DAY, End::Orderly);
    let slower = store.check("home", 900, None);
    store.life(1, &[slower, docs], MIDNIGHT + 2 * DAY, MIDNIGHT + 3 * DAY, End::Running);
    store.receipts.iter_mut().for_each(|receipt| receipt.failed = 1_000);
    for (number, row) in (0_u64..).zip(&mut store.rows) {
        match number % 37 {
            3 | 4 => row.outcome = Outcome::Down,
            9 => (row.outcome, row.error_kind) = (Outcome::Unknown, Some("overload")),
            _ => {}
        }
        let is_timed = row.outcome == Outcome::Up;
        row.total_us = is_timed.then(|| u32::try_from(number * 7_919 % 90_000).unwrap());
    }
    let retried: Vec<Row> = store.rows.iter().filter(|row| row.outcome == Outcome::Down).cloned().collect();
    for (number, row) in retried.into_iter().enumerate().filter(|(number, _)| number % 3 == 0) {
        store.row(row.boot, row.check, row.slot_us, 90_000 + number as u64, 2).outcome = Outcome::Up;
    }
    store.rows.retain(|row| row.seq % 41 != 5);
    store
}

/// What rollups would have of the rows of some time.
fn sum_up(store: &mut Store, from_s: i64, until_s: i64, width_s: i64) {
    let within = T0 + from_s * SECOND..T0 + until_s * SECOND;
    let bucket = |at_us: i64| at_us - at_us.rem_euclid(width_s * SECOND);
    // By definition and start: prober and slot, and the last try.
    type Slots = BTreeMap<(Uuid, i64), (u32, Outcome)>;
    let mut slots: BTreeMap<(usize, i64), Slots> = BTreeMap::new();
    let mut times: BTreeMap<(Uuid, Uuid, i64), Histogram> = BTreeMap::new();
    for row in store.rows.iter().filter(|row| within.contains(&row.slot_us)) {
        let prober = store.facts.boots[row.boot].prober_id;
        let of_bucket = slots.entry((row.check, bucket(row.slot_us))).or_default();
        let slot = of_bucket.entry((prober, row.slot_us)).or_insert((row.attempt, row.outcome));
        if row.attempt > slot.0 {
            *slot = (row.attempt, row.outcome);
        }
        let check = store.facts.definitions[row.check].check_id;
        let histogram = times.entry((check, prober, bucket(row.slot_us))).or_default();
        row.total_us.into_iter().for_each(|us| histogram.add(us));
    }
    for ((check, start_us), slots) in slots {
        let definition = &store.facts.definitions[check];
        let known = slots.iter().filter(|(_, (_, outcome))| *outcome != Outcome::Unknown);
        let known_at: std::collections::BTreeSet<i64> = known.clone().map(|((_, slot), _)| *slot).collect();
        let down = known.clone().filter(|(_, (_, outcome))| *outcome == Outcome::Down).count() as u64;
        let all = || slots.keys().map(|(_, slot)| *slot);
        store.sums.push(AuditSum {
            check_id: definition.check_id,
            definition_id: definition.id,
            start_us,
            width_us: width_s * SECOND,
            first_us: all().min().unwrap(),
            last_us: all().max().unwrap(),
            slots_known: known_at.len() as u64,
            up: known.count() as u64 - down,
            down,
        });
    }
    for ((check_id, prober_id, start_us), histogram) in times {
        let width_us = width_s * SECOND;
        store.times.push(AuditTimes { check_id, prober_id, start_us, width_us, histogram });
    }
}

fn drop_days(store: &mut Store, days: i64) {
    let until_s = MIDNIGHT + days * DAY;
    sum_up(store, MIDNIGHT, until_s, DAY);
    sum_up(store, MIDNIGHT, until_s, 3_600);
    store.facts.dropped = (0..days)
        .map(|day| T0 + (MIDNIGHT + day * DAY) * SECOND)
        .map(|from_us| (from_us, from_us + DAY * SECOND))
        .collect();
    // Failures may be kept for longer.
    store.rows.retain(|row| row.slot_us >= T0 + until_s * SECOND || row.outcome == Outcome::Down);
}

#[test]
fn a_report_is_the_same_before_and_after_measurements_have_gone() {
    let whole = three_days();
    let hours = 3_600;
    for (since_s, until_s) in [
        (MIDNIGHT, MIDNIGHT + 3 * DAY),
        (MIDNIGHT, MIDNIGHT + DAY),
        (MIDNIGHT + DAY, MIDNIGHT + 2 * DAY),
        (MIDNIGHT + 5 * hours, MIDNIGHT + 2 * DAY + 3 * hours),
        (MIDNIGHT + DAY + 20 * hours, MIDNIGHT + DAY + 22 * hours),
    ] {
        let before = report(&whole, since_s, until_s);
        assert!(before.len() == 2, "{before:?}");
        for days in 1..=2 {
            let mut less = three_days();
            drop_days(&mut less, days);
            assert!(less.rows.len() < whole.rows.len());
            assert_eq!(report(&less, since_s, until_s), before, "{days} days of {since_s} to {until_s}");
        }
    }
}

/// Two probers of which one has another label: the mean of both, also when measurements have gone.
#[test]
fn a_label_makes_no_second_check() {
    let mut store = Store::default();
    let (home, labelled) = (store.check("home", 600, None), store.check("home", 600, None));
    store.life(1, &[home], MIDNIGHT, MIDNIGHT + 3 * DAY, End::Running);
    store.life(2, &[labelled], MIDNIGHT, MIDNIGHT + 3 * DAY, End::Running);
    store.rows.iter_mut().filter(|row| row.boot == 1).for_each(|row| row.outcome = Outcome::Down);
    let before = report(&store, MIDNIGHT, MIDNIGHT + 3 * DAY);
    insta::assert_snapshot!(before.join("\n"), @r##"home [Era { interval_us: 600000000, slots_due: 432, slots_known: 432, up: 432, down: 432, maintenance_up: 0, maintenance_down: 0 }] ["prober-1", "prober-2"] [None, None, None, None]"##);
    drop_days(&mut store, 2);
    store.rows.retain(|row| row.slot_us >= T0 + (MIDNIGHT + 2 * DAY) * SECOND);
    assert_eq!(report(&store, MIDNIGHT, MIDNIGHT + 3 * DAY), before);
}

/// Dead since noon of the second day, while others begin anew: it owes to the window's end, also on days that are kept.
#[test]
fn who_died_owes_until_the_windows_end_also_after_measurements_have_gone() {
    let noon = MIDNIGHT + DAY + DAY / 2;
    let mut store = Store::default();
    let (home, docs) = (store.check("home", 600, None), store.check("docs", 600, None));
    store.life(1, &[home], MIDNIGHT, noon, End::Killed);
    store.life(2, &[docs], MIDNIGHT, MIDNIGHT + 2 * DAY, End::Orderly);
    store.life(2, &[docs], MIDNIGHT + 2 * DAY, MIDNIGHT + 3 * DAY, End::Orderly);
    // A later boot of its own tells nothing of this window.
    store.life(1, &[docs], MIDNIGHT + 4 * DAY, MIDNIGHT + 5 * DAY, End::Orderly);
    same_after_retention(&store, "slots_due: 432, slots_known: 216,");
}

#[test]
fn who_was_taken_out_owes_no_more_after_measurements_have_gone() {
    let noon = MIDNIGHT + DAY + DAY / 2;
    let mut store = Store::default();
    let (home, docs) = (store.check("home", 600, None), store.check("docs", 600, None));
    store.life(1, &[home, docs], MIDNIGHT, noon, End::Orderly);
    store.life(1, &[docs], noon, MIDNIGHT + 3 * DAY, End::Running);
    same_after_retention(&store, "slots_due: 216, slots_known: 216,");
    // Of two probers the one that began anew without it says nothing of the other.
    store.life(2, &[home], MIDNIGHT, MIDNIGHT + DAY, End::Killed);
    same_after_retention(&store, "slots_due: 432, slots_known: 216,");
}

fn same_after_retention(store: &Store, home: &str) {
    same_between(store, (0, 3), &["docs", home]);
}

/// What the checks of a window of days came to, whichever of its days have gone.
fn same_between(store: &Store, (since, until): (i64, i64), told: &[&str]) {
    let (since_s, until_s) = (MIDNIGHT + since * DAY, MIDNIGHT + until * DAY);
    let before = report(store, since_s, until_s);
    assert!(before.len() == told.len(), "{before:?}");
    for (check, told) in before.iter().zip(told) {
        assert!(check.contains(told), "{told} of {before:?}");
    }
    for days in 1..=until {
        let mut less = store.clone();
        drop_days(&mut less, days);
        less.rows.retain(|row| row.slot_us >= T0 + (MIDNIGHT + days * DAY) * SECOND);
        assert_eq!(report(&less, since_s, until_s), before, "{days} days");
    }
}

/// Stopped two days before the window, and started again in its middle with one more check.
#[test]
fn darkness_that_began_before_the_window_is_owed() {
    let mut store = Store::default();
    let (home, docs) = (store.check("home", 600, None), store.check("docs", 600, None));
    let new = store.check("new", 600, None);
    store.life(2, &[docs], MIDNIGHT - 7_200, MIDNIGHT + 4 * DAY, End::Running);
    store.life(1, &[home], MIDNIGHT - 7_200, MIDNIGHT, End::Killed);
    let boot = store.boot(1);
    store.live(boot, &[home], (MIDNIGHT, MIDNIGHT + 3 * DAY, MIDNIGHT + 4 * DAY), End::Running);
    for slot_us in store.slots(new, MIDNIGHT + 3 * DAY, MIDNIGHT + 4 * DAY) {
        store.row(boot, new, slot_us, 0, 1);
    }
    let told = [
        "docs [Era { interval_us: 600000000, slots_due: 288, slots_known: 288,",
        "home [Era { interval_us: 600000000, slots_due: 288, slots_known: 144,",
        "new [Era { interval_us: 600000000, slots_due: 144, slots_known: 144,",
    ];
    same_between(&store, (2, 4), &told);
}

#[test]
fn who_was_dead_through_all_of_the_window_is_listed_unless_taken_out() {
    let mut store = Store::default();
    let (home, docs) = (store.check("home", 600, None), store.check("docs", 600, None));
    store.life(2, &[docs], MIDNIGHT, MIDNIGHT + 4 * DAY, End::Running);
    store.life(1, &[home], MIDNIGHT, MIDNIGHT + DAY, End::Killed);
    let checks: Vec<Uuid> = store.facts.definitions.iter().map(|definition| definition.check_id).collect();
    let ended = |days: i64| Some(T0 + (MIDNIGHT + days * DAY) * SECOND);
    for ended_us in [None, ended(4)] {
        store.facts.checks = vec![(checks[0], ended_us), (checks[1], None)];
        same_between(&store, (2, 4), &["docs", "slots_due: 288, slots_known: 0,"]);
    }
    let found = services(judged(store.ledger(Some(MIDNIGHT + 2 * DAY), Some(MIDNIGHT + 4 * DAY), true)));
    assert_eq!(found.checks.iter().map(|check| check.is_measured).collect::<Vec<_>>(), [true, false]);
    // Before it was there.
    assert_eq!(report(&store, MIDNIGHT - DAY, MIDNIGHT - 3_600), Vec::<String>::new());
    // Of days that went without a sum nothing is known.
    let mut less = store.clone();
    less.facts.dropped = vec![(0, T0 + (MIDNIGHT + 3 * DAY) * SECOND)];
    less.rows.retain(|row| row.slot_us >= T0 + (MIDNIGHT + 3 * DAY) * SECOND);
    assert_eq!(report(&less, MIDNIGHT + 2 * DAY, MIDNIGHT + 4 * DAY).len(), 1);
    store.facts.checks[0].1 = ended(3);
    same_between(&store, (2, 4), &["docs"]);
}
