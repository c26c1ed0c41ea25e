//! From a store's rows back to measurements: what sinks take apart, put together again.

use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use crate::{Certificate, Check, Failure, Match, Measurement, Metric, Outcome, Prober, Reason, Timings, Tls};

/// Which measurements of a store are wanted; all of them where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Slots from here on.
    pub since: Option<Timestamp>,
    /// Slots before here.
    pub until: Option<Timestamp>,
    /// Checks by name, or by `pipeline/source/name` where a name alone means several.
    pub checks: Vec<String>,
}

impl Selection {
    /// Whether everything is wanted, and so what belongs to no check as well.
    pub fn is_all(&self) -> bool {
        *self == Selection::default()
    }
}

/// A row of `monmon_measurement`, each column as the tables hold it. What it refers to is read beside.
#[derive(Clone, Debug, Default)]
pub struct MeasurementRow {
    pub id: Uuid,
    pub scheduled_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub seq: i64,
    pub attempt: i64,
    pub body_bytes: Option<i64>,
    pub body_wire_bytes: Option<i64>,
    pub total_us: i64,
    /// dns, connect, tls, wait, transfer.
    pub phases_us: [Option<i64>; 5],
    pub status: Option<i64>,
    pub body_truncated: bool,
    pub outcome: String,
    pub http_version: Option<String>,
    pub remote_addr: Option<String>,
    pub method: Option<String>,
    pub url: Option<String>,
    pub reason_kind: Option<String>,
    pub reason_name: Option<String>,
    pub reason_message: Option<String>,
    pub error_kind: Option<String>,
    pub error_phase: Option<String>,
    pub error_message: Option<String>,
    /// JSON.
    pub redirects: Option<String>,
    /// JSON.
    pub details: Option<String>,
}

/// A row of `monmon_match`.
#[derive(Clone, Debug, Default)]
pub struct MatchRow {
    pub name: String,
    pub stage: String,
    pub kind: String,
    pub status: String,
    pub found: Option<bool>,
    pub message: Option<String>,
    /// JSON.
    pub values: Option<String>,
    /// JSON.
    pub metrics: Option<String>,
}

/// A row of `monmon_tls`.
#[derive(Clone, Debug, Default)]
pub struct TlsRow {
    pub version: Option<String>,
    pub cipher: Option<String>,
    pub verified: Option<bool>,
    pub subject: Option<String>,
    pub issuer: Option<String>,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
    pub sha256: Option<String>,
    /// JSON.
    pub chain: Option<String>,
}

/// A column that holds what no measurement has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{column}: {message}")]
pub struct BadRow {
    pub column: &'static str,
    pub message: String,
}

impl BadRow {
    pub fn new(column: &'static str, message: impl Into<String>) -> BadRow {
        BadRow { column, message: message.into() }
    }
}

impl MeasurementRow {
    /// The measurement that was stored as this row.
    pub fn restore(
        self,
        check: Arc<Check>,
        prober: Arc<Prober>,
        tls: Option<Tls>,
        matches: Vec<Match>,
    ) -> Result<Measurement, BadRow> {
        let reason = self.reason()?;
        let error = self.error()?;
        let [dns_us, connect_us, tls_us, wait_us, transfer_us] = self.phases_us;
        let timings = Timings {
            dns_us: maybe("dns_us", dns_us)?,
            connect_us: maybe("connect_us", connect_us)?,
            tls_us: maybe("tls_us", tls_us)?,
            wait_us: maybe("wait_us", wait_us)?,
            transfer_us: maybe("transfer_us", transfer_us)?,
            total_us: number("total_us", self.total_us)?,
        };
        Ok(Measurement {
            id: self.id,
            seq: number("seq", self.seq)?,
            attempt: number("attempt", self.attempt)?,
            method: self.method.unwrap_or_else(|| check.method.clone()),
            url: self.url.unwrap_or_else(|| check.url.clone()),
            check,
            prober,
            scheduled_at: self.scheduled_at,
            started_at: self.started_at,
            outcome: outcome(&self.outcome)?,
            reason,
            error,
            status: maybe("status", self.status)?,
            http_version: self.http_version,
            remote_addr: self.remote_addr,
            timings,
            body_bytes: maybe("body_bytes", self.body_bytes)?,
            body_wire_bytes: maybe("body_wire_bytes", self.body_wire_bytes)?,
            body_truncated: self.body_truncated,
            redirects: json("redirects", self.redirects.as_deref())?.unwrap_or_default(),
            tls,
            details: json("details", self.details.as_deref())?,
            matches,
        })
    }

