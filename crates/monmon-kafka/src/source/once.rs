//! `--once`: up to where the topic ended at the start.

use std::collections::BTreeMap;

/// Where each partition ended at the start, and whether it was reached.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// By partition: the first offset that is not to be read any more.
    ends: BTreeMap<i32, End>,
}

#[derive(Debug)]
struct End {
    offset: i64,
    reached: bool,
}

impl Targets {
    /// `partitions`: partition, where the group stands, and where the partition ends. What has nothing to read is no
    /// target.
    pub(crate) fn new(partitions: impl IntoIterator<Item = (i32, i64, i64)>) -> Targets {
        let ends = partitions.into_iter().filter(|(_, start, end)| start < end);
        Targets {
            ends: ends.map(|(partition, _, offset)| (partition, End { offset, reached: false })).collect(),
        }
    }

    /// Whether a message is to be read.
    pub(crate) fn wants(&self, partition: i32, offset: i64) -> bool {
        self.ends.get(&partition).is_some_and(|end| offset < end.offset)
    }

    /// Everything up to, not including, the offset was seen.
    pub(crate) fn seen(&mut self, partition: i32, next: i64) {
        if let Some(end) = self.ends.get_mut(&partition) {
            end.reached |= next >= end.offset;
        }
    }

    /// The broker has nothing more in the partition for now.
    pub(crate) fn at_end(&mut self, partition: i32) {
        if let Some(end) = self.ends.get_mut(&partition) {
            end.reached = true;
        }
    }

    /// The partition is read again from before its end.
    pub(crate) fn reopen(&mut self, partition: i32) {
        if let Some(end) = self.ends.get_mut(&partition) {
            end.reached = false;
        }
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = i32> {
        self.ends.iter().filter(|(_, end)| !end.reached).map(|(partition, _)| *partition)
    }

    pub(crate) fn is_reached(&self, partition: i32) -> bool {
        self.ends.get(&partition).is_none_or(|end| end.reached)
    }
}
