//! Reading a store from its first row to its last: what the sink has taken apart is put together again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use monmon_model::{Check, Event, Match, Measurement, Prober, Rejected, Selection, Tls};
use monmon_stage::{Memory, StageError, StoreReader, StoredPage};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::connect::{Connection, connect};
use crate::error::StoreError;
use crate::incidents::{COLUMNS, stored};
use crate::migrate::check_schema;
use crate::restore::{check, column, dead_letter, matched, measurement, prober, receipt, tls};
use crate::target::Target;

/// How many rows are read at once.
const PAGE_ROWS: i64 = 2_000;
/// Dead letters may be a megabyte each.
const LETTERS: i64 = 16;
/// How long one question may take.
const ANSWER_WAIT: Duration = Duration::from_secs(300);

/// Below this many rows by the server's own estimate they are counted.
const COUNTED_MAX: u64 = 1_000_000;

const MEASUREMENTS: &str = "SELECT *, redirects::text AS redirects_text, details::text AS details_text \
    FROM monmon_measurement_full \
    WHERE id > $1 AND id < $2 AND ($3::uuid[] IS NULL OR check_id = ANY($3)) ORDER BY id LIMIT $4";
// A match has the millisecond of its measurement in its id. All matches of some time are read in one go; those of single
// checks' measurements, which lie far apart, each by itself.
const MATCHES: &str = "SELECT measurement_id, stage, name, kind, status, found, message, \"values\"::text AS values_text, \
        metrics::text AS metrics_text \
    FROM monmon_match_full \
    WHERE measurement_id = ANY($1) \
      AND id >= monmon_uuid_floor($2) AND id < monmon_uuid_floor($3 + interval '1 millisecond') \
    ORDER BY measurement_id, id";
const MATCHES_OF_CHECKS: &str = "SELECT x.* FROM unnest($1::uuid[], $2::timestamptz[]) AS m (id, scheduled_at) \
    CROSS JOIN LATERAL ( \
        SELECT f.measurement_id, f.stage, f.name, f.kind, f.status, f.found, f.message, \
            f.\"values\"::text AS values_text, f.metrics::text AS metrics_text, f.id \
        FROM monmon_match_full AS f \
        WHERE f.measurement_id = m.id AND f.id >= monmon_uuid_floor(m.scheduled_at) \
          AND f.id < monmon_uuid_floor(m.scheduled_at + interval '1 millisecond') \
        OFFSET 0 \
    ) AS x \
    ORDER BY x.measurement_id, x.id";
const DEFINITIONS: &str = "SELECT id, check_id, pipeline, source, name, method, url, interval_us, timeout_us, \
        labels::text AS labels_text, schedule \
    FROM monmon_check_definition WHERE id = ANY($1)";
const PROBERS: &str = "SELECT b.id, b.prober_id, p.name, p.location FROM monmon_boot AS b \
    JOIN monmon_prober AS p ON p.id = b.prober_id WHERE b.id = ANY($1)";
const TLS: &str = "SELECT *, chain::text AS chain_text FROM monmon_tls WHERE id = ANY($1)";
const RECEIPTS: &str = "SELECT * FROM monmon_receipt WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3";
const DEAD_LETTERS: &str = "SELECT * FROM monmon_dead_letter WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3";
const CHECKS: &str =
    "SELECT id FROM monmon_check WHERE name = $1 OR pipeline || '/' || source || '/' || name = $1";

/// Typed, so that no statement is prepared: behind a pooler the next one may go to another session.
type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

/// A store that is being read.
pub struct Reader {
    target: Target,
    connection: Option<Connection>,
    checks: Option<Vec<Uuid>>,
    /// No id up to here is wanted.
    start: Uuid,
    /// No id of a measurement from here on is wanted.
    end: Uuid,
    /// The same of everything else: what is no measurement may be later than the last one, and a letter has the time that
    /// its message claims.
    receipts_end: Uuid,
    incidents_end: Uuid,
    letters_end: Uuid,
    part: Part,
    /// The last id that was read of this part.
    after: Uuid,
    definitions: Memory<Arc<Check>>,
    probers: Memory<Arc<Prober>>,
    tls: Memory<Tls>,
}

/// The tables, in the order in which they are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Measurements,
    Receipts,
    Incidents,
    DeadLetters,
    Done,
}

