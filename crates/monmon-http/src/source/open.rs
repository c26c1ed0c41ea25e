//! Opening the source: late values come, what checks share is made, the demo site's port is taken.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use monmon_model::Check;
use monmon_stage::{OpenStage, PageBudget, StageContext, StageError};
use monmon_syntax::{Code, Late, Problem};
use url::Url;

use super::asking::{AskSpec, Manners, Retry, parsed_url};
use super::descriptors;
use super::guard::Guard;
use super::kinds::what;
use super::run::HttpSource;
use super::spec::{CheckSpec, HttpSpec, MoreSpec, ReferenceSpec};
use super::table::SCHEMES;
use super::window::Window;
use crate::probe::{Chain, Expect, Header, Prober, Target, What, shown};
use crate::schedule::Cadence;

/// Memory for bodies that checks look into themselves.
const OWN_PAGES_BYTES_MAX: u64 = 32 << 20;

/// A check that is ready to be carried out.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) check: Arc<Check>,
    pub(crate) target: Target,
    pub(crate) cadence: Cadence,
    pub(super) ask: Arc<AskSpec>,
    /// Of the checks of one host, which may be limited together.
    pub(crate) host: u32,
    /// Matchers of its own look at its page, in a later stage.
    pub(crate) is_matched: bool,
}

impl Ready {
    pub(super) fn retry(&self) -> Retry {
        self.ask.retry
    }

    pub(crate) fn when_down(&self) -> Option<Duration> {
        self.ask.when_down
    }

    /// The window of maintenance that a slot lies in.
    pub(crate) fn maintenance(&self, slot: i64) -> Option<&str> {
        let window: &Window = self.ask.maintenance.iter().find(|window| window.holds(slot))?;
        Some(&window.name)
    }
}

pub(crate) async fn open(spec: &HttpSpec, context: StageContext) -> Result<OpenStage, StageError> {
    // Certificates and key files are read, which blocks; nothing else runs on this stage yet.
    let mut manners = Manners::new(&context);
    let mut known = Known::default();
    let checks = spec
        .checks
        .take()
        .into_iter()
        .map(|check| ready(check, &mut manners, &mut known, &context))
        .collect::<Result<Vec<_>, _>>()?;
    let references = spec
        .references
        .iter()
        .map(|reference| reference_target(reference, &spec.ask, &mut manners, &context))
        .collect::<Result<Vec<_>, _>>()?;
    drop(manners);
    let demo = match spec.demo_site {
        Some(address) => demo_listener(address, spec.demo_site_may_be_taken)?,
        None => None,
    };
    descriptors::warn_if_few(&context.stage, checks.len(), spec.concurrency, descriptors::raise());
    let pages = context.keep_pages.then(|| PageBudget::new(spec.pages_bytes_max));
    let prober = Prober { limits: spec.limits, pages, own_pages: PageBudget::new(OWN_PAGES_BYTES_MAX) };
    let (concurrency, per_host) = (spec.concurrency, spec.per_host);
    let guard = (!references.is_empty()).then(|| Guard::new(references));
    Ok(OpenStage::Source(Box::new(HttpSource {
        checks,
        prober,
        concurrency,
        per_host,
        guard,
        demo,
        context,
    })))
}

fn demo_listener(address: SocketAddr, may_be_taken: bool) -> Result<Option<TcpListener>, StageError> {
    let listening = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    match listening {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if may_be_taken && error.kind() == ErrorKind::AddrInUse => Ok(None),
        Err(error) => Err(StageError::permanent(format!("the demo site cannot be served at {address}"))
            .caused_by(error)
            .help("is something else listening there? choose another port in `demo-site` and in the checks")),
    }
}

/// What many checks have alike.
#[derive(Default)]
struct Known {
    /// Numbers for hosts.
    hosts: HashMap<String, u32>,
    header_names: HashMap<String, HeaderName>,
}

impl Known {
    fn host(&mut self, target: &Target, url: &Url) -> u32 {
        let host = target.place().map_or_else(|| url.host_str().unwrap_or_default(), |place| place.host);
        if let Some(number) = self.hosts.get(host) {
            return *number;
        }
        let next = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        self.hosts.insert(host.to_owned(), next);
        next
    }

