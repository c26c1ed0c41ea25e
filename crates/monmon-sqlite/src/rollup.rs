//! What measurements come to by minute, hour and day: the numbers of sql/postgres/0009_rollups.sql, worked out here because
//! SQLite has no words for them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use monmon_model::{Histogram, rollup_id};
use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};
use uuid::Uuid;

use crate::rows::{id_text, instant};

pub(crate) const MINUTE: SignedDuration = SignedDuration::from_secs(60);
pub(crate) const HOUR: SignedDuration = SignedDuration::from_hours(1);
pub(crate) const DAY: SignedDuration = SignedDuration::from_hours(24);

const PHASES: usize = 5;
/// The total time and the phases, in the order of the columns.
const TIMES: [&str; PHASES + 1] = ["total", "dns", "connect", "tls", "wait", "transfer"];
/// A definition that is not there: its measurements were put in by hand.
const INTERVAL_UNKNOWN_US: i64 = 60_000_000;

/// Rows by id, as they stand in the table: to be written, or to be held against what is written.
pub(crate) type Rows = BTreeMap<String, Vec<Value>>;

/// What one bucket of a check and a prober comes to.
#[derive(Clone, Default)]
struct Rollup {
    last_at: Timestamp,
    interval_us: i64,
    measurements: i64,
    /// up, degraded, down, unknown: slots by their last attempt.
    outcomes: [i64; 4],
    timed: i64,
    /// At most what fits: a file may have got its times from elsewhere.
    sums_us: [i64; PHASES + 1],
    extremes_us: [Option<(i64, i64)>; PHASES + 1],
    histogram: Histogram,
}

/// What one bucket of a check and a definition comes to, all probers together.
#[derive(Clone, Default)]
struct CheckRollup {
    first_at: Timestamp,
    last_at: Timestamp,
    measurements: i64,
    slots_known: BTreeSet<Timestamp>,
    outcomes: [i64; 4],
}

/// What the measurements between two ids come to, by buckets of one width.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) probers: Rows,
    pub(crate) checks: Rows,
}

struct Raw {
    check: Uuid,
    definition: Uuid,
    prober: Uuid,
    scheduled_at: Timestamp,
    attempt: i64,
    outcome: usize,
    interval_us: i64,
    /// Of exchanges that came to their end.
    times_us: Option<[Option<i64>; PHASES + 1]>,
}

/// The start of the bucket that an instant is in.
pub(crate) fn start_of(at: Timestamp, width: SignedDuration) -> Timestamp {
    let micros = at.as_microsecond();
    let width = i64::try_from(width.as_micros()).unwrap_or(i64::MAX).max(1);
    Timestamp::from_microsecond(micros - micros.rem_euclid(width)).unwrap_or(at)
}

/// The lowest UUIDv7 of an instant, as text.
pub(crate) fn floor(at: Timestamp) -> String {
    let hex = format!("{:012x}", at.as_millisecond().max(0));
    format!("{}-{}-7000-8000-000000000000", &hex[..8], &hex[8..])
}

