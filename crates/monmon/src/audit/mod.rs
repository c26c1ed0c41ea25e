//! `monmon audit`: proves from a store alone that nothing is missing in it, or names what is.

mod bits;
mod finding;
mod judge;
mod lane;
mod ledger;
mod lives;
mod logs_of;
mod offsets;
mod report;
mod sealed;
mod service;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use monmon_model::AuditWindow;
use monmon_stage::{Clock, SystemClock};

use crate::cli::{StoreArgs, duration};
use crate::db::patiently;
use crate::run::with_causes;
use crate::store::{self, Store};
use crate::{Exit, logs};

pub(crate) use finding::Verdict;
use ledger::Ledger;
pub(crate) use ledger::Scope;
use report::Report;
#[cfg(test)]
pub(crate) use service::Era;
pub(crate) use service::{Incident, Known, SHARES, Service, Services};

/// How far before and behind a window rows are read: what a receipt is about may reach over its ends.
const REACH_US: i64 = 600_000_000;
/// Before and behind all slots that there may be.
const EARLIEST_US: i64 = 0;

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Judge slots from this instant on, such as 2026-10-01 or 2026-10-01T12:00:00Z; all that are stored if not given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<Timestamp>,
    /// Judge slots before this instant; now if not given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<Timestamp>,
    /// Judge the slots of one month (UTC), such as 2026-10
    #[arg(long, value_name = "YYYY-MM", value_parser = month, conflicts_with_all = ["since", "until"])]
    month: Option<Month>,
    /// Judge the checks of one pipeline only
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Judge the slots of one check only, by its name; numbers and receipts are of whole sources all the same
    #[arg(long, value_name = "NAME")]
    check: Option<String>,
    /// What is newer than this may still be on its way, and is not missed
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2m")]
    settle: Duration,
    /// Ask these Kafka brokers too where logs and committed offsets stand
    #[arg(long, value_name = "HOST:PORT,...", requires = "group", conflicts_with_all = ["month", "until"])]
    brokers: Option<String>,
    /// The consumers' group, for --brokers
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// How to log in to the brokers: a file of librdkafka's properties, a line each, such as security.protocol=ssl
    #[arg(long, value_name = "FILE", requires = "brokers")]
    kafka_config: Option<PathBuf>,
    /// Exit code 1 also when not everything is provable
    #[arg(long)]
    strict: bool,
    /// How the verdict is written
    #[arg(long, value_enum, default_value_t = AuditFormat::Text)]
    format: AuditFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AuditFormat {
    Text,
    Json,
}

/// A month, UTC: from its first instant to the next one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Month {
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
}

pub(crate) async fn audit(args: &AuditArgs) -> Exit {
    let report = match examine(args).await {
        Ok(report) => report,
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            return Exit::Failed;
        }
    };
    let text = match args.format {
        AuditFormat::Text => text::text(&report),
        AuditFormat::Json => match serde_json::to_string_pretty(&report) {
            Ok(text) => text + "\n",
            Err(error) => {
                logs::say(&format!("monmon: {error}"));
                return Exit::Failed;
            }
        },
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => exit(&report, args.strict),
        Err(_closed) => Exit::Failed,
    }
}

fn exit(report: &Report, strict: bool) -> Exit {
    match report.verdict {
        // Most often the wrong store was looked at.
        Verdict::NotProvable if report.findings.has(finding::Kind::NothingStored) => Exit::Bad,
        Verdict::Proven => Exit::Good,
        Verdict::NotProvable if !strict => Exit::Good,
        Verdict::NotProvable | Verdict::Broken => Exit::Bad,
    }
}

