//! The rows that measurements and matches refer to: probers, boots, checks, their definitions, TLS facts, what else they have
//! in common. There are few of them and they seldom change, so each writer remembers what it has stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use monmon_model::{Check, Match, Measurement, Prober, Tls, context_id, definition_id, tls_id, verdict_id};
use monmon_stage::Memory;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::rows::{Parameters, long};

/// What one writer knows to be in the database. Nothing in it is true of a server that was not asked since, so a new
/// connection begins with an empty one. Behind a pooler another server may answer over the same connection, and lack what
/// was committed last: each batch asks for the rows that it relies on.
#[derive(Default)]
pub(crate) struct Remembered {
    stored: Stored,
    /// A hash for every measurement would cost more than a look at the check's last one.
    definitions: Memory<(Arc<Check>, Uuid)>,
    tls: Memory<(Tls, Uuid)>,
    contexts: Memory<(Context, Uuid)>,
}

/// What a row of `monmon_context` says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Context {
    definition_id: Uuid,
    boot_id: Uuid,
    tls_id: Option<Uuid>,
    http_version: Option<String>,
    remote_addr: Option<String>,
}

impl Context {
    fn is_of(&self, measurement: &Measurement, definition_id: Uuid, tls_id: Option<Uuid>) -> bool {
        (self.definition_id, self.boot_id, self.tls_id) == (definition_id, measurement.prober.boot, tls_id)
            && self.http_version == measurement.http_version
            && self.remote_addr == measurement.remote_addr
    }
}

/// The ids of what a measurement refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct References {
    pub(crate) context_id: Uuid,
    /// The context has it; also what else is made of it.
    pub(crate) definition_id: Uuid,
    pub(crate) tls_id: Option<Uuid>,
}

/// What is stored, and since which slot.
#[derive(Default)]
struct Stored {
    probers: Memory<(Arc<Prober>, Timestamp)>,
    boots: Memory<Timestamp>,
    /// The definition that was last made a check's current one.
    checks: Memory<Uuid>,
    definitions: Memory<Timestamp>,
    tls: Memory<()>,
    contexts: Memory<()>,
    verdicts: Memory<()>,
}

