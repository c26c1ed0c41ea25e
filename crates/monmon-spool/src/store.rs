//! The writer: what one turn asks for is one transaction, on the disk when the turn is over.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use monmon_stage::{Ack, Item};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, named_params};

use crate::error::{SpoolError, SpoolErrorKind};
use crate::file::{Bound, FileId, Lock, bytes_on_disk, check_path, connect, limit_journal};
use crate::lost::{Lost, numbered};
use crate::record::{Kind, Reader, Record};
use crate::renew::{Renewal, finish_renewal, renew, rescue};
use crate::room::{Room, WhenFull};

/// What is set aside takes one part of the bound in so many.
const SET_ASIDE_SHARE: u64 = 8;
/// Rows that one turn reads, at most.
const READ_ROWS: usize = 1000;
/// Bytes of rows that one turn reads, unless the first row alone has more.
const READ_BYTES: usize = 8 << 20;

/// The spool's file, held by this process alone.
pub(crate) struct Store {
    path: PathBuf,
    bound: Bound,
    when_full: WhenFull,
    lock: Lock,
    open: Option<Open>,
    reader: Reader,
    /// Up to this position nothing is left to be dropped but what is with the sink.
    searched: i64,
}

struct Open {
    connection: Connection,
    file: Option<FileId>,
}

/// An item that is to be written, with the source's ack.
#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) position: i64,
    pub(crate) item: Item,
    pub(crate) ack: Ack,
}

/// What one turn shall do.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// In the order of their positions. A position that is there already is the same item again.
    pub(crate) appends: Vec<Append>,
    /// Sorted.
    pub(crate) deletes: Vec<i64>,
    /// Rows that shall not stand in the way any longer.
    pub(crate) set_aside: Vec<i64>,
    /// Reads rows behind this position.
    pub(crate) read_after: Option<i64>,
    /// Rows up to this position are with the sink; others are dropped before they are.
    pub(crate) handed_over: i64,
    /// Whether the number of rows is to be held against what is known of it.
    pub(crate) recount: bool,
}

/// What a turn has done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// How many of the appends, from the first on, need no further try.
    pub(crate) appended: usize,
    /// Those of them that there was no room for.
    pub(crate) refused: Vec<i64>,
    /// Older rows that were dropped to make room: how many, and which, as first and last positions.
    pub(crate) dropped: u64,
    pub(crate) dropped_runs: Vec<(i64, i64)>,
    /// Numbers of measurements that were acked and are not delivered any more.
    pub(crate) lost: Lost,
    /// All that the file knows of such numbers, where there are more now.
    pub(crate) all_lost: Option<Lost>,
    pub(crate) rows: Vec<(i64, Item)>,
    pub(crate) totals: Totals,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) items: u64,
    /// The highest that was ever written.
    pub(crate) last_position: i64,
    pub(crate) bytes: u64,
}

/// How a turn ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Done),
    /// The file had to be made anew; nothing else was done.
    Renewed(Renewal, Totals),
}

impl Store {
    /// Opens the spool at `path` and checks it; one that is damaged is made anew from what can be read of it.
    pub(crate) fn open(
        path: PathBuf,
        bound: Bound,
        when_full: WhenFull,
        now: Timestamp,
    ) -> Result<(Store, Totals, Option<Renewal>), SpoolError> {
        check_path(&path)?;
        let lock = Lock::take(&path)?;
        finish_renewal(&path)?;
        let mut store =
            Store { path, bound, when_full, lock, open: None, reader: Reader::default(), searched: i64::MIN };
        let renewal = store.reopen(now)?;
        let totals = store.totals()?;
        Ok((store, totals, renewal))
    }

