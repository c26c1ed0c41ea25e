//! The `monmon` program.
fn main() {}
