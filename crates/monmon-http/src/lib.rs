//! The http source: checks on a slot schedule, measured phase by phase.
//!
//! - `schedule`: when a check is due. Pure; the same arithmetic tells afterwards what should have been measured.
//! - `probe`: one check, once.
//! - `source`: how checks are written, and the thread that carries them out.
//! - `slots`: the same arithmetic for whoever looks back.
//! - `demo`: a few pages to try it on.

mod demo;
mod probe;
mod schedule;
mod slots;
mod source;
mod timeline;

pub use slots::{Slots, StandsFor};
pub use source::SOURCE;