    /// Does the work, or nothing of it. What was appended is on the disk when this returns, under the file's path.
    pub(crate) fn work(&mut self, work: &Work, now: Timestamp) -> Result<Outcome, SpoolError> {
        if self.open.is_none()
            && let Some(renewal) = self.reopen(now)?
        {
            return Ok(Outcome::Renewed(renewal, self.totals()?));
        }
        let worked = self.attempt(work);
        match worked {
            Ok(done) => Ok(Outcome::Done(done)),
            Err(error) => match error.kind() {
                SpoolErrorKind::Busy | SpoolErrorKind::Bound => Err(error),
                SpoolErrorKind::Moved => {
                    let renewal = self.rescue(now)?;
                    Ok(Outcome::Renewed(renewal, self.totals()?))
                }
                SpoolErrorKind::Damaged => {
                    self.open = None;
                    let renewal = renew(&self.path, now)?;
                    self.reopen(now)?;
                    Ok(Outcome::Renewed(renewal, self.totals()?))
                }
                _ => {
                    // Whatever the connection believes of the file may be wrong now: after a sync that failed, what it has
                    // in memory may not be what is on the disk.
                    self.open = None;
                    Err(error)
                }
            },
        }
    }

    fn reopen(&mut self, now: Timestamp) -> Result<Option<Renewal>, SpoolError> {
        self.open = None;
        check_path(&self.path)?;
        let mut renewal = None;
        let connection = match checked(&self.path, self.bound) {
            Err(error) if error.kind() == SpoolErrorKind::Damaged => {
                renewal = Some(renew(&self.path, now)?);
                checked(&self.path, self.bound)?
            }
            other => other?,
        };
        self.open = Some(Open { connection, file: FileId::of(&self.path) });
        Ok(renewal)
    }

    /// What was deleted while it is open can still be read: it goes into a new file.
    fn rescue(&mut self, now: Timestamp) -> Result<Renewal, SpoolError> {
        let Some(old) = &self.open else { return Err(SpoolError::new(SpoolErrorKind::Moved, &self.path)) };
        check_path(&self.path)?;
        let lock = match self.lock.is_at(&self.path) {
            true => None,
            false => Some(Lock::take(&self.path)?),
        };
        let connection = checked(&self.path, self.bound)?;
        let renewal = rescue(&old.connection, &connection, &self.path, now)?;
        self.open = Some(Open { connection, file: FileId::of(&self.path) });
        if let Some(lock) = lock {
            self.lock = lock;
        }
        Ok(renewal)
    }

    /// What was lost before.
    pub(crate) fn lost(&self) -> Result<Lost, SpoolError> {
        let Some(open) = &self.open else { return Err(SpoolError::new(SpoolErrorKind::Other, &self.path)) };
        Lost::read(&open.connection).map_err(|error| SpoolError::sort(error, &self.path))
    }

    fn totals(&self) -> Result<Totals, SpoolError> {
        let Some(open) = &self.open else { return Err(SpoolError::new(SpoolErrorKind::Other, &self.path)) };
        totals(&open.connection, &self.path)
    }

    fn attempt(&mut self, work: &Work) -> Result<Done, SpoolError> {
        let Store { path, bound, when_full, open, reader, searched, .. } = self;
        let Some(open) = open else { return Err(SpoolError::new(SpoolErrorKind::Other, path)) };
        open.check_place(path)?;
        let sort = |error| SpoolError::sort(error, path);
        let mut done = Done::default();
        if !(work.appends.is_empty() && work.deletes.is_empty() && work.set_aside.is_empty()) {
            let limits = (*bound, *when_full, *searched);
            *searched = transact(&mut open.connection, work, limits, &mut done).map_err(|error| {
                let error = sort(error);
                // The driver says the same of a full disk and of a bound that is met.
                match error.kind() == SpoolErrorKind::DiskFull && at_bound(&open.connection, *bound) {
                    true => SpoolError::new(SpoolErrorKind::Bound, path),
                    false => error,
                }
            })?;
            open.check_place(path)?;
            if done.lost != Lost::default() {
                done.all_lost = Some(Lost::read(&open.connection).map_err(sort)?);
            }
        }
        if let Some(after) = work.read_after {
            done.rows = read(&open.connection, reader, after, path)?;
        }
        done.totals = totals(&open.connection, path)?;
        if work.recount {
            let rows: i64 = open
                .connection
                .query_row("SELECT count(*) FROM monmon_spool_item", [], |row| row.get(0))
                .map_err(sort)?;
            if u64::try_from(rows).ok() != Some(done.totals.items) {
                return Err(SpoolError::new(SpoolErrorKind::Damaged, path));
            }
        }
        if done.totals.items == 0 {
            give_back(&open.connection, *bound).map_err(sort)?;
            done.totals.bytes = bytes_on_disk(path);
        }
        Ok(done)
    }
}

