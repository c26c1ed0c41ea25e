-- How what is old goes: whole partitions are dropped, or a partition gives way to a smaller one with what is to be kept of
-- it. Nothing is ever deleted row by row but days, of which there are few.
--
-- A policy is an object: {"measurements": "30 days", "minutes": "90 days", "hours": "5 years", "days": "forever",
-- "keep-failures": "1 year", "labels": [{"label": "team", "value": "docs", "measurements": "7 days"}]}. What is not given
-- is kept forever. A check to which several labels apply is kept for the longest of their times; what none of them gives
-- is as for all.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 10) THEN
        RETURN;
    END IF;

    CREATE FUNCTION monmon_retention_of(policy jsonb, level text, labels jsonb) RETURNS interval
    LANGUAGE sql STABLE
    AS $function$
        WITH rules AS (
            SELECT r ->> level AS kept
            FROM jsonb_array_elements(coalesce(policy -> 'labels', '[]')) AS r
            WHERE r ? level AND labels ->> (r ->> 'label') = r ->> 'value'
        ),
        kept AS (
            SELECT kept FROM rules
            UNION ALL
            SELECT policy ->> level WHERE NOT EXISTS (SELECT FROM rules)
        )
        SELECT CASE WHEN NOT bool_or(kept IS NULL OR kept = 'forever')
               THEN max(nullif(kept, 'forever')::interval) END
        FROM kept
    $function$;
    COMMENT ON FUNCTION monmon_retention_of(jsonb, text, jsonb) IS
        'For how long a policy keeps what belongs to a check with these labels; null is forever. Levels: measurements, minutes, hours, days, keep-failures.';

    CREATE FUNCTION monmon_retention_is_given(policy jsonb, level text, labels jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT
    AS $function$
        SELECT policy ? level OR EXISTS (
            SELECT FROM jsonb_array_elements(coalesce(policy -> 'labels', '[]')) AS r
            WHERE r ? level AND labels ->> (r ->> 'label') = r ->> 'value'
        )
    $function$;
    COMMENT ON FUNCTION monmon_retention_is_given(jsonb, text, jsonb) IS
        'Whether a policy says anything of how long it keeps this.';

    CREATE FUNCTION monmon_retention_checks(policy jsonb, level text, edge timestamptz, at timestamptz)
    RETURNS TABLE (check_id uuid, kept boolean, failures_kept boolean)
    LANGUAGE sql STABLE
    AS $function$
        SELECT c.id, coalesce(edge + monmon_retention_of(policy, level, c.labels) > at, true),
               level = 'measurements' AND monmon_retention_is_given(policy, 'keep-failures', c.labels)
                   AND coalesce(edge + monmon_retention_of(policy, 'keep-failures', c.labels) > at, true)
        FROM monmon_check AS c
    $function$;
    COMMENT ON FUNCTION monmon_retention_checks(jsonb, text, timestamptz, timestamptz) IS
        'Which checks'' rows, of a partition that ends at edge, are kept at an instant, and of which at least the failures.';

    CREATE FUNCTION monmon_partitions(parent text)
    RETURNS TABLE (partition regclass, from_id uuid, to_id uuid, from_at timestamptz, to_at timestamptz)
    LANGUAGE sql STABLE
    AS $function$
        SELECT b.partition, b.bounds[1]::uuid, b.bounds[2]::uuid, monmon_uuid_time(b.bounds[1]::uuid),
               monmon_uuid_time(b.bounds[2]::uuid)
        FROM (
            SELECT c.oid::regclass AS partition,
                   regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \('([0-9a-f-]{36})'\) TO \('([0-9a-f-]{36})'\)$$)
                       AS bounds
            FROM pg_inherits AS i
            JOIN pg_class AS c ON c.oid = i.inhrelid
            WHERE i.inhparent = to_regclass(parent)
        ) AS b
        WHERE b.bounds IS NOT NULL
        ORDER BY 2
    $function$;
    COMMENT ON FUNCTION monmon_partitions(text) IS 'The partitions of a table that is partitioned by a UUIDv7, oldest first.';

    -- What of a table is of which level. Other tables of monmon that are partitioned by a UUIDv7 go with measurements.
    CREATE FUNCTION monmon_retention_level(family text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $function$
        SELECT CASE family WHEN 'monmon_rollup_minute' THEN 'minutes' WHEN 'monmon_rollup_hour' THEN 'hours'
                           WHEN 'monmon_rollup_check_hour' THEN 'hours' ELSE 'measurements' END
    $function$;
    COMMENT ON FUNCTION monmon_retention_level(text) IS 'The level of a policy that says how long a table''s rows are kept.';

    -- The condition on a row `r` to be kept, where c is its row of monmon_retention_checks.
    CREATE FUNCTION monmon_retention_condition(family text, policy jsonb, edge timestamptz, at timestamptz) RETURNS text
    LANGUAGE sql STABLE
    AS $function$
        SELECT format('(coalesce(c.kept, %L::boolean)%s)',
            coalesce(edge + monmon_retention_of(policy, monmon_retention_level(family), '{}') > at, true),
            CASE WHEN family = 'monmon_measurement'
                 THEN format(' OR (r.outcome <> ''up'' AND coalesce(c.failures_kept, %L::boolean))',
                      monmon_retention_is_given(policy, 'keep-failures', '{}')
                          AND coalesce(edge + monmon_retention_of(policy, 'keep-failures', '{}') > at, true))
                 ELSE '' END)
    $function$;
    COMMENT ON FUNCTION monmon_retention_condition(text, jsonb, timestamptz, timestamptz) IS
        'SQL that holds for the rows r of a partition that are kept, joined with c of monmon_retention_checks.';

    CREATE FUNCTION monmon_retention_plan(policy jsonb, at timestamptz, only_family text DEFAULT NULL,
                                          only_from timestamptz DEFAULT NULL)
    RETURNS TABLE (family text, partition text, from_at timestamptz, to_at timestamptz, action text, bytes bigint)
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        parent text;
        level text;
        part record;
        shortest interval;
        forever boolean;
        longest interval;
        expired boolean;
    BEGIN
        -- A caller whose clock is ahead must not let go of what is young.
        at := least(at, clock_timestamp());
        FOR parent IN
            SELECT c.relname::text
            FROM pg_class AS c
            JOIN pg_partitioned_table AS p ON p.partrelid = c.oid
            JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
            WHERE c.relname LIKE 'monmon\_%' AND c.relname <> 'monmon_match' AND p.partstrat = 'r' AND p.partnatts = 1
              AND a.atttypid = 'uuid'::regtype
              AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'monmon_measurement'::regclass)
              AND (only_family IS NULL OR c.relname = only_family)
            ORDER BY c.relname
        LOOP
            level := monmon_retention_level(parent);
            SELECT min(k.kept), bool_or(k.kept IS NULL), max(k.kept) INTO shortest, forever, longest
            FROM (
                SELECT monmon_retention_of(policy - 'labels', level, '{}') AS kept
                UNION ALL
                SELECT nullif(r ->> level, 'forever')::interval
                FROM jsonb_array_elements(coalesce(policy -> 'labels', '[]')) AS r WHERE r ? level
            ) AS k;
            IF parent = 'monmon_measurement' THEN
                SELECT forever OR coalesce(bool_or(k.kept = 'forever'), false),
                       greatest(longest, max(nullif(k.kept, 'forever')::interval))
                INTO forever, longest
                FROM (
                    SELECT policy ->> 'keep-failures' AS kept
                    UNION ALL
                    SELECT r ->> 'keep-failures' FROM jsonb_array_elements(coalesce(policy -> 'labels', '[]')) AS r
                ) AS k;
            END IF;
            CONTINUE WHEN shortest IS NULL;
            FOR part IN
                SELECT * FROM monmon_partitions(parent) AS p
                WHERE p.to_at + shortest <= at AND (only_from IS NULL OR p.from_at = only_from)
            LOOP
                family := parent;
                partition := part.partition::text;
                from_at := part.from_at;
                to_at := part.to_at;
                bytes := pg_total_relation_size(part.partition);
                IF NOT forever AND part.to_at + longest <= at THEN
                    action := 'drop';
                    RETURN NEXT;
                    CONTINUE;
                END IF;
                -- Tables of other kinds go whole or not at all.
                CONTINUE WHEN parent NOT IN ('monmon_measurement', 'monmon_rollup_minute', 'monmon_rollup_hour',
                                             'monmon_rollup_check_hour');
                EXECUTE format('SELECT EXISTS (SELECT FROM %s AS r
                                   LEFT JOIN monmon_retention_checks(%L, %L, %L, %L) AS c ON c.check_id = r.check_id
                                   WHERE NOT %s)',
                               part.partition, policy, level, part.to_at, at,
                               monmon_retention_condition(parent, policy, part.to_at, at)) INTO expired;
                IF expired THEN
                    action := 'thin';
                    RETURN NEXT;
                END IF;
            END LOOP;
        END LOOP;
    END
    $function$;
    COMMENT ON FUNCTION monmon_retention_plan(jsonb, timestamptz, text, timestamptz) IS
        'What a policy lets go of at an instant, but never later than now: partitions of which nothing is kept (drop), or something (thin). That of monmon_match goes with that of monmon_measurement.';

    -- Makes the table that a partition gives way to. Null when nothing is to be kept.
    CREATE FUNCTION monmon_retention_kept(family text, partition regclass, chosen text) RETURNS text
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        schema text;
        kept text;
        rows bigint;
    BEGIN
        SELECT n.nspname INTO STRICT schema
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = partition;
        kept := format('%I.%I', schema, 'monmon_kept_' || partition::oid);
        EXECUTE format('CREATE TABLE %s (LIKE %I.%I INCLUDING ALL EXCLUDING COMMENTS)', kept, schema, family);
        EXECUTE format('INSERT INTO %s SELECT r.* FROM %s AS r %s ORDER BY r.id', kept, partition, chosen);
        GET DIAGNOSTICS rows = ROW_COUNT;
        IF rows = 0 THEN
            EXECUTE format('DROP TABLE %s', kept);
            RETURN NULL;
        END IF;
        RETURN kept;
    END
    $function$;
    COMMENT ON FUNCTION monmon_retention_kept(text, regclass, text) IS
        'Copies what is to be kept of a partition into a table of its own, and names that; null when there is nothing.';

    -- The one moment at which others wait: from the lock on the parent to the end of the transaction, a few milliseconds.
    CREATE FUNCTION monmon_retention_swap(family text, partition regclass, kept text) RETURNS void
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        schema text;
        name text;
        part record;
    BEGIN
        SELECT n.nspname, c.relname INTO STRICT schema, name
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = partition;
        SELECT * INTO STRICT part FROM monmon_partitions(family) AS p WHERE p.partition = monmon_retention_swap.partition;
        IF kept IS NOT NULL THEN
            -- With it the rows need not be read again to be attached.
            EXECUTE format('ALTER TABLE %s ADD CONSTRAINT monmon_kept CHECK (id >= %L AND id < %L)',
                           kept, part.from_id, part.to_id);
        END IF;
        EXECUTE format('LOCK TABLE ONLY %I.%I IN ACCESS EXCLUSIVE MODE', schema, family);
        EXECUTE format('DROP TABLE %I.%I', schema, name);
        IF kept IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %s RENAME TO %I', kept, name);
            EXECUTE format('ALTER TABLE %I.%I ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
                           schema, family, schema, name, part.from_id, part.to_id);
            EXECUTE format('ALTER TABLE %I.%I DROP CONSTRAINT monmon_kept', schema, name);
        END IF;
    END
    $function$;
    COMMENT ON FUNCTION monmon_retention_swap(text, regclass, text) IS
        'Puts what is kept of a partition in its place, or nothing.';

    CREATE FUNCTION monmon_retention_apply(policy jsonb, at timestamptz, family text, begins timestamptz) RETURNS text
    LANGUAGE plpgsql
    SET plan_cache_mode = force_custom_plan
    AS $function$
    DECLARE
        state monmon_rollup_state;
        part record;
        found_match regclass;
        kept text;
        kept_match text;
        is_raw boolean := family = 'monmon_measurement';
        checked monmon_rollup_checked;
        before bigint;
        before_match bigint;
        now_there bigint;
        level text := monmon_retention_level(family);
    BEGIN
        at := least(at, clock_timestamp());
        IF NOT monmon_maintenance_lock() THEN
            RETURN 'busy';
        END IF;
        SELECT * INTO STRICT state FROM monmon_rollup_state;
        SELECT * INTO part FROM monmon_partitions(family) AS p WHERE p.from_at = begins;
        IF NOT FOUND THEN
            RETURN 'gone';
        END IF;
        IF NOT EXISTS (SELECT FROM monmon_retention_plan(policy, at, family, begins)) THEN
            RETURN 'kept';
        END IF;
        IF level = 'measurements' AND (state.rolled_until IS NULL OR part.to_at > state.rolled_until) THEN
            RETURN 'not rolled up';
        END IF;
        IF is_raw THEN
            IF EXISTS (SELECT FROM monmon_rollup_late AS l WHERE l.hour >= part.from_at AND l.hour < part.to_at) THEN
                RETURN 'not rolled up';
            END IF;
            SELECT * INTO checked FROM monmon_rollup_checked AS c WHERE c.id = part.from_id;
            IF NOT FOUND THEN
                RETURN 'not checked';
            END IF;
            SELECT p.partition INTO found_match FROM monmon_partitions('monmon_match') AS p WHERE p.from_id = part.from_id;
        END IF;

        -- What is kept is copied before any lock. Rows are only ever added: if there are as many later, it is all of them.
        IF is_raw THEN
            EXECUTE format('SELECT count(*) FROM %s', part.partition) INTO before;
            IF checked.sealed_at IS NULL AND checked.measurements <> before THEN
                RETURN 'not checked';
            END IF;
            IF found_match IS NOT NULL THEN
                EXECUTE format('SELECT count(*) FROM %s', found_match) INTO before_match;
            END IF;
        END IF;
        IF level <> 'measurements' OR is_raw THEN
            kept := monmon_retention_kept(family, part.partition, format(
                'LEFT JOIN monmon_retention_checks(%L, %L, %L, %L) AS c ON c.check_id = r.check_id WHERE %s',
                policy, level, part.to_at, at, monmon_retention_condition(family, policy, part.to_at, at)));
        END IF;
        IF kept IS NOT NULL AND found_match IS NOT NULL THEN
            kept_match := monmon_retention_kept('monmon_match', found_match,
                format('WHERE r.measurement_id IN (SELECT k.id FROM %s AS k)', kept));
        END IF;

        FOR try IN 1 .. 20 LOOP
            BEGIN
                -- Who waits for a lock has others wait behind it: never for longer than this.
                PERFORM set_config('lock_timeout', '250ms', true);
                IF is_raw THEN
                    EXECUTE format('LOCK TABLE %s IN SHARE MODE', part.partition);
                    EXECUTE format('SELECT count(*) FROM %s', part.partition) INTO now_there;
                    IF now_there <> before THEN
                        RAISE EXCEPTION USING ERRCODE = 'MM001', MESSAGE = 'measurements came late';
                    END IF;
                    IF found_match IS NOT NULL THEN
                        EXECUTE format('LOCK TABLE %s IN SHARE MODE', found_match);
                        EXECUTE format('SELECT count(*) FROM %s', found_match) INTO now_there;
                        IF now_there <> before_match THEN
                            RAISE EXCEPTION USING ERRCODE = 'MM001', MESSAGE = 'measurements came late';
                        END IF;
                    END IF;
                END IF;
                PERFORM monmon_retention_swap(family, part.partition, kept);
                IF found_match IS NOT NULL THEN
                    PERFORM monmon_retention_swap('monmon_match', found_match, kept_match);
                END IF;
                EXIT;
            EXCEPTION
                WHEN lock_not_available OR deadlock_detected THEN
                    IF try = 20 THEN
                        RAISE EXCEPTION USING ERRCODE = 'lock_not_available',
                            MESSAGE = format('%s is in use', part.partition);
                    END IF;
                    PERFORM pg_sleep(0.05 + random() * 0.2);
            END;
        END LOOP;

        IF is_raw THEN
            UPDATE monmon_rollup_checked AS c SET sealed_at = coalesce(c.sealed_at, clock_timestamp())
            WHERE c.id = part.from_id;
        ELSIF level = 'minutes' THEN
            UPDATE monmon_rollup_state SET minutes_from = greatest(minutes_from, part.to_at), changed_at = clock_timestamp();
        ELSIF level = 'hours' THEN
            UPDATE monmon_rollup_state SET hours_from = greatest(hours_from, part.to_at), changed_at = clock_timestamp();
        END IF;
        RETURN CASE WHEN kept IS NULL THEN 'dropped' ELSE 'thinned' END;
    END
    $function$;
    COMMENT ON FUNCTION monmon_retention_apply(jsonb, timestamptz, text, timestamptz) IS
        'Drops or thins one partition that monmon_retention_plan has told, unless measurements of it are not in the rollups: dropped, thinned, gone, kept (the policy keeps all of it), busy (another is at it), not rolled up, or not checked (monmon_rollup_verify). An error when it is in use for long (55P03) or measurements came in meanwhile (MM001): later.';

    CREATE FUNCTION monmon_retention_days(policy jsonb, at timestamptz, most integer) RETURNS bigint
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        family text;
        deleted bigint;
        sum_deleted bigint := 0;
    BEGIN
        at := least(at, clock_timestamp());
        IF NOT monmon_maintenance_lock() THEN
            RETURN 0;
        END IF;
        FOREACH family IN ARRAY ARRAY['monmon_rollup_day', 'monmon_rollup_check_day'] LOOP
            EXECUTE format('DELETE FROM %1$I WHERE id IN (
                    SELECT r.id FROM %1$I AS r
                    LEFT JOIN (SELECT id AS check_id, monmon_retention_of($1, ''days'', labels) AS kept FROM monmon_check) AS c
                        ON c.check_id = r.check_id
                    WHERE r.start_at + interval ''24 hours'' + CASE WHEN c.check_id IS NULL THEN $4 ELSE c.kept END <= $2
                    ORDER BY r.id LIMIT $3)', family)
            USING policy, at, most, monmon_retention_of(policy, 'days', '{}');
            GET DIAGNOSTICS deleted = ROW_COUNT;
            sum_deleted := sum_deleted + deleted;
        END LOOP;
        RETURN sum_deleted;
    END
    $function$;
    COMMENT ON FUNCTION monmon_retention_days(jsonb, timestamptz, integer) IS
        'Deletes up to so many of the days that a policy no longer keeps from each of their tables; returns how many went.';

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-00000000000a', 10, 'retention');
END
$migration$;
