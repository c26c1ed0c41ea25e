//! From a file to a plan, or to everything that is wrong with it.

use std::path::Path;

use monmon_plan::{Plan, compile, resolve};
use monmon_syntax::{Code, FileLoader, Problems, Report, SourceMap, load};
use serde_json::Value;

use crate::{CATALOGUE, Exit};

/// A pipeline file that was read.
pub struct Front {
    pub sources: SourceMap,
    pub problems: Problems,
    /// The resolved spec, as snapshots show it; even of a file with problems, as far as it could be read.
    pub spec: Option<Value>,
    /// None if there was any error.
    pub plan: Option<Plan>,
}

/// Parses, resolves and compiles a file. Touches nothing but files, and those through `loader`.
pub fn front(path: &Path, loader: &dyn FileLoader) -> Front {
    let mut problems = Problems::new();
    let loaded = load(path, loader, &mut problems);
    let mut description = None;
    let mut plan = None;
    if let Some(spec) = resolve(&loaded, &CATALOGUE, loader, &mut problems) {
        description = Some(spec.describe());
        let compiled = compile(spec, &CATALOGUE, loader, &mut problems);
        plan = compiled.filter(|_| !problems.has_errors());
    }
    Front { sources: loaded.sources, problems, spec: description, plan }
}

impl Front {
    /// A file that can't be read is no verdict on what is in it.
    pub fn exit(&self) -> Exit {
        let unreadable = self.problems.iter().any(|problem| problem.code == Code::UnreadableFile);
        match (unreadable, &self.plan) {
            (true, _) => Exit::Failed,
            (false, None) => Exit::Bad,
            (false, Some(_)) => Exit::Good,
        }
    }

    pub fn report(&self) -> Report<'_> {
        Report::new(&self.problems, &self.sources)
    }
}
