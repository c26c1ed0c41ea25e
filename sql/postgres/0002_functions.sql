-- Functions over the time in UUIDv7 ids, and the partitions that are made with them.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 2) THEN
        RETURN;
    END IF;

    -- By way of an interval, because extracting from a timestamptz counts as depending on the time zone.
    CREATE FUNCTION monmon_uuid_floor(instant timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $function$
        SELECT (lpad(to_hex(floor(extract(epoch FROM instant - timestamptz '1970-01-01 00:00:00+00') * 1000)::bigint),
                     12, '0') || '70008000000000000000')::uuid
    $function$;
    COMMENT ON FUNCTION monmon_uuid_floor(timestamptz) IS
        'The lowest UUIDv7 of an instant: id >= monmon_uuid_floor(x) is "from x on" and reads only the partitions it needs.';

    CREATE FUNCTION monmon_uuid_time(id uuid) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $function$
        SELECT to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
    $function$;
    COMMENT ON FUNCTION monmon_uuid_time(uuid) IS 'The instant in a UUIDv7, to the millisecond.';

    -- Made apart and then attached: ATTACH lets readers and writers of the other days go on, PARTITION OF does not.
    CREATE FUNCTION monmon_create_partitions(from_day date, to_day date) RETURNS integer
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
        FOREACH parent IN ARRAY ARRAY['monmon_measurement', 'monmon_match'] LOOP
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
    COMMENT ON FUNCTION monmon_create_partitions(date, date) IS
        'Makes the partitions of the UTC days from the first to the last given, where they are not there yet; returns how many it made. Any number of callers at once.';

    -- The postgres sink makes partitions on demand; these serve whoever inserts by hand.
    PERFORM monmon_create_partitions((now() AT TIME ZONE 'UTC')::date - 1, (now() AT TIME ZONE 'UTC')::date + 2);

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000002', 2, 'functions');
END
$migration$;
