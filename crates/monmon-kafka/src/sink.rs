//! The kafka sink: an idempotent producer whose delivery reports resolve the acks.
//!
//! Nothing is given up: what comes back undelivered is kept and sent again, in its order, first one message to see
//! whether it goes again (a *probe*), then the rest. Until then nothing new is taken for that topic, so the inlet feels
//! the pressure. Only what the broker refuses for good, and alone, goes to the dead letters.

mod lane;
mod look;
mod producer;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use monmon_model::{Origin, Rejected, RejectedReason, wire};
use monmon_stage::{Envelope, Inlet, Item, Refused, Sink, StageContext, StageError, is_sabotaged};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::BaseProducer;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::client;
use crate::health::{Cause, Health, Security};
use crate::sink::lane::{Lane, Phase};
use crate::sink::look::Look;
use crate::sink::producer::{Alone, Client, Held, LaneId, Returned, Shared};
use crate::spec::SinkSpec;

/// How many messages are encoded before other tasks of the thread get their turn.
const TURN: usize = 256;

/// How much of a message's bytes stays in a dead letter that is too large itself.
const CUT_BYTES: usize = 64 << 10;

/// Smallest batch that a refusal of large batches leads to.
const BATCH_BYTES_MIN: usize = 16 << 10;

/// How long a client that failed for good may take to hand back its messages before the next one is made.
const HAND_BACK_WAIT: Duration = Duration::from_secs(5);

/// How often what the pipeline file points at is read anew while the brokers refuse us.
const REREAD_EVERY: Duration = Duration::from_secs(5);

pub(crate) struct KafkaSink {
    context: StageContext,
    spec: SinkSpec,
    reread_at: Instant,
    config: rdkafka::ClientConfig,
    client: Client,
    shared: Arc<Shared>,
    main: Lane,
    dead_letters: Lane,
    /// Taken from the inlet, not yet handed to the client.
    pending: VecDeque<Envelope>,
    next_seq: u64,
    batch_size: usize,
    /// Batches were refused whose messages are fine one by one.
    shrink: bool,
    scratch: Vec<u8>,
}

pub(crate) async fn open(spec: &SinkSpec, context: StageContext) -> Result<KafkaSink, StageError> {
    let topic = client::topic(&spec.topic, &context)?;
    let dead_letter_topic = match &spec.dead_letter_topic {
        Some(late) => client::topic(late, &context)?,
        None => format!("{topic}.dead-letter"),
    };
    let config = client::producer(spec, &context)?;
    let health = Arc::new(Health::new(&context, &topic, Security::of(&spec.connection)));
    let shared = Arc::new(Shared::new(
        health.clone(),
        context.counters.clone(),
        spec.max_in_flight,
        spec.max_in_flight_bytes,
    ));
    let client = Client::new(&config, shared.clone())?;
    let look = Look {
        context: context.clone(),
        health,
        config: config.clone(),
        asked: client.handle(),
        topic: topic.clone(),
        dead_letter_topic: dead_letter_topic.clone(),
        dead_letters_wanted: spec.dead_letter_topic.is_some(),
    };
    tokio::task::spawn_blocking(move || look.run()).await.map_err(|error| {
        StageError::permanent("the first contact with kafka broke off").caused_by(error)
    })??;
    let seed = context.prober.id.as_u128() as u64;
    Ok(KafkaSink {
        spec: spec.clone(),
        reread_at: Instant::now(),
        context,
        config,
        client,
        shared,
        main: Lane::new(LaneId::Main, topic, seed),
        dead_letters: Lane::new(LaneId::DeadLetters, dead_letter_topic, seed ^ 0x5bd1),
        pending: VecDeque::new(),
        next_seq: 0,
        batch_size: spec.batch_size,
        shrink: false,
        scratch: Vec::new(),
    })
}

