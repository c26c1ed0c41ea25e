//! The producer, and what its delivery reports do.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use monmon_stage::{Ack, StageCounters, StageError};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::statistics::Statistics;
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::Notify;

use crate::client::{self, unusable};
use crate::health::Health;
use crate::sink::lane::{Lane, Owned};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LaneId {
    Main,
    DeadLetters,
}

/// Whether a message must not share a batch, because one that it was in was refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    No,
    ForSize,
    ForContent,
}

/// A message on its way to the client.
pub(crate) struct Held<'a> {
    pub(crate) seq: u64,
    pub(crate) key: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) timestamp: Option<i64>,
    pub(crate) alone: Alone,
    pub(crate) cut: bool,
}

/// What travels through librdkafka beside a message. Its key and payload come back with the report, so that they need
/// not be kept twice.
pub(crate) struct Passenger {
    seq: u64,
    ack: Ack,
    timestamp: Option<i64>,
    bytes: usize,
    lane: LaneId,
    probe: bool,
    alone: Alone,
    cut: bool,
}

/// What a delivery report left for the sink's own task.
pub(crate) enum Returned {
    /// A probe, or one that went alone, is delivered.
    Arrived {
        lane: LaneId,
        alone: Alone,
    },
    Refused(Owned, RDKafkaErrorCode),
}

/// Shared by the sink's task and the client's thread.
pub(crate) struct Shared {
    pub(crate) health: Arc<Health>,
    pub(crate) counters: Arc<StageCounters>,
    pub(crate) wake: Notify,
    in_flight: AtomicUsize,
    in_flight_bytes: AtomicUsize,
    max: usize,
    max_bytes: usize,
    /// The sink's task found no room and wants to hear when half of it is free.
    waits: AtomicBool,
    returned: Mutex<Vec<Returned>>,
}