/// What the measurements from one instant to another come to.
pub(crate) fn gather(
    connection: &Connection,
    from: Timestamp,
    to: Timestamp,
    width: SignedDuration,
) -> rusqlite::Result<Gathered> {
    const QUERY: &str = "
        SELECT m.check_id, m.definition_id, coalesce(b.prober_id, '00000000-0000-0000-0000-000000000000'),
               m.scheduled_at, m.attempt, m.outcome, f.interval_us,
               m.error_kind IS NULL AND m.outcome <> 'unknown',
               m.total_us, m.dns_us, m.connect_us, m.tls_us, m.wait_us, m.transfer_us
        FROM monmon_measurement AS m
        LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
        LEFT JOIN monmon_check_definition AS f ON f.id = m.definition_id
        WHERE m.id >= ?1 AND m.id < ?2";
    let mut probers: BTreeMap<(Uuid, Uuid, Timestamp), Rollup> = BTreeMap::new();
    let mut checks: BTreeMap<(Uuid, Uuid, Timestamp), CheckRollup> = BTreeMap::new();
    // The last attempt decides. By definition too, as PostgreSQL's views count.
    let mut slots: BTreeMap<(Uuid, Uuid, Uuid, Timestamp), (i64, usize)> = BTreeMap::new();
    let mut statement = connection.prepare_cached(QUERY)?;
    let mut rows = statement.query(params![floor(from), floor(to)])?;
    while let Some(row) = rows.next()? {
        let raw = raw(row)?;
        let start = start_of(raw.scheduled_at, width);
        probers.entry((raw.check, raw.prober, start)).or_default().add(&raw);
        checks.entry((raw.check, raw.definition, start)).or_default().add(&raw);
        let slot = slots.entry((raw.check, raw.definition, raw.prober, raw.scheduled_at)).or_default();
        *slot = (*slot).max((raw.attempt, raw.outcome));
    }
    for ((check, definition, prober, at), (_, outcome)) in slots {
        let start = start_of(at, width);
        probers.entry((check, prober, start)).or_default().outcomes[outcome] += 1;
        let rollup = checks.entry((check, definition, start)).or_default();
        rollup.outcomes[outcome] += 1;
        if outcome < 3 {
            rollup.slots_known.insert(at);
        }
    }
    Ok(Gathered {
        probers: probers
            .into_iter()
            .map(|((check, prober, start), rollup)| rollup.row(check, prober, start, width))
            .collect(),
        checks: checks
            .into_iter()
            .map(|((check, other, start), rollup)| rollup.row(check, other, start))
            .collect(),
    })
}

/// The rows of `finer` from one instant to another, merged.
pub(crate) fn merge(
    connection: &Connection,
    finer: &str,
    from: Timestamp,
    to: Timestamp,
    width: SignedDuration,
) -> rusqlite::Result<Rows> {
    let names = columns();
    let query = format!("SELECT {} FROM {finer} WHERE id >= ?1 AND id < ?2", names.join(", "));
    let mut merged: BTreeMap<(Uuid, Uuid, Timestamp), Rollup> = BTreeMap::new();
    let mut statement = connection.prepare_cached(&query)?;
    let mut rows = statement.query(params![floor(from), floor(to)])?;
    while let Some(row) = rows.next()? {
        let start = start_of(time(row, 3)?, width);
        let rollup = Rollup::read(row)?;
        merged.entry((id(row, 1)?, id(row, 2)?, start)).or_default().merge(&rollup);
    }
    Ok(merged
        .into_iter()
        .map(|((check, prober, start), rollup)| rollup.row(check, prober, start, width))
        .collect())
}

/// Hours of a check made a day: slots of one hour are never those of another.
pub(crate) const CHECK_DAYS: &str = "
    SELECT check_id, definition_id, min(first_at), max(last_at), sum(measurements), sum(slots_known),
           sum(measurements_up), sum(measurements_down), sum(measurements_unknown)
    FROM monmon_rollup_check_hour WHERE id >= ?1 AND id < ?2
    GROUP BY check_id, definition_id";

pub(crate) fn merge_check_day(connection: &Connection, day: Timestamp) -> rusqlite::Result<Rows> {
    let mut statement = connection.prepare_cached(CHECK_DAYS)?;
    let mut rows = statement.query(params![floor(day), floor(day + DAY)])?;
    let mut merged = Rows::new();
    while let Some(row) = rows.next()? {
        let (check, definition) = (id(row, 0)?, id(row, 1)?);
        let key = id_text(rollup_id(check, definition, day));
        let mut values =
            vec![text(&key), text(&id_text(check)), text(&id_text(definition)), text(&instant(day))];
        for column in 2..9 {
            values.push(row.get(column)?);
        }
        merged.insert(key, values);
    }
    Ok(merged)
}

/// What stands in a table between two instants.
pub(crate) fn stored(
    connection: &Connection,
    table: &str,
    from: Timestamp,
    to: Timestamp,
) -> rusqlite::Result<Rows> {
    let names = columns_of(table);
    let query = format!("SELECT {} FROM {table} WHERE id >= ?1 AND id < ?2", names.join(", "));
    let mut statement = connection.prepare_cached(&query)?;
    let rows = statement.query_map(params![floor(from), floor(to)], |row| {
        let values = (0..names.len()).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<Value>>>()?;
        Ok((row.get(0)?, values))
    })?;
    rows.collect()
}

