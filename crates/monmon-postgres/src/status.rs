//! What the store knows of each check: the rows of `monmon status`.

use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{CheckState, Outcome};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::connect::{Timeouts, begin, connect, transact};
use crate::error::StoreError;
use crate::migrate::check_schema;
use crate::target::Target;

/// A table for people, who wait in front of it.
const TIMEOUTS: Timeouts = Timeouts { statement: Duration::from_secs(60), lock: Duration::from_secs(10) };

/// One pass over the day's measurements, and a few looks into the index for each check. A slot whose timeout is not over
/// is not owed yet, and nothing is owed of a check that has ended: as `monmon_uptime_day` counts.
const QUERY: &str = "
    WITH recent AS (
        SELECT m.check_id,
               percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY m.total_us)
                   FILTER (WHERE m.status IS NOT NULL) AS total_us,
               count(*) FILTER (WHERE m.outcome IN ('up', 'degraded')) AS up,
               count(*) FILTER (WHERE m.outcome <> 'unknown') AS known,
               count(DISTINCT m.scheduled_at) FILTER (WHERE m.outcome <> 'unknown') AS slots_known
        FROM monmon_measurement AS m
        WHERE m.id >= (SELECT monmon_uuid_floor($1::timestamptz - interval '1 day'))
        GROUP BY m.check_id
    ),
    stated AS (
        SELECT s.*, c.interval_us,
               greatest(d.first_at, $1::timestamptz - interval '1 day') AS span_start,
               least(d.ended_at, $1::timestamptz - least(c.timeout_us, 86400000000) * interval '1 microsecond')
                   AS span_end
        FROM monmon_check_state AS s
        JOIN monmon_check AS c ON c.id = s.check_id
        JOIN monmon_check_span AS d ON d.check_id = c.id
        WHERE s.measurement_id IS NOT NULL
    )
    SELECT s.check_id, s.pipeline, s.source, s.name, s.url, s.outcome, s.reason_message, s.status, s.scheduled_at,
           r.total_us, r.up, r.known, r.slots_known,
           greatest(0, ceil(extract(epoch FROM s.span_end - s.scheduled_at) * 1000000 / s.interval_us)
                     - ceil(extract(epoch FROM s.span_start - s.scheduled_at) * 1000000 / s.interval_us))::bigint AS due
    FROM stated AS s
    LEFT JOIN recent AS r ON r.check_id = s.check_id
    ORDER BY s.pipeline, s.source, s.name, s.check_id";

/// The newest measurement of each check and its 24 hours before `now` in numbers, by pipeline, source and name.
pub async fn check_states(target: &Target, now: Timestamp) -> Result<Vec<CheckState>, StoreError> {
    let connection = connect(target).await?;
    check_schema(&connection.client, target).await?;
    let now: [(&(dyn ToSql + Sync), Type); 1] = [(&now, Type::TIMESTAMPTZ)];
    let asked = connection.client.query_typed(QUERY, &now);
    let rows = transact(&connection, &begin(TIMEOUTS), asked, target.place()).await?;
    rows.iter().map(state).collect()
}

fn state(row: &Row) -> Result<CheckState, StoreError> {
    let bad = |error: tokio_postgres::Error| StoreError::Schema(crate::error::chain(&error));
    let word: String = row.try_get("outcome").map_err(bad)?;
    let percentiles: Option<Vec<Option<i32>>> = row.try_get("total_us").map_err(bad)?;
    let percentile =
        |at: usize| percentiles.as_ref()?.get(at).copied().flatten().and_then(|us| u64::try_from(us).ok());
    let count = |name: &str| row.try_get::<_, Option<i64>>(name).map(|count| count.unwrap_or(0)).map_err(bad);
    let (up, known, slots_known, due) = (count("up")?, count("known")?, count("slots_known")?, count("due")?);
    let outcome = Outcome::from_word(&word).unwrap_or(Outcome::Unknown);
    let reason: Option<String> = row.try_get("reason_message").map_err(bad)?;
    Ok(CheckState {
        check_id: row.try_get("check_id").map_err(bad)?,
        pipeline: row.try_get("pipeline").map_err(bad)?,
        source: row.try_get("source").map_err(bad)?,
        name: row.try_get("name").map_err(bad)?,
        url: row.try_get("url").map_err(bad)?,
        outcome,
        reason: reason.filter(|_| outcome != Outcome::Up),
        status: row
            .try_get::<_, Option<i16>>("status")
            .map_err(bad)?
            .and_then(|status| u16::try_from(status).ok()),
        scheduled_at: row.try_get("scheduled_at").map_err(bad)?,
        total_p50_us: percentile(0),
        total_p95_us: percentile(1),
        uptime: share(up, known),
        // A slot that is not owed yet may be known already.
        coverage: share(slots_known, due.max(slots_known)),
    })
}

fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
