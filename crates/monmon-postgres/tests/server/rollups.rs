//! Rollups are what their measurements come to, whatever comes late, runs at once, or is killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{Check, Histogram, Measurement, Outcome, measurement_id, rollup_id};
use uuid::Uuid;

use crate::support::{PROBER, Store, check, down, measurement, spawn, store, unknown};

pub(crate) const MIDNIGHT: &str = "2026-11-20T00:00:00Z";
const HOUR: u64 = 3_600;

pub(crate) fn midnight() -> Timestamp {
    MIDNIGHT.parse().expect("a time")
}

/// Numbers that look drawn, the same in each run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A measurement by one of two probers, of any outcome, at times with a second and a third attempt.
pub(crate) fn any(dice: &mut Dice, check: &Arc<Check>, seq: u64, at: Timestamp) -> Vec<Measurement> {
    let prober = 1 + dice.roll(2);
    let tries = 1 + u32::try_from(dice.roll(20).saturating_sub(17)).expect("small");
    let one = |dice: &mut Dice, attempt: u32| {
        let mut made = match dice.roll(10) {
            0 => down(check, seq, at),
            1 => unknown(check, seq, at),
            _ => measurement(check, seq, at),
        };
        if made.outcome == Outcome::Up {
            let total = 500 + dice.roll(2_000) * dice.roll(900);
            made.timings.wait_us = Some(total / 2);
            made.timings.connect_us = Some(total - total / 2);
            made.timings.transfer_us = None;
            made.timings.total_us = total;
        }
        let mut who = (*made.prober).clone();
        who.id = Uuid::from_u128(PROBER.as_u128() + u128::from(prober));
        who.boot = Uuid::from_u128(who.boot.as_u128() + u128::from(prober));
        made.prober = Arc::new(who);
        made.seq = seq * 4 + u64::from(attempt);
        made.attempt = attempt;
        made.id = measurement_id(made.prober.id, check.id, at, attempt);
        made
    };
    (1..=tries).map(|attempt| one(dice, attempt)).collect()
}

/// So many slots of some checks, at any second of `hours` hours from `from` on. One check changes its interval.
pub(crate) fn drawn(dice: &mut Dice, from: Timestamp, hours: u64, count: u64) -> Vec<Measurement> {
    let checks = [check("docs", 60_000_000), check("shop", 10_000_000), check("shop", 30_000_000)];
    let mut rows = BTreeMap::new();
    for seq in 1..=count {
        let at = from + Duration::from_secs(dice.roll(hours * HOUR));
        let check = &checks[usize::try_from(dice.roll(3)).expect("small")];
        for made in any(dice, check, seq, at) {
            rows.entry(made.id).or_insert(made);
        }
    }
    rows.into_values().collect()
}

/// Rolls up everything before an instant. Not by way of `monmon_rollup_settle`, which waits for transactions of others.
pub(crate) async fn roll_up(client: &tokio_postgres::Client, until: &str) {
    for _ in 0..500 {
        let sql = format!("SELECT done FROM monmon_rollup_step('{until}')");
        let done: String = client.query_one(&sql, &[]).await.expect("a step").get(0);
        match done.as_str() {
            "nothing" => return,
            "busy" => tokio::time::sleep(Duration::from_millis(5)).await,
            _ => {}
        }
    }
    panic!("rolling up does not end");
}

/// What is wrong with the rollups of the days of these tests.
pub(crate) async fn faults(place: &Store) -> Vec<String> {
    let sql = "SELECT level || ' of ' || start_at || ': ' || difference \
               FROM monmon_rollup_check('2026-11-19', '2026-11-30') LIMIT 5";
    place.client.query(sql, &[]).await.expect("checked").iter().map(|row| row.get(0)).collect()
}

pub(crate) async fn number(place: &Store, sql: &str) -> i64 {
    place.client.query_one(sql, &[]).await.expect(sql).get(0)
}

