//! What the polling thread shares with acks and with librdkafka's callbacks; what a rebalance does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use monmon_stage::{AckTracker, Batch, Envelope, StageContext, StageCounters};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use crate::client;
use crate::health::{Cause, Health};
use crate::ledger::{Ledger, Settled};

/// How long a rebalance waits for the acks of partitions that are to go: what is acked by then the heir need not read
/// again. Far below any session timeout.
const REVOKE_WAIT: Duration = Duration::from_secs(1);

pub(crate) struct Shared {
    pub(crate) health: Arc<Health>,
    pub(crate) counters: Arc<StageCounters>,
    pub(crate) pipeline: Arc<str>,
    pub(crate) stage: Arc<str>,
    pub(crate) topic: String,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
    /// The stages behind are gone, or the task is.
    pub(crate) closed: AtomicBool,
    /// The acks were waited for already: the source is about to leave the group.
    pub(crate) drained: AtomicBool,
    pub(crate) inbox: Arc<Inbox>,
    /// Where partitions end, as the broker last said.
    pub(crate) ends: Mutex<BTreeMap<i32, i64>>,
    book: Mutex<Book>,
    outbox: Mutex<Outbox>,
}

/// Touched by the polling thread alone, also from within its callbacks; the lock is for the compiler.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) ledger: Ledger,
    /// Partitions that librdkafka was told to pause.
    pub(crate) paused: BTreeSet<i32>,
    /// Partitions that went while they were paused: librdkafka remembers it.
    pub(crate) left_paused: BTreeSet<i32>,
    /// Partitions with a failed ack, to be read again.
    pub(crate) failed: BTreeSet<i32>,
    /// Assigned since the thread last looked.
    pub(crate) assigned: Vec<i32>,
    /// An assignment has come at all.
    pub(crate) joined: bool,
}

struct Outbox {
    /// Gone when the source has read its last message.
    sender: Option<mpsc::Sender<Batch>>,
    batch: Batch,
}

/// Where acks leave their word.
#[derive(Default)]
pub(crate) struct Inbox {
    resolved: Mutex<Vec<(u64, bool)>>,
    came: Condvar,
}

impl AckTracker for Inbox {
    fn resolved(&self, token: u64, delivered: bool) {
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        resolved.push((token, delivered));
        if resolved.len() == 1 {
            self.came.notify_one();
        }
    }
}

impl Inbox {
    fn take(&self) -> Vec<(u64, bool)> {
        std::mem::take(&mut *self.resolved.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns as soon as there is something to take, or after `wait`.
    pub(crate) fn wait(&self, wait: Duration) {
        let resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        if resolved.is_empty() {
            drop(self.came.wait_timeout(resolved, wait));
        }
    }
}

impl Shared {
    pub(crate) fn new(
        context: &StageContext,
        health: Arc<Health>,
        topic: String,
        sender: mpsc::Sender<Batch>,
        max_in_flight: usize,
        max_in_flight_bytes: usize,
    ) -> Shared {
        Shared {
            health,
            counters: context.counters.clone(),
            pipeline: context.pipeline.clone(),
            stage: context.stage.clone(),
            topic,
            max_in_flight,
            max_in_flight_bytes,
            closed: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            inbox: Arc::default(),
            ends: Mutex::default(),
            book: Mutex::default(),
            outbox: Mutex::new(Outbox { sender: Some(sender), batch: Vec::new() }),
        }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, envelope: Envelope) {
        self.outbox().batch.push(envelope);
    }

    /// Hands what was put to the task.
    pub(crate) fn flush(&self) {
        let mut outbox = self.outbox();
        if outbox.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut outbox.batch);
        let sent = outbox.sender.as_ref().map(|sender| sender.try_send(batch));
        match sent {
            Some(Ok(())) => {}
            // The channel has a place for every message that may be under way; should it be full all the same, the batch
            // waits for the next flush.
            Some(Err(mpsc::error::TrySendError::Full(batch))) => outbox.batch = batch,
            // Dropped with its acks, which fail.
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => {
                self.closed.store(true, Ordering::Relaxed)
            }
        }
    }

    /// Nothing more will be put: the task's side ends when it has emitted what it has.
    pub(crate) fn end(&self) {
        self.flush();
        self.outbox().sender = None;
    }

    /// Enters what acks have said.
    pub(crate) fn settle(&self) {
        let resolved = self.inbox.take();
        if resolved.is_empty() {
            return;
        }
        let mut book = self.book();
        let (mut delivered, mut failed) = (0, 0);
        for (token, ok) in resolved {
            *(if ok { &mut delivered } else { &mut failed }) += 1;
            if let Settled::Failed { partition } = book.ledger.settle(token, ok) {
                book.failed.insert(partition);
            }
        }
        self.counters.add_delivered(delivered);
        self.counters.add_failed(failed);
    }

    pub(crate) fn set_ends(&self, found: impl IntoIterator<Item = (i32, i64)>) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
    }

