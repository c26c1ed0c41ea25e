//! Which measurements were acked and then lost here, by their numbers. The receipt that is about them comes behind them and
//! says how many a sink gave up; these are among them, or whoever holds receipts against rows must take them for lost on the
//! way.

use std::collections::BTreeMap;

use monmon_model::Event;
use monmon_stage::Item;
use rusqlite::{Connection, params};
use uuid::Uuid;

/// Stretches of numbers that are kept, at most. What is dropped follows one another, so each source needs one for each time
/// that the spool is full; beyond them the oldest go, whose receipts have long passed.
const STRETCHES_MAX: i64 = 1_000;

/// By boot: the first number of each stretch, and its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    by_boot: BTreeMap<Uuid, BTreeMap<i64, i64>>,
}

/// The boot and the number of what has them.
pub(crate) fn numbered(item: &Item) -> Option<(Uuid, i64)> {
    let Item::Measurement(measured) = item else { return None };
    let measurement = &measured.measurement;
    Some((measurement.prober.boot, i64::try_from(measurement.seq).ok()?))
}

pub(crate) fn is_receipt(item: &Item) -> bool {
    matches!(item, Item::Event(reported) if matches!(*reported.event, Event::Receipt(_)))
}

impl Lost {
    pub(crate) fn add(&mut self, (boot, seq): (Uuid, i64)) {
        self.add_stretch(boot, seq, seq);
    }

    fn add_stretch(&mut self, boot: Uuid, mut first: i64, mut last: i64) {
        let stretches = self.by_boot.entry(boot).or_default();
        while let Some((from, to)) = stretches.range(..=last.saturating_add(1)).next_back() {
            let (from, to) = (*from, *to);
            if to.saturating_add(1) < first {
                break;
            }
            stretches.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        stretches.insert(first, last);
    }

    fn stretches(&self) -> impl Iterator<Item = (Uuid, i64, i64)> {
        let of_boot = |(boot, stretches)| {
            let stretches: &BTreeMap<i64, i64> = stretches;
            let boot: &Uuid = boot;
            stretches.iter().map(|(first, last)| (*boot, *first, *last))
        };
        self.by_boot.iter().flat_map(of_boot)
    }

    fn count(&self, boot: Uuid, first: i64, last: i64) -> u64 {
        let Some(stretches) = self.by_boot.get(&boot) else { return 0 };
        let within = stretches.range(..=last).map(|(from, to)| (*to).min(last) - (*from).max(first) + 1);
        within.filter(|count| *count > 0).map(i64::unsigned_abs).sum()
    }

    /// A receipt on its way to the sink says what was lost of what it is about.
    pub(crate) fn tell(&self, item: &mut Item) {
        if self.by_boot.is_empty() {
            return;
        }
        if let Item::Event(reported) = item
            && let Event::Receipt(receipt) = &mut *reported.event
        {
            let number = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
            let lost = self.count(receipt.prober.boot, number(receipt.first_seq), number(receipt.last_seq));
            receipt.failed = receipt.failed.saturating_add(lost);
        }
    }

    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Lost> {
        let mut lost = Lost::default();
        let mut statement =
            connection.prepare_cached("SELECT boot, first_seq, last_seq FROM monmon_spool_lost")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            // One that is no boot's is of nobody who could be told.
            if let Ok(boot) = Uuid::from_slice(row.get_ref(0)?.as_blob().unwrap_or_default()) {
                lost.add_stretch(boot, row.get(1)?, row.get(2)?);
            }
        }
        Ok(lost)
    }

    /// Writes down what is lost in addition to what stands in the file.
    pub(crate) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        const LENGTHEN: &str = "UPDATE monmon_spool_lost SET last_seq = max(last_seq, ?3) WHERE id = ( \
            SELECT id FROM monmon_spool_lost WHERE boot = ?1 AND first_seq <= ?2 AND last_seq >= ?2 - 1 LIMIT 1)";
        const INSERT: &str = "INSERT INTO monmon_spool_lost (boot, first_seq, last_seq) VALUES (?1, ?2, ?3)";
        const BOUND: &str =
            "DELETE FROM monmon_spool_lost WHERE id <= (SELECT max(id) FROM monmon_spool_lost) - ?1";
        for (boot, first, last) in self.stretches() {
            let stretch = params![boot.as_bytes().as_slice(), first, last];
            if connection.prepare_cached(LENGTHEN)?.execute(stretch)? == 0 {
                connection.prepare_cached(INSERT)?.execute(stretch)?;
                connection.prepare_cached(BOUND)?.execute([STRETCHES_MAX])?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use monmon_model::{Prober, Receipt};
    use monmon_stage::Reported;
    use proptest::prelude::*;

    use super::*;

    fn receipt(boot: Uuid, first_seq: u64, last_seq: u64, failed: u64) -> Item {
        let prober = Prober { id: Uuid::nil(), name: "a".to_owned(), location: None, boot };
        let at = Timestamp::UNIX_EPOCH;
        let event = Event::Receipt(Receipt {
            id: Uuid::nil(),
            prober: Arc::new(prober),
            pipeline: "p".to_owned(),
            source: "s".to_owned(),
            at,
            began_at: at,
            slots_from: at,
            slots_until: at,
            first_seq,
            last_seq,
            ids_xor: Uuid::nil(),
            failed,
            last: false,
        });
        Item::Event(Reported { event: Box::new(event), place: None })
    }

    fn failed(item: &Item) -> u64 {
        match item {
            Item::Event(reported) => match &*reported.event {
                Event::Receipt(receipt) => receipt.failed,
                Event::Incident(_) => panic!("a receipt"),
            },
            _ => panic!("an event"),
        }
    }

    proptest! {
        /// As a plain set, in memory and in the file.
        #[test]
        fn what_is_lost_is_counted_once(
            numbers in prop::collection::vec(1i64..120, 0..90), chunk in 1usize..20, first in 1u64..100, len in 0u64..60,
        ) {
            let boot = Uuid::from_u128(7);
            let connection = Connection::open_in_memory().unwrap();
            connection.execute_batch(include_str!("../../../sql/spool/0002_lost.sql")).unwrap();
            let mut lost = Lost::default();
            for some in numbers.chunks(chunk) {
                let mut more = Lost::default();
                some.iter().for_each(|seq| more.add((boot, *seq)));
                more.write(&connection).unwrap();
                some.iter().for_each(|seq| lost.add((boot, *seq)));
            }
            prop_assert_eq!(&Lost::read(&connection).unwrap(), &lost);
            let last = first + len;
            let within: std::collections::BTreeSet<i64> =
                numbers.into_iter().filter(|seq| (first..=last).contains(&seq.unsigned_abs())).collect();
            let mut told = receipt(boot, first, last, 3);
            lost.tell(&mut told);
            prop_assert_eq!(failed(&told), 3 + within.len() as u64);
            let mut others = receipt(Uuid::from_u128(8), first, last, 3);
            lost.tell(&mut others);
            prop_assert_eq!(failed(&others), 3);
        }
    }
}
