//! Rollups and retention in a SQLite file: the same numbers as in PostgreSQL, in steps that each hold the file for a
//! moment only. It has no partitions: measurements go by slices, when their day was rolled up and held against them.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use monmon_stage::{Level, Retention};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::cut::{Cuts, cuts, delete, delete_before, delete_measurements, instant_of};
use crate::database::Synchronous;
use crate::database::open_current;
use crate::error::StoreError;
use crate::policies::{self, Seen};
use crate::rollup::{DAY, HOUR, MINUTE, floor, gather, merge, merge_check_day, put, start_of, time};
use crate::rows::instant;
use crate::seal::{Fault, day_faults, day_name, has_late, is_sealed, mark, seal};

/// Steps of one run: two years of hours.
const STEPS_MAX: usize = 20_000;
/// Between two steps, so that a sink that waits for the file gets it.
pub(crate) const STEP_PAUSE: Duration = Duration::from_millis(1);
/// So far back at least rollups are made again that were ahead of the clock.
const HEALED_MIN: SignedDuration = SignedDuration::from_hours(35 * 24);
/// Slots this much younger than all others may be those of a clock that is wrong.
const GAP_MAX: SignedDuration = SignedDuration::from_hours(8 * 24);
/// What is stored later than this after its slot is marked by the trigger in sql/sqlite/0008_rollups.sql.
const UNTIL: &str = "SELECT strftime('%Y-%m-%dT%H:%M:00.000000Z', 'now', '-5 minutes')";

/// What one run has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Everything before this instant is in the rollups.
    pub rolled_until: Option<Timestamp>,
    /// Minutes that were made or made again.
    pub minutes: u64,
    /// Hours that were made again because measurements of them came late.
    pub late_hours: u64,
    pub measurements_deleted: u64,
    /// Minutes, hours and days that are no longer kept.
    pub rollups_deleted: u64,
    /// Days whose measurements could not go now.
    pub left: Vec<String>,
    /// Rollups were said to reach up to here, beyond now, and are made again.
    pub healed_from: Option<Timestamp>,
    /// Receipts that nothing is left of which they could prove.
    pub receipts_deleted: u64,
    /// Another sink of this file keeps something for longer, and so that was kept.
    pub others_keep_longer: bool,
}

