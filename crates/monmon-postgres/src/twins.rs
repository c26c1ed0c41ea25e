//! Measurements whose ids are stored already: what of them is other than what is stored.
//!
//! Asked after a batch of which fewer rows were new than were sent, over all of it: what was stored just now is equal to
//! itself, so nobody needs to know which rows were the new ones. The server compares what the arrays hold with its rows,
//! in the types of its columns, so that an instant is compared to the microsecond and JSON by its content, however often
//! a message was written and read on its way. Compared are all columns of `monmon_measurement_full` (the definition's and the
//! TLS facts' ids are made of their content, so labels and certificates are among them), the matches, and the prober,
//! which the boot tells. Not compared: the prober's name and location, which its row has as they were last told.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use monmon_model::{Measurement, match_id};
use monmon_stage::StoredTwin;
use serde_json::{Value, json};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::connect::{Connection, transact};
use crate::error::StoreError;
use crate::reference::References;
use crate::rows::{MeasurementRows, Parameters, picked};

/// All measurements of a batch, also those that have their ids in common.
#[derive(Default)]
pub(crate) struct TwinRows<'a> {
    measurements: MeasurementRows<'a>,
    definition_id: Vec<Uuid>,
    boot_id: Vec<Uuid>,
    http_version: Vec<Option<&'a str>>,
    remote_addr: Vec<Option<&'a str>>,
    tls_id: Vec<Option<Uuid>>,
    prober_id: Vec<Uuid>,
    matches: Vec<String>,
}

/// What the stored row may have by way of its context, or from before there was one, in itself.
const IN_CONTEXT: [(&str, &str); 5] = [
    ("definition_id", "uuid"),
    ("boot_id", "uuid"),
    ("http_version", "text"),
    ("remote_addr", "text"),
    ("tls_id", "uuid"),
];

impl<'a> TwinRows<'a> {
    pub(crate) fn push(&mut self, measurement: &'a Measurement, references: References) {
        self.measurements.push(measurement, references.context_id);
        self.definition_id.push(references.definition_id);
        self.boot_id.push(measurement.prober.boot);
        self.http_version.push(measurement.http_version.as_deref());
        self.remote_addr.push(measurement.remote_addr.as_deref());
        self.tls_id.push(references.tls_id);
        self.prober_id.push(measurement.prober.id);
        self.matches.push(matches(measurement));
    }

    fn parameters(&self) -> Parameters<'_> {
        let mut parameters = self.measurements.parameters();
        parameters.push((&self.definition_id, Type::UUID_ARRAY));
        parameters.push((&self.boot_id, Type::UUID_ARRAY));
        parameters.push((&self.http_version, Type::TEXT_ARRAY));
        parameters.push((&self.remote_addr, Type::TEXT_ARRAY));
        parameters.push((&self.tls_id, Type::UUID_ARRAY));
        parameters.push((&self.prober_id, Type::UUID_ARRAY));
        parameters.push((&self.matches, Type::TEXT_ARRAY));
        parameters
    }
}

/// The matches in the order of their ids, as the statement makes them of the stored ones. Of two with one id the first
/// is stored.
fn matches(measurement: &Measurement) -> String {
    let mut matches: BTreeMap<Uuid, Value> = BTreeMap::new();
    for found in &measurement.matches {
        let id = match_id(measurement.id, measurement.scheduled_at, &found.stage, &found.name);
        let values = (!found.values.is_empty()).then_some(&found.values);
        let metrics = (!found.metrics.is_empty()).then_some(&found.metrics);
        matches.entry(id).or_insert_with(|| {
            json!([
                found.stage,
                found.name,
                found.kind,
                found.status,
                found.found,
                found.message,
                values,
                metrics
            ])
        });
    }
    Value::from_iter(matches.into_values()).to_string()
}

static STATEMENT: LazyLock<String> = LazyLock::new(statement);

/// Gives the place in the batch, the stored boot and the names of what differs, of each row of which anything does.
fn statement() -> String {
    let columns = MeasurementRows::COLUMNS;
    let (names, arrays, count) = (columns.names(), columns.arrays(1), columns.names_and_types.len());
    let compared = columns.names_and_types.iter().filter(|(name, _)| *name != "context_id");
    let differing: Vec<String> = IN_CONTEXT
        .iter()
        .chain(compared)
        .map(|(name, sql)| {
            format!("CASE WHEN m.\"{name}\" IS DISTINCT FROM {} THEN '{name}' END", picked(name, sql))
        })
        .collect();
    let in_context: Vec<String> =
        IN_CONTEXT.iter().zip(count + 1..).map(|((_, sql), at)| format!("${at}::{sql}[]")).collect();
    let names_in_context = IN_CONTEXT.map(|(name, _)| name).join(", ");
    // A match has the millisecond of its measurement in its id: without the bounds every day would be looked into.
    format!(
        "SELECT t.place, t.boot_id, t.differing FROM (
             SELECT r.place, m.boot_id, concat_ws(' ', {},
                    CASE WHEN b.prober_id IS DISTINCT FROM r.prober_id THEN 'prober_id' END,
                    CASE WHEN r.matches::jsonb <> (
                        SELECT coalesce(jsonb_agg(jsonb_build_array(x.stage, x.name, x.kind, x.status, x.found, x.message,
                                                                    x.values, x.metrics) ORDER BY x.id), '[]')
                        FROM monmon_match_full AS x
                        WHERE x.measurement_id = m.id AND x.id >= monmon_uuid_floor(m.scheduled_at)
                          AND x.id < monmon_uuid_floor(m.scheduled_at + interval '1 millisecond')
                    ) THEN 'matches' END) AS differing
             FROM unnest({arrays}, {}, ${}::uuid[], ${}::text[]) WITH ORDINALITY
                 AS r({names}, {names_in_context}, prober_id, matches, place)
             JOIN monmon_measurement_full AS m ON m.id = r.id
             LEFT JOIN monmon_boot AS b ON b.id = m.boot_id
         ) AS t
         WHERE t.differing <> ''
         ORDER BY t.place",
        differing.join(", "),
        in_context.join(", "),
        count + IN_CONTEXT.len() + 1,
        count + IN_CONTEXT.len() + 2,
    )
}

/// What of these rows is other than what is stored, by their places from 0. Never more than there are rows.
pub(crate) async fn differing(
    connection: &Connection,
    begin: &str,
    rows: &TwinRows<'_>,
    place: &str,
) -> Result<BTreeMap<usize, StoredTwin>, StoreError> {
    let sort = |error| StoreError::sort(&error, place);
    let mut twins = BTreeMap::new();
    let parameters = rows.parameters();
    let asked = connection.client.query_typed(&STATEMENT, &parameters);
    for row in transact(connection, begin, asked, place).await? {
        let at: i64 = row.try_get(0).map_err(sort)?;
        let twin =
            StoredTwin { boot_id: row.try_get(1).map_err(sort)?, differing: row.try_get(2).map_err(sort)? };
        twins.insert(usize::try_from(at - 1).unwrap_or(usize::MAX), twin);
    }
    Ok(twins)
}
