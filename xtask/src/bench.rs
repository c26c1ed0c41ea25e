//! `cargo xtask bench`: the figures. The programs are in `crates/monmon-bench`; they run against the optimised binary.

use clap::Args;

use crate::{
    failure::Failure,
    project::Project,
    runner::Runner,
    services::{Nodes, Services},
};

#[derive(Args)]
pub(crate) struct Options {
    /// Passed on to the benchmarks; `--help` lists them
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    let services = Services::start(project, runner, Nodes::default())?;
    let measured = measure(project, runner, &services, options);
    let stopped = services.stop();
    measured.and(stopped)
}

fn measure(
    project: &Project,
    runner: &Runner,
    services: &Services<'_>,
    options: &Options,
) -> Result<(), Failure> {
    runner.run(
        "build",
        &mut project.cargo(&["build", "--profile", "light", "-p", "monmon", "-p", "monmon-testkit"]),
    )?;
    let mut bench = project.cargo(&["run", "--profile", "light", "-p", "monmon-bench", "--"]);
    runner.run("bench", bench.args(&options.arguments).envs(services.environment()))
}
