//! What is old goes, and only when it was rolled up: whole days, or all of a day but what is to be kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::Measurement;
use monmon_postgres::{maintain, retention_plan};
use monmon_stage::Retention;

use crate::rollups::{Dice, drawn, number, roll_up};
use crate::support::{Running, Store, a_match, check, down, measurement, spawn, store, until};

/// A year ago, because nothing goes that is not old by the database's clock.
const MIDNIGHT: &str = "2025-11-20T00:00:00Z";
pub(crate) const LATER: &str = "2025-11-24T00:00:00Z";

fn midnight() -> Timestamp {
    at(MIDNIGHT)
}

/// What is wrong with the rollups of the days of these tests, and of those around [`crate::support::noon`].
async fn faults(place: &Store) -> Vec<String> {
    let sql = "SELECT level || ' of ' || start_at || ': ' || difference FROM (
                   SELECT * FROM monmon_rollup_check('2025-11-19', '2025-11-30')
                   UNION ALL SELECT * FROM monmon_rollup_check('2026-11-19', '2026-11-30')) AS found LIMIT 5";
    place.client.query(sql, &[]).await.expect("checked").iter().map(|row| row.get(0)).collect()
}

fn retention(texts: &[&str]) -> Retention {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    Retention::parse(&texts).expect("a retention")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// A measurement a minute of two checks over three days, one in ten down, each with a match.
pub(crate) fn three_days() -> Vec<Measurement> {
    let docs = check("docs", 600_000_000);
    let mut shop = (*check("shop", 600_000_000)).clone();
    shop.labels = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
    let shop = Arc::new(shop);
    let slots = (0..3 * 144_u64).flat_map(|slot| {
        let at = midnight() + Duration::from_secs(600 * slot);
        [&docs, &shop].map(|check| {
            let mut row =
                if slot % 10 == 0 { down(check, slot + 1, at) } else { measurement(check, slot + 1, at) };
            row.matches = vec![a_match()];
            row
        })
    });
    slots.collect()
}

/// Rows by day: all of them, those that are up, those with the label of the shop, and matches.
async fn by_day(place: &Store) -> Vec<[i64; 4]> {
    let sql =
        "SELECT date_trunc('day', m.scheduled_at, 'UTC'), count(*), count(*) FILTER (WHERE m.outcome = 'up'),
                      count(*) FILTER (WHERE c.labels ->> 'team' = 'shop'), count(x.id)
               FROM monmon_measurement AS m JOIN monmon_check AS c ON c.id = m.check_id
               LEFT JOIN monmon_match AS x ON x.measurement_id = m.id GROUP BY 1 ORDER BY 1";
    let rows = place.client.query(sql, &[]).await.expect("days");
    rows.iter().map(|row| [1, 2, 3, 4].map(|column| row.get(column))).collect()
}

async fn uptime(place: &Store) -> Vec<(String, i64, i64, i64)> {
    let sql = "SELECT name || ' ' || day, slots_due, slots_known, measurements_down FROM monmon_uptime_day
               WHERE day < '2025-11-23' ORDER BY 1";
    let rows = place.client.query(sql, &[]).await.expect("the view");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect()
}

/// Lets go of what is old, by the program; what was rolled up before is up to the caller.
async fn let_go(place: &Store, texts: &[&str], now: &str) -> Vec<String> {
    let done = maintain(&place.target(), Some(&retention(texts)), at(now)).await.expect("maintained");
    // Days of the real clock that these tests are past of.
    assert!(done.left.iter().all(|(_, why)| why == "not rolled up"), "{:?}", done.left);
    let mut went = done.dropped;
    went.extend(done.thinned.into_iter().map(|partition| format!("a part of {partition}")));
    went.retain(|partition| partition.contains("measurement"));
    went
}

#[tokio::test]
async fn a_day_goes_whole_and_its_uptime_stays() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let before = uptime(&place).await;
    assert_eq!(before.len(), 6);
    let planned =
        retention_plan(&place.target(), &retention(&["measurements=1d"]), at("2025-11-22T12:00:00Z")).await;
    let planned: Vec<_> =
        planned.expect("a plan").into_iter().map(|going| (going.partition, going.whole)).collect();
    let planned: Vec<_> = planned.into_iter().filter(|(name, _)| name.contains("measurement")).collect();
    assert_eq!(planned, [("monmon_measurement_20251120".to_owned(), true)]);
    assert_eq!(by_day(&place).await.len(), 3, "a plan changes nothing");
    let went = let_go(&place, &["measurements=1d"], "2025-11-22T12:00:00Z").await;
    assert_eq!(went, ["monmon_measurement_20251120"]);
    assert_eq!(by_day(&place).await.len(), 2);
    assert_eq!(place.count("pg_class WHERE relname = 'monmon_match_20251120' AND relnamespace = current_schema::regnamespace").await, 0);
    assert_eq!(uptime(&place).await, before);
    let went = let_go(&place, &["measurements=1d"], "2025-12-30T12:00:00Z").await;
    assert_eq!(went[..2], ["monmon_measurement_20251121", "monmon_measurement_20251122"]);
    assert_eq!(uptime(&place).await, before, "also where no measurement is left at all");
    place.gone().await;
}