const LATER: &str = "2026-11-24T00:00:00Z";

/// Random measurements over days, then late ones, in a session with a time zone that has days of 23 and 25 hours.
#[tokio::test]
async fn rollups_are_what_the_measurements_come_to() {
    for seed in [1, 2, 3] {
        let place = Store::migrated().await;
        place.client.batch_execute("SET timezone = 'Europe/Helsinki'").await.expect("set");
        let mut dice = Dice(seed);
        store(&place, drawn(&mut dice, midnight(), 60, 1_500)).await;
        let before = place.client.query("SELECT * FROM monmon_uptime_day ORDER BY name, day", &[]).await;
        roll_up(&place.client, "2026-11-22T03:17:00Z").await;
        assert_eq!(faults(&place).await, [""; 0], "seed {seed}");
        roll_up(&place.client, LATER).await;
        assert_eq!(faults(&place).await, [""; 0], "seed {seed}");
        let after = place.client.query("SELECT * FROM monmon_uptime_day ORDER BY name, day", &[]).await;
        let told = |rows: Result<Vec<tokio_postgres::Row>, tokio_postgres::Error>| -> Vec<_> {
            let rows = rows.expect("the view");
            rows.iter()
                .map(|row| {
                    (
                        row.get::<_, String>("name"),
                        row.get::<_, i64>("slots_known"),
                        row.get::<_, Option<f64>>("uptime"),
                    )
                })
                .collect()
        };
        assert_eq!(told(before), told(after), "seed {seed}");

        let late = drawn(&mut dice, midnight(), 60, 200);
        store(&place, late).await;
        let marked = place.count("monmon_rollup_late").await;
        assert!((1..=60 * 8).contains(&marked), "seed {seed}: {marked} marks");
        assert!(faults(&place).await.iter().all(|fault| fault.starts_with("late")));
        roll_up(&place.client, LATER).await;
        assert_eq!(faults(&place).await, [""; 0], "seed {seed}");
        assert_eq!(place.count("monmon_rollup_late").await, 0);
        let rolled = number(&place, "SELECT sum(measurements)::bigint FROM monmon_rollup_day").await;
        assert_eq!(rolled, place.count("monmon_measurement").await, "seed {seed}");
        place.gone().await;
    }
}

#[tokio::test]
async fn a_rollup_that_is_wrong_is_told_and_made_again() {
    let place = Store::migrated().await;
    store(&place, drawn(&mut Dice(7), midnight(), 20, 300)).await;
    roll_up(&place.client, LATER).await;
    for (table, column) in [
        ("monmon_rollup_minute", "total_sum_us"),
        ("monmon_rollup_hour", "down"),
        ("monmon_rollup_day", "timed"),
        ("monmon_rollup_check_hour", "slots_known"),
        ("monmon_rollup_check_day", "measurements_up"),
    ] {
        let spoil = format!(
            "UPDATE {table} SET {column} = {column} + 1 WHERE id = (SELECT id FROM {table} ORDER BY id LIMIT 1)"
        );
        place.client.batch_execute(&spoil).await.expect("spoilt");
        assert_eq!(faults(&place).await.len(), 1, "{table}");
        let said = "SELECT monmon_rollup_verify('2026-11-20')";
        assert_eq!(place.client.query_one(said, &[]).await.expect("said").get::<_, &str>(0), "differs");
        roll_up(&place.client, LATER).await;
        assert_eq!(faults(&place).await, [""; 0], "{table}");
    }
    place.gone().await;
}

