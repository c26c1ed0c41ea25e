//! cargo-nextest and cargo-deny, at the versions of `xtask/tools.txt`, under `target/tools`.

use std::{fs, process::Command};

use crate::{failure::Failure, project::Project, runner::Runner, say};

pub(crate) struct Tool {
    /// As in `cargo NAME`.
    name: &'static str,
    version: &'static str,
}

pub(crate) static NEXTEST: Tool = Tool { name: "nextest", version: "0.9.148" };
pub(crate) static DENY: Tool = Tool { name: "deny", version: "0.20.2" };

impl Tool {
    pub(crate) fn command(&self, project: &Project) -> Command {
        let mut command = Command::new(project.target.join(format!("tools/bin/cargo-{}", self.name)));
        command.arg(self.name).current_dir(&project.root);
        command
    }

    fn is_there(&self, project: &Project, runner: &Runner) -> bool {
        let said = runner.answer(self.command(project).arg("--version"));
        said.is_some_and(|said| said.split_whitespace().any(|word| word == self.version))
    }

    /// Slow, and the same everywhere.
    fn build(&self, project: &Project, runner: &Runner) -> Result<(), Failure> {
        let package = format!("cargo-{}", self.name);
        let mut command =
            project.cargo(&["install", "--locked", "--force", &package, "--version", self.version]);
        command.arg("--root").arg(project.target.join("tools"));
        command.arg("--target-dir").arg(project.target.join("tools/build"));
        runner.run(&format!("build {package}"), &mut command)
    }
}

/// Installs those that are not there at their version.
pub(crate) fn install(project: &Project, runner: &Runner) -> Result<(), Failure> {
    let missing = || [&NEXTEST, &DENY].into_iter().filter(|tool| !tool.is_there(project, runner));
    if missing().next().is_none() {
        return Ok(());
    }
    let folder = project.target.join("tools");
    fs::create_dir_all(&folder).map_err(Failure::io("making the tools' folder"))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--upgrade", "--no-deps", "--only-binary", ":all:"]);
    pip.args(["--require-hashes", "--requirement"]).arg(project.root.join("xtask/tools.txt"));
    pip.arg("--target").arg(&folder);
    pip.env("PIP_ROOT_USER_ACTION", "ignore").env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    match runner.run("install tools", &mut pip) {
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(failure) => say::line(format_args!("{failure}: they are built from source, which takes a while")),
        Ok(()) => {}
    }
    missing().try_for_each(|tool| tool.build(project, runner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_install_the_same_versions() {
        let listed = include_str!("../tools.txt");
        for tool in [&NEXTEST, &DENY] {
            let wanted = format!("cargo-{}=={} ", tool.name, tool.version);
            assert!(listed.contains(&wanted), "{wanted}");
        }
    }
}
