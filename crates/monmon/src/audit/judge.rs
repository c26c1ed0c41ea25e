//! Holds what a store has against what its probers say, and names what does not fit.

mod numbers;
mod summary;
mod way;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use monmon_http::StandsFor;
use uuid::Uuid;

use super::bits::Bits;
use super::finding::{Finding, Kind};
use super::lane::Counts;
use super::ledger::Ledger;
use super::lives::{Life, lives};
use super::offsets::Way;
use super::report::{Numbers, Receipts, Report};

/// One prober's slots of one check, over all boots.
type Watched = (Uuid, Uuid);

pub(super) struct Judge {
    pub(super) ledger: Ledger,
    /// By boot.
    lives: Vec<Life>,
    way: Way,
    pub(super) lanes_of: BTreeMap<Watched, Vec<usize>>,
    /// Which boots have which checks.
    watched_in: BTreeSet<(u32, Uuid)>,
    together: BTreeMap<Watched, Vec<(StandsFor, u64)>>,
    /// By boot: measurements that a sink gave up, and that are not stored.
    given_up: Vec<u64>,
    receipts: Receipts,
    numbers: Numbers,
    lines: BTreeMap<Watched, (usize, Counts)>,
    /// Slots without a row, by check and definition; for a report only.
    pub(super) silent: BTreeMap<(Uuid, u32), Bits>,
}

pub(super) fn judge(ledger: Ledger) -> Report {
    judged(ledger).report()
}

/// With everything in it that is needed to tell how each check fared.
pub(super) fn judged(ledger: Ledger) -> Judge {
    let lives = lives(&ledger);
    let mut judge = Judge {
        way: ledger.offsets.way(&ledger.scope),
        given_up: vec![0; ledger.boots.len()],
        lives,
        lanes_of: BTreeMap::new(),
        watched_in: BTreeSet::new(),
        together: BTreeMap::new(),
        receipts: Receipts::default(),
        numbers: Numbers::default(),
        lines: BTreeMap::new(),
        silent: BTreeMap::new(),
        ledger,
    };
    judge.arrange();
    judge.foreign();
    judge.ledger.offsets.judge(&judge.ledger.scope, &mut judge.ledger.findings);
    for boot in 0..judge.ledger.boots.len() {
        if judge.ledger.boots[boot].origin.is_some() {
            judge.boot(boot);
        }
    }
    for lane in 0..judge.ledger.lanes.len() {
        judge.lane(lane);
    }
    judge
}

impl Judge {
    fn arrange(&mut self) {
        for (at, ((boot, definition), lane)) in self.ledger.lanes.iter().enumerate() {
            let check = self.ledger.definitions[*definition as usize].check_id;
            let watched = (self.ledger.boots[*boot as usize].prober, check);
            self.lanes_of.entry(watched).or_default().push(at);
            if !lane.is_empty() {
                self.watched_in.insert((*boot, check));
            }
            let told = lane.together().iter().map(|together| (*together, together.slots.saturating_sub(1)));
            self.together.entry(watched).or_default().extend(told);
        }
        for told in self.together.values_mut() {
            told.sort_by_key(|(together, _)| (together.first_us, together.last_us));
        }
    }

    fn watched(&self, lane: usize) -> Watched {
        let (boot, definition) = self.ledger.lanes[lane].0;
        (self.ledger.boots[boot as usize].prober, self.ledger.definitions[definition as usize].check_id)
    }

    /// Names of a boot and, if there is one, of a check.
    fn named(&self, boot: usize, definition: Option<u32>) -> Finding {
        let boot = &self.ledger.boots[boot];
        let definition = definition.map(|number| &self.ledger.definitions[number as usize]);
        Finding {
            pipeline: boot.origin.as_ref().map(|origin| origin.pipeline.clone()),
            source: boot.origin.as_ref().map(|origin| origin.source.clone()),
            check: definition.map(|definition| definition.name.clone()),
            check_id: definition.map(|definition| definition.check_id),
            prober: Some(self.prober(boot.prober)),
            boot: Some(boot.id),
            ..Finding::default()
        }
    }

