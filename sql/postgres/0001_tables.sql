-- The tables of monmon. Run by `monmon db migrate`, or: psql -v ON_ERROR_STOP=1 -f sql/postgres/0001_tables.sql
--
-- One DO block is one transaction: the file is applied whole or not at all. Running it again changes nothing, and two
-- runs at once wait for each other.
--
-- No table refers to another by a foreign key. A reference would cost a look-up and a row lock for every measurement
-- stored, and the writer puts the rows that others refer to into the same transaction.
--
-- Ids made of content are UUIDv5 over a JSON array without spaces, keys of objects sorted, instants as microseconds since
-- 1970. All stores make them alike:
--   monmon_check_definition.id  namespace: the check's id; [pipeline,source,name,method,url,interval_us,timeout_us,labels]
--   monmon_tls.id               namespace: 6d6f6e6d-6f6e-8000-8000-000000746c73; [version,cipher,verified,
--                               certificate_subject,certificate_issuer,certificate_not_before,certificate_not_after]

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);  -- 'monmon' as a number; all migrations take this lock

    IF to_regclass('monmon_schema_version') IS NULL THEN
        CREATE TABLE monmon_schema_version (
            id         uuid PRIMARY KEY,
            version    integer NOT NULL UNIQUE,
            name       text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON TABLE monmon_schema_version IS 'The migrations that were applied, one row each.';
        COMMENT ON COLUMN monmon_schema_version.id IS 'Fixed by the migration: the same in every database.';
        COMMENT ON COLUMN monmon_schema_version.version IS 'The number that begins the file''s name.';
        COMMENT ON COLUMN monmon_schema_version.name IS 'The rest of the file''s name.';
        COMMENT ON COLUMN monmon_schema_version.applied_at IS 'When the migration was applied here.';
    END IF;

    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 1) THEN
        RETURN;
    END IF;

    CREATE TABLE monmon_prober (
        id            uuid PRIMARY KEY,
        name          text NOT NULL,
        location      text,
        first_seen_at timestamptz NOT NULL
    );
    COMMENT ON TABLE monmon_prober IS 'Who makes measurements: one row for each installation of monmon that checks.';
    COMMENT ON COLUMN monmon_prober.id IS 'Made by the prober at its first start and kept.';
    COMMENT ON COLUMN monmon_prober.name IS 'The prober''s name, as it last called itself.';
    COMMENT ON COLUMN monmon_prober.location IS 'Where the prober stands, in its own words.';
    COMMENT ON COLUMN monmon_prober.first_seen_at IS 'Slot of the first measurement that was stored of this prober.';

    CREATE TABLE monmon_boot (
        id            uuid PRIMARY KEY,
        prober_id     uuid NOT NULL,
        first_seen_at timestamptz NOT NULL
    );
    COMMENT ON TABLE monmon_boot IS 'One life of one source of a prober, from its start to its end. Measurements name their boot, and by it their prober.';
    COMMENT ON COLUMN monmon_boot.id IS 'UUIDv7 of the moment at which the source began.';
    COMMENT ON COLUMN monmon_boot.prober_id IS 'The prober: monmon_prober.id.';
    COMMENT ON COLUMN monmon_boot.first_seen_at IS 'Slot of the first measurement that was stored of this boot.';

    CREATE TABLE monmon_check (
        id            uuid PRIMARY KEY,
        pipeline      text NOT NULL,
        source        text NOT NULL,
        name          text NOT NULL,
        definition_id uuid NOT NULL,
        method        text NOT NULL,
        url           text NOT NULL,
        interval_us   bigint NOT NULL CHECK (interval_us > 0),
        timeout_us    bigint NOT NULL,
        labels        jsonb NOT NULL DEFAULT '{}',
        defined_at    timestamptz NOT NULL
    );
    COMMENT ON TABLE monmon_check IS 'What is checked, as it was last defined. Earlier definitions are in monmon_check_definition.';
    COMMENT ON COLUMN monmon_check.id IS 'UUIDv5 of pipeline, source and name, or what the pipeline file gives: the same for all probers and restarts.';
    COMMENT ON COLUMN monmon_check.pipeline IS 'Name of the pipeline that declares the check.';
    COMMENT ON COLUMN monmon_check.source IS 'Name of the source stage that declares the check.';
    COMMENT ON COLUMN monmon_check.name IS 'The check''s name.';
    COMMENT ON COLUMN monmon_check.definition_id IS 'The newest definition: monmon_check_definition.id.';
    COMMENT ON COLUMN monmon_check.method IS 'Method of the first request.';
    COMMENT ON COLUMN monmon_check.url IS 'URL of the first request, without any password.';
    COMMENT ON COLUMN monmon_check.interval_us IS 'Time from slot to slot, in microseconds.';
    COMMENT ON COLUMN monmon_check.timeout_us IS 'Longest time that one measurement may take, in microseconds.';
    COMMENT ON COLUMN monmon_check.labels IS 'Labels by which checks are grouped and found: an object of texts.';
    COMMENT ON COLUMN monmon_check.defined_at IS 'Slot of a measurement that brought this definition; an older one does not replace it.';

    CREATE TABLE monmon_check_definition (
        id            uuid PRIMARY KEY,
        check_id      uuid NOT NULL,
        pipeline      text NOT NULL,
        source        text NOT NULL,
        name          text NOT NULL,
        method        text NOT NULL,
        url           text NOT NULL,
        interval_us   bigint NOT NULL CHECK (interval_us > 0),
        timeout_us    bigint NOT NULL,
        labels        jsonb NOT NULL DEFAULT '{}',
        first_seen_at timestamptz NOT NULL
    );
    COMMENT ON TABLE monmon_check_definition IS 'Every definition that a check ever had. A measurement names the one it was made with.';
    COMMENT ON COLUMN monmon_check_definition.id IS 'UUIDv5 of the check and all that defines it: the same content is the same row.';
    COMMENT ON COLUMN monmon_check_definition.check_id IS 'The check: monmon_check.id.';
    COMMENT ON COLUMN monmon_check_definition.pipeline IS 'As monmon_check.pipeline.';
    COMMENT ON COLUMN monmon_check_definition.source IS 'As monmon_check.source.';
    COMMENT ON COLUMN monmon_check_definition.name IS 'As monmon_check.name.';
    COMMENT ON COLUMN monmon_check_definition.method IS 'As monmon_check.method.';
    COMMENT ON COLUMN monmon_check_definition.url IS 'As monmon_check.url.';
    COMMENT ON COLUMN monmon_check_definition.interval_us IS 'As monmon_check.interval_us.';
    COMMENT ON COLUMN monmon_check_definition.timeout_us IS 'As monmon_check.timeout_us.';
    COMMENT ON COLUMN monmon_check_definition.labels IS 'As monmon_check.labels.';
    COMMENT ON COLUMN monmon_check_definition.first_seen_at IS 'Slot of the first measurement that was stored with this definition.';
    CREATE INDEX monmon_check_definition_check ON monmon_check_definition (check_id, first_seen_at);

    CREATE TABLE monmon_tls (
        id                     uuid PRIMARY KEY,
        version                text,
        cipher                 text,
        verified               boolean,
        certificate_subject    text,
        certificate_issuer     text,
        certificate_not_before timestamptz,
        certificate_not_after  timestamptz
    );
    COMMENT ON TABLE monmon_tls IS 'What TLS handshakes agreed on. A site''s handshakes are alike for months, so the facts are kept once and measurements name them.';
    COMMENT ON COLUMN monmon_tls.id IS 'UUIDv5 of all the other columns: the same facts are the same row.';
    COMMENT ON COLUMN monmon_tls.version IS 'TLSv1.2 or TLSv1.3; null when the handshake failed.';
    COMMENT ON COLUMN monmon_tls.cipher IS 'The cipher suite; null when the handshake failed.';
    COMMENT ON COLUMN monmon_tls.verified IS 'Whether the chain was found valid for the name; null when nobody looked.';
    COMMENT ON COLUMN monmon_tls.certificate_subject IS 'Whom the server''s certificate names.';
    COMMENT ON COLUMN monmon_tls.certificate_issuer IS 'Who signed the server''s certificate.';
    COMMENT ON COLUMN monmon_tls.certificate_not_before IS 'The certificate is valid from here.';
    COMMENT ON COLUMN monmon_tls.certificate_not_after IS 'The certificate is valid until here.';

    -- Wide columns first, then narrow ones, then texts: alignment would else cost 10 bytes a row. Microseconds of one
    -- exchange fit an integer up to 35 minutes.
    CREATE TABLE monmon_measurement (
        id             uuid NOT NULL,
        check_id       uuid NOT NULL,
        definition_id  uuid NOT NULL,
        boot_id        uuid NOT NULL,
        scheduled_at   timestamptz NOT NULL,
        started_at     timestamptz,
        seq            bigint NOT NULL,
        body_bytes     bigint,
        total_us       integer NOT NULL,
        dns_us         integer,
        connect_us     integer,
        tls_us         integer,
        wait_us        integer,
        transfer_us    integer,
        attempt        integer NOT NULL,
        status         smallint,
        body_truncated boolean NOT NULL DEFAULT false,
        outcome        text NOT NULL CHECK (outcome IN ('up', 'degraded', 'down', 'unknown')),
        http_version   text,
        remote_addr    text,
        tls_id         uuid,
        method         text,
        url            text,
        reason_kind    text,
        reason_name    text,
        reason_message text,
        error_kind     text,
        error_phase    text,
        error_message  text,
        redirects      jsonb,
        PRIMARY KEY (id)
    ) PARTITION BY RANGE (id);
    COMMENT ON TABLE monmon_measurement IS 'The result of checking once. Immutable. One partition for each UTC day, by the time in the id: say id >= monmon_uuid_floor(now() - interval ''1 day'') to read only what is needed.';
    COMMENT ON COLUMN monmon_measurement.id IS 'UUIDv7: the slot''s time, and a hash of prober, check, slot and attempt. The first that is stored under an id stays. The same again is not stored; nor is the same slot measured in another boot, by a pipeline that runs twice (a warning says so); anything else that claims the id goes to monmon_dead_letter as duplicate_id.';
    COMMENT ON COLUMN monmon_measurement.check_id IS 'What was checked: monmon_check.id.';
    COMMENT ON COLUMN monmon_measurement.definition_id IS 'How it was checked: monmon_check_definition.id.';
    COMMENT ON COLUMN monmon_measurement.boot_id IS 'Who checked, in which life: monmon_boot.id.';
    COMMENT ON COLUMN monmon_measurement.scheduled_at IS 'The slot: when the check was due.';
    COMMENT ON COLUMN monmon_measurement.started_at IS 'When the prober really began, by its wall clock; null when it never did.';
    COMMENT ON COLUMN monmon_measurement.seq IS 'Counts up by one within the boot, from 1.';
    COMMENT ON COLUMN monmon_measurement.body_bytes IS 'Bytes of the body after decoding, as far as it was read.';
    COMMENT ON COLUMN monmon_measurement.total_us IS 'Time of the whole exchange in microseconds: the sum of the phases, over all redirects.';
    COMMENT ON COLUMN monmon_measurement.dns_us IS 'Time from name to addresses, in microseconds; null when the phase was not reached.';
    COMMENT ON COLUMN monmon_measurement.connect_us IS 'Time of the TCP handshake, in microseconds.';
    COMMENT ON COLUMN monmon_measurement.tls_us IS 'Time of the TLS handshake, in microseconds.';
    COMMENT ON COLUMN monmon_measurement.wait_us IS 'Time from the request to the first byte of the reply, in microseconds.';
    COMMENT ON COLUMN monmon_measurement.transfer_us IS 'Time of the body, in microseconds.';
    COMMENT ON COLUMN monmon_measurement.attempt IS '1 for the first try of a slot.';
    COMMENT ON COLUMN monmon_measurement.status IS 'HTTP status of the last reply.';
    COMMENT ON COLUMN monmon_measurement.body_truncated IS 'The body was longer than the prober''s bound and was cut there.';
    COMMENT ON COLUMN monmon_measurement.outcome IS 'The verdict: up, degraded, down, or unknown (the prober could not tell; never the site''s fault).';
    COMMENT ON COLUMN monmon_measurement.http_version IS '1.0, 1.1 or 2.';
    COMMENT ON COLUMN monmon_measurement.remote_addr IS 'Address and port that the last request really went to.';
    COMMENT ON COLUMN monmon_measurement.tls_id IS 'What the last TLS handshake agreed on: monmon_tls.id.';
    COMMENT ON COLUMN monmon_measurement.method IS 'Method of the last request; null when it is the definition''s.';
    COMMENT ON COLUMN monmon_measurement.url IS 'URL of the last request; null when it is the definition''s.';
    COMMENT ON COLUMN monmon_measurement.reason_kind IS 'Why the outcome is not up: failure, expectation or match.';
    COMMENT ON COLUMN monmon_measurement.reason_name IS 'Name of the expectation or matcher that was not met.';
    COMMENT ON COLUMN monmon_measurement.reason_message IS 'The reason in words; null when error_message says the same.';
    COMMENT ON COLUMN monmon_measurement.error_kind IS 'What went wrong in the exchange: a word of a closed list, such as connect_refused.';
    COMMENT ON COLUMN monmon_measurement.error_phase IS 'Where it went wrong: start, dns, connect, tls, wait or transfer.';
    COMMENT ON COLUMN monmon_measurement.error_message IS 'What went wrong, in words.';
    COMMENT ON COLUMN monmon_measurement.redirects IS 'The requests before the last one, in order: [{url, status, remote_addr, timings}].';
    CREATE INDEX monmon_measurement_check ON monmon_measurement (check_id, id);

    CREATE TABLE monmon_match (
        id             uuid NOT NULL,
        measurement_id uuid NOT NULL,
        name           text NOT NULL,
        stage          text NOT NULL,
        kind           text NOT NULL,
        status         text NOT NULL CHECK (status IN ('passed', 'failed', 'error')),
        found          boolean,
        message        text,
        "values"       jsonb,
        PRIMARY KEY (id)
    ) PARTITION BY RANGE (id);
    COMMENT ON TABLE monmon_match IS 'What one matcher said of one measurement''s page. Partitioned as monmon_measurement is; a match has the millisecond of its measurement in its id.';
    COMMENT ON COLUMN monmon_match.id IS 'UUIDv7: the slot''s time, and a hash of measurement, stage and name.';
    COMMENT ON COLUMN monmon_match.measurement_id IS 'The measurement: monmon_measurement.id.';
    COMMENT ON COLUMN monmon_match.name IS 'The matcher''s name.';
    COMMENT ON COLUMN monmon_match.stage IS 'Name of the stage that matched.';
    COMMENT ON COLUMN monmon_match.kind IS 'The kind of matcher: regex.';
    COMMENT ON COLUMN monmon_match.status IS 'passed, failed, or error (the matcher could not decide).';
    COMMENT ON COLUMN monmon_match.found IS 'Whether the pattern was found; null when the matcher could not decide.';
    COMMENT ON COLUMN monmon_match.message IS 'What the matcher has to say, in words.';
    COMMENT ON COLUMN monmon_match."values" IS 'Named captures: an object of texts; null when there are none.';
    CREATE INDEX monmon_match_measurement ON monmon_match (measurement_id);

    CREATE TABLE monmon_dead_letter (
        id              uuid PRIMARY KEY,
        reason          text NOT NULL,
        message         text NOT NULL,
        pipeline        text NOT NULL,
        source          text NOT NULL,
        topic           text,
        kafka_partition integer,
        kafka_offset    bigint,
        occurred_at     timestamptz NOT NULL,
        key             bytea,
        bytes           bytea NOT NULL,
        stored_at       timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE monmon_dead_letter IS 'What came in and could not be read or stored, whole, with its reason and origin.';
    COMMENT ON COLUMN monmon_dead_letter.id IS 'UUIDv7 made of origin, reason and bytes, so that reading again meets the same row.';
    COMMENT ON COLUMN monmon_dead_letter.reason IS 'Why it was not stored: a word of a closed list, such as not_json, or duplicate_id: the id is there already with other content.';
    COMMENT ON COLUMN monmon_dead_letter.message IS 'Why it was not stored, in words.';
    COMMENT ON COLUMN monmon_dead_letter.pipeline IS 'Name of the pipeline that it came through.';
    COMMENT ON COLUMN monmon_dead_letter.source IS 'Name of the source stage that it came from.';
    COMMENT ON COLUMN monmon_dead_letter.topic IS 'The Kafka topic it was read from.';
    COMMENT ON COLUMN monmon_dead_letter.kafka_partition IS 'The partition of the topic.';
    COMMENT ON COLUMN monmon_dead_letter.kafka_offset IS 'The offset within the partition.';
    COMMENT ON COLUMN monmon_dead_letter.occurred_at IS 'The message''s own time: a Kafka record''s timestamp, a measurement''s slot.';
    COMMENT ON COLUMN monmon_dead_letter.key IS 'The message''s key, as it came.';
    COMMENT ON COLUMN monmon_dead_letter.bytes IS 'The message, as it came; of a measurement that the store refused, its wire format.';
    COMMENT ON COLUMN monmon_dead_letter.stored_at IS 'When the row was written.';

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000001', 1, 'tables');
END
$migration$;
