-- What is told of few measurements only, the rest of a certificate chain, and when a check is due that has no interval.
--
-- The ids made of content (0001_tables.sql) have more in them where there is more: a definition's list ends in its
-- `schedule` where there is one, that of TLS facts in certificate_sha256 and chain where there is either.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 6) THEN
        RETURN;
    END IF;

    ALTER TABLE monmon_measurement ADD COLUMN body_wire_bytes bigint, ADD COLUMN details jsonb;
    COMMENT ON COLUMN monmon_measurement.body_wire_bytes IS 'Bytes of the body as they came over the wire, where that is not body_bytes.';
    COMMENT ON COLUMN monmon_measurement.details IS 'What is told of few measurements only, as the wire format has it: evidence, body_sha256, proxy, retry_after_s, maintenance, notes, addresses, steps; null when there is nothing of it.';
    COMMENT ON COLUMN monmon_measurement.method IS 'Method of the last request, where it is not the check''s; of a check that is no request its kind: TCP, TLS, DNS, WEBSOCKET, PING.';

    ALTER TABLE monmon_check ADD COLUMN schedule text;
    COMMENT ON COLUMN monmon_check.schedule IS 'When the check is due, as a crontab line with its time zone; null where it is due every interval_us. With it interval_us is the mean.';
    ALTER TABLE monmon_check_definition ADD COLUMN schedule text;
    COMMENT ON COLUMN monmon_check_definition.schedule IS 'As monmon_check.schedule.';

    ALTER TABLE monmon_tls ADD COLUMN certificate_sha256 text, ADD COLUMN chain jsonb;
    COMMENT ON COLUMN monmon_tls.certificate_sha256 IS 'SHA-256 of the server''s certificate, in hexadecimal digits.';
    COMMENT ON COLUMN monmon_tls.chain IS 'The other certificates that the server sent, in its order: a list of {subject, issuer, not_before, not_after, sha256}; null when there are none.';

    CREATE VIEW monmon_certificate AS
    SELECT c.id AS check_id, c.pipeline, c.source, c.name, m.id AS measurement_id, m.scheduled_at, t.verified,
           t.certificate_subject AS subject, t.certificate_issuer AS issuer, t.certificate_not_before AS not_before,
           t.certificate_not_after AS not_after,
           extract(epoch FROM t.certificate_not_after - now())::double precision / 86400 AS days_left,
           t.certificate_sha256 AS sha256
    FROM monmon_check AS c
    CROSS JOIN LATERAL (
        SELECT newest.id, newest.scheduled_at, newest.tls_id
        FROM monmon_measurement AS newest
        WHERE newest.check_id = c.id AND newest.tls_id IS NOT NULL
        ORDER BY newest.id DESC
        LIMIT 1
    ) AS m
    JOIN monmon_tls AS t ON t.id = m.tls_id
    WHERE t.certificate_not_after IS NOT NULL;
    COMMENT ON VIEW monmon_certificate IS 'The certificate that each check''s site showed last.';
    COMMENT ON COLUMN monmon_certificate.check_id IS 'The check: monmon_check.id.';
    COMMENT ON COLUMN monmon_certificate.pipeline IS 'Name of the pipeline that declares the check.';
    COMMENT ON COLUMN monmon_certificate.source IS 'Name of the source stage that declares the check.';
    COMMENT ON COLUMN monmon_certificate.name IS 'The check''s name.';
    COMMENT ON COLUMN monmon_certificate.measurement_id IS 'The newest measurement with a handshake: monmon_measurement.id.';
    COMMENT ON COLUMN monmon_certificate.scheduled_at IS 'Its slot.';
    COMMENT ON COLUMN monmon_certificate.verified IS 'Whether the chain was found valid for the name.';
    COMMENT ON COLUMN monmon_certificate.subject IS 'Whom the certificate names.';
    COMMENT ON COLUMN monmon_certificate.issuer IS 'Who signed it.';
    COMMENT ON COLUMN monmon_certificate.not_before IS 'It is valid from here.';
    COMMENT ON COLUMN monmon_certificate.not_after IS 'It is valid until here.';
    COMMENT ON COLUMN monmon_certificate.days_left IS 'Days from now until then; negative when it is over.';
    COMMENT ON COLUMN monmon_certificate.sha256 IS 'SHA-256 of the certificate, in hexadecimal digits.';

    -- By way of each measurement in turn: as a join the planner went through all matches of the time (60 ms for half a
    -- day of one check, 5 ms so).
    CREATE OR REPLACE VIEW monmon_metric AS
    SELECT m.check_id, b.prober_id, m.scheduled_at, m.id AS measurement_id, x.id AS match_id, x.stage,
           x.name AS matcher, e.key AS metric, (e.value ->> 'value')::double precision AS value,
           coalesce(e.value ->> 'unit', '') AS unit
    FROM monmon_measurement AS m
    CROSS JOIN LATERAL (
        SELECT f.id, f.stage, f.name, f.metrics
        FROM monmon_match AS f
        WHERE f.measurement_id = m.id
          AND f.id >= monmon_uuid_floor(m.scheduled_at)
          AND f.id < monmon_uuid_floor(m.scheduled_at + interval '1 millisecond')
        OFFSET 0
    ) AS x
    LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
    CROSS JOIN LATERAL jsonb_each(x.metrics) AS e;

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000006', 6, 'details');
END
$migration$;
