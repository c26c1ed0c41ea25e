//! One check, once: requests along a chain of redirects, each phase timed, and a verdict.
//!
//! The requests go through hyper itself. A client library above it would keep the connection to itself, and a bound on
//! what a server sends before its head is in (endless interim replies, control frames) can only stand there.

mod body;
mod connect;
mod exchange;
mod failure;
mod gate;
#[cfg(test)]
mod h2_tests;
mod pinned;
mod request;
#[cfg(test)]
mod tests;
mod tls;
mod tls_failure;
#[cfg(test)]
mod tls_tests;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use monmon_model::{Failure, FailureKind, Hop, Measurement, Phase, Timings, Tls};
use monmon_stage::{Page, PageBudget};
use monmon_syntax::{Ranges, format_duration};
use tokio::time::{Instant, timeout_at};
use url::Url;

use exchange::{Reply, exchange, version_word};
pub(crate) use request::{Header, shown};
use request::{Leads, Prepared, basic_auth, leads, next_method};
pub(crate) use tls::TlsSetup;
use trace::Trace;

/// How many requests may follow the first.
pub(crate) const REDIRECTS_MAX: usize = 10;
pub(crate) const HEADERS_MAX: usize = 100;
/// The largest head, without the interim ones before it.
pub(crate) const HEAD_BUFFER_BYTES_MAX: usize = 128 * 1024;
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
    first: Prepared,
    headers: Vec<Header>,
    statuses: Ranges,
    time_max: Option<Duration>,
    timeout: Duration,
}

impl Target {
    pub(crate) fn new(
        url: &Url,
        method: Method,
        headers: Vec<Header>,
        statuses: Ranges,
        time_max: Option<Duration>,
        timeout: Duration,
    ) -> Result<Target, String> {
        // User and password of the URL come first, so that a header of the check's own replaces them.
        let headers: Vec<Header> = basic_auth(url).into_iter().chain(headers).collect();
        let first = Prepared::new(url, method, &headers, true)?;
        Ok(Target { first, headers, statuses, time_max, timeout })
    }
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
    pub(crate) body_truncated: bool,
    url: Option<Url>,
    method: Option<Method>,
    hops: Vec<Hop>,
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
    pub(crate) tls: TlsSetup,
    pub(crate) limits: Limits,
    /// None where nobody wants pages.
    pub(crate) pages: Option<PageBudget>,
}

impl Prober {
    /// Checks once. Never takes longer than the check's timeout.
    pub(crate) async fn probe(&self, target: &Target) -> Probed {
        let start = Instant::now();
        let mut trace = Trace::new(start);
        let mut facts = Facts::default();
        let ended = timeout_at(start + target.timeout, self.follow(target, &mut trace, &mut facts)).await;
        let phase = trace.phase();
        let timings = trace.finish();
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

    async fn follow(
        &self,
        target: &Target,
        trace: &mut Trace,
        facts: &mut Facts,
    ) -> Result<Option<Page>, Failure> {
        let mut owned: Prepared;
        let mut request = &target.first;
        loop {
            let reply = exchange(request, &self.tls, trace, facts).await?;
            let status = reply.response.status().as_u16();
            facts.status = Some(status);
            facts.http_version = version_word(reply.response.version());
            // A redirect that is expected is what the check is about, and is not followed.
            if !is_redirect(status) || target.statuses.contains(status) {
                return self.read(reply, trace, facts).await;
            }
            let next = self.next(target, request, status, &reply, facts)?;
            drop(reply);
            facts.leave(request, status, trace.end_hop());
            facts.url = Some(next.url.clone());
            facts.method = Some(next.method.clone());
            owned = next;
            request = &owned;
        }
    }

    fn next(
        &self,
        target: &Target,
        request: &Prepared,
        status: u16,
        reply: &Reply,
        facts: &Facts,
    ) -> Result<Prepared, Failure> {
        let failed = |kind, message: String| Failure::new(kind, Phase::Wait, message);
        let url = match leads(&request.url, reply.response.headers()) {
            Leads::To(url) => url,
            Leads::Nowhere(why) => return Err(failed(FailureKind::RedirectInvalid, why)),
            Leads::OtherScheme(scheme) => {
                return Err(failed(FailureKind::RedirectScheme, format!("a redirect to a `{scheme}` URL")));
            }
        };
        if facts.hops.len() >= REDIRECTS_MAX {
            let message = format!("more than {REDIRECTS_MAX} redirects");
            return Err(failed(FailureKind::TooManyRedirects, message));
        }
        // Once another origin was met, the check's headers are gone for good, even on the way back: a site in between could
        // otherwise choose where they are sent.
        let kept = request.origin_kept && url.origin() == target.first.url.origin();
        Prepared::new(&url, next_method(status, &request.method), &target.headers, kept)
            .map_err(|why| failed(FailureKind::RedirectInvalid, why))
    }

    async fn read(
        &self,
        reply: Reply,
        trace: &mut Trace,
        facts: &mut Facts,
    ) -> Result<Option<Page>, Failure> {
        trace.enter(Phase::Transfer);
        let Reply { response, mut driver, gate } = reply;
        let (parts, incoming) = response.into_parts();
        gate.allow(self.limits.body_wire_bytes_max.saturating_mul(2).saturating_add(FRAMING_BYTES));
        let kept = body::read(&parts, incoming, &mut driver, &gate, &self.limits, self.pages.as_ref(), facts)
            .await?;
        Ok(kept.map(|(body, hold)| Page::new(parts.headers, body, facts.body_truncated, hold)))
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

impl Facts {
    /// Puts a request that was answered by a redirect on record, and makes room for the next one's facts.
    fn leave(&mut self, request: &Prepared, status: u16, timings: Timings) {
        self.hops.push(Hop {
            url: shown(&request.url),
            status,
            remote_addr: self.remote_addr.map(|address| address.to_string()),
            timings,
        });
        *self = Facts { hops: std::mem::take(&mut self.hops), ..Facts::default() };
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
        measurement.body_truncated = facts.body_truncated;
        measurement.redirects = facts.hops;
        measurement.timings = self.timings;
        if let Some(failure) = self.failure {
            measurement.fail(failure);
            return None;
        }
        if let Some(status) = measurement.status
            && !target.statuses.contains(status)
        {
            measurement.miss("status", format!("status {status}, expected {}", target.statuses));
        }
        let total = Duration::from_micros(measurement.timings.total_us);
        if let Some(bound) = target.time_max
            && total >= bound
        {
            let rounded = Duration::from_millis(total.as_millis() as u64);
            let message = format!("took {}, expected <{}", format_duration(rounded), format_duration(bound));
            measurement.miss("time", message);
        }
        self.page
    }
}
