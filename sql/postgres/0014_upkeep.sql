-- What keeps the upkeep itself in bounds: rollups that are ahead of the clock are set back, of several policies the longest
-- times count, and receipts go when nothing is left that they could prove.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 14) THEN
        RETURN;
    END IF;

    CREATE FUNCTION monmon_rollup_heal() RETURNS timestamptz
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        was timestamptz;
    BEGIN
        IF NOT monmon_maintenance_lock() THEN
            RETURN NULL;
        END IF;
        SELECT s.rolled_until INTO was FROM monmon_rollup_state AS s WHERE s.rolled_until > clock_timestamp();
        IF was IS NULL THEN
            RETURN NULL;
        END IF;
        -- What came between the clock's correction and this was in time by the clock, and so is not marked as late: its
        -- day, and the one before, are made again.
        UPDATE monmon_rollup_state
        SET rolled_until = date_trunc('day', clock_timestamp(), 'UTC') - interval '24 hours', changed_at = clock_timestamp();
        RETURN was;
    END
    $function$;
    COMMENT ON FUNCTION monmon_rollup_heal() IS
        'Where rollups are said to reach beyond now, since the server''s clock was ahead once, sets that back to the beginning of yesterday, so that what comes is rolled up again. Returns how far they were said to reach; null where all is well, or another maintains the store.';

    CREATE TABLE monmon_retention_policy (
        id       uuid PRIMARY KEY,
        pipeline text NOT NULL,
        stage    text NOT NULL,
        policy   jsonb NOT NULL,
        seen_at  timestamptz NOT NULL
    );
    COMMENT ON TABLE monmon_retention_policy IS 'What each sink with `retention` keeps for how long. Of all that were seen lately the longest times count, so that no sink drops what another one''s pipeline promises to keep.';
    COMMENT ON COLUMN monmon_retention_policy.id IS 'UUIDv8 of sha256(''monmon.retention'' || pipeline || a line feed || stage).';
    COMMENT ON COLUMN monmon_retention_policy.pipeline IS 'Name of the sink''s pipeline.';
    COMMENT ON COLUMN monmon_retention_policy.stage IS 'Name of the sink.';
    COMMENT ON COLUMN monmon_retention_policy.policy IS 'As monmon_retention_plan takes it.';
    COMMENT ON COLUMN monmon_retention_policy.seen_at IS 'When the sink last said so, by the server''s clock. A week later it no longer counts.';

    CREATE FUNCTION monmon_retention_register(pipeline text, stage text, policy jsonb) RETURNS void
    LANGUAGE sql VOLATILE
    AS $function$
        INSERT INTO monmon_retention_policy AS p (id, pipeline, stage, policy, seen_at)
        VALUES (overlay(overlay(left(encode(sha256(convert_to('monmon.retention' || $1 || chr(10) || $2, 'UTF8')), 'hex'), 32)
                                PLACING '8' FROM 13) PLACING '8' FROM 17)::uuid,
                $1, $2, $3, clock_timestamp())
        ON CONFLICT (id) DO UPDATE SET policy = excluded.policy, seen_at = excluded.seen_at
    $function$;
    COMMENT ON FUNCTION monmon_retention_register(text, text, jsonb) IS
        'A sink says what it keeps for how long, in place of what it said before.';

    CREATE FUNCTION monmon_retention_policies() RETURNS SETOF jsonb
    LANGUAGE sql STABLE
    AS $function$
        SELECT p.policy FROM monmon_retention_policy AS p
        WHERE p.seen_at > clock_timestamp() - interval '7 days' ORDER BY p.id
    $function$;
    COMMENT ON FUNCTION monmon_retention_policies() IS 'The policies of all sinks that were seen in the last week.';

    CREATE FUNCTION monmon_receipts_kept_from() RETURNS timestamptz
    LANGUAGE sql STABLE
    AS $function$
        -- A receipt is given after its slots, by as long as their way took. Two days more, for clocks that differ.
        SELECT least(s.sealed_until,
                     (SELECT min(p.from_at) FROM monmon_partitions('monmon_measurement') AS p
                      WHERE NOT EXISTS (SELECT FROM monmon_rollup_checked AS c
                                        WHERE c.id = p.from_id AND c.sealed_at IS NOT NULL))) - interval '48 hours'
        FROM (SELECT max((c.day + 1)::timestamp AT TIME ZONE 'UTC') AS sealed_until
              FROM monmon_rollup_checked AS c WHERE c.sealed_at IS NOT NULL) AS s
        WHERE s.sealed_until IS NOT NULL
    $function$;
    COMMENT ON FUNCTION monmon_receipts_kept_from() IS
        'Receipts from before this instant prove nothing any more: of all days up to two days later measurements have gone. Null where none have.';

    CREATE FUNCTION monmon_retention_receipts(most integer) RETURNS bigint
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        deleted bigint;
    BEGIN
        IF NOT monmon_maintenance_lock() THEN
            RETURN 0;
        END IF;
        DELETE FROM monmon_receipt WHERE id IN (
            SELECT r.id FROM monmon_receipt AS r WHERE r.id < monmon_uuid_floor(monmon_receipts_kept_from())
            ORDER BY r.id LIMIT most);
        GET DIAGNOSTICS deleted = ROW_COUNT;
        RETURN deleted;
    END
    $function$;
    COMMENT ON FUNCTION monmon_retention_receipts(integer) IS
        'Deletes up to so many receipts that prove nothing any more; returns how many went.';

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-00000000000e', 14, 'upkeep');
END
$migration$;
