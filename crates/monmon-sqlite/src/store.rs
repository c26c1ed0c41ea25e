//! The writer: a batch is one transaction.

use std::path::PathBuf;

use monmon_model::RejectedReason;
use monmon_stage::{Envelope, Item, Measured, Twins};
use rusqlite::{Connection, TransactionBehavior};

use crate::database::{Database, Synchronous};
use crate::error::{StoreError, StoreErrorKind};
use crate::reference::Remembered;
use crate::rows::{misfit, put_dead_letter, put_measurement};
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

    /// Stores all of the batch, or nothing. It is on the disk when this returns, under the file's path.
    pub(crate) fn write(&mut self, batch: &[Envelope]) -> Result<Tally, StoreError> {
        let written = match self.attempt(batch, Care::Quick) {
            Err(error) if error.kind() == StoreErrorKind::Row => self.attempt(batch, Care::EachApart),
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

    fn attempt(&mut self, batch: &[Envelope], care: Care) -> Result<Tally, StoreError> {
        let Store { path, synchronous, open, remembered } = self;
        let database = match open {
            Some(database) => database,
            closed => {
                *remembered = Remembered::default();
                closed.insert(Database::open(path, *synchronous)?)
            }
        };
        let written = transact(&mut database.connection, remembered, batch, care);
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
    care: Care,
) -> rusqlite::Result<Tally> {
    // Rows lie in the order of their slots, and a definition's first slot is met first.
    let mut items: Vec<&Item> = batch.iter().map(|envelope| &envelope.item).collect();
    items.sort_by_key(|item| match item {
        Item::Measurement(measured) => measured.measurement.scheduled_at,
        Item::Event(reported) => reported.event.at(),
        Item::Rejected(rejected) => rejected.at,
    });
    // The lock is taken at the start: one taken later could be refused without any waiting.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut tally = Tally::default();
    for item in items {
        match item {
            // No table of this schema holds them.
            Item::Event(_) => {}
            Item::Rejected(rejected) => {
                put_dead_letter(&transaction, rejected)?;
                tally.rejected += 1;
            }
            Item::Measurement(measured) => {
                put(&transaction, remembered, measured, care, &mut tally)?;
            }
        }
    }
    transaction.commit()?;
    Ok(tally)
}

fn put(
    connection: &Connection,
    remembered: &mut Remembered,
    measured: &Measured,
    care: Care,
    tally: &mut Tally,
) -> rusqlite::Result<()> {
    let measurement = &*measured.measurement;
    if let Some(why) = misfit(measurement) {
        tally.rejected += 1;
        return put_dead_letter(connection, &measured.reject(RejectedReason::StoreRefused, why));
    }
    if care == Care::EachApart {
        connection.execute_batch("SAVEPOINT item")?;
    }
    let stored = remembered.store(connection, measurement).and_then(|references| {
        let new = put_measurement(connection, measurement, &references)?;
        if new { Ok(None) } else { differing(connection, measurement, &references).map(Some) }
    });
    match stored {
        Ok(None) => {}
        Ok(Some(twin)) => match tally.twins.meet(measured, &twin) {
            None => tally.duplicates += 1,
            Some(letter) => {
                put_dead_letter(connection, &letter)?;
                tally.rejected += 1;
            }
        },
        Err(error) if care == Care::EachApart && is_refusal(&error) => {
            connection.execute_batch("ROLLBACK TO item")?;
            *remembered = Remembered::default();
            put_dead_letter(connection, &measured.reject(RejectedReason::StoreRefused, error.to_string()))?;
            tally.rejected += 1;
        }
        Err(error) => return Err(error),
    }
    if care == Care::EachApart {
        connection.execute_batch("RELEASE item")?;
    }
    Ok(())
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
