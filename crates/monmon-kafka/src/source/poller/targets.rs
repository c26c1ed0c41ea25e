//! What a run with `--once` reads, and when it has.

use std::time::Duration;

use monmon_stage::{Backoff, StageError};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::{ASK_WAIT, Poller};
use crate::source::once::Targets;

impl Poller {
    /// Where everything ends that is to be read once; nothing when that cannot be asked before the stop.
    pub(super) fn find_targets(&self) -> Result<Option<Targets>, StageError> {
        let mut backoff = Backoff::new(self.context.prober.id.as_u128() as u64);
        while !self.is_stopped() {
            match self.ask_targets() {
                Ok(targets) => return Ok(Some(targets)),
                Err(error) => {
                    self.shared.health.report(&error, &error.to_string());
                    if let Some(code) = error.rdkafka_error_code() {
                        self.shared.health.refused(code, &error.to_string());
                    }
                    // librdkafka tells of refusals only when it is polled; no message can come yet.
                    drop(self.consumer.poll(Duration::ZERO));
                    self.shared.health.fault().map_or(Ok(()), Err)?;
                    self.shared.inbox.wait(backoff.wait().min(Duration::from_secs(1)));
                }
            }
        }
        Ok(None)
    }

    fn ask_targets(&self) -> Result<Targets, KafkaError> {
        let topic = &self.shared.topic;
        let metadata = self.consumer.fetch_metadata(Some(topic), ASK_WAIT)?;
        if let Some(code) = crate::contact::topic_error(&metadata, topic) {
            return Err(KafkaError::MetadataFetch(code));
        }
        let known = metadata.topics().iter().filter(|known| known.name() == topic);
        let partitions: Vec<i32> = known.flat_map(|known| known.partitions()).map(|one| one.id()).collect();
        let list = self.shared.list(partitions.iter().map(|partition| (*partition, Offset::Invalid)));
        let committed = self.consumer.committed_offsets(list, ASK_WAIT)?;
        let mut targets = Vec::new();
        for element in committed.elements() {
            let (low, high) = self.consumer.fetch_watermarks(topic, element.partition(), ASK_WAIT)?;
            let start = match element.offset() {
                Offset::Offset(offset) => offset.max(low),
                _ => low,
            };
            targets.push((element.partition(), start, high));
        }
        Ok(Targets::new(targets))
    }

    /// In `--once`: partitions that another member reads are done when the group has committed their end.
    pub(super) fn look_elsewhere(&mut self) {
        let Some(targets) = &mut self.targets else { return };
        let elsewhere: Vec<i32> = {
            let book = self.shared.book();
            targets.open().filter(|partition| book.joined && !book.ledger.is_assigned(*partition)).collect()
        };
        if elsewhere.is_empty() {
            return;
        }
        let list = self.shared.list(elsewhere.into_iter().map(|partition| (partition, Offset::Invalid)));
        let Ok(list) = self.consumer.committed_offsets(list, ASK_WAIT) else { return };
        for element in list.elements() {
            if let Offset::Offset(offset) = element.offset() {
                targets.seen(element.partition(), offset);
            }
        }
    }

    /// In `--once`: everything that there was at the start is read and stored.
    pub(super) fn is_done(&mut self) -> bool {
        let Some(targets) = &mut self.targets else { return false };
        let book = self.shared.book();
        for partition in book.ledger.assigned() {
            if let Some(next) = book.ledger.position(partition) {
                targets.seen(partition, next);
            }
        }
        let waits = self.restarts.values().any(|restart| restart.due.is_some()) || !book.failed.is_empty();
        targets.open().next().is_none() && book.ledger.in_flight() == 0 && !waits
    }
}
