//! How a check asks, beside what it asks for: worked out once, and shared by all checks that ask alike.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use monmon_model::{Failure, Phase};
use monmon_syntax::format_duration;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};

use super::auth::Auth;
use super::connect::From;
use super::evidence::Evidence;
use super::failure::{overslept, timeout_kind};
use super::proxy::Proxy;
use super::resolver::{Family, Resolver};
use super::tls::TlsSetup;
use super::zone::Reach;

#[derive(Debug)]
pub(crate) struct Manner {
    pub(crate) resolver: Resolver,
    pub(crate) family: Family,
    /// Addresses of names, as the file gives them.
    pub(crate) overrides: Vec<Override>,
    pub(crate) reach: Reach,
    pub(crate) from: From,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) tls: TlsSetup,
    /// Asked for, and looked for in the certificate, in place of the URL's host.
    pub(crate) server_name: Option<ServerName<'static>>,
    pub(crate) version: HttpVersion,
    pub(crate) timeouts: Timeouts,
    pub(crate) redirects: Redirects,
    pub(crate) cookies: bool,
    pub(crate) auth: Option<Auth>,
    pub(crate) user_agent: HeaderValue,
    pub(crate) evidence: Option<Arc<Evidence>>,
    pub(crate) body_hash: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    pub(crate) host: String,
    pub(crate) addresses: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    /// HTTP/2 where the server agrees to it in TLS, HTTP/1.1 otherwise.
    #[default]
    Negotiated,
    One,
    Two,
}

/// Bounds of single phases, within the check's own bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) dns: Option<Duration>,
    pub(crate) connect: Option<Duration>,
    pub(crate) tls: Option<Duration>,
    /// Until the head of the reply is in.
    pub(crate) wait: Option<Duration>,
    /// Between two parts of the body.
    pub(crate) idle: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Redirects {
    pub(crate) follow: Follow,
    pub(crate) max: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Follow {
    #[default]
    Always,
    /// As long as scheme, host and port stay.
    Origin,
    Never,
}

impl Default for Redirects {
    fn default() -> Redirects {
        Redirects { follow: Follow::Always, max: REDIRECTS_MAX }
    }
}

/// How many requests may follow the first.
pub(crate) const REDIRECTS_MAX: usize = 10;

impl Manner {
    pub(crate) fn overridden(&self, host: &str) -> Option<&[IpAddr]> {
        let found = self.overrides.iter().find(|known| known.host.eq_ignore_ascii_case(host))?;
        Some(&found.addresses)
    }
}

/// Carries out one phase within its own bound.
pub(crate) async fn within<T>(
    bound: Option<Duration>,
    phase: Phase,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(bound) = bound else { return work.await };
    let begun = Instant::now();
    match timeout(bound, work).await {
        Ok(done) => done,
        Err(_elapsed) => Err(overslept(bound, begun.elapsed(), phase).unwrap_or_else(|| {
            let message =
                format!("the phase `{}` took longer than {}", phase.as_str(), format_duration(bound));
            Failure::new(timeout_kind(phase), phase, message)
        })),
    }
}
