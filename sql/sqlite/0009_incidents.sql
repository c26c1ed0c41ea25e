-- Incidents: a check's passage from up to down and back, as a detector decided; the same columns as in
-- sql/postgres/0011_incidents.sql, which tells what they mean. A second run changes nothing.

BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS monmon_incident (
    id            TEXT NOT NULL PRIMARY KEY,
    check_id      TEXT NOT NULL,
    suppressed_by TEXT,
    began_at      TEXT NOT NULL,
    opened_at     TEXT NOT NULL,
    last_bad_at   TEXT NOT NULL,
    recovered_at  TEXT,
    closed_at     TEXT,
    revision      INTEGER NOT NULL,
    flapping      INTEGER NOT NULL DEFAULT 0,
    pipeline      TEXT NOT NULL,
    detector      TEXT NOT NULL,
    reason        TEXT NOT NULL,
    probers       TEXT NOT NULL DEFAULT '[]'
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS monmon_incident_check ON monmon_incident (check_id, id);
CREATE INDEX IF NOT EXISTS monmon_incident_open ON monmon_incident (id) WHERE closed_at IS NULL;

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-000000000009', 9, 'incidents');

COMMIT;
