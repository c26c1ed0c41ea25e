//! The `http` source: how it is written, opened and run.

mod asking;
mod book;
mod decode;
mod descriptors;
mod guard;
mod kinds;
mod lag;
mod open;
mod owed;
mod past;
mod produce;
mod receipts;
mod run;
mod sites;
mod spec;
mod table;
pub(crate) mod window;

use monmon_stage::{Section, StageKind};
#[cfg(test)]
pub(crate) use owed::Told;

/// Checks websites on a schedule.
pub static SOURCE: StageKind =
    StageKind { section: Section::Sources, spec: &table::HTTP, decode: decode::decode };
