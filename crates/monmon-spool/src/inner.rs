//! The sink behind the spool: a task of its own, so that what it does, and how it ends, does not end the spool.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use monmon_stage::{
    Ack, AckTracker, Backoff, Batch, Emitter, OpenStage, StageContext, StageError, StageSpec, inlet,
};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::flights::WINDOW_PLACES;

/// Waits between tries to open a sink that could not go on.
const REOPEN_FIRST: Duration = Duration::from_millis(500);

/// What the sink has said of what it was given; one for each of its lives.
#[derive(Default)]
pub(crate) struct Results {
    list: Mutex<Vec<(i64, bool)>>,
    pub(crate) wake: Notify,
}

impl AckTracker for Results {
    fn resolved(&self, token: u64, delivered: bool) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push((token.cast_signed(), delivered));
        let first = list.len() == 1;
        drop(list);
        if first {
            self.wake.notify_one();
        }
    }
}

impl Results {
    pub(crate) fn take(&self) -> Vec<(i64, bool)> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sink, as far as it has come.
pub(crate) struct Inner {
    spec: Arc<dyn StageSpec>,
    context: StageContext,
    tasks: JoinSet<Result<(), StageError>>,
    emitter: Option<Emitter>,
    opened: Option<oneshot::Receiver<()>>,
    pub(crate) results: Arc<Results>,
    backoff: Backoff,
    pub(crate) retry_at: Option<Instant>,
}

/// What became of the sink.
pub(crate) enum News {
    Opened,
    /// It came to an end that was not its input's.
    Ended(StageError),
}

impl Inner {
    pub(crate) fn new(spec: Arc<dyn StageSpec>, context: StageContext) -> Inner {
        let seed = u64::from(std::process::id()) ^ context.clock.now().as_nanosecond() as u64;
        Inner {
            spec,
            context,
            tasks: JoinSet::new(),
            emitter: None,
            opened: None,
            results: Arc::default(),
            backoff: Backoff::between(REOPEN_FIRST, Backoff::MAX, seed),
            retry_at: None,
        }
    }

    /// Opens the sink and lets it run.
    pub(crate) fn start(&mut self) {
        let (outlet, input) = inlet(WINDOW_PLACES, true);
        let (tell, opened) = oneshot::channel();
        let (spec, context) = (self.spec.clone(), self.context.clone());
        self.results = Arc::default();
        self.retry_at = None;
        self.opened = Some(opened);
        self.emitter = Some(Emitter::new(vec![outlet]));
        self.tasks.spawn(async move {
            match spec.open(context).await? {
                OpenStage::Sink(sink) => {
                    // The spool may be at its end already.
                    let _gone = tell.send(());
                    sink.run(input).await
                }
                OpenStage::Source(_) | OpenStage::Transform(_) => {
                    Err(StageError::permanent("a spool stands before sinks only: this is a bug in monmon"))
                }
            }
        });
    }

    pub(crate) fn is_started(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Whether it takes what it is given.
    pub(crate) fn is_open(&self) -> bool {
        self.opened.is_none() && self.emitter.is_some()
    }

    /// Waits until it is open or has ended; for ever if it was not started.
    pub(crate) async fn news(&mut self) -> News {
        loop {
            match &mut self.opened {
                Some(opened) => {
                    let told = opened.await;
                    self.opened = None;
                    if told.is_ok() {
                        return News::Opened;
                    }
                }
                None => match self.tasks.join_next().await {
                    None => std::future::pending().await,
                    Some(Ok(Ok(()))) => {
                        return self.ended(StageError::permanent("the sink ended before its input did"));
                    }
                    Some(Ok(Err(error))) => return self.ended(error),
                    Some(Err(error)) => {
                        let panicked = StageError::permanent("the sink panicked: this is a bug in monmon");
                        return self.ended(panicked.caused_by(error));
                    }
                },
            }
        }
    }

    fn ended(&mut self, error: StageError) -> News {
        self.emitter = None;
        self.opened = None;
        self.retry_at = Some(Instant::now() + self.backoff.wait());
        News::Ended(error)
    }

    /// It delivers: the next trouble is a new one.
    pub(crate) fn works(&mut self) {
        self.backoff.reset();
    }

    pub(crate) fn ack(&self, position: i64) -> Ack {
        Ack::new(self.results.clone(), position.cast_unsigned())
    }

    /// Never waits: the edge has room for all that may be in flight. What a sink that has just ended does not take comes
    /// back as failed.
    pub(crate) async fn give(&self, batch: Batch) {
        if let Some(emitter) = &self.emitter {
            emitter.emit(batch).await.ok();
        }
    }

    /// Nothing more comes; waits until it has flushed what it has.
    pub(crate) async fn finish(&mut self) -> Option<StageError> {
        self.emitter = None;
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => Some(error),
            Some(Err(error)) => Some(StageError::permanent("the sink panicked").caused_by(error)),
            Some(Ok(Ok(()))) | None => None,
        }
    }
}
