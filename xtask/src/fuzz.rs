//! `cargo xtask fuzz`: libFuzzer on the targets in `fuzz/`. The gate builds them and tries what they start from.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use clap::{Args, ValueEnum};

use crate::{duration, failure::Failure, project::Project, runner::Runner};

#[derive(Args)]
pub(crate) struct Options {
    /// One target; all, one after the other, if none is named
    target: Option<Target>,
    /// How long each is fuzzed
    #[arg(long = "for", value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Target {
    /// A file's text: resolved, compiled, its problems drawn
    Pipeline,
    /// A message from Kafka
    Wire,
    /// A pattern over a page
    Page,
    /// A plugin's file, and its answers
    Plugin,
}

/// What LLVM is told on a stable compiler so that libFuzzer sees where an input led; cargo-fuzz passes the same.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The longest that one input may take, in seconds, and the most memory, in MiB.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Wire => "wire",
            Self::Page => "page",
            Self::Plugin => "plugin",
        }
    }

    /// Folders of inputs to start from: the tests' own where there are such.
    fn seeds(self, project: &Project) -> Vec<PathBuf> {
        let folders: &[&str] = match self {
            Self::Pipeline => &["pipelines", "tests/pipelines/good", "tests/pipelines/bad"],
            Self::Wire => &["crates/monmon-model/tests/golden", "fuzz/seeds/wire"],
            Self::Page => &["fuzz/seeds/page"],
            Self::Plugin => &["fuzz/seeds/plugin"],
        };
        folders.iter().map(|folder| project.root.join(folder)).collect()
    }
}

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    let host = runner.answer(Command::new("rustc").arg("-vV")).unwrap_or_default();
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Failure::Usage("`rustc -vV` does not tell the host".to_owned()))?;
    let folder = project.target.join("fuzz");
    lay_lock(project)?;
    // With a target named, build scripts are left without coverage, which they could not be linked with.
    let mut build = cargo(project, &["build", "--profile", "fuzz", "--target", host]);
    build.arg("--target-dir").arg(&folder).env("RUSTFLAGS", COVERAGE);
    runner.run("build the fuzz targets", &mut build)?;
    let targets = options.target.map_or_else(|| Target::value_variants().to_vec(), |target| vec![target]);
    for target in targets {
        let name = target.name();
        let (corpus, artifacts) = (folder.join("corpus").join(name), folder.join("artifacts").join(name));
        for made in [&corpus, &artifacts] {
            fs::create_dir_all(made).map_err(Failure::io("making the fuzzer's folders"))?;
        }
        let mut command = Command::new(folder.join(host).join("fuzz").join(name));
        command.args(LIMITS).arg(format!("-max_total_time={}", options.time.as_secs()));
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        command.arg(corpus).args(target.seeds(project));
        runner.run(&format!("fuzz {name}"), &mut command)?;
    }
    Ok(())
}

/// Builds the targets as the tests are built, sharing what is built already, and tries the inputs that they start from.
pub(crate) fn try_seeds(project: &Project, runner: &Runner) -> Result<(), Failure> {
    lay_lock(project)?;
    runner.run("fmt of fuzz", &mut cargo(project, &["fmt", "--check"]))?;
    let shared = |arguments: &[&str]| {
        let mut command = cargo(project, arguments);
        command.arg("--target-dir").arg(&project.target);
        command
    };
    runner.run("clippy of fuzz", shared(&["clippy"]).args(["--", "-D", "warnings"]))?;
    runner.run("build of fuzz", &mut shared(&["build"]))?;
    for target in Target::value_variants() {
        let mut command = Command::new(project.target.join("debug").join(target.name()));
        command.args(LIMITS).current_dir(&project.target);
        for folder in target.seeds(project) {
            let entries =
                fs::read_dir(&folder).map_err(Failure::io(format!("reading {}", folder.display())))?;
            command
                .args(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()));
        }
        runner.quiet(&format!("seeds of {}", target.name()), &mut command)?;
    }
    Ok(())
}

fn cargo(project: &Project, arguments: &[&str]) -> Command {
    let (first, rest) = arguments.split_first().expect("a command has a name");
    let mut command = project.cargo(&[first]);
    command.arg("--manifest-path").arg(project.root.join("fuzz/Cargo.toml")).args(rest);
    command
}

/// The versions that ship are the versions that are fuzzed.
fn lay_lock(project: &Project) -> Result<(), Failure> {
    fs::copy(project.root.join("Cargo.lock"), project.root.join("fuzz/Cargo.lock"))
        .map(drop)
        .map_err(Failure::io("laying the lock beside fuzz/Cargo.toml"))
}