#[tokio::test]
async fn failures_and_labels_are_kept_longer_with_their_matches() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let before = uptime(&place).await;
    let (second, whole) = ([288, 260, 144, 288], [288, 258, 144, 288]);
    let policy = ["measurements=1d,keep-failures=1y", "team=shop,measurements=2d"];
    let went = let_go(&place, &policy, "2025-11-22T12:00:00Z").await;
    assert_eq!(went, ["a part of monmon_measurement_20251120"]);
    // The shop's day, and the failures of the other check.
    assert_eq!(by_day(&place).await, [[159, 129, 144, 159], second, whole]);
    assert_eq!(let_go(&place, &policy, "2025-11-22T12:00:00Z").await, [""; 0], "once");
    let went = let_go(&place, &policy, "2025-11-23T12:00:00Z").await;
    assert_eq!(went, ["a part of monmon_measurement_20251120", "a part of monmon_measurement_20251121"]);
    assert_eq!(by_day(&place).await, [[30, 0, 15, 30], [158, 130, 144, 158], whole]);
    assert_eq!(uptime(&place).await, before);
    let went = let_go(&place, &policy, "2026-11-21T12:00:00Z").await;
    assert!(
        went.contains(&"monmon_measurement_20251120".to_owned()),
        "a year later the failures go: {went:?}"
    );
    assert_eq!(uptime(&place).await, before);
    place.gone().await;
}

/// A shorter time for a label: the rest of the day stays.
#[tokio::test]
async fn a_label_may_go_sooner() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let policy = ["measurements=30d", "team=shop,measurements=1d"];
    assert_eq!(
        let_go(&place, &policy, "2025-11-22T12:00:00Z").await,
        ["a part of monmon_measurement_20251120"]
    );
    assert_eq!(by_day(&place).await[0], [144, 129, 0, 144]);
    place.gone().await;
}

