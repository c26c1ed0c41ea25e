//! How each check fared over the window: what of its time is known, and what of that it was up.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use monmon_http::Slots;
use monmon_model::{AuditDefinition, AuditIncident, Histogram, Labels};
use uuid::Uuid;

use super::bits::Bits;
use super::finding::Verdict;
use super::judge::{Judge, at};
use super::lane::Lane;
use super::ledger::Scope;
use super::sealed::sealed;

/// All checks of a store, and what an audit of the same window says.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) verdict: Verdict,
    /// The same for people.
    pub(crate) verdict_text: String,
    pub(crate) dropped_before: Option<Timestamp>,
    /// Of days of which measurements have gone it is known what they came to.
    pub(crate) is_summed: bool,
    pub(crate) checks: Vec<Service>,
}

/// One check, by all of its probers.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) check_id: Uuid,
    pub(crate) pipeline: String,
    pub(crate) source: String,
    pub(crate) check: String,
    pub(crate) labels: Labels,
    pub(crate) probers: Vec<String>,
    pub(crate) eras: Vec<Era>,
    /// The window has a slot of it, whatever is known of that.
    pub(crate) is_measured: bool,
    /// Slots that an audit misses, and those that died with their prober.
    pub(crate) missing: u64,
    pub(crate) died: u64,
    pub(crate) latency_us: [Option<f64>; 4],
    pub(crate) incidents: Vec<Incident>,
}

impl Service {
    fn of(of: &AuditDefinition) -> Service {
        Service {
            check_id: of.check_id,
            pipeline: of.pipeline.clone(),
            source: of.source.clone(),
            check: of.name.clone(),
            labels: of.labels.clone(),
            probers: Vec::new(),
            eras: Vec::new(),
            is_measured: false,
            missing: 0,
            died: 0,
            latency_us: [None; 4],
            incidents: Vec::new(),
        }
    }

    /// Slots that were due, and those that at least one prober knows of.
    pub(crate) fn slots_due(&self) -> u64 {
        self.eras.iter().map(|era| era.slots_due).sum()
    }

    pub(crate) fn slots_known(&self) -> u64 {
        self.eras.iter().map(|era| era.slots_known).sum()
    }

    /// The time that these slots stand for.
    pub(crate) fn due_us(&self) -> f64 {
        self.eras.iter().map(|era| era.slots_due as f64 * era.interval_us as f64).sum()
    }

    /// What is known, as times.
    pub(crate) fn known(&self) -> Known {
        self.eras.iter().map(Era::known).fold(Known::default(), |sum, era| Known {
            all_us: sum.all_us + era.all_us,
            down_us: sum.down_us + era.down_us,
            maintenance_us: sum.maintenance_us + era.maintenance_us,
            maintenance_down_us: sum.maintenance_down_us + era.maintenance_down_us,
        })
    }
}

/// What there is of one check while its slots were these: a slot of thirty seconds weighs less than one of five minutes,
/// and probers that differ in a label alone have the same slots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Era {
    pub(crate) interval_us: u64,
    pub(crate) slots_due: u64,
    pub(crate) slots_known: u64,
    /// Measurements, one for each prober and slot.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Of these, those in a window of maintenance; of days of which measurements have gone that is not known.
    pub(crate) maintenance_up: u64,
    pub(crate) maintenance_down: u64,
}

impl Era {
    /// A slot that several probers know of is shared among what they say.
    fn known(&self) -> Known {
        let all_us = self.slots_known as f64 * self.interval_us as f64;
        let decided = (self.up + self.down).max(1) as f64;
        let share_us = |count: u64| all_us * count as f64 / decided;
        Known {
            all_us,
            down_us: share_us(self.down),
            maintenance_us: share_us(self.maintenance_up + self.maintenance_down),
            maintenance_down_us: share_us(self.maintenance_down),
        }
    }
}

/// Of the time that is known: how much the check was down, and how much of both lies in windows of maintenance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) all_us: f64,
    pub(crate) down_us: f64,
    pub(crate) maintenance_us: f64,
    pub(crate) maintenance_down_us: f64,
}

/// A check's passage from up to down and back, as far as a detector has told of it.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Incident {
    pub(crate) began_at: Option<Timestamp>,
    /// None while it is open.
    pub(crate) recovered_at: Option<Timestamp>,
    pub(crate) reason: String,
}

/// The shares of `latency_us`.
pub(crate) const SHARES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

/// A check and its slots: interval and schedule.
pub(super) type EraKey = (Uuid, u64, Option<String>);

pub(super) fn era_of(of: &AuditDefinition) -> EraKey {
    (of.check_id, of.interval_us, of.schedule.clone())
}

/// The slots of an era, by their keys.
#[derive(Default)]
struct EraSlots {
    due: Bits,
    known: Bits,
    window: (i64, i64),
}

