//! Figures, never verdicts: what the bare machine does, and what monmon does beside it in the same run.
//!
//! The site, the bare loop and monmon are processes of their own, so that each one's CPU is its own. Only figures of
//! one run can be compared: the machine differs from hour to hour.
#![expect(clippy::print_stdout, reason = "a program that prints figures")]

mod arrivals;
mod bare;
mod checks;
mod mirror;
mod phases;
mod process;
mod report;
mod site;

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use jiff::SignedDuration;

#[derive(Parser)]
#[command(name = "monmon-bench", about = "Figures of monmon beside a bare-socket loop, in one run")]
struct CommandLine {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// The bare loop alone: paced like monmon's checks, and as fast as it goes
    Floor(checks::Shape),
    /// The bare loop and monmon, at the same rate, one after the other
    Http {
        #[command(flatten)]
        shape: checks::Shape,
        /// The built program
        #[arg(long, default_value = "target/light/monmon")]
        monmon: PathBuf,
        /// Where the measurements go
        #[arg(long, value_enum, default_value_t = checks::Sink::Stdout)]
        sink: checks::Sink,
    },
    /// curl and monmon ask a server that delays each phase by a known time
    Phases(phases::Options),
    /// The site that is checked, as a process of its own
    #[command(hide = true)]
    Site(site::Options),
    /// The bare loop, as a process of its own
    #[command(hide = true)]
    Bare(bare::Options),
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().bench {
        Bench::Floor(shape) => checks::floor(&shape),
        Bench::Http { shape, monmon, sink } => checks::beside(&shape, &monmon, sink),
        Bench::Phases(options) => phases::run(&options),
        Bench::Site(options) => site::serve(options),
        Bench::Bare(options) => bare::run(&options),
    };
    match done {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            writeln!(std::io::stderr(), "monmon-bench: {error}").ok();
            ExitCode::from(2)
        }
    }
}

/// `1s`, `1m30s`, `250ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("`{text}` is not a time that passes")),
    }
}
