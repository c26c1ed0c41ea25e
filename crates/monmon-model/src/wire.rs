//! The wire format, version 1: one measurement is one JSON object (a Kafka value, a line of JSON lines).
//!
//! Fields are only ever added within a version; a reader ignores those that it does not know. The JSON Schema in
//! `docs/schema/` is generated from [`Measurement`].

mod decoder;
mod rejected;

use schemars::Schema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bounds::{
    ADDRESSES_MAX, CHAIN_MAX, EVIDENCE_CHARS_MAX, INCIDENT_PROBERS_MAX, INTERVAL_US_MIN,
    LABEL_NAME_CHARS_MAX, LABEL_VALUE_CHARS_MAX, LABELS_MAX, MESSAGE_CHARS_MAX, METRIC_NAME_CHARS_MAX,
    METRIC_UNIT_CHARS_MAX, METRICS_MAX, NAME_CHARS_MAX, NOTES_MAX, STEPS_MAX, fits,
};
use crate::{Check, Details, Event, Incident, Measurement, Prober, Rejected, RejectedReason, bounds};

pub use decoder::Decoder;
pub use rejected::decode_rejected;

/// Version of the format that this build writes and the highest that it reads.
pub const VERSION: u64 = 1;

/// Largest encoded measurement that is read: room for many matches, not for a page.
pub const MEASUREMENT_BYTES_MAX: usize = 1 << 20;

const PREFIX: &[u8] = br#"{"v":1,"type":"measurement","#;

const EVENT_PREFIX: &[u8] = br#"{"v":1,"#;

/// What a message may be.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is of the large kind, and passed on at once"
)]
pub enum Message {
    Measurement(Measurement),
    Event(Event),
}

/// Appends one measurement, without a line end.
pub fn encode(measurement: &Measurement, into: &mut Vec<u8>) {
    into.extend_from_slice(PREFIX);
    let at = into.len();
    serde_json::to_writer(&mut *into, measurement)
        .expect("a measurement has string keys only and a Vec takes all");
    // The object's own brace stands in the prefix.
    into.remove(at);
}

/// Appends one event, without a line end.
pub fn encode_event(event: &Event, into: &mut Vec<u8>) {
    into.extend_from_slice(EVENT_PREFIX);
    let at = into.len();
    serde_json::to_writer(&mut *into, event).expect("an event has string keys only and a Vec takes all");
    into.remove(at);
}

/// Appends one rejected message as a JSON object of the type `rejected`, its bytes as lossy text and in full as hex.
pub fn encode_rejected(rejected: &Rejected, into: &mut Vec<u8>) {
    let value = json!({
        "v": VERSION,
        "type": "rejected",
        "id": rejected.id,
        "reason": rejected.reason,
        "message": rejected.message,
        "origin": rejected.origin,
        "at": rejected.at,
        "key_hex": rejected.key.as_deref().map(hex),
        "text": String::from_utf8_lossy(&rejected.bytes),
        "bytes_hex": hex(&rejected.bytes),
    });
    serde_json::to_writer(into, &value).expect("a Value has string keys only and a Vec takes all");
}

/// Why bytes are not a measurement that can be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    pub reason: RejectedReason,
    pub message: String,
}

/// Reads one measurement.
pub fn decode(bytes: &[u8]) -> Result<Measurement, DecodeError> {
    decode_by(bytes, |text| serde_json::from_str(text))
}

/// Reads one message of whatever type.
pub fn decode_message(bytes: &[u8]) -> Result<Message, DecodeError> {
    Decoder::default().decode_message(bytes)
}

fn decode_by(
    bytes: &[u8],
    read: impl FnOnce(&str) -> serde_json::Result<Measurement>,
) -> Result<Measurement, DecodeError> {
    let text = text_of(bytes)?;
    if !bytes.starts_with(PREFIX) {
        check_header(text)?;
    }
    let measurement = read(text).map_err(|error| {
        let reason = if error.is_data() { RejectedReason::BadField } else { RejectedReason::NotJson };
        refuse(reason, error.to_string())
    })?;
    check_text(text)?;
    check_fields(&measurement)?;
    check_lengths(&measurement)?;
    Ok(measurement)
}

