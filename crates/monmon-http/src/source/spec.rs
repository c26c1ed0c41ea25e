//! An http source as the file asks for it.

use std::net::SocketAddr;
use std::time::Duration;

use monmon_model::Labels;
use monmon_stage::matching::{InlineMatch, InlineSpec};
use monmon_stage::{OpenFuture, StageContext, StageSpec};
use monmon_syntax::{Late, Ranges, format_duration, format_size};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::probe::Limits;

/// How many checks a description shows one by one; the rest is counted. A description is for people, and of a long list
/// it would take more time and memory than the list itself.
const DESCRIBED_MAX: usize = 1_000;

#[derive(Debug)]
pub(crate) struct HttpSpec {
    pub(crate) checks: Vec<CheckSpec>,
    pub(crate) concurrency: usize,
    pub(crate) limits: Limits,
    pub(crate) pages_bytes_max: u64,
    pub(crate) demo_site: Option<SocketAddr>,
    /// The path, and where relative ones start.
    pub(crate) tls_ca: Option<Late>,
    pub(crate) folder: std::path::PathBuf,
}

#[derive(Debug)]
pub(crate) struct CheckSpec {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) url: Late,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) method: String,
    pub(crate) status: Ranges,
    pub(crate) time: Option<Duration>,
    pub(crate) headers: Vec<(String, Late)>,
    pub(crate) labels: Labels,
    pub(crate) matches: Vec<InlineSpec>,
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
        self.checks.iter().flat_map(of).collect()
    }

    fn describe(&self) -> Value {
        let mut described = json!({
            "concurrency": self.concurrency,
            "wire-max": format_size(self.limits.body_wire_bytes_max),
            "body-max": format_size(self.limits.body_bytes_max),
            "pages-max": format_size(self.pages_bytes_max),
            "checks": self.checks.iter().take(DESCRIBED_MAX).map(CheckSpec::describe).collect::<Vec<_>>(),
        });
        if self.checks.len() > DESCRIBED_MAX {
            described["checks-more"] = json!(self.checks.len() - DESCRIBED_MAX);
        }
        if let Some(address) = self.demo_site {
            described["demo-site"] = json!(address.to_string());
        }
        if let Some(ca) = &self.tls_ca {
            described["tls"] = json!({ "ca": shown(ca) });
        }
        described
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(super::open::open(self, context))
    }
}

impl CheckSpec {
    fn describe(&self) -> Value {
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
        described
    }
}

/// A late value's own `Debug` hides what is secret; here without the quotes of a plain text.
fn shown(late: &Late) -> String {
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
