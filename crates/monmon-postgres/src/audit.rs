//! Reading the store for an audit: everything in one snapshot, in pieces, so that neither side holds much of it.

use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use monmon_model::{
    AuditBoot, AuditDefinition, AuditFacts, AuditIncident, AuditLetter, AuditOffsets, AuditProber,
    AuditReader, AuditReceipt, AuditRollup, AuditRow, AuditWindow, Outcome,
};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, RowStream};

use crate::audit_sums::sums;
use crate::connect::{Timeouts, begin, connect};
use crate::error::StoreError;
use crate::migrate::check_schema;
use crate::target::Target;

/// Ten million rows are read in less than a minute; a year may take longer.
const TIMEOUTS: Timeouts =
    Timeouts { statement: Duration::from_secs(3 * 3600), lock: Duration::from_secs(10) };

/// So that those who write have the server's other processes.
const ONE_PROCESS: &str = "SET LOCAL max_parallel_workers_per_gather = 0";

const PROBERS: &str = "SELECT id, name FROM monmon_prober";

const BOOTS: &str = "SELECT id, prober_id, first_seen_at FROM monmon_boot";

const DEFINITIONS: &str = "SELECT id, check_id, pipeline, source, name, interval_us, schedule, labels, first_seen_at \
    FROM monmon_check_definition";

const RECEIPTS: &str = "SELECT boot_id, pipeline, source, at, began_at, slots_from, slots_until, first_seq, last_seq, \
        ids_xor, failed, last \
    FROM monmon_receipt WHERE id >= monmon_uuid_floor($1) AND id < monmon_uuid_floor($2)";

const CHECKS: &str = "SELECT check_id, ended_at FROM monmon_check_span";

/// Where the oldest day that is kept begins.
const KEPT_FROM: &str = "SELECT min(monmon_uuid_time(bound)) \
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid \
    CROSS JOIN LATERAL (SELECT substring(pg_get_expr(relpartbound, pg_class.oid) FROM $$FROM \\('([^']+)'\\)$$)::uuid) AS b(bound) \
    WHERE inhparent = 'monmon_measurement'::regclass";

const ROWS: &str = "SELECT id, check_id, definition_id, boot_id, scheduled_at, seq, attempt, outcome, \
        CASE WHEN outcome = 'unknown' THEN error_kind END, \
        CASE WHEN outcome = 'unknown' AND error_phase = 'start' THEN error_message END, \
        CASE WHEN error_kind IS NULL AND outcome <> 'unknown' THEN total_us END, \
        details ->> 'maintenance' IS NOT NULL \
    FROM monmon_measurement_full WHERE id >= monmon_uuid_floor($1) AND id < monmon_uuid_floor($2)";

const LETTERS: &str = "SELECT id, reason, bytes FROM monmon_dead_letter \
    WHERE occurred_at >= $1 AND occurred_at < $2 AND octet_length(bytes) > 0";

const OFFSETS: &str = "SELECT topic, partition_id, lower(r), upper(r) - 1, pipeline, source, stored_at \
    FROM monmon_batch \
    CROSS JOIN LATERAL unnest(coalesce(offsets, int8multirange(int8range(first_offset, last_offset, '[]')))) AS r \
    WHERE id >= monmon_uuid_floor($1) AND id < monmon_uuid_floor($2) \
    ORDER BY topic, partition_id, lower(r)";

const PARTITIONS: &str = "SELECT topic, partition_id, max(last_offset) FROM monmon_batch GROUP BY 1, 2";

/// What a later schema has: days of which retention has dropped measurements, and sums to hold against the rows.
const IS_THERE: &str = "SELECT to_regclass('monmon_rollup_checked') IS NOT NULL, \
    to_regprocedure('monmon_rollup_check(date, date)') IS NOT NULL, to_regclass('monmon_incident') IS NOT NULL";

const DROPPED: &str = "SELECT day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC' \
    FROM monmon_rollup_checked WHERE sealed_at IS NOT NULL";

/// What nobody was told of, because another check that it depends on was down, is no incident of its own.
const INCIDENTS: &str = "SELECT check_id, began_at, coalesce(recovered_at, closed_at), reason FROM monmon_incident \
    WHERE suppressed_by IS NULL AND began_at < $2 AND coalesce(recovered_at, closed_at, $2) >= $1 \
    ORDER BY began_at, id";

