//! Whether what is not stored may still be on its way. Receipts and measurements lie in different partitions of a log, so a
//! consumer that lags has the one long before the other, and no clock tells by how much. What tells is the order within a
//! partition: a check's measurements lie in one, by their numbers.

use monmon_http::Slots;
use uuid::Uuid;

use super::Judge;
use crate::audit::ledger::{Sum, number_of};
use crate::audit::offsets::Way;

impl Judge {
    /// Whether the measurement of a slot that its prober has accounted for cannot come any more.
    pub(super) fn is_passed(&self, check: Uuid, boot: u32, slot_us: i64) -> bool {
        match self.way {
            Way::Stored => true,
            Way::Behind => false,
            Way::Open => self.is_passed_by_number(check, boot, slot_us),
        }
    }

    fn is_passed_by_number(&self, check: Uuid, boot: u32, slot_us: i64) -> bool {
        let accounts = |boot: u32| {
            let receipts = &self.ledger.boots[boot as usize].receipts;
            let at = receipts.partition_point(|sum| sum.slots_until_us <= slot_us);
            receipts.get(at).map(|sum| (boot, number_of(sum.last_seq)))
        };
        // What came due after a boot's end is told by the next one.
        let next = self.lives[boot as usize].next;
        let Some((boot, last)) = accounts(boot).or_else(|| next.and_then(accounts)) else { return true };
        let read = self.read_upto(check, boot);
        // Where all numbers behind the check's newest are stored, the missing one is before it.
        read >= last || {
            let stored = self.ledger.boots[boot as usize].seqs.count_in(read + 1, last + 1);
            i64::try_from(stored).is_ok_and(|stored| stored == last - read)
        }
    }

    /// Up to which number of a boot everything of a check has been read: a later boot's rows are behind all of this one's.
    fn read_upto(&self, check: Uuid, boot: u32) -> i64 {
        let mut next = self.lives[boot as usize].next;
        while let Some(later) = next {
            if self.watched_in.contains(&(later, check)) {
                return i64::MAX;
            }
            next = self.lives[later as usize].next;
        }
        let watched = (self.ledger.boots[boot as usize].prober, check);
        let lanes = self.lanes_of.get(&watched).map(Vec::as_slice).unwrap_or_default();
        let of_boot = lanes.iter().map(|lane| &self.ledger.lanes[*lane]).filter(|lane| lane.0.0 == boot);
        of_boot.map(|(_, lane)| lane.last_seq).max().unwrap_or(0)
    }

    /// Numbers of a boot that are missing, below the one that is returned, cannot come any more: all of its checks are read
    /// beyond them, also those that the boot before had and this one has shown nothing of.
    pub(super) fn passed_number(&self, boot: u32) -> i64 {
        let offsets = &self.ledger.offsets;
        match self.way {
            Way::Behind => 0,
            _ if offsets.is_all_stored() => i64::MAX,
            _ if offsets.has_unseen() => 0,
            Way::Stored => self.whole_upto(boot),
            Way::Open if self.has_unseen_check(boot) => 0,
            Way::Open => {
                let boots = [Some(boot), self.lives[boot as usize].before].into_iter().flatten();
                let checks =
                    boots.flat_map(|boot| self.watched_in.range((boot, Uuid::nil())..=(boot, Uuid::max())));
                let read = checks.map(|(_, check)| self.read_upto(*check, boot)).min().unwrap_or(0);
                read.min(self.whole_upto(boot))
            }
        }
    }

    /// Up to where everything has been read of checks that nothing at all is stored of: behind the newest receipt without a
    /// missing number. Of such a check, in a partition that nobody has read, each receipt would miss some.
    fn whole_upto(&self, boot: u32) -> i64 {
        let newest = |boot: u32| {
            let mut receipts = self.ledger.boots[boot as usize].receipts.iter().rev();
            receipts.find(|sum| sum.count > 0 && is_whole(sum)).map(|sum| number_of(sum.last_seq) + 1)
        };
        let mut next = self.lives[boot as usize].next;
        while let Some(later) = next {
            if newest(later).is_some() {
                return i64::MAX;
            }
            next = self.lives[later as usize].next;
        }
        newest(boot).unwrap_or(0)
    }

    /// Whether some check of the source, of which nothing in the window is stored of this boot, may be one of this boot's: its
    /// partition may lag for longer than the window reaches.
    fn has_unseen_check(&self, boot: u32) -> bool {
        let Some(origin) = &self.ledger.boots[boot as usize].origin else { return false };
        let mut seen_in = vec![boot];
        seen_in.extend(self.lives[boot as usize].before);
        let mut next = self.lives[boot as usize].next;
        while let Some(later) = next {
            seen_in.push(later);
            next = self.lives[later as usize].next;
        }
        let wholes = self.wholes(boot);
        self.ledger.definitions.iter().any(|definition| {
            let check = definition.check_id;
            if definition.pipeline != origin.pipeline
                || definition.source != origin.source
                || seen_in.iter().any(|boot| self.watched_in.contains(&(*boot, check)))
            {
                return false;
            }
            let Ok(slots) = Slots::of(check, definition.interval_us, definition.schedule.as_deref()) else {
                return false;
            };
            // Of what was due in a time of which every number is stored, and has no row, the boot has nothing.
            !wholes.iter().any(|(from_us, until_us)| slots.at_or_after(*from_us) < *until_us)
        })
    }

    /// Times in which slots came due that have all of their numbers in receipts without a missing one.
    fn wholes(&self, boot: u32) -> Vec<(i64, i64)> {
        let boot = &self.ledger.boots[boot as usize];
        let mut wholes: Vec<(i64, i64)> = Vec::new();
        let mut before: Option<&Sum> = None;
        for sum in &boot.receipts {
            let follows = before.filter(|before| before.last_seq.saturating_add(1) == sum.first_seq);
            if is_whole(sum) {
                match wholes.last_mut().filter(|_| follows.is_some_and(is_whole)) {
                    Some(whole) => whole.1 = sum.slots_until_us,
                    // A slot may be measured before the receipt is given that does not account for it yet.
                    None => {
                        let from_us = match (follows, sum.first_seq) {
                            (Some(before), _) => before.at_us,
                            (None, ..=1) => boot.began_us,
                            (None, _) => sum.at_us,
                        };
                        wholes.push((from_us, sum.slots_until_us));
                    }
                }
            }
            before = Some(sum);
        }
        wholes
    }
}

fn is_whole(sum: &Sum) -> bool {
    let expected = sum.last_seq.saturating_add(1).saturating_sub(sum.first_seq);
    !sum.is_letter && sum.count == expected && sum.ids_xor.is_nil()
}
