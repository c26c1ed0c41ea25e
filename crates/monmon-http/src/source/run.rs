//! The running source: a thread of its own, so that nothing else in the process distorts what is timed.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use monmon_stage::{Batch, Emitter, Envelope, Source, StageContext, StageError};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::guard::Guard;
use super::open::Ready;
use super::produce::{Bounds, Producer, Work};
use crate::demo;
use crate::probe::Prober;

/// Measurements that are made or under way and not handed over yet. Beyond it slots are owed, not checked.
pub(crate) const HANDOVER_MAX: usize = 4096;
const BATCH_MAX: usize = 64;
const BATCH_WAIT: Duration = Duration::from_millis(20);
/// Lookups block a thread each.
const LOOKUPS_MAX: usize = 64;

pub(crate) struct HttpSource {
    pub(crate) checks: Vec<Ready>,
    pub(crate) prober: Prober,
    pub(crate) concurrency: usize,
    pub(crate) per_host: Option<usize>,
    pub(crate) guard: Option<Guard>,
    pub(crate) demo: Option<TcpListener>,
    pub(crate) context: StageContext,
}

#[async_trait]
impl Source for HttpSource {
    async fn run(mut self: Box<Self>, out: Emitter) -> Result<(), StageError> {
        let demo = self.demo.take();
        let (ended, end) = oneshot::channel();
        let cut = CancellationToken::new();
        // When the engine drops this future at its deadline, the thread must not go on.
        let _guard = cut.clone().drop_guard();
        std::thread::Builder::new()
            .name("monmon-http".to_owned())
            .spawn(move || {
                let result = on_thread(*self, out, cut);
                // The engine may be gone by now.
                let _gone = ended.send(result);
            })
            .map_err(|error| StageError::permanent("no thread for the checks").caused_by(error))?;
        let site = async {
            match demo {
                Some(listener) => demo::serve(listener).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = end => result.unwrap_or_else(|_gone| Err(StageError::permanent("the thread of the checks panicked"))),
            error = site => Err(StageError::permanent("the demo site cannot be served").caused_by(error)),
        }
    }
}

fn on_thread(source: HttpSource, out: Emitter, cut: CancellationToken) -> Result<(), StageError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(LOOKUPS_MAX)
        .thread_name("monmon-lookup")
        .build()
        .map_err(|error| StageError::permanent("no runtime for the checks").caused_by(error))?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = drive(source, out) => result,
            () = cut.cancelled() => Ok(()),
        }
    });
    // A lookup that hangs in the system's resolver must not hold up the end.
    runtime.shutdown_background();
    result
}

pub(crate) async fn drive(source: HttpSource, out: Emitter) -> Result<(), StageError> {
    let HttpSource { checks, prober, concurrency, per_host, guard, context, .. } = source;
    let book = Book::new(Arc::clone(&context.counters));
    let (handover, taken) = mpsc::channel(HANDOVER_MAX);
    let room = Arc::new(Notify::new());
    let work = Work { checks, prober, guard, bounds: Bounds { concurrency, per_host } };
    let producer = Producer::new(work, &context, Arc::clone(&book), handover, Arc::clone(&room));
    // The emitter goes with the pump, so that the stages behind see the end and flush before the acks are waited for.
    tokio::join!(producer.run(), pump(taken, out, room));
    let overdue = async {
        context.stop.cancelled().await;
        tokio::time::sleep(context.grace).await;
    };
    tokio::select! {
        () = book.settled() => {}
        () = overdue => {
            let open = book.open();
            // Their acks fail as the stages that hold them are ended; counting them here too would count them twice.
            tracing::warn!(stage = %context.stage, open, "measurements of which no sink said that they are stored");
        }
    }
    Ok(())
}

/// Puts measurements into batches: full ones at once, others after a short wait.
async fn pump(mut taken: mpsc::Receiver<Envelope>, out: Emitter, room: Arc<Notify>) {
    loop {
        let mut batch = Batch::with_capacity(BATCH_MAX);
        if taken.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        let flush = Instant::now() + BATCH_WAIT;
        while batch.len() < BATCH_MAX {
            let more = BATCH_MAX - batch.len();
            match timeout_at(flush, taken.recv_many(&mut batch, more)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        room.notify_one();
        if out.emit(batch).await.is_err() {
            return;
        }
    }
}
