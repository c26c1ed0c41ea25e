-- A spool: what waits in front of a sink whose server can't be reached. docs/spool.md tells of it.

-- In the order of their positions; a row is deleted when the sink has delivered it.
CREATE TABLE monmon_spool_item (
    position INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,    -- 0: a message in the wire format; 1: a rejected message
    at INTEGER NOT NULL,      -- its slot, or its own time; microseconds since 1970
    body BLOB NOT NULL,
    origin TEXT,              -- where it was read, as JSON
    checksum INTEGER NOT NULL -- CRC-32 of all of the above
);

-- What the sink has refused so often that it does not stand in the way any longer.
CREATE TABLE monmon_spool_refused (
    position INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    at INTEGER NOT NULL,
    body BLOB NOT NULL,
    origin TEXT,
    checksum INTEGER NOT NULL
);

-- What the bound made the spool drop, by check.
CREATE TABLE monmon_spool_dropped (
    pipeline TEXT NOT NULL,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    PRIMARY KEY (pipeline, source, name)
) WITHOUT ROWID;

-- Damaged files that were put aside.
CREATE TABLE monmon_spool_quarantine (
    file TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    kept INTEGER NOT NULL,
    lost INTEGER             -- unknown where the damaged file could not tell how many it had
) WITHOUT ROWID;

-- One row: what counting would take too long for.
CREATE TABLE monmon_spool_total (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    items INTEGER NOT NULL,
    last_position INTEGER NOT NULL,
    bytes_max INTEGER NOT NULL
);
INSERT INTO monmon_spool_total VALUES (1, 0, 0, 0);