/// The rows that one batch needs and that are not known to be there. In the order of their ids, so that two writers lock
/// them in the same order and never wait for each other.
#[derive(Default)]
pub(crate) struct Needed<'a> {
    probers: BTreeMap<Uuid, (&'a Arc<Prober>, Timestamp)>,
    boots: BTreeMap<Uuid, (Uuid, Timestamp)>,
    checks: BTreeMap<Uuid, (&'a Check, Uuid, Timestamp)>,
    definitions: BTreeMap<Uuid, (&'a Check, Timestamp)>,
    tls: BTreeMap<Uuid, &'a Tls>,
    contexts: BTreeMap<Uuid, (&'a Measurement, References)>,
    verdicts: BTreeMap<Uuid, &'a Match>,
    named: Named,
}

/// The ids that one batch names, stored or not: each once, however many measurements have it.
#[derive(Default)]
struct Named {
    probers: BTreeSet<Uuid>,
    boots: BTreeSet<Uuid>,
    checks: BTreeSet<Uuid>,
    definitions: BTreeSet<Uuid>,
    tls: BTreeSet<Uuid>,
    contexts: BTreeSet<Uuid>,
    verdicts: BTreeSet<Uuid>,
}

impl Remembered {
    /// The ids of what a measurement refers to; what has to be stored for it goes into `needed`.
    /// Measurements come in the order of their slots.
    pub(crate) fn refer<'a>(&mut self, measurement: &'a Measurement, needed: &mut Needed<'a>) -> References {
        let slot = measurement.scheduled_at;
        let check = &measurement.check;
        let definition_id = self.definition_id(check);
        let tls_id = measurement.tls.as_ref().map(|tls| self.tls_id(check.id, tls));
        let stored = &self.stored;
        if stored.definitions.get(definition_id).is_none_or(|first| slot < *first) {
            needed.definitions.entry(definition_id).or_insert((check, slot));
        }
        if stored.checks.get(check.id) != Some(&definition_id) || needed.checks.contains_key(&check.id) {
            // The newest slot of the batch decides, and its definition may be an older batch's again.
            needed.checks.insert(check.id, (check, definition_id, slot));
        }
        self.refer_prober(&measurement.prober, slot, needed);
        let stored = &self.stored;
        if let (Some(id), Some(tls)) = (tls_id, &measurement.tls)
            && stored.tls.get(id).is_none()
        {
            needed.tls.entry(id).or_insert(tls);
        }
        let context_id = self.context_id(measurement, definition_id, tls_id);
        let references = References { context_id, definition_id, tls_id };
        if self.stored.contexts.get(context_id).is_none() {
            needed.contexts.entry(context_id).or_insert((measurement, references));
        }
        // Measurements of one context have the rest in common too.
        if needed.named.contexts.insert(context_id) {
            needed.named.checks.insert(check.id);
            needed.named.definitions.insert(definition_id);
            needed.named.tls.extend(tls_id);
        }
        references
    }

    /// The id of what a match says; what has to be stored for it goes into `needed`.
    pub(crate) fn refer_match<'a>(&self, found: &'a Match, needed: &mut Needed<'a>) -> Uuid {
        let id = verdict_id(found);
        needed.named.verdicts.insert(id);
        if self.stored.verdicts.get(id).is_none() {
            needed.verdicts.entry(id).or_insert(found);
        }
        id
    }

    /// What has to be stored of a prober for something of this instant goes into `needed`.
    pub(crate) fn refer_prober<'a>(&self, prober: &'a Arc<Prober>, slot: Timestamp, needed: &mut Needed<'a>) {
        let stored = &self.stored;
        needed.named.boots.insert(prober.boot);
        needed.named.probers.insert(prober.id);
        if stored.boots.get(prober.boot).is_none_or(|first| slot < *first) {
            needed.boots.entry(prober.boot).or_insert((prober.id, slot));
        }
        let known = stored.probers.get(prober.id);
        if known.is_none_or(|(known, first)| slot < *first || !known.same_but_for_boot(prober)) {
            let first = needed.probers.get(&prober.id).map_or(slot, |(_, first)| *first);
            needed.probers.insert(prober.id, (prober, first));
        }
    }

    /// Takes note of what a committed batch has stored.
    pub(crate) fn commit(&mut self, needed: &Needed<'_>) {
        let stored = &mut self.stored;
        for (id, (prober, first)) in &needed.probers {
            let earlier = stored.probers.get(*id).map_or(*first, |(_, earlier)| *earlier.min(first));
            stored.probers.insert(*id, ((*prober).clone(), earlier));
        }
        for (id, (_, first)) in &needed.boots {
            stored.boots.insert(*id, *first);
        }
        for (id, (_, definition_id, _)) in &needed.checks {
            stored.checks.insert(*id, *definition_id);
        }
        for (id, (_, first)) in &needed.definitions {
            stored.definitions.insert(*id, *first);
        }
        for id in needed.tls.keys() {
            stored.tls.insert(*id, ());
        }
        for id in needed.contexts.keys() {
            stored.contexts.insert(*id, ());
        }
        for id in needed.verdicts.keys() {
            stored.verdicts.insert(*id, ());
        }
    }

    fn definition_id(&mut self, check: &Arc<Check>) -> Uuid {
        if let Some((known, id)) = self.definitions.get(check.id)
            && (Arc::ptr_eq(known, check) || known == check)
        {
            return *id;
        }
        let id = definition_id(check);
        self.definitions.insert(check.id, (check.clone(), id));
        id
    }

    fn tls_id(&mut self, check_id: Uuid, tls: &Tls) -> Uuid {
        if let Some((known, id)) = self.tls.get(check_id)
            && known == tls
        {
            return *id;
        }
        let id = tls_id(tls);
        self.tls.insert(check_id, (tls.clone(), id));
        id
    }

    fn context_id(&mut self, measurement: &Measurement, definition_id: Uuid, tls_id: Option<Uuid>) -> Uuid {
        let (boot_id, check_id) = (measurement.prober.boot, measurement.check.id);
        // By boot too, so that probers that measure one check in turn do not drive each other out.
        let place = Uuid::from_u128(check_id.as_u128() ^ boot_id.as_u128());
        if let Some((known, id)) = self.contexts.get(place)
            && known.is_of(measurement, definition_id, tls_id)
        {
            return *id;
        }
        let (http_version, remote_addr) = (measurement.http_version.clone(), measurement.remote_addr.clone());
        let id = context_id(definition_id, boot_id, http_version.as_deref(), remote_addr.as_deref(), tls_id);
        let context = Context { definition_id, boot_id, tls_id, http_version, remote_addr };
        self.contexts.insert(place, (context, id));
        id
    }
}

