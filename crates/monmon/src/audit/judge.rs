//! Holds what a store has against what its probers say, and names what does not fit.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use monmon_http::StandsFor;
use uuid::Uuid;

use super::bits::Bits;
use super::finding::{Finding, Kind};
use super::lane::Counts;
use super::ledger::{Boot, Ledger, Origin};
use super::lives::{Life, lives};
use super::report::{BootState, Boots, CheckLine, Numbers, PartitionLine, ProberLine, Receipts, Report};

/// Checks and probers that are listed, at most.
const LINES_MAX: usize = 10_000;
/// What is heard of a prober that runs is at most this old: a receipt a minute, and its way.
const HEARD_US: i64 = 180_000_000;

/// One prober's slots of one check, over all boots.
type Watched = (Uuid, Uuid);

pub(super) struct Judge {
    pub(super) ledger: Ledger,
    /// By boot.
    lives: Vec<Life>,
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

    /// The numbers and receipts of one boot.
    fn boot(&mut self, number: usize) {
        let life = self.lives[number].clone();
        let named = self.named(number, None);
        let boot = &self.ledger.boots[number];
        self.numbers.count += boot.seqs.count();
        let doubled: Vec<Finding> = boot
            .seqs_doubled
            .iter()
            .map(|seq| Finding { first: long(*seq), last: long(*seq), ..named.clone() })
            .collect();
        for finding in doubled {
            self.ledger.findings.add(Kind::SeqDoubled, 1, || finding);
        }
        let missing = match self.ledger.boots[number].receipts.is_empty() {
            true => self.without_receipts(number, &life, &named),
            false => self.sums(number, &life, &named),
        };
        if life.is_shared {
            let message = match missing.iter().map(|(first, last)| last - first + 1).sum::<i64>() {
                0 => None,
                count => {
                    Some(format!("{count} of its numbers are not stored; the other's slots may stand there"))
                }
            };
            self.ledger.findings.add(Kind::SharedProber, 1, || Finding {
                at: at(life.began_us),
                message,
                ..named
            });
            return;
        }
        for (first, last) in missing {
            let count = u64::try_from(last - first + 1).unwrap_or(0);
            let named = named.clone();
            let hole = || Finding { first: Some(first), last: Some(last), ..named };
            self.ledger.findings.add(Kind::SeqHole, count, hole);
        }
    }

    /// Of a boot that gave no receipt only its numbers can be looked at, and of one that lived too shortly for one not
    /// even these: they may never have left it.
    fn without_receipts(&mut self, number: usize, life: &Life, named: &Finding) -> Vec<(i64, i64)> {
        let boot = &self.ledger.boots[number];
        let (first_us, last_us) = (boot.first_us, boot.last_us);
        let since = Finding { at: at(first_us), ..named.clone() };
        let holes = match boot.seqs.last() {
            Some(last) if life.is_whole && life.is_judged => boot.seqs.holes(1, last + 1),
            _ => Vec::new(),
        };
        if last_us >= self.ledger.scope.since_us && first_us < self.ledger.scope.settled_us {
            self.ledger.findings.add(Kind::NoReceipts, 1, || since);
        }
        holes
    }

