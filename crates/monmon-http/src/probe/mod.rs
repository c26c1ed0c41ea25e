//! One check, once: what it asks for, each phase timed, and a verdict.
//!
//! The requests go through hyper itself. A client library above it would keep the connection to itself, and a bound on
//! what a server sends before its head is in (endless interim replies, control frames) can only stand there.
//!
//! - `manner`: how a check asks, beside what it asks for; `resolver`, `connect`, `zone`, `proxy`, `reach`, `tls`: the way
//!   to the site.
//! - `request`, `exchange`, `gate`, `body`, `chain`, `steps`, `cookies`, `auth`: HTTP over that way.
//! - `kinds`: checks that are no HTTP.
//! - `trace`, `failure`, `tls_failure`, `evidence`: what is put on record.

mod auth;
mod body;
mod chain;
mod connect;
mod cookies;
mod evidence;
mod exchange;
mod failure;
#[cfg(test)]
mod faults;
mod gate;
#[cfg(test)]
mod h2_tests;
mod kinds;
mod manner;
mod pinned;
mod proxy;
mod reach;
mod request;
mod resolver;
mod steps;
#[cfg(test)]
mod tests;
mod tls;
mod tls_failure;
#[cfg(test)]
mod tls_tests;
mod trace;
mod zone;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use monmon_model::{
    Details, Failure, FailureKind, Hop, Measurement, Note, Outcome, Owner, Timings, Tls, Tried,
};
use monmon_stage::{Page, PageBudget, PageHold};
use monmon_syntax::{Ranges, format_duration};
use tokio::time::{Instant, timeout_at};
use url::Url;

pub(crate) use auth::{Auth, Credentials, TokenSource};
pub(crate) use chain::Chain;
use chain::Session;
pub(crate) use connect::From;
pub(crate) use evidence::Evidence;
pub(crate) use kinds::{Dns, Endpoint, Kind, Ping, StartTls, Tcp, WebSocket};
pub(crate) use manner::{Follow, HttpVersion, Manner, Override, REDIRECTS_MAX, Redirects, Timeouts};
pub(crate) use proxy::Proxy;
use reach::{Place, Visit};
pub(crate) use request::{Header, Prepared, USER_AGENT, Wanted, basic, basic_auth, shown};
pub(crate) use resolver::{Family, Resolver};
pub(crate) use steps::{Capture, CaptureFrom, Step, Template};
pub(crate) use tls::TlsSetup;
use trace::Trace;
pub(crate) use zone::Reach;
use zone::Zone;

pub(crate) const HEADERS_MAX: usize = 256;
/// The largest head, without the interim ones before it.
pub(crate) const HEAD_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How much may come over the wire beside the body's own bytes: the framing of small chunks.
const FRAMING_BYTES: u64 = 256 * 1024;

/// The bounds of a source's checks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) body_wire_bytes_max: u64,
    pub(crate) body_bytes_max: u64,
}

/// A check as it is carried out, with everything worked out that does not change from one time to the next.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) what: What,
    pub(crate) manner: Arc<Manner>,
    pub(crate) expect: Expect,
    pub(crate) timeout: Duration,
}

/// What is asked for.
#[derive(Debug)]
pub(crate) enum What {
    Http(Box<Chain>),
    Other(Box<Kind>),
}

/// What a good reply is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expect {
    pub(crate) statuses: Ranges,
    pub(crate) time_max: Option<Duration>,
    /// Longer than this is degraded.
    pub(crate) slow: Option<Duration>,
    /// A certificate that ends within this is degraded.
    pub(crate) certificate: Option<Duration>,
}

/// What became known on the way; it stays known when the way ends early.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) remote_addr: Option<SocketAddr>,
    pub(crate) witness: Option<Arc<tls::Witness>>,
    pub(crate) tls_version: Option<rustls::ProtocolVersion>,
    pub(crate) cipher: Option<rustls::SupportedCipherSuite>,
    pub(crate) status: Option<u16>,
    pub(crate) http_version: Option<&'static str>,
    pub(crate) body_bytes: Option<u64>,
    pub(crate) body_wire_bytes: Option<u64>,
    pub(crate) body_truncated: bool,
    pub(crate) first_zone: Option<Zone>,
    pub(crate) url: Option<Url>,
    pub(crate) method: Option<Method>,
    pub(crate) hops: Vec<Hop>,
    pub(crate) details: Option<Box<Details>>,
    pub(crate) evidence: Vec<u8>,
    /// Expectations that were held against what came while it came: name and message.
    pub(crate) misses: Vec<(String, String)>,
}

