//! Incidents as rows, and reading them back.

use std::path::Path;

use monmon_model::{Incident, IncidentState, StoredIncident};
use rusqlite::{Connection, Row, params};

use crate::database::open_to_read;
use crate::error::StoreError;
use crate::rows::{id_text, instant, json_text};
use crate::status::{maybe, parsed};

/// What was told later replaces what was told before; what is closed stays as it is.
const INCIDENT: &str = "INSERT INTO monmon_incident \
        (id, check_id, suppressed_by, began_at, opened_at, last_bad_at, recovered_at, closed_at, revision, flapping, \
         pipeline, detector, reason, probers) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
    ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, opened_at = excluded.opened_at, \
        last_bad_at = excluded.last_bad_at, recovered_at = excluded.recovered_at, closed_at = excluded.closed_at, \
        reason = excluded.reason, probers = excluded.probers, flapping = excluded.flapping, \
        suppressed_by = excluded.suppressed_by \
    WHERE excluded.revision > monmon_incident.revision AND monmon_incident.closed_at IS NULL";

pub(crate) fn put_incident(connection: &Connection, incident: &Incident) -> rusqlite::Result<()> {
    connection.prepare_cached(INCIDENT)?.execute(params![
        id_text(incident.id),
        id_text(incident.check.id),
        incident.suppressed_by.map(id_text),
        instant(incident.began_at),
        instant(incident.opened_at),
        instant(incident.last_bad_at),
        incident.recovered_at.map(instant),
        incident.closed_at.map(instant),
        incident.revision,
        incident.flapping,
        incident.pipeline,
        incident.detector,
        incident.reason,
        json_text(&incident.probers),
    ])?;
    Ok(())
}

/// The newest incidents, or the newest of those that are open. Works beside a writer, and makes no file where there is none.
pub fn incidents(path: &Path, open_only: bool, limit: u32) -> Result<Vec<StoredIncident>, StoreError> {
    let sort = |error| StoreError::sort(error, path);
    let connection = open_to_read(path)?;
    let which = if open_only { "WHERE i.closed_at IS NULL" } else { "" };
    let query = format!(
        "SELECT i.*, c.pipeline || '/' || c.source || '/' || c.name AS check_name FROM monmon_incident AS i \
         LEFT JOIN monmon_check AS c ON c.id = i.check_id {which} ORDER BY i.id DESC LIMIT ?1"
    );
    let mut query = connection.prepare(&query).map_err(sort)?;
    let found = query.query_map([limit], stored).map_err(sort)?;
    found.collect::<Result<_, _>>().map_err(sort)
}

pub(crate) fn stored(row: &Row<'_>) -> rusqlite::Result<StoredIncident> {
    let closed_at = maybe(row, "closed_at")?;
    let flapping: bool = row.get("flapping")?;
    let probers: String = row.get("probers")?;
    Ok(StoredIncident {
        id: parsed(row, "id")?,
        state: IncidentState::of(closed_at, flapping),
        check_id: parsed(row, "check_id")?,
        check: row.get("check_name")?,
        pipeline: row.get("pipeline")?,
        detector: row.get("detector")?,
        revision: row.get("revision")?,
        began_at: parsed(row, "began_at")?,
        opened_at: parsed(row, "opened_at")?,
        last_bad_at: parsed(row, "last_bad_at")?,
        recovered_at: maybe(row, "recovered_at")?,
        closed_at,
        reason: row.get("reason")?,
        probers: serde_json::from_str(&probers).unwrap_or_default(),
        flapping,
        suppressed_by: maybe(row, "suppressed_by")?,
    })
}