#[async_trait]
impl Sink for KafkaSink {
    async fn run(mut self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let mut ended = false;
        loop {
            self.take_returned();
            if let Some(fault) = self.shared.health.fault() {
                return Err(fault);
            }
            // A client that nobody has given anything to may rest.
            let stands_still = self.shared.health.standstill.is_too_long() && !self.is_idle();
            if self.client.has_failed() || stands_still || (self.shrink && self.shared.in_flight() == 0) {
                self.renew_client().await?;
                continue;
            }
            let refused = self.shared.health.is_refused();
            if refused && self.reread_at <= Instant::now() {
                self.reread().await?;
            }
            self.pump_lanes(ended).await;
            self.send_pending();
            if ended && self.is_idle() {
                break;
            }
            if !self.pending.is_empty() && self.may_send() {
                tokio::task::yield_now().await;
                continue;
            }
            let reread = refused.then_some(self.reread_at);
            let due = [self.main.due(), self.dead_letters.due(), reread].into_iter().flatten().min();
            let takes = !ended && self.pending.is_empty() && self.may_send();
            tokio::select! {
                batch = input.recv(), if takes => match batch {
                    Some(batch) => {
                        self.shared.counters.add_received(batch.len() as u64);
                        self.pending.extend(batch);
                    }
                    None => ended = true,
                },
                () = self.shared.wake.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
        self.client.close().await;
        Ok(())
    }
}

impl KafkaSink {
    fn is_idle(&self) -> bool {
        self.pending.is_empty()
            && self.shared.in_flight() == 0
            && self.shared.nothing_returned()
            && self.main.is_empty()
            && self.dead_letters.is_empty()
    }

    /// Whether new messages may go to the client.
    fn may_send(&self) -> bool {
        self.main.flows() && !self.shrink && self.shared.has_room() && self.dead_letters.has_room()
    }

    /// Hands the client what was taken from the inlet, one turn's worth.
    fn send_pending(&mut self) {
        for _ in 0..TURN {
            if !self.may_send() {
                return;
            }
            let Some(envelope) = self.pending.pop_front() else { return };
            if self.context.stop.is_cancelled() && is_sabotaged("drop-on-term") {
                envelope.ack.deliver();
                continue;
            }
            let mut payload = std::mem::take(&mut self.scratch);
            payload.clear();
            match envelope.item {
                Item::Measurement(measured) => {
                    let measurement = &measured.measurement;
                    wire::encode(measurement, &mut payload);
                    let mut key = [0; uuid::fmt::Hyphenated::LENGTH];
                    let key = measurement.check.id.hyphenated().encode_lower(&mut key);
                    let held = Held {
                        seq: self.seq(),
                        key: key.as_bytes(),
                        payload: &payload,
                        timestamp: Some(measurement.scheduled_at.as_millisecond()),
                        alone: Alone::No,
                        cut: false,
                    };
                    self.client.send(&self.main, held, envelope.ack, false);
                }
                Item::Event(reported) => {
                    let event = &reported.event;
                    wire::encode_event(event, &mut payload);
                    let mut key = [0; uuid::fmt::Hyphenated::LENGTH];
                    let key = event.key().hyphenated().encode_lower(&mut key);
                    let held = Held {
                        seq: self.seq(),
                        key: key.as_bytes(),
                        payload: &payload,
                        timestamp: Some(event.at().as_millisecond()),
                        alone: Alone::No,
                        cut: false,
                    };
                    self.client.send(&self.main, held, envelope.ack, false);
                }
                Item::Rejected(Refused { rejected, .. }) => {
                    wire::encode_rejected(&rejected, &mut payload);
                    self.send_dead_letter(&rejected, &payload, envelope.ack, false);
                }
            }
            self.scratch = payload;
        }
    }

    fn seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    fn send_dead_letter(&mut self, rejected: &Rejected, payload: &[u8], ack: monmon_stage::Ack, cut: bool) {
        let id = rejected.id.hyphenated().to_string();
        let key = rejected.key.as_deref().unwrap_or(id.as_bytes());
        // The broker's own time: that of a rejected message may be what is wrong with it, and stands in the letter.
        let held = Held { seq: self.seq(), key, payload, timestamp: None, alone: Alone::No, cut };
        if self.dead_letters.flows() {
            self.client.send(&self.dead_letters, held, ack, false);
        } else {
            self.dead_letters.hold(held.own(ack, LaneId::DeadLetters));
        }
    }

    /// Sorts what the client gave back.
    fn take_returned(&mut self) {
        for returned in self.shared.take_returned() {
            match returned {
                Returned::Arrived { lane, alone } => {
                    self.shrink |= alone == Alone::ForSize && self.batch_size > BATCH_BYTES_MIN;
                    self.lane(lane).arrived();
                    if lane == LaneId::DeadLetters {
                        self.context.counters.state().over(lane::LETTERS_WAIT);
                    }
                }
                Returned::Refused(held, code) => self.refused(held, code),
            }
        }
    }

    fn refused(&mut self, mut held: lane::Owned, code: RDKafkaErrorCode) {
        let lane = held.lane;
        let verdict = verdict(code, held.alone != Alone::No);
        if matches!(verdict, Verdict::Never(_)) {
            // The topic answers; what it says of this message says nothing about the next one.
            self.lane(lane).arrived();
            self.lane(lane).mix();
        }
        match verdict {
            Verdict::Wait(_) if is_sabotaged("give-up") => held.ack.deliver(),
            Verdict::Wait(cause) => {
                if lane == LaneId::Main {
                    if let Some(cause) = cause {
                        self.shared.health.waits(cause, &code.to_string());
                    }
                } else {
                    self.dead_letters.tell_trouble(&self.context, &code.to_string());
                }
                self.shared.counters.add_retries(1);
                self.lane(lane).hold_and_wait(held);
            }
            Verdict::TryAlone(why) => {
                held.alone = why;
                self.shared.counters.add_retries(1);
                self.lane(lane).hold_and_probe(held);
            }
            Verdict::Never(reason) if lane == LaneId::Main => self.bury(held, reason, code),
            Verdict::Never(_) if !held.cut => self.cut_letter(held),
            Verdict::Never(_) => {
                warn!(pipeline = %self.context.pipeline, stage = %self.context.stage,
                    topic = %self.dead_letters.topic, error = %code, "a dead letter is refused; its message is not kept");
                self.shared.counters.add_failed(1);
                held.ack.fail();
            }
        }
    }

    /// A measurement that the topic will never take becomes a dead letter.
    fn bury(&mut self, held: lane::Owned, reason: RejectedReason, code: RDKafkaErrorCode) {
        let origin = Origin {
            pipeline: self.context.pipeline.to_string(),
            source: self.context.stage.to_string(),
            topic: None,
            partition: None,
            offset: None,
        };
        let at = held.timestamp.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let at = at.unwrap_or_else(|| self.context.clock.now());
        let message = format!(
            "{} bytes, which the topic `{}` does not take: {code}",
            held.payload.len(),
            self.main.topic
        );
        warn!(pipeline = %self.context.pipeline, stage = %self.context.stage, topic = %self.main.topic,
            dead_letter_topic = %self.dead_letters.topic, error = %code, bytes = held.payload.len(),
            "a measurement is refused and becomes a dead letter");
        let rejected = Rejected::new(reason, message, origin, at, Some(held.key), held.payload);
        let mut payload = Vec::new();
        wire::encode_rejected(&rejected, &mut payload);
        self.send_dead_letter(&rejected, &payload, held.ack, false);
    }

    /// A dead letter that is too large itself is sent with the beginnings of what is long in it: that it was, and why, is
    /// kept.
    fn cut_letter(&mut self, held: lane::Owned) {
        let mut letter: serde_json::Value = serde_json::from_slice(&held.payload).unwrap_or_default();
        for (field, bytes) in [("text", CUT_BYTES), ("bytes_hex", 2 * CUT_BYTES), ("key_hex", 2 * CUT_BYTES)]
        {
            if let Some(serde_json::Value::String(text)) = letter.get_mut(field) {
                let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
                text.truncate(end.unwrap_or(0));
            }
        }
        letter["cut"] = serde_json::Value::Bool(true);
        let id =
            letter["id"].as_str().filter(|_| held.key.len() > CUT_BYTES).map(|id| id.as_bytes().to_vec());
        let held = lane::Owned {
            key: id.unwrap_or(held.key),
            payload: letter.to_string().into_bytes(),
            cut: true,
            alone: Alone::No,
            ..held
        };
        self.dead_letters.hold_and_probe(held);
    }

    /// Sends again what is due.
    async fn pump_lanes(&mut self, ended: bool) {
        for lane in [LaneId::Main, LaneId::DeadLetters] {
            self.pump(lane, ended).await;
        }
    }

    async fn pump(&mut self, id: LaneId, ended: bool) {
        let in_flight = self.shared.in_flight();
        let lane = self.lane(id);
        match lane.phase {
            Phase::Flowing | Phase::Probing => {}
            Phase::Waiting { due } if due > Instant::now() => {}
            Phase::Waiting { .. } => {
                // librdkafka remembers that a topic was missing; asking makes it look again.
                let (asked, topic) = (self.client.handle(), self.lane(id).topic.clone());
                let ask = move || asked.metadata(&topic, Duration::from_secs(1)).is_ok();
                if tokio::task::spawn_blocking(ask).await.is_err() {
                    return;
                }
                if ended && id == LaneId::DeadLetters && self.dead_letters.was_probed() {
                    return self.give_up_letters();
                }
                self.probe(id);
            }
            Phase::Ready if lane.head_is_alone() => {
                // One that stands alone goes when nothing can share its batch.
                if in_flight == 0 {
                    self.probe(id);
                }
            }
            Phase::Ready => self.release(id),
        }
    }

    fn probe(&mut self, id: LaneId) {
        let Some(held) = self.lane(id).take_probe() else { return };
        let (held, ack) = held.parts();
        let lane = if id == LaneId::Main { &self.main } else { &self.dead_letters };
        self.client.send(lane, held.as_held(), ack, true);
    }

    fn release(&mut self, id: LaneId) {
        while self.shared.has_room() {
            let Some(held) = self.lane(id).take_next() else { return };
            let (held, ack) = held.parts();
            let lane = if id == LaneId::Main { &self.main } else { &self.dead_letters };
            self.client.send(lane, held.as_held(), ack, false);
        }
    }

    /// At the end of the run nobody will make the topic of the dead letters any more.
    fn give_up_letters(&mut self) {
        let letters = self.dead_letters.take_all();
        warn!(pipeline = %self.context.pipeline, stage = %self.context.stage, topic = %self.dead_letters.topic,
            letters = letters.len(), "dead letters could not be published and are not kept");
        for letter in letters {
            self.shared.counters.add_failed(1);
            letter.ack.fail();
        }
    }

    /// After a fatal error of the idempotent producer, with another login, or when it looks for no broker any more, only a
    /// new one goes on. What the old one held comes back from it.
    async fn renew_client(&mut self) -> Result<(), StageError> {
        if self.shrink {
            self.batch_size = (self.batch_size / 2).max(BATCH_BYTES_MIN);
            self.config.set("batch.size", self.batch_size.to_string());
            info!(pipeline = %self.context.pipeline, stage = %self.context.stage, batch_size = self.batch_size,
                "batches are smaller from now on: the broker refused larger ones");
            self.shrink = false;
            self.main.mix();
        } else {
            info!(pipeline = %self.context.pipeline, stage = %self.context.stage, "the kafka producer is made anew");
        }
        self.client.purge();
        let end = Instant::now() + HAND_BACK_WAIT;
        while self.shared.in_flight() > 0 && Instant::now() < end {
            // A timeout only means that it is looked at again.
            let woken = tokio::time::timeout(Duration::from_millis(50), self.shared.wake.notified()).await;
            drop(woken);
        }
        let next = Client::new(&self.config, self.shared.clone())?;
        std::mem::replace(&mut self.client, next).close().await;
        self.shared.health.standstill.is_over();
        self.take_returned();
        Ok(())
    }

    /// A certificate or a password may have been replaced where it comes from; the client has what was there when it was
    /// made, and would be refused with it for ever.
    async fn reread(&mut self) -> Result<(), StageError> {
        self.reread_at = Instant::now() + REREAD_EVERY;
        // What can't be read, or does not fit together, is being replaced just now.
        let Ok(mut config) = client::producer(&self.spec, &self.context) else { return Ok(()) };
        config.set("batch.size", self.batch_size.to_string());
        let is_same = config.config_map() == self.config.config_map();
        if is_same || config.create::<BaseProducer>().is_err() {
            return Ok(());
        }
        self.config = config;
        self.renew_client().await
    }

    fn lane(&mut self, id: LaneId) -> &mut Lane {
        match id {
            LaneId::Main => &mut self.main,
            LaneId::DeadLetters => &mut self.dead_letters,
        }
    }
}

/// What an undelivered message needs.
enum Verdict {
    Wait(Option<Cause>),
    /// A batch was refused for one of its messages, and the broker does not say which.
    TryAlone(Alone),
    Never(RejectedReason),
}

fn verdict(code: RDKafkaErrorCode, alone: bool) -> Verdict {
    use RDKafkaErrorCode as Code;
    match code {
        Code::MessageSizeTooLarge if alone => Verdict::Never(RejectedReason::TooLarge),
        Code::InvalidTimestamp | Code::InvalidRecord | Code::InvalidMessage | Code::InvalidMessageSize
            if alone =>
        {
            Verdict::Never(RejectedReason::StoreRefused)
        }
        Code::MessageSizeTooLarge => Verdict::TryAlone(Alone::ForSize),
        Code::InvalidTimestamp | Code::InvalidRecord | Code::InvalidMessage | Code::InvalidMessageSize => {
            Verdict::TryAlone(Alone::ForContent)
        }
        // Our own doing, or a queue that is full for a moment.
        Code::PurgeQueue | Code::PurgeInflight | Code::QueueFull | Code::Fatal => Verdict::Wait(None),
        other => Verdict::Wait(Some(Cause::of(other))),
    }
}
