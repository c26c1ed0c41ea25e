//! The edges of the graph: queues between stages, bounded by what they hold and not by how it is cut into batches. A
//! source that is seldom due emits single measurements, and an edge must bridge the same outage for it as for a busy one.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use crate::{Batch, Closed, Envelope};

/// How many places an edge has: an outage of seconds at a thousand measurements a second, of hours at one in
/// ten seconds; at most 16 MiB beside the pages, which have a bound of their own.
pub const EDGE_PLACES: usize = 4096;
/// An item takes a place for each so many bytes of its weight begun.
pub(crate) const PLACE_BYTES: usize = 4096;

/// Something that looks at every batch on its way along an edge, before it is sent.
pub type Tap = Arc<dyn Fn(&[Envelope]) + Send + Sync>;

/// One output of a stage.
#[derive(Clone)]
pub struct Outlet {
    sender: mpsc::Sender<Queued>,
    places: Arc<Places>,
    /// Whether anything behind this edge wants pages.
    carries_pages: bool,
    tap: Option<Tap>,
}

/// The input of a stage. Several outlets may lead to it.
#[derive(Debug)]
pub struct Inlet {
    receiver: mpsc::Receiver<Queued>,
    places: Arc<Places>,
}

/// The two ends of an edge with so many places. A small item takes one place, a large one takes one for each 4 KiB; one
/// that is larger than the whole edge takes all of it.
pub fn inlet(capacity: usize, carries_pages: bool) -> (Outlet, Inlet) {
    let capacity = u32::try_from(capacity.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
    // What is queued takes at least one place, so this channel never fills before the places are gone.
    let (sender, receiver) = mpsc::channel(capacity as usize);
    let places = Arc::new(Places { free: Semaphore::new(capacity as usize), capacity });
    (Outlet { sender, places: Arc::clone(&places), carries_pages, tap: None }, Inlet { receiver, places })
}

/// How full an edge is, for those who only look.
#[derive(Clone, Debug)]
pub struct EdgeGauge(Arc<Places>);

impl EdgeGauge {
    /// Places that are taken by what waits.
    pub fn used(&self) -> usize {
        self.0.used()
    }

    pub fn capacity(&self) -> usize {
        self.0.capacity as usize
    }
}

#[derive(Debug)]
struct Places {
    free: Semaphore,
    capacity: u32,
}

impl Places {
    fn used(&self) -> usize {
        (self.capacity as usize).saturating_sub(self.free.available_permits())
    }

    fn of(&self, envelope: &Envelope) -> u32 {
        u32::try_from(envelope.item.places()).unwrap_or(u32::MAX).min(self.capacity)
    }
}

#[derive(Debug)]
struct Queued {
    batch: Batch,
    places: u32,
}

impl Outlet {
    #[must_use]
    pub fn with_tap(mut self, tap: Tap) -> Outlet {
        self.tap = Some(tap);
        self
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a batch, in pieces if the edge could not hold it whole.
    pub(crate) async fn send(&self, mut batch: Batch) -> Result<(), Closed> {
        if !self.carries_pages {
            batch.iter_mut().for_each(Envelope::drop_page);
        }
        if let Some(tap) = &self.tap {
            tap(&batch);
        }
        while !batch.is_empty() {
            let (count, places) = self.piece(&batch);
            let rest = batch.split_off(count);
            let permit = self.places.free.acquire_many(places).await.map_err(|_closed| Closed)?;
            self.sender.send(Queued { batch, places }).await.map_err(|_gone| Closed)?;
            // Given back by the inlet when it takes the batch.
            permit.forget();
            batch = rest;
        }
        Ok(())
    }

    /// How many items from the front the edge can hold at once, and how many places they take.
    fn piece(&self, batch: &[Envelope]) -> (usize, u32) {
        let mut places = 0u32;
        for (index, envelope) in batch.iter().enumerate() {
            let more = self.places.of(envelope);
            if places + more > self.places.capacity {
                return (index, places);
            }
            places += more;
        }
        (batch.len(), places)
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Inlet {
    /// The next batch; `None` once all outlets are gone and all they sent was taken.
    pub async fn recv(&mut self) -> Option<Batch> {
        let queued = self.receiver.recv().await?;
        Some(self.take(queued))
    }

    /// As `recv`, for a thread that may wait.
    pub fn blocking_recv(&mut self) -> Option<Batch> {
        let queued = self.receiver.blocking_recv()?;
        Some(self.take(queued))
    }

    /// How many places are taken by what waits.
    pub fn backlog(&self) -> usize {
        self.places.used()
    }

    /// For those who only look.
    pub fn gauge(&self) -> EdgeGauge {
        EdgeGauge(Arc::clone(&self.places))
    }

    fn take(&self, queued: Queued) -> Batch {
        self.places.free.add_permits(queued.places as usize);
        queued.batch
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        // Whoever waits for a place would wait for ever.
        self.places.free.close();
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use monmon_model::{Origin, Rejected, RejectedReason};

    use super::*;
    use crate::Ack;

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

    /// How many of these items go into an edge that nobody empties.
    async fn held(capacity: usize, batches: &[usize], bytes: usize) -> usize {
        let (outlet, mut inlet) = inlet(capacity, false);
        let fill = async {
            for count in batches {
                outlet.send((0..*count).map(|_| item(bytes)).collect()).await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(1), fill).await.unwrap_err();
        drop(outlet);
        let mut held = 0;
        while let Some(batch) = inlet.recv().await {
            held += batch.len();
        }
        held
    }

    #[tokio::test(start_paused = true)]
    async fn the_bound_is_of_items_and_bytes_not_of_batches() {
        assert_eq!(held(100, &[1; 200], 1).await, 100);
        assert_eq!(held(100, &[30; 10], 1).await, 90);
        // In pieces, where a batch is larger than the edge.
        assert_eq!(held(100, &[300], 1).await, 100);
        assert_eq!(held(100, &[1; 200], 10 * PLACE_BYTES).await, 9);
        assert_eq!(
            held(100, &[1; 3], 1_000 * PLACE_BYTES).await,
            1,
            "one that is larger than the edge goes alone"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_place_hears_of_the_end() {
        let (outlet, inlet) = inlet(1, false);
        outlet.send(vec![item(1)]).await.unwrap();
        let waiting = outlet.send(vec![item(1)]);
        let ending = async {
            tokio::task::yield_now().await;
            drop(inlet);
        };
        let (sent, ()) = tokio::join!(waiting, ending);
        assert_eq!(sent, Err(Closed));
        assert!(outlet.is_closed());
    }
}
