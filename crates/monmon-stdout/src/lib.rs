//! The stdout sink: measurements as JSON lines.

mod kind;
mod sink;

pub use kind::SINK;
