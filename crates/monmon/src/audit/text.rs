//! An audit's verdict for people: what was looked at, what it came to, and everything that does not fit by name.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use monmon_syntax::printable;

use super::finding::{Finding, Found, Kind, Verdict};
use super::lane::Counts;
use super::report::{BootState, CheckLine, ProberLine, Report};

/// Of each kind that is found, how many are named.
const NAMED_MAX: usize = 20;
/// Checks that are listed, those in which something is wrong first.
const CHECKS_MAX: usize = 20;

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    push(&mut text, format_args!("{}\n\n", verdict(report)));
    push(&mut text, format_args!("{}\n\n", looked_at(report)));
    push(&mut text, format_args!("{}\n", slots(&report.slots)));
    if !report.checks.is_empty() {
        push(&mut text, format_args!("\n{}\n", checks(&report.checks)));
        let more = report.checks_count.saturating_sub(CHECKS_MAX as u64);
        if more > 0 {
            push(&mut text, format_args!("... and {more} checks more, in which no more is wrong\n"));
        }
    }
    if !report.probers.is_empty() {
        push(&mut text, format_args!("\n{}\n", probers(&report.probers)));
    }
    for (kind, found) in report.findings.iter() {
        push(&mut text, format_args!("\n{}", findings(kind, found)));
    }
    text
}

pub(super) fn verdict(report: &Report) -> String {
    let broken: Vec<String> = report
        .findings
        .iter()
        .filter(|(kind, _)| kind.verdict() == Verdict::Broken)
        .map(|(kind, found)| format!("{} {}", found.count, kind.text()))
        .collect();
    match report.verdict {
        Verdict::Proven => "PROVEN: every slot that was due has its row, or says why not".to_owned(),
        Verdict::NotProvable => {
            "NOT PROVABLE: nothing is known to be missing, and not everything can be shown to be there"
                .to_owned()
        }
        Verdict::Broken => format!("BROKEN: {}", broken.join("; ")),
    }
}

fn looked_at(report: &Report) -> String {
    let time = |at: Option<jiff::Timestamp>| at.map_or("the beginning".to_owned(), |at| format!("{at:.0}"));
    let mut lines = vec![format!(
        "slots from {} to {}; what is newer than {} may still be on its way",
        time(report.since),
        time(report.until),
        time(report.settled_until)
    )];
    lines.push(format!("{} rows, {} dead letters that are measurements", report.rows, report.dead_letters));
    let boots = &report.boots;
    lines.push(format!(
        "{} boots: {} running, {} ended in order, {} without their last receipt",
        boots.count, boots.running, boots.ended, boots.died
    ));
    let receipts = &report.receipts;
    let mut line = format!("{} receipts: {} proven by their rows", receipts.count, receipts.proven);
    for (count, what) in [
        (receipts.on_the_way, "whose rows are on their way"),
        (receipts.dropped, "proved until their rows were dropped"),
        (receipts.outside, "with rows outside of the window"),
    ] {
        if count > 0 {
            push(&mut line, format_args!(", {count} {what}"));
        }
    }
    lines.push(line);
    if let Some(before) =
        report.dropped_before.filter(|before| report.since.is_none_or(|since| since < *before))
    {
        lines.push(format!("retention has dropped the measurements of before {before:.0}"));
    }
    if !report.partitions.is_empty() {
        let (count, batches) = (report.partitions.len(), report.batches);
        lines
            .push(format!("{batches} batches of {count} partitions, each from its first to its last offset"));
    }
    lines.join("\n")
}

/// The algebra: what was due is the sum of the rest.
fn slots(counts: &Counts) -> Table {
    let mut table = plain();
    table.set_header(["SLOTS", ""]);
    let mut row = |what: &str, count: u64| {
        table.add_row([what.to_owned(), count.to_string()]);
    };
    row("due", counts.due);
    row("  known", counts.known);
    for (reason, count) in &counts.unknown {
        row(&format!("  unknown ({})", printable(reason)), *count);
    }
    for (what, count) in [
        ("  told in a row that stands for several", counts.told_together),
        ("  dead letters", counts.dead_lettered),
        ("  on the way", counts.on_the_way),
        ("  given up by a sink, as the prober says", counts.given_up),
        ("  dropped by retention", counts.dropped),
        ("  lost with a prober that died", counts.died),
        ("  from before what is stored of their boot", counts.unproven),
    ] {
        if count > 0 {
            row(what, count);
        }
    }
    row("  unexplained", counts.missing);
    right(&mut table, &[1]);
    table
}

fn checks(lines: &[CheckLine]) -> Table {
    let mut table = plain();
    table.set_header(["CHECK", "PROBER", "DUE", "KNOWN", "UNKNOWN", "OTHERWISE", "UNEXPLAINED"]);
    for line in lines.iter().take(CHECKS_MAX) {
        let slots = &line.slots;
        let unknown: u64 = slots.unknown.values().sum();
        table.add_row([
            format!("{}/{}/{}", printable(&line.pipeline), printable(&line.source), printable(&line.check)),
            printable(&line.prober),
            slots.due.to_string(),
            slots.known.to_string(),
            unknown.to_string(),
            (slots.due - slots.known - unknown - slots.missing).to_string(),
            slots.missing.to_string(),
        ]);
    }
    right(&mut table, &[2, 3, 4, 5, 6]);
    table
}

fn probers(lines: &[ProberLine]) -> Table {
    let mut table = plain();
    table.set_header(["PROBER", "SOURCE", "STATE", "PROVEN UNTIL"]);
    for line in lines {
        let state = match line.state {
            BootState::Running => "running",
            BootState::Ended => "ended in order",
            BootState::Died => "died",
            BootState::Silent => "silent",
        };
        table.add_row([
            printable(&line.prober),
            format!("{}/{}", printable(&line.pipeline), printable(&line.source)),
            state.to_owned(),
            line.proven_until.map_or("-".to_owned(), |at| format!("{at:.3}")),
        ]);
    }
    table
}

fn findings(kind: Kind, found: &Found) -> String {
    let mut text = format!("{} {}:\n", found.count, kind.text());
    for finding in found.shown.iter().take(NAMED_MAX) {
        push(&mut text, format_args!("  {}\n", line(finding)));
    }
    if found.shown.len() > NAMED_MAX {
        text.push_str("  ... and more; --format json names up to 1000\n");
    }
    text
}

fn line(finding: &Finding) -> String {
    let mut parts = Vec::new();
    let names = [&finding.pipeline, &finding.source, &finding.check];
    let names: Vec<String> = names.into_iter().flatten().map(|name| printable(name)).collect();
    if !names.is_empty() {
        parts.push(names.join("/"));
    }
    if let Some(at) = finding.at {
        parts.push(format!("{at:.6}"));
    }
    if let Some(topic) = &finding.topic {
        parts.push(format!("{} partition {}", printable(topic), finding.partition.unwrap_or_default()));
    }
    match (finding.first, finding.last) {
        (Some(first), Some(last)) if first == last => parts.push(format!("number {first}")),
        (Some(first), Some(last)) => parts.push(format!("numbers {first} to {last}")),
        _ => {}
    }
    if let Some(prober) = &finding.prober {
        parts.push(format!("by {}", printable(prober)));
    }
    if let Some(boot) = finding.boot {
        parts.push(format!("boot {boot}"));
    }
    if let Some(id) = finding.id {
        parts.push(format!("row {id}"));
    }
    if let Some(message) = &finding.message {
        parts.push(printable(message));
    }
    parts.join("  ")
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn right(table: &mut Table, columns: &[usize]) {
    for column in columns {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes all");
}
