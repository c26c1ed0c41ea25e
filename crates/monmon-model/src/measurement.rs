//! The result of checking once.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bounds::{self, MESSAGE_CHARS_MAX, NAME_CHARS_MAX};
use crate::{Check, Failure, FailureKind, Match, MatchStatus, Outcome, Owner, Prober};

/// The result of checking once. Immutable once it has left the pipeline that made it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Measurement {
    /// UUIDv7: the slot's time, and a hash of (prober, check, slot, attempt).
    pub id: Uuid,
    /// Counts up by one within (prober, boot), from 1.
    pub seq: u64,
    /// 1 for the first try of a slot.
    pub attempt: u32,
    pub check: Arc<Check>,
    pub prober: Arc<Prober>,
    /// The slot: when the check was due.
    pub scheduled_at: Timestamp,
    /// When the prober really began; absent when it never did. Wall clock, for people; all durations are monotonic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Method of the last request.
    pub method: String,
    /// URL of the last request, after redirects, without any password.
    pub url: String,
    pub outcome: Outcome,
    /// Why the outcome is not `up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What went wrong below the level of expectations and matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// HTTP status of the last reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `1.0`, `1.1` or `2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_version: Option<String>,
    /// Address and port really used by the last request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_addr: Option<String>,
    /// Sums over all hops.
    pub timings: Timings,
    /// Bytes of the body after decoding, as far as it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    /// Bytes of the body as they came over the wire, where that is not `body_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_wire_bytes: Option<u64>,
    /// The body was longer than the bound and was cut there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body_truncated: bool,
    /// The requests before the last one, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirects: Vec<Hop>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// What is told of few measurements only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
}

/// Why a measurement is not `up`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// The exchange itself failed; `Measurement::error` tells how.
    Failure {
        #[schemars(length(max = MESSAGE_CHARS_MAX))]
        message: String,
    },
    /// An `expect` was not met: `status`, `time`, `certificate`, `address` and the like.
    Expectation {
        #[schemars(length(max = NAME_CHARS_MAX))]
        name: String,
        #[schemars(length(max = MESSAGE_CHARS_MAX))]
        message: String,
    },
    /// A matcher said no, or could not tell.
    Match {
        #[schemars(length(max = NAME_CHARS_MAX))]
        name: String,
        #[schemars(length(max = MESSAGE_CHARS_MAX))]
        message: String,
    },
}

impl Reason {
    /// `failure`, `expectation` or `match`.
    pub fn kind(&self) -> &'static str {
        match self {
            Reason::Failure { .. } => "failure",
            Reason::Expectation { .. } => "expectation",
            Reason::Match { .. } => "match",
        }
    }

    /// The name of the expectation or matcher, if there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Reason::Failure { .. } => None,
            Reason::Expectation { name, .. } | Reason::Match { name, .. } => Some(name),
        }
    }

    pub fn message(&self) -> &str {
        match self {
            Reason::Failure { message }
            | Reason::Expectation { message, .. }
            | Reason::Match { message, .. } => message,
        }
    }
}

/// Where the time went, in microseconds. A phase that was not reached is absent; the present ones add up to the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_us: Option<u64>,
    pub total_us: u64,
}

impl Timings {
    pub fn phases(&self) -> [Option<u64>; 5] {
        [self.dns_us, self.connect_us, self.tls_us, self.wait_us, self.transfer_us]
    }

    /// Adds another hop's times, phase by phase.
    pub fn add(&mut self, hop: &Timings) {
        fn sum(into: &mut Option<u64>, other: Option<u64>) {
            if let Some(other) = other {
                *into = Some(into.unwrap_or(0).saturating_add(other));
            }
        }
        sum(&mut self.dns_us, hop.dns_us);
        sum(&mut self.connect_us, hop.connect_us);
        sum(&mut self.tls_us, hop.tls_us);
        sum(&mut self.wait_us, hop.wait_us);
        sum(&mut self.transfer_us, hop.transfer_us);
        self.total_us = self.total_us.saturating_add(hop.total_us);
    }
}

/// One request of a redirect chain that was answered by a redirect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hop {
    pub url: String,
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_addr: Option<String>,
    pub timings: Timings,
}

/// What is told of few measurements only: what the check asks for beyond the ordinary, and what was out of the ordinary.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Details {
    /// SHA-256 of the body after decoding, in hexadecimal digits; only of a whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// The beginning of the body of a measurement that is not up, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = bounds::EVIDENCE_CHARS_MAX))]
    pub evidence: Option<String>,
    /// The proxy that was gone through, without any password.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub proxy: Option<String>,
    /// What the server asks for in `Retry-After`, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// The maintenance window that the slot lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub maintenance: Option<String>,
    /// What a server did that is allowed, or let pass, and worth knowing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::NOTES_MAX))]
    pub notes: Vec<Note>,
    /// The addresses that were tried, where there was more to it than one that answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::ADDRESSES_MAX))]
    pub addresses: Vec<Tried>,
    /// The steps of a check that has several, in order, as far as it came.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::STEPS_MAX))]
    pub steps: Vec<Step>,
}

/// Something worth knowing that is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// The reply has both a length and a chunked body; the chunks were read (RFC 9112, section 6.3).
    LengthAndChunks,
    /// The reply has a transfer coding that nobody knows; it was read to the connection's end.
    UnknownTransferCoding,
    /// The body has an encoding that is not decoded; matchers see nothing of it.
    UnknownContentCoding,
    /// A redirect leads where the check does not follow.
    RedirectNotFollowed,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// One address of a name, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tried {
    pub address: String,
    pub outcome: Outcome,
    /// Why the outcome is not `up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MESSAGE_CHARS_MAX))]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<Timings>,
}