fn text_of(bytes: &[u8]) -> Result<&str, DecodeError> {
    if bytes.is_empty() {
        return Err(refuse(RejectedReason::Empty, "the message has no bytes"));
    }
    if bytes.len() > MEASUREMENT_BYTES_MAX {
        let message = format!("{} bytes are more than the {MEASUREMENT_BYTES_MAX} of a message", bytes.len());
        return Err(refuse(RejectedReason::TooLarge, message));
    }
    std::str::from_utf8(bytes).map_err(|error| refuse(RejectedReason::NotUtf8, error.to_string()))
}

/// The event that the bytes are, unless they are no event or one of another version.
fn event_of(bytes: &[u8]) -> Result<Option<Event>, DecodeError> {
    #[derive(Deserialize)]
    struct Header<'a> {
        v: u64,
        r#type: &'a str,
    }
    let text = text_of(bytes)?;
    let is_event =
        |header: Header<'_>| header.v == VERSION && matches!(header.r#type, "receipt" | "incident");
    if !serde_json::from_str(text).is_ok_and(is_event) {
        return Ok(None);
    }
    let event =
        serde_json::from_str(text).map_err(|error| refuse(RejectedReason::BadField, error.to_string()))?;
    check_text(text)?;
    check_event(&event)?;
    Ok(Some(event))
}

/// The bounds of an event's numbers and texts, as the schema tells them.
fn check_event(event: &Event) -> Result<(), DecodeError> {
    match event {
        Event::Receipt(receipt) => {
            check_prober(&receipt.prober)?;
            hold("pipeline", &receipt.pipeline, NAME_CHARS_MAX)?;
            hold("source", &receipt.source, NAME_CHARS_MAX)?;
            let orderly = receipt.first_seq >= 1
                && receipt.first_seq <= receipt.last_seq.saturating_add(1)
                && i64::try_from(receipt.last_seq).is_ok();
            if !orderly {
                let message = format!("`first_seq` {} to `last_seq` {}", receipt.first_seq, receipt.last_seq);
                return Err(refuse(RejectedReason::BadField, message));
            }
        }
        Event::Incident(incident) => {
            check_check(&incident.check)?;
            check_interval(&incident.check)?;
            hold("pipeline", &incident.pipeline, NAME_CHARS_MAX)?;
            hold("detector", &incident.detector, NAME_CHARS_MAX)?;
            hold("reason", &incident.reason, MESSAGE_CHARS_MAX)?;
            if incident.probers.len() > INCIDENT_PROBERS_MAX {
                let message = format!("`probers` has {} names", incident.probers.len());
                return Err(refuse(RejectedReason::BadField, message));
            }
            incident.probers.iter().try_for_each(|name| hold("probers", name, NAME_CHARS_MAX))?;
            if incident.revision == 0 {
                return Err(refuse(RejectedReason::BadField, "`revision` 0"));
            }
        }
    }
    Ok(())
}

/// The JSON Schema of the format.
pub fn schema() -> Schema {
    message_schema(schemars::schema_for!(Measurement), "measurement")
}

/// The JSON Schema of incidents.
pub fn incident_schema() -> Schema {
    message_schema(schemars::schema_for!(Incident), "incident")
}

fn message_schema(mut schema: Schema, word: &str) -> Schema {
    schema.insert("title".to_owned(), json!(format!("monmon {word}, wire format version 1")));
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("v".to_owned(), json!({ "const": VERSION }));
        properties.insert("type".to_owned(), json!({ "const": word }));
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.insert(0, json!("type"));
        required.insert(0, json!("v"));
    }
    schema
}

fn refuse(reason: RejectedReason, message: impl Into<String>) -> DecodeError {
    // What is wrong with a field is told with the field, which may be as long as the message.
    DecodeError { reason, message: bounds::message(message) }
}