#[tokio::test]
async fn nothing_goes_before_it_was_rolled_up() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    roll_up(&place.client, "2025-11-21T00:00:00Z").await;
    let apply = async |day: &str| -> String {
        let sql = format!(
            "SELECT monmon_retention_apply('{{\"measurements\": \"1 day\"}}', '2025-12-30Z', 'monmon_measurement', '{day}Z')"
        );
        place.client.query_one(&sql, &[]).await.expect("an answer").get(0)
    };
    let verify = async |day: &str| -> String {
        place
            .client
            .query_one(&format!("SELECT monmon_rollup_verify('{day}')"), &[])
            .await
            .expect("said")
            .get(0)
    };
    assert_eq!(apply("2025-11-21").await, "not rolled up");
    assert_eq!(verify("2025-11-21").await, "not rolled up");
    assert_eq!(apply("2025-11-20").await, "not checked");
    assert_eq!(verify("2025-11-20").await, "checked");
    // One that comes now is marked, and is not lost.
    store(&place, vec![measurement(&check("late", 60_000_000), 1, midnight() + Duration::from_secs(7_777))])
        .await;
    assert_eq!(apply("2025-11-20").await, "not rolled up");
    roll_up(&place.client, "2025-11-21T00:00:00Z").await;
    assert_eq!(apply("2025-11-20").await, "not checked");
    // Nor is one without a mark, as if someone had inserted it past the trigger.
    assert_eq!(verify("2025-11-20").await, "checked");
    store(&place, vec![measurement(&check("late", 60_000_000), 2, midnight() + Duration::from_secs(8_888))])
        .await;
    place.client.batch_execute("DELETE FROM monmon_rollup_late").await.expect("unmarked");
    assert_eq!(apply("2025-11-20").await, "not checked");
    assert_eq!(verify("2025-11-20").await, "differs");
    roll_up(&place.client, "2025-11-21T00:00:00Z").await;
    assert_eq!(
        (verify("2025-11-20").await.as_str(), apply("2025-11-20").await.as_str()),
        ("checked", "dropped")
    );
    assert_eq!(apply("2025-11-20").await, "gone");
    place.gone().await;
}

/// A machine that has booted with its clock in 2036 lets go of nothing, and nor does psql that is told so.
#[tokio::test]
async fn a_clock_that_is_ahead_lets_nothing_go() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let policy = ["measurements=700d,minutes=700d,hours=700d,days=700d"];
    let rows = async || {
        let mut rows = Vec::new();
        for table in
            ["measurement", "match", "rollup_minute", "rollup_hour", "rollup_day", "rollup_check_day"]
        {
            rows.push(place.count(&format!("monmon_{table}")).await);
        }
        rows
    };
    let before = rows().await;
    let wrong = "2036-01-01T00:00:00Z";
    let done = maintain(&place.target(), Some(&retention(&policy)), at(wrong)).await.expect("maintained");
    assert!(done.clock_ahead, "{done:?}");
    assert_eq!((done.dropped.len(), done.thinned.len(), done.days_deleted), (0, 0, 0), "{done:?}");
    let planned = retention_plan(&place.target(), &retention(&policy), at(wrong)).await.expect("a plan");
    assert_eq!(planned, []);
    let policy = retention(&policy).policy().to_string();
    let verify = "SELECT monmon_rollup_verify('2025-11-20')";
    assert_eq!(place.client.query_one(verify, &[]).await.expect("said").get::<_, &str>(0), "checked");
    let parts = [
        ("monmon_measurement", "2025-11-20"),
        ("monmon_rollup_minute", "2025-11-20"),
        ("monmon_rollup_hour", "2025-11-01"),
    ];
    for (family, day) in parts {
        let apply = format!("SELECT monmon_retention_apply('{policy}', '{wrong}', '{family}', '{day}Z')");
        let said: String = place.client.query_one(&apply, &[]).await.expect("said").get(0);
        assert_eq!(said, "kept", "{family}");
    }
    let days = format!("SELECT monmon_retention_days('{policy}', '{wrong}', 1000)");
    assert_eq!(number(&place, &days).await, 0);
    assert_eq!(rows().await, before);
    place.gone().await;
}