/// The hash, the buckets and the quantiles of the database are those of the program, which the SQLite store uses.
#[tokio::test]
async fn ids_and_histograms_are_the_same_in_rust() {
    let place = Store::migrated().await;
    let (one, other) = (check("docs", 1).id, PROBER);
    let sql = "SELECT monmon_rollup_id($1, $2, $3)";
    let id: Uuid = place.client.query_one(sql, &[&one, &other, &midnight()]).await.expect("an id").get(0);
    assert_eq!(id, rollup_id(one, other, midnight()));

    let mut dice = Dice(11);
    let times: Vec<i32> = (0..3_000)
        .map(|n| i32::try_from(if n < 100 { n } else { dice.roll(1 << (1 + n % 31)) }).expect("31 bits"))
        .chain([i32::MAX])
        .collect();
    let sql = "SELECT array_agg(monmon_histogram_bucket(us) ORDER BY place)
               FROM unnest($1::integer[]) WITH ORDINALITY AS t (us, place)";
    let buckets: Vec<i32> = place.client.query_one(sql, &[&times]).await.expect("buckets").get(0);
    let mut histogram = Histogram::default();
    for (us, bucket) in times.iter().zip(buckets) {
        let us = us.cast_unsigned();
        histogram.add(us);
        assert_eq!(Histogram::bucket(us), bucket.cast_unsigned(), "{us}");
    }
    // In two parts, merged.
    let halves = "SELECT monmon_histogram_merge(h) FROM (
                      SELECT monmon_histogram_compact(array_agg((monmon_histogram_bucket(us) << 22) | 1)) AS h
                      FROM unnest($1::integer[]) WITH ORDINALITY AS t (us, place) GROUP BY place % 2) AS half";
    let packed: Vec<i32> = place.client.query_one(halves, &[&times]).await.expect("merged").get(0);
    assert_eq!(packed, histogram.packed());
    for share in [0.0, 0.5, 0.9, 0.95, 0.99, 1.0] {
        let sql = "SELECT monmon_histogram_quantile($1, $2)";
        let found: Option<f64> = place.client.query_one(sql, &[&packed, &share]).await.expect("one").get(0);
        assert_eq!(found, histogram.quantile(share), "{share}");
    }
    place.gone().await;
}

#[tokio::test]
async fn quantiles_of_a_day_are_within_five_percent() {
    let place = Store::migrated().await;
    let docs = check("docs", 60_000_000);
    let mut dice = Dice(5);
    let mut times = Vec::new();
    let rows = (0..1_440_u64).map(|minute| {
        let mut row = measurement(&docs, minute + 1, midnight() + Duration::from_secs(60 * minute));
        row.timings.total_us = 900 + dice.roll(3_000) * dice.roll(700);
        times.push(row.timings.total_us);
        row
    });
    store(&place, rows.collect()).await;
    roll_up(&place.client, LATER).await;
    times.sort_unstable();
    let sql = "SELECT p50_us, p90_us, p95_us, p99_us FROM monmon_latency_day";
    let row = place.client.query_one(sql, &[]).await.expect("a day");
    for (column, rank) in [(0, 719), (1, 1_295), (2, 1_367), (3, 1_425)] {
        let (exact, near) = (times[rank] as f64, row.get::<_, f64>(column));
        assert!((near - exact).abs() <= exact * 0.05, "{column}: {near} for {exact}");
    }
    let per_hour = number(&place, "SELECT count(*) FROM monmon_latency_hour WHERE timed = 60").await;
    assert_eq!(per_hour, 24);
    place.gone().await;
}

