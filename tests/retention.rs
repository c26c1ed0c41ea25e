//! `monmon db maintain`: the same numbers in both stores, plans that change nothing, and what goes.

mod support;

use std::process::Output;

use jiff::Timestamp;
use monmon_http::Slots;
use monmon_model::measurement_id;
use serde_json::{Value, json};
use support::{Database, Place};
use uuid::Uuid;

/// A measurement as both stores take it: text, for `INSERT`.
const ROWS: usize = 3_000;
const COLUMNS: &str = "id, check_id, definition_id, boot_id, scheduled_at, seq, total_us, dns_us, connect_us, wait_us, \
                       attempt, outcome, error_kind";

/// Numbers that look drawn, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One statement's worth of random measurements over the two days before yesterday, by two probers, of two checks, one of
/// which has two definitions, in any order.
fn rows(dice: &mut Dice, count: usize) -> String {
    let day_us = 86_400_000_000_i64;
    let now = Timestamp::now().as_microsecond();
    let first = now - now.rem_euclid(day_us) - 3 * day_us;
    let rows: Vec<String> = (0..count)
        .map(|place| {
            let check = dice.roll(2);
            let every_us = if check == 0 { 60_000_000 } else { 5_000_000 };
            let slots = u64::try_from(2 * day_us / every_us).expect("positive");
            let at = first + i64::try_from(dice.roll(slots)).expect("small") * every_us;
            let time = Timestamp::from_microsecond(at).expect("a time");
            let prober = dice.roll(2);
            let attempt = 1 + dice.roll(12) / 10;
            let bits = (check << 2) | (prober << 1) | (attempt - 1);
            let id = format!("{:012x}", at / 1_000);
            let id = format!("{}-{}-7000-8000-{bits:012}", &id[..8], &id[8..]);
            let (outcome, error) = match dice.roll(12) {
                0 => ("down", "'connect_refused'"),
                1 => ("unknown", "'overslept'"),
                2 => ("degraded", "NULL"),
                3 => ("down", "NULL"),
                _ => ("up", "NULL"),
            };
            let wait = dice.roll(3_000) * dice.roll(3_000);
            let dns = if dice.roll(2) == 0 { "NULL".to_owned() } else { dice.roll(900).to_string() };
            format!(
                "('{id}', '00000000-0000-5000-8000-00000000000{check}', '00000000-0000-5000-8000-0000000000d{}', \
                 '00000000-0000-7000-8000-0000000000b{prober}', '{time:.6}', {place}, {}, {dns}, 20, {wait}, {attempt}, \
                 '{outcome}', {error})",
                check * 2 + u64::from(check == 1 && dice.roll(2) == 1),
                wait + 20,
            )
        })
        .collect();
    format!("INSERT INTO monmon_measurement ({COLUMNS}) VALUES {} ON CONFLICT DO NOTHING", rows.join(", "))
}

/// One measurement of now, by which a store knows that the others are old.
fn row_of_now() -> String {
    let now = Timestamp::now();
    let id = format!("{:012x}", now.as_millisecond());
    let id = format!("{}-{}-7000-8000-000000000009", &id[..8], &id[8..]);
    format!(
        "INSERT INTO monmon_measurement ({COLUMNS}) VALUES ('{id}', '00000000-0000-5000-8000-000000000000', \
         '00000000-0000-5000-8000-0000000000d0', '00000000-0000-7000-8000-0000000000b0', '{now:.6}', 9999, 20, NULL, \
         20, 0, 1, 'up', NULL)"
    )
}

fn last_row_of_another(at_us: i64) -> String {
    let at = Timestamp::from_microsecond(at_us).expect("a time");
    let id = format!("{:012x}", at.as_millisecond());
    let id = format!("{}-{}-7000-8000-000000000008", &id[..8], &id[8..]);
    format!(
        "INSERT INTO monmon_measurement ({COLUMNS}) VALUES ('{id}', '00000000-0000-5000-8000-000000000001', \
         '00000000-0000-5000-8000-0000000000d2', '00000000-0000-7000-8000-0000000000b0', '{at:.6}', 9998, 20, NULL, \
         20, 0, 1, 'up', NULL)"
    )
}