impl Open {
    /// Whether what was committed can be found under the path.
    fn check_place(&self, path: &Path) -> Result<(), SpoolError> {
        match self.file.is_some() && self.file == FileId::of(path) {
            true => Ok(()),
            false => Err(SpoolError::new(SpoolErrorKind::Moved, path)),
        }
    }
}

/// Opens, and looks at every page: a page that leads to others and is damaged hides rows without a word.
fn checked(path: &Path, bound: Bound) -> Result<Connection, SpoolError> {
    let connection = match connect(path, bound) {
        Err(error) if error.kind() == SpoolErrorKind::Damaged => {
            return Err(match crate::file::looks_like_ours(path) {
                Ok(true) => error,
                Ok(false) => SpoolError::new(SpoolErrorKind::Foreign, path),
                Err(error) => SpoolError::sort_io(error, path),
            });
        }
        other => other?,
    };
    let sort = |error| SpoolError::sort(error, path);
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sort)?;
    let rows: i64 =
        connection.query_row("SELECT count(*) FROM monmon_spool_item", [], |row| row.get(0)).map_err(sort)?;
    let totals = totals(&connection, path)?;
    if verdict != "ok" || u64::try_from(rows).ok() != Some(totals.items) {
        return Err(SpoolError::new(SpoolErrorKind::Damaged, path));
    }
    Ok(connection)
}

fn totals(connection: &Connection, path: &Path) -> Result<Totals, SpoolError> {
    let mut statement = connection
        .prepare_cached("SELECT items, last_position FROM monmon_spool_total WHERE id = 1")
        .map_err(|error| SpoolError::sort(error, path))?;
    let totals = statement.query_row([], |row| {
        let items: i64 = row.get(0)?;
        Ok(Totals {
            items: u64::try_from(items).unwrap_or(0),
            last_position: row.get(1)?,
            bytes: bytes_on_disk(path),
        })
    });
    totals.map_err(|error| SpoolError::sort(error, path))
}

fn at_bound(connection: &Connection, bound: Bound) -> bool {
    let pages = connection.query_row("PRAGMA page_count", [], |row| row.get::<_, i64>(0));
    pages.is_ok_and(|pages| u64::try_from(pages).unwrap_or(0) + 1 >= bound.pages_max)
}

fn transact(
    connection: &mut Connection,
    work: &Work,
    (bound, when_full, searched): (Bound, WhenFull, i64),
    done: &mut Done,
) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut items = 0i64;
    for run in runs(&work.deletes) {
        items -= delete(&transaction, run)?;
    }
    for position in &work.set_aside {
        let copy =
            "INSERT OR REPLACE INTO monmon_spool_refused SELECT * FROM monmon_spool_item WHERE position = ?1";
        transaction.prepare_cached(copy)?.execute([position])?;
        lose(&transaction, *position, done)?;
        items -= delete(&transaction, (*position, *position))?;
    }
    if !work.set_aside.is_empty() {
        forget_set_aside(&transaction, bound.bytes_max / SET_ASIDE_SHARE)?;
    }
    let mut room = Room::new(&transaction, bound, when_full, (work.handed_over, searched));
    let mut last_position = 0;
    for append in &work.appends {
        let record = Record::encode(append.position, &append.item);
        if !room.make_for(&record, &append.item, done)? {
            break;
        }
        done.appended += 1;
        if done.refused.last() != Some(&append.position) {
            items += insert(&transaction, &record)?;
            last_position = append.position;
        }
    }
    items -= i64::try_from(done.dropped).unwrap_or(i64::MAX);
    let searched = room.settle(&done.lost)?;
    let update = "UPDATE monmon_spool_total SET items = items + ?1, last_position = max(last_position, ?2)";
    transaction.prepare_cached(update)?.execute([items, last_position])?;
    transaction.commit()?;
    Ok(searched)
}

