//! How a stage hands on what it has.

use futures_util::future::try_join_all;

use crate::{Batch, Envelope, Outlet};

/// Nobody listens any more: the run is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stages behind are gone")]
pub struct Closed;

/// All outputs of a stage. A copy of each batch goes down every one.
#[derive(Clone, Debug)]
pub struct Emitter {
    outlets: Vec<Outlet>,
}

impl Emitter {
    pub fn new(outlets: Vec<Outlet>) -> Emitter {
        Emitter { outlets }
    }

    /// Sends a batch, waiting while the stages behind are busy; one that is busy does not keep the batch from the others.
    /// On `Closed` the acks of what was not taken fail.
    pub async fn emit(&self, batch: Batch) -> Result<(), Closed> {
        let Some((last, others)) = self.outlets.split_last() else { return Ok(()) };
        if others.is_empty() {
            return last.send(batch).await;
        }
        let copy = |outlet| (outlet, batch.iter().map(Envelope::share).collect::<Batch>());
        let mut copies: Vec<(&Outlet, Batch)> = others.iter().map(copy).collect();
        copies.push((last, batch));
        try_join_all(copies.into_iter().map(|(outlet, batch)| outlet.send(batch))).await?;
        Ok(())
    }

    /// As `emit`, for a thread of the runtime's that may wait.
    pub fn blocking_emit(&self, batch: Batch) -> Result<(), Closed> {
        tokio::runtime::Handle::current().block_on(self.emit(batch))
    }

    /// Whether any stage behind has ended.
    pub fn is_closed(&self) -> bool {
        self.outlets.iter().any(Outlet::is_closed)
    }
}
