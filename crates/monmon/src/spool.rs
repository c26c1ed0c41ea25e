//! `monmon status --spool`.

use std::io::Write;
use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use jiff::Timestamp;
use monmon_spool::{SpoolStatus, status};
use monmon_syntax::{format_size, printable};

use crate::cli::StatusFormat;
use crate::status::explained;
use crate::{Exit, logs};

pub(crate) fn show(path: &Path, format: StatusFormat) -> Exit {
    let text =
        status(path).map_err(|error| explained(&error, error.help())).and_then(|status| match format {
            StatusFormat::Table => Ok(tables(&status)),
            StatusFormat::Json => serde_json::to_string_pretty(&status).map_err(|error| error.to_string()),
        });
    match text {
        Ok(text) => match std::io::stdout().write_all(format!("{text}\n").as_bytes()) {
            Ok(()) => Exit::Good,
            Err(_closed) => Exit::Failed,
        },
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            Exit::Failed
        }
    }
}

fn tables(status: &SpoolStatus) -> String {
    let SpoolStatus { items, bytes, bytes_max, oldest, newest, refused, pid, dropped, quarantined } = status;
    let mut table = plain(&[]);
    table.add_row(["items".to_owned(), items.to_string()]);
    table.add_row(["on disk".to_owned(), format!("{} of {}", size(*bytes), size(*bytes_max))]);
    table.add_row(["oldest".to_owned(), time(*oldest)]);
    table.add_row(["newest".to_owned(), time(*newest)]);
    table.add_row(["refused".to_owned(), refused.to_string()]);
    table.add_row(["dropped".to_owned(), dropped.iter().map(|check| check.count).sum::<u64>().to_string()]);
    table.add_row(["in use by".to_owned(), pid.map_or("-".to_owned(), |pid| format!("process {pid}"))]);
    let mut text = table.to_string();
    if !dropped.is_empty() {
        let mut table = plain(&["DROPPED OF", "COUNT", "FIRST", "LAST"]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for check in dropped {
            let of = format!("{}/{}/{}", check.pipeline, check.source, check.check);
            table.add_row([printable(&of), check.count.to_string(), time(check.first), time(check.last)]);
        }
        text = format!("{text}\n\n{table}");
    }
    if !quarantined.is_empty() {
        let mut table = plain(&["DAMAGED FILE", "PUT ASIDE", "KEPT", "LOST"]);
        for file in quarantined {
            let lost = file.lost.map_or("unknown".to_owned(), |lost| lost.to_string());
            table.add_row([printable(&file.file), time(file.at), file.kept.to_string(), lost]);
        }
        text = format!("{text}\n\n{table}");
    }
    text
}

fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header);
    }
    table
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or("-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// In whole units: `format_size` is exact to the byte.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format_size(bytes),
        10_240..10_485_760 => format_size(bytes >> 10 << 10),
        _ => format_size(bytes >> 20 << 20),
    }
}
