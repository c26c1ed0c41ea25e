//! Slots that got no check and still are owed their measurement, in a compact form: however long the prober slept or the
//! stages behind are stuck, none is forgotten, and the memory is bounded.
//!
//! What is owed of a check is a row of stretches: slots that follow one another and share their fate. A stretch is told
//! slot by slot, a row each. Two bounds hold, and neither loses a slot:
//!
//! - *rows* of one check: beyond them the oldest slots are put together, and one row stands for all of them;
//! - *stretches* of one check: beyond them the two neighbours are joined that lose the least by it. Where measured
//!   slots lie between the two, which of the slots are owed is forgotten, so they too are put together in one row.
//!
//! A row that stands for several slots is the first of them, and says how many there are, from when to when.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::FailureKind;
use monmon_syntax::format_duration;

use crate::slots::STANDS_FOR;

/// Most rows that a check is owed one by one: a day at one second.
const ROWS_MAX: u64 = 86_400;
/// Most rows owed one by one over all checks; with very many checks each has fewer.
const ROWS_IN_ALL_MAX: u64 = 100_000_000;
/// What a check has all the same.
const ROWS_LEAST: u64 = 1_000;
/// Most stretches over all checks (32 bytes each).
const STRETCHES_IN_ALL_MAX: usize = 1 << 18;
const STRETCHES_MAX: usize = 4096;
const STRETCHES_LEAST: usize = 8;

/// How much is owed of one check in detail.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    rows: u64,
    stretches: usize,
}

impl Bounds {
    fn of(checks: usize) -> Bounds {
        let checks = checks.max(1);
        Bounds {
            rows: (ROWS_IN_ALL_MAX / checks as u64).clamp(ROWS_LEAST, ROWS_MAX),
            stretches: (STRETCHES_IN_ALL_MAX / checks).clamp(STRETCHES_LEAST, STRETCHES_MAX),
        }
    }
}

/// Owed slots of one check.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: i64,
    last: i64,
    /// How many slots are owed from `first` to `last`, both of which are.
    count: u64,
    kind: FailureKind,
    /// Some of the slots have another reason than `kind`.
    mixed: bool,
    /// Told as one row.
    together: bool,
}

impl Stretch {
    fn rows(&self) -> u64 {
        if self.together { 1 } else { self.count }
    }

    /// Both in one; `other` is the later.
    fn joined(&self, other: &Stretch, interval: i64) -> Stretch {
        Stretch {
            first: self.first,
            last: other.last,
            count: self.count + other.count,
            kind: if self.count >= other.count { self.kind } else { other.kind },
            mixed: self.mixed || other.mixed || self.kind != other.kind,
            together: self.together || other.together || self.last + interval != other.first,
        }
    }

    /// What joining the two loses: rows, then certainty about the reason, then the size of what is told as one.
    fn loss(&self, other: &Stretch, interval: i64) -> (u64, bool, u64) {
        let joined = self.joined(other, interval);
        let mixes = joined.mixed && !(self.mixed && other.mixed);
        (self.rows() + other.rows() - joined.rows(), mixes, joined.count)
    }
}

/// What is owed of one check.
#[derive(Debug)]
struct Debt {
    interval: i64,
    rows: u64,
    stretches: VecDeque<Stretch>,
}

impl Debt {
    fn add(&mut self, first: i64, count: u64, kind: FailureKind) {
        let last = first.saturating_add(self.interval.saturating_mul(count as i64 - 1));
        let new = Stretch { first, last, count, kind, mixed: false, together: false };
        self.rows += count;
        match self.stretches.back_mut() {
            Some(back)
                if back.kind == kind
                    && !back.mixed
                    && !back.together
                    && back.last + self.interval == first =>
            {
                *back = back.joined(&new, self.interval);
            }
            _ => self.stretches.push_back(new),
        }
    }

    fn hold(&mut self, bounds: Bounds) {
        while self.rows > bounds.rows && self.put_oldest_together(self.rows - bounds.rows) {}
        while self.stretches.len() > bounds.stretches.max(1) {
            self.join_cheapest();
        }
    }

    /// Puts the oldest slots that still have rows of their own together, to have so many rows less. False if there are
    /// none.
    fn put_oldest_together(&mut self, rows_less: u64) -> bool {
        let Some(at) = self.stretches.iter().position(|stretch| !stretch.together && stretch.count > 1)
        else {
            return false;
        };
        let interval = self.interval;
        let whole = self.stretches[at];
        let before = at.checked_sub(1).map(|before| self.stretches[before]).filter(|before| {
            let same = (before.kind, before.mixed) == (whole.kind, whole.mixed);
            before.together && same && before.last + interval == whole.first
        });
        // Without a row before it that takes them in, the slots that go need one row.
        let wanted = rows_less.saturating_add(u64::from(before.is_none()));
        if wanted >= whole.count {
            self.stretches[at].together = true;
            self.rows -= whole.count - 1;
            return true;
        }
        let cut = whole.first + interval * wanted as i64;
        let old = Stretch { last: cut - interval, count: wanted, together: true, ..whole };
        let young = Stretch { first: cut, count: whole.count - wanted, ..whole };
        self.stretches[at] = young;
        self.rows -= rows_less;
        match before {
            Some(before) => self.stretches[at - 1] = before.joined(&old, interval),
            None => self.stretches.insert(at, old),
        }
        true
    }