async fn examine(args: &AuditArgs) -> Result<Report, String> {
    let now = SystemClock.now();
    let (since, until) = match args.month {
        Some(month) => (Some(month.since), month.until),
        None => (args.since, args.until.unwrap_or(now)),
    };
    let mut scope = scope(since, until, now, args.settle, args.pipeline.clone())?;
    scope.check.clone_from(&args.check);
    let states = match (&args.brokers, &args.group) {
        (Some(brokers), Some(group)) => {
            let properties = logs_of::properties(brokers, args.kafka_config.as_deref())?;
            let known = partitions(&args.store.store).await?;
            let topics: BTreeSet<String> = known.into_iter().map(|(topic, ..)| topic).collect();
            logs_of::ask(properties, group.clone(), topics.into_iter().collect()).await?
        }
        _ => Vec::new(),
    };
    let mut ledger = load(&args.store.store, scope).await?;
    states.into_iter().for_each(|state| logs_of::hold(&mut ledger, state));
    Ok(judge::judge(ledger))
}

pub(crate) fn scope(
    since: Option<Timestamp>,
    until: Timestamp,
    now: Timestamp,
    settle: Duration,
    pipeline: Option<String>,
) -> Result<Scope, String> {
    let until_us = until.min(now).as_microsecond();
    let since_us = since.map_or(EARLIEST_US, Timestamp::as_microsecond);
    if since_us >= until_us {
        return Err("the window ends before it begins, or has not begun yet".to_owned());
    }
    let settle_us = i64::try_from(settle.as_micros()).unwrap_or(i64::MAX);
    let reach =
        |at_us: i64, by_us: i64| if at_us == EARLIEST_US { i64::MIN } else { at_us.saturating_add(by_us) };
    Ok(Scope {
        since_us,
        until_us,
        settled_us: now.as_microsecond().saturating_sub(settle_us),
        read_since_us: reach(since_us, -REACH_US),
        read_until_us: if until < now { reach(until_us, REACH_US) } else { i64::MAX },
        pipeline,
        check: None,
        for_report: false,
    })
}

/// What a report is made of: how each check fared, and whether the store can be trusted with that.
pub(crate) async fn services(url: &str, mut scope: Scope) -> Result<Services, String> {
    scope.for_report = true;
    Ok(service::services(judge::judged(load(url, scope).await?)))
}

fn explained(error: &dyn std::error::Error, help: Option<&str>) -> String {
    match help {
        Some(help) => format!("{}\n  help: {help}", with_causes(error)),
        None => with_causes(error),
    }
}

async fn partitions(url: &str) -> Result<Vec<(String, i32, i64)>, String> {
    match store::parse(url)? {
        Store::Postgres(target) => patiently(&target, monmon_postgres::audit_partitions(&target))
            .await
            .map_err(|error| explained(&error, error.help())),
        Store::Sqlite(path) => {
            monmon_sqlite::audit_partitions(&path).map_err(|error| explained(&error, error.help()))
        }
    }
}

async fn load(url: &str, scope: Scope) -> Result<Ledger, String> {
    let window = AuditWindow {
        since_us: scope.read_since_us.max(EARLIEST_US),
        until_us: scope.read_until_us.min(LATEST_US),
        sums: scope.for_report.then_some((scope.since_us, scope.until_us)),
    };
    let mut ledger = Ledger::new(scope);
    for (topic, partition, last) in partitions(url).await? {
        ledger.offsets.know(topic, partition, last);
    }
    match store::parse(url)? {
        Store::Postgres(target) => patiently(&target, monmon_postgres::audit(&target, window, &mut ledger))
            .await
            .map_err(|error| explained(&error, error.help()))?,
        Store::Sqlite(path) => monmon_sqlite::audit(&path, window, &mut ledger)
            .map_err(|error| explained(&error, error.help()))?,
    }
    ledger.is_there()?;
    Ok(ledger)
}

/// The year 9000: behind all that any store holds, and within what all of them can compare with.
const LATEST_US: i64 = 221_845_392_000_000_000;

/// An instant, or a day (UTC), which stands for its beginning.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    monmon_stage::parse_instant(text)
}

pub(crate) fn month(text: &str) -> Result<Month, String> {
    let wrong = || "a month is written 2026-10".to_owned();
    let first: Date = format!("{text}-01").parse().map_err(|_| wrong())?;
    let at = |date: Date| date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()).map_err(|_| wrong());
    let next = first.checked_add(jiff::Span::new().months(1)).map_err(|_| wrong())?;
    Ok(Month { since: at(first)?, until: at(next)? })
}
