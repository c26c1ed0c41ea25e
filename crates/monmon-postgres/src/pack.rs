//! Indexes of days that are over, written anew without gaps.
//!
//! Rows of many checks come in turns, so the index by check is filled in many places at once, and its pages are left half
//! full: 87 bytes a measurement, where a page that was written in order takes 45. A day that is over changes no more (a late
//! row still finds its place), so its indexes are built once more, full to the brim, while everybody reads and writes on.

use jiff::civil::Date;
use tokio_postgres::types::{ToSql, Type};

use crate::connect::connect;
use crate::error::StoreError;
use crate::migrate::check_schema;
use crate::target::Target;

/// Indexes of earlier days that were not packed yet, and what a broken attempt left behind.
const INDEXES: &str = "
    SELECT format('%I.%I', n.nspname, i.relname), x.indisvalid
    FROM pg_inherits AS h
    JOIN pg_class AS p ON p.oid = h.inhrelid
    JOIN pg_namespace AS n ON n.oid = p.relnamespace
    JOIN pg_index AS x ON x.indrelid = p.oid
    JOIN pg_class AS i ON i.oid = x.indexrelid
    WHERE h.inhparent IN ('monmon_measurement'::regclass, 'monmon_match'::regclass)
      AND right(p.relname, 8) < to_char($1::date, 'YYYYMMDD')
      AND (NOT x.indisvalid OR NOT coalesce(i.reloptions @> '{fillfactor=100}', false))
    ORDER BY p.relname, i.relname";

/// Packs the indexes of the days before this one, which should be over; gives their names. Those that were packed are left
/// alone, so it may be run as often as one likes.
pub async fn pack(target: &Target, before: Date) -> Result<Vec<String>, StoreError> {
    let connection = connect(target).await?;
    let client = &connection.client;
    check_schema(client, target).await?;
    let sort = |error| StoreError::sort(&error, target.place());
    let day: [(&(dyn ToSql + Sync), Type); 1] = [(&before, Type::DATE)];
    let mut packed = Vec::new();
    for row in client.query_typed(INDEXES, &day).await.map_err(sort)? {
        let (index, valid): (String, bool) = (row.try_get(0).map_err(sort)?, row.try_get(1).map_err(sort)?);
        if !valid {
            client.batch_execute(&format!("DROP INDEX CONCURRENTLY {index}")).await.map_err(sort)?;
            continue;
        }
        client.batch_execute(&format!("ALTER INDEX {index} SET (fillfactor = 100)")).await.map_err(sort)?;
        let rebuilt = client.batch_execute(&format!("REINDEX INDEX CONCURRENTLY {index}")).await;
        if rebuilt.is_err() {
            // The mark says that it was done.
            client.batch_execute(&format!("ALTER INDEX {index} RESET (fillfactor)")).await.map_err(sort)?;
        }
        rebuilt.map_err(sort)?;
        packed.push(index);
    }
    Ok(packed)
}
