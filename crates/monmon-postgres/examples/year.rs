//! A year of measurements in a database of its own, and how long the questions take that people ask of it.
//!
//! `cargo run --profile light -p monmon-postgres --example year -- postgres://app:secret@127.0.0.1:25432/test [days] [checks]
//! [seconds between slots]` fills the schema `year` of that database, which it drops first, and leaves it there;
//! with 0 days it asks what is there. A server
//! on private data: `MONMON_SERVICES_DIR=/tmp/year PG_PORT=25432 tests/services/postgres.sh start`.
//!
//! The data is the same in each run: every check is measured in each slot, 1 in 100 is down, 1 in 500 unknown; times are
//! spread above a mean of the check's own that rises at noon.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{Client, NoTls};

const ROUNDS: usize = 7;

struct Year {
    url: String,
    days: i32,
    checks: i32,
    every_s: i32,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a bench prints its figures")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the URL of a database");
    let mut number = |default| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let year = Year { url, days: number(365), checks: number(300), every_s: number(300) };
    let client = year.client().await;
    if year.days > 0 {
        year.begin(&client).await;
        let begun = Instant::now();
        year.fill(&client).await;
        let rows: i64 = one(&client, "SELECT sum(measurements)::bigint FROM monmon_rollup_check_day").await;
        println!(
            "{rows} measurements of {} checks over {} days, filled and rolled up in {:.0} s",
            year.checks,
            year.days,
            begun.elapsed().as_secs_f64()
        );
    }
    let tables = "SELECT string_agg(format('%I', relname), ', ') FROM pg_class
                  WHERE relkind = 'r' AND relnamespace = 'year'::regnamespace";
    let tables: String = one(&client, tables).await;
    client.batch_execute(&format!("VACUUM ANALYZE {tables}")).await.expect("analysed");
    for (what, pattern) in [
        ("measurements", "monmon\\_measurement%"),
        ("minutes", "monmon\\_rollup\\_minute%"),
        ("hours", "monmon\\_rollup\\_hour%"),
        ("days", "monmon\\_rollup\\_day%"),
        ("hours and days of checks", "monmon\\_rollup\\_check%"),
    ] {
        let sql = format!(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint, coalesce(sum(greatest(reltuples, 0)), 0)::bigint
             FROM pg_class WHERE relname LIKE '{pattern}' AND relkind = 'r' AND relnamespace = 'year'::regnamespace"
        );
        let row = client.query_one(&sql, &[]).await.expect("sizes");
        let (bytes, rows): (i64, i64) = (row.get(0), row.get(1));
        println!(
            "{what}: {rows} rows, {} MB, {:.0} bytes a row",
            bytes >> 20,
            bytes as f64 / rows.max(1) as f64
        );
    }
    year.ask(&client).await;
    year.maintain(&client).await;
}

