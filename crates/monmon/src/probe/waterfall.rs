//! A measurement for people: where the time went, who answered, and what was said.

use std::fmt::Write as _;

use monmon_model::{Certificate, MatchStatus, Measurement, Outcome, Reason, Timings};
use monmon_syntax::printable;

/// How wide the bars are, in characters.
const WIDTH: u64 = 40;
/// The longest value of a match that is shown.
const VALUE_CHARS_MAX: usize = 200;

pub(super) fn draw(measurement: &Measurement) -> String {
    let mut text = String::new();
    head(&mut text, measurement);
    let total = measurement.timings.total_us.max(1);
    let mut at = 0;
    let mut last = measurement.timings;
    for hop in &measurement.redirects {
        let to = hop.remote_addr.as_deref().unwrap_or("?");
        line(&mut text, &format!("\n  {} {} ({to})", hop.status, hop.url));
        bars(&mut text, &hop.timings, &mut at, total);
        last = without(&last, &hop.timings);
    }
    let steps = measurement.details.iter().flat_map(|details| &details.steps);
    let mut has_steps = false;
    for step in steps {
        has_steps = true;
        let status = step.status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
        let (outcome, url) = (step.outcome.as_str(), &step.url);
        line(&mut text, &format!("\n  step {}: {outcome}, {status}, {} {url}", step.name, step.method));
        bars(&mut text, &step.timings, &mut at, total);
    }
    if !has_steps {
        if !measurement.redirects.is_empty() {
            let to = measurement.remote_addr.as_deref().unwrap_or("?");
            let status = measurement.status.map_or_else(|| "---".to_owned(), |status| status.to_string());
            line(&mut text, &format!("\n  {status} {} ({to})", measurement.url));
        }
        bars(&mut text, &last, &mut at, total);
    }
    rest(&mut text, measurement);
    // Sites choose much of this text; none of it reaches the terminal as a command.
    text.lines().map(|line| printable(line) + "\n").collect()
}

fn head(text: &mut String, measurement: &Measurement) {
    let mut words = vec![measurement.outcome.as_str().to_uppercase()];
    words.extend(measurement.status.map(|status| status.to_string()));
    words.extend(measurement.http_version.as_ref().map(|version| format!("HTTP/{version}")));
    words.push(format!("{} ms", millis(measurement.timings.total_us)));
    words.extend(measurement.remote_addr.clone());
    if measurement.attempt > 1 {
        words.push(format!("attempt {}", measurement.attempt));
    }
    line(text, &format!("{}  {}", measurement.check.url, words.join("  ")));
    if let Some(reason) = measurement.reason.as_ref().filter(|_| measurement.outcome != Outcome::Up) {
        let what = match (reason, &measurement.error) {
            (Reason::Failure { .. }, Some(error)) => {
                format!("{} ({})", error.kind.as_str(), error.phase.as_str())
            }
            (reason, _) => reason.name().unwrap_or(reason.kind()).to_owned(),
        };
        line(text, &format!("  {what}: {}", reason.message()));
    }
}

fn bars(text: &mut String, timings: &Timings, at: &mut u64, total: u64) {
    let names = ["dns", "connect", "tls", "wait", "transfer"];
    for (name, phase) in names.into_iter().zip(timings.phases()) {
        let Some(phase) = phase else { continue };
        // From where it begins to where it ends, and never nothing.
        let from = (*at * WIDTH / total).min(WIDTH - 1);
        let to = ((*at + phase) * WIDTH).div_ceil(total).clamp(from + 1, WIDTH);
        let bar = " ".repeat(from as usize) + &"█".repeat((to - from) as usize);
        line(text, &format!("  {name:<9}{:>10} ms  │{bar:<40}│", millis(phase)));
        *at += phase;
    }
}

