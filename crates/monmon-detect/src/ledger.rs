//! What was told and whether it was heard.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use monmon_stage::{Ack, AckTracker};
use uuid::Uuid;

/// What became of one thing told of an incident.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settled {
    pub(crate) check: Uuid,
    pub(crate) incident: Uuid,
    pub(crate) revision: u32,
    pub(crate) delivered: bool,
}

/// The acks of events. Each is tied to a share of the ack of the measurement that brought it about or came after it: the
/// source reads that measurement again unless the event was delivered too.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: HashMap<u64, (Settled, Ack)>,
    settled: Vec<Settled>,
}

impl Ledger {
    pub(crate) fn open(self: &Arc<Ledger>, what: Settled, cause: Ack) -> Ack {
        let mut inner = self.lock();
        inner.next += 1;
        let token = inner.next;
        inner.open.insert(token, (what, cause));
        Ack::new(self.clone(), token)
    }

    /// All that was settled since the last call.
    pub(crate) fn settled(&self) -> Vec<Settled> {
        std::mem::take(&mut self.lock().settled)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AckTracker for Ledger {
    fn resolved(&self, token: u64, delivered: bool) {
        let cause = {
            let mut inner = self.lock();
            let Some((what, cause)) = inner.open.remove(&token) else { return };
            inner.settled.push(Settled { delivered, ..what });
            cause
        };
        if delivered { cause.deliver() } else { cause.fail() }
    }
}
