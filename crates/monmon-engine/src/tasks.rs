//! From open stages to tasks joined by channels.

use std::sync::Arc;

use monmon_plan::{Plan, PlanTask, StageId};
use monmon_stage::{
    Batch, Emitter, Inlet, Item, OpenStage, Outlet, Section, Sink, Source, StageCounters, StageError,
    Transform, inlet,
};
use tokio::task::{Id, JoinSet};

use crate::open::OpenPlan;
use crate::{Failed, Progress, Verdicts};

pub(crate) type TaskSet = JoinSet<Result<(), StageError>>;

/// Which stages a task runs, for its name in reports.
#[derive(Clone, Debug)]
pub(crate) struct TaskName {
    pub(crate) id: Id,
    pub(crate) pipeline: Arc<str>,
    pub(crate) stage: String,
}

impl TaskName {
    pub(crate) fn failed(self, error: StageError) -> Failed {
        Failed { pipeline: self.pipeline, stage: self.stage, error }
    }
}

/// Spawns a task for each of the plan's, sinks first, so that nothing is emitted before someone can take it.
pub(crate) fn spawn(open: OpenPlan, progress: &Progress, set: &mut TaskSet) -> Vec<TaskName> {
    let OpenPlan { plan, stages, counters } = open;
    let mut stages: Vec<Option<OpenStage>> = stages.into_iter().map(Some).collect();
    let (outlets, mut inlets) = edges(&plan, &progress.verdicts);
    for (stage, inlet) in plan.stages.iter().zip(&inlets) {
        if let Some(inlet) = inlet {
            progress.note_edge(&plan.pipeline, &stage.name, inlet.gauge());
        }
    }
    let mut names = Vec::new();
    for task in plan.tasks.iter().rev() {
        let first = task.stages[0];
        let last = *task.stages.last().expect("a task has at least one stage");
        let emitter = Emitter::new(outlets[last.0].clone());
        let input = inlets[first.0].take();
        let parts = task.stages.iter().map(|id| {
            let stage = stages[id.0].take().expect("a stage belongs to one task");
            let beside = Beside { counters: counters[id.0].clone(), judges: plan.stage(*id).judges };
            (stage, beside)
        });
        let id = spawn_task(parts.collect(), input, emitter, set);
        names.push(TaskName { id, pipeline: plan.pipeline.clone(), stage: name(&plan, task) });
    }
    names
}

fn name(plan: &Plan, task: &PlanTask) -> String {
    task.stages.iter().map(|id| plan.stage(*id).name.to_string()).collect::<Vec<_>>().join(", ")
}

/// The outlets of each stage and the inlet of each. Every task's first edge into a sink is tapped, so that what goes to
/// several sinks is counted once.
fn edges(plan: &Plan, verdicts: &Arc<Verdicts>) -> (Vec<Vec<Outlet>>, Vec<Option<Inlet>>) {
    let mut outlets: Vec<Vec<Outlet>> = plan.stages.iter().map(|_| Vec::new()).collect();
    let mut inlets: Vec<Option<Inlet>> = plan.stages.iter().map(|_| None).collect();
    let mut tapped = vec![false; plan.stages.len()];
    for to in (0..plan.stages.len()).map(StageId) {
        let mut into = plan.edges.iter().filter(|edge| edge.to == to).peekable();
        let Some(first) = into.peek() else { continue };
        let (outlet, end) = inlet(first.capacity, first.carries_pages);
        inlets[to.0] = Some(end);
        for edge in into {
            let into_sink = plan.stage(to).section == Section::Sinks;
            let outlet = match into_sink && !std::mem::replace(&mut tapped[edge.from.0], into_sink) {
                true => outlet.clone().with_tap(verdicts.tap()),
                false => outlet.clone(),
            };
            outlets[edge.from.0].push(outlet);
        }
    }
    (outlets, inlets)
}

/// What the engine has for a stage beside the stage itself.
struct Beside {
    counters: Arc<StageCounters>,
    judges: bool,
}

fn spawn_task(
    mut parts: Vec<(OpenStage, Beside)>,
    input: Option<Inlet>,
    emitter: Emitter,
    set: &mut TaskSet,
) -> Id {
    if parts.iter().all(|(stage, _)| matches!(stage, OpenStage::Transform(_))) {
        let input = input.expect("a transform has an edge into it");
        let transforms: Vec<(Box<dyn Transform>, Beside)> = parts
            .into_iter()
            .filter_map(|(stage, beside)| match stage {
                OpenStage::Transform(transform) => Some((transform, beside)),
                OpenStage::Source(_) | OpenStage::Sink(_) => None,
            })
            .collect();
        // A thread of its own: matching must not hold up the tasks that time the network.
        return set.spawn_blocking(move || run_transforms(transforms, input, &emitter)).id();
    }
    let (stage, _) = parts.remove(0);
    match stage {
        OpenStage::Source(source) => set.spawn(run_source(source, emitter)).id(),
        OpenStage::Sink(sink) => {
            let input = input.expect("a sink has an edge into it");
            set.spawn(run_sink(sink, input)).id()
        }
        OpenStage::Transform(_) => {
            unreachable!("a task that is not all transforms is one source or one sink")
        }
    }
}

async fn run_source(source: Box<dyn Source>, emitter: Emitter) -> Result<(), StageError> {
    source.run(emitter).await
}

async fn run_sink(sink: Box<dyn Sink>, input: Inlet) -> Result<(), StageError> {
    sink.run(input).await
}

fn run_transforms(
    mut transforms: Vec<(Box<dyn Transform>, Beside)>,
    mut input: Inlet,
    emitter: &Emitter,
) -> Result<(), StageError> {
    while let Some(mut batch) = input.blocking_recv() {
        if let Some((first, _)) = transforms.first_mut() {
            first.backlog(input.backlog());
        }
        for (transform, beside) in &mut transforms {
            beside.counters.add_received(batch.len() as u64);
            transform.apply(&mut batch);
            beside.counters.add_delivered(batch.len() as u64);
            if beside.judges {
                judge(&batch);
            }
        }
        if emitter.blocking_emit(batch).is_err() {
            // The stage behind has ended and says why itself; closing our inlet passes the end upstream.
            return Ok(());
        }
    }
    Ok(())
}

/// Tells the source what the matchers of its checks found.
fn judge(batch: &Batch) {
    for envelope in batch {
        if let Item::Measurement(measured) = &envelope.item {
            envelope.ack.judge(measured.measurement.outcome);
        }
    }
}
