//! The thread that polls: messages in, acks settled, commits out.

mod renew;
mod report;
mod targets;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use monmon_model::{Rejected, wire};
use monmon_stage::{
    Ack, AckTracker, Backoff, Envelope, Feed, Mode, Place, StageContext, StageError, is_sabotaged,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, Message};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::source::Recipe;
use crate::source::once::Targets;
use crate::source::poller::report::Report;
use crate::source::rebalance::{Reports, Shared};

/// Most messages of one batch.
const BATCH_MESSAGES_MAX: usize = 500;

/// How long an idle poll waits; also how soon a stop is seen.
const POLL_IDLE: Duration = Duration::from_millis(100);

/// The same while acks are what is waited for.
const POLL_BUSY: Duration = Duration::from_millis(5);

/// How long a full window only waits for acks, before partitions are paused and polling goes on. Pausing throws away what
/// librdkafka has read ahead; not polling for so short a time harms nobody.
const PAUSE_AFTER: Duration = Duration::from_secs(1);

/// How often librdkafka is told what may be committed.
const STORE_EVERY: Duration = Duration::from_millis(100);

/// How often the rest is looked after.
const TICK: Duration = Duration::from_secs(1);

/// How long a question to the broker may take.
const ASK_WAIT: Duration = Duration::from_secs(2);

/// How many messages are remembered for each that may be under way, while one before them waits. What is delivered behind
/// one that is stuck takes a few bytes each, which must not grow for as long as a sink is away.
const REMEMBERED_FOR_EACH: usize = 16;

/// What a message takes in memory beside its bytes.
const MESSAGE_OVERHEAD_BYTES: usize = 512;

pub(crate) struct Poller {
    context: StageContext,
    recipe: Recipe,
    reread_at: Instant,
    config: ClientConfig,
    consumer: BaseConsumer<Reports>,
    shared: Arc<Shared>,
    feed: Arc<Feed>,
    tracker: Arc<dyn AckTracker>,
    /// Changed while a message is borrowed from the consumer.
    decoder: RefCell<wire::Decoder>,
    /// Partitions that wait to be read again.
    restarts: BTreeMap<i32, Restart>,
    /// Since when there is no room for more.
    full_since: Option<Instant>,
    stored: Instant,
    ticked: Instant,
    began: Instant,
    report: Report,
    targets: Option<Targets>,
}

struct Restart {
    due: Option<Instant>,
    backoff: Backoff,
    /// Where the prefix stood at the last failed ack: once it has moved, the trouble was over in between.
    stuck_at: Option<Option<i64>>,
}

impl Poller {
    pub(crate) fn new(
        context: StageContext,
        recipe: Recipe,
        config: ClientConfig,
        consumer: BaseConsumer<Reports>,
        shared: Arc<Shared>,
    ) -> Poller {
        let tracker = shared.inbox.clone();
        let feed = Feed {
            pipeline: context.pipeline.clone(),
            source: context.stage.clone(),
            topic: shared.topic.clone(),
        };
        Poller {
            context,
            recipe,
            reread_at: Instant::now(),
            config,
            consumer,
            shared,
            feed: Arc::new(feed),
            tracker,
            decoder: RefCell::default(),
            restarts: BTreeMap::new(),
            full_since: None,
            stored: Instant::now(),
            ticked: Instant::now(),
            began: Instant::now(),
            report: Report::default(),
            targets: None,
        }
    }

    /// Reads to the end and waits for the acks. Dropped afterwards, the consumer gives up its partitions, with a last
    /// commit, and leaves the group; without an answer from the coordinator that takes as long as a session.
    pub(crate) fn run(&mut self) -> Result<(), StageError> {
        let outcome = self.read();
        self.shared.end();
        if outcome.is_ok() {
            self.drain();
        }
        outcome
    }

    fn read(&mut self) -> Result<(), StageError> {
        if self.context.mode == Mode::Once {
            match self.find_targets()? {
                Some(targets) => self.targets = Some(targets),
                None => return Ok(()),
            }
        }
        self.subscribe()?;
        while !self.is_stopped() {
            self.renew()?;
            self.shared.settle();
            self.tell_time();
            self.look_at_assigned();
            self.begin_anew();
            self.schedule_restarts();
            self.steer();
            if self.stored.elapsed() >= STORE_EVERY {
                self.stored = Instant::now();
                self.shared.store(&self.consumer, |_| true);
            }
            if self.ticked.elapsed() >= TICK {
                self.ticked = Instant::now();
                self.shared.commit_backwards(&self.consumer);
                self.report();
                self.look_elsewhere();
            }
            if self.is_done() {
                return Ok(());
            }
            self.poll()?;
        }
        Ok(())
    }

