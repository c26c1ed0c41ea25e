-- Fewer bytes a row: what measurements and matches have in common stands once, and they name it.
--
-- A measurement named its definition, boot and TLS facts and spelled its address and HTTP version; a match spelled all but
-- its values. Of each there are a few for a check and a boot, so they are rows of monmon_context and monmon_verdict now.
-- Rows from before keep their columns as they are, and nothing is rewritten: monmon_measurement_full and monmon_match_full
-- are the places where old and new rows look alike, and what to ask.
--
-- Ids made of content are UUIDv5 over a JSON array, as in 0001_tables.sql; what is null is in it as null:
--   monmon_context.id  namespace: 6d6f6e6d-6f6e-8000-8000-000000637478; [definition_id,boot_id,http_version,remote_addr,tls_id]
--   monmon_verdict.id  namespace: 6d6f6e6d-6f6e-8000-8000-000076657264; [stage,name,kind,status,found]

DO $migration$
DECLARE
    part record;
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 12) THEN
        RETURN;
    END IF;

    CREATE TABLE monmon_context (
        id            uuid PRIMARY KEY,
        definition_id uuid NOT NULL,
        boot_id       uuid NOT NULL,
        tls_id        uuid,
        http_version  text,
        remote_addr   text
    );
    COMMENT ON TABLE monmon_context IS 'What the measurements of a check have in common from one to the next. There is a row more when the prober begins anew, or the definition, the address, the HTTP version or the TLS facts are others than before.';
    COMMENT ON COLUMN monmon_context.id IS 'UUIDv5 of all the other columns: the same facts are the same row.';
    COMMENT ON COLUMN monmon_context.definition_id IS 'How it was checked: monmon_check_definition.id.';
    COMMENT ON COLUMN monmon_context.boot_id IS 'Who checked, in which life: monmon_boot.id.';
    COMMENT ON COLUMN monmon_context.tls_id IS 'What the last TLS handshake agreed on: monmon_tls.id.';
    COMMENT ON COLUMN monmon_context.http_version IS '1.0, 1.1 or 2.';
    COMMENT ON COLUMN monmon_context.remote_addr IS 'Address and port that the last request really went to.';

    CREATE TABLE monmon_verdict (
        id     uuid PRIMARY KEY,
        stage  text NOT NULL,
        name   text NOT NULL,
        kind   text NOT NULL,
        status text NOT NULL CHECK (status IN ('passed', 'failed', 'error')),
        found  boolean
    );
    COMMENT ON TABLE monmon_verdict IS 'What a matcher can say, but for messages and values: a few rows for each matcher.';
    COMMENT ON COLUMN monmon_verdict.id IS 'UUIDv5 of all the other columns: the same words are the same row.';
    COMMENT ON COLUMN monmon_verdict.stage IS 'Name of the stage that matched.';
    COMMENT ON COLUMN monmon_verdict.name IS 'The matcher''s name.';
    COMMENT ON COLUMN monmon_verdict.kind IS 'The kind of matcher: regex or wasm.';
    COMMENT ON COLUMN monmon_verdict.status IS 'passed, failed, or error (the matcher could not decide).';
    COMMENT ON COLUMN monmon_verdict.found IS 'Whether the pattern was found; null when the matcher could not decide.';

    -- No row is touched. The columns stay for the rows that have them; null in a row they cost nothing.
    ALTER TABLE monmon_measurement
        ADD COLUMN context_id uuid,
        ALTER COLUMN definition_id DROP NOT NULL,
        ALTER COLUMN boot_id DROP NOT NULL;
    ALTER TABLE monmon_match
        ADD COLUMN verdict_id uuid,
        ALTER COLUMN name DROP NOT NULL,
        ALTER COLUMN stage DROP NOT NULL,
        ALTER COLUMN kind DROP NOT NULL,
        ALTER COLUMN status DROP NOT NULL;
    -- A match has the millisecond of its measurement in its id: the primary key finds it.
    DROP INDEX monmon_match_measurement;

    CREATE VIEW monmon_measurement_full AS
    SELECT m.id, m.check_id,
           coalesce(m.definition_id, x.definition_id) AS definition_id,
           coalesce(m.boot_id, x.boot_id) AS boot_id,
           m.scheduled_at, m.started_at, m.seq, m.body_bytes, m.total_us, m.dns_us, m.connect_us, m.tls_us, m.wait_us,
           m.transfer_us, m.attempt, m.status, m.body_truncated, m.outcome,
           coalesce(m.http_version, x.http_version) AS http_version,
           coalesce(m.remote_addr, x.remote_addr) AS remote_addr,
           coalesce(m.tls_id, x.tls_id) AS tls_id,
           m.method, m.url, m.reason_kind, m.reason_name, m.reason_message, m.error_kind, m.error_phase, m.error_message,
           m.redirects, m.body_wire_bytes, m.details
    FROM monmon_measurement AS m
    LEFT JOIN monmon_context AS x ON x.id = m.context_id;
    COMMENT ON VIEW monmon_measurement_full IS 'Measurements with what they have in common: monmon_measurement and monmon_context, and what was stored before there was the latter. Say id >= monmon_uuid_floor(now() - interval ''1 day'') to read only what is needed.';

    CREATE VIEW monmon_match_full AS
    SELECT x.id, x.measurement_id,
           coalesce(x.name, v.name) AS name,
           coalesce(x.stage, v.stage) AS stage,
           coalesce(x.kind, v.kind) AS kind,
           coalesce(x.status, v.status) AS status,
           coalesce(x.found, v.found) AS found,
           x.message, x."values", x.metrics
    FROM monmon_match AS x
    LEFT JOIN monmon_verdict AS v ON v.id = x.verdict_id;
    COMMENT ON VIEW monmon_match_full IS 'Matches with all that they say: monmon_match and monmon_verdict. Those of a measurement m are found by x.measurement_id = m.id AND x.id >= monmon_uuid_floor(m.scheduled_at) AND x.id < monmon_uuid_floor(m.scheduled_at + interval ''1 millisecond'').';

    FOR part IN
        SELECT v.attrelid::regclass AS seen, v.attname AS name, col_description(t.attrelid, t.attnum) AS said
        FROM (VALUES ('monmon_measurement_full', 'monmon_measurement'), ('monmon_match_full', 'monmon_match')) AS p (seen, kept)
        JOIN pg_attribute AS v ON v.attrelid = p.seen::regclass
        JOIN pg_attribute AS t ON t.attrelid = p.kept::regclass AND t.attname = v.attname
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', part.seen, part.name, part.said);
    END LOOP;
    FOR part IN
        SELECT * FROM (VALUES
            ('monmon_measurement', 'context_id', 'monmon_context', ARRAY['definition_id', 'boot_id', 'http_version', 'remote_addr', 'tls_id']),
            ('monmon_match', 'verdict_id', 'monmon_verdict', ARRAY['name', 'stage', 'kind', 'status', 'found'])) AS t (kept, id, other, columns)
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', part.kept, part.id,
            'Names the row of ' || part.other || '; null in rows from before there was one.');
        EXECUTE (SELECT string_agg(format('COMMENT ON COLUMN %s.%I IS %L', part.kept, c,
            'As ' || part.kept || '_full has it; in the table only in rows from before ' || part.other || '.'), '; ')
            FROM unnest(part.columns) AS c);
    END LOOP;
    COMMENT ON TABLE monmon_measurement IS 'The result of checking once, but for what stands in monmon_context: ask monmon_measurement_full. Immutable. One partition for each UTC day, by the time in the id: say id >= monmon_uuid_floor(now() - interval ''1 day'') to read only what is needed.';
    COMMENT ON TABLE monmon_match IS 'What one matcher said of one measurement''s page, but for what stands in monmon_verdict: ask monmon_match_full. Partitioned as monmon_measurement is; a match has the millisecond of its measurement in its id.';

    -- What reads these columns reads the views from now on. The planner leaves out a join of which no column is asked for.
    FOR part IN
        SELECT pg_get_functiondef(f::regprocedure) AS made
        FROM (VALUES ('monmon_rollup_of(timestamptz, timestamptz, interval)'),
                     ('monmon_rollup_check_of(timestamptz, timestamptz, interval)')) AS t (f)
    LOOP
        EXECUTE replace(part.made, 'monmon_measurement AS m', 'monmon_measurement_full AS m');
    END LOOP;
    FOR part IN SELECT * FROM (VALUES ('monmon_check_span'), ('monmon_uptime_day')) AS t (name) LOOP
        EXECUTE format('CREATE OR REPLACE VIEW %I AS %s', part.name,
            replace(pg_get_viewdef(part.name::regclass), 'monmon_measurement m', 'monmon_measurement_full m'));
    END LOOP;

    -- As 0003_views.sql made it. The boot is looked up for the one row that is left of each check.
    CREATE OR REPLACE VIEW monmon_check_state AS
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
    LEFT JOIN monmon_context AS x ON x.id = m.context_id
    LEFT JOIN monmon_boot AS b ON b.id = coalesce(m.boot_id, x.boot_id)
    LEFT JOIN monmon_prober AS p ON p.id = b.prober_id;

    -- As 0006_details.sql made them.
    CREATE OR REPLACE VIEW monmon_certificate AS
    SELECT c.id AS check_id, c.pipeline, c.source, c.name, m.id AS measurement_id, m.scheduled_at, t.verified,
           t.certificate_subject AS subject, t.certificate_issuer AS issuer, t.certificate_not_before AS not_before,
           t.certificate_not_after AS not_after,
           extract(epoch FROM t.certificate_not_after - now())::double precision / 86400 AS days_left,
           t.certificate_sha256 AS sha256
    FROM monmon_check AS c
    CROSS JOIN LATERAL (
        SELECT newest.id, newest.scheduled_at, newest.tls_id
        FROM monmon_measurement_full AS newest
        WHERE newest.check_id = c.id AND newest.tls_id IS NOT NULL
        ORDER BY newest.id DESC
        LIMIT 1
    ) AS m
    JOIN monmon_tls AS t ON t.id = m.tls_id
    WHERE t.certificate_not_after IS NOT NULL;

    CREATE OR REPLACE VIEW monmon_metric AS
    SELECT m.check_id, b.prober_id, m.scheduled_at, m.id AS measurement_id, x.id AS match_id, x.stage,
           x.name AS matcher, e.key AS metric, (e.value ->> 'value')::double precision AS value,
           coalesce(e.value ->> 'unit', '') AS unit
    FROM monmon_measurement_full AS m
    CROSS JOIN LATERAL (
        SELECT f.id, f.stage, f.name, f.metrics
        FROM monmon_match_full AS f
        WHERE f.measurement_id = m.id
          AND f.id >= monmon_uuid_floor(m.scheduled_at)
          AND f.id < monmon_uuid_floor(m.scheduled_at + interval '1 millisecond')
        OFFSET 0
    ) AS x
    LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
    CROSS JOIN LATERAL jsonb_each(x.metrics) AS e;

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-00000000000c', 12, 'contexts');
END
$migration$;
