//! How checks fared on days of which retention has dropped measurements, by what these came to: the same numbers as if they
//! were all there.

use std::collections::BTreeMap;

use monmon_http::Slots;
use monmon_model::AuditSum;
use uuid::Uuid;

use super::lane::Lane;
use super::ledger::Ledger;

/// What a check came to under one definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) slots_due: u64,
    pub(super) slots_known: u64,
    pub(super) up: u64,
    pub(super) down: u64,
    pub(super) interval_us: u64,
}

/// By check and definition.
pub(super) fn sealed(ledger: &Ledger) -> BTreeMap<(Uuid, u32), Sealed> {
    let mut of_check: BTreeMap<Uuid, Vec<(u32, AuditSum)>> = BTreeMap::new();
    for sum in &ledger.sums {
        if let Some(definition) = ledger.definition_numbers.get(&sum.definition_id) {
            of_check.entry(sum.check_id).or_default().push((*definition, *sum));
        }
    }
    let mut found: BTreeMap<(Uuid, u32), Sealed> = BTreeMap::new();
    for (check, mut sums) in of_check {
        sums.sort_unstable_by_key(|(_, sum)| sum.first_us);
        for (definition, sum) in &sums {
            let sealed = found.entry((check, *definition)).or_default();
            sealed.interval_us = ledger.definitions[*definition as usize].interval_us;
            sealed.slots_known += sum.slots_known;
            sealed.up += sum.up;
            sealed.down += sum.down;
        }
        for (definition, from_us, until_us) in spans(ledger, check, &sums) {
            let due = due(ledger, definition, from_us, until_us);
            found.entry((check, definition)).or_default().slots_due += due;
        }
    }
    for sealed in found.values_mut() {
        sealed.slots_due = sealed.slots_due.max(sealed.slots_known);
    }
    found
}

/// From when to when a check was due under which definition: from its first slot on, or the window's beginning if it was
/// there before, each definition until the next one, and the last until the window ends, or a prober began anew and the
/// check was seen no more.
fn spans(ledger: &Ledger, check: Uuid, sums: &[(u32, AuditSum)]) -> Vec<(u32, i64, i64)> {
    let mut spans: Vec<(u32, i64, i64)> = Vec::new();
    for (definition, sum) in sums {
        match spans.last_mut() {
            Some((before, ..)) if before == definition => {}
            Some((.., until_us)) => {
                *until_us = sum.first_us;
                spans.push((*definition, sum.first_us, i64::MAX));
            }
            None => spans.push((*definition, sum.first_us, i64::MAX)),
        }
    }
    let seen = ledger.summed.get(&check).copied().unwrap_or((i64::MAX, i64::MIN));
    if let Some((_, from_us, _)) = spans.first_mut().filter(|_| seen.0 < ledger.scope.since_us) {
        *from_us = i64::MIN;
    }
    let last_us = sums.iter().map(|(_, sum)| sum.last_us).max().unwrap_or(i64::MIN);
    if let Some((.., until_us)) = spans.last_mut() {
        let is_later = |((_, definition), lane): &((u32, u32), Lane)| {
            ledger.definitions[*definition as usize].check_id == check && lane.last_us > last_us
        };
        let goes_on = seen.1 > last_us || ledger.lanes.iter().any(is_later);
        let began_anew = ledger.boots.iter().map(|boot| boot.seen_us).filter(|seen_us| *seen_us > last_us);
        *until_us = match (goes_on, began_anew.min()) {
            (false, Some(_)) => last_us.saturating_add(1),
            _ => i64::MAX,
        };
    }
    spans
}

/// Slots between two instants, as far as they lie in what was summed up.
fn due(ledger: &Ledger, definition: u32, from_us: i64, until_us: i64) -> u64 {
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
