//! Rollups are what their measurements come to, and measurements go when they are rolled up.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use monmon_model::{Measurement, Outcome, measurement_id};
use monmon_sqlite::{Maintained, maintain, retention_plan, rollup_faults};
use monmon_stage::Retention;
use monmon_testkit::stages::measurement;
use support::Rig;

const FIRST: &str = "2026-11-20T00:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn retention(texts: &[&str]) -> Retention {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    Retention::parse(&texts).expect("a retention")
}

/// A check every ten minutes over `days`: in ten slots one is down and one unknown, and every 36th has a second attempt.
fn days(name: &str, days: u64) -> Vec<Measurement> {
    let mut rows = Vec::new();
    for slot in 0..days * 144 {
        let tries = if slot % 36 == 0 { 2 } else { 1 };
        for attempt in 1..=tries {
            let mut row = measurement(name, slot * 2 + u64::from(attempt));
            row.scheduled_at =
                at(FIRST) + SignedDuration::from_mins(10 * i64::try_from(slot).expect("small"));
            row.attempt = attempt;
            row.id = measurement_id(row.prober.id, row.check.id, row.scheduled_at, attempt);
            let check = Arc::make_mut(&mut row.check);
            check.interval_us = 600_000_000;
            check.labels.insert("team".to_owned(), name.to_owned());
            match slot % 10 {
                0 if attempt < tries || tries == 1 => row.outcome = Outcome::Down,
                1 => row.outcome = Outcome::Unknown,
                _ => {
                    row.outcome = Outcome::Up;
                    (row.error, row.reason) = (None, None);
                    row.timings.total_us = 1_000 + slot * 37 % 5_000;
                    row.timings.wait_us = Some(1_000 + slot * 37 % 5_000);
                }
            }
            rows.push(row);
        }
    }
    rows
}

async fn store(rig: &Rig, rows: Vec<Measurement>) {
    static TOKENS: AtomicU64 = AtomicU64::new(1);
    let envelope = |row: &Measurement| rig.envelope(TOKENS.fetch_add(1, Ordering::Relaxed), row.clone());
    let batches = rows.chunks(500).map(|rows| rows.iter().map(envelope).collect());
    rig.store(batches.collect()).await.ended.expect("stored");
}

/// Slots of another check up to an instant, by which the store knows that the time has come.
async fn goes_on(rig: &Rig, until: &str) {
    let row = |(number, hours): (u64, i64)| {
        let mut row = measurement("clock", number);
        row.scheduled_at = at(until) - SignedDuration::from_hours(hours);
        row.id = measurement_id(row.prober.id, row.check.id, row.scheduled_at, 1);
        row
    };
    store(rig, [(1, 25), (2, 0)].map(row).into()).await;
}

fn faults(rig: &Rig) -> Vec<String> {
    rollup_faults(&rig.path(), at("2026-11-19T00:00:00Z"), at("2026-11-30T00:00:00Z")).expect("checked")
}

fn run(rig: &Rig, texts: &[&str], now: &str) -> Maintained {
    let done = maintain(&rig.path(), Some(&retention(texts)), at(now)).expect("maintained");
    assert!(done.left.is_empty(), "{done:?}");
    done
}

fn uptime(rig: &Rig) -> Vec<(String, i64, i64, i64, Option<f64>)> {
    let sql =
        "SELECT name || ' ' || day, slots_due, slots_known, measurements_down, uptime FROM monmon_uptime_day
               WHERE day < '2026-11-23' ORDER BY 1";
    let connection = rig.read();
    let mut statement = connection.prepare(sql).expect("the view");
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)));
    rows.expect("the view").collect::<Result<_, _>>().expect("rows")
}

