-- Numbers with units that plugins read from pages: a column beside the other values of a match, and a view of one row a
-- number.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 5) THEN
        RETURN;
    END IF;

    ALTER TABLE monmon_match ADD COLUMN metrics jsonb;
    COMMENT ON COLUMN monmon_match.metrics IS 'Numbers that a plugin has read or worked out: an object of {"value": number, "unit": text}, without unit where it is bare; null when there are none.';
    COMMENT ON COLUMN monmon_match.kind IS 'The kind of matcher: regex or wasm.';
    COMMENT ON COLUMN monmon_match."values" IS 'Named captures, or what a plugin has read: an object of texts; null when there are none.';

    -- Asked for one check and a span of time it goes through the index of monmon_measurement; the bounds on the match's
    -- id keep to the measurement's day.
    CREATE VIEW monmon_metric AS
    SELECT m.check_id, b.prober_id, m.scheduled_at, m.id AS measurement_id, x.id AS match_id, x.stage,
           x.name AS matcher, e.key AS metric, (e.value ->> 'value')::double precision AS value,
           coalesce(e.value ->> 'unit', '') AS unit
    FROM monmon_measurement AS m
    JOIN monmon_match AS x
      ON x.measurement_id = m.id
     AND x.id >= monmon_uuid_floor(m.scheduled_at)
     AND x.id < monmon_uuid_floor(m.scheduled_at + interval '1 millisecond')
    LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
    CROSS JOIN LATERAL jsonb_each(x.metrics) AS e;
    COMMENT ON VIEW monmon_metric IS 'Numbers that plugins have read, one a row. Ask for a check_id and a span of scheduled_at.';
    COMMENT ON COLUMN monmon_metric.check_id IS 'The check: monmon_check.id.';
    COMMENT ON COLUMN monmon_metric.prober_id IS 'Who measured: monmon_prober.id.';
    COMMENT ON COLUMN monmon_metric.scheduled_at IS 'The slot.';
    COMMENT ON COLUMN monmon_metric.measurement_id IS 'The measurement: monmon_measurement.id.';
    COMMENT ON COLUMN monmon_metric.match_id IS 'The match: monmon_match.id.';
    COMMENT ON COLUMN monmon_metric.stage IS 'Name of the stage that matched.';
    COMMENT ON COLUMN monmon_metric.value IS 'The number.';
    COMMENT ON COLUMN monmon_metric.matcher IS 'The matcher''s name.';
    COMMENT ON COLUMN monmon_metric.metric IS 'The number''s name, as the plugin gives it.';
    COMMENT ON COLUMN monmon_metric.unit IS 'Such as ms or EUR; empty for a bare number.';

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000005', 5, 'metrics');
END
$migration$;
