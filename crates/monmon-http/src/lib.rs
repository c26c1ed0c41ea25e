//! The http source: checks on a slot schedule, measured phase by phase.

pub mod schedule;
mod timeline;
