//! `monmon report`: how each check fared against a promised uptime. Uptime is always told with its coverage, and what is
//! unknown never counts as down.

mod html;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use monmon_model::Labels;
use monmon_stage::{Clock, SystemClock};
use serde::Serialize;
use uuid::Uuid;

use crate::audit::{
    Incident, Known, Month, SHARES, Service, Services, Verdict, instant, month, scope, services,
};
use crate::cli::{StoreArgs, duration};
use crate::{Exit, logs};

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The uptime that was promised, in percent
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "99.9")]
    sla: f64,
    /// The month (UTC), such as 2026-10
    #[arg(long, value_name = "YYYY-MM", value_parser = month, conflicts_with_all = ["since", "until"], required_unless_present = "since")]
    month: Option<Month>,
    /// From this instant on, such as 2026-10-01 or 2026-10-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = instant)]
    since: Option<Timestamp>,
    /// Up to this instant; now if not given
    #[arg(long, value_name = "TIME", value_parser = instant)]
    until: Option<Timestamp>,
    /// Only checks with this label; several must all be there
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only checks of this pipeline
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// What is newer than this may still be on its way
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2m")]
    settle: Duration,
    /// What the report is called
    #[arg(long, value_name = "TEXT", default_value = "Availability report")]
    title: String,
    /// How the report is written; html is one file that needs nothing else
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// Write it to this file; to standard output if not given
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    Text,
    Json,
    Html,
}

/// The report as data: its JSON is this, and the others are made of it.
#[derive(Debug, Serialize)]
struct Sla {
    version: u32,
    title: String,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    made_at: Timestamp,
    /// What was promised, in percent.
    sla: f64,
    labels: BTreeMap<String, String>,
    audit: Audit,
    /// Retention has dropped the measurements of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_before: Option<Timestamp>,
    /// Of what is before, days are told by what they came to.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_summed: bool,
    met: u64,
    missed: u64,
    not_known: u64,
    checks: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Audit {
    verdict: Verdict,
    text: String,
}

/// One check.
#[derive(Debug, Serialize)]
struct Line {
    pipeline: String,
    source: String,
    check: String,
    check_id: Uuid,
    labels: Labels,
    probers: Vec<String>,
    /// Share of what is known in which the check was up, 0 to 1; none where nothing is known.
    uptime: Option<f64>,
    /// Nothing of it lies in the window, though it was there before and is not known to have been taken out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    not_measured: bool,
    /// Share of the time due that is known, 0 to 1.
    coverage: f64,
    slots_due: u64,
    slots_known: u64,
    downtime_s: f64,
    /// Downtime that the promise allows over all the time due.
    budget_s: f64,
    /// How much of it is used; above 1 the promise is broken.
    budget_used: f64,
    met: Option<bool>,
    latency_ms: Latency,
    /// Measurements in windows of maintenance, which the uptime has in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance: Option<Maintenance>,
    /// Where the pipeline has a detector.
    incidents: Vec<Incident>,
    /// Slots that the store has lost, or that died with their prober.
    slots_missing: u64,
    slots_died: u64,
}

/// Of days whose measurements are no longer kept it is not known, and not in it.
#[derive(Debug, Serialize)]
struct Maintenance {
    up: u64,
    down: u64,
    /// The uptime of all the rest.
    uptime_without: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: Option<f64>,
    p90: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

pub(crate) async fn report(args: &ReportArgs) -> Exit {
    match write(args).await {
        Ok(()) => Exit::Good,
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            Exit::Failed
        }
    }
}

async fn write(args: &ReportArgs) -> Result<(), String> {
    let now = SystemClock.now();
    let (since, until) = match args.month {
        Some(month) => (Some(month.since), month.until),
        None => (args.since, args.until.unwrap_or(now)),
    };
    let scope = scope(since, until, now, args.settle, args.pipeline.clone())?;
    let found = services(&args.store.store, scope).await?;
    let sla = sla(args, found, now);
    let text = match args.format {
        ReportFormat::Text => text::text(&sla),
        ReportFormat::Json => serde_json::to_string_pretty(&sla).map_err(|error| error.to_string())? + "\n",
        ReportFormat::Html => html::html(&sla),
    };
    match &args.output {
        Some(path) => std::fs::write(path, text)
            .map_err(|error| format!("{} cannot be written: {error}", path.display())),
        None => std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string()),
    }
}

