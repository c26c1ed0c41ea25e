-- Quote and delimiter are bytes that JSON never holds unescaped: each line comes in as it is.
SET client_min_messages = warning;
DROP TABLE IF EXISTS demo_kafka;
CREATE TABLE demo_kafka (value jsonb NOT NULL);
\copy demo_kafka FROM '@FILE@' WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')