/// Writes rows in the place of those with their ids. Of a sealed day only what is of no fewer measurements.
pub(crate) fn put(connection: &Connection, table: &str, rows: &Rows, sealed: bool) -> rusqlite::Result<u64> {
    let names = columns_of(table);
    let places: Vec<String> = (1..=names.len()).map(|at| format!("?{at}")).collect();
    let set: Vec<String> = names[4..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let bound = if sealed { " WHERE excluded.measurements >= measurements" } else { "" };
    let sql = format!(
        "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}{}",
        names.join(", "),
        places.join(", "),
        set.join(", "),
        bound.replace(">= measurements", &format!(">= {table}.measurements")),
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut written = 0;
    for values in rows.values() {
        written += statement.execute(params_from_iter(values))? as u64;
    }
    Ok(written)
}

fn columns() -> Vec<String> {
    let mut names: Vec<String> =
        ["id", "check_id", "prober_id", "start_at", "last_at", "interval_us"].map(str::to_owned).into();
    names.extend(TIMES.iter().map(|time| format!("{time}_sum_us")));
    let counts = ["measurements", "up", "degraded", "down", "unknown", "slots_known", "slots_due", "timed"];
    names.extend(counts.map(str::to_owned));
    names.extend(TIMES.iter().flat_map(|time| [format!("{time}_min_us"), format!("{time}_max_us")]));
    names.push("histogram".to_owned());
    names
}

fn columns_of(table: &str) -> Vec<String> {
    if !table.starts_with("monmon_rollup_check_") {
        return columns();
    }
    let names = [
        "id",
        "check_id",
        "definition_id",
        "start_at",
        "first_at",
        "last_at",
        "measurements",
        "slots_known",
        "measurements_up",
        "measurements_down",
        "measurements_unknown",
    ];
    names.map(str::to_owned).into()
}

impl Rollup {
    fn add(&mut self, raw: &Raw) {
        self.last_at = self.last_at.max(raw.scheduled_at);
        self.interval_us = least(self.interval_us, raw.interval_us);
        self.measurements += 1;
        let Some(times) = &raw.times_us else { return };
        self.timed += 1;
        for (place, us) in times.iter().enumerate() {
            let Some(us) = *us else { continue };
            self.sums_us[place] = self.sums_us[place].saturating_add(us);
            self.extremes_us[place] = widened(self.extremes_us[place], Some((us, us)));
        }
        self.histogram.add(times[0].map_or(0, |us| u32::try_from(us).unwrap_or(u32::MAX)));
    }

    fn merge(&mut self, other: &Rollup) {
        self.last_at = self.last_at.max(other.last_at);
        self.interval_us = least(self.interval_us, other.interval_us);
        self.measurements += other.measurements;
        self.timed += other.timed;
        for (place, count) in other.outcomes.iter().enumerate() {
            self.outcomes[place] += count;
        }
        for (place, sum) in other.sums_us.iter().enumerate() {
            self.sums_us[place] = self.sums_us[place].saturating_add(*sum);
            self.extremes_us[place] = widened(self.extremes_us[place], other.extremes_us[place]);
        }
        self.histogram.merge(&other.histogram);
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Rollup> {
        const SUMS: usize = 6;
        const COUNTS: usize = SUMS + TIMES.len();
        const EXTREMES: usize = COUNTS + 8;
        let mut rollup = Rollup {
            last_at: time(row, 4)?,
            interval_us: row.get(5)?,
            measurements: row.get(COUNTS)?,
            timed: row.get(COUNTS + 7)?,
            ..Rollup::default()
        };
        for (place, count) in rollup.outcomes.iter_mut().enumerate() {
            *count = row.get(COUNTS + 1 + place)?;
        }
        for place in 0..TIMES.len() {
            rollup.sums_us[place] = row.get(SUMS + place)?;
            let low: Option<i64> = row.get(EXTREMES + place * 2)?;
            rollup.extremes_us[place] = low.zip(row.get(EXTREMES + place * 2 + 1)?);
        }
        let packed: String = row.get(EXTREMES + TIMES.len() * 2)?;
        let packed: Vec<i32> = serde_json::from_str(&packed).map_err(|error| conversion(EXTREMES, error))?;
        rollup.histogram = Histogram::unpacked(packed);
        Ok(rollup)
    }

    fn row(self, check: Uuid, prober: Uuid, start: Timestamp, width: SignedDuration) -> (String, Vec<Value>) {
        let key = id_text(rollup_id(check, prober, start));
        let known = self.outcomes[..3].iter().sum::<i64>();
        let mut values = vec![
            text(&key),
            text(&id_text(check)),
            text(&id_text(prober)),
            text(&instant(start)),
            text(&instant(self.last_at)),
            Value::Integer(self.interval_us),
        ];
        values.extend(self.sums_us.map(Value::Integer));
        values.push(Value::Integer(self.measurements));
        values.extend(self.outcomes.map(Value::Integer));
        let due = due(start, width, self.last_at, self.interval_us).max(known);
        values.extend([known, due, self.timed].map(Value::Integer));
        for extremes in self.extremes_us {
            let bound = |us: Option<i64>| us.map_or(Value::Null, Value::Integer);
            values.extend([bound(extremes.map(|(low, _)| low)), bound(extremes.map(|(_, high)| high))]);
        }
        values.push(text(&crate::rows::json_text(&self.histogram.packed())));
        (key, values)
    }
}

impl CheckRollup {
    fn add(&mut self, raw: &Raw) {
        let first = if self.measurements == 0 { raw.scheduled_at } else { self.first_at };
        self.first_at = first.min(raw.scheduled_at);
        self.last_at = self.last_at.max(raw.scheduled_at);
        self.measurements += 1;
    }

    fn row(self, check: Uuid, definition: Uuid, start: Timestamp) -> (String, Vec<Value>) {
        let key = id_text(rollup_id(check, definition, start));
        let [up, degraded, down, unknown] = self.outcomes;
        let mut values =
            vec![text(&key), text(&id_text(check)), text(&id_text(definition)), text(&instant(start))];
        values.extend([text(&instant(self.first_at)), text(&instant(self.last_at))]);
        let known = i64::try_from(self.slots_known.len()).unwrap_or(i64::MAX);
        values.extend([self.measurements, known, up + degraded, down, unknown].map(Value::Integer));
        (key, values)
    }
}

/// How many slots lie in a bucket: one that is known, and whole intervals before and after it. As in PostgreSQL no more
/// than its integers hold.
fn due(start: Timestamp, width: SignedDuration, slot: Timestamp, interval_us: i64) -> i64 {
    let before = slot.as_microsecond() - start.as_microsecond();
    let width = i64::try_from(width.as_micros()).unwrap_or(i64::MAX);
    let slots = before / interval_us.max(1) + 1 + (width - before - 1) / interval_us.max(1);
    slots.min(i64::from(i32::MAX))
}

/// The lesser interval, where 0 is none yet.
fn least(one: i64, other: i64) -> i64 {
    if one == 0 { other } else { one.min(other) }
}

fn widened(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let outcome: String = row.get(5)?;
    let timed: bool = row.get(7)?;
    let mut times = [None; PHASES + 1];
    for (place, us) in times.iter_mut().enumerate() {
        *us = row.get(8 + place)?;
    }
    Ok(Raw {
        check: id(row, 0)?,
        definition: id(row, 1)?,
        prober: id(row, 2)?,
        scheduled_at: time(row, 3)?,
        attempt: row.get(4)?,
        outcome: ["up", "degraded", "down"].iter().position(|word| *word == outcome).unwrap_or(3),
        interval_us: row.get::<_, Option<i64>>(6)?.unwrap_or(INTERVAL_UNKNOWN_US),
        times_us: timed.then_some(times),
    })
}

fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| conversion(column, error))
}

pub(crate) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| conversion(column, error))
}

fn conversion(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
