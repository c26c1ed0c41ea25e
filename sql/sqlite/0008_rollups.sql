-- Rollups: what measurements come to by minute, hour and day; the same tables, columns and numbers as in
-- sql/postgres/0009_rollups.sql, whose comments tell what they mean. They are made by `monmon db maintain` and by a sink
-- with `retention`, not by SQL: SQLite has no arrays to make histograms of. A second run fails at the first table, and
-- changes nothing.
--
-- There are no partitions here: what is old is deleted, some thousand rows at a time, and the file uses its room again.

BEGIN IMMEDIATE;

CREATE TABLE monmon_rollup_minute (
    id              TEXT NOT NULL PRIMARY KEY,
    check_id        TEXT NOT NULL,
    prober_id       TEXT NOT NULL,
    start_at        TEXT NOT NULL,
    last_at         TEXT NOT NULL,
    interval_us     INTEGER NOT NULL,
    total_sum_us    INTEGER NOT NULL,
    dns_sum_us      INTEGER NOT NULL,
    connect_sum_us  INTEGER NOT NULL,
    tls_sum_us      INTEGER NOT NULL,
    wait_sum_us     INTEGER NOT NULL,
    transfer_sum_us INTEGER NOT NULL,
    measurements    INTEGER NOT NULL,
    up              INTEGER NOT NULL,
    degraded        INTEGER NOT NULL,
    down            INTEGER NOT NULL,
    unknown         INTEGER NOT NULL,
    slots_known     INTEGER NOT NULL,
    slots_due       INTEGER NOT NULL,
    timed           INTEGER NOT NULL,
    total_min_us    INTEGER,
    total_max_us    INTEGER,
    dns_min_us      INTEGER,
    dns_max_us      INTEGER,
    connect_min_us  INTEGER,
    connect_max_us  INTEGER,
    tls_min_us      INTEGER,
    tls_max_us      INTEGER,
    wait_min_us     INTEGER,
    wait_max_us     INTEGER,
    transfer_min_us INTEGER,
    transfer_max_us INTEGER,
    histogram       TEXT NOT NULL               -- a JSON list of whole numbers
) STRICT, WITHOUT ROWID;
CREATE INDEX monmon_rollup_minute_check ON monmon_rollup_minute (check_id, id);

CREATE TABLE monmon_rollup_hour (
    id              TEXT NOT NULL PRIMARY KEY,
    check_id        TEXT NOT NULL,
    prober_id       TEXT NOT NULL,
    start_at        TEXT NOT NULL,
    last_at         TEXT NOT NULL,
    interval_us     INTEGER NOT NULL,
    total_sum_us    INTEGER NOT NULL,
    dns_sum_us      INTEGER NOT NULL,
    connect_sum_us  INTEGER NOT NULL,
    tls_sum_us      INTEGER NOT NULL,
    wait_sum_us     INTEGER NOT NULL,
    transfer_sum_us INTEGER NOT NULL,
    measurements    INTEGER NOT NULL,
    up              INTEGER NOT NULL,
    degraded        INTEGER NOT NULL,
    down            INTEGER NOT NULL,
    unknown         INTEGER NOT NULL,
    slots_known     INTEGER NOT NULL,
    slots_due       INTEGER NOT NULL,
    timed           INTEGER NOT NULL,
    total_min_us    INTEGER,
    total_max_us    INTEGER,
    dns_min_us      INTEGER,
    dns_max_us      INTEGER,
    connect_min_us  INTEGER,
    connect_max_us  INTEGER,
    tls_min_us      INTEGER,
    tls_max_us      INTEGER,
    wait_min_us     INTEGER,
    wait_max_us     INTEGER,
    transfer_min_us INTEGER,
    transfer_max_us INTEGER,
    histogram       TEXT NOT NULL               -- a JSON list of whole numbers
) STRICT, WITHOUT ROWID;
CREATE INDEX monmon_rollup_hour_check ON monmon_rollup_hour (check_id, id);

