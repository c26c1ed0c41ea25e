//! Acks: how a source learns that what it emitted is durable.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use monmon_model::Outcome;

/// A source's book of what is under way.
pub trait AckTracker: Send + Sync {
    /// Called once for each token, when the last share of its ack is resolved. Must be cheap and must not block:
    /// it runs on the task of whichever stage was last.
    fn resolved(&self, token: u64, delivered: bool);

    /// What a check's own matchers made of a measurement, for a source that has any. As cheap as `resolved`.
    fn judged(&self, _token: u64, _outcome: Outcome) {}
}

/// One share of the duty to say what became of an envelope. Delivered only if every share is; a share that is dropped
/// without a word counts as failed, so that a panic is never taken for a commit.
#[must_use = "an ack that is dropped counts as failed"]
pub struct Ack {
    /// Gone once this share is resolved.
    tracker: Option<Arc<dyn AckTracker>>,
    token: u64,
    /// Made with the second share: most acks never have one.
    shares: OnceLock<Arc<Shares>>,
}

struct Shares {
    open: AtomicU32,
    failed: AtomicBool,
}

impl Ack {
    pub fn new(tracker: Arc<dyn AckTracker>, token: u64) -> Ack {
        Ack { tracker: Some(tracker), token, shares: OnceLock::new() }
    }

    /// For envelopes whose fate nobody asks for.
    pub fn ignored() -> Ack {
        Ack { tracker: None, token: 0, shares: OnceLock::new() }
    }

    /// One more share, for a copy of the envelope.
    pub fn share(&self) -> Ack {
        let shares = self
            .shares
            .get_or_init(|| Arc::new(Shares { open: AtomicU32::new(1), failed: AtomicBool::new(false) }));
        // Relaxed is enough: a new share comes from one that is still open, as with Arc's own count.
        shares.open.fetch_add(1, Ordering::Relaxed);
        Ack { tracker: self.tracker.clone(), token: self.token, shares: OnceLock::from(shares.clone()) }
    }

    /// This copy is durable, or is kept elsewhere for good (a dead letter).
    pub fn deliver(mut self) {
        self.resolve(true);
    }

    /// This copy is not durable; the source decides what follows.
    pub fn fail(mut self) {
        self.resolve(false);
    }

    /// Tells the source what the matchers of its checks found; the duty stays.
    pub fn judge(&self, outcome: Outcome) {
        if let Some(tracker) = &self.tracker {
            tracker.judged(self.token, outcome);
        }
    }

    fn resolve(&mut self, delivered: bool) {
        let Some(tracker) = self.tracker.take() else { return };
        let Some(shares) = self.shares.get() else { return tracker.resolved(self.token, delivered) };
        if !delivered {
            shares.failed.store(true, Ordering::Relaxed);
        }
        // AcqRel orders the flag of every other share before the last one's look at it.
        if shares.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            tracker.resolved(self.token, !shares.failed.load(Ordering::Relaxed));
        }
    }
}

impl Drop for Ack {
    fn drop(&mut self) {
        self.resolve(crate::is_sabotaged("ack-on-drop"));
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tracker {
            Some(_) => write!(f, "Ack({})", self.token),
            None => f.write_str("Ack(ignored)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Book(Mutex<Vec<(u64, bool)>>);

    impl AckTracker for Book {
        fn resolved(&self, token: u64, delivered: bool) {
            self.0.lock().unwrap().push((token, delivered));
        }
    }

    fn book() -> (Arc<Book>, Arc<dyn AckTracker>) {
        let book = Arc::new(Book::default());
        (book.clone(), book)
    }

    #[test]
    fn the_last_share_decides_when_and_any_failure_decides_what() {
        let (book, tracker) = book();
        let first = Ack::new(tracker, 7);
        let second = first.share();
        first.fail();
        assert!(book.0.lock().unwrap().is_empty());
        second.deliver();
        assert_eq!(*book.0.lock().unwrap(), [(7, false)]);
    }

    #[test]
    fn a_drop_or_a_panic_is_a_failure() {
        let (book, tracker) = book();
        drop(Ack::new(tracker.clone(), 1));
        let ack = Ack::new(tracker, 2);
        let panicked = std::thread::spawn(move || {
            let _held = ack;
            panic!("a stage's bug");
        });
        assert!(panicked.join().is_err());
        assert_eq!(*book.0.lock().unwrap(), [(1, false), (2, false)]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Deliver,
        Fail,
        Drop,
        Share,
    }

    proptest! {
        /// Whatever is shared and resolved in whatever order: once, and `delivered` only if all are.
        #[test]
        fn resolved_exactly_once(acts in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(vec![Act::Deliver, Act::Fail, Act::Drop, Act::Share])),
            0..60,
        )) {
            let (book, tracker) = book();
            let mut open = vec![Ack::new(tracker, 9)];
            let mut all_delivered = true;
            for (index, act) in acts {
                if open.is_empty() { break }
                let at = index.index(open.len());
                match act {
                    Act::Share => { let share = open[at].share(); open.push(share); }
                    Act::Deliver => open.swap_remove(at).deliver(),
                    Act::Fail => { all_delivered = false; open.swap_remove(at).fail(); }
                    Act::Drop => { all_delivered = false; drop(open.swap_remove(at)); }
                }
                prop_assert_eq!(book.0.lock().unwrap().len(), usize::from(open.is_empty()));
            }
            if !open.is_empty() { all_delivered = false; }
            open.clear();
            prop_assert_eq!(&*book.0.lock().unwrap(), &[(9, all_delivered)]);
        }
    }
}
