//! The lives of sources: which boot followed which, and from when to when each accounts for slots.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::lane::Lane;
use super::ledger::{Boot, Ledger, Origin};

/// Two boots that both show signs of life for longer than this are two processes.
const OVERLAP_US: i64 = 2_000_000;
/// A boot without a receipt that lived for longer than two receipts' time is one of a program that gives none.
const RECEIPT_DUE_US: i64 = 150_000_000;

#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    pub(super) began_us: i64,
    /// From when on it accounts for slots of checks that were there before.
    pub(super) slots_from_us: i64,
    /// Until when it has accounted for all slots, by a receipt that is not too new; none without one.
    pub(super) proven_us: Option<i64>,
    /// Its last receipt is there: it came to an orderly end.
    pub(super) has_ended: bool,
    /// It was to check everything once, on no schedule.
    pub(super) is_once: bool,
    pub(super) is_newest: bool,
    /// Its first receipts are not stored: what it made before this instant may never have been on its way to this store.
    pub(super) joined_us: Option<i64>,
    /// Of a boot without receipts: whether it lived so long that what is missing between its rows was lost on the way.
    pub(super) is_judged: bool,
    /// By the prober's clock, another boot of the same prober and source lived at the same time.
    pub(super) overlaps: bool,
    /// And it did: they took turns with the slots of a check.
    pub(super) is_shared: bool,
    /// The boots before and after it, of the same prober and source.
    pub(super) before: Option<u32>,
    pub(super) next: Option<u32>,
}

/// By the boots' numbers.
pub(super) fn lives(ledger: &Ledger) -> Vec<Life> {
    let mut lives: Vec<Life> = ledger.boots.iter().map(|boot| alone(boot, ledger)).collect();
    let mut chains: BTreeMap<(Uuid, &Origin), Vec<u32>> = BTreeMap::new();
    for (number, boot) in (0_u32..).zip(&ledger.boots) {
        // What is asked for by hand stands beside what is on a schedule.
        if let Some(origin) = boot.origin.as_ref().filter(|_| !lives[number as usize].is_once) {
            chains.entry((boot.prober, origin)).or_default().push(number);
        }
    }
    for chain in chains.values_mut() {
        chain.sort_by_key(|number| lives[*number as usize].began_us);
        for pair in chain.windows(2) {
            lives[pair[0] as usize].next = Some(pair[1]);
            lives[pair[1] as usize].before = Some(pair[0]);
            let begun_us = lives[pair[1] as usize].began_us;
            // Both by the prober's clock, which may have been set back between them; slots go their own way then.
            let heard_us = ledger.boots[pair[0] as usize].receipts.last().map(|sum| sum.at_us);
            if heard_us.is_some_and(|heard_us| heard_us > begun_us.saturating_add(OVERLAP_US)) {
                let is_shared = take_turns(ledger, pair[0], pair[1]);
                for number in pair {
                    let life = &mut lives[*number as usize];
                    (life.overlaps, life.is_shared) = (true, life.is_shared || is_shared);
                }
            }
        }
        if let Some(newest) = chain.last() {
            lives[*newest as usize].is_newest = true;
        }
    }
    for (life, boot) in lives.iter_mut().zip(&ledger.boots) {
        life.joined_us = joined_us(life, boot, ledger);
    }
    // Each check lies in a partition of its own, and a log's partitions do not begin at one time.
    for ((boot, _), lane) in ledger.lanes.iter().filter(|(_, lane)| !lane.is_empty()) {
        let joined_us = &mut lives[*boot as usize].joined_us;
        *joined_us = joined_us.map(|at_us| at_us.max(lane.first_us));
    }
    lives
}

/// Whether both boots were there at once, whatever the clock did: after a clock was set back the slots of the earlier boot are
/// stored already, so that the later one has none between them.
fn take_turns(ledger: &Ledger, earlier: u32, later: u32) -> bool {
    let lanes_of = |boot: u32| ledger.lanes.iter().filter(move |((of, _), _)| *of == boot);
    let laters: BTreeMap<u32, &Lane> =
        lanes_of(later).map(|((_, definition), lane)| (*definition, lane)).collect();
    lanes_of(earlier)
        .any(|((_, definition), lane)| laters.get(definition).is_some_and(|other| lane.takes_turns(other)))
}

fn alone(boot: &Boot, ledger: &Ledger) -> Life {
    let scope = &ledger.scope;
    let began_us = match boot.receipts.is_empty() {
        true => made_us(boot.id).unwrap_or(boot.first_us),
        false => boot.began_us,
    };
    let settled = boot.receipts.iter().filter(|receipt| receipt.at_us < scope.settled_us);
    let proven_us = settled.map(|receipt| receipt.slots_until_us).max();
    let has_ended = boot.receipts.iter().any(|receipt| receipt.last);
    let slots_from_us = if boot.receipts.is_empty() { began_us } else { boot.slots_from_us };
    let is_once = match boot.receipts.last() {
        Some(receipt) => receipt.last && receipt.slots_until_us == boot.began_us,
        None => boot.first_us == boot.last_us,
    };
    let lived_us = boot.last_us.saturating_sub(boot.first_us);
    Life {
        began_us,
        slots_from_us,
        proven_us,
        has_ended,
        is_once,
        is_judged: boot.receipts.is_empty() && boot.first_us < i64::MAX && lived_us > RECEIPT_DUE_US,
        ..Life::default()
    }
}

/// From when on a store has a boot in full, at the earliest, where it came to it later than the boot began.
fn joined_us(life: &Life, boot: &Boot, ledger: &Ledger) -> Option<i64> {
    let first = boot.receipts.first()?;
    let from_us = boot.slots_from_us.max(ledger.scope.since_us);
    if first.at_us <= from_us || ledger.is_dropped(from_us, first.at_us) {
        return None;
    }
    let begins_late = life.before.is_none() && !life.is_once && boot.seqs.first().is_none_or(|seq| seq > 1);
    match first.first_seq {
        // What is stored first may begin within the first receipt's time.
        ..=1 => (begins_late && first.last_seq > 0).then_some(from_us),
        _ => Some(first.at_us),
    }
}

/// The time in a UUIDv7.
fn made_us(id: Uuid) -> Option<i64> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1_000))
}
