//! A small HTTP server for what monmon tells of itself, and the text format of its metrics.
//!
//! The server answers GET and HEAD, one request a connection. Whatever clients do costs a bounded number of sockets and
//! bytes, and is never felt by the rest of the process.

mod exposition;
mod server;

pub use exposition::{Exposition, Family, Type, Value};
pub use server::{Answer, CONNECTIONS_MAX, Pages, Server};
