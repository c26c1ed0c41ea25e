//! Whether what is not stored may still be on its way. Receipts and measurements lie in different partitions of a log, so a
//! consumer that lags has the one long before the other, and no clock tells by how much. What tells is the order within a
//! partition: a check's measurements lie in one, by their numbers.

use uuid::Uuid;

use super::Judge;
use crate::audit::ledger::number_of;
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
        match self.way {
            Way::Stored => i64::MAX,
            Way::Behind => 0,
            Way::Open => {
                let boots = [Some(boot), self.lives[boot as usize].before].into_iter().flatten();
                let checks =
                    boots.flat_map(|boot| self.watched_in.range((boot, Uuid::nil())..=(boot, Uuid::max())));
                checks.map(|(_, check)| self.read_upto(*check, boot)).min().unwrap_or(0)
            }
        }
    }
}
