//! What runs, joined by what.

use std::fmt;
use std::sync::Arc;

use monmon_stage::{Section, StageSpec};
use serde_json::{Value, json};

/// A stage's place in `Plan::stages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub usize);

/// A directed acyclic graph of stages, checked; its tasks in topological order.
#[derive(Debug)]
pub struct Plan {
    pub pipeline: Arc<str>,
    /// In topological order: each stage stands behind all that feed it.
    pub stages: Vec<PlanStage>,
    pub edges: Vec<PlanEdge>,
    /// What shares a task: a source, a linear run of transforms, or a sink. In topological order.
    pub tasks: Vec<PlanTask>,
}

pub struct PlanStage {
    pub name: Arc<str>,
    pub section: Section,
    pub kind: &'static str,
    pub spec: Box<dyn StageSpec>,
    /// For a source: whether anything behind it wants pages.
    pub keep_pages: bool,
    pub needs_page: bool,
    /// The last of the stages for the matchers inside a source's checks: behind it their source is told what they found.
    pub judges: bool,
}

/// A bounded channel between two tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanEdge {
    pub from: StageId,
    pub to: StageId,
    /// In places: one for a small item, more for a large one.
    pub capacity: usize,
    /// Whether anything behind the edge wants pages; else they are let go of before it.
    pub carries_pages: bool,
}

/// Stages that run one after the other in the same task, with no queue between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanTask {
    pub stages: Vec<StageId>,
}

impl PlanStage {
    pub(crate) fn new(
        name: String,
        section: Section,
        kind: &'static str,
        spec: Box<dyn StageSpec>,
    ) -> PlanStage {
        let needs_page = spec.needs_page();
        PlanStage { name: name.into(), section, kind, needs_page, keep_pages: false, judges: false, spec }
    }

    /// Whether the stage may run in one task with another transform.
    pub(crate) fn may_share_task(&self) -> bool {
        self.section == Section::Transforms && !self.spec.needs_own_thread()
    }
}

impl Plan {
    pub fn stage(&self, id: StageId) -> &PlanStage {
        &self.stages[id.0]
    }

    /// What snapshots show.
    pub fn describe(&self) -> Value {
        let name = |id: &StageId| self.stage(*id).name.to_string();
        let stages: Vec<Value> = self
            .stages
            .iter()
            .map(|stage| {
                json!({
                    "name": &*stage.name,
                    "kind": format!("{} {}", stage.kind, stage.section.singular()),
                    "pages": match (stage.section, stage.needs_page, stage.keep_pages) {
                        (Section::Sources, _, true) => "kept",
                        (Section::Sources, _, false) => "not kept",
                        (_, true, _) => "needed",
                        (_, false, _) => "not needed",
                    },
                })
            })
            .collect();
        let edges: Vec<String> = self
            .edges
            .iter()
            .map(|edge| {
                let pages = if edge.carries_pages { ", with pages" } else { "" };
                format!("{} -> {} ({} places{pages})", name(&edge.from), name(&edge.to), edge.capacity)
            })
            .collect();
        let tasks: Vec<Vec<String>> =
            self.tasks.iter().map(|task| task.stages.iter().map(name).collect()).collect();
        json!({ "pipeline": &*self.pipeline, "stages": stages, "edges": edges, "tasks": tasks })
    }
}

impl fmt::Debug for PlanStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlanStage")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}