/// What would be deleted: a table and how many of its rows.
pub type Going = (&'static str, u64);

/// Rolls up what can be, and deletes what `retention` no longer keeps. Works beside a sink.
pub fn maintain(
    path: &Path,
    retention: Option<&Retention>,
    now: Timestamp,
) -> Result<Maintained, StoreError> {
    maintain_as(path, retention, None, Seen::Lately, now)
}

/// As [`maintain`], for a sink: the names of its pipeline and of itself.
pub(crate) fn maintain_as(
    path: &Path,
    retention: Option<&Retention>,
    sink: Option<(&str, &str)>,
    seen: Seen,
    now: Timestamp,
) -> Result<Maintained, StoreError> {
    let (mut connection, _) = open_current(path, Synchronous::Normal)?;
    let mut done = Maintained::default();
    let run = |connection: &mut Connection, done: &mut Maintained| {
        done.healed_from = heal(connection)?;
        roll_up(connection, done)?;
        let Some(own) = retention else { return Ok(()) };
        if let Some((pipeline, stage)) = sink {
            policies::register(connection, pipeline, stage, own)?;
        }
        let longest = policies::longest(connection, own, seen)?;
        done.others_keep_longer = longest != Retention::longest(std::slice::from_ref(own));
        let_go(connection, &longest, now, done)
    };
    run(&mut connection, &mut done).map_err(|error| StoreError::sort(error, path))?;
    Ok(done)
}

/// What `retention` would delete at `now`. Changes nothing.
pub fn retention_plan(path: &Path, retention: &Retention, now: Timestamp) -> Result<Vec<Going>, StoreError> {
    let connection = crate::database::open_to_read(path)?;
    let count = || -> rusqlite::Result<Vec<Going>> {
        let mut going = Vec::new();
        let now = known_now(&connection, now)?;
        let retention = policies::longest(&connection, retention, Seen::Lately)?;
        for (table, level) in TABLES {
            let mut rows = 0;
            for cut in cuts(&connection, &retention, level, now)?.each {
                let sql = format!("SELECT count(*) FROM {table} WHERE {}", cut.condition());
                rows += connection
                    .query_row(&sql, params![cut.before], |row| row.get::<_, i64>(0))?
                    .unsigned_abs();
            }
            going.push((table, rows));
        }
        Ok(going)
    };
    count().map_err(|error| StoreError::sort(error, path))
}

/// Days from `from` up to, not including, `to` whose rollups are not what their measurements come to: none when all is
/// well. Days of which measurements have gone, and hours that have just come late, can't be told.
pub fn rollup_faults(path: &Path, from: Timestamp, to: Timestamp) -> Result<Vec<String>, StoreError> {
    let connection = crate::database::open_to_read(path)?;
    let faults = faults_between(&connection, from, to).map_err(|error| StoreError::sort(error, path))?;
    Ok(faults.into_iter().map(|(level, day)| format!("the {level}s of {}", day_name(day))).collect())
}

pub(crate) fn faults_between(
    connection: &Connection,
    from: Timestamp,
    to: Timestamp,
) -> rusqlite::Result<Vec<Fault>> {
    let state = State::read(connection)?;
    let mut faults = Vec::new();
    let mut day = start_of(from, DAY);
    while day < to && state.rolled_until.is_some_and(|until| day < until) {
        if !is_sealed(connection, day)? && !has_late(connection, day, day + DAY)? {
            faults.extend(day_faults(connection, &state, day)?);
        }
        day += DAY;
    }
    Ok(faults)
}

const TABLES: [(&str, Level); 6] = [
    ("monmon_measurement", Level::Measurements),
    ("monmon_rollup_minute", Level::Minutes),
    ("monmon_rollup_hour", Level::Hours),
    ("monmon_rollup_check_hour", Level::Hours),
    ("monmon_rollup_day", Level::Days),
    ("monmon_rollup_check_day", Level::Days),
];

pub(crate) struct State {
    pub(crate) rolled_until: Option<Timestamp>,
    minutes_from: Option<Timestamp>,
    hours_from: Option<Timestamp>,
}

impl State {
    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<State> {
        let sql = "SELECT rolled_until, minutes_from, hours_from FROM monmon_rollup_state";
        connection.query_row(sql, [], |row| {
            let parsed = |column| {
                Ok::<_, rusqlite::Error>(
                    row.get::<_, Option<String>>(column)?.and_then(|text| text.parse().ok()),
                )
            };
            Ok(State { rolled_until: parsed(0)?, minutes_from: parsed(1)?, hours_from: parsed(2)? })
        })
    }

    pub(crate) fn kept_from(&self, width: SignedDuration) -> Option<Timestamp> {
        if width == MINUTE {
            self.minutes_from
        } else if width == HOUR {
            self.hours_from
        } else {
            None
        }
    }
}

/// Rollups that are ahead of the clock were made while it was: what comes would not be rolled up until time has come so
/// far. What came between the clock's correction and this was in time by the clock, and is not marked as late. Nobody knows
/// when that was: it is made again from the last day that has rollups on, and some more, since others may have been made
/// between. Of a sealed day not all measurements are there to make it of.
fn heal(connection: &mut Connection) -> rusqlite::Result<Option<Timestamp>> {
    let ahead = "SELECT rolled_until FROM monmon_rollup_state WHERE rolled_until > strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')";
    let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(was) = step.query_row(ahead, [], |row| time(row, 0)).optional()? else { return Ok(None) };
    let until: Timestamp = step.query_row(UNTIL, [], |row| time(row, 0))?;
    let today = start_of(until, DAY);
    let day_of = |sql: &str, before: Timestamp| -> rusqlite::Result<Option<Timestamp>> {
        let last = step.query_row(sql, params![floor(before)], |row| row.get::<_, String>(0)).optional()?;
        Ok(last.map(|id| start_of(instant_of(&id), DAY)))
    };
    let rolled = "SELECT id FROM monmon_rollup_check_day WHERE id < ?1 ORDER BY id DESC LIMIT 1";
    let sealed = "SELECT id FROM monmon_rollup_checked WHERE sealed_at IS NOT NULL AND id < ?1 ORDER BY id DESC LIMIT 1";
    let mut from = day_of(rolled, today + DAY)?.unwrap_or_default().min(today - HEALED_MIN);
    if let Some(sealed) = day_of(sealed, today)? {
        from = from.max(sealed + DAY);
    }
    set_rolled_until(&step, from.min(today - DAY))?;
    step.commit()?;
    Ok(Some(was))
}

fn roll_up(connection: &mut Connection, done: &mut Maintained) -> rusqlite::Result<()> {
    // Each late hour once: who is always late would otherwise keep the file busy, and the new hours waiting.
    let mut late_from = Timestamp::UNIX_EPOCH;
    for _ in 0..STEPS_MAX {
        // Whoever writes is done before this begins, so all but what will be marked as late can be seen.
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let more = roll_up_hour(&step, &mut late_from, done)?;
        step.commit()?;
        if !more {
            break;
        }
        std::thread::sleep(STEP_PAUSE);
    }
    done.rolled_until = State::read(connection)?.rolled_until;
    Ok(())
}

/// One hour: a late one, else the next. Whether there was one.
fn roll_up_hour(
    step: &Transaction<'_>,
    late_from: &mut Timestamp,
    done: &mut Maintained,
) -> rusqlite::Result<bool> {
    let until: Timestamp = step.query_row(UNTIL, [], |row| time(row, 0))?;
    let state = State::read(step)?;
    if let Some(rolled) = state.rolled_until {
        let late = "SELECT hour FROM monmon_rollup_late WHERE hour >= ?1 AND hour < ?2 ORDER BY hour LIMIT 1";
        let bounds = params![instant(*late_from), instant(rolled)];
        if let Some(hour) = step.query_row(late, bounds, |row| time(row, 0)).optional()? {
            *late_from = hour + HOUR;
            step.execute("DELETE FROM monmon_rollup_late WHERE hour = ?1", params![instant(hour)])?;
            let day = start_of(hour, DAY);
            let sealed = is_sealed(step, day)?;
            // Its other hours have gone, so the day is made of all of them again.
            let whole_day = !sealed && state.hours_from.is_some_and(|from| day < from);
            let first = if whole_day { day } else { hour };
            let mut hour = first;
            while hour < rolled && hour < first + if whole_day { DAY } else { HOUR } {
                done.minutes += range(step, hour, rolled.min(hour + HOUR), sealed)?;
                hour += HOUR;
            }
            put_day(step, day, sealed)?;
            done.late_hours += 1;
            return Ok(true);
        }
    }
    let next = "SELECT scheduled_at FROM monmon_measurement WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 1";
    let since = state.rolled_until.map(floor).unwrap_or_default();
    let found = step.query_row(next, params![since, floor(until)], |row| time(row, 0)).optional()?;
    let Some(found) = found else {
        if state.rolled_until.is_some_and(|rolled| rolled < until) {
            set_rolled_until(step, until)?;
            step.execute("DELETE FROM monmon_rollup_late WHERE hour >= ?1", params![instant(until)])?;
        }
        return Ok(false);
    };
    let hour = start_of(found, HOUR);
    let from = state.rolled_until.map_or(hour, |rolled| rolled.max(hour));
    let to = until.min(hour + HOUR);
    step.execute(
        "DELETE FROM monmon_rollup_late WHERE hour >= ?1 AND hour < ?2",
        params![instant(from), instant(to)],
    )?;
    let day = start_of(from, DAY);
    let sealed = is_sealed(step, day)?;
    done.minutes += range(step, from, to, sealed)?;
    put_day(step, day, sealed)?;
    set_rolled_until(step, to)?;
    Ok(true)
}

/// A part of one hour: its minutes from measurements, the hour from its minutes.
fn range(step: &Transaction<'_>, from: Timestamp, to: Timestamp, sealed: bool) -> rusqlite::Result<u64> {
    let hour = start_of(from, HOUR);
    let made = put(step, "monmon_rollup_minute", &gather(step, from, to, MINUTE)?.probers, sealed)?;
    put(step, "monmon_rollup_hour", &merge(step, "monmon_rollup_minute", hour, to, HOUR)?, sealed)?;
    put(step, "monmon_rollup_check_hour", &gather(step, hour, to, HOUR)?.checks, sealed)?;
    Ok(made)
}

fn put_day(step: &Transaction<'_>, day: Timestamp, sealed: bool) -> rusqlite::Result<()> {
    put(step, "monmon_rollup_day", &merge(step, "monmon_rollup_hour", day, day + DAY, DAY)?, sealed)?;
    put(step, "monmon_rollup_check_day", &merge_check_day(step, day)?, sealed)?;
    Ok(())
}

fn set_rolled_until(step: &Transaction<'_>, until: Timestamp) -> rusqlite::Result<()> {
    let sql = "UPDATE monmon_rollup_state SET rolled_until = ?1, changed_at = strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')";
    step.execute(sql, params![instant(until)])?;
    Ok(())
}

/// An instant up to which time has passed for certain: there is no second clock here, so it is that of the newest slot.
/// One after a gap of many days may be of a machine that has booted in 2036, and counts once a day of slots has come
/// after the gap.
fn known_now(connection: &Connection, now: Timestamp) -> rusqlite::Result<Timestamp> {
    let last = "SELECT scheduled_at FROM monmon_measurement WHERE id < ?1 ORDER BY id DESC LIMIT 1";
    let before = |id: String| connection.query_row(last, params![id], |row| time(row, 0)).optional();
    let Some(newest) = before("g".to_owned())? else { return Ok(Timestamp::UNIX_EPOCH) };
    let known = match before(floor(newest - DAY))? {
        Some(earlier) if newest.duration_since(earlier) > GAP_MAX => earlier,
        _ => newest,
    };
    Ok(now.min(known))
}

fn let_go(
    connection: &mut Connection,
    retention: &Retention,
    now: Timestamp,
    done: &mut Maintained,
) -> rusqlite::Result<()> {
    let now = known_now(connection, now)?;
    for (table, level) in TABLES {
        let cuts = cuts(connection, retention, level, now)?;
        let Some(latest) = cuts.each.iter().map(|cut| cut.before.clone()).max() else { continue };
        if level == Level::Measurements {
            let_measurements_go(connection, cuts, &latest, done)?;
            continue;
        }
        for cut in &cuts.each {
            done.rollups_deleted += delete(connection, table, cut)?;
        }
        let column = match level {
            Level::Minutes => "minutes_from",
            Level::Hours => "hours_from",
            _ => continue,
        };
        let sql = format!("UPDATE monmon_rollup_state SET {column} = max({column}, ?1)");
        connection.execute(&sql, params![instant(instant_of(&latest))])?;
    }
    if let Some(before) = receipts_kept_from(connection)? {
        done.receipts_deleted = delete_before(connection, "monmon_receipt", &floor(before))?;
    }
    Ok(())
}

fn let_measurements_go(
    connection: &mut Connection,
    mut cuts: Cuts,
    latest: &str,
    done: &mut Maintained,
) -> rusqlite::Result<()> {
    let mut open = seal_days(connection, latest, done)?;
    for cut in &mut cuts.each {
        if let Some(open) = &open {
            cut.before = open.clone().min(cut.before.clone());
        }
        let (deleted, left) = delete_measurements(connection, cut)?;
        done.measurements_deleted += deleted;
        if let Some(day) = left {
            done.left.push(day_name(day));
            open = Some(floor(day));
        }
    }
    // They are of no check: what is recorded of how measurements came in goes with the last of them.
    if let Some(end) = &cuts.all_before {
        delete_before(connection, "monmon_batch", open.as_ref().map_or(end, |open| open.min(end)))?;
    }
    Ok(())
}

/// Receipts from before this instant prove nothing any more: of all days up to two days later, which are for clocks that
/// differ, measurements have gone.
fn receipts_kept_from(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let last = "SELECT id FROM monmon_rollup_checked WHERE sealed_at IS NOT NULL ORDER BY id DESC LIMIT 1";
    let Some(last) = connection.query_row(last, [], |row| row.get::<_, String>(0)).optional()? else {
        return Ok(None);
    };
    let sealed_until = instant_of(&last);
    let mut since = String::new();
    let next = "SELECT scheduled_at FROM monmon_measurement WHERE id >= ?1 ORDER BY id LIMIT 1";
    // What is kept of a sealed day is no whole day.
    while let Some(found) = connection.query_row(next, params![since], |row| time(row, 0)).optional()? {
        let day = start_of(found, DAY);
        if !is_sealed(connection, day)? {
            return Ok(Some(day.min(sealed_until + DAY) - DAY - DAY));
        }
        since = floor(day + DAY);
    }
    Ok(Some(sealed_until - DAY))
}

/// Days with measurements before an id, oldest first: each is held against its rollups and sealed. The lowest id of the
/// first that can't be.
fn seal_days(
    connection: &mut Connection,
    before: &str,
    done: &mut Maintained,
) -> rusqlite::Result<Option<String>> {
    let mut since = String::new();
    let next = "SELECT scheduled_at FROM monmon_measurement WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT 1";
    while let Some(found) =
        connection.query_row(next, params![since, before], |row| time(row, 0)).optional()?
    {
        let day = start_of(found, DAY);
        since = floor(day + DAY);
        let mut sealed = is_sealed(connection, day)? || seal(connection, day)?;
        if !sealed {
            tracing::warn!(day = day_name(day), "rollups differ from their measurements; making them again");
            mark(connection, day)?;
            roll_up(connection, done)?;
            sealed = seal(connection, day)?;
        }
        if !sealed {
            done.left.push(day_name(day));
            return Ok(Some(floor(day)));
        }
    }
    Ok(None)
}
