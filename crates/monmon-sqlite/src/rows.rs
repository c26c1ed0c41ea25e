//! Measurements, matches, records of batches and dead letters as rows.

use std::sync::LazyLock;

use jiff::Timestamp;
use monmon_model::{Match, Measurement, Receipt, Rejected, match_id};
use monmon_stage::Slice;
use rusqlite::{Connection, ToSql, params};
use serde::Serialize;
use uuid::Uuid;

use crate::reference::References;
use crate::store::Fates;

/// What is compared of two measurements with one id is all of these but the id, and the prober.
pub(crate) const MEASUREMENT_COLUMNS: [&str; 32] = [
    "id",
    "check_id",
    "definition_id",
    "boot_id",
    "scheduled_at",
    "started_at",
    "seq",
    "body_bytes",
    "total_us",
    "dns_us",
    "connect_us",
    "tls_us",
    "wait_us",
    "transfer_us",
    "attempt",
    "status",
    "body_truncated",
    "outcome",
    "http_version",
    "remote_addr",
    "tls_id",
    "method",
    "url",
    "reason_kind",
    "reason_name",
    "reason_message",
    "error_kind",
    "error_phase",
    "error_message",
    "redirects",
    "body_wire_bytes",
    "details",
];

static MEASUREMENT: LazyLock<String> = LazyLock::new(|| {
    let places: Vec<String> = (1..=MEASUREMENT_COLUMNS.len()).map(|at| format!("?{at}")).collect();
    format!(
        "INSERT INTO monmon_measurement ({}) VALUES ({}) ON CONFLICT DO NOTHING",
        MEASUREMENT_COLUMNS.join(", "),
        places.join(", ")
    )
});

const MATCH: &str = "INSERT INTO monmon_match \
        (id, measurement_id, name, stage, kind, status, found, message, \"values\", metrics) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING";

const DEAD_LETTER: &str = "INSERT INTO monmon_dead_letter \
        (id, reason, message, pipeline, source, topic, kafka_partition, kafka_offset, occurred_at, key, bytes) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";

const BATCH: &str = "INSERT INTO monmon_batch \
        (id, first_offset, last_offset, partition_id, messages, stored, duplicates, dead_letters, events, pipeline, \
         stage, source, topic, offsets) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

const RECEIPT: &str = "INSERT INTO monmon_receipt \
        (id, boot_id, at, began_at, slots_from, slots_until, first_seq, last_seq, failed, ids_xor, pipeline, source, last) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT DO NOTHING";

pub(crate) fn put_receipt(connection: &Connection, receipt: &Receipt) -> rusqlite::Result<()> {
    connection.prepare_cached(RECEIPT)?.execute(params![
        id_text(receipt.id),
        id_text(receipt.prober.boot),
        instant(receipt.at),
        instant(receipt.began_at),
        instant(receipt.slots_from),
        instant(receipt.slots_until),
        long(receipt.first_seq),
        long(receipt.last_seq),
        long(receipt.failed),
        id_text(receipt.ids_xor),
        receipt.pipeline,
        receipt.source,
        receipt.last,
    ])?;
    Ok(())
}

/// Whether a measurement was new. One that is there already stays as it is, with its matches.
pub(crate) fn put_measurement(
    connection: &Connection,
    measurement: &Measurement,
    references: &References,
) -> rusqlite::Result<bool> {
    let added =
        with_row(measurement, references, |row| connection.prepare_cached(&MEASUREMENT)?.execute(row))?;
    if added == 0 {
        return Ok(false);
    }
    let id = id_text(measurement.id);
    for found in &measurement.matches {
        put_match(connection, measurement, &id, found)?;
    }
    Ok(true)
}

