//! The kafka source and the kafka sink.
//!
//! The sink publishes every measurement with its check's id as key, and resolves an ack only when the broker has said
//! that the record is persisted on all in-sync replicas. What is not delivered is sent again; the measurement's id makes
//! the copies fall out at the store.
//!
//! The source reads as a member of a consumer group. Its ledger holds for each partition what was delivered, and only the
//! longest delivered prefix is ever committed.

mod cause;
mod client;
mod contact;
mod health;
mod ledger;
mod log_state;
mod options;
mod property;
mod protocol;
mod sink;
mod source;
mod spec;
mod standstill;

pub use log_state::{LogState, log_states};
pub use options::{SINK, SOURCE};
