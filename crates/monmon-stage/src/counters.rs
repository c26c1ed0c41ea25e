//! What a stage counts: the numbers behind the progress line and the report at the end.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident $add:ident;)*) => {
        /// Counts of one stage, from its start on. Each only grows.
        #[derive(Debug, Default)]
        pub struct StageCounters { $($(#[doc = $doc])* $name: AtomicU64,)* }

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
    /// Tries after the first.
    retries add_retries;
}