/// Checks, definitions, boots, in words that both stores take.
fn things() -> Vec<String> {
    let mut things = Vec::new();
    for prober in 0..2 {
        things.push(format!(
            "INSERT INTO monmon_boot (id, prober_id, first_seen_at) VALUES ('00000000-0000-7000-8000-0000000000b{prober}',
             '00000000-0000-4000-8000-0000000000a{prober}', '2026-01-01T00:00:00.000000Z')"
        ));
    }
    for (definition, check, interval_us) in [(0, 0, 60_000_000), (2, 1, 5_000_000), (3, 1, 10_000_000)] {
        things.push(format!(
            "INSERT INTO monmon_check_definition (id, check_id, pipeline, source, name, method, url, interval_us, timeout_us, first_seen_at)
             VALUES ('00000000-0000-5000-8000-0000000000d{definition}', '00000000-0000-5000-8000-00000000000{check}', 'p', 's',
                     'check {check}', 'GET', 'http://x/', {interval_us}, 1000000, '2026-01-01T00:00:00.000000Z')"
        ));
        if definition < 3 {
            things.push(format!(
                "INSERT INTO monmon_check (id, pipeline, source, name, definition_id, method, url, interval_us, timeout_us, defined_at)
                 VALUES ('00000000-0000-5000-8000-00000000000{check}', 'p', 's', 'check {check}',
                         '00000000-0000-5000-8000-0000000000d{definition}', 'GET', 'http://x/', {interval_us}, 1000000,
                         '2026-01-01T00:00:00.000000Z')"
            ));
        }
    }
    things
}

struct Stores {
    place: Place,
    database: Database,
    sqlite: rusqlite::Connection,
    urls: [String; 2],
}

impl Stores {
    fn new() -> Stores {
        let (place, database) = (Place::new(), Database::new());
        let path = place.path("monmon.db");
        let urls = [database.url(), format!("sqlite:{}", path.display())];
        for url in &urls {
            let output = place.output(&["db", "migrate", "--store", url]);
            assert!(output.status.success(), "{output:?}");
        }
        database.query(
            "SELECT monmon_create_partitions((now() AT TIME ZONE 'UTC')::date - 3, (now() AT TIME ZONE 'UTC')::date)",
        );
        let sqlite = rusqlite::Connection::open(path).expect("the file");
        Stores { place, database, sqlite, urls }
    }

    fn both(&self, sql: &str) {
        self.database.query(sql);
        self.sqlite.execute_batch(sql).expect("the same in SQLite");
    }

    fn maintain(&self, arguments: &[&str]) -> Vec<Output> {
        let run = |url: &String| {
            let all = [&["db", "maintain", "--store", url], arguments].concat();
            self.place.output(&all)
        };
        self.urls.iter().map(run).collect()
    }