pub(super) fn services(judge: Judge) -> Services {
    let mut found: BTreeMap<Uuid, Service> = BTreeMap::new();
    let mut slots: BTreeMap<EraKey, EraSlots> = BTreeMap::new();
    let mut eras: BTreeMap<EraKey, Era> = BTreeMap::new();
    let mut latencies: BTreeMap<Uuid, Histogram> = BTreeMap::new();
    let scope = judge.ledger.scope.clone();
    for ((prober, check_id), lanes) in &judge.lanes_of {
        let prober = judge.prober(*prober);
        for number in lanes {
            let ((_, definition), lane) = &judge.ledger.lanes[*number];
            let window = lane.keys(scope.since_us, scope.until_us);
            let (mut stored, mut known, mut down) = lane.decided();
            [&mut stored, &mut known, &mut down]
                .into_iter()
                .for_each(|bits| without_dropped(&judge, lane, bits));
            let of = &judge.ledger.definitions[*definition as usize];
            let service = found.entry(*check_id).or_insert_with(|| Service::of(of));
            let era = eras.entry(era_of(of)).or_default();
            let (known_count, down_count) =
                (known.count_in(window.0, window.1), down.count_in(window.0, window.1));
            era.up += known_count.saturating_sub(down_count);
            era.down += down_count;
            let (mut apart, mut apart_down) = (Bits::default(), Bits::default());
            apart.add_all(&known);
            apart.keep_all(lane.maintenance());
            apart_down.add_all(&apart);
            apart_down.keep_all(&down);
            let down_count = apart_down.count_in(window.0, window.1);
            era.maintenance_down += down_count;
            era.maintenance_up += apart.count_in(window.0, window.1) - down_count;
            service.is_measured |= stored.count_in(window.0, window.1) > 0;
            if !service.probers.contains(&prober) {
                service.probers.push(prober.clone());
            }
            let slots = slots.entry(era_of(of)).or_default();
            slots.due.add_all(&stored);
            slots.known.add_all(&known);
            slots.window = window;
            if let Some(latency) = &lane.latency {
                latencies.entry(*check_id).or_default().merge(latency);
            }
        }
    }
    let (sums, owed) = sealed(&judge.ledger);
    for (definition, from_us) in owed {
        owe(&judge, &mut slots, definition, (from_us, |at_us| !judge.ledger.is_dropped(at_us, at_us)));
    }
    let seen: BTreeSet<Uuid> = found.keys().chain(sums.keys().map(|(check, ..)| check)).copied().collect();
    for definition in not_seen(&judge, &seen) {
        let of = &judge.ledger.definitions[definition as usize];
        found.insert(of.check_id, Service::of(of));
        owe(&judge, &mut slots, definition, (scope.since_us, |_| true));
    }
    count_slots(&judge, slots, &mut eras);
    for (key, sealed) in sums {
        let of = &judge.ledger.definitions[sealed.definition as usize];
        found.entry(of.check_id).or_insert_with(|| Service::of(of)).is_measured = true;
        let era = eras.entry(key).or_default();
        era.up += sealed.up;
        era.down += sealed.down;
        era.slots_due += sealed.slots_due;
        era.slots_known += sealed.slots_known;
    }
    for ((check_id, interval_us, _), era) in eras {
        if let Some(service) = found.get_mut(&check_id).filter(|_| era.slots_due > 0) {
            service.eras.push(Era { interval_us, ..era });
        }
    }
    for (check_id, times) in &judge.ledger.times {
        let Some(service) = found.get_mut(check_id) else { continue };
        latencies.entry(*check_id).or_default().merge(&times.histogram);
        let names = times.probers.keys().map(|prober| judge.prober(*prober));
        names.for_each(|name| {
            if !service.probers.contains(&name) {
                service.probers.push(name);
            }
        });
    }
    for (check_id, latency) in &latencies {
        if let Some(service) = found.get_mut(check_id) {
            service.latency_us = SHARES.map(|share| latency.quantile(share));
        }
    }
    for incident in incidents(&judge, &scope) {
        if let Some(service) = found.get_mut(&incident.0) {
            service.incidents.push(incident.1);
        }
    }
    let is_summed = !judge.ledger.sums.is_empty();
    let report = judge.report();
    for line in &report.checks {
        if let Some(service) = found.get_mut(&line.check_id) {
            service.missing += line.slots.missing;
            service.died += line.slots.died;
        }
    }
    let mut checks: Vec<Service> = found.into_values().filter(|service| service.slots_due() > 0).collect();
    checks.sort_by(|a, b| (&a.pipeline, &a.source, &a.check).cmp(&(&b.pipeline, &b.source, &b.check)));
    Services {
        since: at(scope.since_us),
        until: at(scope.until_us),
        verdict: report.verdict,
        verdict_text: super::text::verdict(&report),
        dropped_before: report.dropped_before.filter(|before| before.as_microsecond() > scope.since_us),
        is_summed,
        checks,
    }
}