/// Several at once, while measurements come late, and one of their sessions is ended again and again.
#[tokio::test]
async fn maintainers_at_once_and_killed_ones_leave_nothing_wrong() {
    let place = Store::migrated().await;
    let mut dice = Dice(23);
    store(&place, drawn(&mut dice, midnight(), 48, 1_000)).await;
    let mut maintainers = Vec::new();
    for _ in 0..3 {
        let client = crate::support::client(&place.url).await;
        maintainers.push(spawn(async move {
            for _ in 0..40 {
                let step = "SELECT done FROM monmon_rollup_step('2026-11-24T00:00:00Z')";
                if client.query_one(step, &[]).await.is_err() {
                    return 1;
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            0
        }));
    }
    let victim = crate::support::client(&place.url).await;
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).await.expect("a pid").get(0);
    maintainers.push(spawn(async move {
        for _ in 0..10_000 {
            if victim
                .query_one("SELECT done FROM monmon_rollup_step('2026-11-24T00:00:00Z')", &[])
                .await
                .is_err()
            {
                return 1;
            }
        }
        0
    }));
    for round in 0..5 {
        store(&place, drawn(&mut dice, midnight(), 48, 100)).await;
        if round == 2 {
            place.client.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await.expect("ended");
        }
    }
    let mut ended = 0;
    for maintainer in maintainers {
        ended += maintainer.await.expect("no panic");
    }
    assert_eq!(ended, 1, "the one that was killed");
    roll_up(&place.client, LATER).await;
    assert_eq!(faults(&place).await, [""; 0]);
    let rolled = number(&place, "SELECT sum(measurements)::bigint FROM monmon_rollup_day").await;
    assert_eq!(rolled, place.count("monmon_measurement").await);
    place.gone().await;
}

/// What an open transaction has stored is not rolled over: it has no mark, because it was in time.
#[tokio::test]
async fn a_transaction_that_is_still_writing_is_waited_for() {
    let place = Store::migrated().await;
    let settle = "SELECT until::text, behind::text FROM monmon_rollup_settle()";
    let settled = async |behind: &str| -> bool {
        let sql = format!("SELECT monmon_rollup_settled('{behind}')");
        place.client.query_one(&sql, &[]).await.expect("asked").get(0)
    };
    let writer = crate::support::client(&place.url).await;
    writer.batch_execute("BEGIN; CREATE TABLE under_way ()").await.expect("begun");
    let behind: String = place.client.query_one(settle, &[]).await.expect("settled").get(1);
    for _ in 0..3 {
        assert!(!settled(&behind).await);
    }
    writer.batch_execute("COMMIT").await.expect("ended");
    // Other tests' transactions are waited for too.
    crate::support::until("the end of all that wrote", async || settled(&behind).await).await;
    place.gone().await;
}

/// Slots a microsecond apart: an interval that a message may say, and no prober keeps to.
#[tokio::test]
async fn an_interval_of_a_microsecond_stops_nothing() {
    let place = Store::migrated().await;
    store(&place, vec![measurement(&check("docs", 1), 1, midnight() + Duration::from_secs(60))]).await;
    roll_up(&place.client, LATER).await;
    assert_eq!(faults(&place).await, [""; 0]);
    let due = "SELECT slots_due::bigint FROM monmon_rollup_day";
    assert_eq!(number(&place, due).await, i64::from(i32::MAX));
    place.gone().await;
}

/// Who is always late leaves a new mark with each transaction; new hours are rolled up all the same.
#[tokio::test]
async fn a_day_that_is_late_again_and_again_is_made_once_in_a_run() {
    let place = Store::migrated().await;
    store(&place, drawn(&mut Dice(3), midnight(), 24, 200)).await;
    roll_up(&place.client, "2026-11-20T12:00:00Z").await;
    let step = async |late_from: &str| -> (String, Option<String>) {
        place
            .client
            .batch_execute("INSERT INTO monmon_rollup_late (hour) VALUES ('2026-11-20 03:00Z')")
            .await
            .expect("marked");
        let sql = format!("SELECT done, to_at::text FROM monmon_rollup_step('{LATER}', '{late_from}')");
        let row = place.client.query_one(&sql, &[]).await.expect("a step");
        (row.get(0), row.get(1))
    };
    assert_eq!(step("-infinity").await.0, "late");
    assert_eq!(step("2026-11-21T00:00:00Z").await.0, "new");
    assert_eq!(step("2026-11-21T00:00:00Z").await.0, "new");
    assert_eq!(step("2026-11-21T00:00:00Z").await.0, "nothing");
    assert_eq!(step("-infinity").await.0, "late", "the mark is there for the next run");
    place.gone().await;
}