impl Reader {
    /// Connects. What is stored after this under later ids is not read.
    pub async fn open(target: Target, selection: &Selection) -> Result<Reader, StoreError> {
        let connection = connect(&target).await?;
        let client = &connection.client;
        check_schema(client, &target).await?;
        let checks = match selection.checks.is_empty() {
            true => None,
            false => Some(find_checks(client, &selection.checks, &target).await?),
        };
        let sort = |error: tokio_postgres::Error| StoreError::sort(&error, target.place());
        let start = match selection.since {
            Some(since) => below(floor(client, since).await.map_err(sort)?),
            None => Uuid::nil(),
        };
        // Receipts first: what they are about is there when they are.
        let receipts_end = end(client, "monmon_receipt", selection).await.map_err(sort)?;
        let incidents_end = end(client, "monmon_incident", selection).await.map_err(sort)?;
        let letters_end = end(client, "monmon_dead_letter", selection).await.map_err(sort)?;
        let end = end(client, "monmon_measurement", selection).await.map_err(sort)?;
        Ok(Reader {
            connection: Some(connection),
            target,
            checks,
            start,
            end,
            receipts_end,
            incidents_end,
            letters_end,
            part: Part::Measurements,
            after: start,
            definitions: Memory::default(),
            probers: Memory::default(),
            tls: Memory::default(),
        })
    }

