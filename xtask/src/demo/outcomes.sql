SELECT 'stored: ' || coalesce(string_agg(outcome || ' ' || count, ', ' ORDER BY outcome), 'nothing yet')
  FROM (SELECT outcome, count(*) FROM monmon_measurement GROUP BY outcome) AS of_each
