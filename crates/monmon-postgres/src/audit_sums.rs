//! What a report needs of days of which measurements have gone: what they came to before.

use std::pin::pin;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use monmon_model::{AuditReader, AuditSum, AuditTimes, Histogram};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// Days that lie in the window, and one before and behind it, by which a check is known to have been there; and hours of the two days at its ends.
const LEVELS: [(&str, i64, &str); 2] = [
    ("day", DAY_US, "true"),
    ("hour", HOUR_US, "c.day IN (($1 AT TIME ZONE 'UTC')::date, ($2 AT TIME ZONE 'UTC')::date)"),
];

fn gone(table: &str, condition: &str) -> String {
    format!(
        "FROM monmon_rollup_checked AS c JOIN {table} AS r ON r.id >= c.id \
             AND r.id < monmon_uuid_floor((c.day + 1)::timestamp AT TIME ZONE 'UTC') \
         WHERE c.sealed_at IS NOT NULL AND c.day >= ($1 AT TIME ZONE 'UTC')::date - 1 \
             AND c.day <= ($2 AT TIME ZONE 'UTC')::date + 1 AND {condition}"
    )
}

pub(crate) async fn sums(
    client: &Client,
    bounds: (Timestamp, Timestamp),
    reader: &mut (dyn AuditReader + Send),
) -> Result<(), Error> {
    let bounds: [(&(dyn ToSql + Sync), Type); 2] =
        [(&bounds.0, Type::TIMESTAMPTZ), (&bounds.1, Type::TIMESTAMPTZ)];
    for (level, width_us, condition) in LEVELS {
        let sql = format!(
            "SELECT r.check_id, r.definition_id, r.start_at, r.first_at, r.last_at, r.slots_known, r.measurements_up, \
                 r.measurements_down {}",
            gone(&format!("monmon_rollup_check_{level}"), condition)
        );
        let mut rows = pin!(client.query_typed_raw(&sql, bounds.clone()).await?);
        while let Some(row) = rows.try_next().await? {
            let micros = |column| row.try_get::<_, Timestamp>(column).map(Timestamp::as_microsecond);
            let count = |column| row.try_get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
            reader.sum(&AuditSum {
                check_id: row.try_get(0)?,
                definition_id: row.try_get(1)?,
                start_us: micros(2)?,
                width_us,
                first_us: micros(3)?,
                last_us: micros(4)?,
                slots_known: count(5)?,
                up: count(6)?,
                down: count(7)?,
            });
        }
        let sql = format!(
            "SELECT r.check_id, r.prober_id, r.start_at, r.histogram {}",
            gone(&format!("monmon_rollup_{level}"), condition)
        );
        let mut rows = pin!(client.query_typed_raw(&sql, bounds.clone()).await?);
        while let Some(row) = rows.try_next().await? {
            reader.times(&AuditTimes {
                check_id: row.try_get(0)?,
                prober_id: row.try_get(1)?,
                start_us: row.try_get::<_, Timestamp>(2)?.as_microsecond(),
                width_us,
                histogram: Histogram::unpacked(row.try_get::<_, Vec<i32>>(3)?),
            });
        }
    }
    Ok(())
}
