//! `cargo xtask chaos`: the harness of faults, on servers of its own; `docs/faults.md` says what its rows do.

use std::{fs, path::PathBuf, process::Command};

use clap::Args;

use crate::{doctor, failure::Failure, project::Project, runner::Runner, say};

#[derive(Args)]
pub(crate) struct Options {
    /// Show that the harness sees what it is there to see: builds of monmon with a mistake made on purpose, one or `all`
    #[arg(long, value_name = "NAME")]
    sabotage: Option<String>,
    /// Passed on: `--for 60m`, `--seed N`, `--rows 1,5,25`, `--quick`, `--list`
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    doctor::run(project, runner, &doctor::Options { install: true, ..doctor::Options::default() })?;
    let built = project.target.join("debug/monmon");
    let mut monmon = built.clone();
    // With a test among them crates have the features of the tests' build: nothing is built twice.
    let build = ["build", "--workspace", "--bins", "--test", "sabotage"];
    if options.sabotage.is_some() {
        let mut sabotaged = project.cargo(&build);
        runner.run("build with mistakes", sabotaged.args(["--features", "monmon/sabotage"]))?;
        // Set aside, so that no other command takes it for the real one.
        monmon = aside(project)?;
        fs::copy(&built, &monmon).map_err(Failure::io("setting the build with mistakes aside"))?;
    }
    runner.run("build", &mut project.cargo(&build))?;
    let mut command = Command::new(project.target.join("debug/monmon-chaos"));
    command.current_dir(&project.root).arg("--monmon").arg(&monmon);
    command.arg("--scripts").arg(project.scripts()).arg("--folder").arg(project.target.join("chaos"));
    if let Some(libs) = libs(project) {
        command.arg("--libs").arg(libs);
    }
    if let Some(name) = &options.sabotage {
        command.args(["--sabotage", name]);
    }
    say::step("chaos");
    runner.run("chaos", command.args(&options.arguments))
}

fn aside(project: &Project) -> Result<PathBuf, Failure> {
    let folder = project.target.join("sabotage");
    fs::create_dir_all(&folder).map_err(Failure::io("making a folder"))?;
    Ok(folder.join("monmon"))
}

/// Kafka's jars, where the tests' own broker has fetched them.
fn libs(project: &Project) -> Option<PathBuf> {
    let entries = fs::read_dir(project.services.join("kafka")).ok()?;
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path()));
    found.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libs-")))
}
