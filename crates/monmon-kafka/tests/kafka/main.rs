//! The two stages against a real broker, and their options against broken files.

mod commit;
mod coordinator;
mod harness;
mod kill;
mod leader;
mod mock;
mod options;
mod place;
mod rebalance;
mod security;
mod sink;
mod source;