/// One upsert and its arrays.
pub(crate) struct Upsert {
    pub(crate) sql: &'static str,
    pub(crate) arrays: Vec<Array>,
}

type Array = (Box<dyn ToSql + Sync + Send>, Type);

const PROBERS: &str = "INSERT INTO monmon_prober (id, name, location, first_seen_at) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) \
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, location = excluded.location, \
        first_seen_at = least(monmon_prober.first_seen_at, excluded.first_seen_at) \
    WHERE (monmon_prober.name, monmon_prober.location) IS DISTINCT FROM (excluded.name, excluded.location) \
       OR excluded.first_seen_at < monmon_prober.first_seen_at";

const BOOTS: &str = "INSERT INTO monmon_boot (id, prober_id, first_seen_at) \
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) \
    ON CONFLICT (id) DO UPDATE SET first_seen_at = excluded.first_seen_at \
    WHERE excluded.first_seen_at < monmon_boot.first_seen_at";

const CHECKS: &str = "INSERT INTO monmon_check \
        (id, definition_id, pipeline, source, name, method, url, interval_us, timeout_us, labels, defined_at, \
         schedule) \
    SELECT id, definition_id, pipeline, source, name, method, url, interval_us, timeout_us, labels::jsonb, defined_at, \
        schedule \
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], \
        $9::bigint[], $10::text[], $11::timestamptz[], $12::text[]) \
        AS r(id, definition_id, pipeline, source, name, method, url, interval_us, timeout_us, labels, defined_at, \
             schedule) \
    ON CONFLICT (id) DO UPDATE SET definition_id = excluded.definition_id, pipeline = excluded.pipeline, \
        source = excluded.source, name = excluded.name, method = excluded.method, url = excluded.url, \
        interval_us = excluded.interval_us, timeout_us = excluded.timeout_us, labels = excluded.labels, \
        defined_at = excluded.defined_at, schedule = excluded.schedule \
    WHERE excluded.defined_at >= monmon_check.defined_at AND excluded.definition_id <> monmon_check.definition_id";

const DEFINITIONS: &str = "INSERT INTO monmon_check_definition \
        (id, check_id, pipeline, source, name, method, url, interval_us, timeout_us, labels, first_seen_at, \
         schedule) \
    SELECT id, check_id, pipeline, source, name, method, url, interval_us, timeout_us, labels::jsonb, first_seen_at, \
        schedule \
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], \
        $9::bigint[], $10::text[], $11::timestamptz[], $12::text[]) \
        AS r(id, check_id, pipeline, source, name, method, url, interval_us, timeout_us, labels, first_seen_at, \
             schedule) \
    ON CONFLICT (id) DO UPDATE SET first_seen_at = excluded.first_seen_at \
    WHERE excluded.first_seen_at < monmon_check_definition.first_seen_at";

const TLS: &str = "INSERT INTO monmon_tls \
        (id, version, cipher, verified, certificate_subject, certificate_issuer, certificate_not_before, \
         certificate_not_after, certificate_sha256, chain) \
    SELECT id, version, cipher, verified, subject, issuer, not_before, not_after, sha256, chain::jsonb \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::text[], $7::timestamptz[], \
        $8::timestamptz[], $9::text[], $10::text[]) \
        AS r(id, version, cipher, verified, subject, issuer, not_before, not_after, sha256, chain) \
    ON CONFLICT (id) DO NOTHING";

const CONTEXTS: &str = "INSERT INTO monmon_context (id, definition_id, boot_id, tls_id, http_version, remote_addr) \
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[]) \
    ON CONFLICT (id) DO NOTHING";

const VERDICTS: &str = "INSERT INTO monmon_verdict (id, stage, name, kind, status, found) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[]) \
    ON CONFLICT (id) DO NOTHING";

