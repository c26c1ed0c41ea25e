//! The `monmon` program: the command line, the catalogue of stage kinds, the exit codes.
//!
//! It is a library as well, so that tests can ask for plans and diagnostics without a process.

mod audit;
mod catalogue;
pub mod cli;
mod db;
mod dead_letter;
mod exit;
mod export;
mod front;
mod incidents;
mod logs;
mod maintain;
mod metrics;
mod plugin;
mod plugins;
mod probe;
mod prober;
mod progress;
mod run;
mod sla;
mod spool;
mod status;
mod store;
mod validate;

pub use catalogue::CATALOGUE;
pub use exit::Exit;
pub use front::{Front, front};
