//! HTTP: requests along a chain of redirects, with what comes up on the way.

use http::HeaderMap;
use http::header::{self, HeaderValue};
use monmon_model::{Failure, FailureKind, Hop, Note, Phase, Timings};
use monmon_stage::{Page, PageBudget};
use monmon_syntax::Ranges;

use super::auth::Auth;
use super::body::{self, Keep};
use super::cookies::Jar;
use super::exchange::{Reply, exchange, version_word};
use super::manner::{Follow, Manner};
use super::reach::Visit;
use super::request::{Leads, More, Prepared, leads, next_method, shown};
use super::steps::Step;
use super::{Expect, FRAMING_BYTES, Facts, Prober};

/// What a check asks for over HTTP.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) first: Prepared,
    /// Where there are some, the first request is theirs.
    pub(crate) steps: Box<[Step]>,
}

/// What requests of one measurement have in common.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) jar: Jar,
    pub(crate) authorization: Option<HeaderValue>,
    /// A challenge was answered; a second one means that the answer is wrong.
    challenged: bool,
}

impl Session {
    /// A digest is of one URL: another one has a challenge of its own.
    pub(crate) fn begin_step(&mut self, manner: &Manner) {
        if matches!(manner.auth, Some(Auth::Digest(_))) {
            (self.authorization, self.challenged) = (None, false);
        }
    }
}

impl Clone for Session {
    /// For a measurement of its own: nothing was set by the site yet.
    fn clone(&self) -> Session {
        Session { authorization: self.authorization.clone(), ..Session::default() }
    }
}

impl Prober {
    pub(crate) async fn carry_out(
        &self,
        chain: &Chain,
        expect: &Expect,
        session: &mut Session,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Page>, Failure> {
        if !chain.steps.is_empty() {
            return self.walk(chain, session, visit).await;
        }
        let pages = self.pages.as_ref();
        self.follow(&chain.first, &expect.statuses, pages, session, visit).await
    }

    /// One request, and those that redirects lead to.
    pub(crate) async fn follow(
        &self,
        first: &Prepared,
        statuses: &Ranges,
        pages: Option<&PageBudget>,
        session: &mut Session,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Page>, Failure> {
        let mut owned: Prepared;
        let mut request = first;
        loop {
            let cookies = visit.manner.cookies.then(|| session.jar.header(&request.url)).flatten();
            let more = More { cookies, authorization: session.authorization.clone() };
            let reply = exchange(request, &more, visit).await?;
            let status = reply.response.status().as_u16();
            let headers = reply.response.headers();
            visit.facts.status = Some(status);
            visit.facts.http_version = version_word(reply.response.version());
            if visit.manner.cookies {
                session.jar.keep(&request.url, headers);
            }
            if let Some(seconds) = retry_after(headers) {
                visit.facts.details_mut().retry_after_s = Some(seconds);
            }
            if status == 401
                && let Some(Auth::Digest(credentials)) = &visit.manner.auth
                && !session.challenged
                && request.origin_kept
                && let Some(answer) = credentials.answer(headers, request)
            {
                drop(reply);
                session.challenged = true;
                session.authorization = Some(answer);
                visit.facts.leave(request, status, visit.trace.end_hop());
                continue;
            }
            // A redirect that is expected is what the check is about, and is not followed.
            if !is_redirect(status)
                || statuses.contains(status)
                || visit.manner.redirects.follow == Follow::Never
            {
                return self.read(reply, pages, visit).await;
            }
            let next = next(first, request, status, &reply, visit)?;
            let Some(next) = next else {
                visit.facts.note(Note::RedirectNotFollowed);
                return self.read(reply, pages, visit).await;
            };
            drop(reply);
            visit.facts.leave(request, status, visit.trace.end_hop());
            session.begin_step(visit.manner);
            visit.facts.url = Some(next.url.clone());
            visit.facts.method = Some(next.method.clone());
            owned = next;
            request = &owned;
        }
    }

    async fn read(
        &self,
        reply: Reply,
        pages: Option<&PageBudget>,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Page>, Failure> {
        visit.trace.enter(Phase::Transfer);
        let Reply { response, mut driver, gate } = reply;
        let (parts, incoming) = response.into_parts();
        gate.allow(self.limits.body_wire_bytes_max.saturating_mul(2).saturating_add(FRAMING_BYTES));
        let manner = visit.manner;
        let keep = Keep {
            limits: &self.limits,
            idle: manner.timeouts.idle,
            pages,
            hash: manner.body_hash,
            evidence_bytes_max: manner.evidence.as_ref().map_or(0, |rule| rule.bytes_max),
        };
        let kept = body::read(&parts, incoming, &mut driver, &gate, keep, visit.facts).await?;
        if kept.sha256.is_some() {
            visit.facts.details_mut().body_sha256 = kept.sha256;
        }
        visit.facts.evidence = kept.evidence;
        let truncated = visit.facts.body_truncated;
        Ok(kept.page.map(|(body, hold)| Page::new(parts.headers, body, truncated, hold)))
    }
}

/// The request that a redirect leads to; none where the check does not follow it there.
fn next(
    first: &Prepared,
    request: &Prepared,
    status: u16,
    reply: &Reply,
    visit: &Visit<'_>,
) -> Result<Option<Prepared>, Failure> {
    let failed = |kind, message: String| Failure::new(kind, Phase::Wait, message);
    let url = match leads(&request.url, reply.response.headers()) {
        Leads::To(url) => url,
        Leads::Nowhere(why) => return Err(failed(FailureKind::RedirectInvalid, why)),
        Leads::OtherScheme(scheme) => {
            return Err(failed(FailureKind::RedirectScheme, format!("a redirect to a `{scheme}` URL")));
        }
    };
    let same_origin = url.origin() == first.url.origin();
    let redirects = visit.manner.redirects;
    if redirects.follow == Follow::Origin && !same_origin {
        return Ok(None);
    }
    let followed = visit.facts.hops.iter().filter(|hop| is_redirect(hop.status)).count();
    if followed >= redirects.max {
        let message = format!("more than {} redirects", redirects.max);
        return Err(failed(FailureKind::TooManyRedirects, message));
    }
    // Once another origin was met, the check's headers are gone for good, even on the way back: a site in between could
    // otherwise choose where they are sent.
    let kept = request.origin_kept && same_origin;
    Prepared::new(&url, next_method(status, &request.method), &first.wanted, kept)
        .map(Some)
        .map_err(|why| failed(FailureKind::RedirectInvalid, why))
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The seconds of a `Retry-After`; an instant in it is not reckoned with the server's clock, and left alone.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .filter(|seconds| *seconds <= 31_536_000)
}

impl Facts {
    /// Puts a request that was answered by another one on record, and makes room for the next one's facts.
    fn leave(&mut self, request: &Prepared, status: u16, timings: Timings) {
        self.hops.push(Hop {
            url: shown(&request.url),
            status,
            remote_addr: self.remote_addr.map(|address| address.to_string()),
            timings,
        });
        *self = Facts {
            hops: std::mem::take(&mut self.hops),
            details: self.details.take(),
            first_zone: self.first_zone,
            url: self.url.take(),
            method: self.method.take(),
            misses: std::mem::take(&mut self.misses),
            ..Facts::default()
        };
    }
}