/// A measurement as the values of [`MEASUREMENT_COLUMNS`].
pub(crate) fn with_row<T>(
    measurement: &Measurement,
    references: &References,
    job: impl FnOnce(&[&dyn ToSql]) -> T,
) -> T {
    let check = &measurement.check;
    let timings = &measurement.timings;
    let reason = measurement.reason.as_ref();
    let error = measurement.error.as_ref();
    let said = error.map(|error| error.message.as_str());
    job(params![
        id_text(measurement.id),
        id_text(check.id),
        id_text(references.definition),
        id_text(measurement.prober.boot),
        instant(measurement.scheduled_at),
        measurement.started_at.map(instant),
        long(measurement.seq),
        measurement.body_bytes.map(long),
        long(timings.total_us),
        timings.dns_us.map(long),
        timings.connect_us.map(long),
        timings.tls_us.map(long),
        timings.wait_us.map(long),
        timings.transfer_us.map(long),
        measurement.attempt,
        measurement.status,
        measurement.body_truncated,
        measurement.outcome.as_str(),
        measurement.http_version,
        measurement.remote_addr,
        references.tls.map(id_text),
        Some(&measurement.method).filter(|method| **method != check.method),
        Some(&measurement.url).filter(|url| **url != check.url),
        reason.map(|reason| reason.kind()),
        reason.and_then(|reason| reason.name()),
        reason.map(|reason| reason.message()).filter(|message| Some(*message) != said),
        error.map(|error| error.kind.as_str()),
        error.map(|error| error.phase.as_str()),
        said,
        (!measurement.redirects.is_empty()).then(|| json_text(&measurement.redirects)),
        measurement.body_wire_bytes.map(long),
        measurement.details.as_ref().map(json_text),
    ])
}

fn put_match(
    connection: &Connection,
    measurement: &Measurement,
    measurement_id: &str,
    found: &Match,
) -> rusqlite::Result<()> {
    let id = match_id(measurement.id, measurement.scheduled_at, &found.stage, &found.name);
    connection.prepare_cached(MATCH)?.execute(params![
        id_text(id),
        measurement_id,
        found.name,
        found.stage,
        found.kind,
        found.status.as_str(),
        found.found,
        found.message,
        (!found.values.is_empty()).then(|| json_text(&found.values)),
        (!found.metrics.is_empty()).then(|| json_text(&found.metrics)),
    ])?;
    Ok(())
}

pub(crate) fn put_dead_letter(connection: &Connection, rejected: &Rejected) -> rusqlite::Result<()> {
    let origin = &rejected.origin;
    connection.prepare_cached(DEAD_LETTER)?.execute(params![
        id_text(rejected.id),
        rejected.reason.as_str(),
        rejected.message,
        origin.pipeline,
        origin.source,
        origin.topic,
        origin.partition,
        origin.offset,
        instant(rejected.at),
        rejected.key,
        rejected.bytes,
    ])?;
    Ok(())
}

/// Puts on record which messages a batch is, and what became of them.
pub(crate) fn put_batch(
    connection: &Connection,
    id: Uuid,
    stage: &str,
    slice: &Slice<'_>,
    fates: &Fates,
) -> rusqlite::Result<()> {
    connection.prepare_cached(BATCH)?.execute(params![
        id_text(id),
        slice.first(),
        slice.last(),
        slice.partition,
        slice.messages,
        fates.stored,
        fates.duplicates,
        fates.rejected,
        slice.events,
        slice.pipeline,
        stage,
        slice.source,
        slice.topic,
        slice.runs().as_ref().map(json_text),
    ])?;
    Ok(())
}

/// What in a measurement no row can hold, if there is something. Times are bounded as in PostgreSQL: what one store takes
/// the other one takes as well, and any number of them can be added up.
pub(crate) fn misfit(measurement: &Measurement) -> Option<String> {
    let timings = &measurement.timings;
    let longest = timings.phases().into_iter().flatten().chain([timings.total_us]).max().unwrap_or(0);
    if i32::try_from(longest).is_err() {
        return Some(format!("a time of {longest} us is longer than {} us", i32::MAX));
    }
    let check = &measurement.check;
    let counts = [measurement.seq, check.interval_us, check.timeout_us];
    let more = measurement.body_bytes.into_iter().chain(measurement.body_wire_bytes);
    let count = counts.into_iter().chain(more).find(|count| i64::try_from(*count).is_err())?;
    Some(format!("the number {count} is larger than {}", i64::MAX))
}

/// A number that [`misfit`] has looked at.
pub(crate) fn long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn id_text(id: Uuid) -> String {
    id.hyphenated().to_string()
}

/// With six digits, so that texts sort as instants do.
pub(crate) fn instant(at: Timestamp) -> String {
    format!("{at:.6}")
}

pub(crate) fn json_text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the model's types have string keys only")
}
