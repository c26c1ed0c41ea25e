//! The bound: how much room there is in the file, and what is done when there is none.

use std::collections::BTreeMap;

use monmon_stage::Item;
use rusqlite::Connection;

use crate::file::{Bound, PAGE_BYTES};
use crate::lost::{Lost, is_receipt, numbered};
use crate::record::{Owner, Reader, Record};
use crate::store::{Done, delete};

/// What a spool does when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// Drops the oldest to make room.
    Oldest,
    /// Drops what comes.
    Newest,
    /// Takes nothing more, so that the source is held back.
    Block,
}

impl WhenFull {
    pub(crate) const WORDS: &'static [&'static str] = &["block", "oldest", "newest"];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            WhenFull::Oldest => "oldest",
            WhenFull::Newest => "newest",
            WhenFull::Block => "block",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<WhenFull> {
        [WhenFull::Oldest, WhenFull::Newest, WhenFull::Block].into_iter().find(|one| one.as_str() == word)
    }
}

/// Room is made for so many rows at a time, so that the file is not asked for each.
const DROP_ROWS: i64 = 256;
/// What a row takes beside its body and origin: its numbers, their types, and its place in the page.
const ROW_BYTES: u64 = 40;
/// What a page has for its rows.
const PAGE_ROOM: u64 = PAGE_BYTES - 12;
const LOCAL_MAX: u64 = PAGE_BYTES - 35;

/// The room within one transaction.
pub(crate) struct Room<'a> {
    connection: &'a Connection,
    bound: Bound,
    when_full: WhenFull,
    handed_over: i64,
    /// Up to here only receipts are left of what the sink was not given.
    searched: i64,
    /// Bytes that are known to be free; nothing before the file was asked.
    free: Option<u64>,
    dropped: BTreeMap<Owner, Dropped>,
}

/// What was dropped of one check.
#[derive(Clone, Copy, Debug)]
struct Dropped {
    count: i64,
    first_at: i64,
    last_at: i64,
}

