//! The maintenance beside the writers of a sink that was told `retention`: on a connection of its own, so that it holds up
//! nobody, and at any trouble it is only late.

use std::sync::Arc;
use std::time::Duration;

use monmon_stage::Retention;
use tracing::{debug, info, warn};

use crate::error::StoreError;
use crate::maintain::{Maintained, Maintenance};
use crate::writer::Shared;

/// From the end of one run to the next. Rollups are five minutes behind at best, so a shorter one gains little.
const EVERY: Duration = Duration::from_secs(60);
/// Retention is by whole days: it need not be looked at each time.
const RUNS_UNTIL_RETENTION: u32 = 10;

/// Runs until it is dropped.
pub(crate) async fn keep(shared: Arc<Shared>, retention: Retention) {
    let mut troubled = false;
    let mut runs = 0;
    loop {
        let let_go = u32::is_multiple_of(runs, RUNS_UNTIL_RETENTION);
        match run(&shared, let_go.then_some(&retention)).await {
            Ok(done) => {
                if troubled {
                    info!(stage = %shared.context.stage, "the store can be maintained again");
                    troubled = false;
                }
                tell(&shared, &done);
                runs = runs.wrapping_add(1);
            }
            // Whether the store can be reached the writers tell.
            Err(error) if error.is_transient() => {
                debug!(stage = %shared.context.stage, %error, "maintenance failed")
            }
            Err(error) => {
                if !troubled {
                    warn!(stage = %shared.context.stage, %error, "the store cannot be maintained; trying again");
                }
                troubled = true;
            }
        }
        tokio::time::sleep(EVERY + jitter(&shared, runs)).await;
    }
}

async fn run(shared: &Shared, retention: Option<&Retention>) -> Result<Maintained, StoreError> {
    let mut maintenance = Maintenance::open(&shared.target).await?;
    let mut done = Maintained::default();
    maintenance.roll_up(&mut done).await?;
    if let Some(retention) = retention {
        maintenance.let_go(retention, shared.context.clock.now(), &mut done).await?;
    }
    Ok(done)
}

fn tell(shared: &Shared, done: &Maintained) {
    let stage = &shared.context.stage;
    debug!(%stage, ?done, "maintained");
    if !done.dropped.is_empty() || !done.thinned.is_empty() || done.days_deleted > 0 {
        info!(
            %stage, dropped = done.dropped.len(), thinned = done.thinned.len(), days = done.days_deleted,
            "let go of what is no longer kept"
        );
    }
    for (partition, why) in &done.left {
        info!(%stage, partition, why, "a partition could not go yet");
    }
}

/// Sets consumers apart.
fn jitter(shared: &Shared, runs: u32) -> Duration {
    let seed = shared.context.prober.id.as_u64_pair().1 ^ u64::from(std::process::id()) ^ u64::from(runs);
    Duration::from_millis(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 50)
}
