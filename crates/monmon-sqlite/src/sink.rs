//! The running sink: gathers a batch, stores it, acks it.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use monmon_stage::{Backoff, Batch, Gather, Inlet, Retention, Sink, StageContext, StageError, TwinLog};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::database::Synchronous;
use crate::error::{StoreError, StoreErrorKind};
use crate::keeper::keep;
use crate::store::{Record, Store, Tally};

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The most items that one transaction holds.
    pub(crate) batch: usize,
    pub(crate) linger: Duration,
    pub(crate) synchronous: Synchronous,
    pub(crate) retention: Option<Retention>,
}

/// What the state of health has for a database that takes nothing.
const UNUSABLE: &str = "store_unusable";

pub(crate) struct SqliteSink {
    store: Store,
    settings: Settings,
    context: StageContext,
    backoff: Backoff,
    /// Whether the last try failed and this was said.
    troubled: bool,
    twin_log: TwinLog,
}

impl SqliteSink {
    /// Opens the file; one that is locked or on a full disk is waited for, unless the run should fail fast.
    pub(crate) async fn open(
        path: PathBuf,
        settings: Settings,
        context: StageContext,
    ) -> Result<SqliteSink, StageError> {
        let mut backoff = Backoff::new(seed(&context));
        let mut troubled = false;
        loop {
            let (path, synchronous) = (path.clone(), settings.synchronous);
            let opened = tokio::task::spawn_blocking(move || Store::open(path, synchronous)).await;
            match opened.map_err(ended)? {
                Ok(store) => {
                    let twin_log = TwinLog::default();
                    return Ok(SqliteSink { store, settings, context, backoff, troubled, twin_log });
                }
                Err(error) if error.is_transient() && !context.fail_fast => {
                    report(&context, &error, &mut troubled);
                    let wait = backoff.wait();
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = context.stop.cancelled() => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Stores a batch, however long it takes. Cancelling this fails the acks, since it drops them.
    async fn store(mut self, mut batch: Batch) -> Result<SqliteSink, StageError> {
        loop {
            let SqliteSink { mut store, settings, context, mut backoff, mut troubled, twin_log } = self;
            let (stage, now) = (context.stage.clone(), context.clock.now());
            let writing = tokio::task::spawn_blocking(move || {
                let written = store.write(&batch, Record { stage: &stage, now });
                (store, batch, written)
            });
            let written;
            (store, batch, written) = writing.await.map_err(ended)?;
            match written {
                Ok(tally) => {
                    if troubled {
                        context.counters.state().over(UNUSABLE);
                        info!(stage = %context.stage, "the database takes measurements again");
                    }
                    twin_log.tell(&context.stage, &tally.twins);
                    deliver(&context, &tally, batch);
                    backoff.reset();
                    return Ok(SqliteSink { store, settings, context, backoff, troubled: false, twin_log });
                }
                // A path that could be opened before may be so again.
                Err(error) if error.is_transient() || error.kind() == StoreErrorKind::CannotOpen => {
                    report(&context, &error, &mut troubled);
                    context.counters.add_retries(1);
                    backoff.pause(&context.stop).await;
                }
                Err(error) => {
                    context.counters.add_failed(batch.len() as u64);
                    return Err(error.into());
                }
            }
            self = SqliteSink { store, settings, context, backoff, troubled, twin_log };
        }
    }
}

#[async_trait]
impl Sink for SqliteSink {
    async fn run(self: Box<Self>, input: Inlet) -> Result<(), StageError> {
        let mut sink = *self;
        let mut input = Gather::new(input, sink.settings.batch, sink.settings.linger);
        // Ends with the sink; a step that is under way is a transaction, whole or not at all.
        let mut keeper = JoinSet::new();
        if let Some(retention) = sink.settings.retention.clone() {
            keeper.spawn(keep(sink.store.path().to_owned(), retention, sink.context.clone()));
        }
        while let Some(batch) = input.next().await {
            sink.context.counters.add_received(batch.len() as u64);
            sink = sink.store(batch).await?;
        }
        // Closing moves the log into the file, which may take a while.
        tokio::task::spawn_blocking(move || drop(sink.store)).await.map_err(ended)
    }
}

fn deliver(context: &StageContext, tally: &Tally, batch: Batch) {
    let counters = &context.counters;
    counters.add_delivered(batch.len() as u64);
    counters.add_duplicates(tally.duplicates);
    counters.add_rejected(tally.rejected);
    batch.into_iter().for_each(|envelope| envelope.ack.deliver());
}

/// Says once that something is wrong.
fn report(context: &StageContext, error: &StoreError, troubled: &mut bool) {
    if !*troubled {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        context.counters.state().waits(UNUSABLE, "the store cannot be used");
        warn!(stage = %context.stage, %error, cause, "nothing can be stored; trying again until it can");
        *troubled = true;
    }
}

fn ended(error: JoinError) -> StageError {
    StageError::permanent("the writing thread ended").caused_by(error)
}

/// Sets the waits of several processes apart.
fn seed(context: &StageContext) -> u64 {
    u64::from(std::process::id()) ^ context.clock.now().as_nanosecond() as u64
}
