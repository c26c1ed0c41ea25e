//! Which rows of a SQLite file are no longer kept, and their deletion, some at a time.

use jiff::{SignedDuration, Timestamp};
use monmon_model::Labels;
use monmon_stage::{Level, Retention};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::maintain::STEP_PAUSE;
use crate::rollup::{DAY, floor, start_of};
use crate::seal::{has_late, is_sealed};

/// Rows that one transaction deletes.
const SLICE: u32 = 2_000;

/// The rows of one check that are no longer kept: those before an id.
pub(crate) struct Cut {
    /// `None`: those of checks that have no row of their own any more.
    check_id: Option<String>,
    only_up: bool,
    pub(crate) before: String,
}

impl Cut {
    pub(crate) fn condition(&self) -> String {
        let check = match &self.check_id {
            // A UUID as this program has written it.
            Some(id) => format!("check_id = '{}'", id.replace('\'', "''")),
            None => "check_id NOT IN (SELECT id FROM monmon_check)".to_owned(),
        };
        let only_up = if self.only_up { " AND outcome = 'up'" } else { "" };
        format!("{check} AND id < ?1{only_up}")
    }
}

/// The rows of a table that are no longer kept.
pub(crate) struct Cuts {
    pub(crate) each: Vec<Cut>,
    /// Before this id none is kept. None where some are kept for ever.
    pub(crate) all_before: Option<String>,
}

/// By whole days, as PostgreSQL's partitions go.
pub(crate) fn cuts(
    connection: &Connection,
    retention: &Retention,
    level: Level,
    now: Timestamp,
) -> rusqlite::Result<Cuts> {
    let mut statement = connection.prepare("SELECT id, labels FROM monmon_check ORDER BY id")?;
    let checks =
        statement.query_map([], |row| Ok((Some(row.get::<_, String>(0)?), row.get::<_, String>(1)?)))?;
    let (mut each, mut ends) = (Vec::new(), Vec::new());
    for check in checks.chain([Ok((None, "{}".to_owned()))]) {
        let (check_id, labels) = check?;
        let labels: Labels = serde_json::from_str(&labels).unwrap_or_default();
        let cut = |level| {
            let kept = SignedDuration::try_from(retention.of(level, &labels)?).ok()?;
            Some(floor(start_of(now.checked_sub(kept).ok()?, DAY)))
        };
        let Some(before) = cut(level) else {
            ends.push(None);
            continue;
        };
        let only_up = level == Level::Measurements && retention.of(Level::KeepFailures, &labels).is_some();
        let end = match only_up {
            true => cut(Level::KeepFailures).map(|earlier| earlier.min(before.clone())),
            false => Some(before.clone()),
        };
        if let Some(before) = end.clone().filter(|_| only_up) {
            each.push(Cut { check_id: check_id.clone(), only_up: false, before });
        }
        ends.push(end);
        each.push(Cut { check_id, only_up, before });
    }
    let all_before = ends.into_iter().collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().min());
    Ok(Cuts { each, all_before })
}

/// Measurements with their matches. A day's rows go only while it is sealed and nothing of it is marked as late: others
/// store on meanwhile, and what they add is in no rollup yet. How many have gone, and the first day whose could not.
pub(crate) fn delete_measurements(
    connection: &mut Connection,
    cut: &Cut,
) -> rusqlite::Result<(u64, Option<Timestamp>)> {
    let kept_not = format!("FROM monmon_measurement WHERE {} AND id >= ?2 ORDER BY id", cut.condition());
    let next = format!("SELECT id {kept_not} LIMIT 1");
    let slice = format!("SELECT id {kept_not} LIMIT {SLICE}");
    let mut since = String::new();
    let mut sum = 0;
    // Most runs find nothing, and need not keep others from writing for that.
    while let Some(id) =
        connection.query_row(&next, params![cut.before, since], |row| row.get::<_, String>(0)).optional()?
    {
        let day = start_of(instant_of(&id), DAY);
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if !is_sealed(&step, day)? || has_late(&step, day, day + DAY)? {
            return Ok((sum, Some(day)));
        }
        since = floor(day);
        let bounds = params![floor(day + DAY).min(cut.before.clone()), since];
        step.execute(&format!("DELETE FROM monmon_match WHERE measurement_id IN ({slice})"), bounds)?;
        let deleted =
            step.execute(&format!("DELETE FROM monmon_measurement WHERE id IN ({slice})"), bounds)?;
        step.commit()?;
        sum += deleted as u64;
        std::thread::sleep(STEP_PAUSE);
    }
    Ok((sum, None))
}

/// Rollups.
pub(crate) fn delete(connection: &Connection, table: &str, cut: &Cut) -> rusqlite::Result<u64> {
    let slice = format!("SELECT id FROM {table} WHERE {} LIMIT {SLICE}", cut.condition());
    let any = format!("SELECT 1 FROM {table} WHERE {} LIMIT 1", cut.condition());
    let mut sum = 0;
    while connection.query_row(&any, params![cut.before], |_| Ok(())).optional()?.is_some() {
        let deleted =
            connection.execute(&format!("DELETE FROM {table} WHERE id IN ({slice})"), params![cut.before])?;
        sum += deleted as u64;
        std::thread::sleep(STEP_PAUSE);
    }
    Ok(sum)
}

/// Rows that belong to no check, some at a time.
pub(crate) fn delete_before(connection: &Connection, table: &str, before: &str) -> rusqlite::Result<u64> {
    let sql = format!(
        "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE id < ?1 ORDER BY id LIMIT {SLICE})"
    );
    let mut sum = 0;
    loop {
        let deleted = connection.execute(&sql, params![before])?;
        sum += deleted as u64;
        if deleted < SLICE as usize {
            return Ok(sum);
        }
        std::thread::sleep(STEP_PAUSE);
    }
}

/// The instant of an id.
pub(crate) fn instant_of(id: &str) -> Timestamp {
    let hex: String = id.chars().filter(|digit| *digit != '-').take(12).collect();
    let millis = i64::from_str_radix(&hex, 16).unwrap_or(0);
    Timestamp::from_millisecond(millis).unwrap_or_default()
}
