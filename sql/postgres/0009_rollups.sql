-- Rollups: what measurements come to by minute, hour and day, so that these outlive them. docs/retention.md tells how they
-- are made, and 0010_retention.sql lets go of what is old.
--
-- Ids made of content are UUIDv7: the time is the bucket's start, the other bits are those of
-- sha256('monmon.rollup' || check's id || prober's id or definition's id), both as 16 bytes; so they are partitioned and asked for by time as
-- measurements are.

DO $migration$
DECLARE
    part record;
    phase text;
    set_list text;
    check_set_list text;
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 9) THEN
        RETURN;
    END IF;

    -- Histograms ---------------------------------------------------------------------------------------------------

    -- Sixteen buckets for each doubling, by whole numbers alone, so that any program makes the same: up to 15 us each
    -- value has its own, and from there on a bucket is a sixteenth of its power of two wide. The middle of a bucket is
    -- never further than 1/32 (3.1 %) from what is in it.
    EXECUTE format($outer$
        CREATE FUNCTION monmon_histogram_bucket(us integer) RETURNS integer
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
        AS $function$ SELECT width_bucket($1, %L::integer[]) - 1 $function$
        $outer$,
        (SELECT array_agg(low ORDER BY low) FROM (
            SELECT generate_series(0, 15) AS low
            UNION ALL
            SELECT m << (e - 4) FROM generate_series(4, 30) AS e, generate_series(16, 31) AS m
        ) AS bounds));
    COMMENT ON FUNCTION monmon_histogram_bucket(integer) IS
        'The bucket of a time in microseconds: itself up to 15, then sixteen for each doubling.';

    CREATE FUNCTION monmon_histogram_low(bucket integer) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS 'SELECT CASE WHEN $1 < 16 THEN $1::bigint ELSE (16 + $1 % 16)::bigint << ($1 / 16 - 1) END';
    COMMENT ON FUNCTION monmon_histogram_low(integer) IS
        'The least time in microseconds that falls into a bucket; that of the next one ends it.';

    -- 9 bits of bucket, 22 of count. A count beyond them is spread over several elements.
    CREATE FUNCTION monmon_histogram_compact(histogram integer[]) RETURNS integer[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $function$
        SELECT coalesce(array_agg(packed ORDER BY packed), '{}')
        FROM (
            SELECT (e >> 22) AS bucket, sum(e & 4194303) AS n FROM unnest(histogram) AS e GROUP BY e >> 22
        ) AS counted
        CROSS JOIN LATERAL generate_series(0, (n - 1) / 4194303) AS part
        CROSS JOIN LATERAL (SELECT (bucket << 22) | least(4194303, n - part * 4194303)::integer AS packed) AS one
        WHERE n > 0
    $function$;
    COMMENT ON FUNCTION monmon_histogram_compact(integer[]) IS
        'Brings the elements of several histograms, one after the other in an array, to one for each bucket.';

    CREATE AGGREGATE monmon_histogram_merge(integer[]) (
        sfunc = array_cat, stype = integer[], finalfunc = monmon_histogram_compact, combinefunc = array_cat,
        parallel = safe
    );
    COMMENT ON AGGREGATE monmon_histogram_merge(integer[]) IS
        'One histogram of many: of checks, of probers, of hours. For thousands of them merge days, not hours.';

    CREATE FUNCTION monmon_histogram_quantile(histogram integer[], quantile double precision) RETURNS double precision
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    AS $function$
    DECLARE
        element integer;
        previous integer := -1;
        total bigint := 0;
        rank bigint;
        bucket integer;
    BEGIN
        FOREACH element IN ARRAY histogram LOOP
            IF element < previous THEN
                RETURN monmon_histogram_quantile(monmon_histogram_compact(histogram), quantile);
            END IF;
            previous := element;
            total := total + (element & 4194303);
        END LOOP;
        IF total = 0 THEN
            RETURN NULL;
        END IF;
        rank := least(total, greatest(1, ceil(quantile * total)));
        FOREACH element IN ARRAY histogram LOOP
            rank := rank - (element & 4194303);
            IF rank <= 0 THEN
                bucket := element >> 22;
                RETURN (monmon_histogram_low(bucket) + monmon_histogram_low(bucket + 1) - 1) / 2.0;
            END IF;
        END LOOP;
        RETURN NULL;
    END
    $function$;
    COMMENT ON FUNCTION monmon_histogram_quantile(integer[], double precision) IS
        'The time in microseconds that the given share of a histogram''s exchanges (0.95 is p95) took at most: the middle of its bucket, within 3.2 %. Null when it is empty.';

    -- Tables -------------------------------------------------------------------------------------------------------

    -- One expression, so that it is inlined.
    CREATE FUNCTION monmon_rollup_id(check_id uuid, other_id uuid, start_at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $function$
        SELECT overlay(overlay(left(encode(sha256('monmon.rollup'::bytea || uuid_send($1) || uuid_send($2)), 'hex'), 32)
                               PLACING lpad(to_hex((date_part('epoch', $3 - timestamptz '1970-01-01 00:00:00+00')
                                                    * 1000)::bigint), 12, '0') || '7' FROM 1 FOR 13)
                       PLACING '8' FROM 17 FOR 1)::uuid
    $function$;
    COMMENT ON FUNCTION monmon_rollup_id(uuid, uuid, timestamptz) IS
        'The id of a rollup, made of what it is of: check, prober (or definition) and start.';

    -- The slots of a bucket: those of the interval through a slot that is known to be one.
    CREATE FUNCTION monmon_rollup_slots(start_at timestamptz, width interval, slot timestamptz, interval_us bigint)
    RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $function$
        SELECT least((date_part('epoch', $3 - $1) * 1000000)::bigint / $4 + 1
                     + ((date_part('epoch', $2) * 1000000)::bigint - (date_part('epoch', $3 - $1) * 1000000)::bigint - 1)
                       / $4,
                     2147483647)::integer
    $function$;
    COMMENT ON FUNCTION monmon_rollup_slots(timestamptz, interval, timestamptz, bigint) IS
        'How many slots lie in a bucket that begins at start_at: slot, and whole intervals before and after it; 2147483647 where there are more.';

    FOR part IN
        SELECT * FROM (VALUES ('monmon_rollup_minute', 'minute', 'PARTITION BY RANGE (id)', ' Partitioned by day as monmon_measurement is.'),
                              ('monmon_rollup_hour', 'hour', 'PARTITION BY RANGE (id)', ' Partitioned by month.'),
                              ('monmon_rollup_day', 'day', '', ''))
            AS t (name, unit, partitioned, note)
    LOOP
        EXECUTE format($outer$
            CREATE TABLE %1$I (
                id              uuid NOT NULL,
                check_id        uuid NOT NULL,
                prober_id       uuid NOT NULL,
                start_at        timestamptz NOT NULL,
                last_at         timestamptz NOT NULL,
                interval_us     bigint NOT NULL,
                total_sum_us    bigint NOT NULL,
                dns_sum_us      bigint NOT NULL,
                connect_sum_us  bigint NOT NULL,
                tls_sum_us      bigint NOT NULL,
                wait_sum_us     bigint NOT NULL,
                transfer_sum_us bigint NOT NULL,
                measurements    integer NOT NULL,
                up              integer NOT NULL,
                degraded        integer NOT NULL,
                down            integer NOT NULL,
                unknown         integer NOT NULL,
                slots_known     integer NOT NULL,
                slots_due       integer NOT NULL,
                timed           integer NOT NULL,
                total_min_us    integer,
                total_max_us    integer,
                dns_min_us      integer,
                dns_max_us      integer,
                connect_min_us  integer,
                connect_max_us  integer,
                tls_min_us      integer,
                tls_max_us      integer,
                wait_min_us     integer,
                wait_max_us     integer,
                transfer_min_us integer,
                transfer_max_us integer,
                histogram       integer[] NOT NULL,
                PRIMARY KEY (id)
            ) %2$s
            $outer$, part.name, part.partitioned);
        EXECUTE format('CREATE INDEX %I ON %I (check_id, id)', part.name || '_check', part.name);
        EXECUTE format('COMMENT ON TABLE %I IS %L', part.name,
            'What the measurements of each check by each prober come to, by UTC ' || part.unit || '. One row where there is a measurement.' || part.note);
        EXECUTE format('COMMENT ON COLUMN %I.id IS %L', part.name, 'UUIDv7 of start_at, and a hash of check and prober (monmon_rollup_id).');
        EXECUTE format('COMMENT ON COLUMN %I.check_id IS %L', part.name, 'The check: monmon_check.id.');
        EXECUTE format('COMMENT ON COLUMN %I.prober_id IS %L', part.name, 'The prober: monmon_prober.id.');
        EXECUTE format('COMMENT ON COLUMN %I.start_at IS %L', part.name, 'When the ' || part.unit || ' begins, in UTC.');
        EXECUTE format('COMMENT ON COLUMN %I.last_at IS %L', part.name, 'The last slot that was measured in it.');
        EXECUTE format('COMMENT ON COLUMN %I.interval_us IS %L', part.name, 'Time from slot to slot, in microseconds; the shortest where it changed.');
        EXECUTE format('COMMENT ON COLUMN %I.measurements IS %L', part.name, 'Measurements, all attempts counted.');
        EXECUTE format('COMMENT ON COLUMN %I.up IS %L', part.name, 'Slots whose last attempt was up.');
        EXECUTE format('COMMENT ON COLUMN %I.degraded IS %L', part.name, 'Slots whose last attempt was degraded.');
        EXECUTE format('COMMENT ON COLUMN %I.down IS %L', part.name, 'Slots whose last attempt was down.');
        EXECUTE format('COMMENT ON COLUMN %I.unknown IS %L', part.name, 'Slots whose last attempt could not tell.');
        EXECUTE format('COMMENT ON COLUMN %I.slots_known IS %L', part.name, 'Covered slots: up, degraded and down.');
        EXECUTE format('COMMENT ON COLUMN %I.slots_due IS %L', part.name, 'Expected slots: all that lie in the ' || part.unit || ' by interval_us, also before the check''s first and after its last; monmon_uptime_day knows those.');
        EXECUTE format('COMMENT ON COLUMN %I.timed IS %L', part.name, 'Measurements whose exchange came to its end: those that the times are of.');
        EXECUTE format('COMMENT ON COLUMN %I.histogram IS %L', part.name, 'Total times of the timed measurements: an element for each bucket, bucket * 4194304 + count, in order. See monmon_histogram_quantile.');
        EXECUTE format('COMMENT ON COLUMN %I.total_sum_us IS %L', part.name, 'Sum of the total times, in microseconds.');
        EXECUTE format('COMMENT ON COLUMN %I.total_min_us IS %L', part.name, 'The shortest total time; null when nothing was timed.');
        EXECUTE format('COMMENT ON COLUMN %I.total_max_us IS %L', part.name, 'The longest total time; null when nothing was timed.');
        FOREACH phase IN ARRAY ARRAY['dns', 'connect', 'tls', 'wait', 'transfer'] LOOP
            EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', part.name, phase || '_sum_us', 'Sum of ' || phase || '_us over the timed measurements; a phase that was not there counts as 0.');
            EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', part.name, phase || '_min_us', 'The shortest ' || phase || '_us; null when there was none.');
            EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', part.name, phase || '_max_us', 'The longest ' || phase || '_us; null when there was none.');
        END LOOP;
    END LOOP;

    FOR part IN
        SELECT * FROM (VALUES ('monmon_rollup_check_hour', 'hour', 'PARTITION BY RANGE (id)', ' Partitioned by month.'),
                              ('monmon_rollup_check_day', 'day', '', ''))
            AS t (name, unit, partitioned, note)
    LOOP
        EXECUTE format($outer$
            CREATE TABLE %1$I (
                id                   uuid NOT NULL,
                check_id             uuid NOT NULL,
                definition_id        uuid NOT NULL,
                start_at             timestamptz NOT NULL,
                first_at             timestamptz NOT NULL,
                last_at              timestamptz NOT NULL,
                measurements         bigint NOT NULL,
                slots_known          bigint NOT NULL,
                measurements_up      bigint NOT NULL,
                measurements_down    bigint NOT NULL,
                measurements_unknown bigint NOT NULL,
                PRIMARY KEY (id)
            ) %2$s
            $outer$, part.name, part.partitioned);
        EXECUTE format('CREATE INDEX %I ON %I (check_id, id)', part.name || '_check', part.name);
        EXECUTE format('COMMENT ON TABLE %I IS %L', part.name,
            'How each check was by UTC ' || part.unit || ', all probers together, by definition: what uptime and coverage are worked out of (monmon_uptime_day).' || part.note);
        EXECUTE format('COMMENT ON COLUMN %I.id IS %L', part.name, 'UUIDv7 of start_at, and a hash of check and definition (monmon_rollup_id).');
        EXECUTE format('COMMENT ON COLUMN %I.check_id IS %L', part.name, 'The check: monmon_check.id.');
        EXECUTE format('COMMENT ON COLUMN %I.definition_id IS %L', part.name, 'How it was checked: monmon_check_definition.id.');
        EXECUTE format('COMMENT ON COLUMN %I.start_at IS %L', part.name, 'When the ' || part.unit || ' begins, in UTC.');
        EXECUTE format('COMMENT ON COLUMN %I.first_at IS %L', part.name, 'The first slot with this definition in it.');
        EXECUTE format('COMMENT ON COLUMN %I.last_at IS %L', part.name, 'The last one.');
        EXECUTE format('COMMENT ON COLUMN %I.measurements IS %L', part.name, 'Measurements, all attempts counted.');
        EXECUTE format('COMMENT ON COLUMN %I.slots_known IS %L', part.name, 'Slots with a known outcome from at least one prober.');
        EXECUTE format('COMMENT ON COLUMN %I.measurements_up IS %L', part.name, 'Measurements that were up or degraded; of several attempts at a slot by one prober the last one counts.');
        EXECUTE format('COMMENT ON COLUMN %I.measurements_down IS %L', part.name, 'Measurements that were down, counted alike.');
        EXECUTE format('COMMENT ON COLUMN %I.measurements_unknown IS %L', part.name, 'Measurements in which the prober could not tell, counted alike.');
    END LOOP;

    CREATE TABLE monmon_rollup_state (
        id             uuid PRIMARY KEY,
        rolled_until   timestamptz,
        minutes_from   timestamptz NOT NULL DEFAULT '-infinity',
        hours_from     timestamptz NOT NULL DEFAULT '-infinity',
        changed_at     timestamptz NOT NULL DEFAULT now()
    );
    COMMENT ON TABLE monmon_rollup_state IS 'How far rollups are made: one row.';
    COMMENT ON COLUMN monmon_rollup_state.id IS 'Always 6d6f6e6d-6f6e-8000-8000-0000726f6c6c.';
    COMMENT ON COLUMN monmon_rollup_state.rolled_until IS 'Everything before this instant is in the rollups, but for the hours in monmon_rollup_late. Null before the first time.';
    COMMENT ON COLUMN monmon_rollup_state.minutes_from IS 'Minutes are kept whole from here on.';
    COMMENT ON COLUMN monmon_rollup_state.hours_from IS 'Hours are kept whole from here on.';
    COMMENT ON COLUMN monmon_rollup_state.changed_at IS 'When this row was last changed.';
    INSERT INTO monmon_rollup_state (id) VALUES ('6d6f6e6d-6f6e-8000-8000-0000726f6c6c');

    CREATE TABLE monmon_rollup_late (
        id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        hour timestamptz NOT NULL
    );
    COMMENT ON TABLE monmon_rollup_late IS 'Hours for which measurements were stored later than five minutes after their slots: their rollups are to be made again.';
    COMMENT ON COLUMN monmon_rollup_late.id IS 'Drawn: two writers never wait for each other over a row.';
    COMMENT ON COLUMN monmon_rollup_late.hour IS 'The UTC hour.';

    CREATE TABLE monmon_rollup_checked (
        id           uuid PRIMARY KEY,
        day          date NOT NULL UNIQUE,
        measurements bigint NOT NULL,
        checked_at   timestamptz NOT NULL,
        sealed_at    timestamptz
    );
    COMMENT ON TABLE monmon_rollup_checked IS 'Days whose rollups were held against their measurements, before those go.';
    COMMENT ON COLUMN monmon_rollup_checked.id IS 'The lowest UUIDv7 of the day.';
    COMMENT ON COLUMN monmon_rollup_checked.day IS 'The UTC day.';
    COMMENT ON COLUMN monmon_rollup_checked.measurements IS 'How many measurements there were. They are only ever added, so as long as there are as many they are the same.';
    COMMENT ON COLUMN monmon_rollup_checked.checked_at IS 'When rollups and measurements were found equal.';
    COMMENT ON COLUMN monmon_rollup_checked.sealed_at IS 'When measurements of the day first went. From then on its rollups are no longer made of what is left: one that comes to fewer measurements never replaces one of more. Null while all are there.';

    -- Late rows ----------------------------------------------------------------------------------------------------

    CREATE FUNCTION monmon_rollup_mark() RETURNS trigger
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        hour timestamptz := date_bin('1 hour', NEW.scheduled_at, timestamptz '1970-01-01 00:00:00+00');
        mark text := (date_part('epoch', hour)::bigint)::text;
    BEGIN
        -- Rows come in the order of their slots, so this is one mark for each hour of a transaction.
        IF current_setting('monmon.late_hour', true) IS DISTINCT FROM mark THEN
            INSERT INTO monmon_rollup_late (hour) VALUES (hour);
            PERFORM set_config('monmon.late_hour', mark, true);
        END IF;
        RETURN NULL;
    END
    $function$;
    COMMENT ON FUNCTION monmon_rollup_mark() IS 'Writes down the hour of a late measurement, in the transaction that stores it.';

    -- The condition is all that a measurement in time pays for. The five minutes are those of monmon_rollup_settled.
    CREATE TRIGGER monmon_rollup_late AFTER INSERT ON monmon_measurement FOR EACH ROW
        WHEN (NEW.scheduled_at < clock_timestamp() - interval '5 minutes')
        EXECUTE FUNCTION monmon_rollup_mark();

    -- One for each schema: two stores in one database are maintained apart. A transaction's lock, so that a pooler may
    -- give the next step another session.
    CREATE FUNCTION monmon_maintenance_lock() RETURNS boolean
    LANGUAGE sql VOLATILE
    AS $function$
        SELECT pg_try_advisory_xact_lock((1836019309::bigint << 32) | 'monmon_rollup_state'::regclass::oid::bigint)
    $function$;
    COMMENT ON FUNCTION monmon_maintenance_lock() IS
        'Whether this transaction is the one that maintains the store now. In pg_locks: classid 1836019309.';

    -- From measurements --------------------------------------------------------------------------------------------

    -- Of several attempts at a slot the last one decides; there are few of them, so they are looked up apart.
    CREATE FUNCTION monmon_rollup_of(from_at timestamptz, to_at timestamptz, width interval)
    RETURNS SETOF monmon_rollup_day
    LANGUAGE sql STABLE
    AS $function$
        WITH retried AS MATERIALIZED (
            SELECT m.check_id, m.definition_id, b.prober_id, m.scheduled_at, max(m.attempt) AS attempt
            FROM monmon_measurement AS m
            LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
            WHERE m.id >= monmon_uuid_floor(from_at) AND m.id < monmon_uuid_floor(to_at) AND m.attempt > 1
            GROUP BY m.check_id, m.definition_id, b.prober_id, m.scheduled_at
        ),
        counted AS (
            SELECT m.check_id,
                   coalesce(b.prober_id, '00000000-0000-0000-0000-000000000000') AS prober_id,
                   date_bin(width, m.scheduled_at, timestamptz '1970-01-01 00:00:00+00') AS start_at,
                   max(m.scheduled_at) AS last_at,
                   min(coalesce(f.interval_us, 60000000)) AS interval_us,
                   count(*) AS measurements,
                   count(*) FILTER (WHERE m.outcome = 'up' AND l.last) AS up,
                   count(*) FILTER (WHERE m.outcome = 'degraded' AND l.last) AS degraded,
                   count(*) FILTER (WHERE m.outcome = 'down' AND l.last) AS down,
                   count(*) FILTER (WHERE m.outcome = 'unknown' AND l.last) AS unknown,
                   count(*) FILTER (WHERE t.timed) AS timed,
                   coalesce(sum(m.total_us) FILTER (WHERE t.timed), 0) AS total_sum_us,
                   min(m.total_us) FILTER (WHERE t.timed) AS total_min_us,
                   max(m.total_us) FILTER (WHERE t.timed) AS total_max_us,
                   coalesce(sum(m.dns_us) FILTER (WHERE t.timed), 0) AS dns_sum_us,
                   min(m.dns_us) FILTER (WHERE t.timed) AS dns_min_us,
                   max(m.dns_us) FILTER (WHERE t.timed) AS dns_max_us,
                   coalesce(sum(m.connect_us) FILTER (WHERE t.timed), 0) AS connect_sum_us,
                   min(m.connect_us) FILTER (WHERE t.timed) AS connect_min_us,
                   max(m.connect_us) FILTER (WHERE t.timed) AS connect_max_us,
                   coalesce(sum(m.tls_us) FILTER (WHERE t.timed), 0) AS tls_sum_us,
                   min(m.tls_us) FILTER (WHERE t.timed) AS tls_min_us,
                   max(m.tls_us) FILTER (WHERE t.timed) AS tls_max_us,
                   coalesce(sum(m.wait_us) FILTER (WHERE t.timed), 0) AS wait_sum_us,
                   min(m.wait_us) FILTER (WHERE t.timed) AS wait_min_us,
                   max(m.wait_us) FILTER (WHERE t.timed) AS wait_max_us,
                   coalesce(sum(m.transfer_us) FILTER (WHERE t.timed), 0) AS transfer_sum_us,
                   min(m.transfer_us) FILTER (WHERE t.timed) AS transfer_min_us,
                   max(m.transfer_us) FILTER (WHERE t.timed) AS transfer_max_us,
                   coalesce(array_agg((monmon_histogram_bucket(m.total_us) << 22) | 1) FILTER (WHERE t.timed), '{}')
                       AS histogram
            FROM monmon_measurement AS m
            LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
            LEFT JOIN monmon_check_definition AS f ON f.id = m.definition_id
            LEFT JOIN retried AS r ON r.check_id = m.check_id AND r.definition_id = m.definition_id
                AND r.prober_id IS NOT DISTINCT FROM b.prober_id AND r.scheduled_at = m.scheduled_at
            CROSS JOIN LATERAL (SELECT r.attempt IS NULL OR r.attempt = m.attempt AS last) AS l
            CROSS JOIN LATERAL (SELECT m.error_kind IS NULL AND m.outcome <> 'unknown' AS timed) AS t
            WHERE m.id >= monmon_uuid_floor(from_at) AND m.id < monmon_uuid_floor(to_at)
            GROUP BY 1, 2, 3
        )
        SELECT monmon_rollup_id(check_id, prober_id, start_at), check_id, prober_id, start_at, last_at, interval_us,
               total_sum_us, dns_sum_us, connect_sum_us, tls_sum_us, wait_sum_us, transfer_sum_us,
               measurements::integer, up::integer, degraded::integer, down::integer, unknown::integer,
               (up + degraded + down)::integer,
               greatest((up + degraded + down)::integer, monmon_rollup_slots(start_at, width, last_at, interval_us)),
               timed::integer, total_min_us, total_max_us, dns_min_us, dns_max_us, connect_min_us, connect_max_us,
               tls_min_us, tls_max_us, wait_min_us, wait_max_us, transfer_min_us, transfer_max_us,
               CASE WHEN timed > 1 THEN monmon_histogram_compact(histogram) ELSE histogram END
        FROM counted
    $function$;
    COMMENT ON FUNCTION monmon_rollup_of(timestamptz, timestamptz, interval) IS
        'What the measurements between two instants come to, by buckets of the given width: what the rollups must be equal to.';

    CREATE FUNCTION monmon_rollup_check_of(from_at timestamptz, to_at timestamptz, width interval)
    RETURNS SETOF monmon_rollup_check_day
    LANGUAGE sql STABLE
    AS $function$
        WITH slots AS (  -- one row for each prober and slot; its last attempt decides
            SELECT m.check_id, m.definition_id, b.prober_id, m.scheduled_at, count(*) AS measurements,
                   max(m.attempt * 4::bigint + CASE m.outcome WHEN 'up' THEN 0 WHEN 'degraded' THEN 1
                                                              WHEN 'down' THEN 2 ELSE 3 END) % 4 AS verdict
            FROM monmon_measurement AS m
            LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
            WHERE m.id >= monmon_uuid_floor(from_at) AND m.id < monmon_uuid_floor(to_at)
            GROUP BY m.check_id, m.definition_id, b.prober_id, m.scheduled_at
        ),
        counted AS (
            SELECT check_id, definition_id,
                   date_bin(width, scheduled_at, timestamptz '1970-01-01 00:00:00+00') AS start_at,
                   min(scheduled_at) AS first_at, max(scheduled_at) AS last_at,
                   sum(measurements)::bigint AS measurements,
                   count(DISTINCT scheduled_at) FILTER (WHERE verdict < 3) AS slots_known,
                   count(*) FILTER (WHERE verdict < 2) AS measurements_up,
                   count(*) FILTER (WHERE verdict = 2) AS measurements_down,
                   count(*) FILTER (WHERE verdict = 3) AS measurements_unknown
            FROM slots
            GROUP BY 1, 2, 3
        )
        SELECT monmon_rollup_id(check_id, definition_id, start_at), check_id, definition_id, start_at, first_at,
               last_at, measurements, slots_known, measurements_up, measurements_down, measurements_unknown
        FROM counted
    $function$;
    COMMENT ON FUNCTION monmon_rollup_check_of(timestamptz, timestamptz, interval) IS
        'As monmon_rollup_of, for monmon_rollup_check_hour and monmon_rollup_check_day.';

    -- Partitions ---------------------------------------------------------------------------------------------------

    CREATE FUNCTION monmon_rollup_partitions(from_at timestamptz, to_at timestamptz) RETURNS void
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        parent record;
        begins timestamp;
        partition text;
    BEGIN
        FOR parent IN
            SELECT t.name, t.unit, t.pattern, n.nspname AS schema
            FROM (VALUES ('monmon_rollup_minute', 'day', '_YYYYMMDD'), ('monmon_rollup_hour', 'month', '_YYYYMM'),
                         ('monmon_rollup_check_hour', 'month', '_YYYYMM')) AS t (name, unit, pattern)
            JOIN pg_class AS c ON c.oid = to_regclass(t.name)
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
        LOOP
            FOR begins IN
                SELECT generate_series(date_trunc(parent.unit, from_at AT TIME ZONE 'UTC'), to_at AT TIME ZONE 'UTC',
                                       ('1 ' || parent.unit)::interval)
            LOOP
                partition := format('%I.%I', parent.schema, parent.name || to_char(begins, parent.pattern));
                CONTINUE WHEN to_regclass(partition) IS NOT NULL;
                EXECUTE format('CREATE TABLE %s (LIKE %I.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)',
                               partition, parent.schema, parent.name);
                EXECUTE format('ALTER TABLE %I.%I ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)',
                               parent.schema, parent.name, partition,
                               monmon_uuid_floor(begins AT TIME ZONE 'UTC'),
                               monmon_uuid_floor((begins + ('1 ' || parent.unit)::interval) AT TIME ZONE 'UTC'));
            END LOOP;
        END LOOP;
    END
    $function$;
    COMMENT ON FUNCTION monmon_rollup_partitions(timestamptz, timestamptz) IS
        'Makes the partitions of the rollups from one instant to another, where they are not there yet. Only within the maintenance, which holds its lock.';

    -- A row of the coarser is the sum of the finer ones in it, and the same as if it were made of measurements.
    FOR part IN
        SELECT * FROM (VALUES ('monmon_rollup_hour_of', 'monmon_rollup_minute', '1 hour'),
                              ('monmon_rollup_day_of', 'monmon_rollup_hour', '24 hours'))
            AS t (name, finer, width)
    LOOP
        EXECUTE format($outer$
            CREATE FUNCTION %1$I(from_at timestamptz, to_at timestamptz) RETURNS SETOF monmon_rollup_day
            LANGUAGE sql STABLE
            AS $function$
                SELECT monmon_rollup_id(check_id, prober_id, start_at), check_id, prober_id, start_at, last_at,
                       interval_us, total_sum_us, dns_sum_us, connect_sum_us, tls_sum_us, wait_sum_us, transfer_sum_us,
                       measurements, up, degraded, down, unknown, up + degraded + down,
                       greatest(up + degraded + down,
                                monmon_rollup_slots(start_at, interval %3$L, last_at, interval_us)),
                       timed, total_min_us, total_max_us, dns_min_us, dns_max_us, connect_min_us, connect_max_us,
                       tls_min_us, tls_max_us, wait_min_us, wait_max_us, transfer_min_us, transfer_max_us, histogram
                FROM (
                    SELECT check_id, prober_id,
                           date_bin(interval %3$L, start_at, timestamptz '1970-01-01 00:00:00+00') AS start_at,
                           max(last_at) AS last_at, min(interval_us) AS interval_us,
                           sum(total_sum_us)::bigint AS total_sum_us, sum(dns_sum_us)::bigint AS dns_sum_us,
                           sum(connect_sum_us)::bigint AS connect_sum_us, sum(tls_sum_us)::bigint AS tls_sum_us,
                           sum(wait_sum_us)::bigint AS wait_sum_us, sum(transfer_sum_us)::bigint AS transfer_sum_us,
                           sum(measurements)::integer AS measurements, sum(up)::integer AS up,
                           sum(degraded)::integer AS degraded, sum(down)::integer AS down,
                           sum(unknown)::integer AS unknown, sum(timed)::integer AS timed,
                           min(total_min_us) AS total_min_us, max(total_max_us) AS total_max_us,
                           min(dns_min_us) AS dns_min_us, max(dns_max_us) AS dns_max_us,
                           min(connect_min_us) AS connect_min_us, max(connect_max_us) AS connect_max_us,
                           min(tls_min_us) AS tls_min_us, max(tls_max_us) AS tls_max_us,
                           min(wait_min_us) AS wait_min_us, max(wait_max_us) AS wait_max_us,
                           min(transfer_min_us) AS transfer_min_us, max(transfer_max_us) AS transfer_max_us,
                           monmon_histogram_merge(histogram) AS histogram
                    FROM %2$I
                    WHERE id >= monmon_uuid_floor(from_at) AND id < monmon_uuid_floor(to_at)
                    GROUP BY 1, 2, 3
                ) AS summed
            $function$
            $outer$, part.name, part.finer, part.width);
        EXECUTE format('COMMENT ON FUNCTION %I(timestamptz, timestamptz) IS %L', part.name,
                       'The rows of ' || part.finer || ' between two instants, merged by ' || part.width || '.');
    END LOOP;

    -- Making them --------------------------------------------------------------------------------------------------

    SELECT string_agg(format('%1$I = excluded.%1$I', attname), ', ' ORDER BY attnum) INTO set_list
    FROM pg_attribute WHERE attrelid = 'monmon_rollup_day'::regclass AND attnum > 4;
    SELECT string_agg(format('%1$I = excluded.%1$I', attname), ', ' ORDER BY attnum) INTO check_set_list
    FROM pg_attribute WHERE attrelid = 'monmon_rollup_check_day'::regclass AND attnum > 4;

    -- A sealed day's measurements are no longer all there: what is made of them counts only where it is of no fewer.
    EXECUTE replace(replace($outer$
        CREATE FUNCTION monmon_rollup_range(from_at timestamptz, to_at timestamptz, sealed boolean) RETURNS bigint
        LANGUAGE plpgsql
        SET plan_cache_mode = force_custom_plan
        SET work_mem = '64MB'
        SET jit = off
        AS $function$
        DECLARE
            hour_at timestamptz := date_bin('1 hour', from_at, timestamptz '1970-01-01 00:00:00+00');
            made bigint;
        BEGIN
            PERFORM monmon_rollup_partitions(from_at, to_at - interval '1 microsecond');
            INSERT INTO monmon_rollup_minute AS r
            SELECT * FROM monmon_rollup_of(from_at, to_at, interval '1 minute')
            ON CONFLICT (id) DO UPDATE SET {set}
            WHERE r IS DISTINCT FROM excluded AND (NOT sealed OR excluded.measurements >= r.measurements);
            GET DIAGNOSTICS made = ROW_COUNT;
            INSERT INTO monmon_rollup_hour AS r
            SELECT * FROM monmon_rollup_hour_of(hour_at, to_at)
            ON CONFLICT (id) DO UPDATE SET {set}
            WHERE r IS DISTINCT FROM excluded AND (NOT sealed OR excluded.measurements >= r.measurements);
            INSERT INTO monmon_rollup_check_hour AS r
            SELECT * FROM monmon_rollup_check_of(hour_at, to_at, interval '1 hour')
            ON CONFLICT (id) DO UPDATE SET {check}
            WHERE r IS DISTINCT FROM excluded AND (NOT sealed OR excluded.measurements >= r.measurements);
            RETURN made;
        END
        $function$;

        CREATE FUNCTION monmon_rollup_days(day_at timestamptz, sealed boolean) RETURNS void
        LANGUAGE plpgsql
        SET plan_cache_mode = force_custom_plan
        SET work_mem = '64MB'
        SET jit = off
        AS $function$
        BEGIN
            INSERT INTO monmon_rollup_day AS r
            SELECT * FROM monmon_rollup_day_of(day_at, day_at + interval '24 hours')
            ON CONFLICT (id) DO UPDATE SET {set}
            WHERE r IS DISTINCT FROM excluded AND (NOT sealed OR excluded.measurements >= r.measurements);
            INSERT INTO monmon_rollup_check_day AS r
            SELECT monmon_rollup_id(check_id, definition_id, day_at), check_id, definition_id, day_at, min(first_at),
                   max(last_at), sum(measurements), sum(slots_known), sum(measurements_up), sum(measurements_down),
                   sum(measurements_unknown)
            FROM monmon_rollup_check_hour
            WHERE id >= monmon_uuid_floor(day_at) AND id < monmon_uuid_floor(day_at + interval '24 hours')
            GROUP BY check_id, definition_id
            ON CONFLICT (id) DO UPDATE SET {check}
            WHERE r IS DISTINCT FROM excluded AND (NOT sealed OR excluded.measurements >= r.measurements);
        END
        $function$;
        $outer$, '{set}', set_list), '{check}', check_set_list);
    COMMENT ON FUNCTION monmon_rollup_range(timestamptz, timestamptz, boolean) IS
        'Makes the minutes of a part of one day again from its measurements, and the hours from the minutes.';
    COMMENT ON FUNCTION monmon_rollup_days(timestamptz, boolean) IS 'Makes a day again from its hours.';

    CREATE FUNCTION monmon_rollup_settle(OUT until timestamptz, OUT behind xid8) RETURNS record
    LANGUAGE plpgsql
    AS $function$
    BEGIN
        -- In this order: whoever looked at the clock before this has a lower transaction number than what comes next.
        until := date_trunc('minute', clock_timestamp() - interval '5 minutes', 'UTC');
        behind := pg_current_xact_id();
    END
    $function$;
    COMMENT ON FUNCTION monmon_rollup_settle() IS
        'Until when measurements can be rolled up, once monmon_rollup_settled says so of `behind`: what is stored after that with an earlier slot is marked as late.';

    CREATE FUNCTION monmon_rollup_settled(behind xid8) RETURNS boolean
    LANGUAGE sql VOLATILE
    AS 'SELECT pg_snapshot_xmin(pg_current_snapshot()) > behind';
    COMMENT ON FUNCTION monmon_rollup_settled(xid8) IS
        'Whether every transaction that had begun to write is over. Ask in a transaction of its own.';

    CREATE FUNCTION monmon_rollup_step(settled timestamptz, late_from timestamptz DEFAULT '-infinity', OUT done text, OUT from_at timestamptz,
                                       OUT to_at timestamptz, OUT made bigint) RETURNS record
    LANGUAGE plpgsql
    SET plan_cache_mode = force_custom_plan
    AS $function$
    DECLARE
        zero CONSTANT timestamptz := '1970-01-01 00:00:00+00';
        state monmon_rollup_state;
        late timestamptz[];
        hour timestamptz;
        day_at timestamptz;
        sealed boolean;
    BEGIN
        made := 0;
        IF NOT monmon_maintenance_lock() THEN
            done := 'busy';
            RETURN;
        END IF;
        SELECT * INTO STRICT state FROM monmon_rollup_state;

        -- Marks go first: what they stand for was stored with them, so the next statement sees it.
        SELECT date_bin('24 hours', min(l.hour), zero) INTO day_at FROM monmon_rollup_late AS l
        WHERE l.hour < state.rolled_until AND l.hour >= late_from;
        IF day_at IS NOT NULL THEN
            WITH gone AS (
                DELETE FROM monmon_rollup_late AS l WHERE l.hour >= day_at AND l.hour < day_at + interval '24 hours'
                RETURNING l.hour
            )
            SELECT array_agg(DISTINCT g.hour ORDER BY g.hour) INTO late FROM gone AS g;
            sealed := EXISTS (SELECT FROM monmon_rollup_checked AS s
                             WHERE s.day = (day_at AT TIME ZONE 'UTC')::date AND s.sealed_at IS NOT NULL);
            -- Its hours have gone, so the day is made of all of them again.
            IF NOT sealed AND day_at < state.hours_from THEN
                SELECT array_agg(h) INTO late
                FROM generate_series(day_at, day_at + interval '23 hours', interval '1 hour') AS h;
            END IF;
            FOREACH hour IN ARRAY late LOOP
                CONTINUE WHEN hour >= state.rolled_until;
                made := made + monmon_rollup_range(hour, least(hour + interval '1 hour', state.rolled_until), sealed);
            END LOOP;
            PERFORM monmon_rollup_days(day_at, sealed);
            done := 'late';
            from_at := late[1];
            to_at := late[array_upper(late, 1)] + interval '1 hour';
            RETURN;
        END IF;

        -- From where the last step ended, over days without a measurement, to the end of the next six hours.
        SELECT date_bin('1 hour', monmon_uuid_time(m.id), zero) INTO from_at
        FROM monmon_measurement AS m
        WHERE m.id >= monmon_uuid_floor(coalesce(state.rolled_until, zero)) AND m.id < monmon_uuid_floor(settled)
        ORDER BY m.id LIMIT 1;
        IF from_at IS NULL THEN
            UPDATE monmon_rollup_state SET rolled_until = settled, changed_at = clock_timestamp()
            WHERE rolled_until < settled;
            DELETE FROM monmon_rollup_late AS l WHERE l.hour >= settled;
            done := 'nothing';
            RETURN;
        END IF;
        from_at := greatest(from_at, state.rolled_until);
        to_at := least(settled, date_bin('6 hours', from_at, zero) + interval '6 hours');
        day_at := date_bin('24 hours', from_at, zero);
        sealed := EXISTS (SELECT FROM monmon_rollup_checked AS s
                             WHERE s.day = (day_at AT TIME ZONE 'UTC')::date AND s.sealed_at IS NOT NULL);
        -- As above: what is marked as late in these hours is in what the next statement sees.
        DELETE FROM monmon_rollup_late AS l WHERE l.hour >= from_at AND l.hour < to_at;
        made := monmon_rollup_range(from_at, to_at, sealed);
        PERFORM monmon_rollup_days(day_at, sealed);
        UPDATE monmon_rollup_state SET rolled_until = to_at, changed_at = clock_timestamp();
        done := 'new';
    END
    $function$;
    COMMENT ON FUNCTION monmon_rollup_step(timestamptz, timestamptz) IS
        'Rolls up a part of what is to be rolled up: the late hours of the first day from late_from on, or up to six new hours. Who goes on from the day after makes each day once, however much comes late meanwhile. `done` is late, new, nothing, or busy: another is at it.';

    -- One snapshot, because it is STABLE: nothing that is stored meanwhile looks like a difference.
    CREATE FUNCTION monmon_rollup_check(from_day date, to_day date)
    RETURNS TABLE (level text, check_id uuid, start_at timestamptz, difference text)
    LANGUAGE plpgsql STABLE
    SET plan_cache_mode = force_custom_plan
    SET work_mem = '64MB'
    SET jit = off
    AS $function$
    DECLARE
        state monmon_rollup_state;
        day_at timestamptz;
        ends timestamptz;
        pair record;
    BEGIN
        SELECT * INTO STRICT state FROM monmon_rollup_state;
        FOR day_at IN
            SELECT d AT TIME ZONE 'UTC' FROM generate_series(from_day::timestamp, to_day - 1, interval '1 day') AS d
            WHERE d AT TIME ZONE 'UTC' < state.rolled_until
              AND NOT EXISTS (SELECT FROM monmon_rollup_checked AS s WHERE s.day = d::date AND s.sealed_at IS NOT NULL)
        LOOP
            ends := least(day_at + interval '24 hours', state.rolled_until);
            IF EXISTS (SELECT FROM monmon_rollup_late AS l WHERE l.hour >= day_at AND l.hour < ends) THEN
                RETURN QUERY SELECT 'late', NULL::uuid, day_at, 'measurements came late and are not rolled up yet';
                CONTINUE;
            END IF;
            FOR pair IN
                SELECT * FROM (VALUES ('minute', 'monmon_rollup_of', 'monmon_rollup_minute', interval '1 minute', state.minutes_from),
                                      ('hour', 'monmon_rollup_of', 'monmon_rollup_hour', interval '1 hour', state.hours_from),
                                      ('day', 'monmon_rollup_of', 'monmon_rollup_day', interval '24 hours', '-infinity'),
                                      ('check hour', 'monmon_rollup_check_of', 'monmon_rollup_check_hour', interval '1 hour', state.hours_from),
                                      ('check day', 'monmon_rollup_check_of', 'monmon_rollup_check_day', interval '24 hours', '-infinity'))
                    AS t (name, made_of, kept, width, kept_from)
                WHERE day_at >= kept_from
            LOOP
                RETURN QUERY EXECUTE format($query$
                    SELECT %L::text, coalesce(m.check_id, k.check_id), coalesce(m.start_at, k.start_at),
                           CASE WHEN k.id IS NULL THEN 'is not rolled up'
                                WHEN m.id IS NULL THEN 'is of no measurement'
                                ELSE k.measurements || ' measurements are rolled up, ' || m.measurements || ' are there' END
                    FROM %I(%L, %L, %L) AS m
                    FULL JOIN (SELECT * FROM %I WHERE id >= %L AND id < %L) AS k ON k.id = m.id
                    WHERE m IS DISTINCT FROM k
                    $query$, pair.name, pair.made_of, day_at, ends, pair.width, pair.kept,
                    monmon_uuid_floor(day_at), monmon_uuid_floor(ends));
            END LOOP;
        END LOOP;
    END
    $function$;
    COMMENT ON FUNCTION monmon_rollup_check(date, date) IS
        'Where the rollups of the days from the first up to, not including, the last are not what their measurements come to: no row when all is well. Days of which measurements have gone can no longer be told. A row of level `late` is no fault: its measurements have just come.';

    CREATE FUNCTION monmon_rollup_verify(checked_day date) RETURNS text
    LANGUAGE plpgsql
    AS $function$
    DECLARE
        from_at timestamptz := checked_day::timestamp AT TIME ZONE 'UTC';
        to_at timestamptz := (checked_day + 1)::timestamp AT TIME ZONE 'UTC';
        found bigint;
        faults bigint;
        known monmon_rollup_checked;
    BEGIN
        IF NOT monmon_maintenance_lock() THEN
            RETURN 'busy';
        END IF;
        IF NOT EXISTS (SELECT FROM monmon_rollup_state WHERE rolled_until >= to_at)
           OR EXISTS (SELECT FROM monmon_rollup_late AS l WHERE l.hour >= from_at AND l.hour < to_at) THEN
            RETURN 'not rolled up';
        END IF;
        EXECUTE format('SELECT count(*) FROM monmon_measurement WHERE id >= %L AND id < %L',
                       monmon_uuid_floor(from_at), monmon_uuid_floor(to_at)) INTO found;
        SELECT * INTO known FROM monmon_rollup_checked AS c WHERE c.day = checked_day;
        IF known.sealed_at IS NOT NULL OR known.measurements = found THEN
            RETURN 'checked';
        END IF;
        -- Counted before: what comes in between is another count later.
        SELECT count(*) INTO faults FROM monmon_rollup_check(checked_day, checked_day + 1);
        IF faults > 0 THEN
            INSERT INTO monmon_rollup_late (hour)
            SELECT generate_series(from_at, to_at - interval '1 hour', interval '1 hour');
            RETURN 'differs';
        END IF;
        INSERT INTO monmon_rollup_checked AS c (id, day, measurements, checked_at)
        VALUES (monmon_uuid_floor(from_at), checked_day, found, clock_timestamp())
        ON CONFLICT (id) DO UPDATE SET measurements = excluded.measurements, checked_at = excluded.checked_at;
        RETURN 'checked';
    END
    $function$;
    COMMENT ON FUNCTION monmon_rollup_verify(date) IS
        'Holds a day''s rollups against its measurements and writes down that they are equal, before those may go: checked, busy (another is at it), not rolled up, or differs (marked to be made again).';

    -- Views --------------------------------------------------------------------------------------------------------

    -- First and last slot also where measurements have gone. Of a check that has none left its prober is the last
    -- day's; when that began does not matter, because it was before the last slot.
    CREATE OR REPLACE VIEW monmon_check_span AS
    WITH seen AS (
        SELECT c.id AS check_id, c.pipeline, c.source,
               CASE WHEN l.scheduled_at >= rl.last_at OR rl.last_at IS NULL THEN b.prober_id ELSE rp.prober_id END AS prober_id,
               least(f.scheduled_at, rf.first_at) AS first_at, greatest(l.scheduled_at, rl.last_at) AS last_at,
               b.first_seen_at AS boot_at, c.interval_us::numeric + c.timeout_us AS patience_us
        FROM monmon_check AS c
        LEFT JOIN LATERAL (
            SELECT m.scheduled_at FROM monmon_measurement AS m WHERE m.check_id = c.id ORDER BY m.id LIMIT 1
        ) AS f ON true
        LEFT JOIN LATERAL (
            SELECT m.scheduled_at, m.boot_id FROM monmon_measurement AS m WHERE m.check_id = c.id
            ORDER BY m.id DESC LIMIT 1
        ) AS l ON true
        LEFT JOIN monmon_boot AS b ON b.id = l.boot_id
        LEFT JOIN LATERAL (
            SELECT min(r.first_at) AS first_at FROM monmon_rollup_check_day AS r
            WHERE r.check_id = c.id AND r.id < monmon_uuid_floor((
                SELECT d.start_at FROM monmon_rollup_check_day AS d WHERE d.check_id = c.id ORDER BY d.id LIMIT 1
            ) + interval '24 hours')
        ) AS rf ON true
        LEFT JOIN LATERAL (
            SELECT max(r.last_at) AS last_at FROM monmon_rollup_check_day AS r
            WHERE r.check_id = c.id AND r.id >= monmon_uuid_floor((
                SELECT d.start_at FROM monmon_rollup_check_day AS d WHERE d.check_id = c.id ORDER BY d.id DESC LIMIT 1
            ))
        ) AS rl ON true
        LEFT JOIN LATERAL (
            SELECT r.prober_id FROM monmon_rollup_day AS r
            WHERE r.check_id = c.id AND (l.scheduled_at IS NULL OR l.scheduled_at < rl.last_at)
              AND r.id >= monmon_uuid_floor(date_trunc('day', rl.last_at, 'UTC'))
            ORDER BY r.last_at DESC LIMIT 1
        ) AS rp ON true
        WHERE f.scheduled_at IS NOT NULL OR rf.first_at IS NOT NULL
    ),
    compared AS (
        SELECT s.*, max(s.boot_at) OVER of_one_source AS newest_boot_at, max(s.last_at) OVER of_one_source AS newest_at
        FROM seen AS s
        WINDOW of_one_source AS (PARTITION BY s.pipeline, s.source, s.prober_id)
    )
    SELECT check_id, first_at, last_at,
           CASE WHEN newest_boot_at > last_at
                 AND extract(epoch FROM newest_at - newest_boot_at) * 1000000 > patience_us
                THEN newest_boot_at END AS ended_at
    FROM compared;
    COMMENT ON COLUMN monmon_check_span.first_at IS 'The first slot seen of the check, as far as its measurements or the days made of them are kept.';

    -- As 0004_uptime.sql made it, but for `seen`: what is rolled up is read from the days, the rest from measurements.
    CREATE OR REPLACE VIEW monmon_uptime_day AS
    WITH watched AS (
        SELECT c.id AS check_id, c.pipeline, c.source, c.name, c.interval_us, s.first_at, s.last_at,
               coalesce(s.ended_at, now() - least(c.timeout_us, 86400000000) * interval '1 microsecond') AS due_until
        FROM monmon_check AS c
        JOIN monmon_check_span AS s ON s.check_id = c.id
    ),
    calendar AS (
        SELECT generate_series(date_trunc('day', min(first_at) AT TIME ZONE 'UTC'),
                               max(greatest(last_at, due_until)) AT TIME ZONE 'UTC', interval '1 day')::date AS day
        FROM watched
    ),
    days AS MATERIALIZED (
        SELECT day, day_start, day_end,
               monmon_uuid_floor(day_start) AS first_id, monmon_uuid_floor(day_end) AS end_id,
               EXISTS (SELECT FROM monmon_rollup_state AS t WHERE t.rolled_until >= day_end)
                   AND (EXISTS (SELECT FROM monmon_rollup_checked AS x WHERE x.day = calendar.day AND x.sealed_at IS NOT NULL)
                        OR NOT EXISTS (SELECT FROM monmon_rollup_late AS l WHERE l.hour >= day_start AND l.hour < day_end))
                   AS rolled
        FROM calendar
        CROSS JOIN LATERAL (
            SELECT day::timestamp AT TIME ZONE 'UTC' AS day_start, (day + 1)::timestamp AT TIME ZONE 'UTC' AS day_end
        ) AS bounds
    ),
    seen AS (  -- by definition, because the interval may change within a day
        SELECT d.day, r.check_id, r.definition_id, r.first_at, r.slots_known, r.measurements_up, r.measurements_down,
               r.measurements_unknown
        FROM days AS d
        JOIN monmon_rollup_check_day AS r ON r.id >= d.first_id AND r.id < d.end_id
        WHERE d.rolled
        UNION ALL
        SELECT d.day, s.*
        FROM days AS d
        CROSS JOIN LATERAL (
            SELECT
                slot.check_id,
                slot.definition_id,
                min(slot.scheduled_at) AS first_at,
                count(DISTINCT slot.scheduled_at) FILTER (WHERE slot.verdict < 3) AS slots_known,
                count(*) FILTER (WHERE slot.verdict < 2) AS measurements_up,
                count(*) FILTER (WHERE slot.verdict = 2) AS measurements_down,
                count(*) FILTER (WHERE slot.verdict = 3) AS measurements_unknown
            FROM (  -- one row for each prober and slot; its last attempt decides
                SELECT m.check_id, m.definition_id, b.prober_id, m.scheduled_at,
                       max(m.attempt * 4::bigint + CASE m.outcome WHEN 'up' THEN 0 WHEN 'degraded' THEN 1
                                                                  WHEN 'down' THEN 2 ELSE 3 END) % 4 AS verdict
                FROM monmon_measurement AS m
                LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
                WHERE m.id >= d.first_id AND m.id < d.end_id
                GROUP BY m.check_id, m.definition_id, b.prober_id, m.scheduled_at
            ) AS slot
            GROUP BY slot.check_id, slot.definition_id
        ) AS s
        WHERE NOT d.rolled
    ),
    spans AS (
        SELECT w.check_id, d.day, coalesce(s.first_at, w.first_at) AS anchor,
               coalesce(f.interval_us, w.interval_us) AS interval_us,
               greatest(w.first_at, d.day_start,
                        CASE WHEN row_number() OVER by_definition > 1 THEN s.first_at END) AS span_start,
               least(w.due_until, d.day_end, lead(s.first_at) OVER by_definition) AS span_end,
               s.slots_known, s.measurements_up, s.measurements_down, s.measurements_unknown
        FROM watched AS w
        JOIN days AS d ON d.day_end > w.first_at AND (d.day_start <= w.last_at OR d.day_start < w.due_until)
        LEFT JOIN seen AS s ON s.check_id = w.check_id AND s.day = d.day
        LEFT JOIN monmon_check_definition AS f ON f.id = s.definition_id
        WINDOW by_definition AS (PARTITION BY w.check_id, d.day ORDER BY s.first_at)
    ),
    due AS (
        SELECT s.*,
               greatest(0, ceil(extract(epoch FROM s.span_end - s.anchor) * 1000000 / s.interval_us)
                         - ceil(extract(epoch FROM s.span_start - s.anchor) * 1000000 / s.interval_us))::bigint
                   AS slots_due
        FROM spans AS s
    ),
    summed AS (
        SELECT check_id, day,
               greatest(sum(slots_due), coalesce(sum(slots_known), 0))::bigint AS slots_due,
               coalesce(sum(slots_known), 0)::bigint AS slots_known,
               coalesce(sum(measurements_up), 0)::bigint AS measurements_up,
               coalesce(sum(measurements_down), 0)::bigint AS measurements_down,
               coalesce(sum(measurements_unknown), 0)::bigint AS measurements_unknown
        FROM due
        GROUP BY check_id, day
    )
    SELECT w.check_id, w.pipeline, w.source, w.name, s.day,
           s.measurements_up::float8 / nullif(s.measurements_up + s.measurements_down, 0) AS uptime,
           s.slots_known::float8 / nullif(s.slots_due, 0) AS coverage,
           s.slots_due, s.slots_known, s.measurements_up, s.measurements_down, s.measurements_unknown
    FROM summed AS s
    JOIN watched AS w ON w.check_id = s.check_id;

    CREATE FUNCTION monmon_uptime(from_day date, to_day date)
    RETURNS TABLE (check_id uuid, pipeline text, source text, name text, uptime double precision,
                   coverage double precision, slots_due bigint, slots_known bigint, measurements_up bigint,
                   measurements_down bigint, measurements_unknown bigint)
    LANGUAGE sql STABLE
    SET jit = off
    AS $function$
        SELECT u.check_id, u.pipeline, u.source, u.name,
               sum(u.measurements_up)::float8 / nullif(sum(u.measurements_up) + sum(u.measurements_down), 0)::float8,
               sum(u.slots_known)::float8 / nullif(sum(u.slots_due), 0)::float8, sum(u.slots_due)::bigint,
               sum(u.slots_known)::bigint, sum(u.measurements_up)::bigint, sum(u.measurements_down)::bigint,
               sum(u.measurements_unknown)::bigint
        FROM monmon_uptime_day AS u
        WHERE u.day >= from_day AND u.day < to_day
        GROUP BY u.check_id, u.pipeline, u.source, u.name
    $function$;
    COMMENT ON FUNCTION monmon_uptime(date, date) IS
        'Uptime and coverage of each check over the UTC days from the first up to, not including, the last; columns as in monmon_uptime_day.';

    CREATE VIEW monmon_uptime_month AS
    SELECT check_id, pipeline, source, name, date_trunc('month', day::timestamp)::date AS month,
           sum(measurements_up)::float8 / nullif(sum(measurements_up) + sum(measurements_down), 0)::float8 AS uptime,
           sum(slots_known)::float8 / nullif(sum(slots_due), 0)::float8 AS coverage,
           sum(slots_due)::bigint AS slots_due, sum(slots_known)::bigint AS slots_known,
           sum(measurements_up)::bigint AS measurements_up, sum(measurements_down)::bigint AS measurements_down,
           sum(measurements_unknown)::bigint AS measurements_unknown
    FROM monmon_uptime_day
    GROUP BY check_id, pipeline, source, name, date_trunc('month', day::timestamp);
    COMMENT ON VIEW monmon_uptime_month IS 'monmon_uptime_day by UTC month. For one month or any other range monmon_uptime(from_day, to_day) is quicker: it reads those days alone.';
    COMMENT ON COLUMN monmon_uptime_month.check_id IS 'The check: monmon_check.id.';
    COMMENT ON COLUMN monmon_uptime_month.pipeline IS 'Name of the pipeline that declares the check.';
    COMMENT ON COLUMN monmon_uptime_month.source IS 'Name of the source stage that declares the check.';
    COMMENT ON COLUMN monmon_uptime_month.name IS 'The check''s name.';
    COMMENT ON COLUMN monmon_uptime_month.month IS 'The first day of the month.';
    COMMENT ON COLUMN monmon_uptime_month.uptime IS 'Share of the known measurements that were up or degraded, 0 to 1; to be read with the coverage.';
    COMMENT ON COLUMN monmon_uptime_month.coverage IS 'Share of the slots due that have a known outcome, 0 to 1.';
    COMMENT ON COLUMN monmon_uptime_month.slots_due IS 'Slots that were due.';
    COMMENT ON COLUMN monmon_uptime_month.slots_known IS 'Slots with a known outcome from at least one prober.';
    COMMENT ON COLUMN monmon_uptime_month.measurements_up IS 'Measurements that were up or degraded; the last attempt of each prober and slot.';
    COMMENT ON COLUMN monmon_uptime_month.measurements_down IS 'Measurements that were down, counted alike.';
    COMMENT ON COLUMN monmon_uptime_month.measurements_unknown IS 'Measurements in which the prober could not tell, counted alike.';

    FOR part IN
        SELECT * FROM (VALUES ('monmon_latency_hour', 'monmon_rollup_hour', 'hour'),
                              ('monmon_latency_day', 'monmon_rollup_day', 'day'))
            AS t (name, kept, unit)
    LOOP
        EXECUTE format($outer$
            CREATE VIEW %1$I AS
            SELECT r.check_id, c.pipeline, c.source, c.name, r.prober_id, r.start_at, r.measurements, r.timed,
                   r.total_sum_us::float8 / nullif(r.timed, 0) AS mean_us, r.total_min_us AS min_us,
                   r.total_max_us AS max_us,
                   monmon_histogram_quantile(r.histogram, 0.5) AS p50_us,
                   monmon_histogram_quantile(r.histogram, 0.9) AS p90_us,
                   monmon_histogram_quantile(r.histogram, 0.95) AS p95_us,
                   monmon_histogram_quantile(r.histogram, 0.99) AS p99_us,
                   r.dns_sum_us::float8 / nullif(r.timed, 0) AS dns_mean_us,
                   r.connect_sum_us::float8 / nullif(r.timed, 0) AS connect_mean_us,
                   r.tls_sum_us::float8 / nullif(r.timed, 0) AS tls_mean_us,
                   r.wait_sum_us::float8 / nullif(r.timed, 0) AS wait_mean_us,
                   r.transfer_sum_us::float8 / nullif(r.timed, 0) AS transfer_mean_us
            FROM %2$I AS r
            LEFT JOIN monmon_check AS c ON c.id = r.check_id
            $outer$, part.name, part.kept);
        EXECUTE format('COMMENT ON VIEW %I IS %L', part.name, 'How long the exchanges of each check took, by UTC ' || part.unit || ' and prober: those that came to their end. Quantiles are within 3.2 %.');
        EXECUTE format('COMMENT ON COLUMN %I.check_id IS %L', part.name, 'The check: monmon_check.id.');
        EXECUTE format('COMMENT ON COLUMN %I.pipeline IS %L', part.name, 'Name of the pipeline that declares the check.');
        EXECUTE format('COMMENT ON COLUMN %I.source IS %L', part.name, 'Name of the source stage that declares the check.');
        EXECUTE format('COMMENT ON COLUMN %I.name IS %L', part.name, 'The check''s name.');
        EXECUTE format('COMMENT ON COLUMN %I.prober_id IS %L', part.name, 'The prober: monmon_prober.id.');
        EXECUTE format('COMMENT ON COLUMN %I.start_at IS %L', part.name, 'When the ' || part.unit || ' begins.');
        EXECUTE format('COMMENT ON COLUMN %I.measurements IS %L', part.name, 'Measurements, all attempts counted.');
        EXECUTE format('COMMENT ON COLUMN %I.timed IS %L', part.name, 'Those whose exchange came to its end.');
        EXECUTE format('COMMENT ON COLUMN %I.mean_us IS %L', part.name, 'Mean of the total times, in microseconds.');
        EXECUTE format('COMMENT ON COLUMN %I.min_us IS %L', part.name, 'The shortest total time.');
        EXECUTE format('COMMENT ON COLUMN %I.max_us IS %L', part.name, 'The longest total time.');
        FOREACH phase IN ARRAY ARRAY['50', '90', '95', '99'] LOOP
            EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', part.name, 'p' || phase || '_us', phase || ' % took at most this, within 3.2 %.');
        END LOOP;
        FOREACH phase IN ARRAY ARRAY['dns', 'connect', 'tls', 'wait', 'transfer'] LOOP
            EXECUTE format('COMMENT ON COLUMN %I.%I IS %L', part.name, phase || '_mean_us', 'Mean time of the phase; the phases'' means add up to that of the total.');
        END LOOP;
    END LOOP;

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000009', 9, 'rollups');
END
$migration$;
