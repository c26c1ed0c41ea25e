//! A queue on disk in front of a sink, for when its server can't be reached.
//!
//! [`SPOOL`] is how it is written inside a sink's node, and [`wrap`] puts it in front of the sink that the node is of. While
//! the sink delivers in time, items go through and nothing is written. An item that stays with the sink for too long is put
//! on the disk before it is acked, and as long as anything is there all that comes goes behind it, so that the order is
//! kept. docs/spool.md says what is promised.

mod desk;
mod error;
mod file;
mod flights;
mod inner;
mod lost;
mod record;
mod renew;
mod room;
mod salvage;
mod sink;
mod spec;
mod status;
mod store;
mod tell;

pub use error::{SpoolError, SpoolErrorKind};
pub use spec::{SPOOL, wrap};
pub use status::{DroppedCheck, Quarantined, SpoolStatus, status};