fn check_header(text: &str) -> Result<(), DecodeError> {
    #[derive(Deserialize)]
    struct Header {
        v: Option<Value>,
        r#type: Option<Value>,
    }
    let header: Header = serde_json::from_str(text).map_err(|error| {
        let reason = if error.is_data() { RejectedReason::NotOurs } else { RejectedReason::NotJson };
        refuse(reason, error.to_string())
    })?;
    match header.r#type.as_ref().and_then(Value::as_str) {
        Some("measurement") => {}
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            return Err(refuse(RejectedReason::NotOurs, format!("`type` is `{shown}`, not `measurement`")));
        }
        None => return Err(refuse(RejectedReason::NotOurs, "a measurement has a `type`, which is a string")),
    }
    match header.v.as_ref().and_then(Value::as_u64) {
        Some(VERSION) => Ok(()),
        Some(version) if version > VERSION => {
            let message = format!("version {version} of the wire format; this monmon reads up to {VERSION}");
            Err(refuse(RejectedReason::NewerVersion, message))
        }
        _ => Err(refuse(
            RejectedReason::NotOurs,
            "a measurement has a version `v`, which is a whole number from 1",
        )),
    }
}

/// NUL is fine in JSON, but no text column can hold it.
fn check_text(text: &str) -> Result<(), DecodeError> {
    // A cheap look first: nearly no message has the escape at all.
    if !text.contains("\\u0000") {
        return Ok(());
    }
    fn has_nul(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(has_nul),
            Value::Object(fields) => fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
            _ => false,
        }
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| refuse(RejectedReason::NotJson, error.to_string()))?;
    if has_nul(&value) {
        return Err(refuse(RejectedReason::NulInText, "a string has the character NUL (\\u0000)"));
    }
    Ok(())
}

/// What the types alone do not hold, but every store relies on.
fn check_fields(measurement: &Measurement) -> Result<(), DecodeError> {
    let bad = |message: String| Err(refuse(RejectedReason::BadField, message));
    let slot_ms = measurement.scheduled_at.as_millisecond();
    let id_ms =
        measurement.id.get_timestamp().filter(|_| measurement.id.get_version_num() == 7).map(|time| {
            let (seconds, nanos) = time.to_unix();
            seconds as i64 * 1000 + i64::from(nanos / 1_000_000)
        });
    if id_ms != Some(slot_ms) {
        return bad(format!("`id` {} is no UUIDv7 of the slot {}", measurement.id, measurement.scheduled_at));
    }
    if measurement.attempt == 0 || measurement.attempt > i32::MAX as u32 {
        return bad(format!("`attempt` {} is outside 1 to {}", measurement.attempt, i32::MAX));
    }
    if let Some(status) = measurement.status.filter(|status| !(100..=999).contains(status)) {
        return bad(format!("`status` {status} is outside 100 to 999"));
    }
    let timings = measurement.redirects.iter().map(|hop| &hop.timings).chain([&measurement.timings]);
    let counts = timings
        .flat_map(|timings| timings.phases().into_iter().flatten().chain([timings.total_us]))
        .chain([measurement.seq, measurement.check.interval_us, measurement.check.timeout_us])
        .chain(measurement.body_bytes)
        .chain(measurement.body_wire_bytes);
    for count in counts {
        if i64::try_from(count).is_err() {
            return bad(format!("the number {count} is larger than {}", i64::MAX));
        }
    }
    check_interval(&measurement.check)
}

fn check_interval(check: &Check) -> Result<(), DecodeError> {
    match check.interval_us {
        INTERVAL_US_MIN.. => Ok(()),
        interval_us => {
            let message = format!("`check.interval_us` {interval_us} is less than {INTERVAL_US_MIN}");
            Err(refuse(RejectedReason::BadField, message))
        }
    }
}

/// The bounds of the texts, as the schema tells them.
fn check_lengths(measurement: &Measurement) -> Result<(), DecodeError> {
    check_check(&measurement.check)?;
    check_prober(&measurement.prober)?;
    if let Some(reason) = &measurement.reason {
        hold("reason.name", reason.name().unwrap_or_default(), NAME_CHARS_MAX)?;
        hold("reason.message", reason.message(), MESSAGE_CHARS_MAX)?;
    }
    if let Some(error) = &measurement.error {
        hold("error.message", &error.message, MESSAGE_CHARS_MAX)?;
    }
    if let Some(tls) = measurement.tls.as_ref().filter(|tls| tls.chain.len() > CHAIN_MAX) {
        let message = format!("`tls.chain` has {} certificates, at most {CHAIN_MAX}", tls.chain.len());
        return Err(refuse(RejectedReason::BadField, message));
    }
    if let Some(details) = &measurement.details {
        check_details(details)?;
    }
    for found in &measurement.matches {
        hold("matches.name", &found.name, NAME_CHARS_MAX)?;
        hold("matches.stage", &found.stage, NAME_CHARS_MAX)?;
        hold("matches.message", found.message.as_deref().unwrap_or_default(), MESSAGE_CHARS_MAX)?;
        if found.metrics.len() > METRICS_MAX {
            let message =
                format!("`matches.metrics` has {} numbers, at most {METRICS_MAX}", found.metrics.len());
            return Err(refuse(RejectedReason::BadField, message));
        }
        for (name, metric) in &found.metrics {
            hold("matches.metrics", name, METRIC_NAME_CHARS_MAX)?;
            hold("matches.metrics.unit", metric.unit(), METRIC_UNIT_CHARS_MAX)?;
        }
    }
    Ok(())
}

