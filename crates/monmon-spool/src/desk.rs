//! Who has what: the book of a spool. Everything here is bookkeeping; the disk and the sink are elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use monmon_stage::{Ack, EDGE_PLACES, Envelope, Item, Measured, is_sabotaged};
use tokio::time::Instant;

use crate::flights::{Copy, Flights};
use crate::lost::Lost;
use crate::store::{Append, Done, Totals, Work};

/// Places of what may wait for the disk before nothing more is taken.
const UNWRITTEN_PLACES_MAX: usize = EDGE_PLACES;
/// What one turn writes and deletes, at most.
const APPENDS_MAX: usize = 4_000;
/// Rows are deleted so many times as many at a time as they are written.
const DELETES_TIMES: usize = 4;
/// Fewer rows than this ahead of the sink, and more are read.
const READY_LOW: usize = 500;
/// So many times the sink may refuse a row before the row is set aside.
const REFUSALS_MAX: u32 = 10;

#[derive(Debug, Default)]
pub(crate) struct Desk {
    flights: Flights,
    unwritten: BTreeMap<i64, Append>,
    unwritten_places: usize,
    /// Whether a turn is under way, and what has been delivered since it began of what it writes.
    turning: bool,
    writing: BTreeSet<i64>,
    delivered_meanwhile: BTreeSet<i64>,
    deletes: BTreeSet<i64>,
    set_aside: BTreeSet<i64>,
    refusals: BTreeMap<i64, u32>,
    /// Read, and not yet with the sink.
    ready: VecDeque<(i64, Item)>,
    /// Rows up to this position were read, unless they are with the sink.
    cursor: i64,
    handed_over: i64,
    next: i64,
    totals: Totals,
    /// What is told to receipts on their way to the sink.
    lost: Lost,
    /// After a failure less is tried at a time: a disk that is nearly full takes a little.
    shrunk: u32,
}

/// Where an item was, of which the sink has said that it delivered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    FromMemory,
    /// There is a row of it to be deleted.
    FromDisk,
    /// It was not with the sink, as far as is known.
    Unknown,
}

/// What became of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turned {
    pub(crate) spooled: u64,
    /// Dropped for want of room, new or old.
    pub(crate) dropped: u64,
    /// Something waits for room.
    pub(crate) full: bool,
}

impl Desk {
    pub(crate) fn new(totals: Totals, lost: Lost) -> Desk {
        Desk { next: totals.last_position + 1, totals, lost, ..Desk::default() }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether what comes may go straight to the sink: nothing is before it that the sink was not given, and the sink has
    /// held nothing since before `in_time`. With the disk empty would be too late: where enough comes it never is.
    pub(crate) fn is_direct(&self, in_time: Instant) -> bool {
        let in_time = || self.flights.oldest().is_none_or(|since| since > in_time);
        self.sink_has_all() && (self.totals.items == 0 || in_time())
    }

    /// Whether all that there is, on the disk or not, is with the sink.
    fn sink_has_all(&self) -> bool {
        let rows =
            self.totals.items == 0 || (self.ready.is_empty() && self.cursor >= self.totals.last_position);
        rows && self.unwritten.is_empty() && self.writing.is_empty()
    }

    /// Whether nothing is in memory alone.
    pub(crate) fn is_safe(&self) -> bool {
        self.unwritten.is_empty() && self.writing.is_empty() && self.flights.in_memory() == 0
    }

    /// Whether nothing is left to be delivered, deleted or written.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_safe() && self.flights.is_empty() && self.totals.items == 0
    }

    pub(crate) fn has_deletes(&self) -> bool {
        !self.deletes.is_empty() || !self.set_aside.is_empty() || self.turning
    }

