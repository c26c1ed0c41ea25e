-- Incidents: a check's passage from up to down and back, as a detector decided.

DO $migration$
BEGIN
    PERFORM pg_advisory_xact_lock(120325361463150);
    IF EXISTS (SELECT FROM monmon_schema_version WHERE version = 11) THEN
        RETURN;
    END IF;

    CREATE TABLE monmon_incident (
        id            uuid PRIMARY KEY,
        check_id      uuid NOT NULL,
        suppressed_by uuid,
        began_at      timestamptz NOT NULL,
        opened_at     timestamptz NOT NULL,
        last_bad_at   timestamptz NOT NULL,
        recovered_at  timestamptz,
        closed_at     timestamptz,
        revision      integer NOT NULL,
        flapping      boolean NOT NULL DEFAULT false,
        pipeline      text NOT NULL,
        detector      text NOT NULL,
        reason        text NOT NULL,
        probers       jsonb NOT NULL DEFAULT '[]'
    );
    COMMENT ON TABLE monmon_incident IS 'A check''s passage from up to down and back, as a detector decided: one row for each, changed as more is told of it, never after it was closed.';
    COMMENT ON COLUMN monmon_incident.id IS 'UUIDv7: the time of the first bad slot, and a hash of detector, check and that slot: who decides the same again meets the same row.';
    COMMENT ON COLUMN monmon_incident.check_id IS 'The check: monmon_check.id.';
    COMMENT ON COLUMN monmon_incident.suppressed_by IS 'A check that this one depends on was down, so that nobody need be told: monmon_check.id.';
    COMMENT ON COLUMN monmon_incident.began_at IS 'The first bad slot.';
    COMMENT ON COLUMN monmon_incident.opened_at IS 'The slot that made it an incident.';
    COMMENT ON COLUMN monmon_incident.last_bad_at IS 'The newest bad slot when the row was last changed.';
    COMMENT ON COLUMN monmon_incident.recovered_at IS 'The first good slot after the last bad one; null while it is open.';
    COMMENT ON COLUMN monmon_incident.closed_at IS 'The slot that ended it; null while it is open.';
    COMMENT ON COLUMN monmon_incident.revision IS 'Counts what was told of the incident, from 1. A lower one never replaces a higher one.';
    COMMENT ON COLUMN monmon_incident.flapping IS 'The check came and went so often that the incident was kept open until it was calm.';
    COMMENT ON COLUMN monmon_incident.pipeline IS 'Name of the pipeline in which the detector stands.';
    COMMENT ON COLUMN monmon_incident.detector IS 'Name of the detector''s stage.';
    COMMENT ON COLUMN monmon_incident.reason IS 'Why the check was found down, in words.';
    COMMENT ON COLUMN monmon_incident.probers IS 'Names of the probers that found it down: a list of texts.';
    CREATE INDEX monmon_incident_check ON monmon_incident (check_id, id);
    CREATE INDEX monmon_incident_open ON monmon_incident (id) WHERE closed_at IS NULL;

    INSERT INTO monmon_schema_version (id, version, name)
    VALUES ('6d6f6e6d-6f6e-8000-8000-00000000000b', 11, 'incidents');
END
$migration$;
