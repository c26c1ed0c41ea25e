-- The tables of monmon in SQLite: the same as in PostgreSQL, and read by the same queries where SQLite has the words.
-- Run by the sqlite sink itself, by `monmon db migrate`, or: sqlite3 FILE < sql/sqlite/0001_tables.sql
-- Running it again changes nothing.
--
-- How the types of PostgreSQL are written here:
--   uuid         TEXT, lower case with hyphens. As BLOB a row with its indexes would take 260 bytes in place of 380, but
--                the shell shows a BLOB as noise, it has to be typed as x'..', and an export no longer joins with
--                anything else. Text sorts as the UUID does, so ranges of ids are ranges of time here too.
--   timestamptz  TEXT, UTC, always with six digits: 2026-11-23T12:00:07.250000Z. So texts sort as instants do.
--   jsonb        TEXT, JSON
--   boolean      INTEGER, 0 or 1
--   bytea        BLOB
-- Meaning of tables and columns, and how ids are made of content: the comments in sql/postgres/0001_tables.sql; the columns bear the same names.
--
-- Tables of many rows are WITHOUT ROWID: rows lie in the order of their ids, which is that of time, and the primary key
-- costs no second copy of them. STRICT holds every column to its type.

BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS monmon_schema_version (
    id         TEXT NOT NULL PRIMARY KEY,
    version    INTEGER NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
) STRICT;

CREATE TABLE IF NOT EXISTS monmon_prober (      -- who makes measurements
    id            TEXT NOT NULL PRIMARY KEY,    -- made by the prober at its first start and kept
    name          TEXT NOT NULL,
    location      TEXT,
    first_seen_at TEXT NOT NULL                 -- slot of the first measurement stored of it
) STRICT;

CREATE TABLE IF NOT EXISTS monmon_boot (        -- one life of one source of a prober
    id            TEXT NOT NULL PRIMARY KEY,
    prober_id     TEXT NOT NULL,                -- monmon_prober.id
    first_seen_at TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS monmon_check (       -- what is checked, as it was last defined
    id            TEXT NOT NULL PRIMARY KEY,
    pipeline      TEXT NOT NULL,
    source        TEXT NOT NULL,
    name          TEXT NOT NULL,
    definition_id TEXT NOT NULL,                -- monmon_check_definition.id
    method        TEXT NOT NULL,
    url           TEXT NOT NULL,
    interval_us   INTEGER NOT NULL CHECK (interval_us > 0),
    timeout_us    INTEGER NOT NULL,
    labels        TEXT NOT NULL DEFAULT '{}',
    defined_at    TEXT NOT NULL                 -- slot of a measurement that brought it; an older one does not replace it
) STRICT;

CREATE TABLE IF NOT EXISTS monmon_check_definition (  -- every definition that a check ever had
    id            TEXT NOT NULL PRIMARY KEY,    -- UUIDv5 of the check and all that defines it
    check_id      TEXT NOT NULL,
    pipeline      TEXT NOT NULL,
    source        TEXT NOT NULL,
    name          TEXT NOT NULL,
    method        TEXT NOT NULL,
    url           TEXT NOT NULL,
    interval_us   INTEGER NOT NULL CHECK (interval_us > 0),
    timeout_us    INTEGER NOT NULL,
    labels        TEXT NOT NULL DEFAULT '{}',
    first_seen_at TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS monmon_check_definition_check ON monmon_check_definition (check_id, first_seen_at);

CREATE TABLE IF NOT EXISTS monmon_tls (         -- what TLS handshakes agreed on, each set of facts once
    id                     TEXT NOT NULL PRIMARY KEY,   -- UUIDv5 of the other columns
    version                TEXT,
    cipher                 TEXT,
    verified               INTEGER,
    certificate_subject    TEXT,
    certificate_issuer     TEXT,
    certificate_not_before TEXT,
    certificate_not_after  TEXT
) STRICT;

CREATE TABLE IF NOT EXISTS monmon_measurement ( -- the result of checking once; immutable
    id             TEXT NOT NULL PRIMARY KEY,   -- UUIDv7 of the slot; the first that is stored under it stays
    check_id       TEXT NOT NULL,               -- monmon_check.id
    definition_id  TEXT NOT NULL,               -- monmon_check_definition.id
    boot_id        TEXT NOT NULL,               -- monmon_boot.id
    scheduled_at   TEXT NOT NULL,               -- the slot
    started_at     TEXT,
    seq            INTEGER NOT NULL,
    body_bytes     INTEGER,
    total_us       INTEGER NOT NULL,
    dns_us         INTEGER,
    connect_us     INTEGER,
    tls_us         INTEGER,
    wait_us        INTEGER,
    transfer_us    INTEGER,
    attempt        INTEGER NOT NULL,
    status         INTEGER,
    body_truncated INTEGER NOT NULL DEFAULT 0,
    outcome        TEXT NOT NULL CHECK (outcome IN ('up', 'degraded', 'down', 'unknown')),
    http_version   TEXT,
    remote_addr    TEXT,
    tls_id         TEXT,                        -- monmon_tls.id
    method         TEXT,                        -- null: the definition's
    url            TEXT,                        -- null: the definition's
    reason_kind    TEXT,
    reason_name    TEXT,
    reason_message TEXT,                        -- null: as error_message
    error_kind     TEXT,
    error_phase    TEXT,
    error_message  TEXT,
    redirects      TEXT
) STRICT, WITHOUT ROWID;
-- The primary key stands behind every index entry of such a table: this is (check_id, id).
CREATE INDEX IF NOT EXISTS monmon_measurement_check ON monmon_measurement (check_id, id);

CREATE TABLE IF NOT EXISTS monmon_match (       -- what one matcher said of one measurement's page
    id             TEXT NOT NULL PRIMARY KEY,   -- UUIDv7 of the slot
    measurement_id TEXT NOT NULL,               -- monmon_measurement.id
    name           TEXT NOT NULL,
    stage          TEXT NOT NULL,
    kind           TEXT NOT NULL,
    status         TEXT NOT NULL CHECK (status IN ('passed', 'failed', 'error')),
    found          INTEGER,
    message        TEXT,
    "values"       TEXT                         -- named captures, a JSON object; null when there are none
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS monmon_match_measurement ON monmon_match (measurement_id);

CREATE TABLE IF NOT EXISTS monmon_dead_letter ( -- what could not be read or stored, whole
    id              TEXT NOT NULL PRIMARY KEY,
    reason          TEXT NOT NULL,
    message         TEXT NOT NULL,
    pipeline        TEXT NOT NULL,
    source          TEXT NOT NULL,
    topic           TEXT,
    kafka_partition INTEGER,
    kafka_offset    INTEGER,
    occurred_at     TEXT NOT NULL,
    key             BLOB,
    bytes           BLOB NOT NULL,
    stored_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
) STRICT;

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-000000000001', 1, 'tables');

COMMIT;
