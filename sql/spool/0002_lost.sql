-- Numbers of measurements that were acked and then dropped, or set aside, until the receipts that are about them have
-- passed. Made where it is not there, in files of before too: a monmon that does not know it leaves it alone.
CREATE TABLE IF NOT EXISTS monmon_spool_lost (
    id INTEGER PRIMARY KEY,   -- in the order in which they were lost
    boot BLOB NOT NULL,       -- which life of which prober
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL
);