/// The tables of the ids that [`Needed::relied_on`] gives, in its order.
const TABLES: [&str; 7] = [
    "monmon_prober",
    "monmon_boot",
    "monmon_check",
    "monmon_check_definition",
    "monmon_tls",
    "monmon_context",
    "monmon_verdict",
];

/// Fails, and the transaction with it, where a row is not there: COMMIT was sent already and can be called back in no other
/// way. A text that is no truth value is an error with words of our own in the server's log.
///
/// OFFSET keeps the server from joining: as long as it has no statistics of a table of some 100,000 rows it would rather read
/// all of them (190 ms) than look up 2,000 (2 ms).
pub(crate) static RELIED_ON: LazyLock<String> = LazyLock::new(|| {
    let tables = TABLES.iter().zip(1..).map(|(table, at)| {
        format!(
            "SELECT '{table}' AS name, r.id FROM unnest(${at}::uuid[]) AS r(id)
             WHERE NOT EXISTS (SELECT FROM {table} AS t WHERE t.id = r.id OFFSET 0)"
        )
    });
    let gone = tables.collect::<Vec<_>>().join(" UNION ALL ");
    format!("SELECT (g.name || ' has no row ' || g.id || ' any more')::boolean FROM ({gone}) AS g")
});

/// What of [`TABLES`] a batch names and does not store.
pub(crate) struct ReliedOn([Vec<Uuid>; TABLES.len()]);

impl ReliedOn {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(Vec::is_empty)
    }

    pub(crate) fn parameters(&self) -> Parameters<'_> {
        self.0.iter().map(|ids| (ids as &(dyn ToSql + Sync), Type::UUID_ARRAY)).collect()
    }
}

macro_rules! array {
    ($type:ident $rows:expr, $pick:expr) => {
        (Box::new($rows.iter().map($pick).collect::<Vec<_>>()) as Box<dyn ToSql + Sync + Send>, Type::$type)
    };
}

fn without<T>(named: &BTreeSet<Uuid>, stored: &BTreeMap<Uuid, T>) -> Vec<Uuid> {
    named.iter().filter(|id| !stored.contains_key(id)).copied().collect()
}