    pub(crate) fn takes_more(&self) -> bool {
        self.unwritten_places < UNWRITTEN_PLACES_MAX
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn oldest_in_memory(&self) -> Option<Instant> {
        self.flights.oldest_in_memory()
    }

    /// Gives an item to the sink, if there is room with it; else it comes back.
    #[expect(clippy::result_large_err, reason = "what comes back is what was given, and goes where it was")]
    pub(crate) fn pass(
        &mut self,
        envelope: Envelope,
        now: Instant,
        ack: impl FnOnce(i64) -> Ack,
    ) -> Result<Envelope, Envelope> {
        let places = envelope.item.places();
        if !self.flights.has_room(places) {
            return Err(envelope);
        }
        let position = self.number();
        let Envelope { mut item, ack: outer } = envelope;
        // The copy stays as it was: what is given again is told again.
        let copy = Copy::Memory(without_page(&item), outer);
        self.lost.tell(&mut item);
        self.flights.add(position, places, copy, now);
        self.handed_over = position;
        Ok(Envelope { item, ack: ack(position) })
    }

    /// Keeps an item for the disk.
    pub(crate) fn spool(&mut self, envelope: Envelope) {
        let position = self.number();
        let Envelope { mut item, ack } = envelope;
        if let Item::Measurement(measured) = &mut item {
            measured.page = None;
        }
        self.keep(position, item, ack);
    }

    fn number(&mut self) -> i64 {
        let position = self.next;
        self.next += 1;
        position
    }

    fn keep(&mut self, position: i64, item: Item, ack: Ack) {
        self.unwritten_places += item.places();
        self.unwritten.insert(position, Append { position, item, ack });
    }

    /// What the sink has held for too long shall be on the disk.
    pub(crate) fn spool_flights(&mut self) {
        if self.sink_has_all() {
            // The rows that are about to be written are all with the sink.
            self.cursor = self.cursor.max(self.handed_over);
        }
        for (position, item, ack) in self.flights.take_from_memory() {
            self.keep(position, item, ack);
        }
    }

    /// The sink has delivered it.
    pub(crate) fn deliver(&mut self, position: i64) -> Delivered {
        let Some(copy) = self.flights.remove(position) else { return Delivered::Unknown };
        self.refusals.remove(&position);
        match copy {
            Copy::Memory(_, ack) => ack.deliver(),
            Copy::Unwritten => match self.unwritten.remove(&position) {
                Some(append) => {
                    self.unwritten_places -= append.item.places();
                    append.ack.deliver();
                }
                // It is being written; its ack is with the turn.
                None => {
                    self.delivered_meanwhile.insert(position);
                }
            },
            Copy::Disk => {
                self.deletes.insert(position);
                return Delivered::FromDisk;
            }
        }
        Delivered::FromMemory
    }

    /// The sink does not take it; it is given again, unless that was tried too often.
    pub(crate) fn refuse(&mut self, position: i64) {
        if !self.give_back(position) {
            return;
        }
        let refusals = self.refusals.entry(position).or_default();
        *refusals += 1;
        if *refusals >= REFUSALS_MAX {
            self.refusals.remove(&position);
            self.set_aside.insert(position);
        }
    }

    /// It is not with the sink any more. `false` if it was not.
    fn give_back(&mut self, position: i64) -> bool {
        let Some(copy) = self.flights.remove(position) else { return false };
        match copy {
            Copy::Memory(item, ack) => self.keep(position, item, ack),
            // Once it is on the disk it will be found not to be with the sink.
            Copy::Unwritten => {}
            Copy::Disk => self.rewind(position),
        }
        true
    }

    /// The sink is gone, and all that it had comes back.
    pub(crate) fn take_back(&mut self) {
        for position in self.flights.positions() {
            self.give_back(position);
        }
    }

    /// A row that is to be read again.
    fn rewind(&mut self, position: i64) {
        if position <= self.cursor {
            self.cursor = position - 1;
            self.ready.clear();
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next row for the sink, if there is room with it.
    pub(crate) fn hand_over(&mut self, now: Instant, ack: impl FnOnce(i64) -> Ack) -> Option<Envelope> {
        let (_, item) = self.ready.front()?;
        let places = item.places();
        if !self.flights.has_room(places) {
            return None;
        }
        let next = match is_sabotaged("spool-order") {
            true => self.ready.pop_back(),
            false => self.ready.pop_front(),
        };
        let (position, mut item) = next?;
        self.lost.tell(&mut item);
        self.flights.add(position, places, Copy::Disk, now);
        if is_sabotaged("spool-forget") {
            self.deletes.insert(position);
        }
        self.handed_over = self.handed_over.max(position);
        Some(Envelope { item, ack: ack(position) })
    }

    /// How many items wait for the disk.
    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    pub(crate) fn deletes(&self) -> usize {
        self.deletes.len() + self.set_aside.len()
    }

    pub(crate) fn wants_rows(&self) -> bool {
        self.totals.items > 0 && self.ready.len() < READY_LOW && self.cursor < self.totals.last_position
    }

    /// Rows are said to be there, and none of them can be found.
    pub(crate) fn is_stuck(&self) -> bool {
        self.totals.items > 0
            && self.is_safe()
            && self.flights.is_empty()
            && self.ready.is_empty()
            && self.deletes() == 0
            && self.cursor >= self.totals.last_position
    }

    /// What the next turn shall do.
    pub(crate) fn begin_turn(&mut self, appends: bool) -> Work {
        let mut work = Work { handed_over: self.handed_over, ..Work::default() };
        let most = (APPENDS_MAX >> self.shrunk).max(1);
        while appends && work.appends.len() < most {
            let Some((position, append)) = self.unwritten.pop_first() else { break };
            self.unwritten_places -= append.item.places();
            self.writing.insert(position);
            work.appends.push(append);
        }
        while work.deletes.len() < most * DELETES_TIMES {
            let Some(position) = self.deletes.pop_first() else { break };
            work.deletes.push(position);
        }
        // A row that is being written is set aside when it is there.
        let there =
            |position: &i64| !self.unwritten.contains_key(position) && !self.writing.contains(position);
        work.set_aside = self.set_aside.iter().copied().filter(there).collect();
        work.set_aside.iter().for_each(|position| {
            self.set_aside.remove(position);
        });
        if self.is_stuck() && work.deletes.is_empty() && work.set_aside.is_empty() {
            work.recount = true;
            self.cursor = 0;
        }
        work.read_after = self.wants_rows().then_some(self.cursor);
        self.turning = true;
        work
    }

    pub(crate) fn is_turning(&self) -> bool {
        self.turning
    }

    /// A turn that did what it should.
    pub(crate) fn end_turn(&mut self, work: Work, done: Done) -> Turned {
        let mut turned = Turned { dropped: done.dropped + done.refused.len() as u64, ..Turned::default() };
        self.totals = done.totals;
        self.shrunk = self.shrunk.saturating_sub(1);
        let asked = work.read_after;
        for (index, append) in work.appends.into_iter().enumerate() {
            let position = append.position;
            let delivered = self.delivered_meanwhile.remove(&position);
            if index >= done.appended {
                self.put_back(append, delivered);
                turned.full = true;
            } else if done.refused.binary_search(&position).is_ok() {
                match delivered {
                    true => append.ack.deliver(),
                    // The sink may still have it, and may still deliver it.
                    false => append.ack.fail(),
                }
                self.flights.is_written(position);
            } else {
                turned.spooled += 1;
                append.ack.deliver();
                if delivered {
                    self.deletes.insert(position);
                } else if !self.flights.is_written(position) {
                    self.rewind(position);
                }
            }
        }
        self.settle();
        if let Some(lost) = done.all_lost {
            self.lost = lost;
        }
        if done.dropped > 0 {
            let is_in = |position: i64, run: &(i64, i64)| (run.0..=run.1).contains(&position);
            let is_dropped = |position: i64| done.dropped_runs.iter().any(|run| is_in(position, run));
            self.ready.retain(|(position, _)| !is_dropped(*position));
        }
        // Nothing was rewound meanwhile.
        if asked == Some(self.cursor) {
            self.take_rows(done.rows);
        }
        if self.totals.items == 0 {
            self.cursor = self.totals.last_position;
            self.ready.clear();
        }
        turned
    }

    fn take_rows(&mut self, rows: Vec<(i64, Item)>) {
        self.cursor = rows.last().map_or(self.totals.last_position, |(position, _)| *position);
        for (position, item) in rows {
            let elsewhere = self.flights.holds(position)
                || self.deletes.contains(&position)
                || self.set_aside.contains(&position);
            if !elsewhere {
                self.ready.push_back((position, item));
            }
        }
    }

    /// A turn that could do nothing.
    pub(crate) fn shrink(&mut self) {
        self.shrunk = (self.shrunk + 2).min(12);
    }

    /// What a turn did not do is to be done again.
    pub(crate) fn undo_turn(&mut self, work: Work) {
        for append in work.appends {
            let delivered = self.delivered_meanwhile.remove(&append.position);
            self.put_back(append, delivered);
        }
        self.deletes.extend(work.deletes);
        self.set_aside.extend(work.set_aside);
        self.settle();
    }

    fn put_back(&mut self, append: Append, delivered: bool) {
        match delivered {
            true => append.ack.deliver(),
            false => self.keep(append.position, append.item, append.ack),
        }
    }

    fn settle(&mut self) {
        self.turning = false;
        self.writing.clear();
        self.delivered_meanwhile.clear();
    }

    /// The file was made anew: its rows are read from the first on, unless they are with the sink.
    pub(crate) fn renewed(&mut self, totals: Totals) {
        self.totals = totals;
        self.next = self.next.max(totals.last_position + 1);
        self.cursor = 0;
        self.ready.clear();
    }
}

fn without_page(item: &Item) -> Item {
    match item {
        Item::Measurement(measured) => Item::Measurement(Measured {
            measurement: measured.measurement.clone(),
            page: None,
            place: measured.place.clone(),
        }),
        other => other.clone(),
    }
}
