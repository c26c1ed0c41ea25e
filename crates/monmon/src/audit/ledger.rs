//! What is read of a store, kept in a form that is small: a bit for a slot and one for a number, a sum for a receipt. Rows
//! may come in any order.

use std::collections::{BTreeMap, HashMap};

use monmon_http::Slots;
use monmon_model::{
    AuditBoot, AuditDefinition, AuditFacts, AuditIncident, AuditLetter, AuditOffsets, AuditReader,
    AuditReceipt, AuditRollup, AuditRow, AuditSum, AuditTimes, Event, Histogram, Phase, Receipt,
    measurement_id, wire,
};
use uuid::Uuid;

use super::bits::Bits;
use super::finding::{Finding, Findings, Kind};
use super::lane::Lane;
use super::offsets::Offsets;

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;
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
    /// A part of it within the window: where the window begins or ends within an hour, without that hour.
    pub(super) fn clip_to_hours(&self, (from_us, until_us): (i64, i64)) -> (i64, i64) {
        let hour_from = |at_us: i64| match at_us.rem_euclid(HOUR_US) {
            0 => at_us,
            past => at_us.saturating_add(HOUR_US - past),
        };
        let until = self.until_us - self.until_us.rem_euclid(HOUR_US);
        (from_us.max(hour_from(self.since_us)), until_us.min(until))
    }

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
    /// In the order of their numbers.
    pub(super) receipts: Vec<Sum>,
    /// As the receipts say: when it began, and from when on it accounts for slots of checks that were there before.
    pub(super) began_us: i64,
    pub(super) slots_from_us: i64,
    pub(super) seqs: Bits,
    pub(super) seqs_doubled: Vec<u64>,
    /// Over all rows.
    pub(super) first_us: i64,
    pub(super) last_us: i64,
}

/// A receipt, and the same of the rows that it is about: there are half a million a year of each source, so no more is
/// kept of one than is looked at.
#[derive(Debug)]
pub(super) struct Sum {
    pub(super) at_us: i64,
    pub(super) slots_until_us: i64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) failed: u64,
    pub(super) count: u64,
    /// The receipt's XOR of ids and that of the rows, one XORed with the other: nothing where they are the same.
    pub(super) ids_xor: Uuid,
    pub(super) last: bool,
    /// It is a dead letter itself. Letters come behind the rows: these are counted, and not summed up.
    pub(super) is_letter: bool,
}

impl Sum {
    fn key(&self) -> (u64, u64, i64) {
        (self.last_seq, self.first_seq, self.at_us)
    }
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
    pub(super) definition_numbers: HashMap<Uuid, u32>,
    /// By boot and definition.
    lane_numbers: HashMap<(u32, u32), u32>,
    pub(super) lanes: Vec<((u32, u32), Lane)>,
    pub(super) foreign: Vec<Foreign>,
    pub(super) foreign_more: u64,
    dropped: Vec<(i64, i64)>,
    pub(super) has_rollups: bool,
    pub(super) incidents: Vec<AuditIncident>,
    /// With the instants from which on they are known to have been taken out; for a report only.
    pub(super) checks: Vec<(Uuid, Option<i64>)>,
    pub(super) rows: u64,
    pub(super) letters: u64,
    pub(super) offsets: Offsets,
    pub(super) findings: Findings,
    /// Of days of which measurements have gone; for a report only.
    pub(super) sums: Vec<AuditSum>,
    /// By check: the first and the last slot that any of them tells of, within the window or not.
    pub(super) summed: BTreeMap<Uuid, (i64, i64)>,
    pub(super) times: BTreeMap<Uuid, Times>,
}

