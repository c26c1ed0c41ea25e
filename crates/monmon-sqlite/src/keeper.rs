//! The maintenance beside a sink that was told `retention`: another connection to the same file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use monmon_stage::{Retention, StageContext};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::maintain::maintain_as;
use crate::policies::Seen;

/// From the end of one run to the next. Rollups are five minutes behind at best, so a shorter one gains little.
const EVERY: Duration = Duration::from_secs(60);

/// For so long after its start a sink goes by what others said that were not seen for a week: where nothing ran for long,
/// they may be about to start too.
const OTHERS_MAY_START: Duration = Duration::from_secs(3_600);

/// Runs until it is dropped.
pub(crate) async fn keep(path: PathBuf, retention: Retention, context: StageContext) {
    let stage = Arc::clone(&context.stage);
    let mut troubled = false;
    let mut others_keep_longer = false;
    let begun = Instant::now();
    loop {
        let (file, retention, now) = (path.clone(), retention.clone(), context.clock.now());
        let names = (Arc::clone(&context.pipeline), Arc::clone(&stage));
        let seen = if begun.elapsed() < OTHERS_MAY_START { Seen::Ever } else { Seen::Lately };
        let run = tokio::task::spawn_blocking(move || {
            maintain_as(&file, Some(&retention), Some((&names.0, &names.1)), seen, now)
        });
        match run.await {
            Ok(Ok(done)) => {
                troubled = false;
                debug!(%stage, ?done, "maintained");
                if let Some(until) = done.rolled_until {
                    let age = now.duration_since(until).as_secs_f64();
                    context.counters.state().set_rolled_until_age_seconds(age);
                }
                if let Some(until) = done.healed_from {
                    warn!(%stage, %until, "rollups were ahead of the clock, and are made again");
                }
                if done.others_keep_longer && !others_keep_longer {
                    warn!(%stage, "another sink of this file keeps some of it for longer; the longest times count");
                }
                others_keep_longer = done.others_keep_longer;
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