impl Year {
    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.expect("a connection");
        #[expect(clippy::disallowed_methods, reason = "a bench has no engine whose set could hold the task")]
        tokio::spawn(async move { drop(connection.await) });
        // As monmon's own sessions are.
        client
            .batch_execute("SET search_path = year; SET jit = off; SET timezone = 'UTC'")
            .await
            .expect("set");
        client
    }

    async fn begin(&self, client: &Client) {
        client
            .batch_execute("DROP SCHEMA IF EXISTS year CASCADE; CREATE SCHEMA year")
            .await
            .expect("a schema");
        let parameters = if self.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{parameters}options=-csearch_path%3Dyear", self.url);
        let target =
            monmon_postgres::Target::parse(&url, None, std::sync::Arc::new(monmon_stage::SystemWorld))
                .expect("a URL");
        monmon_postgres::migrate(&target).await.expect("migrations");
        let things = format!(
            "INSERT INTO monmon_prober SELECT md5('prober')::uuid, 'prober', 'hel', now() - interval '2 years';
             INSERT INTO monmon_boot SELECT md5('boot')::uuid, md5('prober')::uuid, now() - interval '2 years';
             INSERT INTO monmon_check (id, pipeline, source, name, definition_id, method, url, interval_us, timeout_us, labels, defined_at)
             SELECT md5('check ' || n)::uuid, 'producer', 'sites', 'check ' || n, md5('definition ' || n)::uuid, 'GET',
                    'https://example.org/' || n, {every} * 1000000::bigint, 10000000,
                    jsonb_build_object('team', 'team ' || n % 10), now() - interval '2 years'
             FROM generate_series(1, {checks}) AS n;
             INSERT INTO monmon_check_definition (id, check_id, pipeline, source, name, method, url, interval_us, timeout_us, labels, first_seen_at)
             SELECT definition_id, id, pipeline, source, name, method, url, interval_us, timeout_us, labels, defined_at
             FROM monmon_check;
             INSERT INTO monmon_context (id, definition_id, boot_id, http_version, remote_addr)
             SELECT md5('context ' || name)::uuid, definition_id, md5('boot')::uuid, '1.1', '192.0.2.7:443' FROM monmon_check
             UNION ALL SELECT md5('failed ' || name)::uuid, definition_id, md5('boot')::uuid, NULL, NULL FROM monmon_check;
             CREATE TABLE template AS
             SELECT n % {every} * 1000 + slot * {every} * 1000 AS offset_ms, c.id AS check_id,
                    md5('context ' || c.name)::uuid AS context_id, md5('failed ' || c.name)::uuid AS failed_id,
                    slot * {checks} + n AS seq, '7' || substr(md5(n || ' ' || slot), 1, 3) || '8' || substr(md5(n || ' ' || slot), 4, 15) AS tail,
                    hashint8extended(slot, n) & 4294967295 AS hash,
                    (20000 + n % 50 * 3000 + slot * {every} / 3600 * (24 - slot * {every} / 3600) * 200)::integer AS mean_us
             FROM monmon_check AS c
             CROSS JOIN LATERAL (SELECT substr(c.name, 7)::integer AS n) AS numbered
             CROSS JOIN generate_series(0, 86400 / {every} - 1) AS slot
             ORDER BY 1;
             -- History is filled in order and rolled up right away: no mark is needed.
             ALTER TABLE monmon_measurement DISABLE TRIGGER monmon_rollup_late",
            every = self.every_s,
            checks = self.checks
        );
        client.batch_execute(&things).await.expect("checks");
    }

    /// One day's measurements, `ago` days before today: those of the template, at another time, with other fates.
    fn day(&self, ago: i32) -> String {
        format!(
            "INSERT INTO monmon_measurement (id, check_id, context_id, scheduled_at, started_at, seq, body_bytes,
                 total_us, dns_us, connect_us, tls_us, wait_us, transfer_us, attempt, status, outcome, error_kind,
                 error_phase, error_message)
             SELECT (lpad(to_hex(day_ms + offset_ms), 12, '0') || tail)::uuid, check_id,
                    CASE WHEN fate >= 12 THEN context_id ELSE failed_id END,
                    day_at + offset_ms * interval '1 ms', day_at + offset_ms * interval '1.0003 ms', seq, 10240, t, t / 10,
                    t / 5, t / 4, t / 4, t - t / 10 - t / 5 - t / 4 * 2, 1, CASE WHEN fate >= 12 THEN 200 END,
                    CASE WHEN fate < 10 THEN 'down' WHEN fate < 12 THEN 'unknown' ELSE 'up' END,
                    CASE WHEN fate < 10 THEN 'connect_refused' WHEN fate < 12 THEN 'overslept' END,
                    CASE WHEN fate < 10 THEN 'connect' WHEN fate < 12 THEN 'start' END,
                    CASE WHEN fate < 12 THEN 'refused' END
             FROM (
                 SELECT *, ((hash + {ago} * 7919) & 1048575) % 1000 AS fate,
                        mean_us + (mean_us / 1000) * (((hash >> 20) + {ago} * 104729) & 4095) / 4 AS t
                 FROM template,
                      (SELECT date_trunc('day', now(), 'UTC') - {ago} * interval '24 hours' AS day_at,
                              (extract(epoch FROM date_trunc('day', now(), 'UTC')) * 1000)::bigint - {ago} * 86400000::bigint
                                  AS day_ms) AS day
             ) AS made
             ORDER BY offset_ms
             ON CONFLICT DO NOTHING"
        )
    }

    /// Day after day: a day is rolled up while the next one is filled.
    #[expect(clippy::print_stdout, reason = "a bench prints its figures")]
    async fn fill(&self, client: &Client) {
        let roller = self.client().await;
        for ago in (1..=self.days).rev() {
            let partitions =
                format!("SELECT monmon_create_partitions(current_date - {ago}, current_date - {ago})");
            client.execute(&partitions, &[]).await.expect("a partition");
            let day = self.day(ago);
            let (filled, ()) = tokio::join!(client.execute(&day, &[]), roll_up(&roller, ago));
            filled.expect("a day");
            if ago % 30 == 0 {
                roller
                    .batch_execute("DO $$ DECLARE p record; BEGIN FOR p IN SELECT * FROM monmon_retention_plan('{\"minutes\": \"90 days\"}',
                        (SELECT rolled_until FROM monmon_rollup_state)) LOOP PERFORM monmon_retention_apply('{\"minutes\": \"90 days\"}',
                        (SELECT rolled_until FROM monmon_rollup_state), p.family, p.from_at); END LOOP; END $$")
                    .await
                    .expect("minutes of more than 90 days ago go");
                println!("{ago} days to go");
            }
        }
        // The last day is left for `maintain`.
    }

    #[expect(clippy::print_stdout, reason = "a bench prints its figures")]
    async fn ask(&self, client: &Client) {
        let check = "md5('check 17')::uuid";
        for (what, sql) in [
            ("newest state of all checks", "SELECT * FROM monmon_check_state".to_owned()),
            (
                "a day of one check at full resolution",
                format!(
                    "SELECT * FROM monmon_measurement_full WHERE check_id = {check}
                     AND id >= monmon_uuid_floor(current_date - interval '40 days')
                     AND id < monmon_uuid_floor(current_date - interval '39 days') ORDER BY id"
                ),
            ),
            (
                "a year of one check from rollups, by day",
                format!("SELECT * FROM monmon_latency_day WHERE check_id = {check} ORDER BY start_at"),
            ),
            (
                "uptime of all checks for a month",
                "SELECT * FROM monmon_uptime((date_trunc('month', now()) - interval '1 month')::date,
                 date_trunc('month', now())::date)"
                    .to_owned(),
            ),
            (
                "uptime of all checks for a month, by the view and day",
                "SELECT * FROM monmon_uptime_day WHERE day >= (date_trunc('month', now()) - interval '1 month')::date
                 AND day < date_trunc('month', now())::date"
                    .to_owned(),
            ),
        ] {
            let mut times = Vec::new();
            let mut rows = 0;
            for _ in 0..ROUNDS {
                let begun = Instant::now();
                rows = client.query(&sql, &[]).await.expect(what).len();
                times.push(begun.elapsed());
            }
            times.sort_unstable();
            println!("\n{what}: {} in the middle, {} at most, {rows} rows", ms(times[ROUNDS / 2]), ms(times[ROUNDS - 1]));
            println!("{sql}");
            let plan = client.query(&format!("EXPLAIN (ANALYZE, COSTS OFF) {sql}"), &[]).await.expect("a plan");
            let lines: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
            let executed: Vec<&String> = lines.iter().filter(|line| !line.contains("never executed")).collect();
            println!("{} lines of plan", lines.len());
            executed.iter().take(60).for_each(|line| println!("    {line}"));
            executed.iter().skip(60).filter(|line| line.contains(" Time:")).for_each(|line| println!("    {line}"));
        }
    }

    /// Rolls up the last day, holds it against its measurements, and drops the oldest, while another client inserts.
    #[expect(clippy::print_stdout, reason = "a bench prints its figures")]
    async fn maintain(&self, client: &Client) {
        client
            .batch_execute("ALTER TABLE monmon_measurement ENABLE TRIGGER monmon_rollup_late")
            .await
            .expect("enabled");
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let inserter = self.client().await;
        let every = self.every_s;
        let inserting = async move {
            let mut slowest = Duration::ZERO;
            let mut batches = 0;
            while !*stopped.borrow_and_update() {
                let sql = format!(
                    "INSERT INTO monmon_measurement (id, check_id, context_id, scheduled_at, seq, total_us, attempt, outcome)
                     SELECT monmon_rollup_id(md5('check ' || n)::uuid, md5('batch {batches}')::uuid, at), md5('check ' || n)::uuid,
                            md5('context check ' || n)::uuid, at, {batches} + n, 40000, 1, 'up'
                     FROM (SELECT n, clock_timestamp() + n * interval '{every} ms' AS at FROM generate_series(1, 100) AS n) AS rows"
                );
                let begun = Instant::now();
                inserter.execute(&sql, &[]).await.expect("inserted");
                slowest = slowest.max(begun.elapsed());
                batches += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (batches, slowest)
        };
        let work = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let begun = Instant::now();
            roll_up(client, 0).await;
            println!("\nrolling up a day: {}", ms(begun.elapsed()));
            let oldest: String =
                one(client, "SELECT min(from_at)::text FROM monmon_partitions('monmon_measurement')").await;
            let begun = Instant::now();
            let said: String = one(
                client,
                &format!("SELECT monmon_rollup_verify(('{oldest}'::timestamptz AT TIME ZONE 'UTC')::date)"),
            )
            .await;
            println!("holding a day against its measurements: {}, {said}", ms(begun.elapsed()));
            let begun = Instant::now();
            let apply = format!(
                "SELECT monmon_retention_apply('{{\"measurements\": \"1 day\"}}', now(), 'monmon_measurement', '{oldest}')"
            );
            let said: String = one(client, &apply).await;
            println!("dropping a day: {}, {said}", ms(begun.elapsed()));
            stop.send(true).expect("the inserter is there");
        };
        let ((batches, slowest), ()) = tokio::join!(inserting, work);
        println!(
            "meanwhile {batches} batches of 100 measurements were inserted, the slowest in {}",
            ms(slowest)
        );
    }
}

/// Everything up to, not including, the day that was so many days ago.
async fn roll_up(client: &Client, ago: i32) {
    let step = format!(
        "SELECT done FROM monmon_rollup_step(date_trunc('day', now(), 'UTC') - {ago} * interval '24 hours')"
    );
    while one::<String>(client, &step).await != "nothing" {}
}

async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, sql: &str) -> T {
    client.query_one(sql, &[]).await.expect(sql).get(0)
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
