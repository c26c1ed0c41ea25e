//! An http source as the file asks for it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use monmon_model::Labels;
use monmon_stage::matching::{InlineMatch, InlineSpec};
use monmon_stage::{OpenFuture, StageContext, StageSpec};
use monmon_syntax::{Late, Ranges, format_duration, format_size};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::asking::AskSpec;
use super::window::Cron;
use crate::probe::{Limits, StartTls};

/// How many checks a description shows one by one; the rest is counted. A description is for people, and of a long list
/// it would take more time and memory than the list itself.
const DESCRIBED_MAX: usize = 1_000;

#[derive(Debug)]
pub(crate) struct HttpSpec {
    pub(crate) checks: Checks,
    pub(crate) concurrency: usize,
    pub(crate) limits: Limits,
    pub(crate) pages_bytes_max: u64,
    pub(crate) demo_site: Option<SocketAddr>,
    /// Another process may serve it: then it is not served here.
    pub(crate) demo_site_may_be_taken: bool,
    pub(crate) per_host: Option<usize>,
    pub(super) references: Vec<ReferenceSpec>,
    /// What checks do that do not say otherwise.
    pub(super) ask: Arc<AskSpec>,
}

/// The checks until the source opens: they go over to it then, so that a hundred thousand are not there twice.
#[derive(Debug)]
pub(crate) struct Checks(Mutex<Vec<CheckSpec>>);

impl Checks {
    pub(super) fn new(mut checks: Vec<CheckSpec>) -> Checks {
        checks.shrink_to_fit();
        Checks(Mutex::new(checks))
    }

    pub(super) fn take(&self) -> Vec<CheckSpec> {
        std::mem::take(&mut *self.get())
    }

    fn get(&self) -> MutexGuard<'_, Vec<CheckSpec>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is asked to learn whether the prober's own network is alive.
#[derive(Debug)]
pub(super) struct ReferenceSpec {
    pub(super) url: Late,
    pub(super) timeout: Duration,
}

#[derive(Debug)]
pub(crate) struct CheckSpec {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) url: Late,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) method: &'static str,
    pub(crate) status: Ranges,
    pub(crate) time: Option<Duration>,
    pub(crate) headers: Vec<(String, Late)>,
    pub(crate) labels: Labels,
    pub(crate) matches: Vec<InlineSpec>,
    pub(super) ask: Arc<AskSpec>,
    pub(super) more: Option<Box<MoreSpec>>,
}

/// What few checks have.
#[derive(Debug, Default)]
pub(super) struct MoreSpec {
    pub(super) schedule: Option<Cron>,
    pub(super) slow: Option<Duration>,
    pub(super) certificate: Option<Duration>,
    pub(super) body: Option<Late>,
    pub(super) query: Vec<(String, String)>,
    pub(super) send: Option<Late>,
    pub(super) reply: Option<String>,
    pub(super) answers: Vec<String>,
    pub(super) starttls: Option<StartTls>,
    pub(super) steps: Vec<StepSpec>,
}

/// A step as the file has it. Its templates are known to be sound.
#[derive(Debug)]
pub(super) struct StepSpec {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) method: String,
    pub(super) headers: Vec<(String, Late)>,
    pub(super) body: Option<Late>,
    pub(super) status: Ranges,
    pub(super) time: Option<Duration>,
    pub(super) captures: Vec<CaptureSpec>,
}

#[derive(Debug)]
pub(super) struct CaptureSpec {
    pub(super) name: String,
    pub(super) from: CaptureSource,
}

#[derive(Debug)]
pub(super) enum CaptureSource {
    Pattern(String),
    Json(String),
    Header(String),
}

impl StageSpec for HttpSpec {
    fn gives_page(&self) -> bool {
        true
    }

    fn inline_matches(&self) -> Vec<InlineMatch> {
        let of = |check: &CheckSpec| {
            let id = check.id;
            check.matches.clone().into_iter().map(move |spec| InlineMatch { check: id, spec })
        };
        self.checks.get().iter().flat_map(of).collect()
    }

    fn keep_checks(&mut self, wanted: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut checks = self.checks.get();
        let names = checks.iter().map(|check| check.name.clone()).collect();
        checks.retain(|check| wanted(&check.name));
        // Whoever runs the file serves it already.
        self.demo_site_may_be_taken = true;
        names
    }