/// What was let go of and comes again, in part or whole, changes nothing; what was not there before is added.
#[tokio::test]
async fn what_comes_again_after_its_day_has_gone_is_not_counted_twice() {
    let place = Store::migrated().await;
    let rows = three_days();
    store(&place, rows.clone()).await;
    roll_up(&place.client, LATER).await;
    let before = uptime(&place).await;
    let sums = "SELECT sum(measurements)::bigint FROM monmon_rollup_day";
    let count = number(&place, sums).await;
    let_go(&place, &["measurements=1d"], "2025-12-30T12:00:00Z").await;
    store(&place, rows[..40].to_vec()).await;
    roll_up(&place.client, LATER).await;
    assert_eq!((number(&place, sums).await, uptime(&place).await), (count, before.clone()));
    store(&place, rows).await;
    roll_up(&place.client, LATER).await;
    assert_eq!((number(&place, sums).await, uptime(&place).await), (count, before));
    let other = check("other", 60_000_000);
    store(
        &place,
        (0..10).map(|n| measurement(&other, n + 1, midnight() + Duration::from_secs(60 * n))).collect(),
    )
    .await;
    roll_up(&place.client, LATER).await;
    assert_eq!(number(&place, sums).await, count + 10);
    let_go(&place, &["measurements=1d"], "2025-12-30T12:00:00Z").await;
    assert_eq!((place.count("monmon_measurement").await, number(&place, sums).await), (0, count + 10));
    place.gone().await;
}

/// Measurements of today and late ones of the very day that goes, from two writers, while days go.
#[tokio::test]
async fn days_go_while_measurements_come() {
    let place = Store::migrated().await;
    let mut dice = Dice(99);
    store(&place, drawn(&mut dice, midnight(), 72, 2_000)).await;
    roll_up(&place.client, LATER).await;
    let url = place.url.clone();
    let writing = spawn(async move {
        let mut running = Running::new(&format!("url \"{url}\"")).await;
        let mut sent = 0;
        for part in 0..30 {
            let today = check("today", 1_000_000);
            let from = crate::support::noon() + Duration::from_secs(part * 100);
            let mut rows: Vec<_> = (0..50)
                .map(|n| measurement(&today, part * 50 + n + 1, from + Duration::from_secs(n)))
                .collect();
            let late = check(&format!("late {part}"), 60_000_000);
            rows.push(measurement(&late, 1, midnight() + Duration::from_secs(part * 7_000)));
            sent += rows.len();
            running.send(rows).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (result, delivered, failed) = running.end().await;
        result.expect("stored");
        (sent, delivered, failed)
    });
    let policy = retention(&["measurements=1d,keep-failures=1y"]);
    while !writing.is_finished() {
        maintain(&place.target(), Some(&policy), at("2025-11-22T12:00:00Z")).await.expect("maintained");
    }
    let (sent, delivered, failed) = writing.await.expect("no panic");
    assert_eq!((delivered, failed), (sent, 0));
    maintain(&place.target(), Some(&policy), at("2025-11-22T12:00:00Z")).await.expect("maintained");
    roll_up(&place.client, "2026-11-24T00:00:00Z").await;
    assert_eq!(faults(&place).await, [""; 0]);
    let left = "SELECT count(*) FROM monmon_measurement WHERE id < monmon_uuid_floor('2025-11-21Z') AND outcome = 'up'";
    assert_eq!(number(&place, left).await, 0);
    // Every one that was ever acked is in the rollups: 30 late ones and 1,500 of today beside what was there.
    let by_name =
        "SELECT coalesce(sum(r.measurements), 0)::bigint FROM monmon_rollup_day AS r JOIN monmon_check AS c
                   ON c.id = r.check_id WHERE c.name LIKE 'late %' OR c.name = 'today'";
    assert_eq!(number(&place, by_name).await, 1_530);
    place.gone().await;
}

#[tokio::test]
async fn a_partition_in_use_is_left_for_later() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let reader = crate::support::client(&place.url).await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM monmon_measurement").await.expect("read");
    let policy = retention(&["measurements=1d"]);
    let done =
        maintain(&place.target(), Some(&policy), at("2025-11-22T12:00:00Z")).await.expect("maintained");
    assert_eq!(
        done.left,
        [("monmon_measurement_20251120".to_owned(), "monmon_measurement_20251120 is in use".to_owned())]
    );
    assert_eq!(by_day(&place).await.len(), 3);
    reader.batch_execute("COMMIT").await.expect("done");
    assert_eq!(
        let_go(&place, &["measurements=1d"], "2025-11-22T12:00:00Z").await,
        ["monmon_measurement_20251120"]
    );
    place.gone().await;
}

