//! Whether the prober's own network is alive. Asked when a check could not be reached, not on a schedule: as long as all
//! is well it costs nothing, and its answer is never older than the failure that it is asked about.

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::probe::{Prober, Target};

pub(crate) struct Guard {
    references: Vec<Target>,
    /// When the references were last asked, and whether one of them answered.
    last: Mutex<Option<(Instant, bool)>>,
}

impl Guard {
    pub(crate) fn new(references: Vec<Target>) -> Guard {
        Guard { references, last: Mutex::new(None) }
    }

    /// Whether a reference answers, at some time after `since`. Whoever asks meanwhile waits for the same answer.
    pub(crate) async fn is_alive(&self, prober: &Prober, since: Instant) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, alive)) = *last
            && at >= since
        {
            return alive;
        }
        let at = Instant::now();
        let mut alive = false;
        for reference in &self.references {
            if prober.probe(reference).await.is_alive() {
                alive = true;
                break;
            }
        }
        if !alive {
            tracing::warn!(
                references = self.references.len(),
                "no reference answers: what cannot be reached is unknown"
            );
        }
        *last = Some((at, alive));
        alive
    }
}
