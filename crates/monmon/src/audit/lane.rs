//! What is stored of one check in one boot, held against the slots that were due.

use std::collections::{BTreeMap, BTreeSet};

use monmon_http::{Slots, StandsFor};
use monmon_model::{AuditRow, Histogram, Outcome};

use super::bits::Bits;
use super::ledger::number_of;

/// Rows of one lane for instants that are no slots, kept at most; what is beyond them is counted only.
const OFF_SLOT_MAX: usize = 10_000;

/// A crontab line's slots have no numbers; no two of them lie in one minute, and minutes lie closer than instants.
const MINUTE_US: i64 = 60_000_000;

/// One check in one boot.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) slots: Slots,
    /// Slots that have a first try, and those of which a try was down: by number, or by minute where slots have none.
    stored: Bits,
    down: Bits,
    /// First tries that were down, and that could not tell.
    down_first: Bits,
    unknown_first: Bits,
    /// The newest of further tries: the last one decides.
    later: BTreeMap<i64, (u32, Outcome)>,
    /// Slots in a window of maintenance.
    maintenance: Bits,
    /// Of exchanges that came to their end, also between slots.
    pub(super) latency: Option<Box<Histogram>>,
    letters: Bits,
    /// Instants that are no slots, and whether they were down.
    off_slot: BTreeMap<i64, bool>,
    pub(super) off_slot_more: u64,
    /// Rows that stand for several slots.
    together: Vec<StandsFor>,
    pub(super) first_us: i64,
    pub(super) last_us: i64,
    /// The highest number that any of its measurements has: the log of its check was read up to there.
    pub(super) last_seq: i64,
    pub(super) counts: Counts,
}

/// Slots, or first tries, of one check or of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// The sum of all the others but `more_tries` and `rechecks`.
    pub(crate) due: u64,
    pub(crate) known: u64,
    /// By reason.
    pub(crate) unknown: BTreeMap<String, u64>,
    pub(crate) dead_lettered: u64,
    /// Told in a row that stands for several slots.
    pub(crate) told_together: u64,
    pub(crate) on_the_way: u64,
    /// Their sink gave them up, and the prober says so.
    pub(crate) given_up: u64,
    /// Lost with a prober that died.
    pub(crate) died: u64,
    /// From before what the store knows of their boot in full.
    pub(crate) unproven: u64,
    /// Retention has dropped the rows of the time.
    pub(crate) dropped: u64,
    pub(crate) missing: u64,
    /// Second and further tries of slots.
    pub(crate) more_tries: u64,
    /// Between slots, while a check was down.
    pub(crate) rechecks: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Counts) {
        self.due += other.due;
        self.known += other.known;
        for (reason, count) in &other.unknown {
            *self.unknown.entry(reason.clone()).or_default() += count;
        }
        self.dead_lettered += other.dead_lettered;
        self.told_together += other.told_together;
        self.on_the_way += other.on_the_way;
        self.given_up += other.given_up;
        self.died += other.died;
        self.unproven += other.unproven;
        self.dropped += other.dropped;
        self.missing += other.missing;
        self.more_tries += other.more_tries;
        self.rechecks += other.rechecks;
    }
}

impl Lane {
    pub(super) fn new(slots: Slots) -> Lane {
        Lane {
            slots,
            stored: Bits::default(),
            down: Bits::default(),
            down_first: Bits::default(),
            unknown_first: Bits::default(),
            later: BTreeMap::new(),
            maintenance: Bits::default(),
            latency: None,
            letters: Bits::default(),
            off_slot: BTreeMap::new(),
            off_slot_more: 0,
            together: Vec::new(),
            first_us: i64::MAX,
            last_us: i64::MIN,
            last_seq: 0,
            counts: Counts::default(),
        }
    }

    /// What stands for a slot in the sets; none where nothing was due.
    pub(super) fn key(&self, at_us: i64) -> Option<i64> {
        match self.slots.is_numbered() {
            true => self.slots.number(at_us),
            false => (self.slots.at_or_after(at_us) == at_us).then(|| at_us.div_euclid(MINUTE_US)),
        }
    }

    /// The key of the first slot at or after an instant.
    fn key_from(&self, at_us: i64) -> i64 {
        let slot = self.slots.at_or_after(at_us);
        match self.slots.is_numbered() {
            true => self.slots.number(slot).unwrap_or(i64::MAX),
            false => slot.div_euclid(MINUTE_US),
        }
    }

    /// `counted`: the slot is one of the audit's own window.
    pub(super) fn row(&mut self, row: &AuditRow<'_>, counted: bool) {
        let down = row.outcome == Outcome::Down;
        self.last_seq = self.last_seq.max(number_of(row.seq));
        if let (Some(total_us), Some(latency), true) = (row.total_us, &mut self.latency, counted) {
            latency.add(total_us);
        }
        let Some(key) = self.key(row.slot_us) else {
            if self.off_slot.len() < OFF_SLOT_MAX {
                *self.off_slot.entry(row.slot_us).or_default() |= down;
            } else {
                self.off_slot_more += 1;
            }
            return;
        };
        self.first_us = self.first_us.min(row.slot_us);
        self.last_us = self.last_us.max(row.slot_us);
        if down {
            self.down.add(key);
        }
        if row.maintenance {
            self.maintenance.add(key);
        }
        if row.attempt > 1 {
            let later = self.later.entry(key).or_insert((row.attempt, row.outcome));
            if row.attempt > later.0 {
                *later = (row.attempt, row.outcome);
            }
            self.counts.more_tries += u64::from(counted);
            return;
        }
        if let Some(message) = row.message
            && let Some(together) = StandsFor::read(message)
        {
            self.last_us = self.last_us.max(together.last_us);
            self.together.push(together);
        }
        match row.outcome {
            Outcome::Down => self.down_first.add(key),
            Outcome::Unknown => self.unknown_first.add(key),
            Outcome::Up | Outcome::Degraded => false,
        };
        if self.stored.add(key) && counted {
            match (row.outcome, row.error_kind) {
                (Outcome::Unknown, kind) => {
                    let reason = kind.unwrap_or("match");
                    match self.counts.unknown.get_mut(reason) {
                        Some(count) => *count += 1,
                        None => {
                            self.counts.unknown.insert(reason.to_owned(), 1);
                        }
                    }
                }
                _ => self.counts.known += 1,
            }
        }
    }

