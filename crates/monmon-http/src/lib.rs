//! The http source: checks on a slot schedule, measured phase by phase.

mod probe;
pub mod schedule;
mod timeline;
