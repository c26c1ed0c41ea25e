//! The sqlite sink, its migrations, and reading the store back.

mod audit;
mod database;
mod error;
mod kind;
mod read;
mod reference;
mod restore;
mod rows;
mod sink;
mod status;
mod store;
mod twins;

pub use audit::audit;
pub use database::migrate;
pub use error::{StoreError, StoreErrorKind};
pub use kind::{SINK, SOURCE};
pub use read::Reader;
pub use status::check_states;
