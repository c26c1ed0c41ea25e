//! Gathering what comes in small batches into larger ones, for sinks that store many items at a time.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::{Batch, Envelope, Inlet};

/// An inlet whose batches are as large as they may be, and never larger.
#[derive(Debug)]
pub struct Gather {
    input: Inlet,
    items_max: usize,
    linger: Duration,
    /// What came in and went into no batch yet.
    held: Batch,
    held_bytes: usize,
}

impl Gather {
    /// A batch is also full at this size: a thousand measurements may be a megabyte each.
    pub const BYTES_MAX: usize = 16 << 20;

    /// A batch is given when it has `items_max` items, when it has waited for `linger`, or when nothing more comes.
    pub fn new(input: Inlet, items_max: usize, linger: Duration) -> Gather {
        Gather { input, items_max: items_max.max(1), linger, held: Batch::new(), held_bytes: 0 }
    }

    /// The next batch; `None` at the end. Nothing is lost when this is cancelled.
    pub async fn next(&mut self) -> Option<Batch> {
        if self.held.is_empty() {
            let first = self.input.recv().await?;
            self.hold(first);
        }
        let deadline = Instant::now() + self.linger;
        while !self.is_full() {
            match timeout_at(deadline, self.input.recv()).await {
                Ok(Some(more)) => self.hold(more),
                Ok(None) | Err(_) => break,
            }
        }
        Some(self.cut())
    }

    fn hold(&mut self, more: Batch) {
        self.held_bytes += more.iter().map(Envelope::weight).sum::<usize>();
        self.held.extend(more);
    }

    fn is_full(&self) -> bool {
        self.held.len() >= self.items_max || self.held_bytes >= Gather::BYTES_MAX
    }

    /// As much of what is held as a batch may have, but at least one item.
    fn cut(&mut self) -> Batch {
        if self.held.len() <= self.items_max && self.held_bytes <= Gather::BYTES_MAX {
            self.held_bytes = 0;
            return std::mem::take(&mut self.held);
        }
        let mut count = 0;
        let mut bytes = 0;
        for envelope in self.held.iter().take(self.items_max) {
            let weight = envelope.weight();
            if count > 0 && bytes + weight > Gather::BYTES_MAX {
                break;
            }
            bytes += weight;
            count += 1;
        }
        self.held_bytes -= bytes;
        let rest = self.held.split_off(count);
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use monmon_model::{Origin, Rejected, RejectedReason};

    use super::*;
    use crate::{Ack, Emitter, inlet};

    const LINGER: Duration = Duration::from_secs(1);
    /// Nobody takes anything before all is sent.
    const PLACES: usize = 1 << 16;

    fn item(bytes: usize) -> Envelope {
        let origin = Origin {
            pipeline: "p".to_owned(),
            source: "s".to_owned(),
            topic: None,
            partition: None,
            offset: None,
        };
        let reason = RejectedReason::NotJson;
        let rejected = Rejected::new(reason, "no", origin, Timestamp::UNIX_EPOCH, None, vec![0; bytes]);
        Envelope::rejected(rejected, None, Ack::ignored())
    }

    async fn sizes(batches: &[usize], item_bytes: usize, items_max: usize) -> Vec<usize> {
        let (outlet, input) = inlet(PLACES, false);
        let emitter = Emitter::new(vec![outlet]);
        for count in batches {
            emitter.emit((0..*count).map(|_| item(item_bytes)).collect()).await.unwrap();
        }
        drop(emitter);
        let mut gather = Gather::new(input, items_max, LINGER);
        let mut sizes = Vec::new();
        while let Some(batch) = gather.next().await {
            sizes.push(batch.len());
        }
        sizes
    }

    #[tokio::test(start_paused = true)]
    async fn small_batches_become_large_ones_and_large_ones_are_cut() {
        assert_eq!(sizes(&[], 1, 10).await, [] as [usize; 0]);
        assert_eq!(sizes(&[1, 2, 3], 1, 10).await, [6]);
        assert_eq!(sizes(&[4, 4, 4], 1, 5).await, [5, 5, 2]);
        assert_eq!(sizes(&[25], 1, 10).await, [10, 10, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_also_full_by_its_bytes() {
        let third = Gather::BYTES_MAX / 3;
        assert_eq!(sizes(&[4, 3], third, 100).await, [2, 2, 2, 1]);
        // Larger than any batch, and goes all the same.
        assert_eq!(sizes(&[2], Gather::BYTES_MAX + 1, 100).await, [1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_full_waits_for_more_but_not_for_long() {
        let (outlet, input) = inlet(PLACES, false);
        let emitter = Arc::new(Emitter::new(vec![outlet]));
        let mut gather = Gather::new(input, 3, LINGER);
        emitter.emit(vec![item(1)]).await.unwrap();
        let begun = Instant::now();
        assert_eq!(gather.next().await.map(|batch| batch.len()), Some(1));
        assert_eq!(begun.elapsed(), LINGER);

        let late = async {
            tokio::time::sleep(LINGER / 2).await;
            emitter.emit(vec![item(1), item(1)]).await.unwrap();
        };
        emitter.emit(vec![item(1)]).await.unwrap();
        let begun = Instant::now();
        let (batch, ()) = tokio::join!(gather.next(), late);
        assert_eq!(batch.map(|batch| batch.len()), Some(3));
        assert_eq!(begun.elapsed(), LINGER / 2, "a full batch waits for nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_when_nobody_waits_any_more() {
        let (outlet, input) = inlet(PLACES, false);
        let emitter = Emitter::new(vec![outlet]);
        let mut gather = Gather::new(input, 3, LINGER);
        emitter.emit(vec![item(1)]).await.unwrap();
        tokio::time::timeout(LINGER / 2, gather.next()).await.unwrap_err();
        drop(emitter);
        assert_eq!(gather.next().await.map(|batch| batch.len()), Some(1));
        assert!(gather.next().await.is_none());
    }
}
