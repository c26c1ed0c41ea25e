//! Several requests that are one measurement: they run in order, and what one reply holds goes into later requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fancy_regex::Regex;
use http::Method;
use http::header::{HeaderName, HeaderValue};
use monmon_model::{self as model, Failure, FailureKind, Outcome, Owner, Phase};
use monmon_stage::Page;
use monmon_syntax::{Ranges, format_duration};
use serde_json_path::JsonPath;
use url::Url;

use super::chain::{Chain, Session};
use super::reach::Visit;
use super::request::{Header, Prepared, Wanted, shown};
use super::{Facts, Prober};

/// The longest value that is captured.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// A text with places for captured values: `${name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(String),
}

#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) method: Method,
    /// Joined to the check's own URL.
    pub(crate) url: Template,
    pub(crate) headers: Vec<(HeaderName, Template)>,
    pub(crate) body: Template,
    pub(crate) statuses: Ranges,
    pub(crate) time_max: Option<Duration>,
    pub(crate) captures: Vec<Capture>,
}

#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) name: String,
    pub(crate) from: CaptureFrom,
}

#[derive(Debug)]
pub(crate) enum CaptureFrom {
    /// The first group, or the whole match where there is none.
    Pattern(Box<Regex>),
    Json(Box<JsonPath>),
    Header(HeaderName),
}

impl Template {
    /// `${name}` stands for a value, `$${` for itself.
    pub(crate) fn new(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                plain.push_str(&rest[..at - 1]);
                plain.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            plain.push_str(&rest[..at]);
            let (name, after) = rest[at + 2..].split_once('}').ok_or("a `${` has no `}`")?;
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
                return Err(format!(
                    "`${{{name}}}` names no value: letters, digits, `-` and `_` make a name"
                ));
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Value(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template(parts))
    }

    /// The values that it has places for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Value(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    fn fill(&self, values: &BTreeMap<&str, String>, escape: fn(&str) -> String) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Value(name) => values.get(name.as_str()).map(|value| escape(value)).unwrap_or_default(),
        };
        self.0.iter().map(text).collect()
    }
}

