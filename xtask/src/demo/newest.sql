SELECT to_char(m.scheduled_at, 'HH24:MI:SS') AS due, c.name AS "check", m.outcome,
       m.error_kind AS kind, m.status, m.total_us AS us, left(m.reason, 60) AS reason,
       (SELECT left(string_agg(x.name || '=' || x.values::text, ' '), 60)
          FROM monmon_match x WHERE x.measurement_id = m.id) AS matches
  FROM monmon_measurement m
  JOIN monmon_check c ON c.id = m.check_id
 ORDER BY m.id DESC
 LIMIT 8
