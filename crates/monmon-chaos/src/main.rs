//! The harness of faults: real servers of its own, producers and consumers under load, faults at random moments from a
//! printed seed, and at the end every id accounted for. `docs/faults.md` says what each row does.

mod account;
mod catalogue;
mod database;
mod dice;
mod journal;
mod plays;
mod process;
mod road;
mod run;
mod sabotage;
mod services;
mod theatre;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use jiff::SignedDuration;

use crate::theatre::{Setting, Theatre};

#[derive(Parser)]
#[command(name = "monmon-chaos", about = "Breaks everything around monmon, and counts")]
struct Cli {
    /// Whole length of the run: first each row once, then rows at random; without it the rows alone
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    time: Option<Duration>,
    /// Where all chance comes from; printed, and drawn from the clock when not given
    #[arg(long)]
    seed: Option<u64>,
    /// Only these rows, such as 1,5,25
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    rows: Vec<u8>,
    /// Only the rows of the bounded run
    #[arg(long, conflicts_with = "rows")]
    quick: bool,
    /// Only the rows that share one road
    #[arg(long)]
    shared: bool,
    /// Only the rows that have a road of their own
    #[arg(long, conflicts_with = "shared")]
    own: bool,
    /// Show the rows and end
    #[arg(long)]
    list: bool,
    /// The program; beside this one when not given
    #[arg(long, value_name = "FILE")]
    monmon: Option<PathBuf>,
    /// Show that mistakes are caught, one or `all`; the program must be a build with `--features sabotage`
    #[arg(long, value_name = "NAME")]
    sabotage: Option<String>,
    /// Folder of everything that the run makes; emptied at the start
    #[arg(long, default_value = "target/chaos", value_name = "FOLDER")]
    folder: PathBuf,
    /// Folder of the scripts that run servers
    #[arg(long, default_value = "tests/services", value_name = "FOLDER")]
    scripts: PathBuf,
    /// Kafka's jars, where they were fetched before
    #[arg(long, value_name = "FOLDER")]
    libs: Option<PathBuf>,
    /// First of the hundred ports that are used
    #[arg(long, default_value_t = 23_000)]
    port: u16,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            say(format_args!("monmon-chaos: {error:#}"));
            ExitCode::from(2)
        }
    }
}

/// The verdict: whether all held.
fn run(cli: Cli) -> Result<bool> {
    if cli.list {
        run::list();
        return Ok(true);
    }
    let setting = Setting {
        monmon: absolute(&cli.monmon.clone().map_or_else(beside, Ok)?)?,
        folder: fresh(&cli.folder)?,
        scripts: absolute(&cli.scripts)?,
        libs: cli.libs.clone(),
        first_port: cli.port,
    };
    let seed = cli.seed.unwrap_or_else(|| {
        u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default() % 1_000_000
    });
    say(format_args!("seed {seed}"));
    services::hear_signals()?;
    let theatre = Theatre::open(setting)?;
    if let Some(name) = &cli.sabotage {
        return sabotage::show(&theatre, name, seed);
    }
    let plan = run::Plan {
        seed,
        rows: cli.rows,
        quick: cli.quick,
        shared: cli.shared,
        own: cli.own,
        time: cli.time,
    };
    run::play(&theatre, &plan)
}

/// The program that was built with this one.
fn beside() -> Result<PathBuf> {
    let me = std::env::current_exe().context("finding this program")?;
    Ok(me.parent().unwrap_or(Path::new(".")).join("monmon"))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("`{}` is not there", path.display()))
}

/// An empty folder. One with anything else in it than a run's remains is left alone.
fn fresh(folder: &Path) -> Result<PathBuf> {
    const MARK: &str = "made-by-monmon-chaos";
    if folder.exists() && !folder.join(MARK).exists() {
        if folder.read_dir()?.next().is_some() {
            bail!("`{}` holds something else", folder.display());
        }
    } else if folder.exists() {
        std::fs::remove_dir_all(folder.join("roads")).ok();
    }
    std::fs::create_dir_all(folder.join("roads")).context("making the folder")?;
    std::fs::write(folder.join(MARK), "")?;
    absolute(folder)
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(parsed).map_err(|error| error.to_string())
}

/// Tells one line.
pub(crate) fn say(line: impl std::fmt::Display) {
    // Without anybody to read it there is nobody to tell either.
    writeln!(std::io::stdout().lock(), "{line}").ok();
}
