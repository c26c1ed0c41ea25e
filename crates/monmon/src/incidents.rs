//! `monmon incidents`.

use std::io::Write;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use jiff::Timestamp;
use monmon_model::{IncidentState, StoredIncident};
use monmon_postgres::IncidentReader;
use monmon_stage::{Clock, SystemClock};
use monmon_syntax::{format_duration, printable};

use crate::cli::{IncidentsArgs, StatusFormat};
use crate::db::patiently;
use crate::status::{explained, shortened};
use crate::store::{self, Store};
use crate::{Exit, logs};

pub(crate) async fn incidents(args: &IncidentsArgs) -> Exit {
    let found = match read(args).await {
        Ok(found) => found,
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            return Exit::Failed;
        }
    };
    let text = match args.format {
        StatusFormat::Table if found.is_empty() && args.all => "no incidents are stored\n".to_owned(),
        StatusFormat::Table if found.is_empty() => "no incidents are open\n".to_owned(),
        StatusFormat::Table => format!("{}\n", table(&found, SystemClock.now())),
        StatusFormat::Json => match serde_json::to_string_pretty(&found) {
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

async fn read(args: &IncidentsArgs) -> Result<Vec<StoredIncident>, String> {
    let open_only = !args.all;
    match store::parse(&args.store.store)? {
        Store::Postgres(target) => {
            let mut reader = IncidentReader::new((*target).clone());
            let found = patiently(&target, reader.list(open_only, args.limit)).await;
            found.map_err(|error| explained(&error, error.help()))
        }
        Store::Sqlite(path) => monmon_sqlite::incidents(&path, open_only, args.limit)
            .map_err(|error| explained(&error, error.help())),
    }
}

fn table(found: &[StoredIncident], now: Timestamp) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["CHECK", "STATE", "SINCE", "LASTED", "PROBERS", "DETECTOR", "REASON"]);
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for incident in found {
        let end = incident.recovered_at.or(incident.closed_at).unwrap_or(now);
        let seconds = end.duration_since(incident.began_at).as_secs();
        let check = incident.check.clone().unwrap_or_else(|| incident.check_id.to_string());
        let state = match (incident.suppressed_by, incident.state) {
            (Some(_), IncidentState::Open | IncidentState::Flapping) => "suppressed",
            (_, state) => state.as_str(),
        };
        table.add_row([
            printable(&check),
            state.to_owned(),
            incident.began_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            format_duration(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
            printable(&incident.probers.join(", ")),
            format!("{}/{}", printable(&incident.pipeline), printable(&incident.detector)),
            shortened(&incident.reason),
        ]);
    }
    table
}