    /// The connection, made anew where it was lost.
    async fn connect(&mut self) -> Result<Connection, StoreError> {
        match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => Ok(connection),
            None => connect(&self.target).await,
        }
    }

    fn turn_to(&mut self, part: Part) {
        self.part = part;
        self.after = self.start;
    }

    async fn read(&mut self, client: &Client) -> Result<StoredPage, StoreError> {
        let mut page = StoredPage::default();
        if self.part == Part::Measurements {
            page.measurements = self.measurements(client).await?;
            if page.is_empty() {
                self.turn_to(if self.checks.is_none() { Part::Receipts } else { Part::Done });
            }
        }
        if self.part == Part::Receipts {
            page.events = self.receipts(client).await?;
            if page.is_empty() {
                self.turn_to(Part::Incidents);
            }
        }
        if self.part == Part::Incidents {
            page.events = self.incidents(client).await?;
            if page.is_empty() {
                self.turn_to(Part::DeadLetters);
            }
        }
        if self.part == Part::DeadLetters {
            page.rejected = self.dead_letters(client).await?;
            if page.is_empty() {
                self.turn_to(Part::Done);
            }
        }
        Ok(page)
    }

    async fn measurements(&mut self, client: &Client) -> Result<Vec<Measurement>, StoreError> {
        let wanted: Parameters<'_> = &[
            (&self.after, Type::UUID),
            (&self.end, Type::UUID),
            (&self.checks, Type::UUID_ARRAY),
            (&PAGE_ROWS, Type::INT8),
        ];
        let rows = self.query(client, MEASUREMENTS, wanted).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids = rows.iter().map(|row| column(row, "id")).collect::<Result<Vec<Uuid>, _>>()?;
        let slots =
            rows.iter().map(|row| column(row, "scheduled_at")).collect::<Result<Vec<Timestamp>, _>>()?;
        let found = match (slots.first(), slots.last()) {
            (Some(first), Some(last)) if self.checks.is_none() => {
                let wanted: Parameters<'_> =
                    &[(&ids, Type::UUID_ARRAY), (first, Type::TIMESTAMPTZ), (last, Type::TIMESTAMPTZ)];
                self.query(client, MATCHES, wanted).await?
            }
            _ => {
                let wanted: Parameters<'_> = &[(&ids, Type::UUID_ARRAY), (&slots, Type::TIMESTAMPTZ_ARRAY)];
                self.query(client, MATCHES_OF_CHECKS, wanted).await?
            }
        };
        let mut matches: BTreeMap<Uuid, Vec<Match>> = BTreeMap::new();
        for row in &found {
            matches.entry(column(row, "measurement_id")?).or_default().push(matched(row)?);
        }
        self.learn(client, &rows).await?;
        let page = rows
            .iter()
            .zip(&ids)
            .map(|(row, id)| self.restore(row, matches.remove(id).unwrap_or_default()))
            .collect::<Result<Vec<_>, _>>()?;
        self.after = ids.last().copied().unwrap_or(self.after);
        Ok(page)
    }

    fn restore(&self, row: &Row, matches: Vec<Match>) -> Result<Measurement, StoreError> {
        let definition: Uuid = column(row, "definition_id")?;
        let boot: Uuid = column(row, "boot_id")?;
        let check =
            self.definitions.get(definition).ok_or_else(|| gone("monmon_check_definition", definition))?;
        let prober = self.probers.get(boot).ok_or_else(|| gone("monmon_boot", boot))?;
        let tls = match column::<Option<Uuid>>(row, "tls_id")? {
            Some(id) => Some(self.tls.get(id).ok_or_else(|| gone("monmon_tls", id))?.clone()),
            None => None,
        };
        measurement(row, check.clone(), prober.clone(), tls, matches)
    }

    /// Reads what these rows refer to and what was not met before.
    async fn learn(&mut self, client: &Client, rows: &[Row]) -> Result<(), StoreError> {
        self.learn_boots(client, rows).await?;
        self.learn_definitions(client, rows).await?;
        let mut tls_ids = BTreeSet::new();
        for row in rows {
            tls_ids.extend(column::<Option<Uuid>>(row, "tls_id")?);
        }
        let unknown = self.tls.unknown(tls_ids);
        for row in self.ask(client, TLS, unknown).await? {
            self.tls.insert(column(&row, "id")?, tls(&row)?);
        }
        Ok(())
    }

    async fn learn_definitions(&mut self, client: &Client, rows: &[Row]) -> Result<(), StoreError> {
        let ids =
            rows.iter().map(|row| column(row, "definition_id")).collect::<Result<BTreeSet<Uuid>, _>>()?;
        let unknown = self.definitions.unknown(ids);
        for row in self.ask(client, DEFINITIONS, unknown).await? {
            self.definitions.insert(column(&row, "id")?, Arc::new(check(&row)?));
        }
        Ok(())
    }

    async fn learn_boots(&mut self, client: &Client, rows: &[Row]) -> Result<(), StoreError> {
        let boots = rows.iter().map(|row| column(row, "boot_id")).collect::<Result<BTreeSet<Uuid>, _>>()?;
        let unknown = self.probers.unknown(boots);
        for row in self.ask(client, PROBERS, unknown).await? {
            self.probers.insert(column(&row, "id")?, Arc::new(prober(&row)?));
        }
        Ok(())
    }

    async fn ask(&self, client: &Client, query: &str, unknown: Vec<Uuid>) -> Result<Vec<Row>, StoreError> {
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        self.query(client, query, &[(&unknown, Type::UUID_ARRAY)]).await
    }

    async fn query(
        &self,
        client: &Client,
        query: &str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let rows = client.query_typed(query, parameters).await;
        rows.map_err(|error| StoreError::sort(&error, self.target.place()))
    }

    async fn receipts(&mut self, client: &Client) -> Result<Vec<Event>, StoreError> {
        let wanted: Parameters<'_> =
            &[(&self.after, Type::UUID), (&self.receipts_end, Type::UUID), (&PAGE_ROWS, Type::INT8)];
        let rows = self.query(client, RECEIPTS, wanted).await?;
        self.learn_boots(client, &rows).await?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let boot: Uuid = column(row, "boot_id")?;
            let prober = self.probers.get(boot).ok_or_else(|| gone("monmon_boot", boot))?;
            page.push(Event::Receipt(receipt(row, prober.clone())?));
        }
        if let Some(last) = page.last() {
            self.after = last.id();
        }
        Ok(page)
    }

    async fn incidents(&mut self, client: &Client) -> Result<Vec<Event>, StoreError> {
        let query = format!(
            "SELECT {COLUMNS}, c.definition_id FROM monmon_incident AS i JOIN monmon_check AS c ON c.id = i.check_id \
             WHERE i.id > $1 AND i.id < $2 ORDER BY i.id LIMIT $3"
        );
        let wanted: Parameters<'_> =
            &[(&self.after, Type::UUID), (&self.incidents_end, Type::UUID), (&PAGE_ROWS, Type::INT8)];
        let rows = self.query(client, &query, wanted).await?;
        self.learn_definitions(client, &rows).await?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let id: Uuid = column(row, "definition_id")?;
            let check = self.definitions.get(id).ok_or_else(|| gone("monmon_check_definition", id))?;
            page.push(Event::Incident(stored(row)?.of(check.clone())));
        }
        if let Some(last) = page.last() {
            self.after = last.id();
        }
        Ok(page)
    }

    async fn dead_letters(&mut self, client: &Client) -> Result<Vec<Rejected>, StoreError> {
        let wanted: Parameters<'_> =
            &[(&self.after, Type::UUID), (&self.letters_end, Type::UUID), (&LETTERS, Type::INT8)];
        let rows = self.query(client, DEAD_LETTERS, wanted).await?;
        let page = rows.iter().map(dead_letter).collect::<Result<Vec<_>, _>>()?;
        if let Some(last) = page.last() {
            self.after = last.id;
        }
        Ok(page)
    }

    async fn count_rows(&mut self, client: &Client) -> Result<u64, StoreError> {
        let estimate = "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_inherits AS i \
            JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = 'monmon_measurement'::regclass";
        let exact = "SELECT count(*) FROM monmon_measurement \
            WHERE id > $1 AND id < $2 AND ($3::uuid[] IS NULL OR check_id = ANY($3))";
        let rest = "SELECT (SELECT count(*) FROM monmon_dead_letter WHERE id > $1 AND id < $4) \
            + (SELECT count(*) FROM monmon_receipt WHERE id > $1 AND id < $2) \
            + (SELECT count(*) FROM monmon_incident WHERE id > $1 AND id < $3)";
        let estimated = self.number(client, estimate, &[]).await?;
        let whole = self.checks.is_none() && self.start.is_nil();
        let wanted: Parameters<'_> =
            &[(&self.start, Type::UUID), (&self.end, Type::UUID), (&self.checks, Type::UUID_ARRAY)];
        let rows = match whole && estimated > COUNTED_MAX {
            true => estimated,
            false => self.number(client, exact, wanted).await?,
        };
        // What belongs to no check stays where it is.
        let rest = match self.checks {
            None => {
                let wanted: Parameters<'_> = &[
                    (&self.start, Type::UUID),
                    (&self.receipts_end, Type::UUID),
                    (&self.incidents_end, Type::UUID),
                    (&self.letters_end, Type::UUID),
                ];
                self.number(client, rest, wanted).await?
            }
            Some(_) => 0,
        };
        Ok(rows.saturating_add(rest))
    }

    async fn number(
        &self,
        client: &Client,
        query: &str,
        parameters: Parameters<'_>,
    ) -> Result<u64, StoreError> {
        let rows = self.query(client, query, parameters).await?;
        let number = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose();
        let number = number.map_err(|error| StoreError::Schema(crate::error::chain(&error)))?;
        Ok(number.map_or(0, i64::unsigned_abs))
    }
}

