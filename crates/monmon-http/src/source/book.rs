//! The source's book of what it emitted and has not heard of yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use monmon_stage::{Ack, AckTracker, StageCounters};
use tokio::sync::Notify;

pub(crate) struct Book {
    open: AtomicU64,
    settled: Notify,
    counters: Arc<StageCounters>,
}

impl Book {
    pub(crate) fn new(counters: Arc<StageCounters>) -> Arc<Book> {
        Arc::new(Book { open: AtomicU64::new(0), settled: Notify::new(), counters })
    }

    /// An ack for one measurement.
    pub(crate) fn ack(self: &Arc<Book>, seq: u64) -> Ack {
        self.open.fetch_add(1, Ordering::AcqRel);
        Ack::new(Arc::<Book>::clone(self), seq)
    }

    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until everything is heard of.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.open() == 0 {
                return;
            }
            settled.await;
        }
    }
}

impl AckTracker for Book {
    fn resolved(&self, _seq: u64, delivered: bool) {
        if delivered {
            self.counters.add_delivered(1);
        } else {
            self.counters.add_failed(1);
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            // One waits at most; the permit is kept for it if it has not begun to.
            self.settled.notify_one();
        }
    }
}
