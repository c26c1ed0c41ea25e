//! `monmon db maintain`.

use std::path::Path;

use jiff::Timestamp;
use monmon_postgres::Target;
use monmon_stage::{Clock, Retention, SystemClock};
use monmon_syntax::format_size;

use crate::cli::MaintainArgs;
use crate::db::patiently;
use crate::run::with_causes;
use crate::store::{self, Store};
use crate::{Exit, logs};

pub(crate) async fn maintain(args: &MaintainArgs) -> Exit {
    let now = SystemClock.now();
    let told = match read(args) {
        Ok((store, retention)) => match (store, args.dry_run) {
            (Store::Postgres(target), true) => postgres_plan(&target, &retention, now).await,
            (Store::Postgres(target), false) => postgres(&target, &retention, now).await,
            (Store::Sqlite(path), true) => sqlite_plan(&path, &retention, now),
            (Store::Sqlite(path), false) => sqlite(&path, &retention, now),
        },
        Err(message) => Err(message),
    };
    match told {
        Ok((exit, lines)) => {
            lines.iter().for_each(|line| logs::say(line));
            exit
        }
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            Exit::Failed
        }
    }
}

type Told = Result<(Exit, Vec<String>), String>;

fn read(args: &MaintainArgs) -> Result<(Store, Retention), String> {
    let retention = Retention::parse(&args.retention).map_err(|error| format!("--retention: {error}"))?;
    Ok((store::parse(&args.store.store)?, retention))
}

fn explained(error: &dyn std::error::Error, help: Option<&str>) -> String {
    match help {
        Some(help) => format!("{}\n  help: {help}", with_causes(error)),
        None => with_causes(error),
    }
}

async fn postgres_plan(target: &Target, retention: &Retention, now: Timestamp) -> Told {
    let going = patiently(target, monmon_postgres::retention_plan(target, retention, now)).await;
    let going = going.map_err(|error| explained(&error, error.help()))?;
    let mut lines: Vec<String> = going
        .iter()
        .map(|going| {
            let what = if going.whole { "would drop" } else { "would keep a part of" };
            format!("{what} {} ({})", going.partition, format_size(going.bytes))
        })
        .collect();
    if lines.is_empty() {
        lines.push("nothing would go".to_owned());
    }
    Ok((Exit::Good, lines))
}

async fn postgres(target: &Target, retention: &Retention, now: Timestamp) -> Told {
    let done = patiently(target, monmon_postgres::maintain(target, Some(retention), now)).await;
    let done = done.map_err(|error| explained(&error, error.help()))?;
    let mut lines = vec![rolled(done.rolled_until, done.minutes)];
    if done.late_days > 0 {
        lines.push(format!("made {} days again, whose measurements came late", done.late_days));
    }
    lines.extend(done.dropped.iter().map(|partition| format!("dropped {partition}")));
    lines.extend(done.thinned.iter().map(|partition| format!("kept a part of {partition}")));
    if done.days_deleted > 0 {
        lines.push(format!("deleted {} rows of days", done.days_deleted));
    }
    lines.extend(healed(done.healed_from));
    lines.extend(receipts(done.receipts_deleted));
    lines.extend(longer(done.others_keep_longer));
    lines.extend(done.left.iter().map(|(partition, why)| format!("left {partition}: {why}")));
    if !done.packed.is_empty() {
        lines.push(format!("packed {} indexes of days that are over", done.packed.len()));
    }
    lines.extend(done.unpacked.iter().map(|(index, why)| format!("did not pack {index}: {why}")));
    if done.busy {
        lines.push("another is maintaining this store".to_owned());
    }
    if done.held_up {
        lines.push("a transaction has been writing for long: what came in since is not rolled up".to_owned());
    }
    if done.clock_ahead {
        lines.push(
            "this clock is more than an hour ahead of the database's: nothing was let go of".to_owned(),
        );
    }
    let is_whole = done.left.is_empty() && !done.held_up && !done.clock_ahead;
    Ok((if is_whole { Exit::Good } else { Exit::Bad }, lines))
}

fn sqlite_plan(path: &Path, retention: &Retention, now: Timestamp) -> Told {
    let going = monmon_sqlite::retention_plan(path, retention, now);
    let going = going.map_err(|error| explained(&error, error.help()))?;
    let mut lines: Vec<String> = going
        .iter()
        .filter(|(_, rows)| *rows > 0)
        .map(|(table, rows)| format!("would delete {rows} rows of {table}"))
        .collect();
    if lines.is_empty() {
        lines.push("nothing would go".to_owned());
    }
    Ok((Exit::Good, lines))
}

fn sqlite(path: &Path, retention: &Retention, now: Timestamp) -> Told {
    let done = monmon_sqlite::maintain(path, Some(retention), now);
    let done = done.map_err(|error| explained(&error, error.help()))?;
    let mut lines = vec![rolled(done.rolled_until, done.minutes)];
    if done.late_hours > 0 {
        lines.push(format!("made {} hours again, whose measurements came late", done.late_hours));
    }
    if done.measurements_deleted + done.rollups_deleted > 0 {
        let (measurements, rollups) = (done.measurements_deleted, done.rollups_deleted);
        lines.push(format!("deleted {measurements} measurements and {rollups} rows of rollups"));
    }
    lines.extend(healed(done.healed_from));
    lines.extend(receipts(done.receipts_deleted));
    lines.extend(longer(done.others_keep_longer));
    lines.extend(done.left.iter().map(|day| format!("left {day}: its measurements are not rolled up")));
    Ok((if done.left.is_empty() { Exit::Good } else { Exit::Bad }, lines))
}

fn healed(from: Option<Timestamp>) -> Option<String> {
    from.map(|from| {
        format!("rollups were said to reach up to {from}, which is ahead of the clock; made them again")
    })
}

fn receipts(deleted: u64) -> Option<String> {
    (deleted > 0).then(|| format!("deleted {deleted} receipts of days whose measurements have gone"))
}

fn longer(others_keep_longer: bool) -> Option<String> {
    let told = "a sink of this store keeps some of it for longer; the longest times count";
    others_keep_longer.then(|| told.to_owned())
}

fn rolled(until: Option<Timestamp>, minutes: u64) -> String {
    match until {
        Some(until) => format!("rolled up until {until}: {minutes} minutes made"),
        None => "no measurements are stored yet".to_owned(),
    }
}
