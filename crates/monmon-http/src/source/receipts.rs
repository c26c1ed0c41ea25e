//! What the source says of itself on the way that its measurements go: each minute, and at an orderly end, which
//! measurements it has numbered, and up to when no slot was left out. Whoever holds that against the rows knows that none
//! is missing.
//!
//! A receipt is cut first and given later, when everything that it is about was delivered: what was merely on its way when
//! a process died must not be claimed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{Event, Prober, Receipt, receipt_id};
use uuid::Uuid;

use super::book::Settled;

/// How often receipts are cut.
pub(crate) const CUT_EVERY: Duration = Duration::from_secs(60);
/// Receipts that wait for delivery, at most: a day of them. Beyond it the newest two become one.
const WAITING_MAX: usize = 1440;

/// A receipt that is cut and not given yet.
#[derive(Debug)]
struct Cut {
    first_seq: u64,
    last_seq: u64,
    ids_xor: u128,
    slots_until_us: i64,
    failed: u64,
}

#[derive(Debug)]
pub(crate) struct Receipts {
    prober: Arc<Prober>,
    pipeline: Arc<str>,
    source: Arc<str>,
    began_us: i64,
    slots_from_us: i64,
    /// The first number after the last cut.
    first_seq: u64,
    /// Of the ids since then.
    ids_xor: u128,
    waiting: VecDeque<Cut>,
}

impl Receipts {
    pub(crate) fn new(prober: Arc<Prober>, pipeline: Arc<str>, source: Arc<str>) -> Receipts {
        Receipts {
            prober,
            pipeline,
            source,
            began_us: 0,
            slots_from_us: 0,
            first_seq: 1,
            ids_xor: 0,
            waiting: VecDeque::new(),
        }
    }

    /// From when on slots are this boot's: of all checks, and of those that were there before.
    pub(crate) fn begin(&mut self, began_us: i64, slots_from_us: i64) {
        self.began_us = began_us;
        self.slots_from_us = slots_from_us;
    }

    pub(crate) fn began_us(&self) -> i64 {
        self.began_us
    }

    /// A measurement was numbered.
    pub(crate) fn number(&mut self, id: Uuid) {
        self.ids_xor ^= id.as_u128();
    }

    /// Cuts a receipt of everything up to this number, with which all slots before an instant are accounted for.
    pub(crate) fn cut(&mut self, last_seq: u64, slots_until_us: i64) {
        let cut =
            Cut { first_seq: self.first_seq, last_seq, ids_xor: self.ids_xor, slots_until_us, failed: 0 };
        self.first_seq = last_seq + 1;
        self.ids_xor = 0;
        let is_full = self.waiting.len() >= WAITING_MAX;
        match self.waiting.back_mut() {
            Some(newest) if is_full => {
                newest.last_seq = cut.last_seq;
                newest.ids_xor ^= cut.ids_xor;
                newest.slots_until_us = cut.slots_until_us;
            }
            _ => self.waiting.push_back(cut),
        }
    }

    /// Takes note that everything up to some number was heard of.
    pub(crate) fn settle(&mut self, settled: Settled) {
        // One that was put together with a later one waits for that one.
        if let Some(cut) = self.waiting.iter_mut().find(|cut| cut.last_seq >= settled.last_seq) {
            cut.failed += settled.failed;
        }
    }

    /// The next receipt of which everything up to `heard_seq` was heard of.
    pub(crate) fn give(&mut self, heard_seq: u64, now: Timestamp) -> Option<Event> {
        let cut = self.waiting.pop_front_if(|cut| cut.last_seq <= heard_seq)?;
        Some(self.receipt(&cut, now, false))
    }

    /// The last one: of everything that no receipt was given of yet, heard of or not.
    pub(crate) fn give_last(&mut self, last_seq: u64, slots_until_us: i64, now: Timestamp) -> Event {
        self.cut(last_seq, slots_until_us);
        let mut whole: Option<Cut> = None;
        for cut in self.waiting.drain(..) {
            whole = Some(match whole {
                None => cut,
                Some(before) => Cut {
                    first_seq: before.first_seq,
                    ids_xor: before.ids_xor ^ cut.ids_xor,
                    failed: before.failed + cut.failed,
                    ..cut
                },
            });
        }
        let whole = whole.expect("one was cut above");
        self.receipt(&whole, now, true)
    }

    fn receipt(&self, cut: &Cut, at: Timestamp, last: bool) -> Event {
        let time = |at_us| Timestamp::from_microsecond(at_us).unwrap_or(Timestamp::UNIX_EPOCH);
        Event::Receipt(Receipt {
            id: receipt_id(self.prober.boot, cut.first_seq, cut.last_seq, at),
            prober: Arc::clone(&self.prober),
            pipeline: self.pipeline.to_string(),
            source: self.source.to_string(),
            at,
            began_at: time(self.began_us),
            slots_from: time(self.slots_from_us),
            slots_until: time(cut.slots_until_us),
            first_seq: cut.first_seq,
            last_seq: cut.last_seq,
            ids_xor: Uuid::from_u128(cut.ids_xor),
            failed: cut.failed,
            last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts() -> Receipts {
        let prober = Prober { id: Uuid::nil(), name: "here".to_owned(), location: None, boot: Uuid::max() };
        let mut receipts = Receipts::new(Arc::new(prober), "p".into(), "s".into());
        receipts.begin(1_000_000, 500_000);
        receipts
    }

    fn told(event: Option<Event>) -> Option<(u64, u64, u128, u64, bool)> {
        let Event::Receipt(receipt) = event? else { panic!("a receipt") };
        Some((receipt.first_seq, receipt.last_seq, receipt.ids_xor.as_u128(), receipt.failed, receipt.last))
    }

    #[test]
    fn a_receipt_waits_until_all_of_it_was_heard_of() {
        let (mut receipts, now) = (receipts(), Timestamp::UNIX_EPOCH);
        receipts.number(Uuid::from_u128(1));
        receipts.number(Uuid::from_u128(2));
        receipts.cut(2, 60_000_000);
        receipts.number(Uuid::from_u128(4));
        assert_eq!(told(receipts.give(1, now)), None);
        receipts.settle(Settled { last_seq: 2, failed: 1 });
        assert_eq!(told(receipts.give(2, now)), Some((1, 2, 3, 1, false)));
        receipts.cut(3, 120_000_000);
        receipts.cut(3, 180_000_000);
        assert_eq!(told(Some(receipts.give_last(3, 190_000_000, now))), Some((3, 3, 4, 0, true)));
    }

    #[test]
    fn what_waits_is_bounded_and_complete() {
        let (mut receipts, now) = (receipts(), Timestamp::UNIX_EPOCH);
        for seq in 1..=2_000 {
            receipts.number(Uuid::from_u128(1 << (seq % 100)));
            receipts.cut(seq, 0);
        }
        assert_eq!(receipts.waiting.len(), WAITING_MAX);
        let (mut next, mut ids) = (1, 0);
        while let Some((first, last, xor, ..)) = told(receipts.give(2_000, now)) {
            assert_eq!(first, next);
            (next, ids) = (last + 1, ids ^ xor);
        }
        assert_eq!((next, ids), (2_001, 0));
    }
}
