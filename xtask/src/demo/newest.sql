SELECT to_char(m.scheduled_at, 'HH24:MI:SS') AS due, c.name AS "check", m.outcome,
       m.error_kind AS error, m.error_phase AS phase, m.status, m.total_us,
       left(coalesce(m.reason_message, m.error_message), 50) AS reason,
       (SELECT left(string_agg(x.name || ' ' || coalesce(x."values"::text, x.status), ', ' ORDER BY x.name), 60)
          FROM monmon_match_full x
         WHERE x.measurement_id = m.id AND x.id >= monmon_uuid_floor(m.scheduled_at)
           AND x.id < monmon_uuid_floor(m.scheduled_at + interval '1 millisecond')) AS matches
  FROM monmon_measurement m
  JOIN monmon_check c ON c.id = m.check_id
 ORDER BY m.id DESC
 LIMIT 8
