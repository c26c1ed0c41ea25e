//! The maintenance beside the writers of a sink that was told `retention`: on a connection of its own, so that it holds up
//! nobody, and at any trouble it is only late.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monmon_stage::{Retention, StageContext};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::error::StoreError;
use crate::maintain::{Maintained, Maintenance, Seen, pack_days};
use crate::writer::Shared;

/// From the end of one run to the next. Rollups are five minutes behind at best, so a shorter one gains little.
const EVERY: Duration = Duration::from_secs(60);
/// Retention is by whole days: it need not be looked at each time.
const RUNS_UNTIL_RETENTION: u32 = 10;
/// How long indexes are packed before rollups have their turn again.
const PACKING: Duration = Duration::from_secs(60);
/// What holds packing up may take hours, and nothing is lost meanwhile.
const RUNS_UNTIL_PACKED_AGAIN: u32 = 60;

/// For so long after its start a sink goes by what others said that were not seen for a week: where nothing ran for long,
/// they may be about to start too.
const OTHERS_MAY_START: Duration = Duration::from_secs(3_600);
/// How long rollups may stand still before it is told: far longer than a run takes, or a transaction should.
const STILL_MAX: Duration = Duration::from_secs(3_600);
/// What the state of health has for it.
const STANDS_STILL: &str = "maintenance_stands_still";

/// Since when rollups have not come any further.
struct Progress {
    rolled_until: Option<Timestamp>,
    since: Instant,
    told: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress { rolled_until: None, since: Instant::now(), told: false }
    }

    /// Whether it is now to be told that they stand still (true), or that they go on (false).
    fn seen(&mut self, rolled_until: Option<Timestamp>, now: Instant) -> Option<bool> {
        if rolled_until.is_some() && rolled_until != self.rolled_until {
            (self.rolled_until, self.since) = (rolled_until, now);
        }
        // Of a store without measurements nothing can be rolled up.
        let stands = self.rolled_until.is_some() && now.duration_since(self.since) >= STILL_MAX;
        (std::mem::replace(&mut self.told, stands) != stands).then_some(stands)
    }
}

/// Runs again after it has panicked, a while later: that nothing old goes for some time is no reason to store nothing.
pub(crate) async fn keep_again(shared: Arc<Shared>, retention: Retention) {
    tokio::time::sleep(EVERY).await;
    keep(shared, retention).await;
}

/// Runs until it is dropped.
pub(crate) async fn keep(shared: Arc<Shared>, retention: Retention) {
    let mut troubled = false;
    let mut is_ahead = false;
    let mut others_keep_longer = false;
    let mut runs = 0;
    let mut pack_from = 0;
    let mut progress = Progress::new();
    let begun = Instant::now();
    loop {
        let mut rolled_until = None;
        let let_go = u32::is_multiple_of(runs, RUNS_UNTIL_RETENTION);
        let seen = if begun.elapsed() < OTHERS_MAY_START { Seen::Ever } else { Seen::Lately };
        match run(&shared, let_go.then_some((&retention, seen)), let_go && runs >= pack_from).await {
            Ok(done) => {
                // As long as others can be packed it is gone on with them.
                if done.packed.is_empty() && !done.unpacked.is_empty() {
                    pack_from = runs.saturating_add(RUNS_UNTIL_PACKED_AGAIN);
                }
                if troubled {
                    info!(stage = %shared.context.stage, "the store can be maintained again");
                    troubled = false;
                }
                tell(&shared, &done);
                rolled_until = done.rolled_until;
                if let_go {
                    if done.clock_ahead && !is_ahead {
                        warn!(
                            stage = %shared.context.stage,
                            "this clock is more than an hour ahead of the database's; nothing is let go of"
                        );
                    }
                    is_ahead = done.clock_ahead;
                    if done.others_keep_longer && !others_keep_longer {
                        warn!(
                            stage = %shared.context.stage,
                            "another sink of this store keeps some of it for longer; the longest times count"
                        );
                    }
                    others_keep_longer = done.others_keep_longer;
                }
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
        if let Some(until) = rolled_until {
            let age = shared.context.clock.now().duration_since(until).as_secs_f64();
            shared.context.counters.state().set_rolled_until_age_seconds(age);
        }
        match progress.seen(rolled_until, Instant::now()) {
            Some(true) => {
                shared.context.counters.state().waits(STANDS_STILL, "rollups and retention stand still");
                warn!(
                    stage = %shared.context.stage, rolled_until = ?progress.rolled_until,
                    "rollups have not come any further for an hour, so nothing old goes either; \
                     look for a transaction that does not end, also a prepared one"
                );
            }
            Some(false) => {
                shared.context.counters.state().over(STANDS_STILL);
                info!(stage = %shared.context.stage, "rollups go on");
            }
            None => {}
        }
        tokio::time::sleep(EVERY + jitter(&shared, runs)).await;
    }
}

async fn run(
    shared: &Shared,
    retention: Option<(&Retention, Seen)>,
    pack: bool,
) -> Result<Maintained, StoreError> {
    let mut maintenance = Maintenance::open(&shared.target).await?;
    let mut done = Maintained::default();
    maintenance.roll_up(&mut done).await?;
    if let Some((own, seen)) = retention {
        let StageContext { pipeline, stage, clock, .. } = &shared.context;
        maintenance.register(pipeline, stage, own).await?;
        let longest = maintenance.longest(own, seen).await?;
        done.others_keep_longer = longest != Retention::longest(std::slice::from_ref(own));
        maintenance.let_go(&longest, clock.now(), &mut done).await?;
    }
    if pack {
        pack_days(&shared.target, Some(PACKING), &mut done).await;
    }
    Ok(done)
}

fn tell(shared: &Shared, done: &Maintained) {
    let stage = &shared.context.stage;
    debug!(%stage, ?done, "maintained");
    if let Some(until) = done.healed_from {
        warn!(%stage, %until, "rollups were ahead of the database's clock, and are made again");
    }
    if !done.dropped.is_empty() || !done.thinned.is_empty() || done.days_deleted > 0 {
        info!(
            %stage, dropped = done.dropped.len(), thinned = done.thinned.len(), days = done.days_deleted,
            "let go of what is no longer kept"
        );
    }
    if !done.packed.is_empty() {
        info!(%stage, indexes = done.packed.len(), "packed the indexes of days that are over");
    }
    for (index, why) in &done.unpacked {
        info!(%stage, index, why, "an index could not be packed yet");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollups_that_stand_still_for_an_hour_are_told_once() {
        let begun = Instant::now();
        let mut progress = Progress { rolled_until: None, since: begun, told: false };
        let mut seen = |until: Option<i64>, minutes: u64| {
            let until = until.map(|second| Timestamp::from_second(second).expect("a time"));
            progress.seen(until, begun + Duration::from_secs(60 * minutes))
        };
        assert_eq!(seen(None, 100), None, "nothing is stored");
        assert_eq!((seen(Some(60), 101), seen(Some(60), 160)), (None, None));
        assert_eq!(seen(Some(60), 161), Some(true));
        assert_eq!((seen(Some(60), 162), seen(None, 163)), (None, None), "a run that fails changes nothing");
        assert_eq!((seen(Some(120), 164), seen(Some(180), 165)), (Some(false), None));
        assert_eq!(
            (seen(None, 200), seen(None, 225)),
            (None, Some(true)),
            "runs that only fail stand still too"
        );
    }
}
