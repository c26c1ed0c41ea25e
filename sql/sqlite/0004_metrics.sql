-- Numbers with units that plugins read from pages; the same column and view as in sql/postgres/0005_metrics.sql. A second
-- run fails at the column that is there already, and changes nothing.

BEGIN IMMEDIATE;

ALTER TABLE monmon_match ADD COLUMN metrics TEXT;

CREATE VIEW monmon_metric AS
SELECT m.check_id, b.prober_id, m.scheduled_at, m.id AS measurement_id, x.id AS match_id, x.stage,
       x.name AS matcher, e.key AS metric, CAST(json_extract(e.value, '$.value') AS REAL) AS value,
       coalesce(json_extract(e.value, '$.unit'), '') AS unit
FROM monmon_measurement AS m
JOIN monmon_match AS x ON x.measurement_id = m.id
LEFT JOIN monmon_boot AS b ON b.id = m.boot_id,
     json_each(x.metrics) AS e;

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-000000000004', 4, 'metrics');

COMMIT;