fn sla(args: &ReportArgs, found: Services, now: Timestamp) -> Sla {
    let wanted =
        |service: &Service| args.labels.iter().all(|(name, value)| service.labels.get(name) == Some(value));
    let checks: Vec<Line> =
        found.checks.into_iter().filter(wanted).map(|service| line(service, args.sla)).collect();
    let count = |met: Option<bool>| checks.iter().filter(|line| line.met == met).count() as u64;
    Sla {
        version: 1,
        title: args.title.clone(),
        since: found.since,
        until: found.until,
        made_at: now,
        sla: args.sla,
        labels: args.labels.iter().cloned().collect(),
        audit: Audit { verdict: found.verdict, text: found.verdict_text },
        dropped_before: found.dropped_before,
        is_summed: found.is_summed,
        met: count(Some(true)),
        missed: count(Some(false)),
        not_known: count(None),
        checks,
    }
}

fn line(service: Service, sla: f64) -> Line {
    let known = service.known();
    let uptime = (known.all_us > 0.0).then(|| 1.0 - known.down_us / known.all_us);
    let downtime_s = known.down_us / 1e6;
    let due_us = service.due_us();
    let budget_s = (1.0 - sla / 100.0) * due_us / 1e6;
    let (slots_due, slots_known) = (service.slots_due(), service.slots_known());
    let [p50, p90, p95, p99] = service.latency_us.map(|us| us.map(|us| us / 1e3));
    let maintenance = maintenance(&service, &known);
    debug_assert_eq!(SHARES, [0.5, 0.9, 0.95, 0.99]);
    Line {
        pipeline: service.pipeline,
        source: service.source,
        check: service.check,
        check_id: service.check_id,
        labels: service.labels,
        probers: service.probers,
        uptime,
        not_measured: !service.is_measured,
        coverage: known.all_us / due_us.max(1.0),
        slots_due,
        slots_known,
        downtime_s,
        budget_s,
        budget_used: if downtime_s > 0.0 { downtime_s / budget_s.max(1e-6) } else { 0.0 },
        met: uptime.map(|_| is_kept(known.down_us, known.all_us, sla)),
        latency_ms: Latency { p50, p90, p95, p99 },
        maintenance,
        incidents: service.incidents,
        slots_missing: service.missing,
        slots_died: service.died,
    }
}

fn maintenance(service: &Service, known: &Known) -> Option<Maintenance> {
    let up = service.eras.iter().map(|era| era.maintenance_up).sum::<u64>();
    let down = service.eras.iter().map(|era| era.maintenance_down).sum::<u64>();
    let is_all =
        service.eras.iter().all(|era| era.maintenance_up + era.maintenance_down >= era.up + era.down);
    let (rest_us, rest_down_us) =
        (known.all_us - known.maintenance_us, known.down_us - known.maintenance_down_us);
    let uptime_without = (!is_all).then(|| 1.0 - (rest_down_us / rest_us).max(0.0));
    (up + down > 0).then_some(Maintenance { up, down, uptime_without })
}

const NOT_MEASURED: &str = "not measured in this window";

/// For people.
fn shown_maintenance(maintenance: &Maintenance) -> String {
    let Maintenance { up, down, uptime_without } = maintenance;
    let without = uptime_without.map_or("-".to_owned(), shown_share);
    format!("{} measurements in maintenance, {down} of them down; uptime without them {without}", up + down)
}

/// What is said of days whose measurements have gone.
fn shown_dropped(sla: &Sla) -> Option<String> {
    let before = shown_at(Some(sla.dropped_before?), "");
    Some(match sla.is_summed {
        true => format!(
            "measurements of before {before} are no longer kept; these days are told by their sums, in whole hours"
        ),
        false => format!("measurements of before {before} are no longer kept and are not in this report"),
    })
}

/// Of the time that is known at most the promised share was down. 1 of 1000 is within 99.9 %, though no float is.
fn is_kept(down: f64, known: f64, sla: f64) -> bool {
    down * 100.0 <= (100.0 - sla) * known * (1.0 + 1e-9) + 1e-9
}

fn percent(text: &str) -> Result<f64, String> {
    let number: f64 =
        text.trim_end_matches('%').trim().parse().map_err(|_| "a number of percent, such as 99.9")?;
    match number {
        0.0..=100.0 => Ok(number),
        _ => Err("from 0 to 100 percent".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a label is written name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A share in percent, rounded down, so that 100 % is only said when nothing is missing.
fn shown_share(share: f64) -> String {
    format!("{:.3} %", (share * 1e5 + 1e-6).floor() / 1e3)
}

/// Hours, minutes and seconds.
fn shown_time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3_600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

fn shown_milliseconds(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.2} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

fn shown_at(at: Option<Timestamp>, otherwise: &str) -> String {
    at.map_or(otherwise.to_owned(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn shown_span(sla: &Sla) -> String {
    format!("{} to {}", shown_at(sla.since, "the beginning"), shown_at(sla.until, "now"))
}
