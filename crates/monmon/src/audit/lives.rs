//! The lives of sources: which boot followed which, and from when to when each accounts for slots.

use std::collections::BTreeMap;

use uuid::Uuid;

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
    /// All of its rows were read.
    pub(super) is_whole: bool,
    /// Of a boot without receipts: whether it lived so long that what is missing between its rows was lost on the way.
    pub(super) is_judged: bool,
    /// Another boot of the same prober and source lived at the same time.
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
            if seen_us(&ledger.boots[pair[0] as usize]) > begun_us.saturating_add(OVERLAP_US) {
                lives[pair[0] as usize].is_shared = true;
                lives[pair[1] as usize].is_shared = true;
            }
        }
        if let Some(newest) = chain.last() {
            lives[*newest as usize].is_newest = true;
        }
    }
    lives
}

fn alone(boot: &Boot, ledger: &Ledger) -> Life {
    let scope = &ledger.scope;
    let receipts = || boot.receipts.iter().map(|sum| &sum.receipt);
    let began_us = match receipts().next() {
        Some(receipt) => receipt.began_us,
        None => made_us(boot.id).unwrap_or(boot.first_us),
    };
    let settled = receipts().filter(|receipt| receipt.at_us < scope.settled_us);
    let proven_us = settled.map(|receipt| receipt.slots_until_us).max();
    let has_ended = receipts().any(|receipt| receipt.last);
    let slots_from_us = receipts().map(|receipt| receipt.slots_from_us).min().unwrap_or(began_us);
    let is_once = match boot.receipts.last() {
        Some(sum) => sum.receipt.last && sum.receipt.slots_until_us == sum.receipt.began_us,
        None => boot.first_us == boot.last_us,
    };
    let lived_us = boot.last_us.saturating_sub(boot.first_us);
    Life {
        began_us,
        slots_from_us,
        proven_us,
        has_ended,
        is_once,
        is_whole: slots_from_us >= scope.read_since_us && seen_us(boot) < scope.read_until_us,
        is_judged: boot.receipts.is_empty() && boot.first_us < i64::MAX && lived_us > RECEIPT_DUE_US,
        ..Life::default()
    }
}

/// The last sign of life.
fn seen_us(boot: &Boot) -> i64 {
    boot.receipts.iter().map(|sum| sum.receipt.at_us).chain([boot.last_us]).max().unwrap_or(i64::MIN)
}

/// The time in a UUIDv7.
fn made_us(id: Uuid) -> Option<i64> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1_000))
}
