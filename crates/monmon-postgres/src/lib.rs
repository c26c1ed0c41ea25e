//! The postgres sink, its migrations, and reading the store back.
//!
//! The way of a batch: the sink collects envelopes into batches, a writer turns a batch into rows and stores it in
//! one transaction and one round trip, and what goes wrong is sorted by its SQLSTATE into what is waited out, what is
//! one row's fault, and what only people can mend.

mod access;
mod audit;
mod audit_sums;
mod connect;
mod conninfo;
mod dead_letters;
mod defaults;
mod error;
mod incidents;
mod keeper;
mod kind;
mod maintain;
mod migrate;
mod pack;
mod partitions;
mod read;
mod reference;
mod restore;
mod rows;
mod sink;
mod source;
mod status;
mod target;
mod tls;
mod twins;
mod write;
mod writer;

pub use audit::{audit, audit_partitions};
pub use dead_letters::DeadLetters;
pub use error::StoreError;
pub use incidents::IncidentReader;
pub use kind::SINK;
pub use maintain::{Going, Maintained, maintain, retention_plan};
pub use migrate::{Applied, migrate};
pub use pack::{Packed, pack};
pub use read::Reader;
pub use source::SOURCE;
pub use status::check_states;
pub use target::{Address, Target, TlsFiles, Verify};