    pub(crate) fn end_of(&self, partition: i32) -> Option<i64> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }

    pub(crate) fn list(&self, offsets: impl IntoIterator<Item = (i32, Offset)>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            // Refused only for an offset that cannot be told in 64 bits, and ours come from 64 bits.
            list.add_partition_offset(&self.topic, partition, offset).ok();
        }
        list
    }

    /// Before partitions go: a bounded wait for what is under way in them, then a last commit.
    fn revoke(&self, consumer: &BaseConsumer<Reports>, partitions: &[i32]) {
        self.flush();
        let lost = consumer.assignment_lost();
        let ended = self.closed.load(Ordering::Relaxed) || self.drained.load(Ordering::Relaxed);
        let end = Instant::now() + REVOKE_WAIT;
        loop {
            self.settle();
            let settled = partitions.iter().all(|partition| self.book().ledger.is_settled(*partition));
            if settled || lost || ended || Instant::now() >= end {
                break;
            }
            self.inbox.wait(Duration::from_millis(20));
        }
        // A commit for what others own by now would be refused, or worse, be taken.
        if !lost {
            self.store(consumer, |partition| partitions.contains(&partition));
        }
        let mut book = self.book();
        for partition in partitions {
            book.ledger.revoke(*partition);
            if book.paused.remove(partition) {
                book.left_paused.insert(*partition);
            }
            book.failed.remove(partition);
        }
    }

    /// The client is gone, and what it knew of partitions with it.
    pub(crate) fn forget_assignment(&self) {
        let mut book = self.book();
        let assigned: Vec<i32> = book.ledger.assigned().collect();
        assigned.into_iter().for_each(|partition| book.ledger.revoke(partition));
        book.paused.clear();
        book.left_paused.clear();
        book.failed.clear();
        book.assigned.clear();
    }

    /// Tells librdkafka what may be committed. It does so on a thread of its own, every second and when partitions go,
    /// as the member that it is at that moment, and forgets what was stored of partitions that are gone: a coordinator
    /// that does not answer holds up nobody, and nothing is committed for partitions that others own.
    pub(crate) fn store(&self, consumer: &BaseConsumer<Reports>, wanted: impl Fn(i32) -> bool) {
        let offsets: Vec<(i32, i64)> =
            self.book().ledger.to_commit().filter(|(partition, _)| wanted(*partition)).collect();
        if offsets.is_empty() {
            return;
        }
        let list = self.list(offsets.into_iter().map(|(partition, at)| (partition, Offset::Offset(at))));
        if let Err(error) = consumer.store_offsets(&list) {
            debug!(pipeline = %self.pipeline, stage = %self.stage, %error, "offsets not stored: partitions are on the move");
        }
    }

    /// librdkafka's own commits never go back, as they must after a topic was made anew: or else a later start would skip
    /// what lies between. The answer is not heard; it is asked for until it shows.
    pub(crate) fn commit_backwards(&self, consumer: &BaseConsumer<Reports>) {
        let offsets: Vec<(i32, i64)> = self.book().ledger.to_commit_backwards().collect();
        if offsets.is_empty() {
            return;
        }
        let list = self.list(offsets.into_iter().map(|(partition, at)| (partition, Offset::Offset(at))));
        if let Err(error) = consumer.commit(&list, CommitMode::Async) {
            debug!(pipeline = %self.pipeline, stage = %self.stage, %error, "offsets not committed backwards");
        }
    }

    fn committed(&self, list: &TopicPartitionList) {
        let mut book = self.book();
        for element in list.elements() {
            if let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) {
                book.ledger.committed(element.partition(), offset);
            }
        }
    }

    /// What the broker said to a commit.
    fn commit_answered(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        match result {
            Ok(()) => {
                self.committed(offsets);
                self.health.well();
            }
            Err(error) => match error.rdkafka_error_code() {
                // The group is on the move, or nothing was to be committed: the next commit has it.
                Some(
                    RDKafkaErrorCode::NoOffset
                    | RDKafkaErrorCode::RebalanceInProgress
                    | RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::AssignmentLost,
                ) => debug!(pipeline = %self.pipeline, stage = %self.stage, %error, "commit not taken"),
                Some(code) => self.health.refused(code, &error.to_string()),
                None => self.health.trouble(Cause::Unwilling, &error.to_string()),
            },
        }
    }
}

