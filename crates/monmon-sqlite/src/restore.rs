//! Rows as the model has them.

use std::sync::Arc;

use jiff::Timestamp;
use monmon_model::{
    BadRow, Check, Labels, Match, MatchRow, Measurement, MeasurementRow, Origin, Prober, Receipt, Rejected,
    RejectedReason, Tls, TlsRow,
};
use monmon_stage::Memory;
use rusqlite::types::Type;
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::rows::id_text;
use crate::status::parsed;

const DEFINITION: &str = "SELECT check_id, pipeline, source, name, method, url, interval_us, timeout_us, labels, \
        schedule \
    FROM monmon_check_definition WHERE id = ?1";
const PROBER: &str = "SELECT b.prober_id, p.name, p.location FROM monmon_boot AS b \
    JOIN monmon_prober AS p ON p.id = b.prober_id WHERE b.id = ?1";
const TLS: &str = "SELECT version, cipher, verified, certificate_subject, certificate_issuer, certificate_not_before, \
        certificate_not_after, certificate_sha256, chain \
    FROM monmon_tls WHERE id = ?1";
const MATCHES: &str = "SELECT stage, name, kind, status, found, message, \"values\", metrics FROM monmon_match \
    WHERE measurement_id = ?1 ORDER BY id";

/// What measurements refer to, as far as it was met.
#[derive(Default)]
pub(crate) struct Known {
    definitions: Memory<Arc<Check>>,
    probers: Memory<Arc<Prober>>,
    tls: Memory<Tls>,
}

impl Known {
    pub(crate) fn definition(&mut self, connection: &Connection, id: Uuid) -> rusqlite::Result<Arc<Check>> {
        if let Some(check) = self.definitions.get(id) {
            return Ok(check.clone());
        }
        let check = connection.prepare_cached(DEFINITION)?.query_row([id_text(id)], check)?;
        let check = Arc::new(check);
        self.definitions.insert(id, check.clone());
        Ok(check)
    }

    fn prober(&mut self, connection: &Connection, boot: Uuid) -> rusqlite::Result<Arc<Prober>> {
        if let Some(prober) = self.probers.get(boot) {
            return Ok(prober.clone());
        }
        let read = |row: &Row<'_>| {
            Ok(Prober {
                id: parsed(row, "prober_id")?,
                name: row.get("name")?,
                location: row.get("location")?,
                boot,
            })
        };
        let prober = Arc::new(connection.prepare_cached(PROBER)?.query_row([id_text(boot)], read)?);
        self.probers.insert(boot, prober.clone());
        Ok(prober)
    }

    fn tls(&mut self, connection: &Connection, id: Uuid) -> rusqlite::Result<Tls> {
        if let Some(tls) = self.tls.get(id) {
            return Ok(tls.clone());
        }
        let tls = connection.prepare_cached(TLS)?.query_row([id_text(id)], |row| tls(id, row))?;
        self.tls.insert(id, tls.clone());
        Ok(tls)
    }
}

/// A row of the columns of a measurement, with what it refers to.
pub(crate) fn measurement(
    connection: &Connection,
    known: &mut Known,
    row: &Row<'_>,
) -> rusqlite::Result<Measurement> {
    let check = known.definition(connection, parsed(row, "definition_id")?)?;
    let prober = known.prober(connection, parsed(row, "boot_id")?)?;
    let tls = match maybe(row, "tls_id")? {
        Some(id) => Some(known.tls(connection, id)?),
        None => None,
    };
    let stored = MeasurementRow {
        id: parsed(row, "id")?,
        scheduled_at: parsed(row, "scheduled_at")?,
        started_at: maybe(row, "started_at")?,
        seq: row.get("seq")?,
        attempt: row.get("attempt")?,
        body_bytes: row.get("body_bytes")?,
        body_wire_bytes: row.get("body_wire_bytes")?,
        total_us: row.get("total_us")?,
        phases_us: [
            row.get("dns_us")?,
            row.get("connect_us")?,
            row.get("tls_us")?,
            row.get("wait_us")?,
            row.get("transfer_us")?,
        ],
        status: row.get("status")?,
        body_truncated: row.get("body_truncated")?,
        outcome: row.get("outcome")?,
        http_version: row.get("http_version")?,
        remote_addr: row.get("remote_addr")?,
        method: row.get("method")?,
        url: row.get("url")?,
        reason_kind: row.get("reason_kind")?,
        reason_name: row.get("reason_name")?,
        reason_message: row.get("reason_message")?,
        error_kind: row.get("error_kind")?,
        error_phase: row.get("error_phase")?,
        error_message: row.get("error_message")?,
        redirects: row.get("redirects")?,
        details: row.get("details")?,
    };
    let id = stored.id;
    let matches = matches(connection, id)?;
    stored.restore(check, prober, tls, matches).map_err(|bad| unreadable(id, bad))
}