    /// Holds each receipt against the rows that it is about. Gives numbers that are not stored.
    fn sums(&mut self, number: usize, life: &Life, named: &Finding) -> Vec<(i64, i64)> {
        let scope = self.ledger.scope.clone();
        let boot = &self.ledger.boots[number];
        let mut missing = Vec::new();
        let mut found: Vec<(Kind, Finding)> = Vec::new();
        let mut next_seq = life.is_whole.then_some(1_u64);
        let mut slots_from_us = boot.receipts[0].receipt.slots_from_us;
        for sum in &boot.receipts {
            let receipt = &sum.receipt;
            let between = |first: u64, last: u64| Finding {
                first: long(first),
                last: long(last),
                at: at(receipt.at_us),
                ..named.clone()
            };
            let from_us = std::mem::replace(&mut slots_from_us, receipt.slots_until_us);
            if receipt.at_us < scope.since_us || from_us >= scope.until_us {
                next_seq = Some(receipt.last_seq.saturating_add(1));
                continue;
            }
            self.receipts.count += 1;
            if let Some(next) = next_seq
                && next < receipt.first_seq
            {
                found.push((Kind::ReceiptMissing, between(next, receipt.first_seq - 1)));
                let (first, end) = (number_of(next), number_of(receipt.first_seq));
                missing.extend(boot.seqs.holes(first, end));
            }
            next_seq = Some(receipt.last_seq.saturating_add(1));
            let expected = receipt.last_seq.saturating_add(1).saturating_sub(receipt.first_seq);
            let is_same = sum.count == expected && sum.ids_xor == receipt.ids_xor.as_u128();
            if self.ledger.is_dropped(from_us, receipt.at_us) {
                self.receipts.dropped += 1;
            } else if from_us < scope.read_since_us || receipt.at_us >= scope.read_until_us {
                self.receipts.outside += 1;
            } else if is_same {
                self.receipts.proven += 1;
            } else if receipt.at_us >= scope.settled_us {
                self.receipts.on_the_way += 1;
            } else if sum.count >= expected {
                found.push((Kind::ReceiptDiffers, between(receipt.first_seq, receipt.last_seq)));
            } else if expected - sum.count <= receipt.failed {
                self.receipts.proven += 1;
                self.given_up[number] += expected - sum.count;
            } else {
                let (first, end) = (number_of(receipt.first_seq), number_of(receipt.last_seq) + 1);
                missing.extend(boot.seqs.holes(first, end));
            }
        }
        let last_seq = boot.receipts.last().map_or(0, |sum| number_of(sum.receipt.last_seq));
        let newest = boot.seqs.last().unwrap_or(0);
        if newest > last_seq {
            let behind = boot.seqs.count_in(last_seq + 1, newest + 1);
            if life.has_ended {
                let beyond = Finding { first: Some(last_seq + 1), last: Some(newest), ..named.clone() };
                found.push((Kind::SeqBeyond, beyond));
            } else {
                self.numbers.without_receipt += behind;
            }
        }
        for (kind, finding) in found {
            self.ledger.findings.add(kind, 1, || finding);
        }
        missing
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
            let silent = self.silent.entry((watched.1, definition)).or_default();
            let lane = &self.ledger.lanes[number].1;
            for key in holes.iter().filter_map(|slot| lane.key(*slot)) {
                silent.add(key);
            }
        }
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
            } else if slot_us < proven_us && self.given_up[boot as usize] > 0 {
                self.given_up[boot as usize] -= 1;
                counts.given_up += 1;
            } else {
                let kind = match (slot_us < proven_us, life.is_newest) {
                    (true, _) => Kind::MissingSlot,
                    (false, true) => {
                        counts.on_the_way += 1;
                        continue;
                    }
                    // After an orderly end nothing may be left between it and the next boot.
                    (false, false) if life.has_ended => Kind::MissingSlot,
                    (false, false) => Kind::DiedSlot,
                };
                match kind {
                    Kind::DiedSlot => counts.died += 1,
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

    pub(super) fn report(mut self) -> Report {
        let mut boots = Boots::default();
        let mut probers: BTreeMap<(String, Origin), (i64, ProberLine)> = BTreeMap::new();
        for (number, life) in self.lives.iter().enumerate() {
            let boot = &self.ledger.boots[number];
            let Some(origin) = &boot.origin else { continue };
            boots.count += 1;
            let state = state(boot, life, &self.ledger);
            match state {
                BootState::Running => boots.running += 1,
                BootState::Ended => boots.ended += 1,
                BootState::Died | BootState::Silent => boots.died += 1,
            }
            let named = self.named(number, None);
            if matches!(state, BootState::Died | BootState::Silent) && !boot.receipts.is_empty() {
                let after = life.proven_us.and_then(at);
                self.ledger.findings.add(Kind::NotProvable, 1, || Finding { at: after, ..named });
            }
            let key = (self.prober(boot.prober), origin.clone());
            let line = ProberLine {
                prober: key.0.clone(),
                prober_id: boot.prober,
                pipeline: origin.pipeline.clone(),
                source: origin.source.clone(),
                boot: boot.id,
                state,
                proven_until: life.proven_us.and_then(at),
            };
            let newest = probers.entry(key).or_insert_with(|| (i64::MIN, line.clone()));
            if life.began_us >= newest.0 {
                *newest = (life.began_us, line);
            }
        }
        self.finish(boots, probers.into_values().map(|(_, line)| line).take(LINES_MAX).collect())
    }

    fn finish(mut self, boots: Boots, probers: Vec<ProberLine>) -> Report {
        let mut slots = Counts::default();
        let mut checks: Vec<CheckLine> = Vec::new();
        for ((prober, check_id), (lane, counts)) in &self.lines {
            slots.add(counts);
            let (_, definition) = self.ledger.lanes[*lane].0;
            let definition = &self.ledger.definitions[definition as usize];
            checks.push(CheckLine {
                check_id: *check_id,
                pipeline: definition.pipeline.clone(),
                source: definition.source.clone(),
                check: definition.name.clone(),
                prober: self.prober(*prober),
                slots: counts.clone(),
            });
        }
        // Those in which something is wrong first, then by name.
        checks.sort_by(|a, b| {
            let key = |line: &CheckLine| std::cmp::Reverse((line.slots.missing, line.slots.died));
            let name = |line: &CheckLine| {
                (line.pipeline.clone(), line.source.clone(), line.check.clone(), line.prober.clone())
            };
            key(a).cmp(&key(b)).then_with(|| name(a).cmp(&name(b)))
        });
        let checks_count = checks.len() as u64;
        checks.truncate(LINES_MAX);
        if self.ledger.rows == 0 && self.receipts.count == 0 {
            self.ledger.findings.add(Kind::NothingStored, 1, Finding::default);
        }
        let partitions = std::mem::take(&mut self.ledger.offsets.covered);
        let logs = std::mem::take(&mut self.ledger.offsets.logs);
        Report {
            version: 1,
            verdict: self.ledger.findings.verdict(),
            since: at(self.ledger.scope.since_us),
            until: at(self.ledger.scope.until_us),
            settled_until: at(self.ledger.scope.settled_us),
            rows: self.ledger.rows,
            dead_letters: self.ledger.letters,
            slots,
            checks_count,
            checks,
            probers,
            boots,
            receipts: self.receipts,
            numbers: self.numbers,
            batches: self.ledger.offsets.ranges,
            partitions: partitions
                .into_iter()
                .map(|((topic, partition), (first, last))| {
                    let log = logs.get(&(topic.clone(), partition));
                    PartitionLine {
                        first,
                        last,
                        log_start: log.map(|log| log.low),
                        log_end: log.map(|log| log.high),
                        committed: log.and_then(|log| log.committed),
                        topic,
                        partition,
                    }
                })
                .collect(),
            dropped_before: self.ledger.dropped_before_us().and_then(at),
            rollups: self.ledger.has_rollups,
            findings: self.ledger.findings,
        }
    }
}

fn state(boot: &Boot, life: &Life, ledger: &Ledger) -> BootState {
    let heard_us = boot.receipts.iter().map(|sum| sum.receipt.at_us).chain([boot.last_us]).max();
    match (life.has_ended || life.is_once, life.is_newest) {
        (true, _) => BootState::Ended,
        (false, false) => BootState::Died,
        (false, true) if heard_us.is_some_and(|at_us| at_us + HEARD_US >= ledger.scope.settled_us) => {
            BootState::Running
        }
        (false, true) => BootState::Silent,
    }
}

pub(super) fn at(at_us: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(at_us).ok().filter(|_| at_us > 0 && at_us < i64::MAX / 2)
}

fn long(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

fn number_of(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX - 1)
}
