//! The report for a terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use monmon_syntax::printable;

use super::{
    Line, NOT_MEASURED, Sla, shown_dropped, shown_maintenance, shown_milliseconds, shown_share, shown_span,
    shown_time,
};

pub(super) fn text(sla: &Sla) -> String {
    let mut lines = vec![
        printable(&sla.title),
        shown_span(sla),
        format!(
            "promised: {} %; kept by {} checks, missed by {}{}",
            sla.sla,
            sla.met,
            sla.missed,
            if sla.not_known > 0 { format!(", not known of {}", sla.not_known) } else { String::new() }
        ),
        format!("audit: {}", sla.audit.text),
    ];
    lines.extend(shown_dropped(sla));
    if sla.checks.is_empty() {
        lines.push("no check was due".to_owned());
        return lines.join("\n") + "\n";
    }
    let apart = sla.checks.iter().flat_map(|line| {
        let told = [
            line.not_measured.then(|| NOT_MEASURED.to_owned()),
            line.maintenance.as_ref().map(shown_maintenance),
        ];
        told.into_iter().flatten().map(|told| format!("{}: {told}\n", printable(&line.check)))
    });
    let apart: String = apart.collect();
    let gap = if apart.is_empty() { "" } else { "\n" };
    format!("{}\n\n{}\n{gap}{apart}", lines.join("\n"), table(&sla.checks))
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "CHECK",
        "KEPT",
        "UPTIME",
        "COVERAGE",
        "DOWN",
        "BUDGET USED",
        "INCIDENTS",
        "P50",
        "P95",
        "P99",
    ]);
    for column in 2..10 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for line in lines {
        table.add_row([
            format!("{}/{}/{}", printable(&line.pipeline), printable(&line.source), printable(&line.check)),
            match line.met {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "?",
            }
            .to_owned(),
            line.uptime.map_or("-".to_owned(), shown_share),
            shown_share(line.coverage),
            shown_time(line.downtime_s),
            format!("{:.0} %", line.budget_used * 100.0),
            line.incidents.len().to_string(),
            shown_milliseconds(line.latency_ms.p50),
            shown_milliseconds(line.latency_ms.p95),
            shown_milliseconds(line.latency_ms.p99),
        ]);
    }
    table
}
