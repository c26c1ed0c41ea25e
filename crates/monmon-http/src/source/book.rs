//! The source's book of what it emitted and has not heard of yet.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use monmon_model::Outcome;
use monmon_stage::{Ack, AckTracker, StageCounters};
use tokio::sync::Notify;

/// Stretches that are open, at most: as many as receipts that wait. Beyond them the last one goes on.
const STRETCHES_MAX: usize = 1440;
/// The token of what is no measurement.
const UNNUMBERED: u64 = u64::MAX;

pub(crate) struct Book {
    open: AtomicU64,
    /// Measurements by their numbers, in stretches that end where a receipt was cut.
    stretches: Mutex<VecDeque<Stretch>>,
    settled: Notify,
    counters: Arc<StageCounters>,
    judging: Mutex<Judging>,
    judged: Notify,
}

/// The measurements of which the source waits to hear what matchers made of them; few, since most need no more.
#[derive(Default)]
struct Judging {
    awaited: HashSet<u64>,
    /// None where it came to its end without a word.
    came: Vec<(u64, Option<Outcome>)>,
}

#[derive(Debug)]
struct Stretch {
    /// `u64::MAX` in the one that goes on.
    last_seq: u64,
    open: u64,
    failed: u64,
}

/// Everything up to this number was heard of; so many since the stretch before were given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) last_seq: u64,
    pub(crate) failed: u64,
}

impl Book {
    pub(crate) fn new(counters: Arc<StageCounters>) -> Arc<Book> {
        let (settled, judged) = (Notify::new(), Notify::new());
        let stretches = VecDeque::from([Stretch { last_seq: u64::MAX, open: 0, failed: 0 }]);
        let stretches = Mutex::new(stretches);
        Arc::new(Book {
            open: AtomicU64::new(0),
            stretches,
            settled,
            counters,
            judging: Mutex::default(),
            judged,
        })
    }

    /// What matchers make of this measurement shall be told. Said before it is emitted.
    pub(crate) fn await_verdict(&self, seq: u64) {
        self.judging().awaited.insert(seq);
    }

    /// The verdicts that came since this was asked before.
    pub(crate) fn verdicts(&self) -> Vec<(u64, Option<Outcome>)> {
        std::mem::take(&mut self.judging().came)
    }

    /// Waits until there are some.
    pub(crate) async fn any_verdict(&self) {
        self.judged.notified().await;
    }

    fn told(&self, seq: u64, outcome: Option<Outcome>) {
        let mut judging = self.judging();
        if judging.awaited.remove(&seq) {
            judging.came.push((seq, outcome));
            drop(judging);
            self.judged.notify_one();
        }
    }

    fn judging(&self) -> MutexGuard<'_, Judging> {
        self.judging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An ack for one measurement; numbers go up.
    pub(crate) fn ack(self: &Arc<Book>, seq: u64) -> Ack {
        if let Some(stretch) = self.stretches().back_mut() {
            stretch.open += 1;
        }
        self.open.fetch_add(1, Ordering::AcqRel);
        Ack::new(Arc::<Book>::clone(self), seq)
    }

    /// An ack for something else.
    pub(crate) fn ack_unnumbered(self: &Arc<Book>) -> Ack {
        self.open.fetch_add(1, Ordering::AcqRel);
        Ack::new(Arc::<Book>::clone(self), UNNUMBERED)
    }

    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// A stretch ends with this number.
    pub(crate) fn cut(&self, last_seq: u64) {
        let mut stretches = self.stretches();
        if stretches.len() > STRETCHES_MAX {
            return;
        }
        if let Some(stretch) = stretches.back_mut() {
            stretch.last_seq = last_seq;
        }
        stretches.push_back(Stretch { last_seq: u64::MAX, open: 0, failed: 0 });
    }

    /// The next stretch of which everything was heard, and of all before it.
    pub(crate) fn next_settled(&self) -> Option<Settled> {
        let whole = |stretch: &mut Stretch| stretch.last_seq != u64::MAX && stretch.open == 0;
        let Stretch { last_seq, failed, .. } = self.stretches().pop_front_if(whole)?;
        Some(Settled { last_seq, failed })
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

    fn stretches(&self) -> MutexGuard<'_, VecDeque<Stretch>> {
        self.stretches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AckTracker for Book {
    fn judged(&self, seq: u64, outcome: Outcome) {
        self.told(seq, Some(outcome));
    }

    fn resolved(&self, seq: u64, delivered: bool) {
        self.told(seq, None);
        if seq != UNNUMBERED {
            if delivered {
                self.counters.add_delivered(1);
            } else {
                self.counters.add_failed(1);
            }
            let mut stretches = self.stretches();
            let at = stretches.partition_point(|stretch| stretch.last_seq < seq);
            if let Some(stretch) = stretches.get_mut(at) {
                stretch.open = stretch.open.saturating_sub(1);
                stretch.failed += u64::from(!delivered);
            }
        }
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            // One waits at most; the permit is kept for it if it has not begun to.
            self.settled.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_settle_in_their_order() {
        let counters = Arc::new(StageCounters::default());
        let book = Book::new(Arc::clone(&counters));
        let mut acks: VecDeque<Ack> = (1..=4).map(|seq| book.ack(seq)).collect();
        book.cut(4);
        let later = book.ack(5);
        book.cut(5);
        later.deliver();
        assert_eq!(book.next_settled(), None, "the stretch before is open");
        acks.pop_front().unwrap().fail();
        acks.drain(..).for_each(Ack::deliver);
        book.ack_unnumbered().deliver();
        assert_eq!(book.next_settled(), Some(Settled { last_seq: 4, failed: 1 }));
        assert_eq!(book.next_settled(), Some(Settled { last_seq: 5, failed: 0 }));
        assert_eq!(book.next_settled(), None);
        assert_eq!((book.open(), counters.counts().delivered), (0, 4));
    }
}
