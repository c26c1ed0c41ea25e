-- What was read from a log of messages and stored: a row a batch and partition, written in the batch's own transaction. As
-- long as it stands it can be shown that no message between two offsets was passed over.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 7) THEN
        RETURN;
    END IF;

    CREATE TABLE monmon_batch (
        id           uuid NOT NULL,
        stored_at    timestamptz NOT NULL DEFAULT now(),
        first_offset bigint NOT NULL,
        last_offset  bigint NOT NULL,
        partition_id integer NOT NULL,
        messages     integer NOT NULL,
        stored       integer NOT NULL,
        duplicates   integer NOT NULL,
        dead_letters integer NOT NULL,
        events       integer NOT NULL,
        pipeline     text NOT NULL,
        stage        text NOT NULL,
        source       text NOT NULL,
        topic        text NOT NULL,
        offsets      int8multirange,
        PRIMARY KEY (id),
        CHECK (messages = stored + duplicates + dead_letters + events)
    ) PARTITION BY RANGE (id);
    COMMENT ON TABLE monmon_batch IS 'What one transaction stored of one partition of one topic. The rows of a partition tile its log: a hole is what was never stored, an overlap what was read again. Partitioned by the day of the id, as monmon_measurement is; old days may go at any time.';
    COMMENT ON COLUMN monmon_batch.id IS 'UUIDv7 of the time at which the batch was written, by the clock of whoever wrote it.';
    COMMENT ON COLUMN monmon_batch.stored_at IS 'When the batch was stored, by the server''s clock.';
    COMMENT ON COLUMN monmon_batch.first_offset IS 'The lowest offset.';
    COMMENT ON COLUMN monmon_batch.last_offset IS 'The highest offset.';
    COMMENT ON COLUMN monmon_batch.partition_id IS 'The partition of the topic.';
    COMMENT ON COLUMN monmon_batch.messages IS 'How many messages: the sum of stored, duplicates, dead_letters and events.';
    COMMENT ON COLUMN monmon_batch.stored IS 'How many of them are new rows of monmon_measurement.';
    COMMENT ON COLUMN monmon_batch.duplicates IS 'How many have an id that was there already. One with other content under its id has a row of its own as dead letter, in the batch that follows.';
    COMMENT ON COLUMN monmon_batch.dead_letters IS 'How many went to monmon_dead_letter.';
    COMMENT ON COLUMN monmon_batch.events IS 'How many were no measurements, but what is told beside them, such as receipts and incidents.';
    COMMENT ON COLUMN monmon_batch.pipeline IS 'Name of the pipeline that read and stored them.';
    COMMENT ON COLUMN monmon_batch.stage IS 'Name of the sink.';
    COMMENT ON COLUMN monmon_batch.source IS 'Name of the source stage that read them.';
    COMMENT ON COLUMN monmon_batch.topic IS 'The Kafka topic.';
    COMMENT ON COLUMN monmon_batch.offsets IS 'The offsets, where some between the first and the last are not in the batch; null when all are. coalesce(offsets, int8multirange(int8range(first_offset, last_offset, ''[]''))) is what was stored.';

    -- As in 0002_functions.sql, with one more table.
    CREATE OR REPLACE FUNCTION monmon_create_partitions(from_day date, to_day date) RETURNS integer
    LANGUAGE plpgsql VOLATILE STRICT
    AS $function$
    DECLARE
        parent text;
        parent_schema text;
        partition text;
        day date;
        made integer := 0;
    BEGIN
        IF to_day - from_day > 1000 THEN
            RAISE EXCEPTION 'monmon_create_partitions: % to % is more than 1000 days', from_day, to_day
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        PERFORM pg_advisory_xact_lock(120325361463151);
        FOREACH parent IN ARRAY ARRAY['monmon_measurement', 'monmon_match', 'monmon_batch'] LOOP
            SELECT nspname INTO STRICT parent_schema
            FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
            WHERE pg_class.oid = parent::regclass;
            FOR day IN SELECT generate_series(from_day, to_day, interval '1 day')::date LOOP
                partition := format('%I.%I', parent_schema, parent || to_char(day, '_YYYYMMDD'));
                CONTINUE WHEN to_regclass(partition) IS NOT NULL;
                EXECUTE format('CREATE TABLE %s (LIKE %I.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                               partition, parent_schema, parent);
                EXECUTE format('ALTER TABLE %I.%I ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
                               parent_schema, parent, partition,
                               monmon_uuid_floor(day::timestamp AT TIME ZONE 'UTC'),
                               monmon_uuid_floor((day + 1)::timestamp AT TIME ZONE 'UTC'));
                made := made + 1;
            END LOOP;
        END LOOP;
        RETURN made;
    END
    $function$;

    PERFORM monmon_create_partitions((now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + 2);

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000007', 7, 'batches');
END
$migration$;
