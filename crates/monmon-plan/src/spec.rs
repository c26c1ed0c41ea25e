//! A pipeline as its file asks for it.

use std::fmt;

use monmon_stage::{Section, StageKind, StageSpec};
use monmon_syntax::{Span, Spanned};
use serde_json::{Value, json};

/// The whole pipeline: plain data, with spans for what may still be complained about.
#[derive(Debug)]
pub struct PipelineSpec {
    pub name: Spanned<String>,
    /// In the order of the file.
    pub stages: Vec<StageEntry>,
}

/// One stage.
pub struct StageEntry {
    pub name: Spanned<String>,
    pub section: Section,
    pub kind: &'static StageKind,
    /// The kind's name in the file, for complaints about the stage as a whole.
    pub kind_span: Span,
    pub from: Vec<Spanned<String>>,
    pub spec: Box<dyn StageSpec>,
}

impl PipelineSpec {
    /// What snapshots show: every value in its text form, no secret.
    pub fn describe(&self) -> Value {
        let stages: Vec<Value> = self
            .stages
            .iter()
            .map(|stage| {
                json!({
                    "name": stage.name.value,
                    "section": stage.section.as_str(),
                    "kind": stage.kind.spec.name,
                    "from": stage.from.iter().map(|name| &name.value).collect::<Vec<_>>(),
                    "spec": stage.spec.describe(),
                })
            })
            .collect();
        json!({ "pipeline": self.name.value, "stages": stages })
    }
}

impl fmt::Debug for StageEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageEntry")
            .field("name", &self.name)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}
