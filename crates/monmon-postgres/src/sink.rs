//! The running sink: one task gathers batches, a few writers store them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use monmon_stage::{Batch, Gather, Inlet, Retention, Sink, StageContext, StageError, TwinLog};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tracing::warn;

use crate::keeper::{keep, keep_again};
use crate::partitions::Window;
use crate::target::Target;
use crate::writer::{Shared, Writer};

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) migrate: bool,
    pub(crate) batch: usize,
    pub(crate) linger: Duration,
    pub(crate) connections: usize,
    pub(crate) statement_timeout: Duration,
    pub(crate) window: Window,
    pub(crate) retention: Option<Retention>,
}

pub(crate) struct PostgresSink {
    shared: Arc<Shared>,
}

impl PostgresSink {
    pub(crate) fn new(target: Target, settings: Settings, context: StageContext) -> PostgresSink {
        let (waiting, twin_log) = (AtomicBool::new(false), TwinLog::default());
        PostgresSink { shared: Arc::new(Shared { target, settings, context, waiting, twin_log }) }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    async fn run(self: Box<Self>, input: Inlet) -> Result<(), StageError> {
        let shared = self.shared;
        let mut first = Writer::new(shared.clone(), 0);
        // A run that is stopped before the store could be reached goes on to its inlet, which may be empty.
        tokio::select! {
            started = first.start() => started?,
            () = shared.context.stop.cancelled() => {}
        }
        // Each writer takes its next batch when it is done with one, so the queue needs no depth.
        let (sender, receiver) = mpsc::channel(1);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut writers = JoinSet::new();
        writers.spawn(write_all(first, receiver.clone()));
        for number in 1..shared.settings.connections {
            writers.spawn(write_all(Writer::new(shared.clone(), number as u64), receiver.clone()));
        }
        drop(receiver);
        // Ends with the writers.
        let mut keeper = JoinSet::new();
        if let Some(retention) = shared.settings.retention.clone() {
            keeper.spawn(keep(shared.clone(), retention));
        }
        let gathering = gather(input, sender, &shared);
        tokio::pin!(gathering);
        let mut gathered = false;
        loop {
            tokio::select! {
                () = &mut gathering, if !gathered => gathered = true,
                Some(ended) = keeper.join_next() => if let Err(panic) = ended {
                    warn!(stage = %shared.context.stage, %panic, "the maintenance panicked; it begins again");
                    if let Some(retention) = shared.settings.retention.clone() {
                        keeper.spawn(keep_again(shared.clone(), retention));
                    }
                },
                ended = writers.join_next() => match ended {
                    None => return Ok(()),
                    Some(Ok(written)) => written?,
                    Some(Err(panic)) => return Err(StageError::permanent("a writer panicked").caused_by(panic)),
                },
            }
        }
    }
}

async fn write_all(mut writer: Writer, batches: Arc<Mutex<mpsc::Receiver<Batch>>>) -> Result<(), StageError> {
    loop {
        let next = batches.lock().await.recv().await;
        let Some(batch) = next else { return Ok(()) };
        writer.store(batch).await?;
    }
}

/// Gathers batches until nothing more comes or all writers are gone.
async fn gather(input: Inlet, batches: mpsc::Sender<Batch>, shared: &Shared) {
    let mut input = Gather::new(input, shared.settings.batch, shared.settings.linger);
    while let Some(batch) = input.next().await {
        shared.context.counters.add_received(batch.len() as u64);
        if batches.send(batch).await.is_err() {
            return;
        }
    }
}