/// What one check gave.
pub(crate) struct Probed {
    facts: Facts,
    timings: Timings,
    failure: Option<Failure>,
    pub(crate) page: Option<Page>,
}

/// Carries out checks. What all checks of a source share is in here.
#[derive(Debug)]
pub(crate) struct Prober {
    pub(crate) limits: Limits,
    /// None where nobody wants pages.
    pub(crate) pages: Option<PageBudget>,
    /// For bodies that a check itself looks into.
    pub(crate) own_pages: PageBudget,
}

impl Prober {
    /// Checks once. Never takes longer than the check's timeout, beside the time of fetching an access token.
    pub(crate) async fn probe(&self, target: &Target) -> Probed {
        let mut session = Session::default();
        if let Some(Auth::Token(source)) = &target.manner.auth {
            match source.token().await {
                Ok(token) => session.authorization = Some(token),
                Err(failure) => return Probed::failed(failure),
            }
        }
        let probed = match (target.manner.family, target.place()) {
            (Family::Each, Some(place)) => self.each(target, &place, &session).await,
            _ => self.once(target, session, None).await,
        };
        if probed.facts.status == Some(401)
            && let Some(Auth::Token(source)) = &target.manner.auth
        {
            source.forget().await;
        }
        probed
    }

    async fn once(&self, target: &Target, mut session: Session, pin: Option<IpAddr>) -> Probed {
        let start = Instant::now();
        let mut trace = Trace::new(start);
        let mut facts = Facts::default();
        let mut visit = Visit { manner: &target.manner, pin, trace: &mut trace, facts: &mut facts };
        let work = async {
            match &target.what {
                What::Http(chain) => self.carry_out(chain, &target.expect, &mut session, &mut visit).await,
                What::Other(kind) => kind.carry_out(self, &mut visit).await,
            }
        };
        let ended = timeout_at(start + target.timeout, work).await;
        let phase = trace.phase();
        let timings = trace.finish();
        // Whatever came while the prober was asleep says nothing of the site.
        if let Some(failure) = failure::overslept(target.timeout, start.elapsed(), phase) {
            return Probed { facts, timings, failure: Some(failure), page: None };
        }
        let (failure, page) = match ended {
            Ok(Ok(page)) => (None, page),
            Ok(Err(failure)) => (Some(failure), None),
            Err(_elapsed) => {
                let message = format!("no end within {}", format_duration(target.timeout));
                (Some(Failure::new(failure::timeout_kind(phase), phase, message)), None)
            }
        };
        Probed { facts, timings, failure, page }
    }

    /// Every address of the name, beside each other. The measurement is that of the first which is not good, or else of
    /// the slowest; the others are told with it.
    async fn each(&self, target: &Target, place: &Place<'_>, session: &Session) -> Probed {
        let start = Instant::now();
        let mut trace = Trace::new(start);
        let mut facts = Facts::default();
        let mut visit = Visit { manner: &target.manner, pin: None, trace: &mut trace, facts: &mut facts };
        let looking = timeout_at(start + target.timeout, reach::each(place, &mut visit)).await;
        let phase = trace.phase();
        let looked_up = trace.finish();
        let addresses = match looking {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(failure)) => {
                return Probed { facts, timings: looked_up, failure: Some(failure), page: None };
            }
            Err(_elapsed) => {
                let message = format!("no end within {}", format_duration(target.timeout));
                let failure = failure::overslept(target.timeout, start.elapsed(), phase)
                    .unwrap_or_else(|| Failure::new(failure::timeout_kind(phase), phase, message));
                return Probed { facts, timings: looked_up, failure: Some(failure), page: None };
            }
        };
        let probes = addresses.iter().map(|ip| self.once(target, session.clone(), Some(*ip)));
        let mut probed = join_all(probes).await;
        let tried: Vec<Tried> = addresses
            .iter()
            .zip(&probed)
            .map(|(ip, probed)| probed.tried(SocketAddr::new(*ip, place.port), target))
            .collect();
        let slowest = || (0..probed.len()).max_by_key(|at| probed[*at].timings.total_us);
        let shown = tried.iter().position(|tried| tried.outcome != Outcome::Up).or_else(slowest);
        let mut probed = probed.swap_remove(shown.unwrap_or(0));
        probed.facts.details_mut().addresses = tried;
        probed.timings.add(&looked_up);
        probed
    }

    /// A page that a check made of what it got, for the matchers.
    fn page_of(&self, bytes: Bytes, facts: &mut Facts, manner: &Manner) -> Option<Page> {
        facts.body_bytes = Some(bytes.len() as u64);
        if let Some(evidence) = &manner.evidence {
            facts.evidence = bytes[..bytes.len().min(evidence.bytes_max)].to_vec();
        }
        let budget = self.pages.as_ref()?;
        let mut hold = PageHold::default();
        budget
            .grow(&mut hold, bytes.len() as u64)
            .then(|| Page::new(HeaderMap::new(), bytes, facts.body_truncated, hold))
    }
}

