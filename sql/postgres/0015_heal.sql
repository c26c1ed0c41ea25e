-- Rollups that are ahead of the clock are made again from where they may be wrong, not only from yesterday on.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 15) THEN
        RETURN;
    END IF;

    CREATE OR REPLACE FUNCTION monmon_rollup_heal() RETURNS timestamptz
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        was timestamptz;
        today timestamptz := date_trunc('day', clock_timestamp(), 'UTC');
        last_day timestamptz;
        sealed_until timestamptz;
    BEGIN
        IF NOT monmon_maintenance_lock() THEN
            RETURN NULL;
        END IF;
        SELECT s.rolled_until INTO was FROM monmon_rollup_state AS s WHERE s.rolled_until > clock_timestamp();
        IF was IS NULL THEN
            RETURN NULL;
        END IF;
        -- What came between the clock's correction and this was in time by the clock, and so is not marked as late. Nobody
        -- knows when that was: it is made again from the last day that has rollups on, and 35 days back at least, since
        -- some may have been made between. What is right already is read, and not written.
        SELECT date_bin('24 hours', r.start_at, '1970-01-01 00:00:00+00') INTO last_day FROM monmon_rollup_check_day AS r
        WHERE r.id < monmon_uuid_floor(today + interval '24 hours') ORDER BY r.id DESC LIMIT 1;
        -- Of a sealed day not all measurements are there to make it of, and until it is rolled up views would go by those.
        SELECT max((c.day + 1)::timestamp AT TIME ZONE 'UTC') INTO sealed_until FROM monmon_rollup_checked AS c
        WHERE c.sealed_at IS NOT NULL AND c.day < (today AT TIME ZONE 'UTC')::date;
        UPDATE monmon_rollup_state
        SET rolled_until = least(today - interval '24 hours',
                                 greatest(least(today - interval '840 hours', coalesce(last_day, 'epoch')), sealed_until)),
            changed_at = clock_timestamp();
        RETURN was;
    END
    $function$;
    COMMENT ON FUNCTION monmon_rollup_heal() IS
        'Where rollups are said to reach beyond now, since the server''s clock was ahead once, sets that back to the last day that has rollups, 35 days at least, but not behind days of which measurements have gone, so that what came since is rolled up. Returns how far they were said to reach; null where all is well, or another maintains the store.';

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-00000000000f', 15, 'heal');
END
$migration$;