/// A day of which measurements have gone is told by its sums alone.
fn without_dropped(judge: &Judge, lane: &Lane, bits: &mut Bits) {
    for (from_us, until_us) in judge.ledger.dropped() {
        let (first, end) = lane.keys(*from_us, *until_us);
        bits.remove_range(first, end);
    }
}

fn slots_of(of: &AuditDefinition) -> Option<Lane> {
    Slots::of(of.check_id, of.interval_us, of.schedule.as_deref()).ok().map(Lane::new)
}

/// Checks of which nothing lies in the window, as they were before it, unless they are known to have been taken out by
/// its end. Where days went without having been rolled up, that nothing is there says nothing.
fn not_seen(judge: &Judge, seen: &BTreeSet<Uuid>) -> Vec<u32> {
    let (ledger, scope) = (&judge.ledger, &judge.ledger.scope);
    if ledger.sums.is_empty() && ledger.is_dropped(scope.since_us, scope.until_us) {
        return Vec::new();
    }
    let is_due = |(check, ended_us): &&(Uuid, Option<i64>)| {
        !seen.contains(check) && ended_us.is_none_or(|ended_us| ended_us >= scope.until_us)
    };
    let due: BTreeSet<Uuid> = ledger.checks.iter().filter(is_due).map(|(check, _)| *check).collect();
    let mut newest: BTreeMap<Uuid, (i64, u32)> = BTreeMap::new();
    for (number, of) in (0_u32..).zip(&ledger.definitions) {
        let is_asked_for = due.contains(&of.check_id) && ledger.is_wanted(&of.pipeline);
        if is_asked_for && of.first_seen_us < scope.since_us {
            let newest = newest.entry(of.check_id).or_insert((of.first_seen_us, number));
            *newest = (*newest).max((of.first_seen_us, number));
        }
    }
    newest.into_values().map(|(_, number)| number).collect()
}

/// Slots of a definition from an instant on are due, as far as they are `wanted`.
fn owe(
    judge: &Judge,
    slots: &mut BTreeMap<EraKey, EraSlots>,
    definition: u32,
    (from_us, wanted): (i64, impl Fn(i64) -> bool),
) {
    let scope = &judge.ledger.scope;
    let of = &judge.ledger.definitions[definition as usize];
    let Some(lane) = slots_of(of) else { return };
    let era = slots.entry(era_of(of)).or_default();
    era.window = lane.keys(scope.since_us, scope.until_us);
    let holes = lane.holes(from_us.max(scope.since_us), scope.until_us).into_iter();
    for key in holes.filter(|slot| wanted(*slot)).filter_map(|slot| lane.key(slot)) {
        era.due.add(key);
    }
}

/// Which of each era's slots were due, and which of these are known.
fn count_slots(judge: &Judge, mut slots: BTreeMap<EraKey, EraSlots>, eras: &mut BTreeMap<EraKey, Era>) {
    let summed: BTreeSet<Uuid> = judge.ledger.sums.iter().map(|sum| sum.check_id).collect();
    for ((check_id, definition), silent) in &judge.silent {
        let of = &judge.ledger.definitions[*definition as usize];
        let Some(slots) = slots.get_mut(&era_of(of)) else { continue };
        let mut owed = Bits::default();
        owed.add_all(silent);
        // Where days are told by sums and a check has none, it was not measured.
        if let Some(lane) = slots_of(of).filter(|_| summed.is_empty() || summed.contains(check_id)) {
            without_dropped(judge, &lane, &mut owed);
        }
        slots.due.add_all(&owed);
    }
    for (key, EraSlots { due, known, window }) in slots {
        let era = eras.entry(key).or_default();
        era.slots_due += due.count_in(window.0, window.1);
        era.slots_known += known.count_in(window.0, window.1);
    }
}

/// Those of the window, by check.
fn incidents(judge: &Judge, scope: &Scope) -> Vec<(Uuid, Incident)> {
    let is_within = |incident: &&AuditIncident| {
        let is_over = incident.recovered_us.is_some_and(|recovered_us| recovered_us < scope.since_us);
        incident.began_us < scope.until_us && !is_over
    };
    let told = |incident: &AuditIncident| Incident {
        began_at: at(incident.began_us),
        recovered_at: incident.recovered_us.and_then(at),
        reason: incident.reason.clone(),
    };
    let incidents = judge.ledger.incidents.iter().filter(is_within);
    incidents.map(|incident| (incident.check_id, told(incident))).collect()
}