impl Target {
    /// Where the first connection leads.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        match &self.what {
            What::Http(chain) => Some(chain.first.place()),
            What::Other(kind) => kind.place(),
        }
    }
}

impl Facts {
    pub(crate) fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    pub(crate) fn note(&mut self, note: Note) {
        let notes = &mut self.details_mut().notes;
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    fn tls(&self) -> Option<Tls> {
        let mut tls = self.witness.as_ref()?.tls().unwrap_or(Tls {
            version: None,
            cipher: None,
            verified: None,
            certificate: None,
            chain: Vec::new(),
        });
        tls.version = self.tls_version.map(|version| match version {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2".to_owned(),
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3".to_owned(),
            other => format!("{other:?}"),
        });
        tls.cipher = self.cipher.map(|cipher| format!("{:?}", cipher.suite()));
        Some(tls)
    }
}

impl Probed {
    fn failed(failure: Failure) -> Probed {
        Probed { facts: Facts::default(), timings: Timings::default(), failure: Some(failure), page: None }
    }

    fn tried(&self, address: SocketAddr, target: &Target) -> Tried {
        let missed = self.facts.misses.first().map(|(_, message)| message.clone());
        let unexpected = self
            .facts
            .status
            .filter(|status| !target.expect.statuses.contains(*status))
            .map(|status| format!("status {status}, expected {}", target.expect.statuses));
        let (outcome, message) = match &self.failure {
            Some(failure) if failure.kind.owner() == Owner::Prober => {
                (Outcome::Unknown, Some(failure.message.clone()))
            }
            Some(failure) => (Outcome::Down, Some(failure.message.clone())),
            None => match missed.or(unexpected) {
                Some(message) => (Outcome::Down, Some(message)),
                None => (Outcome::Up, None),
            },
        };
        let (status, timings) = (self.facts.status, Some(self.timings));
        Tried { address: address.to_string(), outcome, message, status, timings }
    }

    /// Whether something failed that may be the prober's own network.
    pub(crate) fn may_be_own_network(&self) -> bool {
        use FailureKind::{
            ClosedEarly, ConnectRefused, ConnectReset, ConnectTimeout, ConnectUnreachable, DnsFailed,
            DnsNotFound, DnsTimeout, Reset, Timeout, TlsClosed,
        };
        self.failure.as_ref().is_some_and(|failure| {
            matches!(
                failure.kind,
                ClosedEarly
                    | ConnectRefused
                    | ConnectReset
                    | ConnectTimeout
                    | ConnectUnreachable
                    | DnsFailed
                    | DnsNotFound
                    | DnsTimeout
                    | Reset
                    | Timeout
                    | TlsClosed
            )
        })
    }

    /// Takes the verdict back: the prober's own network is not there.
    pub(crate) fn blame_own_network(&mut self) {
        if let Some(failure) = &mut self.failure {
            let message = format!("no reference answers either; the check itself: {}", failure.message);
            *failure = Failure::new(FailureKind::ProberOffline, failure.phase, message);
        }
    }

