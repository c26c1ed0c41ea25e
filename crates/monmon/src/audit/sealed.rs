//! How checks fared on days of which retention has dropped measurements, by what these came to: the same numbers as if they
//! were all there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use monmon_http::Slots;
use monmon_model::{AuditDefinition, AuditSum};
use uuid::Uuid;

use super::lane::Lane;
use super::ledger::{Ledger, Origin};
use super::lives::lives;
use super::service::{EraKey, era_of};

/// What a check came to in one era.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    /// One that has these slots.
    pub(super) definition: u32,
    pub(super) slots_due: u64,
    pub(super) slots_known: u64,
    pub(super) up: u64,
    pub(super) down: u64,
}

/// And of checks that some prober of them owes, also on days that are kept, and has no row of there: the definition, and
/// since when.
pub(super) fn sealed(ledger: &Ledger) -> (BTreeMap<EraKey, Sealed>, Vec<(u32, i64)>) {
    let mut of_check: BTreeMap<Uuid, Vec<(u32, AuditSum)>> = BTreeMap::new();
    for sum in &ledger.sums {
        if let Some(definition) = ledger.definition_numbers.get(&sum.definition_id) {
            of_check.entry(sum.check_id).or_default().push((*definition, *sum));
        }
    }
    let key = |definition: u32| era_of(&ledger.definitions[definition as usize]);
    let mut found: BTreeMap<EraKey, Sealed> = BTreeMap::new();
    let mut owed = Vec::new();
    let begun = Begun::of(ledger);
    let with_rows =
        ledger.lanes.iter().filter(|(_, lane)| !lane.is_empty()).map(|((boot, definition), _)| {
            (ledger.boots[*boot as usize].prober, ledger.definitions[*definition as usize].check_id)
        });
    let with_rows: BTreeSet<(Uuid, Uuid)> = with_rows.collect();
    for (check, mut sums) in of_check {
        let mut buckets: BTreeMap<(EraKey, i64), Vec<AuditSum>> = BTreeMap::new();
        sums.sort_unstable_by_key(|(_, sum)| sum.first_us);
        for (definition, sum) in &sums {
            let sealed = found.entry(key(*definition)).or_default();
            sealed.definition = *definition;
            sealed.up += sum.up;
            sealed.down += sum.down;
            buckets.entry((key(*definition), sum.start_us)).or_default().push(*sum);
        }
        for ((key, _), sums) in buckets {
            found.entry(key).or_default().slots_known += known(sums);
        }
        let Some((last, last_us)) =
            sums.iter().map(|(last, sum)| (*last, sum.last_us)).max_by_key(|(_, at)| *at)
        else {
            continue;
        };
        let owing = begun.still_owing(ledger, &ledger.definitions[last as usize], last_us);
        for span in spans(ledger, &begun, (check, !owing.is_empty()), &sums) {
            found.entry(key(span.0)).or_default().slots_due += due(ledger, span);
        }
        if owing.iter().any(|prober| !with_rows.contains(&(*prober, check))) {
            owed.push((last, last_us.saturating_add(1)));
        }
    }
    for sealed in found.values_mut() {
        sealed.slots_due = sealed.slots_due.max(sealed.slots_known);
    }
    (found, owed)
}

/// Slots that are known of one day or hour. Which slots two definitions have in common is not kept: where both were there,
/// those of the one that knows more count.
fn known(mut sums: Vec<AuditSum>) -> u64 {
    sums.sort_unstable_by_key(|sum| (Reverse(sum.slots_known), sum.first_us));
    let mut known = 0;
    let mut seen: Option<(i64, i64)> = None;
    for sum in sums {
        let (first_us, last_us) = seen.unwrap_or((sum.first_us, sum.first_us));
        let all_us = sum.last_us - sum.first_us;
        let both_us = (last_us.min(sum.last_us) - first_us.max(sum.first_us)).max(0);
        known += match (seen, all_us) {
            (None, _) => sum.slots_known,
            (Some(_), 0) => u64::from(sum.first_us < first_us || sum.first_us > last_us),
            (Some(_), _) => (sum.slots_known as f64 * (1.0 - both_us as f64 / all_us as f64)) as u64,
        };
        seen = Some((first_us.min(sum.first_us), last_us.max(sum.last_us)));
    }
    known
}