/// Days that lie whole in the window. What has come late is no fault.
const ROLLUPS: &str = "SELECT r.level, r.check_id, r.start_at, r.difference \
    FROM (SELECT greatest($1, (SELECT monmon_uuid_time(id) FROM monmon_measurement ORDER BY id LIMIT 1)) AS first_at, \
                 least($2, (SELECT monmon_uuid_time(id) FROM monmon_measurement ORDER BY id DESC LIMIT 1)) AS last_at) AS w \
    CROSS JOIN LATERAL monmon_rollup_check((w.first_at AT TIME ZONE 'UTC')::date, (w.last_at AT TIME ZONE 'UTC')::date + 1) AS r \
    WHERE w.first_at < w.last_at AND r.level <> 'late'";

/// Gives the reader all that is stored of a window's slots.
pub async fn audit(
    target: &Target,
    window: AuditWindow,
    reader: &mut (dyn AuditReader + Send),
) -> Result<(), StoreError> {
    let connection = connect(target).await?;
    let client = &connection.client;
    check_schema(client, target).await?;
    read(client, window, reader).await.map_err(|error| StoreError::sort(&error, target.place()))
}

/// The topics and partitions of which batches are stored, each with its highest offset.
pub async fn audit_partitions(target: &Target) -> Result<Vec<(String, i32, i64)>, StoreError> {
    let connection = connect(target).await?;
    check_schema(&connection.client, target).await?;
    partitions(&connection.client).await.map_err(|error| StoreError::sort(&error, target.place()))
}

async fn partitions(client: &Client) -> Result<Vec<(String, i32, i64)>, Error> {
    client.batch_execute(&begin(TIMEOUTS)).await?;
    client.batch_execute(ONE_PROCESS).await?;
    let rows = client.query_typed(PARTITIONS, &[]).await?;
    let partitions = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect();
    client.batch_execute("COMMIT").await?;
    partitions
}

async fn read(
    client: &Client,
    window: AuditWindow,
    reader: &mut (dyn AuditReader + Send),
) -> Result<(), Error> {
    let AuditWindow { since_us, until_us, .. } = window;
    let time = |at_us| Timestamp::from_microsecond(at_us).unwrap_or(Timestamp::UNIX_EPOCH);
    let bounds = (time(since_us), time(until_us));
    client
        .batch_execute(
            &begin(TIMEOUTS).replace("BEGIN;", "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;"),
        )
        .await?;
    client.batch_execute(ONE_PROCESS).await?;
    let mut facts = facts(client, bounds).await?;
    if window.sums.is_some() {
        facts.checks = checks(client).await?;
    }
    let has_rollups = facts.has_rollups;
    reader.facts(facts);
    let mut receipts = pin!(stream(client, RECEIPTS, bounds).await?);
    while let Some(row) = receipts.try_next().await? {
        reader.receipt(&receipt(&row)?);
    }
    let mut rows = pin!(stream(client, ROWS, bounds).await?);
    while let Some(row) = rows.try_next().await? {
        reader.row(&AuditRow {
            id: row.try_get(0)?,
            check_id: row.try_get(1)?,
            definition_id: row.try_get(2)?,
            boot_id: row.try_get(3)?,
            slot_us: micros(&row, 4)?,
            seq: long(&row, 5)?,
            attempt: u32::try_from(row.try_get::<_, i32>(6)?).unwrap_or(0),
            outcome: Outcome::from_word(row.try_get(7)?).unwrap_or(Outcome::Unknown),
            error_kind: row.try_get(8)?,
            message: row.try_get(9)?,
            total_us: row.try_get::<_, Option<i32>>(10)?.and_then(|us| u32::try_from(us).ok()),
            maintenance: row.try_get::<_, Option<bool>>(11)?.unwrap_or_default(),
        });
    }
    let mut letters = pin!(stream(client, LETTERS, bounds).await?);
    while let Some(row) = letters.try_next().await? {
        reader.letter(&AuditLetter { id: row.try_get(0)?, reason: row.try_get(1)?, bytes: row.try_get(2)? });
    }
    let mut offsets = pin!(stream(client, OFFSETS, bounds).await?);
    while let Some(row) = offsets.try_next().await? {
        reader.offsets(&AuditOffsets {
            topic: row.try_get(0)?,
            partition: row.try_get(1)?,
            first: row.try_get(2)?,
            last: row.try_get(3)?,
            pipeline: row.try_get(4)?,
            source: row.try_get(5)?,
            stored_us: micros(&row, 6)?,
        });
    }
    if has_rollups {
        let mut rollups = pin!(stream(client, ROLLUPS, bounds).await?);
        while let Some(row) = rollups.try_next().await? {
            reader.rollup(&AuditRollup {
                level: row.try_get(0)?,
                check_id: row.try_get(1)?,
                start_us: micros(&row, 2)?,
                difference: row.try_get(3)?,
            });
        }
    }
    if let Some((since_us, until_us)) = window.sums.filter(|_| has_rollups) {
        sums(client, (time(since_us), time(until_us)), reader).await?;
    }
    client.batch_execute("COMMIT").await
}

