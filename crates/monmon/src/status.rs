//! `monmon status`.

use std::io::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use monmon_model::CheckState;
use monmon_stage::{Clock, SystemClock};
use monmon_syntax::printable;

use crate::cli::{StatusArgs, StatusFormat};
use crate::db::patiently;
use crate::run::with_causes;
use crate::store::{self, Store};
use crate::{Exit, logs, spool};

/// Longest reason in the table, in characters.
const REASON_CHARS_MAX: usize = 60;

pub(crate) async fn status(args: &StatusArgs) -> Exit {
    if let Some(path) = &args.spool {
        return spool::show(path, args.format);
    }
    let states = match read(args.store.as_deref().unwrap_or_default()).await {
        Ok(states) => states,
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            return Exit::Failed;
        }
    };
    let text = match args.format {
        StatusFormat::Table if states.is_empty() => "no measurements are stored yet\n".to_owned(),
        StatusFormat::Table => format!("{}\n", table(&states)),
        StatusFormat::Json => match serde_json::to_string_pretty(&states) {
            Ok(text) => text + "\n",
            Err(error) => {
                logs::say(&format!("monmon: {error}"));
                return Exit::Failed;
            }
        },
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Good,
        Err(_closed) => Exit::Failed,
    }
}

async fn read(url: &str) -> Result<Vec<CheckState>, String> {
    let now = SystemClock.now();
    let mut states = match store::parse(url)? {
        Store::Postgres(target) => patiently(&target, monmon_postgres::check_states(&target, now))
            .await
            .map_err(|error| explained(&error, error.help()))?,
        Store::Sqlite(path) => {
            monmon_sqlite::check_states(&path, now).map_err(|error| explained(&error, error.help()))?
        }
    };
    states.sort_by(|a, b| (&a.pipeline, &a.source, &a.name).cmp(&(&b.pipeline, &b.source, &b.name)));
    Ok(states)
}

pub(crate) fn explained(error: &dyn std::error::Error, help: Option<&str>) -> String {
    match help {
        Some(help) => format!("{}\n  help: {help}", with_causes(error)),
        None => with_causes(error),
    }
}

fn table(states: &[CheckState]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["CHECK", "STATE", "STATUS", "P50", "P95", "UPTIME 24H", "COVERAGE", "LAST", "REASON"]);
    for column in [2, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for state in states {
        table.add_row([
            format!("{}/{}/{}", printable(&state.pipeline), printable(&state.source), printable(&state.name)),
            state.outcome.as_str().to_owned(),
            state.status.map_or("-".to_owned(), |status| status.to_string()),
            state.total_p50_us.map_or("-".to_owned(), milliseconds),
            state.total_p95_us.map_or("-".to_owned(), milliseconds),
            state.uptime.map_or("-".to_owned(), percent),
            state.coverage.map_or("-".to_owned(), percent),
            state.scheduled_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            state.reason.as_deref().map(shortened).unwrap_or_default(),
        ]);
    }
    table
}

fn milliseconds(us: u64) -> String {
    match us {
        0..10_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.0} ms", us as f64 / 1e3),
    }
}

/// Rounded down, so that 100 % is only said when nothing is missing.
fn percent(share: f64) -> String {
    format!("{:.2} %", (share * 1e4).floor() / 1e2)
}

pub(crate) fn shortened(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_down() {
        assert_eq!(percent(0.999_999), "99.99 %");
        assert_eq!(percent(1.0), "100.00 %");
        assert_eq!(percent(0.0), "0.00 %");
    }
}
