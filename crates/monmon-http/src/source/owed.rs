//! Slots that got no check and still are owed their measurement, in a compact form: however long the stages behind are
//! stuck, the memory is bounded by the number of checks.

use std::collections::{BTreeMap, VecDeque};

use monmon_model::FailureKind;

/// How many stretches of one check are kept apart.
const STRETCHES_MAX: usize = 8;
/// How many slots of one check are told one by one; what is beyond is counted and logged.
pub(crate) const SLOTS_MAX: u64 = 1_000;

/// Consecutive slots of one check with the same fate.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    first: i64,
    count: u64,
    interval: i64,
    kind: FailureKind,
}

#[derive(Debug, Default)]
pub(crate) struct Owed {
    by_check: BTreeMap<u32, VecDeque<Stretch>>,
    /// In turn, so that one check's gap does not hold up the others.
    turns: VecDeque<u32>,
    untold: u64,
}

impl Owed {
    pub(crate) fn add(&mut self, check: u32, first: i64, count: u64, interval: i64, kind: FailureKind) {
        let stretches = self.by_check.entry(check).or_insert_with(|| {
            self.turns.push_back(check);
            VecDeque::new()
        });
        let had: u64 = stretches.iter().map(|stretch| stretch.count).sum();
        let kept = count.min(SLOTS_MAX.saturating_sub(had));
        self.untold += count - kept;
        if kept == 0 {
            return;
        }
        let room = stretches.len() < STRETCHES_MAX;
        match stretches.back_mut() {
            Some(last) if last.kind == kind && last.first + last.count as i64 * interval == first => {
                last.count += kept;
            }
            _ if room => {
                stretches.push_back(Stretch { first, count: kept, interval, kind });
            }
            _ => self.untold += kept,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The next slot to be told: its check, its time, what became of it.
    pub(crate) fn pop(&mut self) -> Option<(u32, i64, FailureKind)> {
        let check = self.turns.pop_front()?;
        let stretches = self.by_check.get_mut(&check)?;
        let stretch = stretches.front_mut()?;
        let told = (check, stretch.first, stretch.kind);
        stretch.first += stretch.interval;
        stretch.count -= 1;
        if stretch.count == 0 {
            stretches.pop_front();
        }
        if stretches.is_empty() {
            self.by_check.remove(&check);
        } else {
            self.turns.push_back(check);
        }
        Some(told)
    }

    /// How many slots are beyond what can be told, since it was last asked.
    pub(crate) fn take_untold(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    /// How many slots are still owed.
    pub(crate) fn count(&self) -> u64 {
        self.by_check.values().flatten().map(|stretch| stretch.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_is_told_or_counted() {
        let mut owed = Owed::default();
        for slot in 0..50 {
            owed.add(1, slot * 10, 1, 10, FailureKind::Overload);
        }
        owed.add(2, 5, 2_000, 10, FailureKind::Overslept);
        assert_eq!((owed.count(), owed.take_untold()), (1_050, 1_000));
        let mut told = Vec::new();
        while let Some((check, slot, kind)) = owed.pop() {
            told.push((check, slot, kind));
        }
        assert!(owed.is_empty());
        assert_eq!(told.len(), 1_050);
        let first: Vec<i64> =
            told.iter().filter(|(check, ..)| *check == 1).map(|(_, slot, _)| *slot).collect();
        assert_eq!(first, (0..50).map(|slot| slot * 10).collect::<Vec<_>>());
    }

    #[test]
    fn stretches_are_bounded() {
        let mut owed = Owed::default();
        for slot in 0..100 {
            owed.add(1, slot * 20, 1, 10, FailureKind::Overload);
        }
        assert_eq!((owed.count(), owed.take_untold()), (8, 92));
    }
}