    /// Rows as JSON texts, from either, in the same form.
    fn told(&self, columns: &str, from: &str) -> [Vec<String>; 2] {
        let names: Vec<&str> = columns.split(", ").collect();
        let time = |name: &str| name.ends_with("_at");
        let postgres: Vec<String> = names
            .iter()
            .map(|name| match *name {
                "histogram" => "replace(translate(histogram::text, '{}', '[]'), ' ', '')".to_owned(),
                name if time(name) => {
                    format!("to_char({name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
                }
                name => format!("{name}::text"),
            })
            .collect();
        let sqlite: Vec<String> = names.iter().map(|name| format!("CAST({name} AS TEXT)")).collect();
        let select = |columns: &[String]| {
            let columns: Vec<String> =
                columns.iter().map(|column| format!("coalesce({column}, '-')")).collect();
            format!("SELECT {} FROM {from} ORDER BY 1", columns.join(" || ' ' || "))
        };
        let rows = self.database.query(&select(&postgres));
        let postgres = rows.into_iter().map(|row| row.into_iter().flatten().collect()).collect();
        let mut statement = self.sqlite.prepare(&select(&sqlite)).expect("the table");
        let sqlite = statement.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>();
        [postgres, sqlite.expect("texts")]
    }
}

const ROLLUP: &str = "id, check_id, prober_id, start_at, last_at, interval_us, total_sum_us, dns_sum_us, connect_sum_us, \
    tls_sum_us, wait_sum_us, transfer_sum_us, measurements, up, degraded, down, unknown, slots_known, slots_due, timed, \
    total_min_us, total_max_us, dns_min_us, dns_max_us, connect_min_us, connect_max_us, tls_min_us, tls_max_us, \
    wait_min_us, wait_max_us, transfer_min_us, transfer_max_us, histogram";
const CHECKS: &str = "id, check_id, definition_id, start_at, first_at, last_at, measurements, slots_known, \
    measurements_up, measurements_down, measurements_unknown";

#[test]
fn both_stores_come_to_the_same_numbers() {
    let stores = Stores::new();
    things().iter().for_each(|sql| stores.both(sql));
    let mut dice = Dice(41);
    for late in [false, true] {
        stores.both(&rows(&mut dice, if late { ROWS / 10 } else { ROWS }));
        // A transaction of another test may hold PostgreSQL's rollups back for a while.
        support::eventually("both are rolled up", || {
            let outputs = stores.maintain(&[]);
            assert!(outputs.iter().all(|output| output.status.success()), "{outputs:?}");
            let open =
                "SELECT count(*) FROM monmon_rollup_state WHERE rolled_until > now() - interval '1 hour'
                        AND NOT EXISTS (SELECT FROM monmon_rollup_late)";
            stores.database.count(open) == Some(1)
        });
        for (table, columns) in [
            ("monmon_rollup_minute", ROLLUP),
            ("monmon_rollup_hour", ROLLUP),
            ("monmon_rollup_day", ROLLUP),
            ("monmon_rollup_check_hour", CHECKS),
            ("monmon_rollup_check_day", CHECKS),
            ("monmon_latency_day", "check_id, prober_id, start_at, timed, min_us, max_us"),
        ] {
            let [postgres, sqlite] = stores.told(columns, table);
            assert!(postgres.len() > 3, "{table}");
            assert_eq!(postgres, sqlite, "{table}");
        }
        let quantiles = "(SELECT check_id, prober_id, start_at, p50_us * 2 AS a, p90_us * 2 AS b, p95_us * 2 AS c, p99_us * 2 AS d
                          FROM monmon_latency_hour) AS q";
        let [postgres, sqlite] = stores.told("check_id, prober_id, start_at, a, b, c, d", quantiles);
        assert_eq!(postgres.len(), sqlite.len());
        for (one, other) in postgres.iter().zip(&sqlite) {
            // 12 and 12.0 are the same.
            let numbers =
                |row: &str| -> Vec<Option<f64>> { row.split(' ').map(|word| word.parse().ok()).collect() };
            assert_eq!(numbers(one), numbers(other), "{one}");
        }
        let days = "monmon_uptime_day WHERE slots_known > 0";
        let [postgres, sqlite] = stores.told(
            "check_id, day, slots_due, slots_known, measurements_up, measurements_down, measurements_unknown",
            days,
        );
        assert_eq!(postgres, sqlite, "uptime");
    }
}

#[test]
fn a_plan_changes_nothing_and_what_it_told_then_goes() {
    let stores = Stores::new();
    things().iter().for_each(|sql| stores.both(sql));
    stores.both(&rows(&mut Dice(7), 500));
    stores.both(&row_of_now());
    let text = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let planned = stores.maintain(&["--retention", "measurements=1d", "--dry-run"]);
    assert!(text(&planned[0]).contains("would drop monmon_measurement_"), "{planned:?}");
    assert!(text(&planned[1]).contains("rows of monmon_measurement"), "{planned:?}");
    let count = |store: usize| match store {
        0 => stores.database.count("SELECT count(*) FROM monmon_measurement"),
        _ => stores
            .sqlite
            .query_row("SELECT count(*) FROM monmon_measurement", [], |row| row.get::<_, i64>(0))
            .ok()
            .map(i64::unsigned_abs),
    };
    assert_eq!((count(0), count(0).map(|rows| rows > 400)), (count(1), Some(true)));
    support::eventually("all that is old has gone", || {
        let outputs =
            stores.maintain(&["--retention", "measurements=1d", "--retention", "team=docs,measurements=2d"]);
        text(&outputs[0]).contains("rolled up until") && (count(0), count(1)) == (Some(1), Some(1))
    });
    let wrong = stores.maintain(&["--retention", "measurements=1d,minutes=1h"]);
    assert!(wrong.iter().all(|output| output.status.code() == Some(2)), "{wrong:?}");
    assert!(text(&wrong[0]).contains("--retention: `minutes`: expected a duration from 1d"), "{wrong:?}");
}

