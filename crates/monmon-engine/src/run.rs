//! One run, from the first task to the last.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use monmon_plan::Plan;
use monmon_stage::{Clock, Mode, ProberIdentity, StageError, WorldRef};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::open::{OpenPlan, open};
use crate::report::Watched;
use crate::tasks::{TaskName, TaskSet, spawn};
use crate::{Ending, Failed, Progress, RunReport, StopListener, Verdicts};

/// How long threads get to notice that a run was broken off.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// What a run is given of the world, and how it shall go.
#[derive(Clone)]
pub struct RunOptions {
    pub mode: Mode,
    /// Ends the run after this long, as if someone had asked.
    pub run_for: Option<Duration>,
    /// From the beginning of the end to the end, at most.
    pub grace: Duration,
    pub fail_fast: bool,
    /// Keeps the newest outcome of each check, for whoever asks for them; those of `Mode::Once` are kept anyway.
    pub keep_newest: bool,
    pub world: WorldRef,
    pub clock: Arc<dyn Clock>,
    pub prober: ProberIdentity,
}

/// Plans whose stages are open and not yet running.
pub struct Engine {
    open: Vec<OpenPlan>,
    options: RunOptions,
    stop: CancellationToken,
    verdicts: Arc<Verdicts>,
    progress: Progress,
}

impl Engine {
    /// Opens every stage of every plan. A stop that is asked for meanwhile ends the waiting.
    pub async fn open(
        plans: Vec<Plan>,
        options: RunOptions,
        mut stop_requests: StopListener,
    ) -> Result<Option<Engine>, Vec<Failed>> {
        let stop = CancellationToken::new();
        let opening = async {
            // Together, so that a server that one of them waits for holds up none of the others.
            let all = plans.into_iter().map(|plan| open(Arc::new(plan), &options, &stop));
            let mut opened = Vec::new();
            let mut failed = Vec::new();
            for result in join_all(all).await {
                match result {
                    Ok(open) => opened.push(open),
                    Err(more) => failed.extend(more),
                }
            }
            if failed.is_empty() { Ok(opened) } else { Err(failed) }
        };
        let opened = tokio::select! {
            opened = opening => opened?,
            () = stop_requests.asked(1) => {
                // What waits on a thread hears of it only so.
                stop.cancel();
                return Ok(None);
            }
        };
        let verdicts = Arc::new(Verdicts::new(options.keep_newest || options.mode == Mode::Once));
        let watched: Vec<Watched> = opened.iter().flat_map(OpenPlan::watched).collect();
        let progress =
            Progress { stages: Arc::new(watched), verdicts: verdicts.clone(), ..Progress::default() };
        Ok(Some(Engine { open: opened, options, stop, verdicts, progress }))
    }

    /// The run's counts, to look at while it runs.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Runs until the end, whatever brings it.
    pub async fn run(self, mut stop_requests: StopListener) -> RunReport {
        let mut set = TaskSet::new();
        let names: Vec<TaskName> =
            self.open.into_iter().flat_map(|open| spawn(open, &self.progress, &mut set)).collect();
        let mut running = Running { set, names, failed: Vec::new(), progress: self.progress.clone() };
        let time_over = self.options.run_for.map(|length| Instant::now() + length);

        let mut ending = tokio::select! {
            all_well = running.until_done_or_failed() => {
                if all_well { Ending::Finished } else { Ending::StageFailed }
            }
            () = sleep_until_maybe(time_over) => Ending::TimeOver,
            () = stop_requests.asked(1) => Ending::Asked,
        };
        self.stop.cancel();
        let mut overran = false;
        if ending != Ending::Finished {
            info!(?ending, grace = ?self.options.grace, "ending: sources stop, sinks flush");
            let deadline = Instant::now() + self.options.grace;
            tokio::select! {
                () = running.until_done() => {}
                () = sleep_until(deadline) => {
                    overran = true;
                    running.give_up();
                }
                () = stop_requests.asked(2) => ending = Ending::Interrupted,
            }
            running.abort().await;
        }
        let stages = self.progress.stages();
        RunReport { ending, failed: running.failed, overran, verdicts: self.verdicts, stages }
    }
}

/// The tasks that have not come to their end.
struct Running {
    set: TaskSet,
    /// Of those tasks.
    names: Vec<TaskName>,
    failed: Vec<Failed>,
    progress: Progress,
}

impl Running {
    /// Whether all came to their end well; returns at the first that did not.
    async fn until_done_or_failed(&mut self) -> bool {
        while self.next().await {
            if !self.failed.is_empty() {
                return false;
            }
        }
        true
    }

    async fn until_done(&mut self) {
        while self.next().await {}
    }

    /// Waits for one task; `false` if none was left.
    async fn next(&mut self) -> bool {
        let Some(done) = self.set.join_next_with_id().await else { return false };
        let (id, result) = match done {
            Ok((id, result)) => (id, result),
            Err(error) if error.is_cancelled() => return true,
            Err(error) => {
                let panicked = StageError::permanent("the stage panicked: this is a bug in monmon");
                (error.id(), Err(panicked.caused_by(error)))
            }
        };
        let at = self.names.iter().position(|name| name.id == id);
        let name = self.names.swap_remove(at.expect("every task is named when it is spawned and ends once"));
        match result {
            Ok(()) => debug!(pipeline = %name.pipeline, stage = %name.stage, "stage ended"),
            Err(error) => {
                let failed = name.failed(error);
                self.progress.note_failed(&failed);
                self.failed.push(failed);
            }
        }
        true
    }

    /// Puts those that are left on record: their time is over.
    fn give_up(&mut self) {
        let late = self.names.drain(..).map(|name| {
            name.failed(StageError::transient("the stage did not come to its end within the grace"))
        });
        self.failed.extend(late);
    }

    /// Ends what is left. A thread of transforms ends by itself once the channels around it are gone, unless a batch keeps
    /// it busy.
    async fn abort(&mut self) {
        self.set.abort_all();
        let rest = async { while self.set.join_next().await.is_some() {} };
        // Whoever needs longer is left to its batch, of which every ack will fail.
        drop(tokio::time::timeout(ABORT_WAIT, rest).await);
    }
}

async fn sleep_until_maybe(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
