//! Measurements whose ids are stored already: what of them is other than what is stored.
//!
//! Compared are all columns of `monmon_measurement` as they would be written (the definition's and the TLS facts' ids are
//! made of their content, so labels and certificates are among them), the prober, which the boot tells, and the matches.
//! Not compared: the prober's name and location, which its row has as they were last told.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use monmon_model::{Measurement, match_id};
use monmon_stage::StoredTwin;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, ToSql};
use uuid::Uuid;

use crate::reference::References;
use crate::rows::{MEASUREMENT_COLUMNS, id_text, json_text, with_row};

static DIFFERING: LazyLock<String> = LazyLock::new(|| {
    let prober = "(SELECT b.prober_id FROM monmon_boot AS b WHERE b.id = m.boot_id)".to_owned();
    let stored = MEASUREMENT_COLUMNS.iter().map(|name| format!("m.{name}")).chain([prober]);
    let names = MEASUREMENT_COLUMNS.into_iter().chain(["prober_id"]);
    let differing: Vec<String> = stored
        .zip(names)
        .enumerate()
        .map(|(at, (stored, name))| format!("CASE WHEN {stored} IS ?{} THEN '' ELSE '{name} ' END", at + 1))
        .collect();
    format!("SELECT m.boot_id, {} FROM monmon_measurement AS m WHERE m.id = ?1", differing.join(" || "))
});

const MATCHES: &str = "SELECT stage, name, kind, status, found, message, \"values\", metrics FROM monmon_match \
    WHERE measurement_id = ?1 ORDER BY id";

type MatchRow =
    (String, String, String, String, Option<bool>, Option<String>, Option<String>, Option<String>);

/// Holds a measurement against the stored one of its id.
pub(crate) fn differing(
    connection: &Connection,
    measurement: &Measurement,
    references: &References,
) -> rusqlite::Result<StoredTwin> {
    let prober = id_text(measurement.prober.id);
    let mut twin = with_row(measurement, references, |row| {
        let mut values: Vec<&dyn ToSql> = row.to_vec();
        values.push(&prober);
        connection.prepare_cached(&DIFFERING)?.query_row(&values[..], stored_twin)
    })?;
    let mut query = connection.prepare_cached(MATCHES)?;
    let stored = query.query_map([id_text(measurement.id)], match_row)?;
    let stored: Vec<MatchRow> = stored.collect::<Result<_, _>>()?;
    if stored != match_rows(measurement) {
        twin.differing.push_str("matches");
    }
    Ok(twin)
}

fn stored_twin(row: &Row<'_>) -> rusqlite::Result<StoredTwin> {
    let boot: String = row.get(0)?;
    let boot_id = boot
        .parse()
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))?;
    Ok(StoredTwin { boot_id, differing: row.get(1)? })
}

fn match_row(row: &Row<'_>) -> rusqlite::Result<MatchRow> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
        row.get(6)?,
        row.get(7)?,
    ))
}

/// The matches in the order of their ids. Of two with one id the first is stored.
fn match_rows(measurement: &Measurement) -> Vec<MatchRow> {
    let mut rows: BTreeMap<Uuid, MatchRow> = BTreeMap::new();
    for found in &measurement.matches {
        let id = match_id(measurement.id, measurement.scheduled_at, &found.stage, &found.name);
        rows.entry(id).or_insert_with(|| {
            (
                found.stage.clone(),
                found.name.clone(),
                found.kind.clone(),
                found.status.as_str().to_owned(),
                found.found,
                found.message.clone(),
                (!found.values.is_empty()).then(|| json_text(&found.values)),
                (!found.metrics.is_empty()).then(|| json_text(&found.metrics)),
            )
        });
    }
    rows.into_values().collect()
}