    pub(crate) fn ran_out_of_time(&self) -> bool {
        use FailureKind::{ConnectTimeout, DnsTimeout, Timeout};
        let kind = self.failure.as_ref().map(|failure| failure.kind);
        matches!(kind, Some(ConnectTimeout | DnsTimeout | Timeout))
    }

    /// The prober was late itself, so that it can't tell whether the site was.
    pub(crate) fn blame_starvation(&mut self) {
        if let Some(failure) = &mut self.failure {
            let message = format!("the prober was starved meanwhile; the check itself: {}", failure.message);
            *failure = Failure::new(FailureKind::Overslept, failure.phase, message);
        }
    }

    /// Whether it went well as far as transport goes.
    pub(crate) fn is_alive(&self) -> bool {
        self.failure.is_none()
    }

    /// Writes what was found, and the verdict over it, into the slot's measurement.
    pub(crate) fn write(self, target: &Target, measurement: &mut Measurement) -> Option<Page> {
        let facts = self.facts;
        measurement.tls = facts.tls();
        if let Some(url) = &facts.url {
            measurement.url = shown(url);
        }
        if let Some(method) = &facts.method {
            measurement.method = method.as_str().to_owned();
        }
        measurement.status = facts.status;
        measurement.http_version = facts.http_version.map(str::to_owned);
        measurement.remote_addr = facts.remote_addr.map(|address| address.to_string());
        measurement.body_bytes = facts.body_bytes;
        measurement.body_wire_bytes = facts.body_wire_bytes.filter(|bytes| facts.body_bytes != Some(*bytes));
        measurement.body_truncated = facts.body_truncated;
        measurement.redirects = facts.hops;
        measurement.details = facts.details;
        measurement.timings = self.timings;
        let failed = self.failure.is_some();
        match self.failure {
            Some(failure) => measurement.fail(failure),
            None => {
                for (name, message) in facts.misses {
                    measurement.miss(&name, message);
                }
                target.expect.judge(measurement);
            }
        }
        let mut page = self.page.filter(|_| !failed);
        if let Some(rule) = target.manner.evidence.as_ref().filter(|_| !facts.evidence.is_empty()) {
            let text = rule.text(&facts.evidence);
            if measurement.outcome == Outcome::Up {
                // A matcher may still find fault with it.
                page = page.map(|page| page.with_evidence(text.into()));
            } else {
                measurement.details_mut().evidence = Some(text);
            }
        }
        page
    }
}

impl Expect {
    fn judge(&self, measurement: &mut Measurement) {
        if let Some(status) = measurement.status
            && !self.statuses.contains(status)
        {
            measurement.miss("status", format!("status {status}, expected {}", self.statuses));
        }
        let total = Duration::from_micros(measurement.timings.total_us);
        let took = |bound| {
            let rounded = Duration::from_millis(total.as_millis() as u64);
            format!("took {}, expected <{}", format_duration(rounded), format_duration(bound))
        };
        if let Some(bound) = self.time_max.filter(|bound| total >= *bound) {
            measurement.miss("time", took(bound));
        } else if let Some(bound) = self.slow.filter(|bound| total >= *bound) {
            measurement.warn("slow", took(bound));
        }
        if let Some(least) = self.certificate {
            self.judge_certificate(least, measurement);
        }
    }

    fn judge_certificate(&self, least: Duration, measurement: &mut Measurement) {
        let now = measurement.started_at.unwrap_or(measurement.scheduled_at);
        let certificates = measurement.tls.iter().flat_map(|tls| tls.certificate.iter().chain(&tls.chain));
        // The first of a chain to end ends them all.
        let Some(first) = certificates.min_by_key(|certificate| certificate.not_after) else {
            measurement.miss("certificate", "there is no certificate".to_owned());
            return;
        };
        let left = first.not_after.as_second().saturating_sub(now.as_second());
        if u64::try_from(left).is_ok_and(|left| left >= least.as_secs()) {
            return;
        }
        let until: Timestamp = first.not_after;
        let message = format!(
            "the certificate of {} ends at {until}, in less than {}",
            first.subject,
            format_duration(least)
        );
        measurement.warn("certificate", message);
    }
}