    fn describe(&self) -> Value {
        let checks = self.checks.get();
        let mut described = json!({
            "concurrency": self.concurrency,
            "wire-max": format_size(self.limits.body_wire_bytes_max),
            "body-max": format_size(self.limits.body_bytes_max),
            "pages-max": format_size(self.pages_bytes_max),
            "checks": checks.iter().take(DESCRIBED_MAX).map(|check| check.describe(&self.ask)).collect::<Vec<_>>(),
        });
        if checks.len() > DESCRIBED_MAX {
            described["checks-more"] = json!(checks.len() - DESCRIBED_MAX);
        }
        if let Some(address) = self.demo_site {
            described["demo-site"] = json!(address.to_string());
        }
        if let Some(per_host) = self.per_host {
            described["per-host"] = json!(per_host);
        }
        if let Some(contact) = &self.ask.contact {
            described["contact"] = json!(contact);
        }
        if !self.references.is_empty() {
            described["references"] =
                self.references.iter().map(|reference| shown_url(&reference.url)).collect();
        }
        put_all(&mut described, self.ask.describe());
        described
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(super::open::open(self, context))
    }
}

impl CheckSpec {
    fn describe(&self, above: &Arc<AskSpec>) -> Value {
        let mut described = json!({
            "name": self.name,
            "id": self.id,
            "url": shown(&self.url),
            "interval": format_duration(self.interval),
            "timeout": format_duration(self.timeout),
            "method": self.method,
            "status": self.status.to_string(),
        });
        if let Some(time) = self.time {
            described["time"] = json!(format!("<{}", format_duration(time)));
        }
        if !self.headers.is_empty() {
            // A header's value may be a credential even where it is written in place.
            let headers =
                self.headers.iter().map(|(name, value)| (name.clone(), json!(header_shown(name, value))));
            described["headers"] = Value::Object(headers.collect::<Map<_, _>>());
        }
        if !self.labels.is_empty() {
            described["labels"] = json!(self.labels);
        }
        if !self.matches.is_empty() {
            described["matches"] = Value::Array(self.matches.iter().map(InlineSpec::describe).collect());
        }
        if !Arc::ptr_eq(&self.ask, above) {
            put_all(&mut described, self.ask.describe());
        }
        if let Some(more) = &self.more {
            more.describe(&mut described);
        }
        described
    }
}

impl MoreSpec {
    fn describe(&self, described: &mut Value) {
        if let Some(schedule) = &self.schedule {
            described["schedule"] = json!(schedule.text());
        }
        if let Some(slow) = self.slow {
            described["slow"] = json!(format!("<{}", format_duration(slow)));
        }
        if let Some(least) = self.certificate {
            described["certificate"] = json!(format_duration(least));
        }
        for (name, late) in [("body", &self.body), ("send", &self.send)] {
            if let Some(late) = late {
                described[name] = json!(shown(late));
            }
        }
        if !self.query.is_empty() {
            let query = self.query.iter().map(|(name, value)| (name.clone(), json!(value)));
            described["query"] = Value::Object(query.collect());
        }
        if let Some(reply) = &self.reply {
            described["reply"] = json!(reply);
        }
        if !self.answers.is_empty() {
            described["answers"] = json!(self.answers);
        }
        if let Some(protocol) = self.starttls {
            described["starttls"] = json!(format!("{protocol:?}").to_lowercase());
        }
        if !self.steps.is_empty() {
            described["steps"] = self.steps.iter().map(StepSpec::describe).collect();
        }
    }
}

impl StepSpec {
    fn describe(&self) -> Value {
        let headers =
            self.headers.iter().map(|(name, value)| (name.clone(), json!(header_shown(name, value))));
        json!({
            "name": self.name,
            "url": self.url,
            "method": self.method,
            "status": self.status.to_string(),
            "headers": headers.collect::<Map<_, _>>(),
            "body": self.body.as_ref().map(shown),
            "captures": self.captures.iter().map(|capture| &capture.name).collect::<Vec<_>>(),
        })
    }
}

fn put_all(described: &mut Value, more: Map<String, Value>) {
    for (name, value) in more {
        described[name] = value;
    }
}

/// A URL without its password.
pub(super) fn shown_url(late: &Late) -> String {
    match late.as_literal().and_then(|text| url::Url::parse(text).ok()) {
        Some(url) => crate::probe::shown(&url),
        None => shown(late),
    }
}

/// A late value's own `Debug` hides what is secret; here without the quotes of a plain text.
pub(super) fn shown(late: &Late) -> String {
    let debug = format!("{late:?}");
    match late.as_literal() {
        Some(_) => debug.trim_matches('"').to_owned(),
        None => debug,
    }
}

fn header_shown(name: &str, value: &Late) -> String {
    let credential =
        ["authorization", "cookie", "proxy-authorization"].iter().any(|word| name.eq_ignore_ascii_case(word));
    if credential && value.as_literal().is_some() { "***".to_owned() } else { shown(value) }
}
