//! Which part of a log of messages a batch is: what stores put on record beside the rows, so that the records can be held
//! against the log.

use std::collections::BTreeMap;

use crate::{Envelope, Item};

/// What of a batch was read from one partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<'a> {
    pub pipeline: &'a str,
    pub source: &'a str,
    pub topic: &'a str,
    pub partition: i32,
    /// How many messages.
    pub messages: u32,
    /// How many of them are dead letters.
    pub rejected: u32,
    /// How many of them are no measurements, but what is told beside them.
    pub events: u32,
    /// Sorted, each once, and never empty.
    offsets: Vec<i64>,
}

/// The slices of a batch.
#[derive(Debug, Default)]
pub struct Slices<'a> {
    pub list: Vec<Slice<'a>>,
    /// For each envelope of the batch the slice that it belongs to; none for what was made in this process.
    pub places: Vec<Option<usize>>,
}

impl Slice<'_> {
    pub fn first(&self) -> i64 {
        self.offsets.first().copied().unwrap_or(0)
    }

    pub fn last(&self) -> i64 {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// First and last offset of each run without a hole, where there is more than one run. Batches are halved, and several
    /// writers take them in turns, so what lies between a slice's first and last offset is not always its own.
    pub fn runs(&self) -> Option<Vec<(i64, i64)>> {
        let count = i128::try_from(self.offsets.len()).unwrap_or(i128::MAX);
        if i128::from(self.last()) - i128::from(self.first()) < count {
            return None;
        }
        let mut runs: Vec<(i64, i64)> = Vec::new();
        for offset in &self.offsets {
            match runs.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(*offset) => *last = *offset,
                _ => runs.push((*offset, *offset)),
            }
        }
        Some(runs)
    }
}

impl<'a> Slices<'a> {
    pub fn of(batch: &'a [Envelope]) -> Slices<'a> {
        let mut slices = Slices { list: Vec::new(), places: Vec::with_capacity(batch.len()) };
        let mut known = BTreeMap::new();
        for envelope in batch {
            let Some((partition, topic, source, pipeline, offset)) = origin(&envelope.item) else {
                slices.places.push(None);
                continue;
            };
            // The partition first: what most often differs.
            let at = *known.entry((partition, topic, source, pipeline)).or_insert_with(|| {
                let offsets = Vec::new();
                let (messages, rejected, events) = (0, 0, 0);
                slices.list.push(Slice {
                    pipeline,
                    source,
                    topic,
                    partition,
                    messages,
                    rejected,
                    events,
                    offsets,
                });
                slices.list.len() - 1
            });
            let slice = &mut slices.list[at];
            slice.messages += 1;
            slice.rejected += u32::from(matches!(envelope.item, Item::Rejected(_)));
            slice.events += u32::from(matches!(envelope.item, Item::Event(_)));
            slice.offsets.push(offset);
            slices.places.push(Some(at));
        }
        for slice in &mut slices.list {
            slice.offsets.sort_unstable();
            slice.offsets.dedup();
        }
        slices
    }
}

type Read<'a> = (i32, &'a str, &'a str, &'a str, i64);

fn origin(item: &Item) -> Option<Read<'_>> {
    let place = match item {
        Item::Measurement(measured) => measured.place.as_ref()?,
        Item::Event(reported) => reported.place.as_ref()?,
        // Its origin says where it was first met, which may be another store's log.
        Item::Rejected(refused) => refused.place.as_ref()?,
    };
    let feed = &place.feed;
    Some((place.partition, &feed.topic, &feed.source, &feed.pipeline, place.offset))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use monmon_model::{Rejected, RejectedReason};

    use super::*;
    use crate::{Ack, Feed, Place};

    fn place(topic: &str, partition: i32, offset: i64) -> Place {
        let feed = Feed { pipeline: "consumer".into(), source: "events".into(), topic: topic.to_owned() };
        Place { feed: Arc::new(feed), partition, offset }
    }

    fn letter(place: &Place) -> Rejected {
        let bytes = place.offset.to_string().into_bytes();
        Rejected::new(RejectedReason::NotJson, "", place.origin(), Timestamp::UNIX_EPOCH, None, bytes)
    }

    fn envelope(topic: &str, partition: i32, offset: i64) -> Envelope {
        let place = place(topic, partition, offset);
        Envelope::rejected(letter(&place), Some(place), Ack::ignored())
    }

    #[test]
    fn a_slice_tells_its_offsets_and_no_others() {
        let batch = [
            envelope("a", 0, 7),
            envelope("a", 1, 3),
            envelope("a", 0, 5),
            Envelope::rejected(letter(&place("a", 0, 8)), None, Ack::ignored()),
            envelope("a", 0, 6),
            envelope("b", 0, 6),
            envelope("a", 1, 9),
            envelope("a", 1, 4),
            envelope("a", 1, 4),
        ];
        let slices = Slices::of(&batch);
        assert_eq!(
            slices.places,
            [Some(0), Some(1), Some(0), None, Some(0), Some(2), Some(1), Some(1), Some(1)]
        );
        let told: Vec<_> = slices
            .list
            .iter()
            .map(|slice| {
                (slice.topic, slice.partition, slice.messages, slice.rejected, slice.first(), slice.last())
            })
            .collect();
        assert_eq!(told, [("a", 0, 3, 3, 5, 7), ("a", 1, 4, 4, 3, 9), ("b", 0, 1, 1, 6, 6)]);
        let runs: Vec<_> = slices.list.iter().map(Slice::runs).collect();
        assert_eq!(runs, [None, Some(vec![(3, 4), (9, 9)]), None]);
    }

    #[test]
    fn a_dead_letter_of_another_store_is_no_part_of_a_log_that_was_read_here() {
        let moved = [100, 5_000, 90_000].map(|offset| letter(&place("a", 0, offset)));
        let batch = moved.map(|letter| Envelope::rejected(letter, None, Ack::ignored()));
        let slices = Slices::of(&batch);
        assert_eq!((slices.list, slices.places), (Vec::new(), vec![None, None, None]));
    }

    #[test]
    fn the_ends_of_all_offsets_are_no_run() {
        let batch = [envelope("a", 0, i64::MAX), envelope("a", 0, i64::MIN)];
        let slices = Slices::of(&batch);
        assert_eq!(slices.list[0].runs(), Some(vec![(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)]));
    }
}