/// One request of a check that has several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub name: String,
    pub outcome: Outcome,
    /// Why the outcome is not `up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MESSAGE_CHARS_MAX))]
    pub message: Option<String>,
    /// Of the step's last request, after redirects.
    pub method: String,
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_addr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_bytes: Option<u64>,
    pub timings: Timings,
}

/// The last TLS handshake, on record even when the chain was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tls {
    /// `TLSv1.2` or `TLSv1.3`; absent when the handshake failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// Whether the chain was found valid for the name; absent when nobody looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// The other certificates that the server sent, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = bounds::CHAIN_MAX))]
    pub chain: Vec<Certificate>,
}

/// A certificate of the server's chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// SHA-256 of the certificate, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Measurement {
    /// Records what went wrong: `down` when it is the site's trouble, `unknown` when it is the prober's own.
    pub fn fail(&mut self, mut failure: Failure) {
        failure.message = bounds::message(failure.message);
        self.outcome = match failure.kind.owner() {
            Owner::Site => Outcome::Down,
            Owner::Prober => Outcome::Unknown,
        };
        self.reason = Some(Reason::Failure { message: failure.message.clone() });
        self.error = Some(failure);
    }

    /// Records an expectation that was not met.
    pub fn miss(&mut self, name: &str, message: String) {
        self.miss_as(Outcome::Down, name, message);
    }

    /// The same for one that makes the measurement `degraded` only.
    pub fn warn(&mut self, name: &str, message: String) {
        self.miss_as(Outcome::Degraded, name, message);
    }

    fn miss_as(&mut self, outcome: Outcome, name: &str, message: String) {
        self.worsen(
            outcome,
            Reason::Expectation { name: name.to_owned(), message: bounds::message(message) },
        );
    }

    /// Records a matcher's word. A match that failed makes the measurement `down`; one that could not decide makes it
    /// `unknown`, unless it is `down` already.
    pub fn add_match(&mut self, mut found: Match) {
        found.message = found.message.map(bounds::message);
        let message = || found.message.clone().unwrap_or_default();
        match found.status {
            MatchStatus::Passed => {}
            MatchStatus::Failed => {
                self.worsen(Outcome::Down, Reason::Match { name: found.name.clone(), message: message() });
            }
            MatchStatus::Error => {
                self.worsen(Outcome::Unknown, Reason::Match { name: found.name.clone(), message: message() });
            }
        }
        self.matches.push(found);
    }

    /// The first reason stays, unless certainty (`down`) replaces doubt (`unknown`) that a matcher had.
    fn worsen(&mut self, outcome: Outcome, reason: Reason) {
        let replaces = match self.outcome {
            Outcome::Up => true,
            Outcome::Degraded => outcome != Outcome::Degraded,
            Outcome::Down => false,
            Outcome::Unknown => outcome == Outcome::Down && self.error.is_none(),
        };
        if replaces {
            self.outcome = outcome;
            self.reason = Some(reason);
        }
    }

    /// A measurement of a slot in which nothing was asked.
    pub fn not_made(
        id: Uuid,
        seq: u64,
        attempt: u32,
        check: Arc<Check>,
        prober: Arc<Prober>,
        scheduled_at: Timestamp,
        failure: Failure,
    ) -> Measurement {
        let mut measurement = Measurement {
            id,
            seq,
            attempt,
            method: check.method.clone(),
            url: check.url.clone(),
            check,
            prober,
            scheduled_at,
            started_at: None,
            outcome: Outcome::Unknown,
            reason: None,
            error: None,
            status: None,
            http_version: None,
            remote_addr: None,
            timings: Timings::default(),
            body_bytes: None,
            body_wire_bytes: None,
            body_truncated: false,
            redirects: Vec::new(),
            tls: None,
            details: None,
            matches: Vec::new(),
        };
        measurement.fail(failure);
        measurement
    }

    /// The rarer facts, to be added to.
    pub fn details_mut(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// Whether a failure of this kind ended the exchange.
    pub fn failed_with(&self, kind: FailureKind) -> bool {
        self.error.as_ref().is_some_and(|failure| failure.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Phase;
    use crate::wire::tests::example;

    fn said(name: &str, status: MatchStatus) -> Match {
        Match {
            name: name.to_owned(),
            stage: "titles".to_owned(),
            kind: "regex".to_owned(),
            status,
            found: None,
            message: Some(format!("{name} said so")),
            values: Default::default(),
            metrics: Default::default(),
        }
    }

    #[test]
    fn a_failed_match_is_down_and_named() {
        let mut measurement = example();
        measurement.add_match(said("pitch", MatchStatus::Failed));
        assert_eq!(measurement.outcome, Outcome::Down);
        assert_eq!(measurement.reason.as_ref().and_then(Reason::name), Some("pitch"));
        measurement.add_match(said("other", MatchStatus::Failed));
        assert_eq!(measurement.reason.as_ref().and_then(Reason::name), Some("pitch"));
    }

    #[test]
    fn certainty_replaces_doubt() {
        let mut measurement = example();
        measurement.add_match(said("slow", MatchStatus::Error));
        assert_eq!(measurement.outcome, Outcome::Unknown);
        measurement.add_match(said("pitch", MatchStatus::Failed));
        assert_eq!(measurement.outcome, Outcome::Down);
    }

    #[test]
    fn own_trouble_is_never_down() {
        let mut measurement = example();
        measurement.fail(Failure::new(FailureKind::FdExhausted, Phase::Start, "no descriptor left"));
        assert_eq!(measurement.outcome, Outcome::Unknown);
        measurement.add_match(said("pitch", MatchStatus::Failed));
        assert_eq!(measurement.outcome, Outcome::Unknown);
    }
}
