//! What it all comes to.

use std::collections::BTreeMap;

use super::{Judge, at};
use crate::audit::finding::{Finding, Kind};
use crate::audit::lane::Counts;
use crate::audit::ledger::{Boot, Ledger, Origin};
use crate::audit::lives::Life;
use crate::audit::report::{BootState, Boots, CheckLine, PartitionLine, ProberLine, Report};

/// Checks and probers that are listed, at most.
const LINES_MAX: usize = 10_000;
/// What is heard of a prober that runs is at most this old: a receipt a minute, and its way.
const HEARD_US: i64 = 180_000_000;

impl Judge {
    pub(in crate::audit) fn report(mut self) -> Report {
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
            // From its last receipt to the next boot nothing is proven, as far as that lies in the window.
            let next_us = life.next.map_or(i64::MAX, |next| self.lives[next as usize].slots_from_us);
            let is_within = next_us > self.ledger.scope.since_us;
            if matches!(state, BootState::Died | BootState::Silent) && is_within && !boot.receipts.is_empty()
            {
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
        let is_nothing_due = self.ledger.scope.check.is_some() && slots.due == 0;
        if is_nothing_due || (self.ledger.rows == 0 && self.receipts.count == 0) {
            self.ledger.findings.add(Kind::NothingStored, 1, Finding::default);
        }
        let offsets = std::mem::take(&mut self.ledger.offsets);
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
            batches: offsets.ranges,
            partitions: offsets
                .covered()
                .map(|(key, (first, last))| {
                    let log = offsets.logs.get(key);
                    PartitionLine {
                        first,
                        last,
                        log_start: log.map(|log| log.low),
                        log_end: log.map(|log| log.high),
                        committed: log.and_then(|log| log.committed),
                        topic: key.0.clone(),
                        partition: key.1,
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
    let heard_us = boot.receipts.iter().map(|sum| sum.at_us).chain([boot.last_us]).max();
    let is_proven = life.proven_us.is_some_and(|proven_us| proven_us >= ledger.scope.until_us);
    match (life.has_ended || life.is_once, life.is_newest) {
        (true, _) => BootState::Ended,
        // A window that it has accounted for up to its end needs nothing more of it.
        (false, _) if is_proven => BootState::Running,
        (false, false) => BootState::Died,
        (false, true)
            if heard_us.is_some_and(|at_us| at_us.saturating_add(HEARD_US) >= ledger.scope.settled_us) =>
        {
            BootState::Running
        }
        (false, true) => BootState::Silent,
    }
}
