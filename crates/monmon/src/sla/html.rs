//! The report as one page: no script, nothing from elsewhere, and it prints.

use std::fmt::Write;

use jiff::Unit;

use crate::audit::{Incident, Verdict};

use super::{
    Line, NOT_MEASURED, Sla, shown_at, shown_dropped, shown_maintenance, shown_milliseconds, shown_share,
    shown_span, shown_time,
};

const STYLE: &str = "
:root { --ink: #1c2430; --soft: #5b6675; --line: #d9dee5; --good: #1a7f4b; --bad: #b3261e; --unsure: #8a6100; }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif; color: var(--ink); background: #fff;
  max-width: 72rem; margin: 0 auto; padding: 3rem 2rem 2rem; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 1rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { margin: .3rem 0; }
.soft { color: var(--soft); }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.6rem 0 0; padding: 0; list-style: none; }
.cards li { flex: 1 1 9rem; border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; }
.cards strong { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.cards span { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-size: .75rem; letter-spacing: .03em; text-transform: uppercase; color: var(--soft); font-weight: 600; }
th, td { padding: .5rem .7rem .5rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th.n, td.n { text-align: right; white-space: nowrap; }
td small { display: block; color: var(--soft); overflow-wrap: anywhere; }
.good { color: var(--good); } .bad { color: var(--bad); } .unsure { color: var(--unsure); }
td b { white-space: nowrap; }
svg { display: block; width: 7rem; height: 8px; margin-top: .45rem; margin-left: auto; }
svg .back { fill: #e8ebef; } svg .good { fill: var(--good); } svg .bad { fill: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; margin: 0; }
dt { font-weight: 600; } dd { margin: 0; color: var(--soft); }
footer { margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: .8rem; color: var(--soft); font-size: .85rem; }
@media print { body { padding: 0; max-width: none; font-size: 11px; } tr, .cards li { break-inside: avoid; }
  thead { display: table-header-group; } * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
";

/// Incidents that are listed.
const INCIDENTS_MAX: usize = 200;

const WORDS: [(&str, &str); 5] = [
    (
        "Uptime",
        "The share of what is known in which the check was up or merely degraded. What could not be told is not in it, and never counts as down.",
    ),
    ("Coverage", "The share of the time due that is known. Uptime says nothing of the rest."),
    ("Downtime", "The time that the slots found down stand for; with several probers, their mean."),
    (
        "Error budget",
        "The downtime that the promise allows over all of the time due. Beyond 100 % the promise is broken.",
    ),
    ("Response times", "Half, 95 and 99 of a hundred answers came within these times, to about 3 %."),
];

pub(super) fn html(sla: &Sla) -> String {
    let mut page = String::new();
    let title = escaped(&sla.title);
    push(
        &mut page,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        ),
    );
    push(
        &mut page,
        format_args!(
            "<header>\n<h1>{title}</h1>\n<p>{}</p>\n{}</header>\n",
            escaped(&shown_span(sla)),
            labels(sla)
        ),
    );
    cards(&mut page, sla);
    push(&mut page, format_args!("<h2>Checks</h2>\n"));
    match sla.checks.is_empty() {
        true => page.push_str("<p class=\"soft\">No check was due.</p>\n"),
        false => table(&mut page, &sla.checks),
    }
    incidents(&mut page, sla);
    proof(&mut page, sla);
    page.push_str("<h2>What the words mean</h2>\n<dl>\n");
    for (word, meaning) in WORDS {
        push(&mut page, format_args!("<dt>{word}</dt><dd>{meaning}</dd>\n"));
    }
    push(
        &mut page,
        format_args!(
            "</dl>\n<footer>Made by monmon {} on {}.</footer>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION"),
            sla.made_at.strftime("%Y-%m-%d %H:%M UTC")
        ),
    );
    page
}

fn labels(sla: &Sla) -> String {
    if sla.labels.is_empty() {
        return String::new();
    }
    let labels: Vec<String> =
        sla.labels.iter().map(|(name, value)| format!("{} = {}", escaped(name), escaped(value))).collect();
    format!("<p class=\"soft\">Checks with {}</p>\n", labels.join(", "))
}

fn cards(page: &mut String, sla: &Sla) {
    let (due, known) = sla
        .checks
        .iter()
        .fold((0_u64, 0_u64), |(due, known), line| (due + line.slots_due, known + line.slots_known));
    let coverage = if due == 0 { "-".to_owned() } else { shown_share(known as f64 / due as f64) };
    let worst = sla.checks.iter().filter_map(|line| line.uptime).min_by(f64::total_cmp);
    let kept = match (sla.missed, sla.not_known) {
        (0, 0) => "good",
        (0, _) => "unsure",
        _ => "bad",
    };
    push(
        page,
        format_args!(
            "<ul class=\"cards\">\n\
         <li><strong>{} %</strong><span>uptime promised</span></li>\n\
         <li><strong class=\"{kept}\">{} of {}</strong><span>checks kept the promise</span></li>\n\
         <li><strong>{}</strong><span>lowest uptime of a check</span></li>\n\
         <li><strong>{coverage}</strong><span>of the time due is known</span></li>\n</ul>\n",
            sla.sla,
            sla.met,
            sla.checks.len(),
            worst.map_or("-".to_owned(), shown_share),
        ),
    );
}

fn table(page: &mut String, lines: &[Line]) {
    page.push_str(
        "<div class=\"wide\"><table>\n<thead><tr><th>Check</th><th>Promise</th><th class=\"n\">Uptime</th>\
         <th class=\"n\">Coverage</th><th class=\"n\">Downtime</th><th class=\"n\">Error budget used</th>\
         <th class=\"n\">Median</th><th class=\"n\">95 %</th><th class=\"n\">99 %</th></tr></thead>\n<tbody>\n",
    );
    for line in lines {
        let (class, word) = match line.met {
            Some(true) => ("good", "kept"),
            Some(false) => ("bad", "missed"),
            None => ("unsure", "not known"),
        };
        let latency = &line.latency_ms;
        push(
            page,
            format_args!(
                "<tr><td>{}<small>{}/{} &middot; {}</small>{}{}</td><td><b class=\"{class}\">{word}</b></td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.0} %{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
                escaped(&line.check),
                escaped(&line.pipeline),
                escaped(&line.source),
                escaped(&line.probers.join(", ")),
                if line.not_measured { format!("<small>{NOT_MEASURED}</small>") } else { String::new() },
                line.maintenance.as_ref().map_or(String::new(), |apart| {
                    format!("<small>{}</small>", escaped(&shown_maintenance(apart)))
                }),
                line.uptime.map_or("-".to_owned(), shown_share),
                shown_share(line.coverage),
                shown_time(line.downtime_s),
                line.budget_used * 100.0,
                bar(line.budget_used),
                shown_milliseconds(latency.p50),
                shown_milliseconds(latency.p95),
                shown_milliseconds(latency.p99),
            ),
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
}

fn incidents(page: &mut String, sla: &Sla) {
    if sla.checks.iter().all(|line| line.incidents.is_empty()) {
        return;
    }
    page.push_str(
        "<h2>Incidents</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>Check</th><th>From</th><th>To</th>\
         <th class=\"n\">Lasted</th><th>Why</th></tr></thead>\n<tbody>\n",
    );
    let mut shown: Vec<(&Line, &Incident)> = sla
        .checks
        .iter()
        .flat_map(|line| line.incidents.iter().map(move |incident| (line, incident)))
        .collect();
    shown.sort_by_key(|(_, incident)| incident.began_at);
    for (line, incident) in shown.iter().take(INCIDENTS_MAX) {
        let lasted = match (incident.began_at, incident.recovered_at) {
            (Some(began), Some(recovered)) => {
                shown_time((recovered - began).total(Unit::Second).unwrap_or(0.0))
            }
            _ => "-".to_owned(),
        };
        push(
            page,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{lasted}</td><td>{}</td></tr>\n",
                escaped(&line.check),
                shown_at(incident.began_at, "-"),
                shown_at(incident.recovered_at, "still open"),
                escaped(&incident.reason),
            ),
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
    let more = shown.len().saturating_sub(INCIDENTS_MAX);
    if more > 0 {
        push(page, format_args!("<p class=\"soft\">... and {more} more; --format json has them all.</p>\n"));
    }
}

/// A drawing, because a width in a style attribute would need a policy that allows them.
fn bar(used: f64) -> String {
    let (class, width) = (if used > 1.0 { "bad" } else { "good" }, (used.clamp(0.0, 1.0) * 100.0).round());
    format!(
        "<svg viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"back\" width=\"100\" height=\"8\"/><rect class=\"{class}\" width=\"{width}\" height=\"8\"/></svg>"
    )
}

fn proof(page: &mut String, sla: &Sla) {
    let class = match sla.audit.verdict {
        Verdict::Proven => "good",
        Verdict::NotProvable => "unsure",
        Verdict::Broken => "bad",
    };
    let (word, rest) = sla.audit.text.split_once(": ").unwrap_or((&sla.audit.text, ""));
    push(
        page,
        format_args!(
            "<h2>Can these figures be trusted?</h2>\n<p><b class=\"{class}\">{}</b> {}</p>\n",
            escaped(word),
            escaped(rest)
        ),
    );
    let (missing, died) = sla
        .checks
        .iter()
        .fold((0, 0), |(missing, died), line| (missing + line.slots_missing, died + line.slots_died));
    push(
        page,
        format_args!(
            "<p class=\"soft\">Of the checks above, {missing} measurements are lost without an explanation and {died} were \
         lost with a prober that died; they lower the coverage, not the uptime.</p>\n"
        ),
    );
    if let Some(told) = shown_dropped(sla) {
        push(page, format_args!("<p class=\"unsure\">{}.</p>\n", escaped(&told)));
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Not even a browser shall be turned around by a name.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                safe.push('\u{fffd}')
            }
            c => safe.push(c),
        }
    }
    safe
}

fn push(page: &mut String, what: std::fmt::Arguments<'_>) {
    page.write_fmt(what).expect("a String takes all");
}
