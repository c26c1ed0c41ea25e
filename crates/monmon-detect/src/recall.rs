//! What others have decided: the store of the incidents, asked for checks that this process knows nothing of, or has not
//! heard of for a while.

use monmon_model::StoredIncident;
use monmon_postgres::{IncidentReader, Target};
use monmon_stage::{Backoff, StageContext};
use tracing::{info, warn};
use uuid::Uuid;

use crate::watch::DetectorName;

/// What the state of health has for a store that can't be asked.
const UNUSABLE: &str = "store_unusable";

/// Where the incidents are that others have decided.
pub(crate) trait Recall: Send {
    /// The newest incident of each of these checks. A store that can't be asked is waited for: to go on without would be to
    /// open incidents that are open already. `None` where the run ends before it answers.
    fn newest(&mut self, detector: &DetectorName, checks: &[Uuid]) -> Option<Vec<StoredIncident>>;
}

pub(crate) struct StoreRecall {
    reader: IncidentReader,
    backoff: Backoff,
    context: StageContext,
}

impl StoreRecall {
    pub(crate) fn new(target: Target, context: StageContext) -> StoreRecall {
        let backoff = Backoff::new(context.prober.id.as_u64_pair().1);
        StoreRecall { reader: IncidentReader::new(target), backoff, context }
    }

    async fn newest_of(&mut self, detector: &DetectorName, checks: &[Uuid]) -> Option<Vec<StoredIncident>> {
        let mut waiting = false;
        loop {
            match self.reader.newest(&detector.pipeline, &detector.detector, checks).await {
                Ok(found) => {
                    if waiting {
                        self.context.counters.state().over(UNUSABLE);
                        info!(stage = %self.context.stage, "the store of the incidents can be asked again");
                    }
                    self.backoff.reset();
                    return Some(found);
                }
                Err(_) if self.context.stop.is_cancelled() => return None,
                Err(error) => {
                    if !waiting {
                        let help = error.help();
                        self.context
                            .counters
                            .state()
                            .waits(UNUSABLE, "the store of the incidents cannot be asked");
                        warn!(stage = %self.context.stage, %error, help, "the store of the incidents cannot be asked; waiting for it");
                        waiting = true;
                    }
                    self.context.counters.add_retries(1);
                    self.backoff.pause(&self.context.stop).await;
                }
            }
        }
    }
}

impl Recall for StoreRecall {
    fn newest(&mut self, detector: &DetectorName, checks: &[Uuid]) -> Option<Vec<StoredIncident>> {
        tokio::runtime::Handle::current().block_on(self.newest_of(detector, checks))
    }
}
