//! What a stage counts: the numbers behind the progress line, the metrics and the report at the end.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::StageState;

/// A counter or a gauge as it is listed: its name, its meaning, and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Listed<T> {
    pub name: &'static str,
    pub help: &'static str,
    pub value: T,
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident $add:ident;)*) => {
        /// Counts of one stage, from its start on, each of which only grows; and how the stage stands.
        #[derive(Debug, Default)]
        pub struct StageCounters {
            $($(#[doc = $doc])* $name: AtomicU64,)*
            state: StageState,
        }

        /// [`StageCounters`] at one instant.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counts { $($(#[doc = $doc])* pub $name: u64,)* }

        impl StageCounters {
            $($(#[doc = $doc])* pub fn $add(&self, count: u64) {
                self.$name.fetch_add(count, Ordering::Relaxed);
            })*

            pub fn counts(&self) -> Counts {
                Counts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counts {
            /// Every counter, so that what shows them all need not be told of a new one.
            pub fn each(&self) -> Vec<Listed<u64>> {
                vec![$(Listed {
                    name: stringify!($name),
                    help: concat!($($doc),*).trim_ascii_start(),
                    value: self.$name,
                },)*]
            }
        }
    };
}

counters! {
    /// Items that came in: slots for a prober, messages for a consumer, items for a transform or sink.
    received add_received;
    /// Items that are durable as far as this stage can tell; for a source: whose ack said so.
    delivered add_delivered;
    /// Items whose ack failed: they are not known to be stored.
    failed add_failed;
    /// Items that went to the dead letters.
    rejected add_rejected;
    /// Items that were in the store already.
    duplicates add_duplicates;
    /// Matches that could not be decided.
    undecided add_undecided;
    /// Items that a source which comes to an end by itself has to read in all; 0 where it does not, or does not know.
    expected add_expected;
    /// Tries after the first.
    retries add_retries;
    /// Items that a sink's spool has written to the disk.
    spooled add_spooled;
    /// Items that were delivered from a sink's spool.
    replayed add_replayed;
    /// Items that the bound of a sink's spool made it drop.
    dropped add_dropped;
    /// Messages that the log had lost before they were read.
    missed add_missed;
}

impl StageCounters {
    /// How the stage stands, beside what it has counted.
    pub fn state(&self) -> &StageState {
        &self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_listed_with_its_meaning() {
        let counters = StageCounters::default();
        counters.add_received(3);
        counters.add_missed(2);
        let each = counters.counts().each();
        let value = |name: &str| each.iter().find(|one| one.name == name).map(|one| one.value);
        assert_eq!((value("received"), value("missed"), value("failed")), (Some(3), Some(2), Some(0)));
        assert!(each.iter().all(|one| one.help.ends_with('.') && !one.help.starts_with(' ')), "{each:?}");
    }
}
