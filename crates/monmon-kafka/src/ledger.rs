//! What was delivered of each partition, and so what may be committed. Pure: it sees neither Kafka nor a clock.
//!
//! A partition is held in *epochs*: a new one begins when it is assigned, when it is read again from its first
//! undelivered message, and when the broker goes back in it. A token that belongs to an older epoch is stale: it frees
//! its memory and moves nothing. Offsets may have holes (compaction, transaction markers), so the window counts by
//! messages and only remembers their offsets.

use std::collections::{BTreeMap, VecDeque};

/// The book of all partitions that are assigned to us.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    partitions: BTreeMap<i32, Partition>,
    /// What each token stands for; a token is an index.
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    bytes: usize,
    /// Entries of all windows together.
    remembered: usize,
    epochs: u64,
    /// As it was last told, in milliseconds of its own count.
    now_ms: u64,
}

#[derive(Debug)]
struct Partition {
    epoch: u64,
    /// Read again from `next` on, and not there yet: what still comes is of before.
    fenced: bool,
    /// Received and not all delivered up to, in order.
    window: VecDeque<Entry>,
    /// How many entries of this epoch have left the window.
    passed: u64,
    /// The offset that is to come next, as far as is known.
    next: Option<i64>,
    /// Everything before this offset is delivered.
    prefix: Option<i64>,
    committed: Option<i64>,
    gap: Option<Gap>,
    went_back: Option<WentBack>,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    delivered: bool,
    received_ms: u64,
}

#[derive(Debug)]
struct Slot {
    partition: i32,
    epoch: u64,
    /// Place in the epoch.
    place: u64,
    bytes: usize,
}

/// Offsets that were expected and did not come: from the first up to, not including, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// A log that went on before where it had been read to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WentBack {
    /// The offset that was to come next.
    pub(crate) expected: i64,
    pub(crate) came: i64,
}

/// What became of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Delivered,
    /// The partition has to be read again.
    Failed {
        partition: i32,
    },
    /// Of an epoch that is over.
    Stale,
}

impl Ledger {
    /// A partition is ours from now on; `committed` is where the group stands in it, if that is known.
    pub(crate) fn assign(&mut self, partition: i32, committed: Option<i64>) {
        let epoch = self.new_epoch();
        let fresh = Partition {
            epoch,
            fenced: false,
            window: VecDeque::new(),
            passed: 0,
            next: committed,
            prefix: None,
            committed,
            gap: None,
            went_back: None,
        };
        self.revoke(partition);
        self.partitions.insert(partition, fresh);
    }

    /// Where the group stands in a partition that has just come, as asked for afterwards.
    pub(crate) fn expect(&mut self, partition: i32, committed: i64) {
        if let Some(held) = self.partitions.get_mut(&partition).filter(|held| held.next.is_none()) {
            held.next = Some(committed);
            held.committed = Some(committed);
        }
    }

    /// A partition is ours no longer: its tokens are stale.
    pub(crate) fn revoke(&mut self, partition: i32) {
        if let Some(held) = self.partitions.remove(&partition) {
            self.remembered -= held.window.len();
        }
    }