impl Shared {
    pub(crate) fn new(
        health: Arc<Health>,
        counters: Arc<StageCounters>,
        max: usize,
        max_bytes: usize,
    ) -> Shared {
        Shared {
            health,
            counters,
            wake: Notify::new(),
            in_flight: AtomicUsize::new(0),
            in_flight_bytes: AtomicUsize::new(0),
            max,
            max_bytes,
            waits: AtomicBool::new(false),
            returned: Mutex::default(),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Whether one more message may go. A single message may always go, however large.
    pub(crate) fn has_room(&self) -> bool {
        if self.is_below(self.max, self.max_bytes) {
            return true;
        }
        // Said first, then looked again: whoever frees the last piece in between sees the wish.
        self.waits.store(true, Ordering::SeqCst);
        self.is_below(self.max, self.max_bytes)
    }

    fn is_below(&self, max: usize, max_bytes: usize) -> bool {
        let in_flight = self.in_flight.load(Ordering::SeqCst);
        in_flight == 0 || (in_flight < max && self.in_flight_bytes.load(Ordering::SeqCst) < max_bytes)
    }

    pub(crate) fn nothing_returned(&self) -> bool {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn take_returned(&self) -> Vec<Returned> {
        std::mem::take(&mut *self.returned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn give_back(&self, returned: Returned) {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).push(returned);
    }

    fn enter(&self, bytes: usize) {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        self.in_flight_bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn leave(&self, bytes: usize, wake: bool) {
        self.in_flight_bytes.fetch_sub(bytes, Ordering::SeqCst);
        let left = self.in_flight.fetch_sub(1, Ordering::SeqCst) - 1;
        let roomy = || {
            self.waits.load(Ordering::SeqCst)
                && self.is_below(self.max.div_ceil(2), self.max_bytes.div_ceil(2))
                && self.waits.swap(false, Ordering::SeqCst)
        };
        if wake || left == 0 || roomy() {
            self.wake.notify_one();
        }
    }
}

/// librdkafka's view of [`Shared`].
pub(crate) struct Reports(Arc<Shared>);

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.health.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.health.report(&error, reason);
        // A fatal error, or a refusal, may come without a message that it could come back with.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) || self.0.health.fault().is_some() {
            self.0.wake.notify_one();
        }
    }

    fn stats(&self, statistics: Statistics) {
        if self.0.health.standstill.look(&statistics) {
            self.0.wake.notify_one();
        }
        let state = self.0.counters.state();
        state.set_in_flight(self.0.in_flight() as f64);
        state.set_in_flight_bytes(self.0.in_flight_bytes.load(Ordering::Relaxed) as f64);
        state.set_client_queue_messages(statistics.msg_cnt as f64);
        state.set_client_queue_bytes(statistics.msg_size as f64);
        state.set_client_requests_in_flight(client::requests_in_flight(&statistics));
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Passenger>;

    fn delivery(&self, report: &DeliveryResult<'_>, passenger: Box<Passenger>) {
        let shared = &*self.0;
        match report {
            Ok(_) => {
                let Passenger { ack, lane, probe, alone, bytes, .. } = *passenger;
                ack.deliver();
                match lane {
                    LaneId::Main => {
                        shared.counters.add_delivered(1);
                        shared.health.well();
                    }
                    LaneId::DeadLetters => shared.counters.add_rejected(1),
                }
                let told = probe || alone != Alone::No;
                if told {
                    shared.give_back(Returned::Arrived { lane, alone });
                }
                shared.leave(bytes, told);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                let key = message.key().unwrap_or_default();
                let payload = message.payload().unwrap_or_default();
                refuse(shared, *passenger, key, payload, code);
            }
        }
    }
}

/// Leaves a message that was not delivered to the sink's task.
fn refuse(shared: &Shared, passenger: Passenger, key: &[u8], payload: &[u8], code: RDKafkaErrorCode) {
    let Passenger { seq, ack, timestamp, bytes, lane, alone, cut, .. } = passenger;
    let held = Held { seq, key, payload, timestamp, alone, cut }.own(ack, lane);
    shared.give_back(Returned::Refused(held, code));
    shared.leave(bytes, true);
}

/// A producer with its thread. Dropped, it gives all acks back as failed, on a thread of its own, since that takes time.
pub(crate) struct Client {
    shared: Arc<Shared>,
    producer: Option<ThreadedProducer<Reports>>,
}

/// For questions from other threads.
pub(crate) struct Handle(ThreadedProducer<Reports>);

impl Handle {
    pub(crate) fn metadata(&self, topic: &str, wait: Duration) -> KafkaResult<Metadata> {
        self.0.client().fetch_metadata(Some(topic), wait)
    }
}

impl Client {
    pub(crate) fn new(config: &ClientConfig, shared: Arc<Shared>) -> Result<Client, StageError> {
        let producer =
            config.create_with_context(Reports(shared.clone())).map_err(|error| unusable(&error))?;
        Ok(Client { shared, producer: Some(producer) })
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle(self.producer().clone())
    }

    fn producer(&self) -> &ThreadedProducer<Reports> {
        self.producer.as_ref().expect("only close and drop take the producer, and nothing follows them")
    }

    /// Hands over one message. Whatever becomes of it comes back as a delivery report or through `Shared`.
    pub(crate) fn send(&self, lane: &Lane, held: Held<'_>, ack: Ack, probe: bool) {
        let bytes = held.key.len() + held.payload.len();
        let passenger = Box::new(Passenger {
            seq: held.seq,
            ack,
            timestamp: held.timestamp,
            bytes,
            lane: lane.id,
            probe,
            alone: held.alone,
            cut: held.cut,
        });
        let record = BaseRecord {
            topic: &lane.topic,
            partition: None,
            payload: Some(held.payload),
            key: Some(held.key),
            timestamp: held.timestamp,
            headers: None,
            delivery_opaque: passenger,
        };
        self.shared.enter(bytes);
        if let Err((error, record)) = self.producer().send(record) {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            let mut passenger = record.delivery_opaque;
            // Refused before it could share a batch.
            if code == RDKafkaErrorCode::MessageSizeTooLarge {
                passenger.alone = Alone::ForSize;
            }
            refuse(&self.shared, *passenger, held.key, held.payload, code);
        }
    }

    /// Whether the idempotent producer has lost its way and only a new one can go on.
    pub(crate) fn has_failed(&self) -> bool {
        self.producer().client().fatal_error().is_some()
    }

    /// Makes the client give back all that it has.
    pub(crate) fn purge(&self) {
        self.producer().purge(PurgeConfig::default().queue().inflight());
    }

    /// Ends the client and its thread.
    pub(crate) async fn close(mut self) {
        let producer = self.producer.take();
        // It fails only when the runtime is going down, and then the thread goes too.
        tokio::task::spawn_blocking(move || drop(producer)).await.ok();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            // Without a thread to spare it is dropped here, and takes its time here.
            std::thread::Builder::new().spawn(move || drop(producer)).ok();
        }
    }
}