impl Needed<'_> {
    pub(crate) fn relied_on(&self) -> ReliedOn {
        let named = &self.named;
        ReliedOn([
            without(&named.probers, &self.probers),
            without(&named.boots, &self.boots),
            without(&named.checks, &self.checks),
            without(&named.definitions, &self.definitions),
            without(&named.tls, &self.tls),
            without(&named.contexts, &self.contexts),
            without(&named.verdicts, &self.verdicts),
        ])
    }

    /// The upserts that are needed, in the order in which tables are always written.
    pub(crate) fn upserts(&self) -> Vec<Upsert> {
        let mut upserts = Vec::new();
        if !self.probers.is_empty() {
            let arrays = vec![
                array!(UUID_ARRAY self.probers, |(id, _)| *id),
                array!(TEXT_ARRAY self.probers, |(_, (prober, _))| prober.name.clone()),
                array!(TEXT_ARRAY self.probers, |(_, (prober, _))| prober.location.clone()),
                array!(TIMESTAMPTZ_ARRAY self.probers, |(_, (_, first))| *first),
            ];
            upserts.push(Upsert { sql: PROBERS, arrays });
        }
        if !self.boots.is_empty() {
            let arrays = vec![
                array!(UUID_ARRAY self.boots, |(id, _)| *id),
                array!(UUID_ARRAY self.boots, |(_, (prober_id, _))| *prober_id),
                array!(TIMESTAMPTZ_ARRAY self.boots, |(_, (_, first))| *first),
            ];
            upserts.push(Upsert { sql: BOOTS, arrays });
        }
        if !self.definitions.is_empty() {
            let rows = self.definitions.iter().map(|(id, (check, first))| (*id, check.id, *check, *first));
            upserts.push(Upsert { sql: DEFINITIONS, arrays: check_arrays(rows.collect()) });
        }
        if !self.checks.is_empty() {
            let rows =
                self.checks.iter().map(|(id, (check, definition, slot))| (*id, *definition, *check, *slot));
            upserts.push(Upsert { sql: CHECKS, arrays: check_arrays(rows.collect()) });
        }
        if !self.tls.is_empty() {
            upserts.push(Upsert { sql: TLS, arrays: self.tls_arrays() });
        }
        if !self.contexts.is_empty() {
            let rows = &self.contexts;
            let arrays = vec![
                array!(UUID_ARRAY rows, |(id, _)| *id),
                array!(UUID_ARRAY rows, |(_, (_, references))| references.definition_id),
                array!(UUID_ARRAY rows, |(_, (measurement, _))| measurement.prober.boot),
                array!(UUID_ARRAY rows, |(_, (_, references))| references.tls_id),
                array!(TEXT_ARRAY rows, |(_, (measurement, _))| measurement.http_version.clone()),
                array!(TEXT_ARRAY rows, |(_, (measurement, _))| measurement.remote_addr.clone()),
            ];
            upserts.push(Upsert { sql: CONTEXTS, arrays });
        }
        if !self.verdicts.is_empty() {
            let rows = &self.verdicts;
            let arrays = vec![
                array!(UUID_ARRAY rows, |(id, _)| *id),
                array!(TEXT_ARRAY rows, |(_, found)| found.stage.clone()),
                array!(TEXT_ARRAY rows, |(_, found)| found.name.clone()),
                array!(TEXT_ARRAY rows, |(_, found)| found.kind.clone()),
                array!(TEXT_ARRAY rows, |(_, found)| found.status.as_str()),
                array!(BOOL_ARRAY rows, |(_, found)| found.found),
            ];
            upserts.push(Upsert { sql: VERDICTS, arrays });
        }
        upserts
    }

    fn tls_arrays(&self) -> Vec<Array> {
        let rows: Vec<_> = self.tls.iter().map(|(id, tls)| (*id, *tls, tls.certificate.as_ref())).collect();
        vec![
            array!(UUID_ARRAY rows, |(id, _, _)| *id),
            array!(TEXT_ARRAY rows, |(_, tls, _)| tls.version.clone()),
            array!(TEXT_ARRAY rows, |(_, tls, _)| tls.cipher.clone()),
            array!(BOOL_ARRAY rows, |(_, tls, _)| tls.verified),
            array!(TEXT_ARRAY rows, |(_, _, certificate)| certificate.map(|certificate| certificate.subject.clone())),
            array!(TEXT_ARRAY rows, |(_, _, certificate)| certificate.map(|certificate| certificate.issuer.clone())),
            array!(TIMESTAMPTZ_ARRAY rows, |(_, _, certificate)| certificate.map(|certificate| certificate.not_before)),
            array!(TIMESTAMPTZ_ARRAY rows, |(_, _, certificate)| certificate.map(|certificate| certificate.not_after)),
            array!(TEXT_ARRAY rows, |(_, _, certificate)| certificate
                .and_then(|certificate| certificate.sha256.clone())),
            array!(TEXT_ARRAY rows, |(_, tls, _)| (!tls.chain.is_empty()).then(|| json!(tls.chain).to_string())),
        ]
    }
}

/// The columns of a check or a definition: id, the other id, what defines it, a slot.
fn check_arrays(rows: Vec<(Uuid, Uuid, &Check, Timestamp)>) -> Vec<Array> {
    vec![
        array!(UUID_ARRAY rows, |row| row.0),
        array!(UUID_ARRAY rows, |row| row.1),
        array!(TEXT_ARRAY rows, |row| row.2.pipeline.clone()),
        array!(TEXT_ARRAY rows, |row| row.2.source.clone()),
        array!(TEXT_ARRAY rows, |row| row.2.name.clone()),
        array!(TEXT_ARRAY rows, |row| row.2.method.clone()),
        array!(TEXT_ARRAY rows, |row| row.2.url.clone()),
        array!(INT8_ARRAY rows, |row| long(row.2.interval_us)),
        array!(INT8_ARRAY rows, |row| long(row.2.timeout_us)),
        array!(TEXT_ARRAY rows, |row| json!(row.2.labels).to_string()),
        array!(TIMESTAMPTZ_ARRAY rows, |row| row.3),
        array!(TEXT_ARRAY rows, |row| row.2.schedule.clone()),
    ]
}
