WITH kafka AS (SELECT DISTINCT (value ->> 'id')::uuid AS id FROM demo_kafka)
SELECT (SELECT count(*) FROM demo_kafka) AS kafka_messages,
       (SELECT count(*) FROM kafka) AS kafka_ids,
       (SELECT count(*) FROM monmon_measurement) AS stored_rows,
       (SELECT count(*) FROM kafka WHERE id NOT IN (SELECT id FROM monmon_measurement)) AS missing,
       (SELECT count(*) FROM monmon_measurement WHERE id NOT IN (SELECT id FROM kafka)) AS not_from_kafka,
       (SELECT count(*) - count(DISTINCT id) FROM monmon_measurement) AS doubled
