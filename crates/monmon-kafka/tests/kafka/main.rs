//! The two stages against a real broker, and their options against broken files.

mod coordinator;
mod harness;
mod kill;
mod mock;
mod options;
mod rebalance;
mod security;
mod sink;
mod source;
