//! How each check fared over the window: what of its time is known, and what of that it was up.

use std::collections::BTreeMap;

use jiff::Timestamp;
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
    /// Slots that were due, and those that at least one prober knows of.
    pub(crate) slots_due: u64,
    pub(crate) slots_known: u64,
    /// The time that these slots stand for.
    pub(crate) known_us: u64,
    pub(crate) due_us: u64,
    /// Measurements, one for each prober and slot.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Of these, those in a window of maintenance; of days of which measurements have gone that is not known.
    pub(crate) maintenance_up: u64,
    pub(crate) maintenance_down: u64,
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
            slots_due: 0,
            slots_known: 0,
            known_us: 0,
            due_us: 0,
            up: 0,
            down: 0,
            maintenance_up: 0,
            maintenance_down: 0,
            missing: 0,
            died: 0,
            latency_us: [None; 4],
            incidents: Vec::new(),
        }
    }
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

/// What there is of one check under one definition.
#[derive(Default)]
struct Era {
    due: Bits,
    known: Bits,
    /// In the keys of its slots.
    window: (i64, i64),
    interval_us: u64,
}

pub(super) fn services(judge: Judge) -> Services {
    let mut found: BTreeMap<Uuid, Service> = BTreeMap::new();
    let mut eras: BTreeMap<(Uuid, u32), Era> = BTreeMap::new();
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
            let (known_count, down_count) =
                (known.count_in(window.0, window.1), down.count_in(window.0, window.1));
            service.up += known_count.saturating_sub(down_count);
            service.down += down_count;
            let (mut apart, mut apart_down) = (Bits::default(), Bits::default());
            apart.add_all(&known);
            apart.keep_all(lane.maintenance());
            apart_down.add_all(&apart);
            apart_down.keep_all(&down);
            let down_count = apart_down.count_in(window.0, window.1);
            service.maintenance_down += down_count;
            service.maintenance_up += apart.count_in(window.0, window.1) - down_count;
            if !service.probers.contains(&prober) {
                service.probers.push(prober.clone());
            }
            let era = eras.entry((*check_id, *definition)).or_default();
            era.due.add_all(&stored);
            era.known.add_all(&known);
            era.window = window;
            era.interval_us = of.interval_us;
            if let Some(latency) = &lane.latency {
                latencies.entry(*check_id).or_default().merge(latency);
            }
        }
    }
    count_time(&judge, eras, &mut found);
    for ((check_id, definition), sealed) in sealed(&judge.ledger) {
        let of = &judge.ledger.definitions[definition as usize];
        let service = found.entry(check_id).or_insert_with(|| Service::of(of));
        service.up += sealed.up;
        service.down += sealed.down;
        service.slots_due += sealed.slots_due;
        service.slots_known += sealed.slots_known;
        service.due_us += sealed.slots_due.saturating_mul(sealed.interval_us);
        service.known_us += sealed.slots_known.saturating_mul(sealed.interval_us);
    }
    for (check_id, times) in &judge.ledger.times {
        let Some(service) = found.get_mut(check_id) else { continue };
        latencies.entry(*check_id).or_default().merge(&times.histogram);
        let names = times.probers.iter().map(|prober| judge.prober(*prober));
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
    let mut checks: Vec<Service> = found.into_values().filter(|service| service.slots_due > 0).collect();
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

/// What of each check's time was due, and what of that is known.
fn count_time(judge: &Judge, mut eras: BTreeMap<(Uuid, u32), Era>, found: &mut BTreeMap<Uuid, Service>) {
    for (key, silent) in &judge.silent {
        if let Some(era) = eras.get_mut(key) {
            era.due.add_all(silent);
        }
    }
    for ((check_id, _), era) in &eras {
        let Some(service) = found.get_mut(check_id) else { continue };
        let (due, known) =
            (era.due.count_in(era.window.0, era.window.1), era.known.count_in(era.window.0, era.window.1));
        service.slots_due += due;
        service.slots_known += known;
        service.due_us += due.saturating_mul(era.interval_us);
        service.known_us += known.saturating_mul(era.interval_us);
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
