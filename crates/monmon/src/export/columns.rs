//! The columns of a table of measurements: the same in CSV and in Parquet, each once and flat.

use jiff::Timestamp;
use monmon_model::Measurement;
use serde::Serialize;
use uuid::Uuid;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Id,
    Instant,
    Text,
    /// Text that is JSON.
    Json,
    Long,
    Flag,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Id(Uuid),
    Instant(Timestamp),
    Text(String),
    Long(i64),
    Flag(bool),
}

pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) pick: fn(&Measurement) -> Cell,
}

macro_rules! columns {
    ($($name:literal $kind:ident $pick:expr;)*) => {
        &[$(Column { name: $name, kind: Kind::$kind, pick: $pick },)*]
    };
}

pub(super) const COLUMNS: &[Column] = columns! {
    "id" Id |one| Cell::Id(one.id);
    "scheduled_at" Instant |one| Cell::Instant(one.scheduled_at);
    "started_at" Instant |one| one.started_at.map_or(Cell::Null, Cell::Instant);
    "check_id" Id |one| Cell::Id(one.check.id);
    "pipeline" Text |one| text(&one.check.pipeline);
    "source" Text |one| text(&one.check.source);
    "check" Text |one| text(&one.check.name);
    "labels" Json |one| json(&one.check.labels, one.check.labels.is_empty());
    "interval_us" Long |one| long(one.check.interval_us);
    "prober_id" Id |one| Cell::Id(one.prober.id);
    "prober" Text |one| text(&one.prober.name);
    "location" Text |one| maybe(one.prober.location.as_deref());
    "boot_id" Id |one| Cell::Id(one.prober.boot);
    "seq" Long |one| long(one.seq);
    "attempt" Long |one| Cell::Long(i64::from(one.attempt));
    "outcome" Text |one| text(one.outcome.as_str());
    "reason_kind" Text |one| maybe(one.reason.as_ref().map(monmon_model::Reason::kind));
    "reason_name" Text |one| maybe(one.reason.as_ref().and_then(monmon_model::Reason::name));
    "reason_message" Text |one| maybe(one.reason.as_ref().map(monmon_model::Reason::message));
    "error_kind" Text |one| maybe(one.error.as_ref().map(|error| error.kind.as_str()));
    "error_phase" Text |one| maybe(one.error.as_ref().map(|error| error.phase.as_str()));
    "error_message" Text |one| maybe(one.error.as_ref().map(|error| error.message.as_str()));
    "method" Text |one| text(&one.method);
    "url" Text |one| text(&one.url);
    "status" Long |one| one.status.map_or(Cell::Null, |status| Cell::Long(i64::from(status)));
    "http_version" Text |one| maybe(one.http_version.as_deref());
    "remote_addr" Text |one| maybe(one.remote_addr.as_deref());
    "dns_us" Long |one| one.timings.dns_us.map_or(Cell::Null, long);
    "connect_us" Long |one| one.timings.connect_us.map_or(Cell::Null, long);
    "tls_us" Long |one| one.timings.tls_us.map_or(Cell::Null, long);
    "wait_us" Long |one| one.timings.wait_us.map_or(Cell::Null, long);
    "transfer_us" Long |one| one.timings.transfer_us.map_or(Cell::Null, long);
    "total_us" Long |one| long(one.timings.total_us);
    "body_bytes" Long |one| one.body_bytes.map_or(Cell::Null, long);
    "body_wire_bytes" Long |one| one.body_wire_bytes.map_or(Cell::Null, long);
    "body_truncated" Flag |one| Cell::Flag(one.body_truncated);
    "tls_version" Text |one| maybe(one.tls.as_ref().and_then(|tls| tls.version.as_deref()));
    "certificate_not_after" Instant |one| one.tls.as_ref().and_then(|tls| tls.certificate.as_ref())
        .map_or(Cell::Null, |certificate| Cell::Instant(certificate.not_after));
    "redirects" Json |one| json(&one.redirects, one.redirects.is_empty());
    "tls" Json |one| json(&one.tls, one.tls.is_none());
    "details" Json |one| json(&one.details, one.details.is_none());
    "matches" Json |one| json(&one.matches, one.matches.is_empty());
};

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn maybe(text: Option<&str>) -> Cell {
    text.map_or(Cell::Null, |text| Cell::Text(text.to_owned()))
}

fn long(number: u64) -> Cell {
    Cell::Long(i64::try_from(number).unwrap_or(i64::MAX))
}

fn json<T: Serialize>(value: &T, absent: bool) -> Cell {
    match absent {
        true => Cell::Null,
        false => Cell::Text(serde_json::to_string(value).expect("the model's types have string keys only")),
    }
}
