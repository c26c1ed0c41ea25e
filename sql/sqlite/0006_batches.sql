-- What was read from a log of messages and stored: the same table as in sql/postgres/0007_batches.sql.

BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS monmon_batch (   -- what one transaction stored of one partition of one topic
    id           TEXT NOT NULL PRIMARY KEY, -- UUIDv7 of the time at which it was written
    stored_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')),
    first_offset INTEGER NOT NULL,
    last_offset  INTEGER NOT NULL,
    partition_id INTEGER NOT NULL,
    messages     INTEGER NOT NULL,          -- the sum of the next four
    stored       INTEGER NOT NULL,          -- new rows of monmon_measurement
    duplicates   INTEGER NOT NULL,          -- ids that were there already
    dead_letters INTEGER NOT NULL,          -- went to monmon_dead_letter
    events       INTEGER NOT NULL,          -- no measurements: receipts, incidents
    pipeline     TEXT NOT NULL,
    stage        TEXT NOT NULL,             -- name of the sink
    source       TEXT NOT NULL,             -- name of the source that read them
    topic        TEXT NOT NULL,
    offsets      TEXT,                      -- [[first, last], ...] where some between are not in the batch; else null
    CHECK (messages = stored + duplicates + dead_letters + events)
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-000000000006', 6, 'batches');

COMMIT;