/// What is set aside is there to be looked at, and takes no room from what can be delivered: the oldest of it gives way.
fn forget_set_aside(connection: &Connection, bytes_max: u64) -> rusqlite::Result<()> {
    let bytes = "SELECT coalesce(sum(length(body) + 100), 0) FROM monmon_spool_refused";
    while connection.query_row(bytes, [], |row| row.get::<_, i64>(0))?.unsigned_abs() > bytes_max {
        connection.execute(
            "DELETE FROM monmon_spool_refused WHERE position = (SELECT min(position) FROM monmon_spool_refused)",
            [],
        )?;
    }
    Ok(())
}

/// What is set aside is not delivered, though it was acked.
fn lose(connection: &Connection, position: i64, done: &mut Done) -> rusqlite::Result<()> {
    let sql = "SELECT position, kind, at, body, origin, checksum FROM monmon_spool_item WHERE position = ?1";
    let found = connection.prepare_cached(sql)?.query_row([position], record).optional()?;
    let item = found.flatten().map(|record| Reader::default().item(&record));
    item.as_ref().and_then(numbered).into_iter().for_each(|number| done.lost.add(number));
    Ok(())
}

/// How many rows are new.
pub(crate) fn insert(connection: &Connection, record: &Record) -> rusqlite::Result<i64> {
    const SQL: &str = "INSERT OR IGNORE INTO monmon_spool_item (position, kind, at, body, origin, checksum) \
                       VALUES (:position, :kind, :at, :body, :origin, :checksum)";
    let count = connection.prepare_cached(SQL)?.execute(named_params! {
        ":position": record.position,
        ":kind": record.kind.number(),
        ":at": record.at,
        ":body": record.body,
        ":origin": record.origin,
        ":checksum": record.checksum(),
    })?;
    Ok(i64::try_from(count).unwrap_or(0))
}

pub(crate) fn delete(connection: &Connection, (first, last): (i64, i64)) -> rusqlite::Result<i64> {
    let sql = "DELETE FROM monmon_spool_item WHERE position BETWEEN ?1 AND ?2";
    let count = connection.prepare_cached(sql)?.execute([first, last])?;
    Ok(i64::try_from(count).unwrap_or(0))
}

/// Numbers that follow each other, as first and last.
fn runs(sorted: &[i64]) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for number in sorted {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    runs
}

/// A row as it lies in the table. A value of the wrong type is damage, as a wrong checksum is.
pub(crate) fn record(row: &Row<'_>) -> rusqlite::Result<Option<Record>> {
    let Some(kind) = Kind::of_number(row.get(1)?) else { return Ok(None) };
    let record =
        Record { position: row.get(0)?, kind, at: row.get(2)?, body: row.get(3)?, origin: row.get(4)? };
    let checksum: i64 = row.get(5)?;
    Ok((record.checksum() == checksum).then_some(record))
}

fn read(
    connection: &Connection,
    reader: &mut Reader,
    after: i64,
    path: &Path,
) -> Result<Vec<(i64, Item)>, SpoolError> {
    const SQL: &str = "SELECT position, kind, at, body, origin, checksum FROM monmon_spool_item \
                       WHERE position > ?1 ORDER BY position LIMIT ?2";
    let sort = |error| SpoolError::sort(error, path);
    let mut statement = connection.prepare_cached(SQL).map_err(sort)?;
    let mut found = statement.query([after, READ_ROWS as i64]).map_err(sort)?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next().map_err(sort)? {
        let Some(record) = record(row).map_err(sort)? else {
            return Err(SpoolError::new(SpoolErrorKind::Damaged, path));
        };
        bytes += record.bytes();
        rows.push((record.position, reader.item(&record)));
        if bytes >= READ_BYTES {
            break;
        }
    }
    Ok(rows)
}

/// Gives the disk back what an empty queue does not need.
fn give_back(connection: &Connection, bound: Bound) -> rusqlite::Result<()> {
    let free: i64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    if free == 0 {
        return Ok(());
    }
    limit_journal(connection, Bound::JOURNAL_BYTES_MIN)?;
    let mut statement = connection.prepare_cached("PRAGMA incremental_vacuum")?;
    let mut steps = statement.query([])?;
    while steps.next()?.is_some() {}
    limit_journal(connection, bound.journal_bytes)
}
