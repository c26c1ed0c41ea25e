//! What the sink was given and has not answered for.

use std::collections::BTreeMap;

use monmon_stage::{Ack, EDGE_PLACES, Item};
use tokio::time::Instant;

/// Places of what may be with the sink at a time: room for the batches that it makes of it.
pub(crate) const WINDOW_PLACES: usize = 4 * EDGE_PLACES;

/// By position, which is the order in which they were given.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    all: BTreeMap<i64, Flight>,
    places: usize,
    in_memory: usize,
}

#[derive(Debug)]
struct Flight {
    since: Instant,
    places: usize,
    copy: Copy,
}

/// Where the spool's own copy of an item is.
#[derive(Debug)]
pub(crate) enum Copy {
    Memory(Item, Ack),
    /// On its way to the disk.
    Unwritten,
    Disk,
}

impl Flights {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn holds(&self, position: i64) -> bool {
        self.all.contains_key(&position)
    }

    /// Whether one more may go: a single one always may.
    pub(crate) fn has_room(&self, places: usize) -> bool {
        self.all.is_empty() || self.places + places.min(WINDOW_PLACES) <= WINDOW_PLACES
    }

    pub(crate) fn add(&mut self, position: i64, places: usize, copy: Copy, now: Instant) {
        // The edge gives one that is larger than itself no more than all of its places.
        let places = places.min(WINDOW_PLACES);
        self.places += places;
        self.in_memory += usize::from(matches!(copy, Copy::Memory(..)));
        self.all.insert(position, Flight { since: now, places, copy });
    }

    pub(crate) fn remove(&mut self, position: i64) -> Option<Copy> {
        let flight = self.all.remove(&position)?;
        self.places -= flight.places;
        self.in_memory -= usize::from(matches!(flight.copy, Copy::Memory(..)));
        Some(flight.copy)
    }

    /// How many have no copy but in memory.
    pub(crate) fn in_memory(&self) -> usize {
        self.in_memory
    }

    /// Since when the first has been with the sink.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.all.values().next().map(|flight| flight.since)
    }

    /// Since when the oldest of these has been with the sink.
    pub(crate) fn oldest_in_memory(&self) -> Option<Instant> {
        if self.in_memory == 0 {
            return None;
        }
        let in_memory = |flight: &&Flight| matches!(flight.copy, Copy::Memory(..));
        self.all.values().find(in_memory).map(|flight| flight.since)
    }

    /// Takes all that have no copy but in memory: they are on their way to the disk now.
    pub(crate) fn take_from_memory(&mut self) -> Vec<(i64, Item, Ack)> {
        self.in_memory = 0;
        let take = |(position, flight): (&i64, &mut Flight)| match &flight.copy {
            Copy::Memory(..) => match std::mem::replace(&mut flight.copy, Copy::Unwritten) {
                Copy::Memory(item, ack) => Some((*position, item, ack)),
                Copy::Unwritten | Copy::Disk => None,
            },
            Copy::Unwritten | Copy::Disk => None,
        };
        self.all.iter_mut().filter_map(take).collect()
    }

    /// It is on the disk. `false` if the sink does not have it any more.
    pub(crate) fn is_written(&mut self, position: i64) -> bool {
        let flight = self.all.get_mut(&position);
        let known = flight.is_some();
        if let Some(flight) = flight {
            flight.copy = Copy::Disk;
        }
        known
    }

    pub(crate) fn positions(&self) -> Vec<i64> {
        self.all.keys().copied().collect()
    }
}
