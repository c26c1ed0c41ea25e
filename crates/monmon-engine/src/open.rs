//! Opening: from a plan to stages that may touch the world.

use std::sync::{Arc, OnceLock};

use monmon_plan::{Plan, PlanStage};
use monmon_stage::{OpenStage, StageContext, StageCounters, StageError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::report::Watched;
use crate::{Failed, RunOptions};

/// A plan whose stages are open, in the plan's order.
pub(crate) struct OpenPlan {
    pub(crate) plan: Arc<Plan>,
    pub(crate) stages: Vec<OpenStage>,
    pub(crate) counters: Vec<Arc<StageCounters>>,
}

/// Opens all stages at once, since some may wait for a server. The first that fails ends the others, by `stop` as well:
/// what one of them does on a thread cannot be aborted.
pub(crate) async fn open(
    plan: Arc<Plan>,
    options: &RunOptions,
    stop: &CancellationToken,
) -> Result<OpenPlan, Vec<Failed>> {
    let mut opening = JoinSet::new();
    let mut counters = Vec::new();
    let mut tasks = Vec::new();
    for (index, stage) in plan.stages.iter().enumerate() {
        let counter = Arc::new(StageCounters::default());
        let context = context(&plan, stage, options, stop, counter.clone());
        counters.push(counter);
        let plan = Arc::clone(&plan);
        let task = opening.spawn(async move { plan.stages[index].spec.open(context).await });
        tasks.push(task.id());
    }
    let mut stages: Vec<Option<OpenStage>> = plan.stages.iter().map(|_| None).collect();
    let mut failed = Vec::new();
    while let Some(done) = opening.join_next_with_id().await {
        let (task, opened) = match done {
            Ok((task, opened)) => (task, opened),
            Err(error) if error.is_cancelled() => continue,
            Err(error) => {
                let panicked =
                    StageError::permanent("the stage panicked while it was opened: this is a bug in monmon");
                (error.id(), Err(panicked.caused_by(error)))
            }
        };
        let index = tasks.iter().position(|known| *known == task).expect("every stage is opened by one task");
        match opened {
            Ok(stage) => stages[index] = Some(stage),
            Err(error) => {
                let stage = plan.stages[index].name.to_string();
                failed.push(Failed { pipeline: plan.pipeline.clone(), stage, error });
                stop.cancel();
                opening.abort_all();
            }
        }
    }
    let all: Option<Vec<OpenStage>> = stages.into_iter().collect();
    match all {
        Some(stages) if failed.is_empty() => Ok(OpenPlan { plan, stages, counters }),
        _ => Err(failed),
    }
}

fn context(
    plan: &Plan,
    stage: &PlanStage,
    options: &RunOptions,
    stop: &CancellationToken,
    counters: Arc<StageCounters>,
) -> StageContext {
    StageContext {
        pipeline: plan.pipeline.clone(),
        stage: stage.name.clone(),
        mode: options.mode,
        stop: stop.clone(),
        world: options.world.clone(),
        clock: options.clock.clone(),
        prober: options.prober.clone(),
        keep_pages: stage.keep_pages,
        fail_fast: options.fail_fast,
        grace: options.grace,
        counters,
    }
}

impl OpenPlan {
    pub(crate) fn watched(&self) -> impl Iterator<Item = Watched> {
        self.plan.stages.iter().zip(&self.counters).map(|(stage, counters)| Watched {
            pipeline: self.plan.pipeline.clone(),
            stage: stage.name.clone(),
            kind: stage.kind,
            section: stage.section,
            measures: stage.spec.gives_page(),
            counters: counters.clone(),
            edge: OnceLock::new(),
        })
    }
}