#[async_trait]
impl StoreReader for Reader {
    async fn count(&mut self) -> Result<u64, StageError> {
        let connection = self.connect().await?;
        let count = self.count_rows(&connection.client).await?;
        self.connection = Some(connection);
        Ok(count)
    }

    async fn next(&mut self) -> Result<StoredPage, StageError> {
        let connection = self.connect().await?;
        // After an error the connection is not kept: whatever it was in the middle of, a new one begins clean.
        let page = tokio::time::timeout(ANSWER_WAIT, self.read(&connection.client)).await;
        let page = page.map_err(|_late| StoreError::Unreachable {
            place: self.target.place().to_owned(),
            message: format!("no answer within {ANSWER_WAIT:?}"),
        })??;
        self.connection = Some(connection);
        Ok(page)
    }
}

fn gone(table: &str, id: Uuid) -> StoreError {
    StoreError::Schema(format!("there is no row {id} in {table}"))
}

/// The first id that is not wanted of a table: what the selection says, else right behind the newest.
async fn end(client: &Client, table: &str, selection: &Selection) -> Result<Uuid, tokio_postgres::Error> {
    if let Some(until) = selection.until {
        return floor(client, until).await;
    }
    let newest = format!("SELECT id FROM {table} ORDER BY id DESC LIMIT 1");
    match client.query_typed(&newest, &[]).await?.first() {
        Some(row) => Ok(above(row.try_get(0)?)),
        None => Ok(Uuid::max()),
    }
}

async fn floor(client: &Client, at: Timestamp) -> Result<Uuid, tokio_postgres::Error> {
    let rows = client.query_typed("SELECT monmon_uuid_floor($1)", &[(&at, Type::TIMESTAMPTZ)]).await?;
    rows.first().map_or(Ok(Uuid::nil()), |row| row.try_get(0))
}

fn above(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

fn below(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_sub(1))
}

async fn find_checks(client: &Client, names: &[String], target: &Target) -> Result<Vec<Uuid>, StoreError> {
    let mut ids = Vec::new();
    for name in names {
        let found = client
            .query_typed(CHECKS, &[(name, Type::TEXT)])
            .await
            .map_err(|error| StoreError::sort(&error, target.place()))?;
        if found.is_empty() {
            return Err(StoreError::NoCheck { place: target.place().to_owned(), name: name.clone() });
        }
        for row in &found {
            ids.push(column(row, "id")?);
        }
    }
    Ok(ids)
}
