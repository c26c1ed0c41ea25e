//! What is read of a store, kept in a form that is small: a bit for a slot and one for a number, a sum for a receipt. Rows
//! may come in any order.

use std::collections::{BTreeMap, HashMap};

use monmon_http::Slots;
use monmon_model::{
    AuditBoot, AuditDefinition, AuditFacts, AuditIncident, AuditLetter, AuditOffsets, AuditReader,
    AuditReceipt, AuditRollup, AuditRow, Event, Phase, Receipt, measurement_id, wire,
};
use uuid::Uuid;

use super::bits::Bits;
use super::finding::{Finding, Findings, Kind};
use super::lane::Lane;
use super::offsets::Offsets;

/// Rows whose ids are not made of what they tell, kept at most.
const FOREIGN_MAX: usize = 10_000;

/// What of a store is judged.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// Slots from here on, and up to there.
    pub(super) since_us: i64,
    pub(super) until_us: i64,
    /// What is newer than this may still be on its way.
    pub(super) settled_us: i64,
    /// The rows that were read reach from here to there.
    pub(super) read_since_us: i64,
    pub(super) read_until_us: i64,
    pub(super) pipeline: Option<String>,
    /// Only the slots of checks of this name.
    pub(super) check: Option<String>,
    /// Whether times are looked at, and silence after an orderly end is owed: for a report, which is about checks and not
    /// about rows.
    pub(super) for_report: bool,
}

impl Scope {
    /// Whether what was stored from one instant to another reaches over the window's ends.
    pub(super) fn is_at_an_end(&self, first_us: i64, last_us: i64) -> bool {
        let begins = self.since_us > super::EARLIEST_US && first_us < self.since_us;
        begins || (self.read_until_us < i64::MAX && last_us >= self.until_us)
    }
}

/// Where checks come from: the name of a pipeline and of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) pipeline: String,
    pub(super) source: String,
}

/// One life of a source.
#[derive(Debug)]
pub(super) struct Boot {
    pub(super) id: Uuid,
    pub(super) prober: Uuid,
    pub(super) origin: Option<Origin>,
    pub(super) receipts: Vec<Sum>,
    pub(super) seqs: Bits,
    pub(super) seqs_doubled: Vec<u64>,
    /// Over all rows.
    pub(super) first_us: i64,
    pub(super) last_us: i64,
}

/// A receipt, and the same of the rows that it is about.
#[derive(Debug)]
pub(super) struct Sum {
    pub(super) receipt: AuditReceipt,
    pub(super) count: u64,
    pub(super) ids_xor: u128,
    /// It is a dead letter itself. Letters come behind the rows: these are counted, and not summed up.
    pub(super) is_letter: bool,
}

/// A row under an id that is not its own.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) id: Uuid,
    pub(super) lane: (u32, u32),
    pub(super) slot_us: i64,
    pub(super) attempt: u32,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) scope: Scope,
    pub(super) probers: BTreeMap<Uuid, String>,
    pub(super) boots: Vec<Boot>,
    boot_numbers: HashMap<Uuid, u32>,
    pub(super) definitions: Vec<AuditDefinition>,
    definition_numbers: HashMap<Uuid, u32>,
    /// By boot and definition.
    lane_numbers: HashMap<(u32, u32), u32>,
    pub(super) lanes: Vec<((u32, u32), Lane)>,
    pub(super) foreign: Vec<Foreign>,
    pub(super) foreign_more: u64,
    dropped: Vec<(i64, i64)>,
    pub(super) has_rollups: bool,
    pub(super) incidents: Vec<AuditIncident>,
    pub(super) rows: u64,
    pub(super) letters: u64,
    pub(super) offsets: Offsets,
    pub(super) findings: Findings,
}

impl Ledger {
    pub(super) fn new(scope: Scope) -> Ledger {
        Ledger {
            scope,
            probers: BTreeMap::new(),
            boots: Vec::new(),
            boot_numbers: HashMap::new(),
            definitions: Vec::new(),
            definition_numbers: HashMap::new(),
            lane_numbers: HashMap::new(),
            lanes: Vec::new(),
            foreign: Vec::new(),
            foreign_more: 0,
            dropped: Vec::new(),
            has_rollups: false,
            incidents: Vec::new(),
            rows: 0,
            letters: 0,
            offsets: Offsets::default(),
            findings: Findings::default(),
        }
    }

    /// Whether retention has dropped measurements of a time.
    pub(super) fn is_dropped(&self, from_us: i64, until_us: i64) -> bool {
        self.dropped.iter().any(|(from, until)| from_us < *until && until_us >= *from)
    }

    /// The last instant of which measurements were dropped.
    pub(super) fn dropped_before_us(&self) -> Option<i64> {
        self.dropped.iter().map(|(_, until)| *until).max()
    }

