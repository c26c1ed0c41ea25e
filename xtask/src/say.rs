//! Everything that xtask itself prints.

use std::fmt::Display;

#[expect(clippy::print_stdout, reason = "the one place that prints")]
pub(crate) fn line(text: impl Display) {
    println!("{text}");
}

/// The head line of a step, to be found again in a long log.
pub(crate) fn step(name: impl Display) {
    line(format_args!("\n==> {name}"));
}

#[expect(clippy::print_stderr, reason = "the one place that prints errors")]
pub(crate) fn error(text: impl Display) {
    eprintln!("xtask: {text}");
}
