//! The project's chores, as `cargo xtask COMMAND`. It depends on almost nothing, so that it builds in seconds on a bare
//! machine and can say what else is missing before the long build finds out.

mod bench;
mod chaos;
mod demo;
mod doctor;
mod duration;
mod failure;
mod figures;
mod fuzz;
mod gate;
mod plugins;
mod project;
mod runner;
mod say;
mod services;
mod steps;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{project::Project, runner::Runner};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of monmon: machine, services, tests, demo, benchmarks")]
struct Cli {
    #[command(subcommand)]
    command: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Check that the machine has what build and tests need; one line for each thing that is missing
    Doctor(doctor::Options),
    /// Run Kafka and PostgreSQL on loopback, with their data under target/services
    Services(services::Options),
    /// Install what is missing, start the services, then run every check and test: what CI runs
    #[command(alias = "ci")]
    Test(gate::Options),
    /// Watch a real web server: nginx -> producer -> Kafka -> consumer -> PostgreSQL, rows shown as they arrive
    Demo(demo::Options),
    /// Break everything around monmon at random moments, and account for every measurement
    Chaos(chaos::Options),
    /// Throw bytes at what reads bytes, guided by coverage
    Fuzz(fuzz::Options),
    /// Build and try the example plugins, into plugins/dist
    Plugins,
    /// Start the services and run the benchmarks; what follows is passed on to them
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = Project::from_environment().and_then(|project| {
        let runner = Runner::new()?;
        match cli.command {
            Chore::Doctor(options) => doctor::run(&project, &runner, &options),
            Chore::Services(options) => services::run(&project, &runner, &options),
            Chore::Test(options) => gate::run(&project, &runner, &options),
            Chore::Demo(options) => demo::run(&project, &runner, &options),
            Chore::Chaos(options) => chaos::run(&project, &runner, &options),
            Chore::Fuzz(options) => fuzz::run(&project, &runner, &options),
            Chore::Plugins => plugins::build(&project, &runner),
            Chore::Bench(options) => bench::run(&project, &runner, &options),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say::error(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}
