-- What probers say of themselves, each minute and at an orderly end: which measurements they have numbered, and up to when
-- no slot was left out. `monmon audit` holds it against the rows.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 8) THEN
        RETURN;
    END IF;

    CREATE TABLE monmon_receipt (
        id          uuid PRIMARY KEY,
        boot_id     uuid NOT NULL,
        at          timestamptz NOT NULL,
        began_at    timestamptz NOT NULL,
        slots_from  timestamptz NOT NULL,
        slots_until timestamptz NOT NULL,
        first_seq   bigint NOT NULL,
        last_seq    bigint NOT NULL,
        failed      bigint NOT NULL,
        ids_xor     uuid NOT NULL,
        pipeline    text NOT NULL,
        source      text NOT NULL,
        last        boolean NOT NULL
    );
    COMMENT ON TABLE monmon_receipt IS 'What a source says it has done since its last receipt, told once all of it was delivered. Held against the rows it proves that none is missing. One a minute and source: half a million a year.';
    COMMENT ON COLUMN monmon_receipt.id IS 'UUIDv7 of the receipt''s time and a hash of boot and numbers: told again it is the same row.';
    COMMENT ON COLUMN monmon_receipt.boot_id IS 'Which life of which prober: monmon_boot.id.';
    COMMENT ON COLUMN monmon_receipt.at IS 'When it was given, by the prober''s clock.';
    COMMENT ON COLUMN monmon_receipt.began_at IS 'When the boot began: slots of checks that are new in it are its own from here on.';
    COMMENT ON COLUMN monmon_receipt.slots_from IS 'Slots of checks that the boot before had too are this boot''s from here on.';
    COMMENT ON COLUMN monmon_receipt.slots_until IS 'Every slot from there up to here has its measurements among the numbers up to last_seq. Nothing was on a schedule where it is began_at.';
    COMMENT ON COLUMN monmon_receipt.first_seq IS 'The first number that the receipt is about; last_seq + 1 where nothing was numbered.';
    COMMENT ON COLUMN monmon_receipt.last_seq IS 'The last one. first_seq of the boot''s next receipt is the number after it.';
    COMMENT ON COLUMN monmon_receipt.failed IS 'Of these measurements, how many a sink gave up. They may be stored all the same.';
    COMMENT ON COLUMN monmon_receipt.ids_xor IS 'The ids of these measurements, one XORed with the other.';
    COMMENT ON COLUMN monmon_receipt.pipeline IS 'Name of the pipeline that declares the source.';
    COMMENT ON COLUMN monmon_receipt.source IS 'Name of the source stage.';
    COMMENT ON COLUMN monmon_receipt.last IS 'No receipt of this boot follows: it came to an orderly end.';

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-000000000008', 8, 'receipts');
END
$migration$;
