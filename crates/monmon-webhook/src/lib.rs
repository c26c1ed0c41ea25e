//! The webhook sink: incidents to whoever must know.
//!
//! What is sent is a JSON body in the form that a service documents (`format.rs`) or that the pipeline file gives
//! (`template.rs`), over a client that follows nobody elsewhere (`client.rs`), again and again until it is taken
//! (`sink.rs`).

mod client;
mod format;
mod hide;
mod kind;
mod sink;
mod spec;
mod template;
#[cfg(test)]
mod tests;

pub use client::signature;
pub use kind::SINK;
