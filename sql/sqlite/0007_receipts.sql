-- What probers say of themselves; the same columns and meanings as in sql/postgres/0008_receipts.sql. Running it again
-- changes nothing.

BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS monmon_receipt (
    id          TEXT NOT NULL PRIMARY KEY,  -- UUIDv7 of its time, and a hash of boot and numbers
    boot_id     TEXT NOT NULL,              -- monmon_boot.id
    at          TEXT NOT NULL,
    began_at    TEXT NOT NULL,
    slots_from  TEXT NOT NULL,
    slots_until TEXT NOT NULL,
    first_seq   INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    failed      INTEGER NOT NULL,
    ids_xor     TEXT NOT NULL,              -- the ids of the measurements with these numbers, one XORed with the other
    pipeline    TEXT NOT NULL,
    source      TEXT NOT NULL,
    last        INTEGER NOT NULL            -- no receipt of this boot follows
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-000000000007', 7, 'receipts');

COMMIT;