#[tokio::test]
async fn minutes_hours_and_days_go_in_their_time() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let policy = ["measurements=1d,minutes=2d,hours=30d,days=365d"];
    let counts = async || {
        let mut counts = Vec::new();
        for table in ["minute", "hour", "check_hour", "day", "check_day"] {
            counts.push(place.count(&format!("monmon_rollup_{table}")).await);
        }
        counts
    };
    assert_eq!(counts().await, [864, 144, 144, 6, 6]);
    let_go(&place, &policy, "2025-11-23T12:00:00Z").await;
    assert_eq!(counts().await, [576, 144, 144, 6, 6]);
    // What comes late for a day that has no minutes any more is in the hour and the day all the same.
    let late = measurement(&check("late", 60_000_000), 1, midnight() + Duration::from_secs(60));
    store(&place, vec![late]).await;
    roll_up(&place.client, LATER).await;
    assert_eq!(counts().await, [577, 145, 145, 7, 7]);
    let_go(&place, &policy, "2026-01-01T12:00:00Z").await;
    assert_eq!(counts().await, [0, 0, 0, 7, 7]);
    let_go(&place, &policy, "2026-11-21T12:00:00Z").await;
    assert_eq!(counts().await[3..], [4, 4]);
    assert_eq!(faults(&place).await, [""; 0]);
    place.gone().await;
}

/// The whole run, with its wait for the transactions of others.
#[tokio::test]
async fn maintenance_rolls_up_until_five_minutes_ago() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    until("everything is rolled up", async || {
        let done = maintain(&place.target(), None, at(LATER)).await.expect("maintained");
        done.rolled_until.is_some_and(|until| until > at("2025-11-25T00:00:00Z"))
    })
    .await;
    assert_eq!(faults(&place).await, [""; 0]);
    assert_eq!(number(&place, "SELECT sum(measurements)::bigint FROM monmon_rollup_day").await, 864);
    place.gone().await;
}

#[tokio::test]
async fn the_sink_lets_go_beside_its_writers() {
    let place = Store::migrated().await;
    let inside = format!("url \"{}\"\nretention measurements=\"30d\"", place.url);
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let now = at("2025-12-21T12:00:00Z");
    let mut running = Running::at(&inside, false, now).await;
    running.send(vec![measurement(&check("docs", 600_000_000), 999, at("2025-12-21T11:00:00Z"))]).await;
    until("the first day has gone", async || {
        number(&place, "SELECT count(*) FROM monmon_measurement").await == 577
    })
    .await;
    let (result, delivered, _) = running.end().await;
    result.expect("stored");
    assert_eq!(delivered, 1);
    place.gone().await;
}

/// Where nothing ran for long, what others keep for longer must not go before they have started.
#[tokio::test]
async fn a_sink_that_has_just_started_goes_by_what_others_said_long_ago() {
    let place = Store::migrated().await;
    let inside = format!("url \"{}\"\nretention measurements=\"30d\" minutes=\"30d\"", place.url);
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let other = "SELECT monmon_retention_register('other', 'store', '{\"measurements\": \"31536000 seconds\", \"minutes\": \"2592000 seconds\"}');
        UPDATE monmon_retention_policy SET seen_at = now() - interval '90 days'";
    place.client.batch_execute(other).await.expect("another sink");
    let now = at("2025-12-21T12:00:00Z");
    let mut running = Running::at(&inside, false, now).await;
    running.send(vec![measurement(&check("docs", 600_000_000), 999, at("2025-12-21T11:00:00Z"))]).await;
    until("minutes have gone, which nobody keeps for longer", async || {
        number(&place, "SELECT count(*) FROM monmon_rollup_minute WHERE start_at < '2025-11-21'").await == 0
    })
    .await;
    let first_day = "SELECT count(*) FROM monmon_measurement WHERE id < monmon_uuid_floor('2025-11-21')";
    assert_eq!(number(&place, first_day).await, 288);
    running.end().await.0.expect("stored");
    place.gone().await;
}
