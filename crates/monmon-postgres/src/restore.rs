//! Rows as the model has them.

use std::sync::Arc;

use monmon_model::{
    BadRow, Check, Match, MatchRow, Measurement, MeasurementRow, Origin, Prober, Receipt, Rejected,
    RejectedReason, Tls, TlsRow,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use crate::error::{StoreError, chain};

/// A column of a row.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, name: &str) -> Result<T, StoreError> {
    row.try_get(name).map_err(|error| StoreError::Schema(chain(&error)))
}

/// The id is that of the measurement where the row has none of its own.
fn unreadable(row: &Row, bad: BadRow) -> StoreError {
    match column(row, "id").or_else(|_| column(row, "measurement_id")) {
        Ok(id) => StoreError::Unreadable { id, bad },
        Err(error) => error,
    }
}

/// A row of the columns of a measurement, with what it refers to.
pub(crate) fn measurement(
    row: &Row,
    check: Arc<Check>,
    prober: Arc<Prober>,
    tls: Option<Tls>,
    matches: Vec<Match>,
) -> Result<Measurement, StoreError> {
    let int = |name: &str| column::<Option<i32>>(row, name).map(|value| value.map(i64::from));
    let stored = MeasurementRow {
        id: column(row, "id")?,
        scheduled_at: column(row, "scheduled_at")?,
        started_at: column(row, "started_at")?,
        seq: column(row, "seq")?,
        attempt: i64::from(column::<i32>(row, "attempt")?),
        body_bytes: column(row, "body_bytes")?,
        body_wire_bytes: column(row, "body_wire_bytes")?,
        total_us: i64::from(column::<i32>(row, "total_us")?),
        phases_us: [int("dns_us")?, int("connect_us")?, int("tls_us")?, int("wait_us")?, int("transfer_us")?],
        status: column::<Option<i16>>(row, "status")?.map(i64::from),
        body_truncated: column(row, "body_truncated")?,
        outcome: column(row, "outcome")?,
        http_version: column(row, "http_version")?,
        remote_addr: column(row, "remote_addr")?,
        method: column(row, "method")?,
        url: column(row, "url")?,
        reason_kind: column(row, "reason_kind")?,
        reason_name: column(row, "reason_name")?,
        reason_message: column(row, "reason_message")?,
        error_kind: column(row, "error_kind")?,
        error_phase: column(row, "error_phase")?,
        error_message: column(row, "error_message")?,
        redirects: column(row, "redirects_text")?,
        details: column(row, "details_text")?,
    };
    stored.restore(check, prober, tls, matches).map_err(|bad| unreadable(row, bad))
}

pub(crate) fn matched(row: &Row) -> Result<Match, StoreError> {
    let stored = MatchRow {
        stage: column(row, "stage")?,
        name: column(row, "name")?,
        kind: column(row, "kind")?,
        status: column(row, "status")?,
        found: column(row, "found")?,
        message: column(row, "message")?,
        values: column(row, "values_text")?,
        metrics: column(row, "metrics_text")?,
    };
    stored.restore().map_err(|bad| unreadable(row, bad))
}

pub(crate) fn check(row: &Row) -> Result<Check, StoreError> {
    let labels: String = column(row, "labels_text")?;
    let labels = serde_json::from_str(&labels)
        .map_err(|error| unreadable(row, BadRow::new("labels", error.to_string())))?;
    let count = |name: &str| column::<i64>(row, name).map(i64::unsigned_abs);
    Ok(Check {
        id: column(row, "check_id")?,
        name: column(row, "name")?,
        pipeline: column(row, "pipeline")?,
        source: column(row, "source")?,
        method: column(row, "method")?,
        url: column(row, "url")?,
        schedule: column(row, "schedule")?,
        interval_us: count("interval_us")?,
        timeout_us: count("timeout_us")?,
        labels,
    })
}

pub(crate) fn prober(row: &Row) -> Result<Prober, StoreError> {
    Ok(Prober {
        id: column(row, "prober_id")?,
        name: column(row, "name")?,
        location: column(row, "location")?,
        boot: column(row, "id")?,
    })
}

pub(crate) fn tls(row: &Row) -> Result<Tls, StoreError> {
    let stored = TlsRow {
        version: column(row, "version")?,
        cipher: column(row, "cipher")?,
        verified: column(row, "verified")?,
        subject: column(row, "certificate_subject")?,
        issuer: column(row, "certificate_issuer")?,
        not_before: column(row, "certificate_not_before")?,
        not_after: column(row, "certificate_not_after")?,
        sha256: column(row, "certificate_sha256")?,
        chain: column(row, "chain_text")?,
    };
    stored.restore().map_err(|bad| unreadable(row, bad))
}

pub(crate) fn receipt(row: &Row, prober: Arc<Prober>) -> Result<Receipt, StoreError> {
    let count = |name: &str| column::<i64>(row, name).map(i64::unsigned_abs);
    Ok(Receipt {
        id: column(row, "id")?,
        prober,
        pipeline: column(row, "pipeline")?,
        source: column(row, "source")?,
        at: column(row, "at")?,
        began_at: column(row, "began_at")?,
        slots_from: column(row, "slots_from")?,
        slots_until: column(row, "slots_until")?,
        first_seq: count("first_seq")?,
        last_seq: count("last_seq")?,
        ids_xor: column(row, "ids_xor")?,
        failed: count("failed")?,
        last: column(row, "last")?,
    })
}

pub(crate) fn dead_letter(row: &Row) -> Result<Rejected, StoreError> {
    let word: String = column(row, "reason")?;
    let reason = RejectedReason::from_word(&word)
        .ok_or_else(|| unreadable(row, BadRow::new("reason", format!("`{word}` is no reason"))))?;
    Ok(Rejected {
        id: column(row, "id")?,
        reason,
        message: column(row, "message")?,
        origin: Origin {
            pipeline: column(row, "pipeline")?,
            source: column(row, "source")?,
            topic: column(row, "topic")?,
            partition: column(row, "kafka_partition")?,
            offset: column(row, "kafka_offset")?,
        },
        at: column(row, "occurred_at")?,
        key: column(row, "key")?,
        bytes: column(row, "bytes")?,
    })
}
