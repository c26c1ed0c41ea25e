//! The running sink: one task collects batches, a few writers store them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use monmon_stage::{Batch, Envelope, Inlet, Item, Sink, StageContext, StageError};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::partitions::Window;
use crate::rows::weight;
use crate::target::Target;
use crate::writer::{Shared, Writer};

/// A batch is also full at this size: a thousand messages may be a megabyte each.
const BATCH_BYTES_MAX: usize = 16 << 20;
const REJECTED_BYTES: usize = 400;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) migrate: bool,
    pub(crate) batch: usize,
    pub(crate) linger: Duration,
    pub(crate) connections: usize,
    pub(crate) statement_timeout: Duration,
    pub(crate) window: Window,
}

pub(crate) struct PostgresSink {
    shared: Arc<Shared>,
}

impl PostgresSink {
    pub(crate) fn new(target: Target, settings: Settings, context: StageContext) -> PostgresSink {
        let waiting = AtomicBool::new(false);
        PostgresSink { shared: Arc::new(Shared { target, settings, context, waiting }) }
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
        let collecting = collect(input, sender, &shared);
        tokio::pin!(collecting);
        let mut collected = false;
        loop {
            tokio::select! {
                () = &mut collecting, if !collected => collected = true,
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

/// Gathers what comes in until a batch is full, has waited for its time, or nothing more comes.
async fn collect(mut input: Inlet, batches: mpsc::Sender<Batch>, shared: &Shared) {
    let mut carried = Gathered::default();
    loop {
        if carried.items.is_empty() {
            let Some(more) = input.recv().await else { return };
            carried.take(more, shared);
        }
        let deadline = Instant::now() + shared.settings.linger;
        let mut ended = false;
        while !carried.is_full(shared) && !ended {
            match tokio::time::timeout_at(deadline, input.recv()).await {
                Ok(Some(more)) => carried.take(more, shared),
                Ok(None) => ended = true,
                Err(_) => break,
            }
        }
        for batch in carried.drain(shared) {
            if batches.send(batch).await.is_err() {
                return;
            }
        }
        if ended {
            return;
        }
    }
}

#[derive(Default)]
struct Gathered {
    items: Batch,
    bytes: usize,
}

impl Gathered {
    fn take(&mut self, more: Batch, shared: &Shared) {
        shared.context.counters.add_received(more.len() as u64);
        self.bytes += more.iter().map(bytes).sum::<usize>();
        self.items.extend(more);
    }

    fn is_full(&self, shared: &Shared) -> bool {
        self.items.len() >= shared.settings.batch || self.bytes >= BATCH_BYTES_MAX
    }

    /// Everything, in batches none of which is over its bounds.
    fn drain(&mut self, shared: &Shared) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut batch = Batch::new();
        let mut size = 0;
        for envelope in std::mem::take(&mut self.items) {
            let weight = bytes(&envelope);
            if batch.len() >= shared.settings.batch || (!batch.is_empty() && size + weight > BATCH_BYTES_MAX)
            {
                batches.push(std::mem::take(&mut batch));
                size = 0;
            }
            size += weight;
            batch.push(envelope);
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
        self.bytes = 0;
        batches
    }
}

fn bytes(envelope: &Envelope) -> usize {
    match &envelope.item {
        Item::Measurement(measured) => weight(&measured.measurement),
        Item::Rejected(rejected) => REJECTED_BYTES + rejected.bytes.len(),
    }
}
