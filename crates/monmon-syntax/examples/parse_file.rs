//! Parses a file and prints how many nodes and problems there are: run under a limit, it shows what a text costs.

use std::process::ExitCode;

use monmon_syntax::{DiskLoader, Problems, load};

#[expect(clippy::print_stdout, reason = "a program that prints its findings")]
fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else { return ExitCode::from(2) };
    let mut problems = Problems::new();
    let loaded = load(path.as_ref(), &DiskLoader, &mut problems);
    println!("{} nodes, {} problems", loaded.nodes.len(), problems.len());
    ExitCode::from(u8::from(problems.has_errors()))
}