CREATE TABLE monmon_rollup_day (
    id              TEXT NOT NULL PRIMARY KEY,
    check_id        TEXT NOT NULL,
    prober_id       TEXT NOT NULL,
    start_at        TEXT NOT NULL,
    last_at         TEXT NOT NULL,
    interval_us     INTEGER NOT NULL,
    total_sum_us    INTEGER NOT NULL,
    dns_sum_us      INTEGER NOT NULL,
    connect_sum_us  INTEGER NOT NULL,
    tls_sum_us      INTEGER NOT NULL,
    wait_sum_us     INTEGER NOT NULL,
    transfer_sum_us INTEGER NOT NULL,
    measurements    INTEGER NOT NULL,
    up              INTEGER NOT NULL,
    degraded        INTEGER NOT NULL,
    down            INTEGER NOT NULL,
    unknown         INTEGER NOT NULL,
    slots_known     INTEGER NOT NULL,
    slots_due       INTEGER NOT NULL,
    timed           INTEGER NOT NULL,
    total_min_us    INTEGER,
    total_max_us    INTEGER,
    dns_min_us      INTEGER,
    dns_max_us      INTEGER,
    connect_min_us  INTEGER,
    connect_max_us  INTEGER,
    tls_min_us      INTEGER,
    tls_max_us      INTEGER,
    wait_min_us     INTEGER,
    wait_max_us     INTEGER,
    transfer_min_us INTEGER,
    transfer_max_us INTEGER,
    histogram       TEXT NOT NULL               -- a JSON list of whole numbers
) STRICT, WITHOUT ROWID;
CREATE INDEX monmon_rollup_day_check ON monmon_rollup_day (check_id, id);