/// librdkafka's view of [`Shared`].
pub(crate) struct Reports {
    shared: Arc<Shared>,
    /// Another client has taken the place of the one that this belongs to.
    is_replaced: AtomicBool,
}

impl Reports {
    pub(crate) fn new(shared: Arc<Shared>) -> Reports {
        Reports { shared, is_replaced: AtomicBool::new(false) }
    }

    pub(crate) fn replace(&self) {
        self.is_replaced.store(true, Ordering::Relaxed);
    }

    /// Nothing any more for a client that was replaced.
    fn shared(&self) -> Option<&Shared> {
        (!self.is_replaced.load(Ordering::Relaxed)).then_some(&self.shared)
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some(shared) = self.shared() {
            shared.health.log(level, facility, message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(shared) = self.shared() {
            shared.health.report(&error, reason);
        }
    }

    fn stats(&self, statistics: Statistics) {
        let Some(shared) = self.shared() else { return };
        shared.health.standstill.look(&statistics);
        let state = shared.counters.state();
        state.set_client_requests_in_flight(client::requests_in_flight(&statistics));
        let Some(topic) = statistics.topics.get(&shared.topic) else { return };
        let known = || topic.partitions.values().filter(|one| one.partition >= 0);
        let messages: i64 = known().map(|one| one.fetchq_cnt.max(0)).sum();
        let bytes: u64 = known().map(|one| one.fetchq_size).sum();
        state.set_client_queue_messages(messages as f64);
        state.set_client_queue_bytes(bytes as f64);
        let ends = known().filter(|one| one.hi_offset >= 0).map(|one| (one.partition, one.hi_offset));
        shared.set_ends(ends);
    }
}

impl ConsumerContext for Reports {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Some(shared) = self.shared() else { return };
        let partitions = |list: &TopicPartitionList| -> Vec<i32> {
            list.elements().iter().map(|element| element.partition()).collect()
        };
        match rebalance {
            Rebalance::Assign(list) => {
                let partitions = partitions(list);
                debug!(pipeline = %shared.pipeline, stage = %shared.stage, ?partitions, "partitions assigned");
                let mut book = shared.book();
                for partition in &partitions {
                    book.ledger.assign(*partition, None);
                }
                book.joined = true;
                book.assigned.extend(partitions);
                drop(book);
                shared.health.well();
            }
            Rebalance::Revoke(list) => {
                let partitions = partitions(list);
                debug!(pipeline = %shared.pipeline, stage = %shared.stage, ?partitions, "partitions revoked");
                shared.revoke(consumer, &partitions);
            }
            Rebalance::Error(error) => shared.health.trouble(Cause::Unwilling, &error.to_string()),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Some(shared) = self.shared() {
            shared.commit_answered(result, offsets);
        }
    }
}