fn check_check(check: &Check) -> Result<(), DecodeError> {
    hold("check.name", &check.name, NAME_CHARS_MAX)?;
    hold("check.pipeline", &check.pipeline, NAME_CHARS_MAX)?;
    hold("check.source", &check.source, NAME_CHARS_MAX)?;
    hold("check.schedule", check.schedule.as_deref().unwrap_or_default(), NAME_CHARS_MAX)?;
    if check.labels.len() > LABELS_MAX {
        let message = format!("`check.labels` has {} labels, at most {LABELS_MAX}", check.labels.len());
        return Err(refuse(RejectedReason::BadField, message));
    }
    for (name, value) in &check.labels {
        hold("check.labels", name, LABEL_NAME_CHARS_MAX)?;
        hold("check.labels", value, LABEL_VALUE_CHARS_MAX)?;
    }
    Ok(())
}

fn check_prober(prober: &Prober) -> Result<(), DecodeError> {
    hold("prober.name", &prober.name, NAME_CHARS_MAX)?;
    hold("prober.location", prober.location.as_deref().unwrap_or_default(), NAME_CHARS_MAX)
}

fn check_details(details: &Details) -> Result<(), DecodeError> {
    let Details { evidence, proxy, maintenance, notes, addresses, steps, body_sha256, retry_after_s } =
        details;
    let messages = addresses.iter().map(|tried| &tried.message).chain(steps.iter().map(|step| &step.message));
    let texts = [
        ("details.evidence", evidence.as_deref(), EVIDENCE_CHARS_MAX),
        ("details.proxy", proxy.as_deref(), NAME_CHARS_MAX),
        ("details.maintenance", maintenance.as_deref(), NAME_CHARS_MAX),
        ("details.body_sha256", body_sha256.as_deref(), 64),
    ]
    .into_iter()
    .chain(messages.map(|message| ("details.message", message.as_deref(), MESSAGE_CHARS_MAX)))
    .chain(steps.iter().map(|step| ("details.steps.name", Some(step.name.as_str()), NAME_CHARS_MAX)));
    for (field, text, max) in texts {
        hold(field, text.unwrap_or_default(), max)?;
    }
    for (field, count, max) in [
        ("notes", notes.len(), NOTES_MAX),
        ("addresses", addresses.len(), ADDRESSES_MAX),
        ("steps", steps.len(), STEPS_MAX),
    ] {
        if count > max {
            let message = format!("`details.{field}` has {count} entries, at most {max}");
            return Err(refuse(RejectedReason::BadField, message));
        }
    }
    let timings = steps
        .iter()
        .map(|step| &step.timings)
        .chain(addresses.iter().filter_map(|tried| tried.timings.as_ref()));
    let counts = timings.flat_map(|timings| timings.phases().into_iter().flatten().chain([timings.total_us]));
    if let Some(count) = counts.chain(*retry_after_s).find(|count| i64::try_from(*count).is_err()) {
        return Err(refuse(
            RejectedReason::BadField,
            format!("the number {count} is larger than {}", i64::MAX),
        ));
    }
    Ok(())
}

/// A text within its bound.
fn hold(field: &str, text: &str, max: usize) -> Result<(), DecodeError> {
    if fits(text, max) {
        return Ok(());
    }
    Err(refuse(RejectedReason::BadField, format!("`{field}` is longer than {max} characters")))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

#[cfg(test)]
pub(crate) mod tests;
