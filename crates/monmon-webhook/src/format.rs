//! Bodies as services document them.

use std::time::Duration;

use jiff::SignedDuration;
use monmon_model::{Event, Incident, IncidentState, bounds};
use monmon_syntax::format_duration;
use serde_json::{Map, Value, json};

use crate::template::Template;

/// What a chat shows of a reason.
const REASON_CHARS_MAX: usize = 600;
/// PagerDuty cuts a summary at this.
const SUMMARY_CHARS_MAX: usize = 1024;
/// An alert that says nothing of its end is over for Alertmanager after five minutes.
const ALERT_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365);

/// How an incident becomes a body.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// monmon's own.
    Json,
    /// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
    Slack,
    /// <https://developer.pagerduty.com/docs/send-alert-event>
    PagerDuty,
    /// <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>, `POST /api/v2/alerts`
    Alertmanager,
    /// <https://docs.ntfy.sh/publish/#publish-as-json>
    Ntfy,
    Template(Template),
}

/// What a format needs beside the incident.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra<'a> {
    pub(crate) routing_key: &'a str,
    pub(crate) topic: &'a str,
}

impl Format {
    pub(crate) const WORDS: &'static [&'static str] = &["json", "slack", "pagerduty", "alertmanager", "ntfy"];

    pub(crate) fn from_word(word: &str) -> Format {
        match word {
            "slack" => Format::Slack,
            "pagerduty" => Format::PagerDuty,
            "alertmanager" => Format::Alertmanager,
            "ntfy" => Format::Ntfy,
            _ => Format::Json,
        }
    }

    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Slack => "slack",
            Format::PagerDuty => "pagerduty",
            Format::Alertmanager => "alertmanager",
            Format::Ntfy => "ntfy",
            Format::Template(_) => "template",
        }
    }

    /// Where it is sent when the file does not say.
    pub(crate) fn default_url(&self) -> Option<&'static str> {
        match self {
            Format::PagerDuty => Some("https://events.pagerduty.com/v2/enqueue"),
            _ => None,
        }
    }

    pub(crate) fn body(&self, incident: &Incident, extra: &Extra<'_>) -> Value {
        match self {
            Format::Json => plain(incident),
            Format::Slack => slack(incident),
            Format::PagerDuty => pagerduty(incident, extra.routing_key),
            Format::Alertmanager => alertmanager(incident),
            Format::Ntfy => ntfy(incident, extra.topic),
            Format::Template(template) => template.fill(incident),
        }
    }

    /// Whether what was sent is refused for its key, and not for what it says: PagerDuty answers both with status 400.
    pub(crate) fn is_key_refused(&self, why: &str) -> bool {
        let why = why.to_ascii_lowercase();
        matches!(self, Format::PagerDuty) && (why.contains("routing key") || why.contains("routing_key"))
    }
}

/// How long it lasted; of one that is open, so far as is known.
pub(crate) fn duration_s(incident: &Incident) -> i64 {
    let end = incident.recovered_at.or(incident.closed_at).unwrap_or(incident.last_bad_at);
    end.duration_since(incident.began_at).as_secs().max(0)
}

/// One line for people.
pub(crate) fn summary(incident: &Incident) -> String {
    let name = &incident.check.name;
    let reason = cut(&incident.reason, REASON_CHARS_MAX);
    match incident.state() {
        IncidentState::Open => format!("{name} is down: {reason}"),
        IncidentState::Flapping => format!("{name} is down and up again and again: {reason}"),
        IncidentState::Closed => {
            let seconds = u64::try_from(duration_s(incident)).unwrap_or(0);
            format!("{name} is up again after {}", format_duration(Duration::from_secs(seconds)))
        }
    }
}

fn plain(incident: &Incident) -> Value {
    let mut value = serde_json::to_value(Event::Incident(incident.clone())).unwrap_or_default();
    value["v"] = json!(1);
    value["state"] = json!(incident.state());
    value["summary"] = json!(summary(incident));
    value
}

fn slack(incident: &Incident) -> Value {
    let sign = match incident.state() {
        IncidentState::Open => ":red_circle:",
        IncidentState::Flapping => ":large_yellow_circle:",
        IncidentState::Closed => ":large_green_circle:",
    };
    let text = slack_text(&summary(incident));
    let check = &incident.check;
    let place = format!("{}/{}", check.pipeline, check.source);
    let about = format!(
        "{} · since {} · {} · {}",
        slack_text(&cut(&place, REASON_CHARS_MAX)),
        incident.began_at.strftime("%Y-%m-%d %H:%M:%SZ"),
        slack_text(&cut(&check.url, REASON_CHARS_MAX)),
        slack_text(&cut(&incident.probers.join(", "), REASON_CHARS_MAX)),
    );
    json!({
        "text": format!("{sign} {text}"),
        "blocks": [
            { "type": "section", "text": { "type": "mrkdwn", "text": format!("{sign} *{text}*") } },
            { "type": "context", "elements": [{ "type": "mrkdwn", "text": about }] },
        ],
    })
}

/// The three characters that Slack wants escaped; also what would else call a whole channel.
fn slack_text(text: &str) -> String {
    let text: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn pagerduty(incident: &Incident, routing_key: &str) -> Value {
    let check = &incident.check;
    let dedup_key = format!("monmon-{}", incident.id);
    if incident.state() == IncidentState::Closed {
        return json!({ "routing_key": routing_key, "event_action": "resolve", "dedup_key": dedup_key });
    }
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "client": "monmon",
        "payload": {
            "summary": cut(&summary(incident), SUMMARY_CHARS_MAX),
            "source": check.url,
            "severity": "critical",
            "timestamp": incident.began_at,
            "component": check.name,
            "group": check.pipeline,
            "class": "availability",
            "custom_details": {
                "reason": incident.reason,
                "state": incident.state(),
                "detector": format!("{}/{}", incident.pipeline, incident.detector),
                "probers": incident.probers,
                "labels": check.labels,
            },
        },
    })
}