/// In a URL a value is one part of it, whatever it holds.
fn url_part(value: &str) -> String {
    percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn plain(value: &str) -> String {
    value.to_owned()
}

/// In a body that is JSON: the inside of a string.
fn json_part(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

impl Prober {
    /// Takes the steps in order, as far as they go well. The page is the last one's.
    pub(crate) async fn walk(
        &self,
        chain: &Chain,
        session: &mut Session,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Page>, Failure> {
        let mut values = BTreeMap::new();
        let mut page = None;
        let last = chain.steps.len() - 1;
        for (at, step) in chain.steps.iter().enumerate() {
            visit.facts.begin_step();
            let taken = self.take(chain, step, at == last, &mut values, session, visit).await;
            let timings = visit.trace.end_step();
            let (outcome, message) = match &taken {
                Ok(_) => match visit.facts.misses.first() {
                    Some((_, message)) => (Outcome::Down, Some(message.clone())),
                    None => (Outcome::Up, None),
                },
                Err(failure) => match failure.kind.owner() {
                    Owner::Prober => (Outcome::Unknown, Some(failure.message.clone())),
                    Owner::Site => (Outcome::Down, Some(failure.message.clone())),
                },
            };
            let facts = &mut *visit.facts;
            let record = model::Step {
                name: step.name.clone(),
                outcome,
                message,
                method: facts.method.as_ref().unwrap_or(&step.method).to_string(),
                url: facts.url.as_ref().unwrap_or(&chain.first.url).to_string(),
                status: facts.status,
                remote_addr: facts.remote_addr.map(|address| address.to_string()),
                body_bytes: facts.body_bytes,
                timings,
            };
            facts.details_mut().steps.push(record);
            page = taken.map_err(|failure| of_step(failure, step))?;
            if outcome != Outcome::Up {
                break;
            }
        }
        Ok(page)
    }

    async fn take<'c>(
        &self,
        chain: &Chain,
        step: &'c Step,
        is_last: bool,
        values: &mut BTreeMap<&'c str, String>,
        session: &mut Session,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Page>, Failure> {
        let request = step.prepared(chain, values)?;
        visit.facts.url = Some(request.url.clone());
        visit.facts.method = Some(request.method.clone());
        session.begin_step(visit.manner);
        let looks_in = !step.captures.is_empty();
        // Only what a matcher may want counts against the memory for pages.
        let pages = if is_last { self.pages.as_ref() } else { None }.or(looks_in.then_some(&self.own_pages));
        let page = self.follow(&request, &step.statuses, pages, session, visit).await?;
        visit.facts.hold(step, visit.trace.so_far());
        if visit.facts.misses.is_empty() {
            for capture in &step.captures {
                let found = page.as_ref().and_then(|page| capture.find(page));
                let value = found.ok_or_else(|| {
                    let message = format!("the reply has nothing for `{}`", capture.name);
                    Failure::new(FailureKind::CaptureFailed, Phase::Transfer, message)
                })?;
                values.insert(&capture.name, value);
            }
        }
        Ok(page.filter(|_| is_last && self.pages.is_some()))
    }
}

fn of_step(mut failure: Failure, step: &Step) -> Failure {
    failure.message = format!("step `{}`: {}", step.name, failure.message);
    failure
}

impl Step {
    fn prepared(&self, chain: &Chain, values: &BTreeMap<&str, String>) -> Result<Prepared, Failure> {
        let wrong = |why: String| Failure::new(FailureKind::CaptureFailed, Phase::Start, why);
        let text = self.url.fill(values, url_part);
        let url: Url =
            chain.first.url.join(&text).map_err(|error| wrong(format!("`{text}` leads nowhere: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("`{}` cannot be asked for", shown(&url))));
        }
        let mut headers = chain.first.wanted.headers.clone();
        for (name, value) in &self.headers {
            let value = HeaderValue::try_from(value.fill(values, plain))
                .map_err(|_| wrong(format!("the value of the header `{name}` cannot be sent")))?;
            headers.retain(|header| header.name != *name);
            headers.push(Header { name: name.clone(), value });
        }
        let is_json = headers.iter().any(|header| {
            header.name == http::header::CONTENT_TYPE
                && header.value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("json"))
        });
        let body = Bytes::from(self.body.fill(values, if is_json { json_part } else { plain }));
        let wanted = Wanted { headers, body, user_agent: chain.first.wanted.user_agent.clone() };
        // The check's headers are for the check's own origin; a step elsewhere has its own alone.
        let at_home = url.origin() == chain.first.url.origin();
        let wanted = if at_home { wanted } else { self.without_home(wanted) };
        Prepared::new(&url, self.method.clone(), &Arc::new(wanted), true).map_err(wrong)
    }

    fn without_home(&self, mut wanted: Wanted) -> Wanted {
        wanted.headers.retain(|header| self.headers.iter().any(|(name, _)| *name == header.name));
        wanted
    }
}

impl Capture {
    fn find(&self, page: &Page) -> Option<String> {
        let value = match &self.from {
            CaptureFrom::Pattern(pattern) => {
                let text = String::from_utf8_lossy(&page.body);
                let found = pattern.captures(&*text).ok()??;
                found.get(1).or_else(|| found.get(0))?.as_str().to_owned()
            }
            CaptureFrom::Json(path) => {
                let document: serde_json::Value = serde_json::from_slice(&page.body).ok()?;
                match path.query(&document).first()? {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                }
            }
            CaptureFrom::Header(name) => page.headers.get(name)?.to_str().ok()?.to_owned(),
        };
        (value.len() <= VALUE_BYTES_MAX && !value.contains('\0')).then_some(value)
    }
}

impl Facts {
    /// What was known of the step before goes; the steps themselves stay.
    fn begin_step(&mut self) {
        *self = Facts { details: self.details.take(), first_zone: self.first_zone, ..Facts::default() };
    }

    /// Holds what came against what the step expects.
    fn hold(&mut self, step: &Step, took: Duration) {
        let name = format!("step {}", step.name);
        if let Some(status) = self.status.filter(|status| !step.statuses.contains(*status)) {
            self.misses.push((name, format!("status {status}, expected {}", step.statuses)));
        } else if let Some(bound) = step.time_max.filter(|bound| took >= *bound) {
            let message = format!("took {}, expected <{}", format_duration(took), format_duration(bound));
            self.misses.push((name, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let values = BTreeMap::from([("a", "x/\"y".to_owned()), ("b-1", "2".to_owned())]);
        let fill = |text: &str, escape| Template::new(text).unwrap().fill(&values, escape);
        assert_eq!(fill("/p/${a}?q=${b-1}", url_part), "/p/x%2F%22y?q=2");
        assert_eq!(fill("{\"k\": \"${a}\"}", json_part), "{\"k\": \"x/\\\"y\"}");
        assert_eq!(fill("${a}${b-1}", plain), "x/\"y2");
        assert_eq!(fill("cost $5, $${a}, $", plain), "cost $5, ${a}, $");
        assert_eq!(fill("", plain), "");
        let names: Vec<String> = Template::new("${a}${b-1}").unwrap().names().map(str::to_owned).collect();
        assert_eq!(names, ["a", "b-1"]);
        for wrong in ["${a", "${}", "${a b}"] {
            assert!(Template::new(wrong).is_err(), "{wrong}");
        }
    }
}