/// From when to when a check was due in which era: from its first slot on, or the window's beginning if it was there before,
/// each era until the next one, and the last until the window ends, or its probers began anew and it was seen no more.
fn spans(
    ledger: &Ledger,
    begun: &Begun<'_>,
    (check, is_owed): (Uuid, bool),
    sums: &[(u32, AuditSum)],
) -> Vec<(u32, i64, i64)> {
    let era = |definition: u32| era_of(&ledger.definitions[definition as usize]);
    let mut spans: Vec<(u32, i64, i64)> = Vec::new();
    for (definition, sum) in sums {
        match spans.last_mut() {
            Some((before, ..)) if era(*before) == era(*definition) => {}
            Some((.., until_us)) => {
                *until_us = sum.first_us;
                spans.push((*definition, sum.first_us, i64::MAX));
            }
            None => spans.push((*definition, sum.first_us, i64::MAX)),
        }
    }
    let seen = ledger.summed.get(&check).copied().unwrap_or((i64::MAX, i64::MIN));
    if let Some((definition, from_us, _)) = spans.first_mut() {
        *from_us = match seen.0 < ledger.scope.since_us {
            true => i64::MIN,
            false => begun.due_from_us(ledger, &ledger.definitions[*definition as usize], *from_us),
        };
    }
    let last_us = sums.iter().map(|(_, sum)| sum.last_us).max().unwrap_or(i64::MIN);
    if let Some((.., until_us)) = spans.last_mut() {
        let is_later = |((_, definition), lane): &((u32, u32), Lane)| {
            ledger.definitions[*definition as usize].check_id == check && lane.last_us > last_us
        };
        let goes_on = seen.1 > last_us || ledger.lanes.iter().any(is_later);
        if !goes_on && !is_owed {
            *until_us = last_us.saturating_add(1);
        }
    }
    spans
}

/// When the boots of each prober and source began, as far as they began within the window, and from when on they account for
/// slots of checks that were there before.
struct Begun<'a>(BTreeMap<(Uuid, &'a Origin), Vec<(i64, i64)>>);

impl<'a> Begun<'a> {
    fn of(ledger: &'a Ledger) -> Begun<'a> {
        let within = ledger.scope.since_us..ledger.scope.until_us;
        let mut begun: BTreeMap<(Uuid, &Origin), Vec<(i64, i64)>> = BTreeMap::new();
        for (boot, life) in ledger.boots.iter().zip(lives(ledger)) {
            if let Some(origin) = boot.origin.as_ref()
                && !life.is_once
                && within.contains(&life.began_us)
            {
                begun.entry((boot.prober, origin)).or_default().push((life.began_us, life.slots_from_us));
            }
        }
        Begun(begun)
    }

    /// From when on a check is due that was first seen at an instant, by the boots that began before that: they may have been
    /// dark since before the window.
    fn due_from_us(&self, ledger: &Ledger, of: &AuditDefinition, first_us: i64) -> i64 {
        let origin = Origin { pipeline: of.pipeline.clone(), source: of.source.clone() };
        let probers = ledger.times.get(&of.check_id).into_iter().flat_map(|times| times.probers.keys());
        let begun = probers.filter_map(|prober| self.0.get(&(*prober, &origin))).flatten();
        let was_there = begun.filter(|(began_us, _)| *began_us <= first_us && of.first_seen_us < *began_us);
        was_there.map(|(_, slots_from_us)| *slots_from_us).fold(first_us, i64::min)
    }

    /// Those of a check's probers that did not begin anew after they were last seen to measure it: what is not known of one is
    /// no sign that the check was taken out, because it may have died.
    fn still_owing(&self, ledger: &Ledger, of: &AuditDefinition, last_us: i64) -> Vec<Uuid> {
        let origin = Origin { pipeline: of.pipeline.clone(), source: of.source.clone() };
        let is_owing = |(prober, until_us): &(&Uuid, &i64)| {
            let seen_us = last_us.min(until_us.saturating_sub(1));
            let begun = self.0.get(&(**prober, &origin));
            begun.is_none_or(|begun| begun.iter().all(|(began_us, _)| *began_us <= seen_us))
        };
        let probers = ledger.times.get(&of.check_id).into_iter().flat_map(|times| &times.probers);
        probers.filter(is_owing).map(|(prober, _)| *prober).collect()
    }
}

/// Slots between two instants, as far as they lie in what was summed up.
fn due(ledger: &Ledger, (definition, from_us, until_us): (u32, i64, i64)) -> u64 {
    let of = &ledger.definitions[definition as usize];
    let Ok(slots) = Slots::of(of.check_id, of.interval_us, of.schedule.as_deref()) else { return 0 };
    let dropped = ledger.dropped().iter().map(|(from, until)| ledger.scope.clip_to_hours((*from, *until)));
    dropped.map(|(from, until)| count(&slots, from.max(from_us), until.min(until_us))).sum()
}

fn count(slots: &Slots, from_us: i64, until_us: i64) -> u64 {
    if from_us >= until_us {
        return 0;
    }
    let first = slots.at_or_after(from_us);
    if slots.is_numbered() {
        let number = |at_us| slots.number(slots.at_or_after(at_us)).unwrap_or(0);
        return u64::try_from(number(until_us) - number(from_us)).unwrap_or(0);
    }
    std::iter::successors(Some(first), |slot| Some(slots.next(*slot)))
        .take_while(|slot| *slot < until_us)
        .count() as u64
}
