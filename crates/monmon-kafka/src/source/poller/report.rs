//! What the poller tells of where it is: gaps, logs that went back, lag.

use std::collections::BTreeMap;
use std::time::Duration;

use monmon_stage::{PartitionState, Partitions};
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{ASK_WAIT, Poller};

/// How often it is asked where partitions end that are not being read, since nothing else tells of it.
const ENDS_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Report {
    /// By partition: messages that were gone before they were read.
    missed: BTreeMap<i32, u64>,
    ends_asked: Option<Instant>,
}

impl Poller {
    /// Now and then.
    pub(super) fn report(&mut self) {
        self.report_gaps();
        self.report_logs_that_went_back();
        self.ask_for_ends();
        self.tell_state();
    }

    /// Offsets that did not come are a loss only where the log begins behind them.
    fn report_gaps(&mut self) {
        let gaps = self.shared.book().ledger.take_gaps();
        let mut away = false;
        for (partition, gap) in gaps {
            let topic = &self.shared.topic;
            // A broker that does not answer is not asked for each of its partitions.
            let asked =
                if away { None } else { self.consumer.fetch_watermarks(topic, partition, ASK_WAIT).ok() };
            let Some((low, _)) = asked else {
                away = true;
                self.shared.book().ledger.put_gap_back(partition, gap);
                continue;
            };
            let lost = low.min(gap.to) - gap.from;
            if lost > 0 {
                warn!(pipeline = %self.context.pipeline, stage = %self.context.stage, %topic, partition,
                    from = gap.from, to = gap.from + lost, lost,
                    "messages were deleted from the topic before they were read; going on at the earliest");
                self.shared.counters.add_missed(lost.unsigned_abs());
                *self.report.missed.entry(partition).or_default() += lost.unsigned_abs();
            }
        }
    }

    /// How many messages were there and are not can't be known; that there is a place to look at can.
    fn report_logs_that_went_back(&self) {
        for (partition, back) in self.shared.book().ledger.take_went_back() {
            warn!(pipeline = %self.context.pipeline, stage = %self.context.stage, topic = %self.shared.topic, partition,
                expected = back.expected, came = back.came,
                "the log ends before where it was read to, as when a topic is made anew or a broker has lost its end; \
                 going on at the earliest");
        }
    }

    /// Partitions that are paused are not fetched from, and librdkafka hears of no new messages in them.
    fn ask_for_ends(&mut self) {
        let due = self.report.ends_asked.is_none_or(|asked| asked.elapsed() >= ENDS_EVERY);
        if !self.is_held_up() || !due {
            return;
        }
        self.report.ends_asked = Some(Instant::now());
        let assigned: Vec<i32> = self.shared.book().ledger.assigned().collect();
        let list = self.shared.list(assigned.into_iter().map(|partition| (partition, Offset::End)));
        match self.consumer.offsets_for_times(list, ASK_WAIT) {
            Ok(ends) => {
                let found = ends.elements().into_iter().filter_map(|one| match (one.error(), one.offset()) {
                    (Ok(()), Offset::Offset(end)) => Some((one.partition(), end)),
                    _ => None,
                });
                self.shared.set_ends(found.collect::<Vec<_>>());
            }
            Err(error) => debug!(stage = %self.context.stage, %error, "it is not known where partitions end"),
        }
    }

    fn tell_state(&mut self) {
        let state = self.shared.counters.state();
        let book = self.shared.book();
        let ledger = &book.ledger;
        state.set_in_flight(ledger.in_flight() as f64);
        state.set_in_flight_bytes(ledger.in_flight_bytes() as f64);
        let oldest = Duration::from_millis(ledger.oldest_ms().unwrap_or(0));
        state.set_oldest_in_flight_seconds(oldest.as_secs_f64());
        self.report.missed.retain(|partition, _| ledger.is_assigned(*partition));
        let of = |partition: i32| PartitionState {
            partition,
            // What was read since the broker last said where it ends was there too.
            end: self.shared.end_of(partition).map(|end| end.max(ledger.position(partition).unwrap_or(end))),
            delivered: ledger.delivered_to(partition),
            committed: ledger.committed_at(partition),
            missed: self.report.missed.get(&partition).copied().unwrap_or(0),
        };
        let each = ledger.assigned().map(of).collect();
        state.set_partitions(Partitions { topic: self.shared.topic.clone(), each });
    }
}
