-- A view that answers the first question: how is each check now.

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

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000003', 3, 'views');
END
$migration$;
