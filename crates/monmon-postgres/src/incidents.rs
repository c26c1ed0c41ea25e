//! Incidents as rows, and reading them back.

use std::collections::BTreeMap;
use std::time::Duration;

use monmon_model::{Event, Incident, IncidentState, StoredIncident};
use monmon_stage::{Envelope, Item};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::connect::{Connection, Timeouts, begin, connect, transact};
use crate::error::{StoreError, chain};
use crate::migrate::check_schema;
use crate::rows::IncidentRows;
use crate::target::Target;

/// Who reads waits for the answer, and holds up others.
const TIMEOUTS: Timeouts = Timeouts { statement: Duration::from_secs(30), lock: Duration::from_secs(10) };

/// What was told later replaces what was told before; what is closed stays as it is.
pub(crate) const NEWER: &str = "ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, \
    opened_at = excluded.opened_at, last_bad_at = excluded.last_bad_at, recovered_at = excluded.recovered_at, \
    closed_at = excluded.closed_at, reason = excluded.reason, probers = excluded.probers, \
    flapping = excluded.flapping, suppressed_by = excluded.suppressed_by \
    WHERE excluded.revision > monmon_incident.revision AND monmon_incident.closed_at IS NULL";

pub(crate) const COLUMNS: &str = "i.id, i.check_id, i.pipeline, i.detector, i.revision, i.began_at, i.opened_at, i.last_bad_at, \
    i.recovered_at, i.closed_at, i.reason, i.probers, i.flapping, i.suppressed_by, \
    c.pipeline AS check_pipeline, c.source AS check_source, c.name AS check_name";

impl<'a> IncidentRows<'a> {
    /// The incidents of a batch in the order of their ids, each once, as it was told last.
    pub(crate) fn of(batch: &'a [Envelope]) -> IncidentRows<'a> {
        let mut newest: BTreeMap<Uuid, &Incident> = BTreeMap::new();
        for envelope in batch {
            let Item::Event(reported) = &envelope.item else { continue };
            let Event::Incident(incident) = &*reported.event else { continue };
            let known = newest.entry(incident.id).or_insert(incident);
            if incident.revision > known.revision {
                *known = incident;
            }
        }
        let mut rows = IncidentRows::default();
        newest.into_values().for_each(|incident| rows.push(incident));
        rows
    }
}

/// Asks a store for incidents, over one connection that it opens when it is needed.
pub struct IncidentReader {
    target: Target,
    session: Option<Connection>,
}

impl IncidentReader {
    pub fn new(target: Target) -> IncidentReader {
        IncidentReader { target, session: None }
    }

    /// The newest incident that a detector has opened for each of these checks.
    pub async fn newest(
        &mut self,
        pipeline: &str,
        detector: &str,
        checks: &[Uuid],
    ) -> Result<Vec<StoredIncident>, StoreError> {
        let query = format!(
            "SELECT DISTINCT ON (i.check_id) {COLUMNS} FROM monmon_incident AS i \
             LEFT JOIN monmon_check AS c ON c.id = i.check_id \
             WHERE i.check_id = ANY($1) AND i.pipeline = $2 AND i.detector = $3 \
             ORDER BY i.check_id, i.id DESC"
        );
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&checks, Type::UUID_ARRAY), (&pipeline, Type::TEXT), (&detector, Type::TEXT)];
        self.read(&query, &parameters).await
    }

    /// The newest incidents, or the newest of those that are open.
    pub async fn list(&mut self, open_only: bool, limit: u32) -> Result<Vec<StoredIncident>, StoreError> {
        let which = if open_only { "WHERE i.closed_at IS NULL" } else { "" };
        let query = format!(
            "SELECT {COLUMNS} FROM monmon_incident AS i LEFT JOIN monmon_check AS c ON c.id = i.check_id {which} \
             ORDER BY i.id DESC LIMIT $1"
        );
        self.read(&query, &[(&i64::from(limit), Type::INT8)]).await
    }

    async fn read(
        &mut self,
        query: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<StoredIncident>, StoreError> {
        let connection = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => {
                let session = connect(&self.target).await?;
                check_schema(&session.client, &self.target).await?;
                session
            }
        };
        let place = self.target.place();
        let begin = begin(TIMEOUTS);
        let asking = transact(&connection, &begin, connection.client.query_typed(query, parameters), place);
        let rows = match tokio::time::timeout(2 * TIMEOUTS.statement, asking).await {
            Ok(rows) => rows?,
            Err(_) => {
                let message = "no answer to a question for incidents".to_owned();
                return Err(StoreError::Unreachable { place: place.to_owned(), message });
            }
        };
        self.session = Some(connection);
        rows.iter().map(stored).collect()
    }
}

pub(crate) fn stored(row: &Row) -> Result<StoredIncident, StoreError> {
    let bad = |error: tokio_postgres::Error| StoreError::Schema(chain(&error));
    let name = |column: &str| row.try_get::<_, Option<String>>(column).map_err(bad);
    let check = [name("check_pipeline")?, name("check_source")?, name("check_name")?];
    let check: Option<Vec<String>> = check.into_iter().collect();
    let probers: serde_json::Value = row.try_get("probers").map_err(bad)?;
    let closed_at: Option<jiff::Timestamp> = row.try_get("closed_at").map_err(bad)?;
    let flapping: bool = row.try_get("flapping").map_err(bad)?;
    Ok(StoredIncident {
        id: row.try_get("id").map_err(bad)?,
        state: IncidentState::of(closed_at, flapping),
        check_id: row.try_get("check_id").map_err(bad)?,
        check: check.map(|names| names.join("/")),
        pipeline: row.try_get("pipeline").map_err(bad)?,
        detector: row.try_get("detector").map_err(bad)?,
        revision: row.try_get::<_, i32>("revision").map_err(bad)?.unsigned_abs(),
        began_at: row.try_get("began_at").map_err(bad)?,
        opened_at: row.try_get("opened_at").map_err(bad)?,
        last_bad_at: row.try_get("last_bad_at").map_err(bad)?,
        recovered_at: row.try_get("recovered_at").map_err(bad)?,
        closed_at,
        reason: row.try_get("reason").map_err(bad)?,
        probers: serde_json::from_value(probers).unwrap_or_default(),
        flapping,
        suppressed_by: row.try_get("suppressed_by").map_err(bad)?,
    })
}
