//! The example plugins, built from their sources by monmon itself.

use std::{fs, path::Path, process::Command};

use crate::{failure::Failure, project::Project, runner::Runner, say};

/// Builds every folder of `plugins` that is a project into `plugins/dist`.
pub(crate) fn build(project: &Project, runner: &Runner) -> Result<(), Failure> {
    // With a test among them crates have the features of the tests' build: nothing is built twice.
    let build = ["build", "--workspace", "--bin", "monmon", "--test", "sabotage"];
    runner.run("build monmon", &mut project.cargo(&build))?;
    let monmon = project.target.join("debug/monmon");
    let plugins = project.root.join("plugins");
    let reading = || Failure::io("reading plugins");
    let mut folders = Vec::new();
    for entry in fs::read_dir(&plugins).map_err(reading())? {
        let path = entry.map_err(reading())?.path();
        if !path.is_symlink() && path.is_dir() && path.join("tests").is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let out = plugins.join("dist").join(format!("{name}.wasm"));
        say::line(format_args!("{name}"));
        runner.run(
            &format!("build the plugin {name}"),
            &mut plugin(&monmon, "build", &folder, "--out", &out),
        )?;
        runner.run(
            &format!("test the plugin {name}"),
            &mut plugin(&monmon, "test", &folder, "--plugin", &out),
        )?;
    }
    Ok(())
}

fn plugin(monmon: &Path, what: &str, folder: &Path, option: &str, file: &Path) -> Command {
    let mut command = Command::new(monmon);
    command.args(["plugin", what]).arg(folder).arg(option).arg(file);
    command
}
