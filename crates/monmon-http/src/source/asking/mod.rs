//! How a check asks, beside what it asks for: written once for a source, or for a single check, which then replaces what
//! the source says.

mod decode;
mod open;
pub(super) mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use monmon_syntax::{Late, format_duration, format_size};
use serde_json::{Map, Value, json};

pub(super) use decode::{asking, pattern};
pub(super) use open::{Manners, parsed_url};

use super::window::Window;
use crate::probe::{Family, Follow, From, HttpVersion, Override, Reach, Redirects, Timeouts};

/// Everything of it, with what nobody wrote at its default.
#[derive(Clone, Debug)]
pub(super) struct AskSpec {
    pub(super) timeouts: Timeouts,
    pub(super) redirects: Redirects,
    pub(super) retry: Retry,
    pub(super) family: Family,
    pub(super) reach: Reach,
    pub(super) from: From,
    pub(super) overrides: Vec<Override>,
    /// Name servers; the system's way where there are none.
    pub(super) resolver: Vec<SocketAddr>,
    pub(super) proxy: Option<Late>,
    pub(super) tls: TlsSpec,
    pub(super) auth: Option<AuthSpec>,
    pub(super) http: HttpVersion,
    pub(super) cookies: bool,
    pub(super) body_hash: bool,
    pub(super) evidence: Option<EvidenceSpec>,
    pub(super) when_down: Option<Duration>,
    pub(super) maintenance: Vec<Window>,
    pub(super) contact: Option<String>,
}

/// How often a slot is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) attempts: u32,
    pub(super) wait: Duration,
}

#[derive(Clone, Debug, Default)]
pub(super) struct TlsSpec {
    pub(super) ca: Option<Pem>,
    pub(super) cert: Option<Pem>,
    pub(super) key: Option<Pem>,
    pub(super) server_name: Option<String>,
}

/// The path of a PEM file, and where relative ones start.
#[derive(Clone, Debug)]
pub(super) struct Pem {
    pub(super) late: Late,
    pub(super) folder: PathBuf,
}

#[derive(Clone, Debug)]
pub(super) enum AuthSpec {
    Basic { user: Late, password: Late },
    Digest { user: Late, password: Late },
    Bearer { token: Late },
    OAuth { url: Late, client_id: Late, client_secret: Late, scope: Option<String> },
}

#[derive(Clone, Debug)]
pub(super) struct EvidenceSpec {
    pub(super) bytes_max: u64,
    pub(super) redact: Vec<String>,
}

impl Default for AskSpec {
    fn default() -> AskSpec {
        AskSpec {
            timeouts: Timeouts::default(),
            redirects: Redirects::default(),
            retry: Retry { attempts: 1, wait: Duration::from_secs(1) },
            family: Family::default(),
            reach: Reach::default(),
            from: From::default(),
            overrides: Vec::new(),
            resolver: Vec::new(),
            proxy: None,
            tls: TlsSpec::default(),
            auth: None,
            http: HttpVersion::default(),
            cookies: true,
            body_hash: false,
            evidence: None,
            when_down: None,
            maintenance: Vec::new(),
            contact: None,
        }
    }
}

impl AskSpec {
    /// What a snapshot shows: what is not as ever. Nothing secret is in it.
    pub(super) fn describe(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
        let Timeouts { dns, connect, tls, wait, idle } = self.timeouts;
        let bounds: Map<String, Value> =
            [("dns", dns), ("connect", connect), ("tls", tls), ("wait", wait), ("idle", idle)]
                .into_iter()
                .filter_map(|(name, bound)| Some((name.to_owned(), json!(format_duration(bound?)))))
                .collect();
        if !bounds.is_empty() {
            put("timeouts", Value::Object(bounds));
        }
        if self.redirects != Redirects::default() {
            let follow = match self.redirects.follow {
                Follow::Always => "always",
                Follow::Origin => "origin",
                Follow::Never => "never",
            };
            put("redirects", json!({ "follow": follow, "max": self.redirects.max }));
        }
        if self.retry.attempts > 1 {
            let Retry { attempts, wait } = self.retry;
            put("retry", json!({ "attempts": attempts, "wait": format_duration(wait) }));
        }
        if self.family != Family::Any {
            put("family", json!(table::word_of(self.family)));
        }
        match self.reach {
            Reach::AsGiven => {}
            Reach::Anywhere => drop(put("private", json!(true))),
            Reach::PublicOnly => drop(put("private", json!(false))),
        }
        if self.from != From::Anywhere {
            put("from", json!(self.from.to_string()));
        }
        if !self.overrides.is_empty() {
            let overrides = self.overrides.iter();
            let overrides = overrides.map(|known| (known.host.clone(), json!(known.addresses)));
            put("resolve", Value::Object(overrides.collect()));
        }
        if !self.resolver.is_empty() {
            put("resolver", json!(self.resolver));
        }
        if let Some(proxy) = &self.proxy {
            put("proxy", json!(super::spec::shown_url(proxy)));
        }
        for (name, pem) in
            [("tls-ca", &self.tls.ca), ("tls-cert", &self.tls.cert), ("tls-key", &self.tls.key)]
        {
            if let Some(pem) = pem {
                put(name, json!(super::spec::shown(&pem.late)));
            }
        }
        if let Some(name) = &self.tls.server_name {
            put("server-name", json!(name));
        }
        if let Some(auth) = &self.auth {
            put("auth", json!(auth.word()));
        }
        match self.http {
            HttpVersion::Negotiated => {}
            HttpVersion::One => drop(put("http", json!("1.1"))),
            HttpVersion::Two => drop(put("http", json!("2"))),
        }
        if !self.cookies {
            put("cookies", json!(false));
        }
        if self.body_hash {
            put("body-hash", json!(true));
        }
        if let Some(evidence) = &self.evidence {
            put(
                "evidence",
                json!({ "max": format_size(evidence.bytes_max), "redact": evidence.redact.len() }),
            );
        }
        if let Some(interval) = self.when_down {
            put("interval-when-down", json!(format_duration(interval)));
        }
        if !self.maintenance.is_empty() {
            put("maintenance", self.maintenance.iter().map(Window::describe).collect());
        }
        shown
    }
}

impl AuthSpec {
    fn word(&self) -> &'static str {
        match self {
            AuthSpec::Basic { .. } => "basic",
            AuthSpec::Digest { .. } => "digest",
            AuthSpec::Bearer { .. } => "bearer",
            AuthSpec::OAuth { .. } => "oauth2",
        }
    }
}
