-- From when to when each check is due, and how it was day by day; the same columns and meanings as in
-- sql/postgres/0004_uptime.sql. Running it again changes nothing.

BEGIN IMMEDIATE;

DROP VIEW IF EXISTS monmon_uptime_day;
DROP VIEW IF EXISTS monmon_check_span;

-- A check has ended where its prober began anew and then measured other checks of the same source for longer than this
-- one's interval and timeout.
CREATE VIEW monmon_check_span AS
WITH
ends AS (
    SELECT c.id AS check_id, c.pipeline, c.source, c.interval_us + c.timeout_us AS patience_us,
           (SELECT m.scheduled_at FROM monmon_measurement AS m WHERE m.check_id = c.id ORDER BY m.id LIMIT 1) AS first_at,
           (SELECT m.id FROM monmon_measurement AS m WHERE m.check_id = c.id ORDER BY m.id DESC LIMIT 1) AS last_id
    FROM monmon_check AS c
),
compared AS (
    SELECT e.check_id, e.patience_us, e.first_at, m.scheduled_at AS last_at,
           max(b.first_seen_at) OVER of_one_source AS newest_boot_at,
           max(m.scheduled_at) OVER of_one_source AS newest_at
    FROM ends AS e
    JOIN monmon_measurement AS m ON m.id = e.last_id
    LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
    WINDOW of_one_source AS (PARTITION BY e.pipeline, e.source, b.prober_id)
)
SELECT check_id, first_at, last_at,
       CASE WHEN newest_boot_at > last_at
             AND unixepoch(substr(newest_at, 1, 19)) * 1000000 + CAST(substr(newest_at, 21, 6) AS INTEGER)
                 > unixepoch(substr(newest_boot_at, 1, 19)) * 1000000
                     + CAST(substr(newest_boot_at, 21, 6) AS INTEGER) + patience_us
            THEN newest_boot_at END AS ended_at
FROM compared;

-- All of `day` is worked out from the list of days, so that a condition on `day` reads one range of ids.
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
           substr(end_hex, 1, 8) || '-' || substr(end_hex, 9) AS end_id
    FROM hexed
),
slots AS (  -- one row for each prober and slot; its last attempt decides
    SELECT d.day, m.check_id, m.definition_id, m.scheduled_at,
           max(m.attempt * 4 + CASE m.outcome WHEN 'up' THEN 0 WHEN 'degraded' THEN 1
                                              WHEN 'down' THEN 2 ELSE 3 END) % 4 AS verdict
    FROM days AS d
    CROSS JOIN monmon_measurement AS m ON m.id >= d.first_id AND m.id < d.end_id
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

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-000000000003', 3, 'uptime');

COMMIT;
