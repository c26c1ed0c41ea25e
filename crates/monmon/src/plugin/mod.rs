//! `monmon plugin`: the author's side of plugins.

mod bench;
mod build;
mod fixture;
mod inspect;
mod language;
mod new;
mod test;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::{Exit, logs};
pub(crate) use language::Language;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Write a project to start from, with the contract and the SDK in it
    #[command(after_help = Exit::HELP)]
    New(NewArgs),
    /// Build a project's plugin; says what is missing of its language's tools
    #[command(after_help = Exit::HELP)]
    Build(BuildArgs),
    /// Show what a plugin is, takes, asks for and needs
    #[command(after_help = Exit::HELP)]
    Inspect(InspectArgs),
    /// Show a plugin the responses in its project's tests folder, and hold its verdicts against what is expected
    #[command(after_help = Exit::HELP)]
    Test(TestArgs),
    /// Time a plugin over pages of four sizes, beside a regular expression that does such work
    #[command(after_help = Exit::HELP)]
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The plugin's name: lower case letters, digits and hyphens
    pub(crate) name: String,
    /// The language to write it in
    #[arg(long, value_enum)]
    pub(crate) lang: Language,
    /// The folder in which the project's folder is made
    #[arg(long = "in", value_name = "FOLDER", default_value = ".")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The project's folder
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// The plugin's file; dist/NAME.wasm in the project if not given
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Show what the tools say, also when all goes well
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The plugin's file
    pub(crate) file: PathBuf,
    /// How it is shown
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// The project's folder: responses and what is expected stand in its `tests`
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
    /// The plugin's file; dist/NAME.wasm in the project if not given
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The plugin's file
    pub(crate) file: PathBuf,
    /// Its configuration, as JSON
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) config: String,
    /// Calls of each size
    #[arg(long, default_value_t = 2000)]
    pub(crate) calls: u32,
    /// How it is shown
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

pub(crate) fn execute(command: &PluginCommand) -> Exit {
    let done = match command {
        PluginCommand::New(args) => new::new(args),
        PluginCommand::Build(args) => build::build(args),
        PluginCommand::Inspect(args) => inspect::inspect(args),
        PluginCommand::Test(args) => test::test(args),
        PluginCommand::Bench(args) => bench::bench(args),
    };
    done.unwrap_or_else(|trouble| {
        let Trouble { message, help } = trouble;
        let help = help.map(|help| format!("\n  help: {help}")).unwrap_or_default();
        logs::say(&format!("monmon: {message}{help}"));
        Exit::Failed
    })
}

/// Why a command could not be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    message: String,
    help: Option<String>,
}

impl Trouble {
    pub(crate) fn new(message: impl Into<String>) -> Trouble {
        Trouble { message: message.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Trouble {
        self.help = Some(help.into());
        self
    }

    /// For `map_err`: what could not be done with a file.
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Trouble {
        let path = path.display().to_string();
        move |error| Trouble::new(format!("{path}: {error}"))
    }
}

/// Writes to standard output; a reader that is gone is no trouble of ours.
pub(crate) fn show(text: &str) {
    use std::io::Write;
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}

/// Reads a plugin's file.
pub(crate) fn read_plugin(path: &std::path::Path) -> Result<Vec<u8>, Trouble> {
    use monmon_syntax::FileLoader;
    let bytes = monmon_syntax::DiskLoader
        .load(path, monmon_wasm::PLUGIN_BYTES_MAX)
        .map_err(|error| Trouble::new(format!("{}: {error}", path.display())))?;
    if bytes.len() > monmon_wasm::PLUGIN_BYTES_MAX {
        return Err(refused(path, &monmon_wasm::PluginError::TooLarge));
    }
    Ok(bytes)
}

pub(crate) fn refused(path: &std::path::Path, error: &monmon_wasm::PluginError) -> Trouble {
    let message = format!("the plugin {} cannot be used: {error}", path.display());
    Trouble::new(monmon_syntax::printable(&message)).help(error.help())
}
