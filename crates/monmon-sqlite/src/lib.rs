//! The sqlite sink, its migrations, and reading the store back.

mod audit;
mod audit_sums;
mod cut;
mod database;
mod dead_letters;
mod error;
mod incidents;
mod keeper;
mod kind;
mod maintain;
mod policies;
mod read;
mod reference;
mod restore;
mod rollup;
mod rows;
mod seal;
mod sink;
mod status;
mod store;
mod twins;

pub use audit::{audit, audit_partitions};
pub use database::migrate;
pub use dead_letters::DeadLetters;
pub use error::{StoreError, StoreErrorKind};
pub use incidents::incidents;
pub use kind::{SINK, SOURCE};
pub use maintain::{Going, Maintained, maintain, retention_plan, rollup_faults};
pub use read::Reader;
pub use status::check_states;
