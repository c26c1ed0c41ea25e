//! Runs of small graphs: what arrives, what is acked, how runs begin and end.

mod endings;
mod flow;
mod opening;
mod random;
mod support;
