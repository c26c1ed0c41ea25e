//! The sqlite sink, its migrations, and reading the store back.

mod audit;
mod database;
mod error;
mod kind;
mod reference;
mod rows;
mod sink;
mod status;
mod store;
mod twins;

pub use audit::audit;
pub use database::migrate;
pub use error::{StoreError, StoreErrorKind};
pub use kind::SINK;
pub use status::check_states;