    pub(super) fn prober(&self, id: Uuid) -> String {
        self.ledger.probers.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// Rows under ids that are not theirs: the second row of a slot, or the only one.
    fn foreign(&mut self) {
        for row in std::mem::take(&mut self.ledger.foreign) {
            let (boot, definition) = row.lane;
            if !self.is_asked_for(definition) {
                continue;
            }
            let check = self.ledger.definitions[definition as usize].check_id;
            let watched = (self.ledger.boots[boot as usize].prober, check);
            let lanes = self.lanes_of.get(&watched).map(Vec::as_slice).unwrap_or_default();
            let is_second = lanes.iter().any(|lane| self.ledger.lanes[*lane].1.has(row.slot_us));
            let kind = if is_second { Kind::Doubled } else { Kind::ForeignId };
            let finding = Finding {
                id: Some(row.id),
                at: at(row.slot_us),
                message: (row.attempt > 1).then(|| format!("attempt {}", row.attempt)),
                ..self.named(boot as usize, Some(definition))
            };
            self.ledger.findings.add(kind, 1, || finding);
        }
        if self.ledger.foreign_more > 0 {
            let (more, finding) = (self.ledger.foreign_more, Finding::default());
            self.ledger.findings.add(Kind::ForeignId, more, || finding);
        }
    }

    /// The slots of one check in one boot.
    fn lane(&mut self, number: usize) {
        let ((boot, definition), _) = self.ledger.lanes[number];
        let watched = self.watched(number);
        let life = self.lives[boot as usize].clone();
        let scope = self.ledger.scope.clone();
        if !self.is_asked_for(definition) {
            return;
        }
        self.between_slots(number, &life);
        let (start_us, proven_us, end_us) = self.spans(number, &life);
        let (start_us, end_us) = (start_us.max(scope.since_us), end_us.min(scope.until_us));
        let holes = self.ledger.lanes[number].1.holes(start_us, end_us);
        let mut counts = std::mem::take(&mut self.ledger.lanes[number].1.counts);
        if scope.for_report {
            // Where a prober was dark since before the window, nothing in it tells who was there before.
            let is_dark = life.slots_from_us < life.began_us
                && self.ledger.definitions[definition as usize].first_seen_us < life.began_us;
            let dark_us = if is_dark { life.slots_from_us.max(scope.since_us) } else { start_us };
            let silent = self.silent.entry((watched.1, definition)).or_default();
            let lane = &self.ledger.lanes[number].1;
            let before = lane.holes(dark_us, start_us.min(end_us));
            for key in before.iter().chain(&holes).filter_map(|slot| lane.key(*slot)) {
                silent.add(key);
            }
        }
        // One row that was given up may have stood for several slots.
        let mut given_up_us = None;
        for slot_us in holes {
            if self.is_elsewhere(watched, number, slot_us) {
                continue;
            }
            let lanes = &self.lanes_of[&watched];
            if self.ledger.is_dropped(slot_us, slot_us) {
                counts.dropped += 1;
            } else if lanes.iter().any(|lane| self.ledger.lanes[*lane].1.has_letter(slot_us)) {
                counts.dead_lettered += 1;
            } else if self.is_told_together(watched, slot_us) {
                counts.told_together += 1;
            } else if slot_us >= scope.settled_us {
                counts.on_the_way += 1;
            } else if slot_us < proven_us
                && given_up_us.is_some_and(|before_us| self.ledger.lanes[number].1.follow(before_us, slot_us))
            {
                given_up_us = Some(slot_us);
                counts.given_up += 1;
            } else if slot_us < proven_us && self.given_up[boot as usize] > 0 {
                self.given_up[boot as usize] -= 1;
                given_up_us = Some(slot_us);
                counts.given_up += 1;
            } else if life.joined_us.is_some_and(|joined_us| slot_us < joined_us) {
                counts.unproven += 1;
            } else {
                let kind = match (slot_us < proven_us, life.is_newest) {
                    (true, _) => Kind::MissingSlot,
                    (false, true) => {
                        counts.on_the_way += 1;
                        continue;
                    }
                    // A boot accounts for slots from where the one before it stood. If the next one does not, there was
                    // another between them, which died before anything of it was stored.
                    (false, false) => Kind::DiedSlot,
                };
                let kind = match kind {
                    Kind::MissingSlot if !self.is_passed(watched.1, boot, slot_us) => Kind::AwaitedSlot,
                    kind => kind,
                };
                match kind {
                    Kind::DiedSlot => counts.died += 1,
                    Kind::AwaitedSlot => counts.on_the_way += 1,
                    _ => counts.missing += 1,
                }
                let finding = Finding { at: at(slot_us), ..self.named(boot as usize, Some(definition)) };
                self.ledger.findings.add(kind, 1, || finding);
            }
        }
        let unknown: u64 = counts.unknown.values().sum();
        counts.due = counts.known
            + unknown
            + counts.dead_lettered
            + counts.told_together
            + counts.on_the_way
            + counts.given_up
            + counts.died
            + counts.unproven
            + counts.dropped
            + counts.missing;
        self.lines.entry(watched).or_insert_with(|| (number, Counts::default())).1.add(&counts);
    }

    fn is_asked_for(&self, definition: u32) -> bool {
        let name = &self.ledger.definitions[definition as usize].name;
        self.ledger.scope.check.as_ref().is_none_or(|check| check == name)
    }

    /// From when on a lane's slots are due, until when its prober has accounted for them, and until when they are due.
    fn spans(&self, number: usize, life: &Life) -> (i64, i64, i64) {
        let ((boot, definition), lane) = &self.ledger.lanes[number];
        let check = self.ledger.definitions[*definition as usize].check_id;
        let seen_end_us = lane.last_us.saturating_add(1);
        if lane.is_empty() || life.is_once {
            return (0, 0, 0);
        }
        let is_alone = self.lanes_of[&self.watched(number)]
            .iter()
            .filter(|lane| self.ledger.lanes[**lane].0.0 == *boot)
            .count()
            == 1;
        let Some(proven_us) = life.proven_us.filter(|_| is_alone) else {
            // Between the first and the last row of it: nothing else is known.
            let proven_us = if life.is_judged { seen_end_us } else { lane.first_us };
            return (lane.first_us, proven_us, seen_end_us);
        };
        let was_there = life.before.is_some_and(|before| self.watched_in.contains(&(before, check)));
        let start_us = if was_there { life.slots_from_us } else { life.began_us };
        let start_us = if life.joined_us.is_some() { start_us.max(lane.first_us) } else { start_us };
        let end_us = match life.next {
            Some(next) if self.watched_in.contains(&(next, check)) => {
                self.lives[next as usize].slots_from_us.max(proven_us)
            }
            // It may have been taken out of the file.
            Some(_) => seen_end_us.max(proven_us),
            None if life.has_ended && !self.ledger.scope.for_report => proven_us,
            None => i64::MAX,
        };
        (start_us, proven_us, end_us)
    }

    /// Whether another boot of the same prober has a row for the slot.
    fn is_elsewhere(&self, watched: Watched, number: usize, slot_us: i64) -> bool {
        let others = self.lanes_of[&watched].iter().filter(|lane| **lane != number);
        others.map(|lane| &self.ledger.lanes[*lane].1).any(|lane| lane.has(slot_us))
    }

    fn is_told_together(&mut self, watched: Watched, slot_us: i64) -> bool {
        let Some(told) = self.together.get_mut(&watched) else { return false };
        for (together, left) in told.iter_mut() {
            if (together.first_us..=together.last_us).contains(&slot_us) && *left > 0 {
                *left -= 1;
                return true;
            }
        }
        false
    }

    fn between_slots(&mut self, number: usize, life: &Life) {
        let ((boot, definition), lane) = &self.ledger.lanes[number];
        let (boot, definition, more) = (*boot, *definition, lane.off_slot_more);
        if life.is_once {
            return;
        }
        let (rechecks, others) = lane.between_slots();
        self.ledger.lanes[number].1.counts.rechecks += rechecks;
        let scope = &self.ledger.scope;
        let within = scope.since_us..scope.until_us;
        for slot_us in others.into_iter().filter(|slot| within.contains(slot)) {
            let finding = Finding { at: at(slot_us), ..self.named(boot as usize, Some(definition)) };
            self.ledger.findings.add(Kind::OffSlot, 1, || finding);
        }
        if more > 0 {
            let finding = self.named(boot as usize, Some(definition));
            self.ledger.findings.add(Kind::OffSlot, more, || finding);
        }
    }
}

pub(super) fn at(at_us: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(at_us).ok().filter(|_| at_us > 0 && at_us < i64::MAX / 2)
}

fn long(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}