/// Every slot of a check over the three days before today, as its prober would have stored it: some down, some not known, and
/// a night of maintenance.
fn three_days(first_us: i64) -> String {
    let (check, prober) =
        (uuid("00000000-0000-5000-8000-000000000000"), uuid("00000000-0000-4000-8000-0000000000a0"));
    let slots = Slots::of(check, 60_000_000, None).expect("slots");
    let mut slot = slots.at_or_after(first_us);
    let mut rows = Vec::new();
    while slot < first_us + 3 * 86_400_000_000 {
        let time = Timestamp::from_microsecond(slot).expect("a time");
        let number = rows.len() + 1;
        let (outcome, error) = match number % 23 {
            0 => ("down", "'connect_refused'"),
            7 => ("unknown", "'overload'"),
            _ => ("up", "NULL"),
        };
        let details = if number % 1_440 < 60 { "'{\"maintenance\":\"patching\"}'" } else { "NULL" };
        rows.push(format!(
            "('{}', '{check}', '00000000-0000-5000-8000-0000000000d0', '00000000-0000-7000-8000-0000000000b0', \
             '{time:.6}', {number}, {}, 10, 20, 30, 1, '{outcome}', {error}, {details})",
            measurement_id(prober, check, time, 1),
            number * 7_919 % 90_000,
        ));
        slot = slots.next(slot);
    }
    format!("INSERT INTO monmon_measurement ({COLUMNS}, details) VALUES {}", rows.join(", "))
}

fn uuid(text: &str) -> Uuid {
    text.parse().expect("an id")
}

#[test]
fn a_report_is_the_same_before_and_after_measurements_have_gone() {
    let stores = Stores::new();
    things().iter().for_each(|sql| stores.both(sql));
    let day_us = 86_400_000_000;
    let now_us = Timestamp::now().as_microsecond();
    let today_us = now_us - now_us.rem_euclid(day_us);
    let first_us = today_us - 3 * day_us;
    stores.both(&three_days(first_us));
    stores.both(&row_of_now());
    stores.both(&last_row_of_another(first_us + 30_000_000));
    let at = |us: i64| Timestamp::from_microsecond(us).expect("a time").to_string();
    let report = |url: &str, since_us: i64, until_us: i64| {
        let (since, until) = (at(since_us), at(until_us));
        let arguments = ["report", "--store", url, "--since", &since, "--until", &until, "--format", "json"];
        let output = stores.place.output(&arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let mut check = report["checks"][0].clone();
        // Of what has gone it is not known, as the documentation says.
        let apart = check.as_object_mut().and_then(|check| check.remove("maintenance"));
        (check, apart, report["is_summed"].as_bool().unwrap_or(false))
    };
    let hour_us = 3_600_000_000;
    let windows = [
        (first_us, today_us),
        (first_us, first_us + day_us),
        (first_us + 5 * hour_us, first_us + 40 * hour_us),
    ];
    let reports = || -> Vec<_> {
        let of = |url: &String| windows.map(|(since_us, until_us)| report(url, since_us, until_us));
        stores.urls.iter().map(of).collect()
    };
    // The other check was there before the last two of these days, and is not known to have been taken out.
    let other = |url: &String| {
        let (since, until) = (at(first_us + day_us), at(today_us));
        let arguments = ["report", "--store", url, "--since", &since, "--until", &until, "--format", "json"];
        let output = stores.place.output(&arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let check = &report["checks"][1];
        (check["check"].clone(), check["not_measured"].clone(), check["coverage"].clone())
    };
    let not_measured =
        [(json!("check 1"), json!(true), json!(0.0)), (json!("check 1"), json!(true), json!(0.0))];
    assert_eq!(stores.urls.each_ref().map(other), not_measured);
    let before = reports();
    assert_eq!(before[0], before[1], "both stores tell the same");
    let (check, apart, is_summed) = &before[0][0];
    assert_eq!((check["slots_due"].as_u64(), *is_summed), (Some(3 * 1_440), false), "{check:#}");
    assert!(apart.as_ref().is_some_and(|apart| apart["down"].as_u64() > Some(3)), "{apart:?}");
    let rows = || stores.database.count("SELECT count(*) FROM monmon_measurement").unwrap_or(0);
    let all = rows();
    support::eventually("the first days have gone", || {
        stores.maintain(&["--retention", "measurements=1d"]);
        let left = "SELECT count(*) FROM monmon_measurement WHERE scheduled_at < ?1";
        let first = at(first_us + day_us);
        let in_file = stores.sqlite.query_row(left, [first], |row| row.get::<_, i64>(0));
        rows() <= all - 2 * 1_440 && in_file == Ok(0)
    });
    for (before, after) in before.iter().zip(reports()) {
        for ((check, ..), (checked, _, is_summed)) in before.iter().zip(&after) {
            assert_eq!((checked, *is_summed), (check, true));
        }
    }
    assert_eq!(stores.urls.each_ref().map(other), not_measured);
}