CREATE TABLE monmon_rollup_check_hour (
    id                   TEXT NOT NULL PRIMARY KEY,
    check_id             TEXT NOT NULL,
    definition_id        TEXT NOT NULL,
    start_at             TEXT NOT NULL,
    first_at             TEXT NOT NULL,
    last_at              TEXT NOT NULL,
    measurements         INTEGER NOT NULL,
    slots_known          INTEGER NOT NULL,
    measurements_up      INTEGER NOT NULL,
    measurements_down    INTEGER NOT NULL,
    measurements_unknown INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX monmon_rollup_check_hour_check ON monmon_rollup_check_hour (check_id, id);

CREATE TABLE monmon_rollup_check_day (
    id                   TEXT NOT NULL PRIMARY KEY,
    check_id             TEXT NOT NULL,
    definition_id        TEXT NOT NULL,
    start_at             TEXT NOT NULL,
    first_at             TEXT NOT NULL,
    last_at              TEXT NOT NULL,
    measurements         INTEGER NOT NULL,
    slots_known          INTEGER NOT NULL,
    measurements_up      INTEGER NOT NULL,
    measurements_down    INTEGER NOT NULL,
    measurements_unknown INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX monmon_rollup_check_day_check ON monmon_rollup_check_day (check_id, id);

CREATE TABLE monmon_rollup_state (              -- one row: how far rollups are made
    id           TEXT NOT NULL PRIMARY KEY,
    rolled_until TEXT,                          -- everything before it is in the rollups, but for late hours
    minutes_from TEXT NOT NULL DEFAULT '',      -- minutes are kept whole from here on
    hours_from   TEXT NOT NULL DEFAULT '',
    changed_at   TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
) STRICT;
INSERT INTO monmon_rollup_state (id) VALUES ('6d6f6e6d-6f6e-8000-8000-0000726f6c6c');

CREATE TABLE monmon_rollup_late (               -- hours whose rollups are to be made again
    id   TEXT NOT NULL PRIMARY KEY,             -- the lowest UUIDv7 of the hour: there is one writer at a time
    hour TEXT NOT NULL
) STRICT;

CREATE TABLE monmon_rollup_checked (            -- days whose rollups were held against their measurements
    id           TEXT NOT NULL PRIMARY KEY,     -- the lowest UUIDv7 of the day
    day          TEXT NOT NULL UNIQUE,
    measurements INTEGER NOT NULL,
    checked_at   TEXT NOT NULL,
    sealed_at    TEXT                           -- when measurements of the day first went
) STRICT;

-- A measurement in time pays for the condition alone.
CREATE TRIGGER monmon_rollup_late AFTER INSERT ON monmon_measurement
WHEN NEW.scheduled_at < strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '-5 minutes')
BEGIN
    INSERT OR IGNORE INTO monmon_rollup_late (id, hour)
    SELECT substr(hex, 1, 8) || '-' || substr(hex, 9, 4) || '-7000-8000-000000000000',
           substr(NEW.scheduled_at, 1, 13) || ':00:00.000000Z'
    FROM (SELECT printf('%012x', unixepoch(substr(NEW.scheduled_at, 1, 13) || ':00:00') * 1000) AS hex);
END;

DROP VIEW monmon_uptime_day;
DROP VIEW monmon_check_span;

-- A check has ended where its prober began anew and then measured other checks of the same source for longer than this
-- one's interval and timeout.
CREATE VIEW monmon_check_span AS
WITH
ends AS (
    SELECT c.id AS check_id, c.pipeline, c.source, c.interval_us + c.timeout_us AS patience_us,
           (SELECT m.scheduled_at FROM monmon_measurement AS m WHERE m.check_id = c.id ORDER BY m.id LIMIT 1) AS raw_first_at,
           (SELECT m.id FROM monmon_measurement AS m WHERE m.check_id = c.id ORDER BY m.id DESC LIMIT 1) AS last_id,
           (SELECT min(r.first_at) FROM monmon_rollup_check_day AS r WHERE r.check_id = c.id AND r.start_at = (
               SELECT d.start_at FROM monmon_rollup_check_day AS d WHERE d.check_id = c.id ORDER BY d.id LIMIT 1
           ) AND r.id < substr((
               SELECT d.id FROM monmon_rollup_check_day AS d WHERE d.check_id = c.id ORDER BY d.id LIMIT 1
           ), 1, 13) || '~') AS day_first_at,
           (SELECT max(r.last_at) FROM monmon_rollup_check_day AS r WHERE r.check_id = c.id AND r.id >= substr((
               SELECT d.id FROM monmon_rollup_check_day AS d WHERE d.check_id = c.id ORDER BY d.id DESC LIMIT 1
           ), 1, 13)) AS day_last_at
    FROM monmon_check AS c
),
seen AS (
    SELECT e.check_id, e.pipeline, e.source, e.patience_us,
           coalesce(min(e.raw_first_at, e.day_first_at), e.raw_first_at, e.day_first_at) AS first_at,
           coalesce(max(m.scheduled_at, e.day_last_at), m.scheduled_at, e.day_last_at) AS last_at,
           b.first_seen_at AS boot_at,
           CASE WHEN e.day_last_at IS NULL OR m.scheduled_at >= e.day_last_at THEN b.prober_id
                ELSE (SELECT r.prober_id FROM monmon_rollup_day AS r WHERE r.check_id = e.check_id
                      ORDER BY substr(r.id, 1, 13) DESC, r.last_at DESC LIMIT 1) END AS prober_id
    FROM ends AS e
    LEFT JOIN monmon_measurement AS m ON m.id = e.last_id
    LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
    WHERE e.last_id IS NOT NULL OR e.day_first_at IS NOT NULL
),
compared AS (
    SELECT check_id, patience_us, first_at, last_at,
           max(boot_at) OVER of_one_source AS newest_boot_at,
           max(last_at) OVER of_one_source AS newest_at
    FROM seen
    WINDOW of_one_source AS (PARTITION BY pipeline, source, prober_id)
)
SELECT check_id, first_at, last_at,
       CASE WHEN newest_boot_at > last_at
             AND unixepoch(substr(newest_at, 1, 19)) * 1000000 + CAST(substr(newest_at, 21, 6) AS INTEGER)
                 > unixepoch(substr(newest_boot_at, 1, 19)) * 1000000
                     + CAST(substr(newest_boot_at, 21, 6) AS INTEGER) + patience_us
            THEN newest_boot_at END AS ended_at
FROM compared;

-- As 0003_uptime.sql made it, but that days which are rolled up are read from the rollups.
CREATE VIEW monmon_uptime_day AS
WITH RECURSIVE
watched AS MATERIALIZED (
    SELECT *, coalesce(ended_us, unixepoch('now') * 1000000 - timeout_us) AS due_until_us
    FROM (
        SELECT c.id AS check_id, c.pipeline, c.source, c.name, c.interval_us, c.timeout_us,
               unixepoch(substr(s.first_at, 1, 19)) * 1000000 + CAST(substr(s.first_at, 21, 6) AS INTEGER) AS first_us,
               unixepoch(substr(s.last_at, 1, 19)) * 1000000 + CAST(substr(s.last_at, 21, 6) AS INTEGER) AS last_us,
               unixepoch(substr(s.ended_at, 1, 19)) * 1000000 + CAST(substr(s.ended_at, 21, 6) AS INTEGER) AS ended_us
        FROM monmon_check AS c
        JOIN monmon_check_span AS s ON s.check_id = c.id
    )
),
calendar(day, last_day) AS (
    SELECT date(min(first_us) / 1000000, 'unixepoch'), date(max(max(last_us, due_until_us)) / 1000000, 'unixepoch')
    FROM watched HAVING count(*) > 0
    UNION ALL
    SELECT date(day, '+1 day'), last_day FROM calendar WHERE day < last_day
),
hexed AS (
    SELECT day, unixepoch(day) * 1000000 AS day_start, unixepoch(day, '+1 day') * 1000000 AS day_end,
           printf('%012x', unixepoch(day) * 1000) AS first_hex,
           printf('%012x', unixepoch(day, '+1 day') * 1000) AS end_hex
    FROM calendar
),
days AS MATERIALIZED (
    SELECT day, day_start, day_end,
           substr(first_hex, 1, 8) || '-' || substr(first_hex, 9) AS first_id,
           substr(end_hex, 1, 8) || '-' || substr(end_hex, 9) AS end_id,
           EXISTS (SELECT 1 FROM monmon_rollup_state AS t
                   WHERE t.rolled_until >= date(hexed.day, '+1 day') || 'T00:00:00.000000Z')
               AND (EXISTS (SELECT 1 FROM monmon_rollup_checked AS x WHERE x.day = hexed.day AND x.sealed_at IS NOT NULL)
                    OR NOT EXISTS (SELECT 1 FROM monmon_rollup_late AS l WHERE substr(l.hour, 1, 10) = hexed.day)) AS rolled
    FROM hexed
),
slots AS (  -- one row for each prober and slot; its last attempt decides
    SELECT d.day, m.check_id, m.definition_id, m.scheduled_at,
           max(m.attempt * 4 + CASE m.outcome WHEN 'up' THEN 0 WHEN 'degraded' THEN 1
                                              WHEN 'down' THEN 2 ELSE 3 END) % 4 AS verdict
    FROM days AS d
    CROSS JOIN monmon_measurement AS m ON m.id >= d.first_id AND m.id < d.end_id AND NOT d.rolled
    LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
    GROUP BY d.day, m.check_id, m.definition_id, b.prober_id, m.scheduled_at
),
seen AS (  -- by definition, because the interval may change within a day
    SELECT day, check_id, definition_id,
           unixepoch(substr(min(scheduled_at), 1, 19)) * 1000000
               + CAST(substr(min(scheduled_at), 21, 6) AS INTEGER) AS first_us,
           count(DISTINCT CASE WHEN verdict < 3 THEN scheduled_at END) AS slots_known,
           count(CASE WHEN verdict < 2 THEN 1 END) AS measurements_up,
           count(CASE WHEN verdict = 2 THEN 1 END) AS measurements_down,
           count(CASE WHEN verdict = 3 THEN 1 END) AS measurements_unknown
    FROM slots
    GROUP BY day, check_id, definition_id
    UNION ALL
    SELECT d.day, r.check_id, r.definition_id,
           unixepoch(substr(r.first_at, 1, 19)) * 1000000 + CAST(substr(r.first_at, 21, 6) AS INTEGER),
           r.slots_known, r.measurements_up, r.measurements_down, r.measurements_unknown
    FROM days AS d
    CROSS JOIN monmon_rollup_check_day AS r ON r.id >= d.first_id AND r.id < d.end_id AND d.rolled
),
spans AS (  -- each definition rules from its first slot of the day to the next one's, the first from the day's start
    SELECT w.check_id, d.day,
           coalesce(s.first_us, w.first_us) AS anchor,
           coalesce(f.interval_us, w.interval_us) AS interval_us,
           max(w.first_us, d.day_start,
               CASE WHEN row_number() OVER by_definition > 1 THEN s.first_us ELSE 0 END) AS span_start,
           min(w.due_until_us, d.day_end, coalesce(lead(s.first_us) OVER by_definition, d.day_end)) AS span_end,
           s.slots_known, s.measurements_up, s.measurements_down, s.measurements_unknown
    FROM watched AS w
    JOIN days AS d ON d.day_end > w.first_us AND (d.day_start <= w.last_us OR d.day_start < w.due_until_us)
    LEFT JOIN seen AS s ON s.check_id = w.check_id AND s.day = d.day
    LEFT JOIN monmon_check_definition AS f ON f.id = s.definition_id
    WINDOW by_definition AS (PARTITION BY w.check_id, d.day ORDER BY s.first_us)
),
due AS (  -- slots lie at the anchor plus or minus whole intervals; the phase is made positive, so that division floors
    SELECT *,
           max(0, (span_end - phase + interval_us - 1) / interval_us
                - (span_start - phase + interval_us - 1) / interval_us) AS slots_due
    FROM (SELECT *, anchor % interval_us AS phase FROM spans)
),
summed AS (
    SELECT check_id, day,
           -- A slot that is not owed yet may be known already.
           max(sum(slots_due), coalesce(sum(slots_known), 0)) AS slots_due,
           coalesce(sum(slots_known), 0) AS slots_known,
           coalesce(sum(measurements_up), 0) AS measurements_up,
           coalesce(sum(measurements_down), 0) AS measurements_down,
           coalesce(sum(measurements_unknown), 0) AS measurements_unknown
    FROM due
    GROUP BY check_id, day
)
SELECT w.check_id, w.pipeline, w.source, w.name, s.day,
       CAST(s.measurements_up AS REAL) / nullif(s.measurements_up + s.measurements_down, 0) AS uptime,
       CAST(s.slots_known AS REAL) / nullif(s.slots_due, 0) AS coverage,
       s.slots_due, s.slots_known, s.measurements_up, s.measurements_down, s.measurements_unknown
FROM summed AS s
JOIN watched AS w ON w.check_id = s.check_id;

CREATE VIEW monmon_uptime_month AS
SELECT check_id, pipeline, source, name, substr(day, 1, 7) || '-01' AS month,
       CAST(sum(measurements_up) AS REAL) / nullif(sum(measurements_up) + sum(measurements_down), 0) AS uptime,
       CAST(sum(slots_known) AS REAL) / nullif(sum(slots_due), 0) AS coverage,
       sum(slots_due) AS slots_due, sum(slots_known) AS slots_known, sum(measurements_up) AS measurements_up,
       sum(measurements_down) AS measurements_down, sum(measurements_unknown) AS measurements_unknown
FROM monmon_uptime_day
GROUP BY check_id, pipeline, source, name, substr(day, 1, 7);

CREATE VIEW monmon_latency_hour AS
SELECT r.check_id, c.pipeline, c.source, c.name, r.prober_id, r.start_at, r.measurements, r.timed,
       CAST(r.total_sum_us AS REAL) / nullif(r.timed, 0) AS mean_us, r.total_min_us AS min_us, r.total_max_us AS max_us,
       (SELECT (CASE WHEN b < 16 THEN b * 2 ELSE ((16 + b % 16) << (b / 16 - 1)) * 2 + (1 << (b / 16 - 1)) - 1 END) / 2.0
        FROM (SELECT e.value >> 22 AS b, sum(e.value & 4194303) OVER (ORDER BY e.key) AS reached
              FROM json_each(r.histogram) AS e)
        WHERE reached * 100 >= r.timed * 50 ORDER BY reached LIMIT 1) AS p50_us,
       (SELECT (CASE WHEN b < 16 THEN b * 2 ELSE ((16 + b % 16) << (b / 16 - 1)) * 2 + (1 << (b / 16 - 1)) - 1 END) / 2.0
        FROM (SELECT e.value >> 22 AS b, sum(e.value & 4194303) OVER (ORDER BY e.key) AS reached
              FROM json_each(r.histogram) AS e)
        WHERE reached * 100 >= r.timed * 90 ORDER BY reached LIMIT 1) AS p90_us,
       (SELECT (CASE WHEN b < 16 THEN b * 2 ELSE ((16 + b % 16) << (b / 16 - 1)) * 2 + (1 << (b / 16 - 1)) - 1 END) / 2.0
        FROM (SELECT e.value >> 22 AS b, sum(e.value & 4194303) OVER (ORDER BY e.key) AS reached
              FROM json_each(r.histogram) AS e)
        WHERE reached * 100 >= r.timed * 95 ORDER BY reached LIMIT 1) AS p95_us,
       (SELECT (CASE WHEN b < 16 THEN b * 2 ELSE ((16 + b % 16) << (b / 16 - 1)) * 2 + (1 << (b / 16 - 1)) - 1 END) / 2.0
        FROM (SELECT e.value >> 22 AS b, sum(e.value & 4194303) OVER (ORDER BY e.key) AS reached
              FROM json_each(r.histogram) AS e)
        WHERE reached * 100 >= r.timed * 99 ORDER BY reached LIMIT 1) AS p99_us,
       CAST(r.dns_sum_us AS REAL) / nullif(r.timed, 0) AS dns_mean_us,
       CAST(r.connect_sum_us AS REAL) / nullif(r.timed, 0) AS connect_mean_us,
       CAST(r.tls_sum_us AS REAL) / nullif(r.timed, 0) AS tls_mean_us,
       CAST(r.wait_sum_us AS REAL) / nullif(r.timed, 0) AS wait_mean_us,
       CAST(r.transfer_sum_us AS REAL) / nullif(r.timed, 0) AS transfer_mean_us
FROM monmon_rollup_hour AS r
LEFT JOIN monmon_check AS c ON c.id = r.check_id;

CREATE VIEW monmon_latency_day AS
SELECT r.check_id, c.pipeline, c.source, c.name, r.prober_id, r.start_at, r.measurements, r.timed,
       CAST(r.total_sum_us AS REAL) / nullif(r.timed, 0) AS mean_us, r.total_min_us AS min_us, r.total_max_us AS max_us,
       (SELECT (CASE WHEN b < 16 THEN b * 2 ELSE ((16 + b % 16) << (b / 16 - 1)) * 2 + (1 << (b / 16 - 1)) - 1 END) / 2.0
        FROM (SELECT e.value >> 22 AS b, sum(e.value & 4194303) OVER (ORDER BY e.key) AS reached
              FROM json_each(r.histogram) AS e)
        WHERE reached * 100 >= r.timed * 50 ORDER BY reached LIMIT 1) AS p50_us,
       (SELECT (CASE WHEN b < 16 THEN b * 2 ELSE ((16 + b % 16) << (b / 16 - 1)) * 2 + (1 << (b / 16 - 1)) - 1 END) / 2.0
        FROM (SELECT e.value >> 22 AS b, sum(e.value & 4194303) OVER (ORDER BY e.key) AS reached
              FROM json_each(r.histogram) AS e)
        WHERE reached * 100 >= r.timed * 90 ORDER BY reached LIMIT 1) AS p90_us,
       (SELECT (CASE WHEN b < 16 THEN b * 2 ELSE ((16 + b % 16) << (b / 16 - 1)) * 2 + (1 << (b / 16 - 1)) - 1 END) / 2.0
        FROM (SELECT e.value >> 22 AS b, sum(e.value & 4194303) OVER (ORDER BY e.key) AS reached
              FROM json_each(r.histogram) AS e)
        WHERE reached * 100 >= r.timed * 95 ORDER BY reached LIMIT 1) AS p95_us,
       (SELECT (CASE WHEN b < 16 THEN b * 2 ELSE ((16 + b % 16) << (b / 16 - 1)) * 2 + (1 << (b / 16 - 1)) - 1 END) / 2.0
        FROM (SELECT e.value >> 22 AS b, sum(e.value & 4194303) OVER (ORDER BY e.key) AS reached
              FROM json_each(r.histogram) AS e)
        WHERE reached * 100 >= r.timed * 99 ORDER BY reached LIMIT 1) AS p99_us,
       CAST(r.dns_sum_us AS REAL) / nullif(r.timed, 0) AS dns_mean_us,
       CAST(r.connect_sum_us AS REAL) / nullif(r.timed, 0) AS connect_mean_us,
       CAST(r.tls_sum_us AS REAL) / nullif(r.timed, 0) AS tls_mean_us,
       CAST(r.wait_sum_us AS REAL) / nullif(r.timed, 0) AS wait_mean_us,
       CAST(r.transfer_sum_us AS REAL) / nullif(r.timed, 0) AS transfer_mean_us
FROM monmon_rollup_day AS r
LEFT JOIN monmon_check AS c ON c.id = r.check_id;

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-000000000008', 8, 'rollups');

COMMIT;