/// What is known of a check's times before its measurements went.
#[derive(Debug, Default)]
pub(super) struct Times {
    pub(super) histogram: Histogram,
    /// With the end of the last day or hour in which each is known to have measured it.
    pub(super) probers: BTreeMap<Uuid, i64>,
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
            checks: Vec::new(),
            rows: 0,
            letters: 0,
            offsets: Offsets::default(),
            findings: Findings::default(),
            sums: Vec::new(),
            summed: BTreeMap::new(),
            times: BTreeMap::new(),
        }
    }

    /// Whether retention has dropped measurements of a time.
    pub(super) fn is_dropped(&self, from_us: i64, until_us: i64) -> bool {
        self.dropped.iter().any(|(from, until)| from_us < *until && until_us >= *from)
    }

    /// Times of which measurements have gone, in their order.
    pub(super) fn dropped(&self) -> &[(i64, i64)] {
        &self.dropped
    }

    /// Days that lie in the window as a whole, and hours of those that do not.
    fn is_summed(&self, start_us: i64, width_us: i64) -> bool {
        let scope = &self.scope;
        let is_within = |start_us: i64, width_us: i64| {
            start_us >= scope.since_us && start_us.saturating_add(width_us) <= scope.until_us
        };
        let day_us = start_us - start_us.rem_euclid(DAY_US);
        is_within(start_us, width_us) && (width_us == DAY_US || !is_within(day_us, DAY_US))
    }

    /// The last instant of which measurements were dropped.
    pub(super) fn dropped_before_us(&self) -> Option<i64> {
        self.dropped.iter().map(|(_, until)| *until).max()
    }

    pub(super) fn is_wanted(&self, pipeline: &str) -> bool {
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
            began_us: i64::MAX,
            slots_from_us: i64::MAX,
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
        let at = boot.receipts.partition_point(|sum| sum.last_seq < seq);
        let sum = boot.receipts.get_mut(at).filter(|sum| !sum.is_letter && sum.first_seq <= seq);
        if let Some(sum) = sum {
            sum.count += 1;
            sum.ids_xor = Uuid::from_u128(sum.ids_xor.as_u128() ^ id.as_u128());
        }
    }

    fn add_receipt(&mut self, receipt: &AuditReceipt<'_>, is_letter: bool) {
        if !self.is_wanted(receipt.pipeline) {
            return;
        }
        let Some(number) = self.boot_numbers.get(&receipt.boot_id) else { return };
        let boot = &mut self.boots[*number as usize];
        let sum = Sum {
            at_us: receipt.at_us,
            slots_until_us: receipt.slots_until_us,
            first_seq: receipt.first_seq,
            last_seq: receipt.last_seq,
            failed: receipt.failed,
            count: 0,
            ids_xor: receipt.ids_xor,
            last: receipt.last,
            is_letter,
        };
        let at = match boot.receipts.binary_search_by_key(&sum.key(), Sum::key) {
            Ok(_) if is_letter => return,
            Ok(at) | Err(at) => at,
        };
        boot.receipts.insert(at, sum);
        boot.began_us = boot.began_us.min(receipt.began_us);
        boot.slots_from_us = boot.slots_from_us.min(receipt.slots_from_us);
        let is_new = |origin: &Origin| origin.pipeline != receipt.pipeline || origin.source != receipt.source;
        if boot.origin.as_ref().is_none_or(is_new) {
            let (pipeline, source) = (receipt.pipeline.to_owned(), receipt.source.to_owned());
            boot.origin = Some(Origin { pipeline, source });
        }
    }

    /// Which numbers a receipt is about is known, wherever it is stored.
    fn receipt_letter(&mut self, receipt: &Receipt) {
        let receipt = AuditReceipt {
            boot_id: receipt.prober.boot,
            pipeline: &receipt.pipeline,
            source: &receipt.source,
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
        self.add_receipt(&receipt, true);
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
        self.dropped = joined(facts.dropped);
        self.has_rollups = facts.has_rollups;
        self.incidents = facts.incidents;
        self.checks = facts.checks;
    }

    fn receipt(&mut self, receipt: &AuditReceipt<'_>) {
        self.add_receipt(receipt, false);
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
        // Of a day of which measurements have gone a report tells by its sums.
        let counted = (self.scope.since_us..self.scope.until_us).contains(&row.slot_us)
            && !(self.scope.for_report && self.is_dropped(row.slot_us, row.slot_us));
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
            self.lanes[lane].1.letter(
                slot_us,
                measurement.seq,
                never_begun.map(|error| error.message.as_str()),
            );
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

    fn sum(&mut self, sum: &AuditSum) {
        let of = self.definition_numbers.get(&sum.definition_id);
        let is_wanted = of.is_some_and(|of| self.is_wanted(&self.definitions[*of as usize].pipeline));
        if !is_wanted {
            return;
        }
        let seen = self.summed.entry(sum.check_id).or_insert((sum.first_us, sum.last_us));
        *seen = (seen.0.min(sum.first_us), seen.1.max(sum.last_us));
        if self.is_summed(sum.start_us, sum.width_us) {
            self.sums.push(*sum);
        }
    }

    fn times(&mut self, times: &AuditTimes) {
        if self.is_summed(times.start_us, times.width_us) {
            let known = self.times.entry(times.check_id).or_default();
            known.histogram.merge(&times.histogram);
            let until_us = known.probers.entry(times.prober_id).or_insert(i64::MIN);
            *until_us = (*until_us).max(times.start_us.saturating_add(times.width_us));
        }
    }
}

/// Times that follow one another as one: a year of days is looked through for each slot.
fn joined(mut times: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    times.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, until) in times {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            _ => joined.push((from, until)),
        }
    }
    joined
}

/// A number as the sets have it.
pub(super) fn number_of(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX).min(i64::MAX - 1)
}