async fn stream(client: &Client, sql: &str, bounds: (Timestamp, Timestamp)) -> Result<RowStream, Error> {
    client.query_typed_raw(sql, bounds_of(&bounds)).await
}

fn bounds_of(bounds: &(Timestamp, Timestamp)) -> [(&(dyn ToSql + Sync), Type); 2] {
    [(&bounds.0, Type::TIMESTAMPTZ), (&bounds.1, Type::TIMESTAMPTZ)]
}

async fn facts(client: &Client, bounds: (Timestamp, Timestamp)) -> Result<AuditFacts, Error> {
    let mut facts = AuditFacts::default();
    for row in client.query_typed(PROBERS, &[]).await? {
        facts.probers.push(AuditProber { id: row.try_get(0)?, name: row.try_get(1)? });
    }
    for row in client.query_typed(BOOTS, &[]).await? {
        facts.boots.push(AuditBoot {
            id: row.try_get(0)?,
            prober_id: row.try_get(1)?,
            first_seen_us: micros(&row, 2)?,
        });
    }
    for row in client.query_typed(DEFINITIONS, &[]).await? {
        facts.definitions.push(AuditDefinition {
            id: row.try_get(0)?,
            check_id: row.try_get(1)?,
            pipeline: row.try_get(2)?,
            source: row.try_get(3)?,
            name: row.try_get(4)?,
            interval_us: long(&row, 5)?,
            schedule: row.try_get(6)?,
            labels: serde_json::from_value(row.try_get(7)?).unwrap_or_default(),
            first_seen_us: micros(&row, 8)?,
        });
    }
    let kept_from: Option<Timestamp> = client.query_typed_one(KEPT_FROM, &[]).await?.try_get(0)?;
    // Days are made as their rows come: where a boot began before the oldest, days were dropped.
    let kept_from_us = kept_from.map(Timestamp::as_microsecond);
    let was_older = |kept_from_us: &i64| facts.boots.iter().any(|boot| boot.first_seen_us < *kept_from_us);
    let dropped = kept_from_us.filter(was_older).map(|kept_from_us| (0, kept_from_us));
    facts.dropped.extend(dropped);
    let there = client.query_typed_one(IS_THERE, &[]).await?;
    if there.try_get(0)? {
        for row in client.query_typed(DROPPED, &[]).await? {
            facts.dropped.push((micros(&row, 0)?, micros(&row, 1)?));
        }
    }
    facts.has_rollups = there.try_get(1)?;
    if there.try_get(2)? {
        for row in client.query_typed(INCIDENTS, &bounds_of(&bounds)).await? {
            let recovered: Option<Timestamp> = row.try_get(2)?;
            facts.incidents.push(AuditIncident {
                check_id: row.try_get(0)?,
                began_us: micros(&row, 1)?,
                recovered_us: recovered.map(Timestamp::as_microsecond),
                reason: row.try_get(3)?,
            });
        }
    }
    Ok(facts)
}

async fn checks(client: &Client) -> Result<Vec<(uuid::Uuid, Option<i64>)>, Error> {
    let mut checks = Vec::new();
    for row in client.query_typed(CHECKS, &[]).await? {
        let ended: Option<Timestamp> = row.try_get(1)?;
        checks.push((row.try_get(0)?, ended.map(Timestamp::as_microsecond)));
    }
    Ok(checks)
}

fn receipt(row: &Row) -> Result<AuditReceipt<'_>, Error> {
    Ok(AuditReceipt {
        boot_id: row.try_get(0)?,
        pipeline: row.try_get(1)?,
        source: row.try_get(2)?,
        at_us: micros(row, 3)?,
        began_us: micros(row, 4)?,
        slots_from_us: micros(row, 5)?,
        slots_until_us: micros(row, 6)?,
        first_seq: long(row, 7)?,
        last_seq: long(row, 8)?,
        ids_xor: row.try_get(9)?,
        failed: long(row, 10)?,
        last: row.try_get(11)?,
    })
}

fn micros(row: &Row, column: usize) -> Result<i64, Error> {
    row.try_get::<_, Timestamp>(column).map(Timestamp::as_microsecond)
}

/// A number that is never negative.
fn long(row: &Row, column: usize) -> Result<u64, Error> {
    row.try_get::<_, i64>(column).map(|number| u64::try_from(number).unwrap_or(0))
}
