-- Uptime and spans in the same time however many days of measurements are kept.
--
-- The planner opens every partition of a table that a query may need, and knows of a literal alone which it does not need.
-- So what the views ask of measurements is asked by functions that put the bounds into the query as literals: of 365
-- partitions one or two are left.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 13) THEN
        RETURN;
    END IF;

    CREATE FUNCTION monmon_check_edges()
    RETURNS TABLE (check_id uuid, first_at timestamptz, last_at timestamptz, boot_id uuid)
    LANGUAGE plpgsql STABLE
    SET jit = off
    AS $function$
    DECLARE
        -- What lies before is in the days' rollups; but for what came late and is not in them yet.
        known_until timestamptz := (SELECT date_trunc('day', least(min(t.rolled_until), (
            SELECT min(l.hour) FROM monmon_rollup_late AS l)), 'UTC') FROM monmon_rollup_state AS t);
        since uuid := coalesce(monmon_uuid_floor(known_until), '00000000-0000-0000-0000-000000000000');
    BEGIN
        RETURN QUERY EXECUTE format($query$
            SELECT c.id, f.scheduled_at, l.scheduled_at, l.boot_id
            FROM monmon_check AS c
            LEFT JOIN LATERAL (
                SELECT m.scheduled_at FROM monmon_measurement AS m
                WHERE m.check_id = c.id AND m.id >= %1$L ORDER BY m.id LIMIT 1
            ) AS f ON true
            LEFT JOIN LATERAL (
                SELECT m.scheduled_at, m.boot_id FROM monmon_measurement_full AS m
                WHERE m.check_id = c.id AND m.id >= %1$L ORDER BY m.id DESC LIMIT 1
            ) AS l ON true
        $query$, since);
    END
    $function$;
    COMMENT ON FUNCTION monmon_check_edges() IS
        'First and last slot of each check, and the boot that measured the last, among the measurements that the days'' rollups do not know of.';

    CREATE FUNCTION monmon_measured_day(of_day date)
    RETURNS TABLE (check_id uuid, definition_id uuid, first_at timestamptz, slots_known bigint, measurements_up bigint,
                   measurements_down bigint, measurements_unknown bigint)
    LANGUAGE plpgsql STABLE STRICT
    SET jit = off
    AS $function$
    BEGIN
        RETURN QUERY EXECUTE format($query$
            SELECT
                slot.check_id,
                slot.definition_id,
                min(slot.scheduled_at),
                count(DISTINCT slot.scheduled_at) FILTER (WHERE slot.verdict < 3),
                count(*) FILTER (WHERE slot.verdict < 2),
                count(*) FILTER (WHERE slot.verdict = 2),
                count(*) FILTER (WHERE slot.verdict = 3)
            FROM (  -- one row for each prober and slot; its last attempt decides
                SELECT m.check_id, m.definition_id, b.prober_id, m.scheduled_at,
                       max(m.attempt * 4::bigint + CASE m.outcome WHEN 'up' THEN 0 WHEN 'degraded' THEN 1
                                                                  WHEN 'down' THEN 2 ELSE 3 END) %% 4 AS verdict
                FROM monmon_measurement_full AS m
                LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
                WHERE m.id >= %L AND m.id < %L
                GROUP BY m.check_id, m.definition_id, b.prober_id, m.scheduled_at
            ) AS slot
            GROUP BY slot.check_id, slot.definition_id
        $query$, monmon_uuid_floor(of_day::timestamp AT TIME ZONE 'UTC'),
                 monmon_uuid_floor((of_day + 1)::timestamp AT TIME ZONE 'UTC'));
    END
    $function$;
    COMMENT ON FUNCTION monmon_measured_day(date) IS
        'How each check was on a UTC day, by definition, worked out from the measurements: as monmon_rollup_check_day has it of days that are rolled up.';

    -- As 0009_rollups.sql made them, but for these two functions, and day by day, so that only the days that are asked for are
    -- read. Of a check that has no measurement left its prober is the last day's; when that began does not matter, because it
    -- was before the last slot.
    CREATE OR REPLACE VIEW monmon_check_span AS
    WITH seen AS (
        SELECT c.id AS check_id, c.pipeline, c.source,
               CASE WHEN e.last_at >= rl.last_at OR rl.last_at IS NULL THEN b.prober_id ELSE rp.prober_id END AS prober_id,
               least(e.first_at, rf.first_at) AS first_at, greatest(e.last_at, rl.last_at) AS last_at,
               b.first_seen_at AS boot_at, c.interval_us::numeric + c.timeout_us AS patience_us
        FROM monmon_check AS c
        JOIN monmon_check_edges() AS e ON e.check_id = c.id
        LEFT JOIN monmon_boot AS b ON b.id = e.boot_id
        LEFT JOIN LATERAL (
            SELECT min(r.first_at) AS first_at FROM monmon_rollup_check_day AS r
            WHERE r.check_id = c.id AND r.id < monmon_uuid_floor((
                SELECT d.start_at FROM monmon_rollup_check_day AS d WHERE d.check_id = c.id ORDER BY d.id LIMIT 1
            ) + interval '24 hours')
        ) AS rf ON true
        LEFT JOIN LATERAL (
            SELECT max(r.last_at) AS last_at FROM monmon_rollup_check_day AS r
            WHERE r.check_id = c.id AND r.id >= monmon_uuid_floor((
                SELECT d.start_at FROM monmon_rollup_check_day AS d WHERE d.check_id = c.id ORDER BY d.id DESC LIMIT 1
            ))
        ) AS rl ON true
        LEFT JOIN LATERAL (
            SELECT r.prober_id FROM monmon_rollup_day AS r
            WHERE r.check_id = c.id AND (e.last_at IS NULL OR e.last_at < rl.last_at)
              AND r.id >= monmon_uuid_floor(date_trunc('day', rl.last_at, 'UTC'))
            ORDER BY r.last_at DESC LIMIT 1
        ) AS rp ON true
        WHERE e.first_at IS NOT NULL OR rf.first_at IS NOT NULL
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
    CREATE OR REPLACE VIEW monmon_uptime_day AS
    WITH watched AS (
        SELECT c.id AS check_id, c.pipeline, c.source, c.name, c.interval_us, s.first_at, s.last_at,
               coalesce(s.ended_at, now() - least(c.timeout_us, 86400000000) * interval '1 microsecond') AS due_until
        FROM monmon_check AS c
        JOIN monmon_check_span AS s ON s.check_id = c.id
    ),
    calendar AS (
        SELECT generate_series(date_trunc('day', min(first_at) AT TIME ZONE 'UTC'),
                               max(greatest(last_at, due_until)) AT TIME ZONE 'UTC', interval '1 day')::date AS day
        FROM watched
    ),
    days AS MATERIALIZED (
        SELECT day, day_start, day_end,
               monmon_uuid_floor(day_start) AS first_id, monmon_uuid_floor(day_end) AS end_id,
               EXISTS (SELECT FROM monmon_rollup_state AS t WHERE t.rolled_until >= day_end)
                   AND (EXISTS (SELECT FROM monmon_rollup_checked AS x WHERE x.day = calendar.day AND x.sealed_at IS NOT NULL)
                        OR NOT EXISTS (SELECT FROM monmon_rollup_late AS l WHERE l.hour >= day_start AND l.hour < day_end))
                   AS rolled
        FROM calendar
        CROSS JOIN LATERAL (
            SELECT day::timestamp AT TIME ZONE 'UTC' AS day_start, (day + 1)::timestamp AT TIME ZONE 'UTC' AS day_end
        ) AS bounds
    ),
    spans AS (
        SELECT s.check_id, d.day, coalesce(s.first_at, s.check_first_at) AS anchor,
               coalesce(f.interval_us, s.interval_us) AS interval_us,
               greatest(s.check_first_at, d.day_start,
                        CASE WHEN row_number() OVER by_definition > 1 THEN s.first_at END) AS span_start,
               least(s.due_until, d.day_end, lead(s.first_at) OVER by_definition) AS span_end,
               s.slots_known, s.measurements_up, s.measurements_down, s.measurements_unknown
        FROM days AS d
        CROSS JOIN LATERAL (
            SELECT w.check_id, w.first_at AS check_first_at, w.interval_us, w.due_until, seen.definition_id,
                   seen.first_at, seen.slots_known, seen.measurements_up, seen.measurements_down,
                   seen.measurements_unknown
            FROM watched AS w
            LEFT JOIN (  -- by definition, because the interval may change within a day
                SELECT r.check_id, r.definition_id, r.first_at, r.slots_known, r.measurements_up, r.measurements_down,
                       r.measurements_unknown
                FROM monmon_rollup_check_day AS r
                WHERE d.rolled AND r.id >= d.first_id AND r.id < d.end_id
                UNION ALL
                SELECT * FROM monmon_measured_day(CASE WHEN NOT d.rolled THEN d.day END)
            ) AS seen ON seen.check_id = w.check_id
            WHERE d.day_end > w.first_at AND (d.day_start <= w.last_at OR d.day_start < w.due_until)
        ) AS s
        LEFT JOIN monmon_check_definition AS f ON f.id = s.definition_id
        WINDOW by_definition AS (PARTITION BY s.check_id, d.day ORDER BY s.first_at)
    ),
    due AS (
        SELECT s.*,
               greatest(0, ceil(extract(epoch FROM s.span_end - s.anchor) * 1000000 / s.interval_us)
                         - ceil(extract(epoch FROM s.span_start - s.anchor) * 1000000 / s.interval_us))::bigint
                   AS slots_due
        FROM spans AS s
    ),
    summed AS (
        SELECT check_id, day,
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

    -- Marks of hours that another run has rolled up meanwhile stay: they are not of what this one has seen.
    EXECUTE replace(pg_get_functiondef('monmon_rollup_step'::regproc),
        'l.hour >= settled;', 'l.hour >= greatest(settled, state.rolled_until);');

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-00000000000d', 13, 'uptime');
END
$migration$;
