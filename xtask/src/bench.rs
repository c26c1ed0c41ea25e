//! `cargo xtask bench`: the figures, from programs that run against optimised builds: the prober's in
//! `crates/monmon-bench`, each store's and broker's in the `examples` of its crate.

use clap::Args;

use crate::{
    failure::Failure,
    project::Project,
    runner::Runner,
    services::{Nodes, Services},
};

#[derive(Args)]
pub(crate) struct Options {
    /// Passed on to the prober's benchmark; without any, all benchmarks run, about six minutes
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    let services = Services::start(project, runner, Nodes::default())?;
    let measured = measure(project, runner, &services, options);
    let stopped = services.stop();
    measured.and(stopped)
}

/// The topic that the Kafka benchmark fills and empties.
const TOPIC: &str = "monmon.bench";

fn measure(
    project: &Project,
    runner: &Runner,
    services: &Services<'_>,
    options: &Options,
) -> Result<(), Failure> {
    let light = |arguments: &[&str]| {
        let mut command = project.cargo(&["run", "--profile", "light"]);
        command.args(arguments).envs(services.environment());
        command
    };
    runner.run("build", &mut project.cargo(&["build", "--profile", "light", "-p", "monmon"]))?;
    if !options.arguments.is_empty() {
        return runner.run("bench", light(&["-p", "monmon-bench", "--"]).args(&options.arguments));
    }
    let http = ["-p", "monmon-bench", "--", "http"];
    let small = ["--checks", "1000", "--interval", "1s", "--for", "60s"];
    runner.run("bench: 1,000 checks x 1 s", light(&http).args(small))?;
    let large = ["--checks", "10000", "--interval", "10s", "--for", "30s"];
    runner.run("bench: 10,000 checks x 10 s", light(&http).args(large))?;
    runner.run("topic for the bench", &mut services.script("kafka.sh", &["topic", TOPIC, "1"]))?;
    let brokers = services.brokers();
    let kafka = ["-p", "monmon-kafka", "--example", "rate", "--", &brokers, TOPIC, "500000"];
    runner.run("bench: Kafka", &mut light(&kafka))?;
    runner.run(
        "bench: PostgreSQL",
        &mut light(&["-p", "monmon-postgres", "--example", "bench", "--", "100000"]),
    )
}
