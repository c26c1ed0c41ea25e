//! When checks are due. Slots, not sleeps: a check is due at the instants t with (t - offset) a multiple of its
//! interval, so that what should have been measured can be computed from the definition alone.
//!
//! Everything here is pure: times are microseconds since the Unix epoch and come in as arguments.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use uuid::Uuid;

use crate::source::window::Cron;

/// A wake-up that comes later than this after its slot means that the prober slept or was stopped.
pub(crate) const LATE_MAX_US: i64 = 1_000_000;
/// After a sleep, slots older than this are not made up for: no burst of belated checks.
const CATCH_UP_US: i64 = 100_000;

/// The slots of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cadence {
    Every {
        interval_us: i64,
        offset_us: i64,
    },
    /// By a crontab line, with the mean of its intervals.
    By {
        cron: Cron,
        mean_us: i64,
    },
}

/// How many slots of a crontab line are gone through one by one, at most: two months of minutes. What is slept through
/// beyond them is told with those.
const STEPS_MAX: u64 = 100_000;

impl Cadence {
    /// The offset is a hash of the check's id (the finalizer of splitmix64 over the two halves), taken modulo the
    /// interval: the same for all probers and restarts, spread evenly over many checks.
    pub(crate) fn new(check: Uuid, interval: Duration) -> Cadence {
        let interval_us = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX).clamp(1, i64::MAX / 4);
        let (high, low) = check.as_u64_pair();
        let hash = mix(mix(high) ^ low);
        let offset_us = (u128::from(hash) % interval_us as u128) as i64;
        Cadence::Every { interval_us, offset_us }
    }

    pub(crate) fn by(cron: Cron, mean: Duration) -> Cadence {
        Cadence::By { cron, mean_us: i64::try_from(mean.as_micros()).unwrap_or(i64::MAX).max(1) }
    }

    /// The time from slot to slot, or the mean of it.
    pub(crate) fn interval_us(&self) -> i64 {
        match self {
            Cadence::Every { interval_us, .. } => *interval_us,
            Cadence::By { mean_us, .. } => *mean_us,
        }
    }

    /// The first slot at or after `t`.
    pub(crate) fn at_or_after(&self, t: i64) -> i64 {
        match self {
            Cadence::Every { interval_us, offset_us } => {
                let past = t.saturating_sub(*offset_us).rem_euclid(*interval_us);
                if past == 0 { t } else { t.saturating_add(interval_us - past) }
            }
            Cadence::By { cron, .. } => cron.after(t.saturating_sub(1)),
        }
    }

    /// The slot after this one.
    pub(crate) fn next(&self, slot: i64) -> i64 {
        match self {
            Cadence::Every { interval_us, .. } => slot.saturating_add(*interval_us),
            Cadence::By { cron, .. } => cron.after(slot),
        }
    }

    /// The newest slot that is not after `now`, and how many there are from `slot`, which is one, up to and without it.
    pub(crate) fn newest(&self, slot: i64, now: i64) -> (i64, u64) {
        match self {
            Cadence::Every { interval_us, .. } => {
                let count = (now - slot) / interval_us;
                (slot + count * interval_us, count as u64)
            }
            Cadence::By { .. } => {
                let (mut newest, mut count) = (slot, 0);
                loop {
                    let next = self.next(newest);
                    if next > now || count == STEPS_MAX {
                        return (newest, count);
                    }
                    (newest, count) = (next, count + 1);
                }
            }
        }
    }

    /// How many slots there are from `first`, which is one, up to and without `end`.
    #[cfg(test)]
    pub(crate) fn count(&self, first: i64, end: i64) -> u64 {
        if end <= first { 0 } else { self.newest(first, end - 1).1 + 1 }
    }
}

/// The finalizer of splitmix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// What becomes of slots whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// To be measured now.
    Start { check: u32, slot: i64 },
    /// Slept through: `count` slots of the check, from `first` on.
    Overslept { check: u32, first: i64, count: u64 },
}

/// All checks in the order in which they are due. One entry per check, so idle checks cost nothing but their place.
#[derive(Debug)]
pub(crate) struct Schedule {
    cadences: Vec<Cadence>,
    next: BinaryHeap<Reverse<(i64, u32)>>,
}

impl Schedule {
    /// The first slots are those at or after `now`.
    pub(crate) fn new(cadences: Vec<Cadence>, now: i64) -> Schedule {
        let next = (0u32..).zip(&cadences).map(|(check, cadence)| Reverse((cadence.at_or_after(now), check)));
        let next = next.collect();
        Schedule { cadences, next }
    }

    /// When the next slot is due.
    pub(crate) fn next_due(&self) -> Option<i64> {
        self.next.peek().map(|Reverse((slot, _))| *slot)
    }