fn alertmanager(incident: &Incident) -> Value {
    let check = &incident.check;
    let mut labels: Map<String, Value> = Map::new();
    // An alert's labels are its identity: what changes between opening and closing has no place among them.
    for (name, value) in &check.labels {
        labels.insert(format!("label_{}", label_name(name)), json!(value));
    }
    for (name, value) in [
        ("alertname", "MonmonCheckDown".to_owned()),
        ("severity", "critical".to_owned()),
        ("check", check.name.clone()),
        ("check_id", check.id.to_string()),
        ("pipeline", check.pipeline.clone()),
        ("source", check.source.clone()),
        ("detector", incident.detector.clone()),
        ("incident", incident.id.to_string()),
    ] {
        labels.insert(name.to_owned(), json!(value));
    }
    let ends_at = incident
        .closed_at
        .unwrap_or_else(|| incident.opened_at.saturating_add(ALERT_LIFE).unwrap_or(incident.opened_at));
    let mut alert = json!({
        "labels": labels,
        "annotations": { "summary": summary(incident), "description": incident.reason, "url": check.url },
        "startsAt": incident.began_at,
        "endsAt": ends_at,
    });
    if let Some(url) = link(incident) {
        alert["generatorURL"] = json!(url);
    }
    json!([alert])
}

/// What Prometheus takes for the name of a label.
fn label_name(name: &str) -> String {
    name.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '_' }).collect()
}

fn ntfy(incident: &Incident, topic: &str) -> Value {
    let (title, priority, tag) = match incident.state() {
        IncidentState::Open => ("Down", 5, "rotating_light"),
        IncidentState::Flapping => ("Flapping", 4, "warning"),
        IncidentState::Closed => ("Up again", 3, "white_check_mark"),
    };
    let mut message = json!({
        "topic": topic,
        "title": format!("{title}: {}", cut(&incident.check.name, REASON_CHARS_MAX)),
        "message": summary(incident),
        "priority": priority,
        "tags": [tag],
    });
    if let Some(url) = link(incident) {
        message["click"] = json!(url);
    }
    message
}

/// The check's URL, where it is one that people can follow.
fn link(incident: &Incident) -> Option<&str> {
    let url = incident.check.url.as_str();
    (url.starts_with("https://") || url.starts_with("http://")).then_some(url)
}

fn cut(text: &str, chars_max: usize) -> String {
    if bounds::fits(text, chars_max) {
        return text.to_owned();
    }
    text.chars().take(chars_max - 1).chain(['…']).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use monmon_model::{Check, check_id};

    use super::*;

    /// An open incident of a check whose name wants care.
    pub(crate) fn incident() -> Incident {
        let at = |text: &str| text.parse().expect("a time");
        let check = Check {
            id: check_id("producer", "sites", "shop"),
            name: "shop \"start\"".to_owned(),
            pipeline: "producer".to_owned(),
            source: "sites".to_owned(),
            method: "GET".to_owned(),
            url: "https://shop.example.org/?a=1&b=<2>".to_owned(),
            schedule: None,
            interval_us: 30_000_000,
            timeout_us: 10_000_000,
            labels: [("team".to_owned(), "web".to_owned()), ("on-call".to_owned(), "a&b".to_owned())].into(),
        };
        let began_at = at("2026-11-23T12:00:00Z");
        Incident {
            id: monmon_model::incident_id("consumer", "outages", check.id, began_at),
            check: check.into(),
            pipeline: "consumer".to_owned(),
            detector: "outages".to_owned(),
            revision: 1,
            began_at,
            opened_at: at("2026-11-23T12:00:30Z"),
            last_bad_at: at("2026-11-23T12:00:30Z"),
            recovered_at: None,
            closed_at: None,
            reason: "connection refused".to_owned(),
            probers: vec!["berlin".to_owned(), "oslo".to_owned()],
            flapping: false,
            suppressed_by: None,
        }
    }

    fn closed() -> Incident {
        let at = |text: &str| text.parse().ok();
        Incident {
            revision: 2,
            recovered_at: at("2026-11-23T12:10:00Z"),
            closed_at: at("2026-11-23T12:10:30Z"),
            ..incident()
        }
    }

    #[test]
    fn every_format_as_its_service_documents_it() {
        let extra = Extra { routing_key: "R0UT1NG", topic: "alerts" };
        for word in Format::WORDS {
            let format = Format::from_word(word);
            assert_eq!(format.as_str(), *word);
            let flapping = Incident { flapping: true, ..incident() };
            let bodies = [incident(), flapping, closed()].map(|one| format.body(&one, &extra));
            insta::assert_json_snapshot!(*word, bodies);
        }
    }

    #[test]
    fn no_text_calls_a_channel_or_outgrows_its_bound() {
        let mut evil = incident();
        evil.reason = format!("<!channel> & {}", "x".repeat(4000));
        let text = slack(&evil)["text"].as_str().expect("a text").to_owned();
        assert!(text.contains("&lt;!channel&gt; &amp; xxx") && text.chars().count() < 1000, "{text}");
        let pagerduty = pagerduty(&evil, "");
        assert!(pagerduty["payload"]["summary"].as_str().is_some_and(|text| text.chars().count() <= 1024));
    }
}
