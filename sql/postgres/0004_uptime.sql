-- From when to when each check is due, and how it was day by day. Silence is not uptime: a check stays due, and its
-- coverage falls, until it is known to have ended.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 4) THEN
        RETURN;
    END IF;

    DROP VIEW IF EXISTS monmon_uptime_day;  -- as 0003 once made it

    -- No store is told that a check was taken out of its file. It shows in that its prober began anew (a file is read at
    -- the start) and then measured other checks of the same source for longer than this one's interval and timeout. A
    -- prober that died, or was never started again, has no later boot: what it owes stays due.
    CREATE VIEW monmon_check_span AS
    WITH seen AS (
        SELECT c.id AS check_id, c.pipeline, c.source, b.prober_id, f.scheduled_at AS first_at,
               l.scheduled_at AS last_at, b.first_seen_at AS boot_at,
               c.interval_us::numeric + c.timeout_us AS patience_us
        FROM monmon_check AS c
        CROSS JOIN LATERAL (
            SELECT m.scheduled_at FROM monmon_measurement AS m WHERE m.check_id = c.id ORDER BY m.id LIMIT 1
        ) AS f
        CROSS JOIN LATERAL (
            SELECT m.scheduled_at, m.boot_id FROM monmon_measurement AS m WHERE m.check_id = c.id
            ORDER BY m.id DESC LIMIT 1
        ) AS l
        LEFT JOIN monmon_boot AS b ON b.id = l.boot_id
    ),
    compared AS (
        SELECT s.*, max(s.boot_at) OVER of_one_source AS newest_boot_at, max(s.last_at) OVER of_one_source AS newest_at
        FROM seen AS s
        WINDOW of_one_source AS (PARTITION BY s.pipeline, s.source, s.prober_id)
    )
    SELECT check_id, first_at, last_at,
           CASE WHEN newest_boot_at > last_at
                 AND extract(epoch FROM newest_at - newest_boot_at) * 1000000 > patience_us
                THEN newest_boot_at END AS ended_at
    FROM compared;

    COMMENT ON VIEW monmon_check_span IS 'From when to when the slots of each check are due. A check that is gone with its whole source stays due, as one whose prober died does; to delete its row in monmon_check ends it.';
    COMMENT ON COLUMN monmon_check_span.check_id IS 'The check: monmon_check.id.';
    COMMENT ON COLUMN monmon_check_span.first_at IS 'The first slot seen of the check, as far as its measurements are kept.';
    COMMENT ON COLUMN monmon_check_span.last_at IS 'The last slot seen of the check.';
    COMMENT ON COLUMN monmon_check_span.ended_at IS 'When the check was no longer there: its prober began anew at this slot, and since then has measured other checks of the same source for longer than this one''s interval and timeout. Null while the check is due.';

    -- All of `day` is worked out from the list of days, so that a condition on `day` reads one partition.
    CREATE VIEW monmon_uptime_day AS
    WITH watched AS (
        SELECT c.id AS check_id, c.pipeline, c.source, c.name, c.interval_us, s.first_at, s.last_at,
               -- A message may claim any timeout, also one for which there is no instant.
               coalesce(s.ended_at, now() - least(c.timeout_us, 86400000000) * interval '1 microsecond') AS due_until
        FROM monmon_check AS c
        JOIN monmon_check_span AS s ON s.check_id = c.id
    ),
    calendar AS (
        SELECT generate_series(date_trunc('day', min(first_at) AT TIME ZONE 'UTC'),
                               max(greatest(last_at, due_until)) AT TIME ZONE 'UTC', interval '1 day')::date AS day
        FROM watched
    ),
    days AS MATERIALIZED (  -- else the bounds would be worked out again for every row they are held against
        SELECT day, day_start, day_end,
               monmon_uuid_floor(day_start) AS first_id, monmon_uuid_floor(day_end) AS end_id
        FROM calendar
        CROSS JOIN LATERAL (
            SELECT day::timestamp AT TIME ZONE 'UTC' AS day_start, (day + 1)::timestamp AT TIME ZONE 'UTC' AS day_end
        ) AS bounds
    ),
    seen AS (  -- by definition, because the interval may change within a day
        SELECT d.day, s.*
        FROM days AS d
        CROSS JOIN LATERAL (
            SELECT
                slot.check_id,
                slot.definition_id,
                min(slot.scheduled_at) AS first_at,
                count(DISTINCT slot.scheduled_at) FILTER (WHERE slot.verdict < 3) AS slots_known,
                count(*) FILTER (WHERE slot.verdict < 2) AS measurements_up,
                count(*) FILTER (WHERE slot.verdict = 2) AS measurements_down,
                count(*) FILTER (WHERE slot.verdict = 3) AS measurements_unknown
            FROM (  -- one row for each prober and slot; its last attempt decides
                SELECT m.check_id, m.definition_id, b.prober_id, m.scheduled_at,
                       max(m.attempt * 4::bigint + CASE m.outcome WHEN 'up' THEN 0 WHEN 'degraded' THEN 1
                                                                  WHEN 'down' THEN 2 ELSE 3 END) % 4 AS verdict
                FROM monmon_measurement AS m
                LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
                WHERE m.id >= d.first_id AND m.id < d.end_id
                GROUP BY m.check_id, m.definition_id, b.prober_id, m.scheduled_at
            ) AS slot
            GROUP BY slot.check_id, slot.definition_id
        ) AS s
    ),
    spans AS (  -- each definition rules from its first slot of the day to the next one's, the first from the day's start
        SELECT w.check_id, d.day, coalesce(s.first_at, w.first_at) AS anchor,
               coalesce(f.interval_us, w.interval_us) AS interval_us,
               greatest(w.first_at, d.day_start,
                        CASE WHEN row_number() OVER by_definition > 1 THEN s.first_at END) AS span_start,
               least(w.due_until, d.day_end, lead(s.first_at) OVER by_definition) AS span_end,
               s.slots_known, s.measurements_up, s.measurements_down, s.measurements_unknown
        FROM watched AS w
        JOIN days AS d ON d.day_end > w.first_at AND (d.day_start <= w.last_at OR d.day_start < w.due_until)
        LEFT JOIN seen AS s ON s.check_id = w.check_id AND s.day = d.day
        LEFT JOIN monmon_check_definition AS f ON f.id = s.definition_id
        WINDOW by_definition AS (PARTITION BY w.check_id, d.day ORDER BY s.first_at)
    ),
    due AS (  -- slots lie at the anchor plus or minus whole intervals
        SELECT s.*,
               greatest(0, ceil(extract(epoch FROM s.span_end - s.anchor) * 1000000 / s.interval_us)
                         - ceil(extract(epoch FROM s.span_start - s.anchor) * 1000000 / s.interval_us))::bigint
                   AS slots_due
        FROM spans AS s
    ),
    summed AS (
        SELECT check_id, day,
               -- A slot that is not owed yet may be known already.
               greatest(sum(slots_due), coalesce(sum(slots_known), 0))::bigint AS slots_due,
               coalesce(sum(slots_known), 0)::bigint AS slots_known,
               coalesce(sum(measurements_up), 0)::bigint AS measurements_up,
               coalesce(sum(measurements_down), 0)::bigint AS measurements_down,
               coalesce(sum(measurements_unknown), 0)::bigint AS measurements_unknown
        FROM due
        GROUP BY check_id, day
    )
    SELECT w.check_id, w.pipeline, w.source, w.name, s.day,
           s.measurements_up::float8 / nullif(s.measurements_up + s.measurements_down, 0) AS uptime,
           s.slots_known::float8 / nullif(s.slots_due, 0) AS coverage,
           s.slots_due, s.slots_known, s.measurements_up, s.measurements_down, s.measurements_unknown
    FROM summed AS s
    JOIN watched AS w ON w.check_id = s.check_id;

    COMMENT ON VIEW monmon_uptime_day IS 'Each check on each UTC day, from the first slot seen of it until now, or until it ended (monmon_check_span): how much of what is known was up, and how much is known. A day without any measurement is there, with coverage 0. monmon status counts alike, over its 24 hours.';
    COMMENT ON COLUMN monmon_uptime_day.check_id IS 'The check: monmon_check.id.';
    COMMENT ON COLUMN monmon_uptime_day.pipeline IS 'Name of the pipeline that declares the check.';
    COMMENT ON COLUMN monmon_uptime_day.source IS 'Name of the source stage that declares the check.';
    COMMENT ON COLUMN monmon_uptime_day.name IS 'The check''s name.';
    COMMENT ON COLUMN monmon_uptime_day.day IS 'The UTC day.';
    COMMENT ON COLUMN monmon_uptime_day.uptime IS 'Share of the known measurements that were up or degraded, 0 to 1; null when nothing is known. Unknown never counts as down.';
    COMMENT ON COLUMN monmon_uptime_day.coverage IS 'Share of the slots due that have a known outcome from any prober, 0 to 1; null when none was due.';
    COMMENT ON COLUMN monmon_uptime_day.slots_due IS 'Slots that were due, by the interval in force: of a check that has not ended up to now, but for those whose timeout is not over and which are not known yet.';
    COMMENT ON COLUMN monmon_uptime_day.slots_known IS 'Slots with a known outcome from at least one prober.';
    COMMENT ON COLUMN monmon_uptime_day.measurements_up IS 'Measurements that were up or degraded; of several attempts at a slot by one prober the last one counts.';
    COMMENT ON COLUMN monmon_uptime_day.measurements_down IS 'Measurements that were down, counted alike.';
    COMMENT ON COLUMN monmon_uptime_day.measurements_unknown IS 'Measurements in which the prober could not tell, counted alike.';

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000004', 4, 'uptime');
END
$migration$;