    /// Takes all that is due at `now`, in order. No slot is ever given twice, whatever `now` does.
    pub(crate) fn take(&mut self, now: i64, due: &mut Vec<Due>) {
        let Some(first) = self.next_due() else { return };
        let slept = now.saturating_sub(first) > LATE_MAX_US;
        let horizon = if slept { now - CATCH_UP_US } else { i64::MIN };
        while let Some(&Reverse((slot, check))) = self.next.peek()
            && slot <= now
        {
            self.next.pop();
            let cadence = &self.cadences[check as usize];
            // Of several slots of one check that are due at once, only the newest can still be measured in its time.
            let (newest, before) = cadence.newest(slot, now);
            let (start, count) =
                if newest < horizon { (cadence.next(newest), before + 1) } else { (newest, before) };
            if count > 0 {
                due.push(Due::Overslept { check, first: slot, count });
            }
            if start <= now {
                due.push(Due::Start { check, slot: start });
                self.next.push(Reverse((cadence.next(start), check)));
            } else {
                self.next.push(Reverse((start, check)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const T0: i64 = 1_795_000_000 * SECOND;

    fn cadences(count: usize, interval: Duration) -> Vec<Cadence> {
        (0..count)
            .map(|n| Cadence::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes()), interval))
            .collect()
    }

    #[test]
    fn slots_are_multiples_from_the_offset_and_do_not_drift() {
        let cadence = cadences(1, Duration::from_secs(30))[0].clone();
        let mut schedule = Schedule::new(vec![cadence.clone()], T0);
        let mut slots = Vec::new();
        // The wake-ups come late by up to 700 ms; the slots do not follow them.
        for wake in 0..100 {
            let now = schedule.next_due().unwrap() + (wake * 7919 % 700) * 1000;
            let mut due = Vec::new();
            schedule.take(now, &mut due);
            assert_eq!(due.len(), 1);
            if let Due::Start { slot, .. } = due[0] {
                slots.push(slot);
            }
        }
        assert!(slots.windows(2).all(|pair| pair[1] - pair[0] == 30 * SECOND));
        let Cadence::Every { offset_us, .. } = cadence else { panic!("by interval") };
        assert_eq!((slots[0] - offset_us) % (30 * SECOND), 0);
        assert_eq!(slots.len(), 100);
    }

    #[test]
    fn a_thousand_checks_are_spread() {
        let mut buckets = [0u32; 100];
        for cadence in cadences(1000, Duration::from_secs(1)) {
            let Cadence::Every { offset_us, .. } = cadence else { panic!("by interval") };
            buckets[(offset_us / 10_000) as usize] += 1;
        }
        assert!(buckets.iter().max() <= Some(&30), "{buckets:?}");
        assert!(buckets.iter().min() > Some(&0), "{buckets:?}");
    }

    #[test]
    fn what_was_slept_through_is_told_and_not_made_up_for() {
        let checks = cadences(1000, Duration::from_secs(1));
        let mut schedule = Schedule::new(checks.clone(), T0);
        let mut due = Vec::new();
        let end = T0 + 30 * SECOND;
        schedule.take(end, &mut due);
        let mut missed = 0;
        let mut started = 0;
        for due in &due {
            match due {
                Due::Start { .. } => started += 1,
                Due::Overslept { count, .. } => missed += count,
            }
        }
        let owed: u64 = checks.iter().map(|check| check.count(check.at_or_after(T0), end + 1)).sum();
        assert_eq!(missed + started, owed);
        assert!((50..200).contains(&started), "{started} checks in one go");
        assert!(schedule.next_due() > Some(end));
    }

    #[test]
    fn a_clock_that_goes_back_repeats_no_slot() {
        let mut schedule = Schedule::new(cadences(10, Duration::from_secs(1)), T0);
        let mut due = Vec::new();
        schedule.take(T0 + SECOND, &mut due);
        let before = due.len();
        schedule.take(T0 - 3600 * SECOND, &mut due);
        schedule.take(T0 + SECOND, &mut due);
        assert_eq!(due.len(), before);
    }

    #[test]
    fn a_short_interval_keeps_only_its_newest_slot() {
        let cadence = cadences(1, Duration::from_millis(100))[0].clone();
        let mut schedule = Schedule::new(vec![cadence.clone()], T0);
        let first = schedule.next_due().unwrap();
        let mut due = Vec::new();
        schedule.take(first + 350_000, &mut due);
        assert_eq!(
            due,
            [Due::Overslept { check: 0, first, count: 3 }, Due::Start { check: 0, slot: first + 300_000 }]
        );
    }

    #[test]
    fn a_crontab_line_has_its_slots() {
        let cron = Cron::new("*/10 * * * *", "UTC").unwrap();
        let cadence = Cadence::by(cron, Duration::from_secs(600));
        let mut schedule = Schedule::new(vec![cadence], T0);
        let first = schedule.next_due().unwrap();
        assert_eq!(first % (600 * SECOND), 0);
        let mut due = Vec::new();
        schedule.take(first, &mut due);
        schedule.take(first + 2 * 600 * SECOND, &mut due);
        schedule.take(first + 5 * 600 * SECOND + 90 * SECOND, &mut due);
        let at = |n: i64| first + n * 600 * SECOND;
        assert_eq!(
            due,
            [
                Due::Start { check: 0, slot: first },
                Due::Overslept { check: 0, first: at(1), count: 1 },
                Due::Start { check: 0, slot: at(2) },
                Due::Overslept { check: 0, first: at(3), count: 3 },
            ]
        );
        assert_eq!(schedule.next_due(), Some(at(6)));
    }

    proptest::proptest! {
        /// However the wake-ups fall: each slot once, none left out, in order.
        #[test]
        fn every_slot_once(interval_ms in 100u64..10_000, wakes in proptest::collection::vec(0i64..20_000_000, 1..60)) {
            let cadence = cadences(1, Duration::from_millis(interval_ms))[0].clone();
            let mut schedule = Schedule::new(vec![cadence.clone()], T0);
            let mut expected = cadence.at_or_after(T0);
            let mut now = T0;
            for wake in wakes {
                now += wake;
                let mut due = Vec::new();
                schedule.take(now, &mut due);
                for due in due {
                    match due {
                        Due::Start { slot, .. } => {
                            proptest::prop_assert_eq!(slot, expected);
                            expected += cadence.interval_us();
                        }
                        Due::Overslept { first, count, .. } => {
                            proptest::prop_assert_eq!(first, expected);
                            expected += cadence.interval_us() * count as i64;
                        }
                    }
                }
                proptest::prop_assert!(expected > now);
            }
        }
    }
}
