//! The maintenance beside a sink that was told `retention`: another connection to the same file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use monmon_stage::{Clock, Retention};
use tracing::{debug, info, warn};

use crate::maintain::maintain;

/// From the end of one run to the next. Rollups are five minutes behind at best, so a shorter one gains little.
const EVERY: Duration = Duration::from_secs(60);

/// Runs until it is dropped.
pub(crate) async fn keep(path: PathBuf, retention: Retention, stage: String, clock: Arc<dyn Clock>) {
    let mut troubled = false;
    loop {
        let (file, retention, now) = (path.clone(), retention.clone(), clock.now());
        let run = tokio::task::spawn_blocking(move || maintain(&file, Some(&retention), now)).await;
        match run {
            Ok(Ok(done)) => {
                troubled = false;
                debug!(%stage, ?done, "maintained");
                if done.measurements_deleted + done.rollups_deleted > 0 {
                    info!(
                        %stage, measurements = done.measurements_deleted, rollups = done.rollups_deleted,
                        "let go of what is no longer kept"
                    );
                }
            }
            // Whether the file can be used the sink tells.
            Ok(Err(error)) if error.is_transient() => debug!(%stage, %error, "maintenance failed"),
            Ok(Err(error)) => {
                if !troubled {
                    warn!(%stage, %error, "the file cannot be maintained; trying again");
                }
                troubled = true;
            }
            Err(panic) => {
                if !troubled {
                    warn!(%stage, %panic, "the maintenance panicked; trying again");
                }
                troubled = true;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
