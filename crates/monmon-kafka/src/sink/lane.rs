//! What came back undelivered on its way to one topic, and when it is sent again.

use std::collections::BTreeMap;

use monmon_stage::{Ack, Backoff, StageContext};
use tokio::time::Instant;
use tracing::warn;

use crate::sink::producer::{Alone, Held, LaneId};

/// What the state of health has for dead letters that nobody takes.
pub(crate) const LETTERS_WAIT: &str = "kafka_dead_letters";

/// How many dead letters may be held before the sink takes nothing new.
const LETTERS_MAX: usize = 1_000;

/// The way to one topic.
pub(crate) struct Lane {
    pub(crate) id: LaneId,
    pub(crate) topic: String,
    pub(crate) phase: Phase,
    held: BTreeMap<u64, Owned>,
    backoff: Backoff,
    /// A probe came back since the lane last flowed.
    probed: bool,
    told: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Flowing,
    /// Until then nothing is tried.
    Waiting {
        due: Instant,
    },
    /// One message is on its way to see whether it goes.
    Probing,
    /// It goes: what is held may follow.
    Ready,
}

/// A message that came back, with its ack.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) seq: u64,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) timestamp: Option<i64>,
    /// Must not share a batch.
    pub(crate) alone: Alone,
    /// A dead letter that was cut already.
    pub(crate) cut: bool,
    pub(crate) lane: LaneId,
    pub(crate) ack: Ack,
}

/// An [`Owned`] whose ack has gone with the client.
pub(crate) struct Parts {
    seq: u64,
    key: Vec<u8>,
    payload: Vec<u8>,
    timestamp: Option<i64>,
    alone: Alone,
    cut: bool,
}

impl Owned {
    pub(crate) fn parts(self) -> (Parts, Ack) {
        let Owned { seq, key, payload, timestamp, alone, cut, lane: _, ack } = self;
        (Parts { seq, key, payload, timestamp, alone, cut }, ack)
    }
}

impl Parts {
    pub(crate) fn as_held(&self) -> Held<'_> {
        Held {
            seq: self.seq,
            key: &self.key,
            payload: &self.payload,
            timestamp: self.timestamp,
            alone: self.alone,
            cut: self.cut,
        }
    }
}

impl Held<'_> {
    pub(crate) fn own(self, ack: Ack, lane: LaneId) -> Owned {
        Owned {
            seq: self.seq,
            key: self.key.to_vec(),
            payload: self.payload.to_vec(),
            timestamp: self.timestamp,
            alone: self.alone,
            cut: self.cut,
            lane,
            ack,
        }
    }
}

impl Lane {
    pub(crate) fn new(id: LaneId, topic: String, seed: u64) -> Lane {
        Lane {
            id,
            topic,
            phase: Phase::Flowing,
            held: BTreeMap::new(),
            backoff: Backoff::new(seed),
            probed: false,
            told: false,
        }
    }

    pub(crate) fn flows(&self) -> bool {
        self.phase == Phase::Flowing
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(crate) fn has_room(&self) -> bool {
        self.held.len() < LETTERS_MAX
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { due } => Some(due),
            _ => None,
        }
    }

    pub(crate) fn was_probed(&self) -> bool {
        self.probed
    }

    pub(crate) fn head_is_alone(&self) -> bool {
        self.held.first_key_value().is_some_and(|(_, held)| held.alone != Alone::No)
    }

    /// Kept behind what is held already.
    pub(crate) fn hold(&mut self, held: Owned) {
        self.held.insert(held.seq, held);
    }

    /// Kept, and everything with it, until the next try is due.
    pub(crate) fn hold_and_wait(&mut self, held: Owned) {
        self.probed |= self.phase == Phase::Probing;
        if !matches!(self.phase, Phase::Waiting { .. }) {
            self.phase = Phase::Waiting { due: Instant::now() + self.backoff.wait() };
        }
        self.hold(held);
    }

    /// Kept, to be sent by itself as soon as nothing else is under way.
    pub(crate) fn hold_and_probe(&mut self, held: Owned) {
        if !matches!(self.phase, Phase::Waiting { .. }) {
            self.phase = Phase::Ready;
        }
        self.hold(held);
    }

    /// The probe went through, or came back with a word on itself alone.
    pub(crate) fn arrived(&mut self) {
        self.backoff.reset();
        self.probed = false;
        self.told = false;
        if self.phase == Phase::Probing {
            self.phase = if self.held.is_empty() { Phase::Flowing } else { Phase::Ready };
        }
    }

    /// The next to be sent by itself: the oldest, or of a batch that was refused for its size the largest, since that
    /// tells whether a message or the batch is too large.
    pub(crate) fn take_probe(&mut self) -> Option<Owned> {
        let head = self.held.values().next();
        let seq = match head.map(|held| held.alone) {
            Some(Alone::ForSize) => {
                let refused = self.held.values().filter(|held| held.alone == Alone::ForSize);
                refused.max_by_key(|held| held.payload.len()).map(|held| held.seq)
            }
            _ => head.map(|held| held.seq),
        };
        let probe = seq.and_then(|seq| self.held.remove(&seq));
        self.phase = if probe.is_some() { Phase::Probing } else { Phase::Flowing };
        probe
    }

    /// What was refused together for its size may be sent together again.
    pub(crate) fn mix(&mut self) {
        for held in self.held.values_mut().filter(|held| held.alone == Alone::ForSize) {
            held.alone = Alone::No;
        }
    }

    /// The next that may share a batch; the lane flows again after the last.
    pub(crate) fn take_next(&mut self) -> Option<Owned> {
        if self.head_is_alone() {
            return None;
        }
        let next = self.held.pop_first().map(|(_, held)| held);
        if self.held.is_empty() {
            self.phase = Phase::Flowing;
        }
        next
    }

    pub(crate) fn take_all(&mut self) -> Vec<Owned> {
        self.phase = Phase::Flowing;
        std::mem::take(&mut self.held).into_values().collect()
    }

    /// Dead letters wait: told once.
    pub(crate) fn tell_trouble(&mut self, context: &StageContext, error: &str) {
        if !std::mem::replace(&mut self.told, true) {
            context.counters.state().waits(LETTERS_WAIT, "dead letters cannot be published");
            warn!(pipeline = %context.pipeline, stage = %context.stage, topic = %self.topic, error,
                "dead letters cannot be published; waiting");
        }
    }
}
