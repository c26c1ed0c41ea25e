//! The sink, the migrations and the views on a real server: `cargo xtask test` starts it and says where it is.

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod dead_letters;
mod faults;
mod incidents;
mod logins;
mod refusals;
mod retention;
mod rollups;
mod schema;
mod stored;
mod tls;
mod twins;
mod upkeep;
mod views;