impl<'a> Room<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        bound: Bound,
        when_full: WhenFull,
        (handed_over, searched): (i64, i64),
    ) -> Room<'a> {
        Room { connection, bound, when_full, handed_over, searched, free: None, dropped: BTreeMap::new() }
    }

    /// Makes room for a row. `false` if it must wait; a row that was dropped instead stands in `done.refused`.
    pub(crate) fn make_for(
        &mut self,
        record: &Record,
        item: &Item,
        done: &mut Done,
    ) -> rusqlite::Result<bool> {
        let cost = cost(record);
        // Would never fit: it must not hold up all that comes behind it.
        let hopeless = cost > self.bound.pages_of_rows * PAGE_BYTES;
        if !hopeless {
            loop {
                let free = match self.free {
                    Some(free) => free,
                    None => self.ask()?,
                };
                if free >= cost {
                    self.free = Some(free - cost);
                    return Ok(true);
                }
                let is_kept = is_receipt(item);
                let made = match (self.when_full, is_kept) {
                    (WhenFull::Block, _) => return Ok(false),
                    (WhenFull::Newest, false) => false,
                    // Some at a time, so that the file is not asked for each.
                    (WhenFull::Oldest, _) => {
                        self.drop_oldest(cost.max(self.bound.pages_of_rows * PAGE_BYTES / 64), done)?
                    }
                    (WhenFull::Newest, true) => self.drop_oldest(cost, done)?,
                };
                // What says what was lost is not lost itself: it waits.
                if !made && is_kept {
                    return Ok(false);
                }
                if !made {
                    break;
                }
            }
        }
        self.count(Owner::of(item), record.at);
        done.refused.push(record.position);
        Ok(true)
    }

    /// How many bytes rows may still take, by what the file says of itself.
    fn ask(&self) -> rusqlite::Result<u64> {
        let number = |pragma: &str| {
            let mut statement = self.connection.prepare_cached(pragma)?;
            statement.query_row([], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
        };
        let used = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
        Ok(self.bound.pages_of_rows.saturating_sub(used) * PAGE_BYTES)
    }

    /// Drops some of the oldest, first of those that are not with the sink, and never a receipt. `false` if there was none.
    fn drop_oldest(&mut self, wanted: u64, done: &mut Done) -> rusqlite::Result<bool> {
        const SQL: &str = "SELECT position, kind, at, body, origin, checksum FROM monmon_spool_item \
                           WHERE position > ?1 ORDER BY position LIMIT ?2";
        // A page is free when all rows of it are gone.
        let wanted = wanted + 2 * PAGE_BYTES;
        for after in [self.handed_over.max(self.searched), i64::MIN] {
            let mut statement = self.connection.prepare_cached(SQL)?;
            let (mut after, mut bytes, mut runs, mut reader) = (after, 0, Runs::default(), Reader::default());
            while bytes < wanted && runs.count < DROP_ROWS.unsigned_abs() {
                let mut rows = statement.query([after, DROP_ROWS])?;
                let before = after;
                while let Some(row) = rows.next()? {
                    after = row.get(0)?;
                    // A row that can't be read any more is dropped as well, of nobody.
                    let record = crate::store::record(row)?;
                    let item = record.as_ref().map(|record| reader.item(record));
                    if item.as_ref().is_some_and(is_receipt) {
                        continue;
                    }
                    bytes += record.as_ref().map_or(PAGE_BYTES, cost);
                    let nobody =
                        || Owner { pipeline: String::new(), source: String::new(), name: String::new() };
                    self.count(item.as_ref().map_or_else(nobody, Owner::of), row.get(2)?);
                    item.as_ref().and_then(numbered).into_iter().for_each(|number| done.lost.add(number));
                    runs.add(after);
                    if bytes >= wanted {
                        break;
                    }
                }
                if after == before {
                    break;
                }
            }
            drop(statement);
            if after > self.handed_over {
                self.searched = self.searched.max(after);
            }
            if runs.count > 0 {
                for run in &runs.list {
                    done.dropped += delete(self.connection, *run)?.unsigned_abs();
                }
                done.dropped_runs.extend(runs.list);
                self.free = None;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn count(&mut self, owner: Owner, at: i64) {
        let none = Dropped { count: 0, first_at: at, last_at: at };
        let dropped = self.dropped.entry(owner).or_insert(none);
        dropped.count += 1;
        dropped.first_at = dropped.first_at.min(at);
        dropped.last_at = dropped.last_at.max(at);
    }

    /// Writes down what was dropped. Gives up to where nothing is left that may be.
    pub(crate) fn settle(self, lost: &Lost) -> rusqlite::Result<i64> {
        const SQL: &str = "INSERT INTO monmon_spool_dropped (pipeline, source, name, count, first_at, last_at) \
            VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET count = count + excluded.count, \
            first_at = min(first_at, excluded.first_at), last_at = max(last_at, excluded.last_at)";
        for (owner, Dropped { count, first_at, last_at }) in &self.dropped {
            let mut statement = self.connection.prepare_cached(SQL)?;
            statement.execute((&owner.pipeline, &owner.source, &owner.name, count, first_at, last_at))?;
        }
        lost.write(self.connection)?;
        Ok(self.searched)
    }
}

/// Positions in their order, as first and last of those that follow one another.
#[derive(Default)]
struct Runs {
    list: Vec<(i64, i64)>,
    count: u64,
}

impl Runs {
    fn add(&mut self, position: i64) {
        self.count += 1;
        match self.list.last_mut() {
            // What lies between two is not there any more.
            Some((_, last)) if *last + 1 == position => *last = position,
            _ => self.list.push((position, position)),
        }
    }
}

/// About how many bytes of pages a row takes.
fn cost(record: &Record) -> u64 {
    let bytes = record.bytes() as u64 + ROW_BYTES;
    if bytes > LOCAL_MAX {
        // Its beginning shares a page, the rest has pages of its own.
        return (bytes.div_ceil(PAGE_BYTES - 4) + 1) * PAGE_BYTES;
    }
    PAGE_BYTES.div_ceil((PAGE_ROOM / bytes).max(1))
}
