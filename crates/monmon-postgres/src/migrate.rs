//! The numbered files of `sql/postgres/`, applied in order.

use tokio_postgres::Client;

use crate::connect::connect;
use crate::error::StoreError;
use crate::target::Target;

struct Migration {
    version: i32,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal $file:literal)*) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../../../sql/postgres/", $file)),
        },)*]
    };
}

const MIGRATIONS: &[Migration] = migrations! {
    1 "tables" "0001_tables.sql"
    2 "functions" "0002_functions.sql"
    3 "views" "0003_views.sql"
    4 "uptime" "0004_uptime.sql"
    5 "metrics" "0005_metrics.sql"
    6 "details" "0006_details.sql"
    7 "batches" "0007_batches.sql"
    8 "receipts" "0008_receipts.sql"
    9 "rollups" "0009_rollups.sql"
    10 "retention" "0010_retention.sql"
    11 "incidents" "0011_incidents.sql"
    12 "contexts" "0012_contexts.sql"
    13 "uptime" "0013_uptime.sql"
    14 "upkeep" "0014_upkeep.sql"
    15 "heal" "0015_heal.sql"
};

/// A migration that was applied by this call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub version: i32,
    pub name: &'static str,
}

/// Brings the schema up to date; empty when it was. Any number of callers at once: they wait for each other.
pub async fn migrate(target: &Target) -> Result<Vec<Applied>, StoreError> {
    let connection = connect(target).await?;
    let mut applied = Vec::new();
    for migration in MIGRATIONS {
        if apply(&connection.client, migration, target).await? {
            applied.push(Applied { version: migration.version, name: migration.name });
        }
    }
    Ok(applied)
}

/// One file, which is one transaction. Whether it was applied by this call: the lock, which the file takes as well, makes
/// sure of that.
async fn apply(client: &Client, migration: &Migration, target: &Target) -> Result<bool, StoreError> {
    let sort = |error| StoreError::sort(&error, target.place());
    let begin = "BEGIN; SET LOCAL lock_timeout = '1min'; SELECT pg_advisory_xact_lock(120325361463150)";
    client.batch_execute(begin).await.map_err(sort)?;
    let before = schema_version(client, target).await?;
    let needed = before.is_none_or(|version| version < migration.version);
    if needed {
        client.batch_execute(migration.sql).await.map_err(sort)?;
    }
    client.batch_execute("COMMIT").await.map_err(sort)?;
    Ok(needed)
}

/// The schema must be at least as new as this program. A newer one is fine to write to: columns are only ever added, and none
/// of those that an older program fills goes. What a newer program has put elsewhere an older one can't read back.
pub(crate) async fn check_schema(client: &Client, target: &Target) -> Result<(), StoreError> {
    let needed = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    match schema_version(client, target).await? {
        Some(version) if version >= needed => Ok(()),
        Some(version) => Err(StoreError::Schema(format!("version {version}, needed is {needed}"))),
        None => Err(StoreError::Schema(format!("no tables, needed is version {needed}"))),
    }
}

/// The version of the tables; of a database in which they are of no use it is an error.
async fn schema_version(client: &Client, target: &Target) -> Result<Option<i32>, StoreError> {
    let sort = |error| StoreError::sort(&error, target.place());
    let asked =
        "SELECT to_regclass('monmon_schema_version') IS NOT NULL, current_setting('server_encoding')::text";
    let row = client.query_typed_one(asked, &[]).await.map_err(sort)?;
    let encoding: String = row.get(1);
    if encoding != "UTF8" {
        return Err(StoreError::Encoding { place: target.place().to_owned(), encoding });
    }
    if !row.get::<_, bool>(0) {
        return Ok(None);
    }
    let row =
        client.query_typed_one("SELECT max(version) FROM monmon_schema_version", &[]).await.map_err(sort)?;
    Ok(row.get(0))
}
