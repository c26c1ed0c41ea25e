-- A view that answers the first question; the same columns and meanings as in sql/postgres/0003_views.sql.
-- Running it again changes nothing.

BEGIN IMMEDIATE;

-- The inner look-up finds the newest id of a check by the index (check_id, id). The order of the attempts of one slot is
-- not in their ids, so the outer one takes the slot's last attempt; the first 13 characters of an id are its time.
CREATE VIEW IF NOT EXISTS monmon_check_state AS
SELECT
    c.id AS check_id,
    c.pipeline,
    c.source,
    c.name,
    c.url,
    c.labels,
    m.id AS measurement_id,
    m.scheduled_at,
    m.outcome,
    m.reason_kind,
    m.reason_name,
    coalesce(m.reason_message, m.error_message) AS reason_message,
    m.error_kind,
    m.error_phase,
    m.status,
    m.total_us,
    m.attempt,
    p.id AS prober_id,
    p.name AS prober_name,
    p.location AS prober_location
FROM monmon_check AS c
LEFT JOIN monmon_measurement AS m ON m.id = (
    SELECT slot.id
    FROM monmon_measurement AS slot
    WHERE slot.check_id = c.id
      AND slot.id >= (
          SELECT substr(newest.id, 1, 13) FROM monmon_measurement AS newest
          WHERE newest.check_id = c.id ORDER BY newest.id DESC LIMIT 1
      )
    ORDER BY slot.attempt DESC, slot.id DESC
    LIMIT 1
)
LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
LEFT JOIN monmon_prober AS p ON p.id = b.prober_id;

INSERT OR IGNORE INTO monmon_schema_version (id, version, name)
VALUES ('6d6f6e6d-6f6e-8000-8000-000000000002', 2, 'views');

COMMIT;
