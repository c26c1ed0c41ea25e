//! From a pipeline's text to a checked graph of stages.
//!
//! [`resolve`] turns the nodes of a file into a [`PipelineSpec`]: plain data, every value typed. [`compile`] checks
//! how its stages hang together and gives a [`Plan`]: what runs, joined by what, with every capacity. Both are pure and
//! report all that is wrong in one go.

mod catalogue;
mod compile;
mod graph;
mod plan;
mod resolve;
mod spec;

pub use catalogue::{Catalogue, InlineKind, InlineStage};
pub use compile::compile;
pub use plan::{Plan, PlanEdge, PlanStage, PlanTask, StageId};
pub use resolve::resolve;
pub use spec::{PipelineSpec, StageEntry};
