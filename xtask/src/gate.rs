//! `cargo xtask test`: everything that must hold before a change goes in, on real services. CI runs this and nothing else.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;

use crate::{
    failure::Failure,
    fuzz, plugins,
    project::Project,
    runner::Runner,
    say,
    services::{Nodes, Services},
    steps::Steps,
    tools,
};

#[derive(Args)]
pub(crate) struct Options {
    /// Tests alone: leaves out everything that is not format or test
    #[arg(long)]
    fast: bool,
    /// Leave the services up afterwards
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    nodes: Nodes,
    /// Passed on to `cargo nextest run` (default: --workspace)
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    let mut steps = Steps::new(runner);
    let services = Services::start(project, runner, options.nodes)?;
    let checked = check(project, runner, options, &services, &mut steps);
    if !options.keep {
        let stopped = services.stop();
        checked.and(stopped)?;
    } else {
        checked?;
    }
    steps.finish()
}

/// Whatever fails, the rest is tried: one run tells all.
fn check(
    project: &Project,
    runner: &Runner,
    options: &Options,
    services: &Services<'_>,
    steps: &mut Steps<'_>,
) -> Result<(), Failure> {
    steps.run("fmt", &mut project.cargo(&["fmt", "--all", "--check"]))?;
    steps.step("tools", || tools::install(project, runner))?;
    if !options.fast {
        steps.step("rust-version", || rust_version(project, runner))?;
        let mut deny = tools::DENY.command(project);
        steps.run("deny", deny.args(["check", "bans", "licenses", "sources"]))?;
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        steps.run("clippy", &mut project.cargo(&clippy))?;
        let mut doc = project.cargo(&["doc", "--workspace", "--no-deps"]);
        steps.run("doc", doc.env("RUSTDOCFLAGS", "-Dwarnings"))?;
        steps.run("doctests", &mut project.cargo(&["test", "--quiet", "--workspace", "--doc"]))?;
        steps.step("fuzz targets", || fuzz::try_seeds(project, runner))?;
    }
    steps.step("plugins", || plugins::build(project, runner))?;
    let whole = options.arguments.is_empty();
    let referenced = project.target.join("snapshots");
    if whole {
        forget(&referenced)?;
    }
    let mut test = tools::NEXTEST.command(project);
    test.arg("run");
    if whole {
        test.arg("--workspace");
    }
    // A snapshot that differs is a failure here, never a new file.
    test.args(&options.arguments).envs(services.environment()).env("INSTA_UPDATE", "no");
    test.env("INSTA_SNAPSHOT_REFERENCES_FILE", &referenced);
    steps.run("test", &mut test)?;
    if whole {
        steps.step("snapshots", || no_stale_snapshot(project, &referenced))?;
    }
    Ok(())
}

/// Where the compiler is the oldest that is promised, the steps to come hold the promise. Another can't.
fn rust_version(project: &Project, runner: &Runner) -> Result<(), Failure> {
    let read = |path: &str| {
        fs::read_to_string(project.root.join(path)).map_err(Failure::io(format!("reading {path}")))
    };
    let value = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
        line.split('"').nth(1).map(str::to_owned)
    };
    let promised = value(&read("Cargo.toml")?, "rust-version =");
    let in_ci = value(&read(".github/workflows/ci.yml")?, "RUST_VERSION:");
    let Some(promised) = promised.filter(|promised| in_ci.as_ref() == Some(promised)) else {
        return Err(Failure::Verdict(
            "rust-version of Cargo.toml and RUST_VERSION of .github/workflows/ci.yml are not the same"
                .to_owned(),
        ));
    };
    let running = runner.answer(Command::new("rustc").arg("--version")).unwrap_or_default();
    match running.split(' ').nth(1) {
        Some(version) if version.starts_with(&format!("{promised}.")) => {
            say::line(format_args!("{running} is the oldest that is promised"));
        }
        _ => {
            say::line(format_args!("{running} runs here; that {promised} suffices is held elsewhere, in CI"))
        }
    }
    Ok(())
}

fn forget(file: &Path) -> Result<(), Failure> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::io("forgetting the last run's snapshots")(error))
        }
        _ => Ok(()),
    }
}

/// Every snapshot belongs to a test that still asks for it; insta writes down which were asked for.
fn no_stale_snapshot(project: &Project, referenced: &Path) -> Result<(), Failure> {
    let reading = || Failure::io("reading snapshots");
    let referenced = fs::read_to_string(referenced).map_err(reading())?;
    let referenced: BTreeSet<PathBuf> =
        referenced.lines().filter_map(|line| fs::canonicalize(line).ok()).collect();
    let mut stale = Vec::new();
    let mut folders = vec![project.root.join("tests"), project.root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(reading())? {
            let path = entry.map_err(reading())?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "snap") {
                let path = fs::canonicalize(path).map_err(reading())?;
                stale.extend((!referenced.contains(&path)).then_some(path));
            }
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    stale.iter().for_each(|path| say::line(path.display()));
    Err(Failure::Verdict(format!("{} snapshots that no test asks for", stale.len())))
}
