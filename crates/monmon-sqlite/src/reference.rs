//! The rows that measurements refer to: probers, boots, checks, their definitions, TLS facts. There are few of them and
//! they seldom change, so the writer remembers what it has stored.

use std::sync::Arc;

use jiff::Timestamp;
use monmon_model::{Check, Measurement, Prober, Tls, definition_id, tls_id};
use monmon_stage::Memory;
use rusqlite::{Connection, params};
use serde_json::json;
use uuid::Uuid;

use crate::rows::{id_text, instant, json_text, long};

const PROBER: &str = "INSERT INTO monmon_prober (id, name, location, first_seen_at) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, location = excluded.location, \
        first_seen_at = min(monmon_prober.first_seen_at, excluded.first_seen_at)";

const BOOT: &str = "INSERT INTO monmon_boot (id, prober_id, first_seen_at) VALUES (?1, ?2, ?3) \
    ON CONFLICT (id) DO UPDATE SET first_seen_at = min(monmon_boot.first_seen_at, excluded.first_seen_at)";

const DEFINITION: &str = "INSERT INTO monmon_check_definition \
        (id, check_id, pipeline, source, name, method, url, interval_us, timeout_us, labels, first_seen_at, schedule) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
    ON CONFLICT (id) DO UPDATE SET \
        first_seen_at = min(monmon_check_definition.first_seen_at, excluded.first_seen_at)";

const CHECK: &str = "INSERT INTO monmon_check \
        (definition_id, id, pipeline, source, name, method, url, interval_us, timeout_us, labels, defined_at, schedule) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
    ON CONFLICT (id) DO UPDATE SET definition_id = excluded.definition_id, pipeline = excluded.pipeline, \
        source = excluded.source, name = excluded.name, method = excluded.method, url = excluded.url, \
        interval_us = excluded.interval_us, timeout_us = excluded.timeout_us, labels = excluded.labels, \
        defined_at = excluded.defined_at, schedule = excluded.schedule \
    WHERE excluded.defined_at >= monmon_check.defined_at \
      AND excluded.definition_id <> monmon_check.definition_id";

const TLS: &str = "INSERT INTO monmon_tls \
        (id, version, cipher, verified, certificate_subject, certificate_issuer, certificate_not_before, \
         certificate_not_after, certificate_sha256, chain) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING";

/// What the writer knows to be stored, or to be in the transaction that is open: it forgets all when that fails.
#[derive(Default)]
pub(crate) struct Remembered {
    probers: Memory<(Arc<Prober>, Timestamp)>,
    boots: Memory<Timestamp>,
    /// By check: its definition that was met last.
    definitions: Memory<Definition>,
    /// By check: what its last handshake agreed on.
    tls: Memory<(Tls, Uuid)>,
}

struct Definition {
    check: Arc<Check>,
    id: Uuid,
    first: Timestamp,
}

/// The ids that a measurement's row holds.
pub(crate) struct References {
    pub(crate) definition: Uuid,
    pub(crate) tls: Option<Uuid>,
}

impl Remembered {
    /// Stores what a measurement refers to, as far as it is not known to be stored. Measurements come in the order of
    /// their slots within a batch.
    pub(crate) fn store(
        &mut self,
        connection: &Connection,
        measurement: &Measurement,
    ) -> rusqlite::Result<References> {
        self.store_prober(connection, &measurement.prober, &measurement.scheduled_at)?;
        let definition = self.store_check(connection, measurement)?;
        let tls = match &measurement.tls {
            Some(tls) => Some(self.store_tls(connection, measurement.check.id, tls)?),
            None => None,
        };
        Ok(References { definition, tls })
    }

    /// For something of this instant.
    pub(crate) fn store_prober(
        &mut self,
        connection: &Connection,
        prober: &Arc<Prober>,
        slot: &Timestamp,
    ) -> rusqlite::Result<()> {
        let known = self.probers.get(prober.id);
        if known.is_none_or(|(known, first)| slot < first || !known.same_but_for_boot(prober)) {
            let first = known.map_or(*slot, |(_, first)| *first.min(slot));
            let row = params![id_text(prober.id), prober.name, prober.location, instant(*slot)];
            connection.prepare_cached(PROBER)?.execute(row)?;
            self.probers.insert(prober.id, (prober.clone(), first));
        }
        if self.boots.get(prober.boot).is_none_or(|first| slot < first) {
            let row = params![id_text(prober.boot), id_text(prober.id), instant(*slot)];
            connection.prepare_cached(BOOT)?.execute(row)?;
            self.boots.insert(prober.boot, *slot);
        }
        Ok(())
    }

    fn store_check(&mut self, connection: &Connection, measurement: &Measurement) -> rusqlite::Result<Uuid> {
        let Measurement { check, scheduled_at: slot, .. } = measurement;
        let known = self
            .definitions
            .get(check.id)
            .filter(|known| Arc::ptr_eq(&known.check, check) || known.check == *check);
        if let Some(known) = known.filter(|known| known.first <= *slot) {
            return Ok(known.id);
        }
        let id = known.map_or_else(|| definition_id(check), |known| known.id);
        put_check(connection, DEFINITION, [id, check.id], check, *slot)?;
        put_check(connection, CHECK, [id, check.id], check, *slot)?;
        self.definitions.insert(check.id, Definition { check: check.clone(), id, first: *slot });
        Ok(id)
    }

    fn store_tls(&mut self, connection: &Connection, check: Uuid, tls: &Tls) -> rusqlite::Result<Uuid> {
        if let Some((known, id)) = self.tls.get(check)
            && known == tls
        {
            return Ok(*id);
        }
        let id = tls_id(tls);
        let certificate = tls.certificate.as_ref();
        connection.prepare_cached(TLS)?.execute(params![
            id_text(id),
            tls.version,
            tls.cipher,
            tls.verified,
            certificate.map(|certificate| &certificate.subject),
            certificate.map(|certificate| &certificate.issuer),
            certificate.map(|certificate| instant(certificate.not_before)),
            certificate.map(|certificate| instant(certificate.not_after)),
            certificate.and_then(|certificate| certificate.sha256.as_ref()),
            (!tls.chain.is_empty()).then(|| json_text(&tls.chain)),
        ])?;
        self.tls.insert(check, (tls.clone(), id));
        Ok(id)
    }
}

/// A row of `monmon_check` or `monmon_check_definition`, which differ in their first two columns' order and last's name.
fn put_check(
    connection: &Connection,
    statement: &str,
    ids: [Uuid; 2],
    check: &Check,
    slot: Timestamp,
) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute(params![
        id_text(ids[0]),
        id_text(ids[1]),
        check.pipeline,
        check.source,
        check.name,
        check.method,
        check.url,
        long(check.interval_us),
        long(check.timeout_us),
        json!(check.labels).to_string(),
        instant(slot),
        check.schedule,
    ])?;
    Ok(())
}
