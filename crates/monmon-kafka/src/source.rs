//! The kafka source: a member of a consumer group that commits only what its sinks have acknowledged.
//!
//! librdkafka is polled on a thread of its own, so that a question to the broker is never felt by the runtime, nor a slow
//! sink by the group. Offsets are committed by librdkafka's own thread. The polling thread hands batches to the task, which emits them. What is under way is
//! bounded by the ledger: when it is full, partitions are paused and polling goes on.

mod once;
mod poller;
mod rebalance;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use monmon_stage::{Emitter, Mode, Source, StageContext, StageError};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::client;
use crate::contact::first_contact;
use crate::health::{Health, Security};
use crate::source::poller::Poller;
use crate::source::rebalance::{Reports, Shared};
use crate::spec::SourceSpec;

/// Batches that may wait between the thread and the task beyond one for each message under way: never reached.
const OUTBOX_SPARE: usize = 64;

/// How many errors are looked at after one question, and how long for the next.
const REPORTS_MAX: usize = 16;
const REPORTS_WAIT: Duration = Duration::from_millis(20);

/// Makes a configuration of what the pipeline file points at, as that is now.
type Recipe = Box<dyn Fn() -> Result<ClientConfig, StageError> + Send>;

pub(crate) struct KafkaSource {
    context: StageContext,
    recipe: Recipe,
    config: ClientConfig,
    consumer: BaseConsumer<Reports>,
    shared: Arc<Shared>,
    outbox: mpsc::Receiver<monmon_stage::Batch>,
}

pub(crate) async fn open(spec: &SourceSpec, context: StageContext) -> Result<KafkaSource, StageError> {
    let topic = client::topic(&spec.topic, &context)?;
    let group = client::text(&spec.group, &context)?;
    let config = client::consumer(spec, &group, context.mode == Mode::Once, &context)?;
    let health = Arc::new(Health::new(&context, &topic, Security::of(&spec.connection)));
    let (sender, outbox) = mpsc::channel(spec.max_in_flight + OUTBOX_SPARE);
    let shared =
        Arc::new(Shared::new(&context, health, topic, sender, spec.max_in_flight, spec.max_in_flight_bytes));
    let consumer: BaseConsumer<Reports> =
        config.create_with_context(Reports::new(shared.clone())).map_err(|error| client::unusable(&error))?;
    let (contact, asked) = (context.clone(), shared.clone());
    let brokers = client::brokers(&config);
    let consumer = tokio::task::spawn_blocking(move || {
        first_contact(&contact, &asked.health, &brokers, &asked.topic, |wait| {
            let metadata = consumer.fetch_metadata(Some(&asked.topic), wait);
            // Nothing is subscribed to yet: this only serves librdkafka's reports, each error ending one poll.
            for _ in 0..REPORTS_MAX {
                if consumer.poll(REPORTS_WAIT).is_none() {
                    break;
                }
            }
            metadata
        })
        .map(|_contact| consumer)
    })
    .await
    .map_err(|error| StageError::permanent("the first contact with kafka broke off").caused_by(error))??;
    let (spec, asked) = (spec.clone(), context.clone());
    let eof = context.mode == Mode::Once;
    let recipe = Box::new(move || client::consumer(&spec, &group, eof, &asked));
    Ok(KafkaSource { context, recipe, config, consumer, shared, outbox })
}

#[async_trait]
impl Source for KafkaSource {
    async fn run(self: Box<Self>, out: Emitter) -> Result<(), StageError> {
        let KafkaSource { context, recipe, config, consumer, shared, mut outbox } = *self;
        let (tell, told) = oneshot::channel();
        let (leave, left) = oneshot::channel();
        let mut poller = Poller::new(context.clone(), recipe, config, consumer, shared.clone());
        // Also when this task is cut off, the thread ends.
        let closer = Closer(shared);
        std::thread::Builder::new()
            .name("kafka source".to_owned())
            .spawn(move || {
                // The task may be gone by then; there is nobody else to tell.
                tell.send(poller.run()).ok();
                drop(poller);
                leave.send(()).ok();
            })
            .map_err(|error| StageError::permanent("no thread for the kafka source").caused_by(error))?;
        let work = async {
            while let Some(batch) = outbox.recv().await {
                if out.emit(batch).await.is_err() {
                    break;
                }
            }
            // The stages behind see the end of their inlet, and flush, while the thread waits for their acks.
            drop(outbox);
            drop(out);
            let outcome = told
                .await
                .unwrap_or_else(|_| Err(StageError::permanent("the kafka source's thread broke off")));
            // An error means that the thread is gone, which is what is waited for.
            (outcome, tokio::time::timeout(context.grace, left).await.is_ok())
        };
        let (outcome, has_left) = tokio::select! {
            ended = work => ended,
            () = overdue(&context) => (Ok(()), false),
        };
        if !has_left {
            // The thread goes on trying; it has nothing that anybody waits for.
            warn!(pipeline = %context.pipeline, stage = %context.stage, topic = %closer.0.topic,
                "the consumer group gives no answer and is left without one; what was stored since the last commit will be read again");
        }
        outcome
    }
}

/// What of the grace stays for the last commit and for leaving the group.
fn leave_wait(grace: Duration) -> Duration {
    (grace / 3).min(Duration::from_secs(2))
}

/// Ends shortly before the grace does, so that the run is not held up by a coordinator that does not answer.
async fn overdue(context: &StageContext) {
    context.stop.cancelled().await;
    tokio::time::sleep(context.grace - leave_wait(context.grace) / 4).await;
}

struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }
}
