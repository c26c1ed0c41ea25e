//! The edges of the graph: bounded channels of batches.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::{Batch, Envelope};

/// Nobody listens any more: the run is ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stages behind are gone")]
pub struct Closed;

/// Something that looks at every batch on its way along an edge, before it is sent.
pub type Tap = Arc<dyn Fn(&[Envelope]) + Send + Sync>;

/// One output of a stage.
#[derive(Clone)]
pub struct Outlet {
    sender: mpsc::Sender<Batch>,
    /// Whether anything behind this edge wants pages.
    carries_pages: bool,
    tap: Option<Tap>,
}

impl Outlet {
    #[must_use]
    pub fn with_tap(mut self, tap: Tap) -> Outlet {
        self.tap = Some(tap);
        self
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("sender", &self.sender).finish_non_exhaustive()
    }
}

/// The input of a stage. Several outlets may lead to it.
#[derive(Debug)]
pub struct Inlet {
    receiver: mpsc::Receiver<Batch>,
}

/// The two ends of an edge that holds at most `capacity` batches.
pub fn inlet(capacity: usize, carries_pages: bool) -> (Outlet, Inlet) {
    let (sender, receiver) = mpsc::channel(capacity);
    (Outlet { sender, carries_pages, tap: None }, Inlet { receiver })
}

impl Inlet {
    /// The next batch; `None` once all outlets are gone and all they sent was taken.
    pub async fn recv(&mut self) -> Option<Batch> {
        self.receiver.recv().await
    }

    /// A batch if there is one by now.
    pub fn try_recv(&mut self) -> Option<Batch> {
        self.receiver.try_recv().ok()
    }

    /// As `recv`, for a thread that may wait.
    pub fn blocking_recv(&mut self) -> Option<Batch> {
        self.receiver.blocking_recv()
    }
}

/// All outputs of a stage. A copy of each batch goes down every one.
#[derive(Clone, Debug)]
pub struct Emitter {
    outlets: Vec<Outlet>,
}

impl Emitter {
    pub fn new(outlets: Vec<Outlet>) -> Emitter {
        Emitter { outlets }
    }

    /// Sends a batch, waiting while the stages behind are busy. On `Closed` the acks of what was not taken fail.
    pub async fn emit(&self, batch: Batch) -> Result<(), Closed> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut copies = self.copies(batch);
        while let Some((outlet, batch)) = copies.pop() {
            outlet.sender.send(batch).await.map_err(|_gone| Closed)?;
        }
        Ok(())
    }

    /// As `emit`, for a thread that may wait.
    pub fn blocking_emit(&self, batch: Batch) -> Result<(), Closed> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut copies = self.copies(batch);
        while let Some((outlet, batch)) = copies.pop() {
            outlet.sender.blocking_send(batch).map_err(|_gone| Closed)?;
        }
        Ok(())
    }

    /// Whether any stage behind has ended.
    pub fn is_closed(&self) -> bool {
        self.outlets.iter().any(|outlet| outlet.sender.is_closed())
    }

    /// A batch for each outlet; pages only where they are wanted.
    fn copies(&self, batch: Batch) -> Vec<(&Outlet, Batch)> {
        let Some((last, others)) = self.outlets.split_last() else { return Vec::new() };
        let mut copies: Vec<(&Outlet, Batch)> = Vec::with_capacity(self.outlets.len());
        for outlet in others {
            copies.push((outlet, batch.iter().map(Envelope::share).collect()));
        }
        copies.push((last, batch));
        for (outlet, batch) in &mut copies {
            if !outlet.carries_pages {
                batch.iter_mut().for_each(Envelope::drop_page);
            }
            if let Some(tap) = &outlet.tap {
                tap(batch);
            }
        }
        copies
    }
}