fn rest(text: &mut String, measurement: &Measurement) {
    let details = measurement.details.as_deref();
    if let Some(bytes) = measurement.body_bytes {
        let wire =
            measurement.body_wire_bytes.map(|wire| format!(", {wire} on the wire")).unwrap_or_default();
        let cut = if measurement.body_truncated { ", cut at its bound" } else { "" };
        line(text, &format!("\n  body: {bytes} bytes{wire}{cut}"));
    }
    if let Some(tls) =
        measurement.tls.as_ref().filter(|tls| tls.version.is_some() || tls.certificate.is_some())
    {
        let agreed: Vec<&str> = tls.version.iter().chain(&tls.cipher).map(String::as_str).collect();
        let verified = match tls.verified {
            Some(true) => "the chain is valid for the name",
            Some(false) => "the chain is refused",
            None => "nobody looked at the chain",
        };
        line(text, &format!("\n  tls: {} ({verified}; revocation is not checked)", agreed.join(" ")));
        for certificate in tls.certificate.iter().chain(&tls.chain) {
            line(text, &format!("    {}", of_certificate(certificate, measurement)));
        }
    }
    if let Some(details) = details {
        for tried in &details.addresses {
            let message = tried.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
            let time = tried.timings.map(|timings| format!(" in {} ms", millis(timings.total_us)));
            let outcome = tried.outcome.as_str();
            line(text, &format!("  {} is {outcome}{}{message}", tried.address, time.unwrap_or_default()));
        }
        let notes: Vec<String> = details.notes.iter().filter_map(word).collect();
        let shown = [
            ("proxy", details.proxy.clone()),
            ("sha256", details.body_sha256.clone()),
            ("retry after", details.retry_after_s.map(|seconds| format!("{seconds} s"))),
            ("notes", (!notes.is_empty()).then(|| notes.join(", "))),
            ("evidence", details.evidence.clone().map(|text| text.replace('\n', "\n    "))),
        ];
        for (name, value) in shown {
            if let Some(value) = value {
                line(text, &format!("  {name}: {value}"));
            }
        }
    }
    for found in &measurement.matches {
        let mark = match found.status {
            MatchStatus::Passed => "passed",
            MatchStatus::Failed => "failed",
            MatchStatus::Error => "undecided",
        };
        let message = found.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        line(text, &format!("  {}: {mark}{message}", found.name));
        for (name, value) in &found.values {
            let value: String = value.chars().take(VALUE_CHARS_MAX).collect();
            line(text, &format!("    {name} = {value}"));
        }
        for (name, metric) in &found.metrics {
            line(text, &format!("    {name} = {} {}", metric.value(), metric.unit()));
        }
    }
}

fn of_certificate(certificate: &Certificate, measurement: &Measurement) -> String {
    let now = measurement.started_at.unwrap_or(measurement.scheduled_at);
    let days = (certificate.not_after.as_second() - now.as_second()).div_euclid(86_400);
    let left = if days < 0 { format!("ended {} days ago", -days) } else { format!("{days} days left") };
    let until = certificate.not_after.strftime("%Y-%m-%d");
    format!("{} by {}, until {until} ({left})", certificate.subject, certificate.issuer)
}

fn word(note: &monmon_model::Note) -> Option<String> {
    serde_json::to_value(note).ok()?.as_str().map(|word| word.replace('_', " "))
}

/// The last request's own times: the sum without the hops before it.
fn without(sum: &Timings, hop: &Timings) -> Timings {
    let less = |sum: Option<u64>, hop: Option<u64>| match (sum, hop) {
        // What only a hop before had is no phase of the last request.
        (Some(sum), Some(hop)) if sum > hop => Some(sum - hop),
        (Some(_), Some(_)) => None,
        (sum, _) => sum,
    };
    Timings {
        dns_us: less(sum.dns_us, hop.dns_us),
        connect_us: less(sum.connect_us, hop.connect_us),
        tls_us: less(sum.tls_us, hop.tls_us),
        wait_us: less(sum.wait_us, hop.wait_us),
        transfer_us: less(sum.transfer_us, hop.transfer_us),
        total_us: sum.total_us.saturating_sub(hop.total_us),
    }
}

fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes all");
}
