//! `cargo xtask test`: everything that must hold before a change goes in, on real services. CI runs this and nothing else.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    failure::Failure,
    project::Project,
    runner::Runner,
    say,
    services::{Nodes, Services},
};

#[derive(Args)]
pub(crate) struct Options {
    /// Tests alone: leaves out clippy and the documentation
    #[arg(long)]
    fast: bool,
    /// Leave the services up afterwards
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    nodes: Nodes,
    /// Passed on to `cargo test` (default: --workspace)
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// What each step took, for the last line.
struct Steps<'a> {
    runner: &'a Runner,
    took: Vec<(&'static str, Duration)>,
}

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    let mut steps = Steps { runner, took: Vec::new() };
    let services = steps.step("services", || Services::start(project, runner, options.nodes))?;
    let checked = check(project, options, &services, &mut steps);
    if !options.keep {
        let stopped = steps.step("stop services", || services.stop());
        checked.and(stopped)?;
    } else {
        checked?;
    }
    let each = steps.took.iter().map(|(name, took)| format!("{name} {:.0} s", took.as_secs_f64()));
    say::line(format_args!("\nall passed: {}", each.collect::<Vec<_>>().join(", ")));
    Ok(())
}

fn check(
    project: &Project,
    options: &Options,
    services: &Services<'_>,
    steps: &mut Steps<'_>,
) -> Result<(), Failure> {
    steps.run("fmt", &mut project.cargo(&["fmt", "--all", "--check"]))?;
    if !options.fast {
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        steps.run("clippy", &mut project.cargo(&clippy))?;
    }
    let mut test = project.cargo(&["test"]);
    if options.arguments.is_empty() {
        // All that fails is told in one run.
        test.args(["--workspace", "--no-fail-fast"]);
    }
    // A snapshot that differs is a failure here, never a new file.
    test.args(&options.arguments).envs(services.environment()).env("INSTA_UPDATE", "no");
    steps.run("test", &mut test)?;
    if !options.fast {
        let mut doc = project.cargo(&["doc", "--workspace", "--no-deps"]);
        steps.run("doc", doc.env("RUSTDOCFLAGS", "-Dwarnings"))?;
    }
    Ok(())
}

impl Steps<'_> {
    fn run(&mut self, name: &'static str, command: &mut Command) -> Result<(), Failure> {
        let runner = self.runner;
        self.step(name, || runner.run(name, command))
    }

    fn step<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        say::step(name);
        let start = Instant::now();
        let done = work();
        self.took.push((name, start.elapsed()));
        done
    }
}
