-- Views that answer the first questions: how is each check now, and how was it day by day.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 3) THEN
        RETURN;
    END IF;

    -- The inner look-up finds the newest id of a check by the index (check_id, id), newest partition first. The order
    -- of the attempts of one slot is not in their ids, so the outer one takes the slot's last attempt.
    CREATE VIEW monmon_check_state AS
    SELECT
        c.id AS check_id,
        c.pipeline,
        c.source,
        c.name,
        c.url,
        c.labels,
        m.id AS measurement_id,
        m.scheduled_at,
        m.outcome,
        m.reason_kind,
        m.reason_name,
        coalesce(m.reason_message, m.error_message) AS reason_message,
        m.error_kind,
        m.error_phase,
        m.status,
        m.total_us,
        m.attempt,
        p.id AS prober_id,
        p.name AS prober_name,
        p.location AS prober_location
    FROM monmon_check AS c
    LEFT JOIN LATERAL (
        SELECT newest.id
        FROM monmon_measurement AS newest
        WHERE newest.check_id = c.id
        ORDER BY newest.id DESC
        LIMIT 1
    ) AS n ON true
    LEFT JOIN LATERAL (
        SELECT slot.*
        FROM monmon_measurement AS slot
        WHERE slot.check_id = c.id
          AND slot.id >= monmon_uuid_floor(monmon_uuid_time(n.id))
        ORDER BY slot.attempt DESC, slot.id DESC
        LIMIT 1
    ) AS m ON true
    LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
    LEFT JOIN monmon_prober AS p ON p.id = b.prober_id;

    COMMENT ON VIEW monmon_check_state IS 'Each check with its newest measurement (nulls where there is none).';
    COMMENT ON COLUMN monmon_check_state.check_id IS 'The check: monmon_check.id.';
    COMMENT ON COLUMN monmon_check_state.pipeline IS 'Name of the pipeline that declares the check.';
    COMMENT ON COLUMN monmon_check_state.source IS 'Name of the source stage that declares the check.';
    COMMENT ON COLUMN monmon_check_state.name IS 'The check''s name.';
    COMMENT ON COLUMN monmon_check_state.url IS 'URL of the first request, as last defined.';
    COMMENT ON COLUMN monmon_check_state.labels IS 'The check''s labels.';
    COMMENT ON COLUMN monmon_check_state.measurement_id IS 'The newest measurement: monmon_measurement.id.';
    COMMENT ON COLUMN monmon_check_state.scheduled_at IS 'Its slot.';
    COMMENT ON COLUMN monmon_check_state.outcome IS 'Its verdict: up, degraded, down or unknown.';
    COMMENT ON COLUMN monmon_check_state.reason_kind IS 'Why the outcome is not up: failure, expectation or match.';
    COMMENT ON COLUMN monmon_check_state.reason_name IS 'Name of the expectation or matcher that was not met.';
    COMMENT ON COLUMN monmon_check_state.reason_message IS 'The reason in words.';
    COMMENT ON COLUMN monmon_check_state.error_kind IS 'What went wrong in the exchange, as one word.';
    COMMENT ON COLUMN monmon_check_state.error_phase IS 'Where it went wrong.';
    COMMENT ON COLUMN monmon_check_state.status IS 'HTTP status of the last reply.';
    COMMENT ON COLUMN monmon_check_state.total_us IS 'Time of the whole exchange, in microseconds.';
    COMMENT ON COLUMN monmon_check_state.attempt IS 'Which try of the slot it was.';
    COMMENT ON COLUMN monmon_check_state.prober_id IS 'Who measured: monmon_prober.id.';
    COMMENT ON COLUMN monmon_check_state.prober_name IS 'The prober''s name.';
    COMMENT ON COLUMN monmon_check_state.prober_location IS 'The prober''s location.';

    -- All of `day` is worked out from the list of days, so that a condition on `day` reads one partition.
    CREATE VIEW monmon_uptime_day AS
    WITH watched AS (  -- from the first slot seen of a check to the last one
        SELECT c.id AS check_id, c.pipeline, c.source, c.name, c.interval_us,
               f.scheduled_at AS first_at, l.scheduled_at AS last_at
        FROM monmon_check AS c
        CROSS JOIN LATERAL (
            SELECT m.scheduled_at FROM monmon_measurement AS m WHERE m.check_id = c.id ORDER BY m.id LIMIT 1
        ) AS f
        CROSS JOIN LATERAL (
            SELECT m.scheduled_at FROM monmon_measurement AS m WHERE m.check_id = c.id ORDER BY m.id DESC LIMIT 1
        ) AS l
    ),
    calendar AS (
        SELECT generate_series(date_trunc('day', min(first_at) AT TIME ZONE 'UTC'),
                               max(last_at) AT TIME ZONE 'UTC', interval '1 day')::date AS day
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
               -- The last slot seen was due too, so the end lies just behind it.
               least(w.last_at + interval '1 microsecond', d.day_end, lead(s.first_at) OVER by_definition) AS span_end,
               s.slots_known, s.measurements_up, s.measurements_down, s.measurements_unknown
        FROM watched AS w
        JOIN days AS d ON d.day_end > w.first_at AND d.day_start <= w.last_at
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
        SELECT check_id, day, sum(slots_due)::bigint AS slots_due,
               coalesce(sum(slots_known), 0)::bigint AS slots_known,
               coalesce(sum(measurements_up), 0)::bigint AS measurements_up,
               coalesce(sum(measurements_down), 0)::bigint AS measurements_down,
               coalesce(sum(measurements_unknown), 0)::bigint AS measurements_unknown
        FROM due
        GROUP BY check_id, day
    )
    SELECT w.check_id, w.pipeline, w.source, w.name, s.day,
           s.measurements_up::float8 / nullif(s.measurements_up + s.measurements_down, 0) AS uptime,
           least(1, s.slots_known::float8 / nullif(s.slots_due, 0)) AS coverage,
           s.slots_due, s.slots_known, s.measurements_up, s.measurements_down, s.measurements_unknown
    FROM summed AS s
    JOIN watched AS w ON w.check_id = s.check_id;

    COMMENT ON VIEW monmon_uptime_day IS 'Each check on each UTC day, from the first slot seen of it to the last: how much of what is known was up, and how much is known. A day without any measurement is there, with coverage 0.';
    COMMENT ON COLUMN monmon_uptime_day.check_id IS 'The check: monmon_check.id.';
    COMMENT ON COLUMN monmon_uptime_day.pipeline IS 'Name of the pipeline that declares the check.';
    COMMENT ON COLUMN monmon_uptime_day.source IS 'Name of the source stage that declares the check.';
    COMMENT ON COLUMN monmon_uptime_day.name IS 'The check''s name.';
    COMMENT ON COLUMN monmon_uptime_day.day IS 'The UTC day.';
    COMMENT ON COLUMN monmon_uptime_day.uptime IS 'Share of the known measurements that were up or degraded, 0 to 1; null when nothing is known. Unknown never counts as down.';
    COMMENT ON COLUMN monmon_uptime_day.coverage IS 'Share of the slots due that have a known outcome from any prober, 0 to 1; null when none was due.';
    COMMENT ON COLUMN monmon_uptime_day.slots_due IS 'Slots that were due, by the interval in force, between the first and the last slot seen of the check.';
    COMMENT ON COLUMN monmon_uptime_day.slots_known IS 'Slots with a known outcome from at least one prober.';
    COMMENT ON COLUMN monmon_uptime_day.measurements_up IS 'Measurements that were up or degraded; of several attempts at a slot by one prober the last one counts.';
    COMMENT ON COLUMN monmon_uptime_day.measurements_down IS 'Measurements that were down, counted alike.';
    COMMENT ON COLUMN monmon_uptime_day.measurements_unknown IS 'Measurements in which the prober could not tell, counted alike.';

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000003', 3, 'views');
END
$migration$;
