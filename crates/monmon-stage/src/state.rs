//! How a stage stands: gauges, what it waits for, and where it is in the partitions that it reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::counters::Listed;

/// A number that goes up and down; nothing until it is first set.
#[derive(Debug)]
struct Gauge(AtomicU64);

impl Default for Gauge {
    fn default() -> Gauge {
        Gauge(AtomicU64::new(f64::NAN.to_bits()))
    }
}

impl Gauge {
    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|value| !value.is_nan())
    }
}

macro_rules! gauges {
    ($($(#[doc = $doc:literal])* $name:ident $set:ident;)*) => {
        #[derive(Debug, Default)]
        struct Gauges { $($name: Gauge,)* }

        impl StageState {
            $($(#[doc = $doc])* pub fn $set(&self, value: f64) {
                self.gauges.$name.set(value);
            })*

            /// Every gauge that the stage has set.
            pub fn gauges(&self) -> Vec<Listed<f64>> {
                let all = [$((stringify!($name), concat!($($doc),*).trim_ascii_start(), &self.gauges.$name),)*];
                let set = |(name, help, gauge): (_, _, &Gauge)| Some(Listed { name, help, value: gauge.get()? });
                all.into_iter().filter_map(set).collect()
            }
        }
    };
}

gauges! {
    /// Items that the stage has taken and that are not durable yet.
    in_flight set_in_flight;
    /// Bytes of the items that the stage has taken and that are not durable yet.
    in_flight_bytes set_in_flight_bytes;
    /// Age of the oldest item that the stage has taken and that is not durable yet.
    oldest_in_flight_seconds set_oldest_in_flight_seconds;
    /// Messages that the client library holds: for a sink those on their way, for a source those read ahead.
    client_queue_messages set_client_queue_messages;
    /// Bytes of the messages that the client library holds.
    client_queue_bytes set_client_queue_bytes;
    /// Requests to brokers that the client library has sent and has no answer to.
    client_requests_in_flight set_client_requests_in_flight;
    /// Items in the sink's spool.
    spool_items set_spool_items;
    /// Bytes that the sink's spool takes on the disk.
    spool_bytes set_spool_bytes;
    /// Time since the instant up to which a store's measurements are in its rollups.
    rolled_until_age_seconds set_rolled_until_age_seconds;
}

/// What one stage says of itself beside its counts.
#[derive(Debug, Default)]
pub struct StageState {
    gauges: Gauges,
    /// By cause.
    waits: Mutex<BTreeMap<&'static str, &'static str>>,
    partitions: Mutex<Partitions>,
}

/// Where a source is in the partitions of a topic that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partitions {
    pub topic: String,
    pub each: Vec<PartitionState>,
}

/// Where a source is in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    pub partition: i32,
    /// The offset after the last message that there is.
    pub end: Option<i64>,
    /// Everything before this offset is delivered.
    pub delivered: Option<i64>,
    /// The broker keeps this offset as the group's place.
    pub committed: Option<i64>,
    /// Messages that the log had lost before they were read, since the partition came.
    pub missed: u64,
}

impl PartitionState {
    /// How many messages there are that are not delivered, as far as is known.
    pub fn lag(&self) -> Option<u64> {
        let at = self.delivered.or(self.committed)?;
        Some(u64::try_from(self.end? - at).unwrap_or(0))
    }
}

impl StageState {
    /// The stage waits for something: a short word for the cause, one of few, and the same for people. Neither holds
    /// anything that came from outside.
    pub fn waits(&self, cause: &'static str, words: &'static str) {
        self.lock_waits().insert(cause, words);
    }

    /// The stage no longer waits for this cause.
    pub fn over(&self, cause: &'static str) {
        self.lock_waits().remove(cause);
    }

    /// What the stage waits for: cause and words.
    pub fn waiting(&self) -> Vec<(&'static str, &'static str)> {
        self.lock_waits().iter().map(|(cause, words)| (*cause, *words)).collect()
    }

    pub fn set_partitions(&self, partitions: Partitions) {
        *self.lock_partitions() = partitions;
    }

    pub fn partitions(&self) -> Partitions {
        self.lock_partitions().clone()
    }

    /// How many messages there are that are not delivered, over all partitions of which it is known.
    pub fn lag(&self) -> Option<u64> {
        let partitions = self.lock_partitions();
        partitions.each.iter().filter_map(PartitionState::lag).reduce(|sum, lag| sum + lag)
    }

    fn lock_waits(&self) -> MutexGuard<'_, BTreeMap<&'static str, &'static str>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_partitions(&self) -> MutexGuard<'_, Partitions> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_is_listed() {
        let state = StageState::default();
        assert!(state.gauges().is_empty());
        state.set_in_flight(0.0);
        let names: Vec<_> = state.gauges().iter().map(|one| (one.name, one.value)).collect();
        assert_eq!(names, [("in_flight", 0.0)]);
    }

    #[test]
    fn a_lag_counts_from_what_is_delivered_and_is_never_negative() {
        let at = |end, delivered, committed| PartitionState {
            end,
            delivered,
            committed,
            ..PartitionState::default()
        };
        assert_eq!(at(Some(10), Some(7), Some(2)).lag(), Some(3));
        assert_eq!(at(Some(10), None, Some(2)).lag(), Some(8));
        assert_eq!(at(Some(1), Some(7), None).lag(), Some(0), "the topic was made anew");
        assert_eq!((at(None, Some(7), None).lag(), at(Some(1), None, None).lag()), (None, None));
    }
}
