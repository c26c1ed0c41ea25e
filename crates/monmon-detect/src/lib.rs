//! The `detect` transform: incidents out of measurements.
//!
//! Each prober has a window of a check's newest slots (`window.rs`); a check is down when enough probers say so
//! (`watch.rs`). What it would be wrong to forget is in a file before it is told to anyone (`file.rs`), and what was told
//! is told again until its ack comes (`ledger.rs`). What this process does not know of a check it asks the file, and the
//! store of the incidents where the pipeline names one (`recall.rs`).

mod file;
mod glob;
mod kind;
mod ledger;
mod policy;
mod recall;
mod transform;
mod watch;
mod window;

#[cfg(test)]
mod tests;

pub use kind::DETECT;