fn matches(connection: &Connection, measurement: Uuid) -> rusqlite::Result<Vec<Match>> {
    let mut query = connection.prepare_cached(MATCHES)?;
    let rows = query.query_map([id_text(measurement)], |row| {
        let stored = MatchRow {
            stage: row.get("stage")?,
            name: row.get("name")?,
            kind: row.get("kind")?,
            status: row.get("status")?,
            found: row.get("found")?,
            message: row.get("message")?,
            values: row.get("values")?,
            metrics: row.get("metrics")?,
        };
        stored.restore().map_err(|bad| unreadable(measurement, bad))
    })?;
    rows.collect()
}

fn check(row: &Row<'_>) -> rusqlite::Result<Check> {
    let labels: String = row.get("labels")?;
    let labels: Labels = serde_json::from_str(&labels).map_err(conversion)?;
    let count = |name: &str| row.get::<_, i64>(name).map(i64::unsigned_abs);
    Ok(Check {
        id: parsed(row, "check_id")?,
        name: row.get("name")?,
        pipeline: row.get("pipeline")?,
        source: row.get("source")?,
        method: row.get("method")?,
        url: row.get("url")?,
        schedule: row.get("schedule")?,
        interval_us: count("interval_us")?,
        timeout_us: count("timeout_us")?,
        labels,
    })
}

fn tls(id: Uuid, row: &Row<'_>) -> rusqlite::Result<Tls> {
    let stored = TlsRow {
        version: row.get("version")?,
        cipher: row.get("cipher")?,
        verified: row.get("verified")?,
        subject: row.get("certificate_subject")?,
        issuer: row.get("certificate_issuer")?,
        not_before: maybe(row, "certificate_not_before")?,
        not_after: maybe(row, "certificate_not_after")?,
        sha256: row.get("certificate_sha256")?,
        chain: row.get("chain")?,
    };
    stored.restore().map_err(|bad| unreadable(id, bad))
}

pub(crate) fn receipt(
    connection: &Connection,
    known: &mut Known,
    row: &Row<'_>,
) -> rusqlite::Result<Receipt> {
    let count = |name: &str| row.get::<_, i64>(name).map(i64::unsigned_abs);
    Ok(Receipt {
        id: parsed(row, "id")?,
        prober: known.prober(connection, parsed(row, "boot_id")?)?,
        pipeline: row.get("pipeline")?,
        source: row.get("source")?,
        at: parsed(row, "at")?,
        began_at: parsed(row, "began_at")?,
        slots_from: parsed(row, "slots_from")?,
        slots_until: parsed(row, "slots_until")?,
        first_seq: count("first_seq")?,
        last_seq: count("last_seq")?,
        ids_xor: parsed(row, "ids_xor")?,
        failed: count("failed")?,
        last: row.get("last")?,
    })
}

pub(crate) fn dead_letter(row: &Row<'_>) -> rusqlite::Result<Rejected> {
    let id: Uuid = parsed(row, "id")?;
    let reason: String = row.get("reason")?;
    let at: Timestamp = parsed(row, "occurred_at")?;
    Ok(Rejected {
        id,
        reason: RejectedReason::from_word(&reason)
            .ok_or_else(|| unreadable(id, BadRow::new("reason", format!("`{reason}` is no reason"))))?,
        message: row.get("message")?,
        origin: Origin {
            pipeline: row.get("pipeline")?,
            source: row.get("source")?,
            topic: row.get("topic")?,
            partition: row.get("kafka_partition")?,
            offset: row.get("kafka_offset")?,
        },
        at,
        key: row.get("key")?,
        bytes: row.get("bytes")?,
    })
}

fn maybe<T: std::str::FromStr>(row: &Row<'_>, name: &str) -> rusqlite::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match row.get_ref(name)? {
        rusqlite::types::ValueRef::Null => Ok(None),
        _ => parsed(row, name).map(Some),
    }
}

/// Which row, and which column of it.
fn unreadable(id: Uuid, bad: BadRow) -> rusqlite::Error {
    conversion(BadRow::new(bad.column, format!("{} in row {id}", bad.message)))
}

fn conversion(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}