    fn is_wanted(&self, pipeline: &str) -> bool {
        self.scope.pipeline.as_deref().is_none_or(|wanted| wanted == pipeline)
    }

    /// Whoever names what no store ever had has made a mistake: of what is not there all would be proven.
    pub(super) fn is_there(&self) -> Result<(), String> {
        let of_pipeline = || self.definitions.iter().filter(|of| self.is_wanted(&of.pipeline));
        match (&self.scope.pipeline, &self.scope.check) {
            (Some(pipeline), _) if of_pipeline().next().is_none() => {
                Err(format!("no check of a pipeline `{pipeline}` is stored"))
            }
            (_, Some(check)) if of_pipeline().all(|of| of.name != *check) => {
                Err(format!("no check `{check}` is stored"))
            }
            _ => Ok(()),
        }
    }

    fn add_boot(&mut self, boot: &AuditBoot) {
        let number = u32::try_from(self.boots.len()).unwrap_or(u32::MAX);
        self.boot_numbers.insert(boot.id, number);
        self.boots.push(Boot {
            id: boot.id,
            prober: boot.prober_id,
            origin: None,
            receipts: Vec::new(),
            seqs: Bits::default(),
            seqs_doubled: Vec::new(),
            first_us: i64::MAX,
            last_us: i64::MIN,
        });
    }

    /// The lane of a boot and a definition; none where the definition's slots cannot be worked out.
    fn lane(&mut self, boot: u32, definition: u32) -> Option<usize> {
        if let Some(number) = self.lane_numbers.get(&(boot, definition)) {
            return Some(*number as usize);
        }
        let AuditDefinition { check_id, interval_us, schedule, pipeline, source, .. } =
            &self.definitions[definition as usize];
        let slots = Slots::of(*check_id, *interval_us, schedule.as_deref()).ok()?;
        let origin = &mut self.boots[boot as usize].origin;
        if origin.is_none() {
            *origin = Some(Origin { pipeline: pipeline.clone(), source: source.clone() });
        }
        let number = self.lanes.len();
        self.lane_numbers.insert((boot, definition), u32::try_from(number).ok()?);
        let mut lane = Lane::new(slots);
        lane.latency = self.scope.for_report.then(Box::default);
        self.lanes.push(((boot, definition), lane));
        Some(number)
    }

    /// A measurement has this number in its boot.
    fn number(&mut self, boot: u32, seq: u64, id: Uuid) {
        let boot = &mut self.boots[boot as usize];
        if !boot.seqs.add(number_of(seq)) {
            boot.seqs_doubled.push(seq);
        }
        let at = boot.receipts.partition_point(|sum| sum.receipt.last_seq < seq);
        let sum = boot.receipts.get_mut(at).filter(|sum| !sum.is_letter && sum.receipt.first_seq <= seq);
        if let Some(sum) = sum {
            sum.count += 1;
            sum.ids_xor ^= id.as_u128();
        }
    }

    /// Which numbers a receipt is about is known, wherever it is stored.
    fn receipt_letter(&mut self, receipt: &Receipt) {
        if !self.is_wanted(&receipt.pipeline) {
            return;
        }
        let Some(number) = self.boot_numbers.get(&receipt.prober.boot) else { return };
        let boot = &mut self.boots[*number as usize];
        let key = |receipt: &AuditReceipt| (receipt.last_seq, receipt.first_seq, receipt.at_us);
        let receipt = AuditReceipt {
            boot_id: receipt.prober.boot,
            pipeline: receipt.pipeline.clone(),
            source: receipt.source.clone(),
            at_us: receipt.at.as_microsecond(),
            began_us: receipt.began_at.as_microsecond(),
            slots_from_us: receipt.slots_from.as_microsecond(),
            slots_until_us: receipt.slots_until.as_microsecond(),
            first_seq: receipt.first_seq,
            last_seq: receipt.last_seq,
            ids_xor: receipt.ids_xor,
            failed: receipt.failed,
            last: receipt.last,
        };
        if let Err(at) = boot.receipts.binary_search_by_key(&key(&receipt), |sum| key(&sum.receipt)) {
            boot.origin = Some(Origin { pipeline: receipt.pipeline.clone(), source: receipt.source.clone() });
            boot.receipts.insert(at, Sum { receipt, count: 0, ids_xor: 0, is_letter: true });
        }
    }

    fn unknown_reference(&mut self, id: Uuid, what: &str) {
        self.findings.add(Kind::UnknownReference, 1, || Finding {
            id: Some(id),
            message: Some(format!("its {what} is not stored")),
            ..Finding::default()
        });
    }
}