#[tokio::test]
async fn rollups_are_what_the_measurements_come_to() {
    let rig = Rig::new();
    store(&rig, days("docs", 3)).await;
    let before = uptime(&rig);
    let done = maintain(&rig.path(), None, at("2026-11-24T00:00:00Z")).expect("maintained");
    assert!(done.rolled_until.is_some_and(|until| until > at("2026-11-25T00:00:00Z")), "{done:?}");
    assert_eq!((faults(&rig), uptime(&rig)), (Vec::new(), before));
    let counts = ["minute", "hour", "check_hour", "day", "check_day"]
        .map(|table| rig.count(&format!("monmon_rollup_{table}")));
    assert_eq!(counts, [432, 72, 72, 3, 3]);
    let (sums, histogram): (String, String) = rig
        .read()
        .query_row(
            "SELECT measurements || ' ' || up || ' ' || down || ' ' || unknown || ' ' || slots_known || ' ' || slots_due
                    || ' ' || timed || ' ' || total_min_us || ' ' || total_max_us, histogram
             FROM monmon_rollup_day ORDER BY id LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("a day");
    // 144 slots, 4 of them with a second attempt: 15 would be down, but one of them was up the second time. Timed are
    // those that are up, of slots with two attempts both.
    assert!(sums.starts_with("148 115 14 15 129 144 118 1000 "), "{sums}");
    assert!(histogram.starts_with('['), "{histogram}");

    // Late ones: a check that was not there.
    store(&rig, days("late", 1)).await;
    assert_eq!(rig.count("monmon_rollup_late"), 24);
    let done = maintain(&rig.path(), None, at("2026-11-24T00:00:00Z")).expect("maintained");
    assert_eq!((done.late_hours, rig.count("monmon_rollup_late")), (24, 0));
    assert_eq!(faults(&rig), [""; 0]);
    rig.read().execute("UPDATE monmon_rollup_hour SET down = down + 1 WHERE id = (SELECT min(id) FROM monmon_rollup_hour)", []).expect("spoilt");
    assert_eq!(faults(&rig), ["the hours of 2026-11-20"]);
}

#[tokio::test]
async fn measurements_go_by_label_and_outcome_and_uptime_stays() {
    let rig = Rig::new();
    store(&rig, [days("docs", 3), days("shop", 3)].concat()).await;
    maintain(&rig.path(), None, at("2026-11-24T00:00:00Z")).expect("maintained");
    let before = uptime(&rig);
    assert_eq!(before.len(), 6);
    let policy = ["measurements=1d,keep-failures=1y", "team=shop,measurements=2d"];
    let planned =
        retention_plan(&rig.path(), &retention(&policy), at("2026-11-22T12:00:00Z")).expect("a plan");
    let all = rig.count("monmon_measurement");
    let done = run(&rig, &policy, "2026-11-22T12:00:00Z");
    assert_eq!(planned[0], ("monmon_measurement", done.measurements_deleted));
    assert_eq!(
        rig.count("monmon_measurement"),
        all - i64::try_from(done.measurements_deleted).expect("small")
    );
    let left = |condition: &str| {
        rig.count(&format!(
            "monmon_measurement AS m JOIN monmon_check AS c ON c.id = m.check_id WHERE m.scheduled_at < '2026-11-21' AND {condition}"
        ))
    };
    assert_eq!((left("name = 'docs' AND outcome = 'up'"), left("name = 'shop'")), (0, 148));
    assert!(left("name = 'docs' AND outcome <> 'up'") > 20);
    assert_eq!(uptime(&rig), before);
    run(&rig, &policy, "2028-11-22T12:00:00Z");
    assert!(left("outcome = 'up'") > 0, "not by the word of one clock");
    goes_on(&rig, "2028-11-22T12:00:00Z").await;
    run(&rig, &policy, "2028-11-22T12:00:00Z");
    assert_eq!(left("outcome = 'up'"), 0);
    assert_eq!(uptime(&rig), before);

    // What comes again, in part, after it has gone, is not counted twice and takes nothing away.
    store(&rig, days("docs", 1)[..50].to_vec()).await;
    let done = maintain(&rig.path(), None, at("2026-11-24T00:00:00Z")).expect("maintained");
    assert!(done.late_hours > 0);
    assert_eq!(uptime(&rig), before);
}

#[tokio::test]
async fn a_sink_with_retention_rolls_up_and_lets_go() {
    let rig = Rig::new();
    store(&rig, days("docs", 3)).await;
    let mut context = monmon_testkit::stages::stage_context("store");
    goes_on(&rig, "2026-12-21T11:00:00Z").await;
    struct Later;
    impl monmon_stage::Clock for Later {
        fn now(&self) -> Timestamp {
            at("2026-12-21T12:00:00Z")
        }
    }
    context.clock = Arc::new(Later);
    let sink = rig.open("{ retention measurements=\"30d\"; }", context).await.expect("opened");
    let (outlet, input) = monmon_stage::inlet(monmon_stage::EDGE_PLACES, false);
    let emitter = monmon_stage::Emitter::new(vec![outlet]);
    let task = async { sink.run(input).await };
    let waiting = async {
        for _ in 0..2_000 {
            if rig.count("monmon_rollup_day") >= 3 && rig.count("monmon_measurement") < 300 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        drop(emitter);
    };
    let (ended, ()) = tokio::join!(task, waiting);
    ended.expect("it ends well");
    let days = rig.count("monmon_rollup_day WHERE start_at < '2026-11-24'");
    assert_eq!((days, rig.count("monmon_measurement")), (3, 298));
}

/// A machine that boots with its clock in 2036 stores slots of 2036, and lets go of everything by its own clock alone.
#[tokio::test]
async fn a_clock_that_is_ahead_lets_nothing_go() {
    let rig = Rig::new();
    store(&rig, days("docs", 3)).await;
    maintain(&rig.path(), None, at("2026-11-24T00:00:00Z")).expect("maintained");
    let counts = || {
        ["measurement", "rollup_minute", "rollup_hour", "rollup_check_hour", "rollup_day", "rollup_check_day"]
            .map(|table| rig.count(&format!("monmon_{table} WHERE check_id <> 'x'")))
    };
    let before = counts();
    let policy = ["measurements=30d,minutes=30d,hours=30d,days=30d"];
    run(&rig, &policy, "2036-01-01T00:00:00Z");
    assert_eq!(counts(), before, "by the word of the clock");
    let mut wrong = measurement("docs", 9_999);
    wrong.scheduled_at = at("2036-01-01T00:00:00Z");
    wrong.id = measurement_id(wrong.prober.id, wrong.check.id, wrong.scheduled_at, 1);
    store(&rig, vec![wrong]).await;
    let planned =
        retention_plan(&rig.path(), &retention(&policy), at("2036-01-01T00:10:00Z")).expect("a plan");
    assert!(planned.iter().all(|(_, rows)| *rows == 0), "{planned:?}");
    run(&rig, &policy, "2036-01-01T00:10:00Z");
    assert_eq!(rig.count("monmon_measurement"), before[0] + 1, "nor by the slots that it gives");
    assert_eq!(counts()[1..], before[1..]);
}

/// An interval that a message may say, and no prober keeps to.
#[tokio::test]
async fn an_interval_of_a_microsecond_stops_nothing() {
    let rig = Rig::new();
    let mut rows = days("docs", 1);
    for row in &mut rows {
        Arc::make_mut(&mut row.check).interval_us = 1;
    }
    store(&rig, rows).await;
    maintain(&rig.path(), None, at("2026-11-24T00:00:00Z")).expect("maintained");
    assert_eq!(rig.count("monmon_rollup_day WHERE slots_due = 2147483647"), 1);
    assert_eq!(faults(&rig), [""; 0]);
}

/// What was rolled up while the clock was ahead does not keep what comes from being rolled up.
#[tokio::test]
async fn rollups_that_are_ahead_of_the_clock_are_made_again() {
    let rig = Rig::new();
    store(&rig, days("docs", 1)).await;
    maintain(&rig.path(), None, Timestamp::now()).expect("maintained");
    let ahead = Timestamp::now() + SignedDuration::from_hours(24 * 400);
    let set = format!("UPDATE monmon_rollup_state SET rolled_until = '{ahead:.6}'");
    rig.read().execute(&set, []).expect("a clock that was wrong");
    // It was in time by the clock that is right, so nothing marks it as late.
    let mut row = measurement("docs", 9_000);
    row.scheduled_at = Timestamp::from_second(Timestamp::now().as_second() - 900).expect("a time");
    row.id = measurement_id(row.prober.id, row.check.id, row.scheduled_at, 1);
    store(&rig, vec![row]).await;
    rig.read().execute("DELETE FROM monmon_rollup_late", []).expect("no marks");
    let done = maintain(&rig.path(), None, Timestamp::now()).expect("maintained");
    assert!(done.healed_from.is_some_and(|from| from > Timestamp::now()), "{done:?}");
    assert!(done.rolled_until.is_some_and(|until| until < Timestamp::now()), "{done:?}");
    assert_eq!(maintain(&rig.path(), None, Timestamp::now()).expect("maintained").healed_from, None);
    assert_eq!(rig.count("monmon_rollup_minute AS r JOIN monmon_measurement AS m ON m.seq = 9000 WHERE r.start_at >= substr(m.scheduled_at, 1, 16) AND r.start_at <= m.scheduled_at"), 1);
    assert_eq!(faults(&rig), [""; 0]);
}

/// After the clock was set right nothing was rolled up for days, and what came in was in time.
#[tokio::test]
async fn days_are_made_again_from_the_last_one_that_has_rollups() {
    let rig = Rig::new();
    let now = Timestamp::now();
    let days_ago = |days: i64| {
        let mut row = measurement("docs", 9_000 - days.unsigned_abs());
        row.scheduled_at = Timestamp::from_second(now.as_second() - 86_400 * days).expect("a time");
        row.id = measurement_id(row.prober.id, row.check.id, row.scheduled_at, 1);
        row
    };
    store(&rig, vec![days_ago(50)]).await;
    maintain(&rig.path(), None, now).expect("maintained");
    store(&rig, [48, 40, 9, 5, 3].map(days_ago).to_vec()).await;
    let ahead = now + SignedDuration::from_hours(24 * 400);
    let ahead =
        format!("DELETE FROM monmon_rollup_late; UPDATE monmon_rollup_state SET rolled_until = '{ahead:.6}'");
    rig.read().execute_batch(&ahead).expect("a clock that was wrong");
    let done = maintain(&rig.path(), None, now).expect("maintained");
    assert!(done.healed_from.is_some_and(|from| from > now), "{done:?}");
    assert_eq!((faults(&rig), rig.count("monmon_rollup_day")), (Vec::new(), 6));
}

/// Of two sinks with one file none lets go of what the other one keeps.
#[tokio::test]
async fn of_several_sinks_the_longest_times_count() {
    let rig = Rig::new();
    store(&rig, [days("docs", 3), days("shop", 3)].concat()).await;
    maintain(&rig.path(), None, at("2026-11-24T00:00:00Z")).expect("maintained");
    let all = rig.count("monmon_measurement");
    let policy = |days: u32, seen: &str| {
        format!(
            "INSERT OR REPLACE INTO monmon_retention_policy VALUES ('{seen}', 'other', 'store', \
             '{{\"measurements\": \"{} seconds\"}}', strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '{seen}'))",
            days * 86_400
        )
    };
    rig.read().execute(&policy(300, "-1 days"), []).expect("another sink");
    rig.read().execute(&policy(900, "-8 days"), []).expect("one that is gone");
    let short = ["measurements=1d"];
    let planned =
        retention_plan(&rig.path(), &retention(&short), at("2026-11-22T12:00:00Z")).expect("a plan");
    let done = run(&rig, &short, "2026-11-22T12:00:00Z");
    assert_eq!((planned[0].1, done.measurements_deleted, done.others_keep_longer), (0, 0, true));
    assert_eq!(rig.count("monmon_measurement"), all);
    rig.read().execute("DELETE FROM monmon_retention_policy WHERE id = '-1 days'", []).expect("it is gone");
    let done = run(&rig, &short, "2026-11-22T12:00:00Z");
    assert!(done.measurements_deleted > 0 && !done.others_keep_longer, "{done:?}");
}

/// Receipts go when nothing is left that they could prove, and not before.
#[tokio::test]
async fn receipts_go_behind_their_days() {
    let rig = Rig::new();
    store(&rig, days("docs", 6)).await;
    let connection = rig.read();
    for hour in 0..6 * 24 {
        let at = at(FIRST) + SignedDuration::from_hours(hour);
        let hex = format!("{:012x}", at.as_millisecond());
        let sql = format!(
            "INSERT INTO monmon_receipt VALUES ('{}-{}-7000-8000-{hour:012}', 'b', '{at:.6}', '{at:.6}', '{at:.6}', \
             '{at:.6}', 1, 0, 0, '00000000-0000-0000-0000-000000000000', 'p', 's', 0)",
            &hex[..8],
            &hex[8..]
        );
        connection.execute(&sql, []).expect("a receipt");
    }
    maintain(&rig.path(), None, at("2026-11-27T00:00:00Z")).expect("maintained");
    assert_eq!(rig.count("monmon_receipt"), 144, "nothing has gone");
    // Of the first four days measurements go.
    let done = run(&rig, &["measurements=1d,keep-failures=1y"], "2026-11-25T12:00:00Z");
    assert!(done.measurements_deleted > 0, "{done:?}");
    let sealed = rig.count("monmon_rollup_checked WHERE sealed_at IS NOT NULL");
    assert_eq!((sealed, done.receipts_deleted), (4, 2 * 24), "{done:?}");
    assert_eq!(rig.count("monmon_receipt WHERE at < '2026-11-22'"), 0);
}

/// Measurements of a day that nobody has looked at, or of one that was sealed before they came, are not in its rollups.
#[tokio::test]
async fn what_comes_while_days_are_let_go_is_rolled_up_before_it_goes() {
    for (late_day, is_new_day) in [("2026-11-18", true), ("2026-11-20", false)] {
        let rig = Rig::new();
        store(&rig, days("docs", 4)).await;
        let connection = rig.read();
        let late = at(&format!("{late_day}T12:05:00Z"));
        let hex = format!("{:012x}", late.as_millisecond());
        // It comes when the last day is sealed: after all were looked at, and before the first row goes.
        connection
            .execute_batch(&format!(
                "CREATE TABLE waiting AS SELECT * FROM monmon_measurement LIMIT 1;
                 UPDATE waiting SET id = '{}-{}-7000-8000-000000000001', scheduled_at = '{late:.6}';
                 CREATE TRIGGER comes AFTER INSERT ON monmon_rollup_checked WHEN NEW.day = '2026-11-21' BEGIN
                     INSERT INTO monmon_measurement SELECT * FROM waiting;
                 END",
                &hex[..8],
                &hex[8..]
            ))
            .expect("one that waits");
        let late_rows = || rig.count(&format!("monmon_measurement WHERE scheduled_at = '{late:.6}'"));
        let rolled = || {
            let day = format!("monmon_rollup_day WHERE start_at = '{late_day}T00:00:00.000000Z'");
            let sum = format!("SELECT coalesce((SELECT sum(measurements) FROM {day}), 0)");
            rig.read().query_row(&sum, [], |row| row.get::<_, i64>(0)).expect("a sum")
        };
        let policy = retention(&["measurements=1d"]);
        let now = at("2026-11-24T00:00:00Z");
        let done = maintain(&rig.path(), Some(&policy), now).expect("maintained");
        assert_eq!((late_rows(), &done.left[..]), (1, &[late_day.to_owned()][..]), "{done:?}");
        let before = rolled();
        assert_eq!(before, if is_new_day { 0 } else { 148 });

        let done = run(&rig, &["measurements=1d"], "2026-11-24T00:00:00Z");
        assert!(done.late_hours > 0, "{done:?}");
        assert_eq!((late_rows(), rolled()), (0, before + 1));
        assert_eq!(rig.count("monmon_measurement WHERE scheduled_at < '2026-11-22'"), 0);
    }
}

/// What is recorded of how measurements came in goes with the last of them, so never where some of them are kept for ever.
#[tokio::test]
async fn records_of_batches_stay_as_long_as_any_measurement() {
    for (policy, left) in [
        (&["measurements=1d"][..], 1),
        (&["measurements=1d,keep-failures=1y"], 2),
        (&["measurements=1d,keep-failures=forever"], 2),
        (&["measurements=1d", "team=shop,measurements=forever"], 2),
        (&["measurements=1d", "team=shop,measurements=2y"], 2),
        (&["team=docs,measurements=1d"], 2),
    ] {
        let rig = Rig::new();
        store(&rig, [days("docs", 3), days("shop", 3)].concat()).await;
        for day in [FIRST, "2026-11-22T12:00:00Z"] {
            let hex = format!("{:012x}", at(day).as_millisecond());
            let (start, end) = hex.split_at(8);
            let sql = format!(
                "INSERT INTO monmon_batch VALUES ('{start}-{end}-7000-8000-000000000001', '{day}', 1, 1, 0, 1, 1, 0, 0, \
                 0, 'p', 's', 'k', 't', NULL)"
            );
            rig.read().execute(&sql, []).expect("a batch");
        }
        run(&rig, policy, "2026-11-23T00:00:00Z");
        assert!(rig.count("monmon_measurement") < 2 * 3 * 148, "{policy:?}");
        assert_eq!(rig.count("monmon_batch"), left, "{policy:?}");
    }
}

/// What no time can be, and a file from elsewhere may say.
#[tokio::test]
async fn times_without_measure_stop_nothing() {
    let rig = Rig::new();
    store(&rig, days("docs", 1)).await;
    let set = format!("UPDATE monmon_measurement SET total_us = {}", i64::MAX);
    rig.read().execute(&set, []).expect("set");
    maintain(&rig.path(), None, at("2026-11-24T00:00:00Z")).expect("maintained");
    assert_eq!(rig.count(&format!("monmon_rollup_day WHERE total_sum_us = {}", i64::MAX)), 1);
    assert_eq!(faults(&rig), [""; 0]);
}