    fn header_name(&mut self, name: &str) -> Option<HeaderName> {
        if let Some(known) = self.header_names.get(name) {
            return Some(known.clone());
        }
        let new = HeaderName::from_bytes(name.as_bytes()).ok()?;
        self.header_names.insert(name.to_owned(), new.clone());
        Some(new)
    }
}

fn ready(
    spec: CheckSpec,
    manners: &mut Manners<'_>,
    known: &mut Known,
    context: &StageContext,
) -> Result<Ready, StageError> {
    let wrong = |code: Code, late: &Late, message: String| {
        StageError::from(
            Problem::new(code, late.span, message).label(format!("of the check `{}`", spec.name)),
        )
    };
    let url = parsed_url(&spec.url, context)?;
    if !SCHEMES.contains(&url.scheme()) {
        let message = format!("the URL begins with none of {}://", SCHEMES.join("://, "));
        return Err(wrong(Code::BadUrl, &spec.url, message));
    }
    let (manner, mut headers) = manners.of(&spec.ask)?;
    headers.reserve_exact(spec.headers.len());
    for (name, late) in &spec.headers {
        let value = late.resolve(&*context.world)?;
        let (Some(name), Ok(mut value)) = (known.header_name(name), HeaderValue::from_str(value.expose()))
        else {
            return Err(wrong(
                Code::BadSecret,
                late,
                format!("the value of the header `{name}` cannot be sent"),
            ));
        };
        value.set_sensitive(late.as_literal().is_none());
        headers.retain(|header: &Header| header.name != name);
        headers.push(Header { name, value });
    }
    let shown_url = shown(&url);
    let kind = what(&spec, url.clone(), &manner, headers, context)?;
    let none = MoreSpec::default();
    let more = spec.more.as_deref().unwrap_or(&none);
    let (method, shown_url) = match &kind {
        // With its query, as it is asked for.
        What::Http(chain) => (spec.method, shown_first(chain, &url)),
        What::Other(_) => (word_of(url.scheme()), shown_url),
    };
    let check = Check {
        id: spec.id,
        name: spec.name,
        pipeline: context.pipeline.to_string(),
        source: context.stage.to_string(),
        method: method.to_owned(),
        url: shown_url,
        schedule: more.schedule.as_ref().map(|schedule| schedule.text().to_owned()),
        interval_us: spec.interval.as_micros() as u64,
        timeout_us: spec.timeout.as_micros() as u64,
        labels: spec.labels,
    };
    let expect =
        Expect { statuses: spec.status, time_max: spec.time, slow: more.slow, certificate: more.certificate };
    let target = Target { what: kind, manner, expect, timeout: spec.timeout };
    let cadence = match &more.schedule {
        Some(cron) => Cadence::by(cron.clone(), spec.interval),
        None => Cadence::new(spec.id, spec.interval),
    };
    let host = known.host(&target, &url);
    let is_matched = !spec.matches.is_empty();
    Ok(Ready { cadence, check: Arc::new(check), target, ask: spec.ask, host, is_matched })
}

/// The first request's URL; its user and password are no part of the request that was prepared.
fn shown_first(chain: &Chain, given: &Url) -> String {
    let mut url = given.clone();
    url.set_query(chain.first.url.query());
    shown(&url)
}

/// What stands in the place of a method.
fn word_of(scheme: &str) -> &'static str {
    match scheme {
        "ws" | "wss" => "WEBSOCKET",
        "tcp" => "TCP",
        "tls" => "TLS",
        "dns" => "DNS",
        _ => "PING",
    }
}

fn reference_target(
    reference: &ReferenceSpec,
    ask: &Arc<AskSpec>,
    manners: &mut Manners<'_>,
    context: &StageContext,
) -> Result<Target, StageError> {
    let url = parsed_url(&reference.url, context)?;
    let spec = CheckSpec {
        id: uuid::Uuid::nil(),
        name: "reference".to_owned(),
        url: reference.url.clone(),
        interval: Duration::ZERO,
        timeout: reference.timeout,
        method: "GET",
        status: super::decode::default_status(),
        time: None,
        headers: Vec::new(),
        labels: monmon_model::Labels::default(),
        matches: Vec::new(),
        ask: Arc::clone(ask),
        more: None,
    };
    let (manner, headers) = manners.of(ask)?;
    let what = what(&spec, url, &manner, headers, context)?;
    let expect = Expect { statuses: spec.status, ..Expect::default() };
    Ok(Target { what, manner, expect, timeout: reference.timeout })
}