impl AuditReader for Ledger {
    fn facts(&mut self, facts: AuditFacts) {
        self.probers = facts.probers.into_iter().map(|prober| (prober.id, prober.name)).collect();
        facts.boots.iter().for_each(|boot| self.add_boot(boot));
        for (number, definition) in (0_u32..).zip(facts.definitions) {
            self.definition_numbers.insert(definition.id, number);
            self.definitions.push(definition);
        }
        self.dropped = facts.dropped;
        self.has_rollups = facts.has_rollups;
        self.incidents = facts.incidents;
        for receipt in facts.receipts {
            if !self.is_wanted(&receipt.pipeline) {
                continue;
            }
            let Some(number) = self.boot_numbers.get(&receipt.boot_id) else { continue };
            let boot = &mut self.boots[*number as usize];
            boot.origin = Some(Origin { pipeline: receipt.pipeline.clone(), source: receipt.source.clone() });
            boot.receipts.push(Sum { receipt, count: 0, ids_xor: 0, is_letter: false });
        }
        for boot in &mut self.boots {
            boot.receipts.sort_by_key(|sum| (sum.receipt.last_seq, sum.receipt.first_seq, sum.receipt.at_us));
        }
    }

    fn row(&mut self, row: &AuditRow<'_>) {
        let Some(definition) = self.definition_numbers.get(&row.definition_id).copied() else {
            return self.unknown_reference(row.id, "definition");
        };
        if !self.is_wanted(&self.definitions[definition as usize].pipeline) {
            return;
        }
        self.rows += 1;
        let Some(boot) = self.boot_numbers.get(&row.boot_id).copied() else {
            return self.unknown_reference(row.id, "boot");
        };
        let Some(lane) = self.lane(boot, definition) else {
            return self.unknown_reference(row.id, "schedule");
        };
        let slot = jiff::Timestamp::from_microsecond(row.slot_us).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let life = &mut self.boots[boot as usize];
        if row.id != measurement_id(life.prober, row.check_id, slot, row.attempt) {
            if self.foreign.len() < FOREIGN_MAX {
                let (lane, slot_us) = ((boot, definition), row.slot_us);
                self.foreign.push(Foreign { id: row.id, lane, slot_us, attempt: row.attempt });
            } else {
                self.foreign_more += 1;
            }
            return;
        }
        life.first_us = life.first_us.min(row.slot_us);
        life.last_us = life.last_us.max(row.slot_us);
        let counted = (self.scope.since_us..self.scope.until_us).contains(&row.slot_us);
        self.lanes[lane].1.row(row, counted);
        self.number(boot, row.seq, row.id);
    }

    fn letter(&mut self, letter: &AuditLetter<'_>) {
        // What cannot be read is nobody's measurement, as far as anyone can tell.
        let measurement = match wire::decode_message(letter.bytes) {
            Ok(wire::Message::Measurement(measurement)) => measurement,
            Ok(wire::Message::Event(Event::Receipt(receipt))) => return self.receipt_letter(&receipt),
            _ => return,
        };
        if !self.is_wanted(&measurement.check.pipeline) {
            return;
        }
        self.letters += 1;
        let Some(boot) = self.boot_numbers.get(&measurement.prober.boot).copied() else { return };
        let slot_us = measurement.scheduled_at.as_microsecond();
        let definition = monmon_model::definition_id(&measurement.check);
        if let Some(definition) = self.definition_numbers.get(&definition).copied()
            && let Some(lane) = self.lane(boot, definition)
            && measurement.attempt == 1
        {
            let never_begun = measurement.error.as_ref().filter(|error| error.phase == Phase::Start);
            self.lanes[lane].1.letter(slot_us, never_begun.map(|error| error.message.as_str()));
        }
        // Of a measurement that is stored as well, the row counts.
        if !self.boots[boot as usize].seqs.has(number_of(measurement.seq)) {
            self.number(boot, measurement.seq, measurement.id);
        }
    }

    fn offsets(&mut self, offsets: &AuditOffsets<'_>) {
        self.offsets.add(offsets);
    }

    fn rollup(&mut self, rollup: &AuditRollup<'_>) {
        let AuditRollup { level, check_id, start_us, difference } = *rollup;
        let of = self.definitions.iter().find(|definition| Some(definition.check_id) == check_id);
        if of.is_some_and(|definition| !self.is_wanted(&definition.pipeline)) {
            return;
        }
        let finding = Finding {
            pipeline: of.map(|definition| definition.pipeline.clone()),
            source: of.map(|definition| definition.source.clone()),
            check: of.map(|definition| definition.name.clone()),
            check_id,
            at: jiff::Timestamp::from_microsecond(start_us).ok(),
            message: Some(format!("{level}: {difference}")),
            ..Finding::default()
        };
        self.findings.add(Kind::RollupDiffers, 1, || finding);
    }
}

/// A number as the sets have it.
pub(super) fn number_of(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX).min(i64::MAX - 1)
}