    fn join_cheapest(&mut self) {
        let interval = self.interval;
        let pairs = 1..self.stretches.len();
        let loss = |at: &usize| self.stretches[at - 1].loss(&self.stretches[*at], interval);
        let Some(at) = pairs.min_by_key(loss) else { return };
        let Some(later) = self.stretches.remove(at) else { return };
        let joined = self.stretches[at - 1].joined(&later, interval);
        self.rows -= self.stretches[at - 1].rows() + later.rows() - joined.rows();
        self.stretches[at - 1] = joined;
    }

    fn pop(&mut self) -> Option<Told> {
        let front = self.stretches.front_mut()?;
        let mut told = Told {
            slot: front.first,
            last: front.first,
            slots: 1,
            gaps: false,
            kind: front.kind,
            mixed: front.mixed,
        };
        if front.together {
            told.last = front.last;
            told.slots = front.count;
            told.gaps = (front.last - front.first) / self.interval + 1 != front.count as i64;
            front.count = 0;
        } else {
            front.first += self.interval;
            front.count -= 1;
        }
        self.rows -= 1;
        if front.count == 0 {
            self.stretches.pop_front();
        }
        Some(told)
    }
}

/// One row of what is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) slot: i64,
    /// The last of the slots that the row stands for; `slot` itself where it stands for no other.
    pub(crate) last: i64,
    /// How many slots the row stands for.
    pub(crate) slots: u64,
    /// Other slots, which have rows of their own, lie between the first and the last.
    pub(crate) gaps: bool,
    pub(crate) kind: FailureKind,
    /// `kind` is what most slots of the stretch have; others have another reason.
    pub(crate) mixed: bool,
}

impl Told {
    /// A slot that stands for itself.
    pub(crate) fn alone(slot: i64, kind: FailureKind) -> Told {
        Told { slot, last: slot, slots: 1, gaps: false, kind, mixed: false }
    }

    /// Why the slot was not measured, and for which others the row stands.
    pub(crate) fn message(&self, interval_us: i64) -> String {
        let why = match self.kind {
            FailureKind::Overload => "more checks were due than can be under way",
            FailureKind::Overslept => "the prober slept or was stopped through the slot",
            FailureKind::Shutdown => "the prober was shutting down",
            FailureKind::NotRunning => "the prober was not running",
            _ => "the check ended in an error of monmon's own",
        };
        let doubt = match (self.mixed, self.slots) {
            (false, _) => "",
            (true, 1) => "; that or another reason, which was not kept",
            (true, _) => "; some of them for another reason, which was not kept",
        };
        if self.slots == 1 {
            return format!("{why}{doubt}");
        }
        let time = |at_us| Timestamp::from_microsecond(at_us).unwrap_or(Timestamp::UNIX_EPOCH);
        let (first, last) = (time(self.slot), time(self.last));
        let among = if self.gaps { "of those " } else { "" };
        let every = format_duration(Duration::from_micros(interval_us.unsigned_abs()));
        let slots = self.slots;
        format!("{why}{STANDS_FOR}{slots} slots {among}from {first} to {last}, one every {every}{doubt}")
    }
}

#[derive(Debug)]
pub(crate) struct Owed {
    bounds: Bounds,
    by_check: BTreeMap<u32, Debt>,
    /// In turn, so that one check's gap does not hold up the others.
    turns: VecDeque<u32>,
}

impl Owed {
    pub(crate) fn new(checks: usize) -> Owed {
        Owed { bounds: Bounds::of(checks), by_check: BTreeMap::new(), turns: VecDeque::new() }
    }

    /// Slots of a check come in order; none is owed twice.
    pub(crate) fn add(&mut self, check: u32, first: i64, count: u64, interval: i64, kind: FailureKind) {
        if count == 0 {
            return;
        }
        let debt = self.by_check.entry(check).or_insert_with(|| {
            self.turns.push_back(check);
            Debt { interval, rows: 0, stretches: VecDeque::new() }
        });
        debt.add(first, count, kind);
        debt.hold(self.bounds);
    }

    /// The same in one row, however many slots they are.
    pub(crate) fn add_together(
        &mut self,
        check: u32,
        slots: (i64, i64),
        count: u64,
        interval: i64,
        kind: FailureKind,
    ) {
        if count == 0 {
            return;
        }
        let debt = self.by_check.entry(check).or_insert_with(|| {
            self.turns.push_back(check);
            Debt { interval, rows: 0, stretches: VecDeque::new() }
        });
        let (first, last) = slots;
        debt.stretches.push_back(Stretch { first, last, count, kind, mixed: false, together: count > 1 });
        debt.rows += 1;
        debt.hold(self.bounds);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The next row to be told, and its check.
    pub(crate) fn pop(&mut self) -> Option<(u32, Told)> {
        let check = self.turns.pop_front()?;
        let debt = self.by_check.get_mut(&check)?;
        let told = debt.pop()?;
        if debt.stretches.is_empty() {
            self.by_check.remove(&check);
        } else {
            self.turns.push_back(check);
        }
        Some((check, told))
    }

    /// Puts slots together until no check is owed more than one row: there is no time for more.
    pub(crate) fn shrink(&mut self) {
        let bounds = Bounds { rows: 1, stretches: 1 };
        self.by_check.values_mut().for_each(|debt| debt.hold(bounds));
    }

    /// The oldest slot that is still owed.
    pub(crate) fn oldest(&self) -> Option<i64> {
        self.by_check.values().filter_map(|debt| debt.stretches.front()).map(|stretch| stretch.first).min()
    }

    /// How many slots are still owed.
    pub(crate) fn slots(&self) -> u64 {
        self.by_check.values().flat_map(|debt| &debt.stretches).map(|stretch| stretch.count).sum()
    }
}

#[cfg(test)]
mod tests;
