//! The writer: a batch is one transaction.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use monmon_model::{Event, RejectedReason, batch_id};
use monmon_stage::{Envelope, Item, Measured, Slices, Twins};
use rusqlite::{Connection, TransactionBehavior};

use crate::database::{Database, Synchronous};
use crate::error::{StoreError, StoreErrorKind};
use crate::incidents::put_incident;
use crate::reference::Remembered;
use crate::rows::{misfit, put_batch, put_dead_letter, put_measurement, put_receipt};
use crate::twins::differing;

/// Writes to one file, which it opens again where that may help.
pub(crate) struct Store {
    path: PathBuf,
    synchronous: Synchronous,
    open: Option<Database>,
    remembered: Remembered,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) duplicates: u64,
    pub(crate) rejected: u64,
    pub(crate) twins: Twins,
}

/// What became of the messages of one slice of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fates {
    pub(crate) stored: u32,
    pub(crate) duplicates: u32,
    pub(crate) rejected: u32,
}

/// What became of one item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stored,
    Duplicate,
    Rejected,
}

/// For whom a batch is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// Name of the sink.
    pub(crate) stage: &'a str,
    pub(crate) now: Timestamp,
}

/// How a batch is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// All rows straight away: the first that is refused ends it.
    Quick,
    /// A savepoint around each item, so that a refused one alone goes to the dead letters. Twice the work for a batch
    /// with bad rows in it, however many they are.
    EachApart,
}

impl Store {
    pub(crate) fn open(path: PathBuf, synchronous: Synchronous) -> Result<Store, StoreError> {
        let open = Some(Database::open(&path, synchronous)?);
        Ok(Store { path, synchronous, open, remembered: Remembered::default() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Stores all of the batch, or nothing. It is on the disk when this returns, under the file's path.
    pub(crate) fn write(&mut self, batch: &[Envelope], record: Record<'_>) -> Result<Tally, StoreError> {
        let written = match self.attempt(batch, record, Care::Quick) {
            Err(error) if error.kind() == StoreErrorKind::Row => self.attempt(batch, record, Care::EachApart),
            other => other,
        };
        if let Err(error) = &written
            && error.kind() != StoreErrorKind::Busy
        {
            // Whatever the connection believes of the file may be wrong now.
            self.open = None;
        }
        written
    }

    fn attempt(&mut self, batch: &[Envelope], record: Record<'_>, care: Care) -> Result<Tally, StoreError> {
        let Store { path, synchronous, open, remembered } = self;
        let database = match open {
            Some(database) => database,
            closed => {
                *remembered = Remembered::default();
                closed.insert(Database::open(path, *synchronous)?)
            }
        };
        let written = transact(&mut database.connection, remembered, batch, record, care);
        match written {
            Ok(tally) => database.check_place().map(|()| tally),
            Err(error) => {
                *remembered = Remembered::default();
                Err(StoreError::sort(error, path))
            }
        }
    }
}

fn transact(
    connection: &mut Connection,
    remembered: &mut Remembered,
    batch: &[Envelope],
    record: Record<'_>,
    care: Care,
) -> rusqlite::Result<Tally> {
    let slices = Slices::of(batch);
    // Rows lie in the order of their slots, and a definition's first slot is met first.
    let mut items: Vec<_> = batch.iter().map(|envelope| &envelope.item).zip(&slices.places).collect();
    items.sort_by_key(|(item, _)| match item {
        Item::Measurement(measured) => measured.measurement.scheduled_at,
        Item::Event(reported) => reported.event.at(),
        Item::Rejected(refused) => refused.rejected.at,
    });
    // The lock is taken at the start: one taken later could be refused without any waiting.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut tally = Tally::default();
    let mut fates = vec![Fates::default(); slices.list.len()];
    for (item, slice) in items {
        let fate = match item {
            Item::Event(reported) => {
                match &*reported.event {
                    Event::Receipt(receipt) => {
                        remembered.store_prober(&transaction, &receipt.prober, &receipt.at)?;
                        put_receipt(&transaction, receipt)?;
                    }
                    Event::Incident(incident) => put_incident(&transaction, incident)?,
                }
                continue;
            }
            Item::Rejected(refused) => {
                put_dead_letter(&transaction, &refused.rejected)?;
                Fate::Rejected
            }
            Item::Measurement(measured) => put(&transaction, remembered, measured, care, &mut tally.twins)?,
        };
        tally.duplicates += u64::from(fate == Fate::Duplicate);
        tally.rejected += u64::from(fate == Fate::Rejected);
        if let Some(fates) = slice.and_then(|slice| fates.get_mut(slice)) {
            fates.add(fate);
        }
    }
    for (slice, fates) in slices.list.iter().zip(&fates) {
        put_batch(&transaction, batch_id(record.now), record.stage, slice, fates)?;
    }
    transaction.commit()?;
    Ok(tally)
}

impl Fates {
    fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Stored => self.stored += 1,
            Fate::Duplicate => self.duplicates += 1,
            Fate::Rejected => self.rejected += 1,
        }
    }
}

fn put(
    connection: &Connection,
    remembered: &mut Remembered,
    measured: &Measured,
    care: Care,
    twins: &mut Twins,
) -> rusqlite::Result<Fate> {
    let measurement = &*measured.measurement;
    if let Some(why) = misfit(measurement) {
        put_dead_letter(connection, &measured.reject(RejectedReason::StoreRefused, why).rejected)?;
        return Ok(Fate::Rejected);
    }
    if care == Care::EachApart {
        connection.execute_batch("SAVEPOINT item")?;
    }
    let stored = remembered.store(connection, measurement).and_then(|references| {
        let new = put_measurement(connection, measurement, &references)?;
        if new { Ok(None) } else { differing(connection, measurement, &references).map(Some) }
    });
    let fate = match stored {
        Ok(None) => Fate::Stored,
        Ok(Some(twin)) => match twins.meet(measured, &twin) {
            None => Fate::Duplicate,
            Some(letter) => {
                put_dead_letter(connection, &letter.rejected)?;
                Fate::Rejected
            }
        },
        Err(error) if care == Care::EachApart && is_refusal(&error) => {
            connection.execute_batch("ROLLBACK TO item")?;
            *remembered = Remembered::default();
            let letter = measured.reject(RejectedReason::StoreRefused, error.to_string());
            put_dead_letter(connection, &letter.rejected)?;
            Fate::Rejected
        }
        Err(error) => return Err(error),
    };
    if care == Care::EachApart {
        connection.execute_batch("RELEASE item")?;
    }
    Ok(fate)
}

fn is_refusal(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, TooBig, TypeMismatch};
    match error {
        rusqlite::Error::ToSqlConversionFailure(_) => true,
        error => {
            matches!(error.sqlite_error_code(), Some(ConstraintViolation | TooBig | TypeMismatch))
        }
    }
}