    fn reason(&self) -> Result<Option<Reason>, BadRow> {
        let Some(kind) = self.reason_kind.as_deref() else { return Ok(None) };
        // Not told twice where it says what the error says.
        let message = self.reason_message.clone().or_else(|| self.error_message.clone()).unwrap_or_default();
        let name = self.reason_name.clone().unwrap_or_default();
        match kind {
            "failure" => Ok(Some(Reason::Failure { message })),
            "expectation" => Ok(Some(Reason::Expectation { name, message })),
            "match" => Ok(Some(Reason::Match { name, message })),
            other => Err(bad("reason_kind", format!("`{other}` is no kind of reason"))),
        }
    }

    fn error(&self) -> Result<Option<Failure>, BadRow> {
        let Some(kind) = self.error_kind.as_deref() else { return Ok(None) };
        let kind = word("error_kind", kind)?;
        let phase = word("error_phase", self.error_phase.as_deref().unwrap_or_default())?;
        Ok(Some(Failure::new(kind, phase, self.error_message.clone().unwrap_or_default())))
    }
}

impl MatchRow {
    /// The match that was stored as this row.
    pub fn restore(self) -> Result<Match, BadRow> {
        Ok(Match {
            status: word("status", &self.status)?,
            values: json("values", self.values.as_deref())?.unwrap_or_default(),
            metrics: json::<std::collections::BTreeMap<String, Metric>>("metrics", self.metrics.as_deref())?
                .unwrap_or_default(),
            name: self.name,
            stage: self.stage,
            kind: self.kind,
            found: self.found,
            message: self.message,
        })
    }
}

impl TlsRow {
    /// The facts that were stored as this row.
    pub fn restore(self) -> Result<Tls, BadRow> {
        let certificate = match (self.subject, self.issuer, self.not_before, self.not_after) {
            (Some(subject), Some(issuer), Some(not_before), Some(not_after)) => {
                Some(Certificate { subject, issuer, not_before, not_after, sha256: self.sha256 })
            }
            _ => None,
        };
        Ok(Tls {
            version: self.version,
            cipher: self.cipher,
            verified: self.verified,
            certificate,
            chain: json("chain", self.chain.as_deref())?.unwrap_or_default(),
        })
    }
}

fn bad(column: &'static str, message: impl Into<String>) -> BadRow {
    BadRow::new(column, message)
}

fn number<T: TryFrom<i64>>(column: &'static str, value: i64) -> Result<T, BadRow> {
    T::try_from(value).map_err(|_| bad(column, format!("{value} is out of range")))
}

fn maybe<T: TryFrom<i64>>(column: &'static str, value: Option<i64>) -> Result<Option<T>, BadRow> {
    value.map(|value| number(column, value)).transpose()
}

/// A word of a closed list, as the wire format writes it.
fn word<T: DeserializeOwned>(column: &'static str, text: &str) -> Result<T, BadRow> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|error| bad(column, error.to_string()))
}

fn outcome(text: &str) -> Result<Outcome, BadRow> {
    Outcome::from_word(text).ok_or_else(|| bad("outcome", format!("`{text}` is no outcome")))
}

fn json<T: DeserializeOwned>(column: &'static str, text: Option<&str>) -> Result<Option<T>, BadRow> {
    text.map(serde_json::from_str).transpose().map_err(|error| bad(column, error.to_string()))
}
