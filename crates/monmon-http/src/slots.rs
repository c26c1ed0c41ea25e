//! When a check was due, worked out afterwards from what a store has kept of its definition.

use std::time::Duration;

use jiff::Timestamp;
use monmon_model::bounds::INTERVAL_US_MIN;
use uuid::Uuid;

use crate::schedule::Cadence;
use crate::source::window::Cron;

/// The slots of one definition of a check. Times are microseconds since 1970.
#[derive(Clone, Debug)]
pub struct Slots(Cadence);

impl Slots {
    /// As the source that measured them had it: the interval, or a crontab line with its time zone.
    pub fn of(check: Uuid, interval_us: u64, schedule: Option<&str>) -> Result<Slots, String> {
        let interval = Duration::from_micros(interval_us);
        let Some(schedule) = schedule else {
            // No prober keeps to less; a message that was stored before it was refused may say so.
            return match interval_us {
                INTERVAL_US_MIN.. => Ok(Slots(Cadence::new(check, interval))),
                _ => Err(format!("an interval of {interval_us} us is shorter than any prober's")),
            };
        };
        let (line, timezone) =
            schedule.rsplit_once(' ').ok_or_else(|| "a crontab line has a time zone behind it".to_owned())?;
        Ok(Slots(Cadence::by(Cron::new(line, timezone)?, interval)))
    }

    /// The first slot at or after an instant; `i64::MAX` where there is none.
    pub fn at_or_after(&self, at_us: i64) -> i64 {
        self.0.at_or_after(at_us)
    }

    /// The slot after this one.
    pub fn next(&self, slot_us: i64) -> i64 {
        self.0.next(slot_us)
    }

    /// The number of a slot, counted from one near 1970; none where an instant is no slot, or slots have no numbers: a
    /// crontab line's can only be gone through.
    pub fn number(&self, at_us: i64) -> Option<i64> {
        match &self.0 {
            Cadence::Every { interval_us, offset_us } => {
                let since = at_us.checked_sub(*offset_us)?;
                (since % interval_us == 0).then(|| since.div_euclid(*interval_us))
            }
            Cadence::By { .. } => None,
        }
    }

    /// Whether slots have numbers.
    pub fn is_numbered(&self) -> bool {
        matches!(self.0, Cadence::Every { .. })
    }

    /// The slot of a number.
    pub fn of_number(&self, number: i64) -> i64 {
        match &self.0 {
            Cadence::Every { interval_us, offset_us } => {
                number.saturating_mul(*interval_us).saturating_add(*offset_us)
            }
            Cadence::By { .. } => i64::MAX,
        }
    }
}

/// The slots that one row stands for, where a prober told several in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandsFor {
    pub first_us: i64,
    pub last_us: i64,
    /// How many slots, the row's own among them.
    pub slots: u64,
    /// Slots with rows of their own lie between the first and the last.
    pub gaps: bool,
}

/// What such a row's message has in it.
pub(crate) const STANDS_FOR: &str = "; stands for ";

impl StandsFor {
    /// Reads the message of a measurement that was never begun; the writer is `Told::message`.
    pub fn read(message: &str) -> Option<StandsFor> {
        let (_, told) = message.split_once(STANDS_FOR)?;
        let (slots, told) = told.split_once(" slots ")?;
        let (gaps, told) = match told.strip_prefix("of those ") {
            Some(told) => (true, told),
            None => (false, told),
        };
        let (first, told) = told.strip_prefix("from ")?.split_once(" to ")?;
        let (last, _) = told.split_once(", ")?;
        let at = |text: &str| text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond);
        Some(StandsFor { first_us: at(first)?, last_us: at(last)?, slots: slots.parse().ok()?, gaps })
    }
}

#[cfg(test)]
mod tests {
    use monmon_model::FailureKind;

    use super::*;
    use crate::source::Told;

    #[test]
    fn slots_are_those_of_the_schedule() {
        let check = Uuid::from_u128(7);
        let slots = Slots::of(check, 30_000_000, None).unwrap();
        let cadence = Cadence::new(check, Duration::from_secs(30));
        let at = 1_795_000_000_000_000;
        let slot = slots.at_or_after(at);
        assert_eq!(slot, cadence.at_or_after(at));
        let number = slots.number(slot).unwrap();
        assert_eq!((slots.of_number(number), slots.of_number(number + 1)), (slot, slots.next(slot)));
        assert_eq!(slots.number(slot + 1), None);

        let slots = Slots::of(check, 1, Some("*/5 * * * * Europe/Berlin")).unwrap();
        assert_eq!(slots.at_or_after(at) % 300_000_000, 0);
        assert!(Slots::of(check, 1, Some("*/5 * * * *")).is_err());
        assert!(Slots::of(check, INTERVAL_US_MIN, None).is_ok() && Slots::of(check, 1, None).is_err());
    }

    #[test]
    fn what_a_row_stands_for_is_read_as_it_was_told() {
        let (slot, last) = (1_795_000_000_250_000, 1_795_000_090_250_000);
        for (slots, gaps, mixed) in [(4, false, false), (3, true, false), (4, false, true)] {
            let told = Told { slot, last, slots, gaps, kind: FailureKind::NotRunning, mixed };
            let read = StandsFor::read(&told.message(30_000_000));
            assert_eq!(read, Some(StandsFor { first_us: slot, last_us: last, slots, gaps }));
        }
        assert_eq!(StandsFor::read(&Told::alone(slot, FailureKind::Overslept).message(1)), None);
        assert_eq!(StandsFor::read("x; stands for 3 slots from here to there, one every 1s"), None);
    }
}