    fn subscribe(&self) -> Result<(), StageError> {
        self.consumer
            .subscribe(&[&self.shared.topic])
            .map_err(|error| StageError::permanent("the topic cannot be subscribed to").caused_by(error))
    }

    fn is_stopped(&self) -> bool {
        self.context.stop.is_cancelled() || self.shared.closed.load(Ordering::Relaxed)
    }

    /// One batch: waits for the first message, then takes what is there.
    fn poll(&mut self) -> Result<(), StageError> {
        if self.full_since.is_some() && !self.is_held_up() {
            self.shared.inbox.wait(POLL_IDLE);
            return Ok(());
        }
        let restarting = self.restarts.values().any(|restart| restart.due.is_some());
        let mut wait = if self.is_held_up() || restarting { POLL_BUSY } else { POLL_IDLE };
        for _ in 0..BATCH_MESSAGES_MAX {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => {
                    self.look_for_the_end()?;
                    judge(&self.shared, &mut self.targets, &error)?;
                }
            }
            wait = Duration::ZERO;
            if self.has_no_room() {
                break;
            }
        }
        self.shared.flush();
        Ok(())
    }

    /// What librdkafka can't go on after.
    fn look_for_the_end(&self) -> Result<(), StageError> {
        match self.consumer.client().fatal_error() {
            None => Ok(()),
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => {
                let message =
                    "another member of the consumer group has come with the same `group-instance-id`";
                Err(StageError::permanent(message).help("give each member of the group an id of its own"))
            }
            Some((_, words)) => {
                Err(StageError::permanent("the kafka consumer cannot go on").caused_by(words))
            }
        }
    }

    fn tell_time(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.book().ledger.tell_time(now);
    }

    /// The topic is another one: everything in it is new, and librdkafka would go on where it was in the old one.
    fn begin_anew(&mut self) {
        if !self.shared.health.take_made_anew() {
            return;
        }
        warn!(pipeline = %self.context.pipeline, stage = %self.context.stage, topic = %self.shared.topic,
            "the topic was deleted and made anew; reading it from its beginning");
        let mut book = self.shared.book();
        let assigned: Vec<i32> = book.ledger.assigned().collect();
        for partition in assigned {
            book.ledger.begin_anew(partition);
            book.failed.remove(&partition);
            let seed = u64::from(partition.unsigned_abs());
            let fresh = || Restart { due: None, backoff: Backoff::new(seed), stuck_at: None };
            self.restarts.entry(partition).or_insert_with(fresh).due = Some(Instant::now());
        }
    }

    fn take(&self, message: &BorrowedMessage<'_>) {
        let (partition, offset) = (message.partition(), message.offset());
        let shared = &*self.shared;
        if self.targets.as_ref().is_some_and(|targets| !targets.wants(partition, offset)) {
            return;
        }
        let payload = message.payload().unwrap_or_default();
        let bytes = payload.len() + message.key_len() + MESSAGE_OVERHEAD_BYTES;
        let Some(token) = shared.book().ledger.receive(partition, offset, bytes) else { return };
        shared.health.well();
        shared.counters.add_received(1);
        let mut ack = Ack::new(self.tracker.clone(), token);
        if is_sabotaged("commit-before-store") {
            std::mem::replace(&mut ack, Ack::ignored()).deliver();
        }
        let place = Place { feed: self.feed.clone(), partition, offset };
        shared.put(match self.decoder.borrow_mut().decode_message(payload) {
            Ok(wire::Message::Measurement(measurement)) => Envelope::read(measurement, place, ack),
            Ok(wire::Message::Event(event)) => Envelope::event(event, Some(place), ack),
            Err(error) => {
                shared.counters.add_rejected(1);
                let rejected = self.reject(message, payload, &place, error);
                Envelope::rejected(rejected, Some(place), ack)
            }
        });
    }

    fn reject(
        &self,
        message: &BorrowedMessage<'_>,
        payload: &[u8],
        place: &Place,
        error: wire::DecodeError,
    ) -> Rejected {
        let at = message.timestamp().to_millis().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let at = at.unwrap_or_else(|| self.context.clock.now());
        let key = message.key().map(<[u8]>::to_vec);
        Rejected::new(error.reason, error.message, place.origin(), at, key, payload.to_vec())
    }

    /// Whether the window has been full for so long that partitions are paused.
    fn is_held_up(&self) -> bool {
        self.full_since.is_some_and(|since| since.elapsed() >= PAUSE_AFTER)
    }

    fn remembered_max(&self) -> usize {
        self.shared.max_in_flight.saturating_mul(REMEMBERED_FOR_EACH)
    }

    fn has_no_room(&self) -> bool {
        let book = self.shared.book();
        book.ledger.in_flight() >= self.shared.max_in_flight
            || book.ledger.remembered() >= self.remembered_max()
            || book.ledger.in_flight_bytes() >= self.shared.max_in_flight_bytes
    }

    /// Whether there is room again: half of it, so that stopping and going on is rare.
    fn has_much_room(&self) -> bool {
        let book = self.shared.book();
        book.ledger.in_flight() <= self.shared.max_in_flight / 2
            && book.ledger.remembered() <= self.remembered_max() / 2
            && book.ledger.in_flight_bytes() <= self.shared.max_in_flight_bytes / 2
    }

    /// Asks where the group stands in partitions that have just come, so that a gap can be told.
    fn look_at_assigned(&mut self) {
        let assigned = std::mem::take(&mut self.shared.book().assigned);
        if assigned.is_empty() {
            return;
        }
        for partition in &assigned {
            self.restarts.remove(partition);
        }
        if let Some(targets) = &mut self.targets {
            assigned.iter().for_each(|partition| targets.reopen(*partition));
        }
        let left_paused = {
            let mut book = self.shared.book();
            assigned
                .iter()
                .copied()
                .filter(|partition| book.left_paused.remove(partition))
                .collect::<Vec<_>>()
        };
        // Only these: to resume a partition that is not paused throws away what was read ahead.
        if !left_paused.is_empty() {
            let list =
                self.shared.list(left_paused.into_iter().map(|partition| (partition, Offset::Invalid)));
            if let Err(error) = self.consumer.resume(&list) {
                debug!(stage = %self.context.stage, %error, "not all partitions took it: some are on the move");
            }
        }
        let list = self.shared.list(assigned.iter().map(|partition| (*partition, Offset::Invalid)));
        let Ok(list) = self.consumer.committed_offsets(list, ASK_WAIT) else { return };
        let mut book = self.shared.book();
        for element in list.elements() {
            if let Offset::Offset(offset) = element.offset() {
                book.ledger.expect(element.partition(), offset);
            }
        }
    }

    /// A failed ack: the partition is fenced at once, and read again from its first undelivered message after a pause.
    fn schedule_restarts(&mut self) {
        let shared = self.shared.clone();
        let mut book = shared.book();
        for partition in std::mem::take(&mut book.failed) {
            let prefix = book.ledger.prefix(partition);
            let Some(offset) = book.ledger.restart(partition) else { continue };
            let seed = self.context.prober.id.as_u128() as u64 ^ u64::from(partition.unsigned_abs());
            let fresh = || Restart { due: None, backoff: Backoff::new(seed), stuck_at: None };
            let restart = self.restarts.entry(partition).or_insert_with(fresh);
            // Told when it begins, not with every try.
            if restart.stuck_at.replace(prefix) != Some(prefix) {
                restart.backoff.reset();
                warn!(pipeline = %self.context.pipeline, stage = %self.context.stage, topic = %shared.topic,
                    partition, offset, "messages were not stored; reading them again");
            }
            restart.due = Some(Instant::now() + restart.backoff.wait());
            shared.counters.add_retries(1);
        }
    }

    /// Pauses and resumes, and reads again what is due.
    fn steer(&mut self) {
        let full = if self.full_since.is_some() { !self.has_much_room() } else { self.has_no_room() };
        self.full_since = full.then(|| self.full_since.unwrap_or_else(Instant::now));
        let held_up = self.is_held_up();
        let now = Instant::now();
        let mut seeks = Vec::new();
        for (partition, restart) in &mut self.restarts {
            if restart.due.is_some_and(|due| due <= now) {
                restart.due = None;
                seeks.push(*partition);
            }
        }
        let wanted: BTreeSet<i32> = {
            let book = self.shared.book();
            let waits =
                |partition: &i32| self.restarts.get(partition).is_some_and(|restart| restart.due.is_some());
            let over =
                |partition: &i32| self.targets.as_ref().is_some_and(|targets| targets.is_reached(*partition));
            book.ledger
                .assigned()
                .filter(|partition| held_up || waits(partition) || over(partition))
                .collect()
        };
        let (pause, resume) = {
            let mut book = self.shared.book();
            let pause: Vec<i32> = wanted.difference(&book.paused).copied().collect();
            let resume: Vec<i32> = book.paused.difference(&wanted).copied().collect();
            book.paused = wanted;
            (pause, resume)
        };
        let list = |partitions: &[i32]| {
            self.shared.list(partitions.iter().map(|partition| (*partition, Offset::Invalid)))
        };
        for (told, what) in [
            (pause.is_empty() || self.consumer.pause(&list(&pause)).is_ok(), "pause"),
            (resume.is_empty() || self.consumer.resume(&list(&resume)).is_ok(), "resume"),
        ] {
            if !told {
                debug!(stage = %self.context.stage, what, "not all partitions took it: some are on the move");
            }
        }
        for partition in seeks {
            self.seek(partition);
        }
    }

    fn seek(&mut self, partition: i32) {
        let Some(offset) = self.shared.book().ledger.position(partition) else { return };
        if let Some(targets) = &mut self.targets {
            targets.reopen(partition);
        }
        let sought = self.consumer.seek(&self.shared.topic, partition, Offset::Offset(offset), ASK_WAIT);
        let mut book = self.shared.book();
        match sought {
            Ok(()) => {
                book.ledger.resume(partition);
            }
            Err(error) => {
                debug!(stage = %self.context.stage, partition, offset, %error, "not sought; trying again");
                // What is read meanwhile is not what follows, and is not taken.
                book.failed.insert(partition);
            }
        }
    }

    /// After the last message: waits for the acks of what was emitted, and commits.
    fn drain(&mut self) {
        // The sinks have the same time; a part of it stays for the last commit.
        let end = Instant::now() + self.context.grace - super::leave_wait(self.context.grace);
        let all: Vec<i32> = self.shared.book().ledger.assigned().collect();
        let list = self.shared.list(all.into_iter().map(|partition| (partition, Offset::Invalid)));
        // What is not paused is read and thrown away: nothing is taken any more.
        self.consumer.pause(&list).ok();
        while self.shared.book().ledger.in_flight() > 0 && Instant::now() < end {
            self.shared.inbox.wait(Duration::from_millis(20));
            self.shared.settle();
            self.serve();
        }
        self.shared.drained.store(true, Ordering::Relaxed);
        let left = self.shared.book().ledger.in_flight();
        if left > 0 {
            info!(pipeline = %self.context.pipeline, stage = %self.context.stage, left,
                "stopped before all messages were stored; they will be read again");
        }
        self.shared.store(&self.consumer, |_| true);
    }

    /// Lets librdkafka call back; whatever it has to say no longer matters.
    fn serve(&self) {
        drop(self.consumer.poll(POLL_BUSY));
    }
}

/// An error in place of a message.
fn judge(shared: &Shared, targets: &mut Option<Targets>, error: &KafkaError) -> Result<(), StageError> {
    if let KafkaError::PartitionEOF(partition) = error {
        if let Some(targets) = targets {
            targets.at_end(*partition);
        }
        return Ok(());
    }
    let Some(code) = error.rdkafka_error_code() else {
        debug!(stage = %shared.stage, %error, "poll");
        return Ok(());
    };
    match code {
        // Judged where they were reported.
        RDKafkaErrorCode::BrokerTransportFailure
        | RDKafkaErrorCode::Resolve
        | RDKafkaErrorCode::OperationTimedOut
        | RDKafkaErrorCode::AllBrokersDown
        | RDKafkaErrorCode::Authentication
        | RDKafkaErrorCode::SSL => {}
        RDKafkaErrorCode::PollExceeded => {
            warn!(pipeline = %shared.pipeline, stage = %shared.stage, topic = %shared.topic, "the group went on without us; joining again");
        }
        code => shared.health.refused(code, &error.to_string()),
    }
    shared.health.fault().map_or(Ok(()), Err)
}