    pub(crate) fn is_assigned(&self, partition: i32) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// The offset that is to come next.
    pub(crate) fn position(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition)?.next
    }

    pub(crate) fn assigned(&self) -> impl Iterator<Item = i32> {
        self.partitions.keys().copied()
    }

    /// A message came. Its token, or nothing where the message is not to be used.
    pub(crate) fn receive(&mut self, partition: i32, offset: i64, bytes: usize) -> Option<u64> {
        let epochs = &mut self.epochs;
        let held = self.partitions.get_mut(&partition).filter(|held| !held.fenced)?;
        match held.next {
            Some(next) if offset < next => {
                // The broker went back, as when a topic was made anew. What was delivered of the future of this offset
                // must not count as its past.
                *epochs += 1;
                self.remembered -= held.restart(*epochs);
                held.prefix = None;
                let expected = held.went_back.map_or(next, |first| first.expected.max(next));
                held.went_back = Some(WentBack { expected, came: offset });
            }
            Some(next) if offset > next => {
                let from = held.gap.map_or(next, |gap| gap.from.min(next));
                held.gap = Some(Gap { from, to: offset });
            }
            _ => {}
        }
        held.next = Some(offset + 1);
        let slot =
            Slot { partition, epoch: held.epoch, place: held.passed + held.window.len() as u64, bytes };
        held.window.push_back(Entry { offset, delivered: false, received_ms: self.now_ms });
        self.bytes += bytes;
        self.remembered += 1;
        let token = match self.free.pop() {
            Some(token) => {
                self.slots[token] = Some(slot);
                token
            }
            None => {
                self.slots.push(Some(slot));
                self.slots.len() - 1
            }
        };
        Some(token as u64)
    }

    /// What time it is, for the age of what is received from now on.
    pub(crate) fn tell_time(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// For how long the oldest message that is under way has been so.
    pub(crate) fn oldest_ms(&self) -> Option<u64> {
        let oldest =
            self.partitions.values().filter_map(|held| held.window.front()).map(|entry| entry.received_ms);
        oldest.min().map(|received| self.now_ms.saturating_sub(received))
    }

    /// The topic is another one under the old name: its partition is to be read from its beginning, and nothing that was
    /// said of the old one counts. As after [`Ledger::restart`], nothing is taken until [`Ledger::resume`].
    pub(crate) fn begin_anew(&mut self, partition: i32) {
        let epoch = self.new_epoch();
        if let Some(held) = self.partitions.get_mut(&partition) {
            self.remembered -= held.restart(epoch);
            held.next = Some(0);
            // Where the group stood in the old topic must not stay its place in the new one.
            held.prefix = Some(0);
            held.gap = None;
            held.fenced = true;
        }
    }

    /// The last word on a token.
    pub(crate) fn settle(&mut self, token: u64, delivered: bool) -> Settled {
        let Ok(index) = usize::try_from(token) else { return Settled::Stale };
        let Some(slot) = self.slots.get_mut(index).and_then(Option::take) else { return Settled::Stale };
        self.free.push(index);
        self.bytes -= slot.bytes;
        let held = self.partitions.get_mut(&slot.partition).filter(|held| held.epoch == slot.epoch);
        let Some(held) = held else { return Settled::Stale };
        if !delivered {
            return Settled::Failed { partition: slot.partition };
        }
        // An entry leaves the window only when it is delivered, so the place of one that was not is in it.
        let place = usize::try_from(slot.place - held.passed).unwrap_or(usize::MAX);
        if let Some(entry) = held.window.get_mut(place) {
            entry.delivered = true;
        }
        while let Some(entry) = held.window.pop_front_if(|entry| entry.delivered) {
            held.passed += 1;
            self.remembered -= 1;
            held.prefix = Some(entry.offset + 1);
        }
        Settled::Delivered
    }

    /// Begins a new epoch at the first undelivered message and gives its offset. Until [`Ledger::resume`] nothing of the
    /// partition is taken.
    pub(crate) fn restart(&mut self, partition: i32) -> Option<i64> {
        let epoch = self.new_epoch();
        let held = self.partitions.get_mut(&partition)?;
        let first = held.window.front().map(|entry| entry.offset).or(held.next)?;
        self.remembered -= held.restart(epoch);
        held.next = Some(first);
        held.fenced = true;
        Some(first)
    }

    /// The partition is read from where [`Ledger::restart`] said; gives that offset.
    pub(crate) fn resume(&mut self, partition: i32) -> Option<i64> {
        let held = self.partitions.get_mut(&partition)?;
        held.fenced = false;
        held.next
    }

    /// What may be committed and is not yet.
    pub(crate) fn to_commit(&self) -> impl Iterator<Item = (i32, i64)> {
        self.partitions.iter().filter_map(|(partition, held)| {
            let prefix = held.prefix.filter(|prefix| held.committed != Some(*prefix))?;
            Some((*partition, prefix))
        })
    }

    /// What may be committed of partitions in which the group once stood further on.
    pub(crate) fn to_commit_backwards(&self) -> impl Iterator<Item = (i32, i64)> {
        self.to_commit().filter(|(partition, prefix)| {
            self.partitions[partition].committed.is_some_and(|committed| *prefix < committed)
        })
    }

    /// The broker has the commit.
    pub(crate) fn committed(&mut self, partition: i32, offset: i64) {
        if let Some(held) = self.partitions.get_mut(&partition) {
            held.committed = Some(offset);
        }
    }

    /// Everything before this offset is delivered.
    pub(crate) fn prefix(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition)?.prefix
    }

    /// Everything before this offset is delivered, or was never ours to deliver.
    pub(crate) fn delivered_to(&self, partition: i32) -> Option<i64> {
        let held = self.partitions.get(&partition)?;
        held.window.front().map(|entry| entry.offset).or(held.prefix)
    }

    /// Whether nothing of the partition is under way.
    pub(crate) fn is_settled(&self, partition: i32) -> bool {
        self.partitions.get(&partition).is_none_or(|held| held.window.is_empty())
    }

    /// How many messages are under way, those of older epochs too: they take memory all the same.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many messages are remembered because one before them is under way, itself included: what is delivered behind
    /// one that is stuck frees its memory, and takes a little all the same until that one is delivered.
    pub(crate) fn remembered(&self) -> usize {
        self.remembered
    }

    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.bytes
    }

    /// Where the broker keeps the group's place, as far as is known.
    pub(crate) fn committed_at(&self, partition: i32) -> Option<i64> {
        self.partitions.get(&partition)?.committed
    }

    /// The partitions whose logs went back since the last time this was asked.
    pub(crate) fn take_went_back(&mut self) -> Vec<(i32, WentBack)> {
        let all = self
            .partitions
            .iter_mut()
            .filter_map(|(partition, held)| Some((*partition, held.went_back.take()?)));
        all.collect()
    }

    /// The gaps seen since the last time this was asked.
    pub(crate) fn take_gaps(&mut self) -> Vec<(i32, Gap)> {
        let gaps =
            self.partitions.iter_mut().filter_map(|(partition, held)| Some((*partition, held.gap.take()?)));
        gaps.collect()
    }

    /// A gap that could not be looked into yet.
    pub(crate) fn put_gap_back(&mut self, partition: i32, gap: Gap) {
        if let Some(held) = self.partitions.get_mut(&partition) {
            let to = held.gap.map_or(gap.to, |later| later.to);
            held.gap = Some(Gap { from: gap.from, to });
        }
    }

    fn new_epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }
}

impl Partition {
    /// Gives how many entries it forgot.
    fn restart(&mut self, epoch: u64) -> usize {
        let forgotten = self.window.len();
        self.epoch = epoch;
        self.window.clear();
        self.passed = 0;
        forgotten
    }
}

#[cfg(test)]
mod tests;
