//! The numbers and the receipts of each boot, held against the rows.

use super::{Judge, at, long};
use crate::audit::finding::{Finding, Kind};
use crate::audit::ledger::number_of;
use crate::audit::lives::Life;
use crate::audit::offsets::Way;

impl Judge {
    /// The numbers and receipts of one boot.
    pub(super) fn boot(&mut self, number: usize) {
        let life = self.lives[number].clone();
        let named = self.named(number, None);
        let boot = &self.ledger.boots[number];
        self.numbers.count += boot.seqs.count();
        let doubled: Vec<Finding> = boot
            .seqs_doubled
            .iter()
            .map(|seq| Finding { first: long(*seq), last: long(*seq), ..named.clone() })
            .collect();
        for finding in doubled {
            self.ledger.findings.add(Kind::SeqDoubled, 1, || finding);
        }
        if self.ledger.boots[number].receipts.is_empty() {
            return self.without_receipts(number, &named);
        }
        if let Some(joined_us) = life.joined_us {
            let before = Finding { at: at(joined_us), ..named.clone() };
            self.ledger.findings.add(Kind::NotProvableBefore, 1, || before);
        }
        let missing = self.sums(number, &life, &named);
        if life.overlaps {
            let message = match missing.iter().map(|(first, last)| last - first + 1).sum::<i64>() {
                0 => None,
                count => {
                    Some(format!("{count} of its numbers are not stored; the other's slots may stand there"))
                }
            };
            let kind = if life.is_shared { Kind::SharedProber } else { Kind::BootsOverlap };
            self.ledger.findings.add(kind, 1, || Finding { at: at(life.began_us), message, ..named });
            return;
        }
        if missing.is_empty() {
            return;
        }
        let passed = u32::try_from(number).map_or(i64::MAX, |number| self.passed_number(number));
        for (first, last) in missing {
            let parts = [
                (Kind::SeqHole, first, last.min(passed.saturating_sub(1))),
                (Kind::AwaitedSeq, first.max(passed), last),
            ];
            for (kind, first, last) in parts.into_iter().filter(|(_, first, last)| first <= last) {
                let count = u64::try_from(last - first + 1).unwrap_or(0);
                let named = named.clone();
                self.ledger.findings.add(kind, count, || Finding {
                    first: Some(first),
                    last: Some(last),
                    ..named
                });
            }
        }
    }

    /// Of a boot that gave no receipt the numbers prove nothing: those that no row has may never have left it, may be on
    /// their way, or of checks that this store was not to have.
    fn without_receipts(&mut self, number: usize, named: &Finding) {
        let boot = &self.ledger.boots[number];
        let (first_us, last_us) = (boot.first_us, boot.last_us);
        if last_us < self.ledger.scope.since_us || first_us >= self.ledger.scope.settled_us {
            return;
        }
        let end = boot.seqs.last().unwrap_or(0).saturating_add(1);
        let absent = end.saturating_sub(1).max(0).unsigned_abs().saturating_sub(boot.seqs.count_in(1, end));
        let message = (absent > 0).then(|| format!("{absent} of its numbers are not stored"));
        self.ledger.findings.add(Kind::NoReceipts, 1, || Finding {
            at: at(first_us),
            message,
            ..named.clone()
        });
    }

    /// Holds each receipt against the rows that it is about. Gives numbers that are not stored.
    fn sums(&mut self, number: usize, life: &Life, named: &Finding) -> Vec<(i64, i64)> {
        let scope = self.ledger.scope.clone();
        let boot = &self.ledger.boots[number];
        let mut missing = Vec::new();
        let mut found: Vec<(Kind, Finding)> = Vec::new();
        // What is before the first receipt that was read is not judged: it may not be of this store, or of the window.
        let mut next_seq = None;
        let mut slots_from_us = boot.slots_from_us;
        for receipt in &boot.receipts {
            let between = |first: u64, last: u64| Finding {
                first: long(first),
                last: long(last),
                at: at(receipt.at_us),
                ..named.clone()
            };
            let from_us = std::mem::replace(&mut slots_from_us, receipt.slots_until_us);
            if receipt.at_us < scope.since_us || from_us >= scope.until_us {
                next_seq = Some(receipt.last_seq.saturating_add(1));
                continue;
            }
            let is_settled = receipt.at_us < scope.settled_us;
            self.receipts.count += 1;
            if let Some(next) = next_seq
                && next < receipt.first_seq
                && is_settled
            {
                // Receipts of one prober lie in one partition, but for a batch that another writer has.
                if self.way != Way::Behind {
                    found.push((Kind::ReceiptMissing, between(next, receipt.first_seq - 1)));
                }
                let (first, end) = (number_of(next), number_of(receipt.first_seq));
                missing.extend(boot.seqs.holes(first, end));
            }
            next_seq = Some(receipt.last_seq.saturating_add(1));
            let expected = receipt.last_seq.saturating_add(1).saturating_sub(receipt.first_seq);
            let (first, end) = (number_of(receipt.first_seq), number_of(receipt.last_seq).saturating_add(1));
            let count = if receipt.is_letter { boot.seqs.count_in(first, end) } else { receipt.count };
            let is_same = count == expected && (receipt.is_letter || receipt.ids_xor.is_nil());
            if self.ledger.is_dropped(from_us, receipt.at_us) {
                self.receipts.dropped += 1;
            } else if from_us < scope.read_since_us || receipt.at_us >= scope.read_until_us {
                self.receipts.outside += 1;
            } else if is_same {
                self.receipts.proven += 1;
            } else if !is_settled {
                self.receipts.on_the_way += 1;
            } else if count >= expected {
                found.push((Kind::ReceiptDiffers, between(receipt.first_seq, receipt.last_seq)));
            } else if expected - count <= receipt.failed {
                self.receipts.proven += 1;
                self.given_up[number] += expected - count;
            } else if life.joined_us.is_some_and(|joined_us| from_us < joined_us) {
                self.receipts.outside += 1;
            } else {
                missing.extend(boot.seqs.holes(first, end));
            }
        }
        let last_seq = boot.receipts.last().map_or(0, |sum| number_of(sum.last_seq));
        let newest = boot.seqs.last().unwrap_or(0);
        if newest > last_seq {
            let behind = boot.seqs.count_in(last_seq + 1, newest + 1);
            if life.has_ended {
                let beyond = Finding { first: Some(last_seq + 1), last: Some(newest), ..named.clone() };
                found.push((Kind::SeqBeyond, beyond));
            } else {
                self.numbers.without_receipt += behind;
            }
        }
        for (kind, finding) in found {
            self.ledger.findings.add(kind, 1, || finding);
        }
        missing
    }
}
