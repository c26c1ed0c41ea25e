-- What each sink with `retention` keeps for how long: of all that were seen lately the longest times count. The same table
-- as in sql/postgres/0014_upkeep.sql. Running it again changes nothing.

BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS monmon_retention_policy (
    id       TEXT NOT NULL PRIMARY KEY,     -- UUIDv8, a hash of pipeline and stage
    pipeline TEXT NOT NULL,
    stage    TEXT NOT NULL,
    policy   TEXT NOT NULL,                 -- JSON
    seen_at  TEXT NOT NULL                  -- a week later it no longer counts
) STRICT, WITHOUT ROWID;

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-00000000000a', 10, 'upkeep');

COMMIT;
