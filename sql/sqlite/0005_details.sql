-- What is told of few measurements only, the rest of a certificate chain, and when a check is due that has no interval; the
-- same columns and view as in sql/postgres/0006_details.sql. A second run fails at the first column, and changes nothing.

BEGIN IMMEDIATE;

ALTER TABLE monmon_measurement ADD COLUMN body_wire_bytes INTEGER;
ALTER TABLE monmon_measurement ADD COLUMN details TEXT;
ALTER TABLE monmon_check ADD COLUMN schedule TEXT;
ALTER TABLE monmon_check_definition ADD COLUMN schedule TEXT;
ALTER TABLE monmon_tls ADD COLUMN certificate_sha256 TEXT;
ALTER TABLE monmon_tls ADD COLUMN chain TEXT;

CREATE VIEW monmon_certificate AS
SELECT c.id AS check_id, c.pipeline, c.source, c.name, m.id AS measurement_id, m.scheduled_at, t.verified,
       t.certificate_subject AS subject, t.certificate_issuer AS issuer, t.certificate_not_before AS not_before,
       t.certificate_not_after AS not_after,
       (unixepoch(substr(t.certificate_not_after, 1, 19)) - unixepoch('now')) / 86400.0 AS days_left,
       t.certificate_sha256 AS sha256
FROM monmon_check AS c
JOIN monmon_measurement AS m ON m.id = (
    SELECT newest.id FROM monmon_measurement AS newest
    WHERE newest.check_id = c.id AND newest.tls_id IS NOT NULL ORDER BY newest.id DESC LIMIT 1
)
JOIN monmon_tls AS t ON t.id = m.tls_id
WHERE t.certificate_not_after IS NOT NULL;

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-000000000005', 5, 'details');

COMMIT;