    /// A measurement of the slot is among the dead letters, and perhaps tells of more slots.
    pub(super) fn letter(&mut self, at_us: i64, seq: u64, message: Option<&str>) {
        self.last_seq = self.last_seq.max(number_of(seq));
        if let Some(key) = self.key(at_us)
            && self.letters.add(key)
            && !self.stored.has(key)
        {
            self.together.extend(message.and_then(StandsFor::read));
        }
    }

    /// Whether no slot lies between two.
    pub(super) fn follow(&self, slot_us: i64, next_us: i64) -> bool {
        self.slots.next(slot_us) == next_us
    }

    pub(super) fn has(&self, at_us: i64) -> bool {
        self.key(at_us).is_some_and(|key| self.stored.has(key))
    }

    /// Whether another lane of the same definition took turns with this one: it has a slot before one of this, another one
    /// behind that, and so on.
    pub(super) fn takes_turns(&self, other: &Lane) -> bool {
        let turns = [&self.stored, &other.stored, &self.stored, &other.stored];
        turns.into_iter().try_fold(i64::MAX, |behind, stored| stored.before(behind)).is_some()
    }

    pub(super) fn has_letter(&self, at_us: i64) -> bool {
        self.key(at_us).is_some_and(|key| self.letters.has(key))
    }

    /// Slots from one instant up to and without another that have no first try.
    pub(super) fn holes(&self, from_us: i64, until_us: i64) -> Vec<i64> {
        if from_us >= until_us {
            return Vec::new();
        }
        let first = self.slots.at_or_after(from_us);
        if !self.slots.is_numbered() {
            let mut slot = first;
            let mut holes = Vec::new();
            while slot < until_us {
                if !self.stored.has(slot.div_euclid(MINUTE_US)) {
                    holes.push(slot);
                }
                slot = self.slots.next(slot);
            }
            return holes;
        }
        let holes = self.stored.holes(self.key_from(from_us), self.key_from(until_us));
        holes.into_iter().flat_map(|(first, last)| first..=last).map(|n| self.slots.of_number(n)).collect()
    }

    /// Rows between the slots: how many are looks at a check that was down just before, and the others.
    pub(super) fn between_slots(&self) -> (u64, BTreeSet<i64>) {
        let mut rechecks = 0;
        let mut others = BTreeSet::new();
        let mut before: Option<(i64, bool)> = None;
        for (at_us, down) in &self.off_slot {
            let slot_before = self.slot_before(*at_us);
            // Whichever was nearer decides.
            let was_down = match before {
                Some((look_us, was_down)) if slot_before.is_none_or(|slot| slot.0 < look_us) => was_down,
                _ => slot_before.is_some_and(|slot| slot.1),
            };
            match was_down {
                true => rechecks += 1,
                false => {
                    others.insert(*at_us);
                }
            }
            before = Some((*at_us, *down));
        }
        (rechecks, others)
    }

    /// The newest slot with a row before an instant, and whether it was down.
    fn slot_before(&self, at_us: i64) -> Option<(i64, bool)> {
        let before = self.stored.before(self.key_from(at_us))?;
        let slot = match self.slots.is_numbered() {
            true => self.slots.of_number(before),
            false => self.slots.at_or_after(before.saturating_mul(MINUTE_US)),
        };
        Some((slot, self.down.has(before)))
    }

    /// The keys of slots from one instant up to and without another.
    pub(super) fn keys(&self, from_us: i64, until_us: i64) -> (i64, i64) {
        (self.key_from(from_us), self.key_from(until_us))
    }

    /// Slots with a row, those whose outcome is known, and of these those that were down. The last try decides.
    pub(super) fn decided(&self) -> (Bits, Bits, Bits) {
        let (mut stored, mut known, mut down) = (Bits::default(), Bits::default(), Bits::default());
        stored.add_all(&self.stored);
        known.add_all(&self.stored);
        known.remove_all(&self.unknown_first);
        down.add_all(&self.down_first);
        for (key, (_, outcome)) in &self.later {
            let mut one = Bits::default();
            one.add(*key);
            match outcome {
                Outcome::Unknown => known.remove_all(&one),
                _ => known.add_all(&one),
            }
            match outcome {
                Outcome::Down => down.add_all(&one),
                _ => down.remove_all(&one),
            }
        }
        (stored, known, down)
    }

    /// Slots in a window of maintenance.
    pub(super) fn maintenance(&self) -> &Bits {
        &self.maintenance
    }

    pub(super) fn together(&self) -> &[StandsFor] {
        &self.together
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stored.count() == 0
    }
}
