//! What the store knows of each check: the rows of `monmon status`.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use monmon_model::{CheckState, Outcome};
use rusqlite::types::Type;
use rusqlite::{Row, named_params};
use uuid::Uuid;

use crate::database::open_to_read;
use crate::error::StoreError;
use crate::rows::instant;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// One pass over the day's measurements, and a few looks into the index for each check. The numbers are those of
/// PostgreSQL's percentile_disc: the first time that is not below the share.
const QUERY: &str = "
    WITH recent AS MATERIALIZED (
        SELECT m.check_id, m.total_us, m.status, m.outcome, m.scheduled_at
        FROM monmon_measurement AS m
        WHERE m.id >= :floor
    ),
    counted AS (
        SELECT check_id,
               count(*) FILTER (WHERE outcome IN ('up', 'degraded')) AS up,
               count(*) FILTER (WHERE outcome <> 'unknown') AS known,
               count(DISTINCT CASE WHEN outcome <> 'unknown' AND scheduled_at >= :since THEN scheduled_at END)
                   AS slots_known
        FROM recent
        GROUP BY check_id
    ),
    ranked AS (
        SELECT check_id, total_us,
               row_number() OVER (PARTITION BY check_id ORDER BY total_us) AS place,
               count(*) OVER (PARTITION BY check_id) AS places
        FROM recent
        WHERE status IS NOT NULL
    ),
    percentiles AS (
        SELECT check_id,
               min(total_us) FILTER (WHERE place * 100 >= places * 50) AS p50_us,
               min(total_us) FILTER (WHERE place * 100 >= places * 95) AS p95_us
        FROM ranked
        GROUP BY check_id
    )
    SELECT s.check_id, s.pipeline, s.source, s.name, s.url, s.outcome, s.reason_message, s.status, s.scheduled_at,
           c.interval_us, c.timeout_us, n.up, n.known, n.slots_known, p.p50_us, p.p95_us, d.first_at, d.ended_at
    FROM monmon_check_state AS s
    JOIN monmon_check AS c ON c.id = s.check_id
    JOIN monmon_check_span AS d ON d.check_id = s.check_id
    LEFT JOIN counted AS n ON n.check_id = s.check_id
    LEFT JOIN percentiles AS p ON p.check_id = s.check_id
    WHERE s.measurement_id IS NOT NULL
    ORDER BY s.pipeline, s.source, s.name, s.check_id";

/// The newest measurement of each check and its 24 hours before `now` in numbers, by pipeline, source and name. Works
/// beside a writer, and makes no file where there is none.
pub fn check_states(path: &Path, now: Timestamp) -> Result<Vec<CheckState>, StoreError> {
    let sort = |error| StoreError::sort(error, path);
    let connection = open_to_read(path)?;
    let since = now - DAY;
    let mut query = connection.prepare(QUERY).map_err(sort)?;
    let parameters = named_params! { ":floor": id_floor(since), ":since": instant(since) };
    let states = query.query_map(parameters, |row| state(row, now)).map_err(sort)?;
    states.collect::<Result<_, _>>().map_err(sort)
}

fn state(row: &Row<'_>, now: Timestamp) -> rusqlite::Result<CheckState> {
    let count = |name: &str| row.get::<_, Option<i64>>(name).map(|count| count.unwrap_or(0));
    let micros =
        |name: &str| row.get::<_, Option<i64>>(name).map(|us| us.and_then(|us| u64::try_from(us).ok()));
    let outcome = Outcome::from_word(&row.get::<_, String>("outcome")?).unwrap_or(Outcome::Unknown);
    let reason: Option<String> = row.get("reason_message")?;
    let status: Option<i64> = row.get("status")?;
    let scheduled_at: Timestamp = parsed(row, "scheduled_at")?;
    let slots_known = count("slots_known")?;
    let due = Watch {
        anchor: scheduled_at,
        first: parsed(row, "first_at")?,
        ended: maybe(row, "ended_at")?,
        interval_us: count("interval_us")?,
        timeout_us: count("timeout_us")?,
    }
    .slots_due(now);
    Ok(CheckState {
        check_id: parsed::<Uuid>(row, "check_id")?,
        pipeline: row.get("pipeline")?,
        source: row.get("source")?,
        name: row.get("name")?,
        url: row.get("url")?,
        outcome,
        reason: reason.filter(|_| outcome != Outcome::Up),
        status: status.and_then(|status| u16::try_from(status).ok()),
        scheduled_at,
        total_p50_us: micros("p50_us")?,
        total_p95_us: micros("p95_us")?,
        uptime: share(count("up")?, count("known")?),
        // A slot that is not owed yet may be known already.
        coverage: share(slots_known, due.max(slots_known)),
    })
}

/// A check's slots, which lie at the anchor plus or minus whole intervals.
struct Watch {
    anchor: Timestamp,
    first: Timestamp,
    ended: Option<Timestamp>,
    interval_us: i64,
    timeout_us: i64,
}

impl Watch {
    /// Slots of the last day, since the first measurement, whose result is owed: those whose timeout is over, of a check that
    /// has ended those before the end. `monmon_uptime_day` counts alike.
    fn slots_due(&self, now: Timestamp) -> i64 {
        let anchor = self.anchor.as_microsecond();
        let start = self.first.max(now - DAY).as_microsecond() - anchor;
        let owed = now.as_microsecond().saturating_sub(self.timeout_us);
        let end = self.ended.map_or(owed, |ended| owed.min(ended.as_microsecond())).saturating_sub(anchor);
        let interval = self.interval_us.max(1);
        // Slots before an instant, counted from the anchor: the quotient, rounded up.
        let before = |us: i64| us.div_euclid(interval) + i64::from(us.rem_euclid(interval) > 0);
        (before(end) - before(start)).max(0)
    }
}

/// As [`parsed`], of a column that may be null.
pub(crate) fn maybe<T: std::str::FromStr>(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match row.get::<_, Option<String>>(name)? {
        Some(_) => parsed(row, name).map(Some),
        None => Ok(None),
    }
}

fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The beginning of every id from an instant on.
pub(crate) fn id_floor(at: Timestamp) -> String {
    let hex = format!("{:012x}", at.as_millisecond().max(0));
    format!("{}-{}", &hex[..8], &hex[8..])
}

pub(crate) fn parsed<T: std::str::FromStr>(row: &Row<'_>, name: &str) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(name)?;
    let at = row.as_ref().column_index(name)?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(error)))
}
