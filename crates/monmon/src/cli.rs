//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use uuid::Uuid;

use crate::audit::{self, AuditArgs};
use crate::plugin::{self, PluginCommand};
use crate::probe::{self, ProbeArgs};
use crate::sla::{self, ReportArgs};
use crate::{Exit, db, dead_letter, export, incidents, maintain, metrics, plugins, run, status, validate};

/// Checks websites on a schedule and keeps every measurement.
///
/// A pipeline file says what is checked, what is looked for in the pages, and where measurements go.
#[derive(Debug, Parser)]
#[command(name = "monmon", version, after_help = Exit::HELP, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run pipelines until stopped: the first SIGINT or SIGTERM drains, a second one stops at once
    #[command(after_help = Exit::HELP)]
    Run(RunArgs),
    /// Check something once, now, and show where the time went; the exit code tells the outcome
    #[command(after_help = Exit::HELP)]
    Probe(Box<ProbeArgs>),
    /// Read pipeline files and report everything that is wrong with them; touches no server
    #[command(after_help = Exit::HELP)]
    Validate(ValidateArgs),
    /// Look after a store's tables
    #[command(subcommand, after_help = Exit::HELP)]
    Db(DbCommand),
    /// Show each check's newest state, response times, uptime and coverage over the last 24 hours
    #[command(after_help = Exit::HELP)]
    Status(StatusArgs),
    /// Prove from the store that no measurement is missing in it, or name what is
    #[command(after_help = Exit::HELP)]
    Audit(Box<AuditArgs>),
    /// Tell how each check fared against a promised uptime, as text, JSON or a page to show to a customer
    #[command(after_help = Exit::HELP)]
    Report(Box<ReportArgs>),
    /// Write what a store holds as CSV, JSON lines or Parquet
    #[command(after_help = Exit::HELP)]
    Export(ExportArgs),
    /// Show the incidents that are open, the newest first
    #[command(after_help = Exit::HELP)]
    Incidents(IncidentsArgs),
    /// Look after what could not be read or stored
    #[command(subcommand, after_help = Exit::HELP)]
    DeadLetter(DeadLetterCommand),
    /// Write, build, try and time plugins
    #[command(subcommand, after_help = Exit::HELP)]
    Plugin(PluginCommand),
    /// Compile a plugin from standard input to standard output: what this program asks of itself
    #[command(name = plugins::COMPILE, hide = true)]
    CompilePlugin {
        #[arg(long)]
        metered: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Pipeline files; several run in one process
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Check everything once, store it, and end; exit code 1 if any check is down
    #[arg(long, conflicts_with = "run_for")]
    pub(crate) once: bool,
    /// End after this long, for example 30s or 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) run_for: Option<Duration>,
    /// Longest time from the first signal to the end; what is not stored by then is reported. Checks under way may use the
    /// first half of it
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "30s")]
    pub(crate) grace: Duration,
    /// Fail when a server can't be reached at the start, instead of waiting for it
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Serve /metrics for Prometheus and /healthz here, for example 127.0.0.1:9464; a port alone is on this machine only
    #[arg(long, value_name = "ADDRESS", value_parser = metrics::address, env = "MONMON_METRICS")]
    pub(crate) metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) prober: ProberArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ProberArgs {
    /// The prober's name in measurements; the machine's name if not given
    #[arg(long = "prober", value_name = "NAME", env = "MONMON_PROBER")]
    pub(crate) name: Option<String>,
    /// Where the prober is, for example eu-north
    #[arg(long, value_name = "TEXT", env = "MONMON_LOCATION")]
    pub(crate) location: Option<String>,
    /// Folder in which the prober's id is kept; ~/.local/state/monmon if not given
    #[arg(long, value_name = "FOLDER", env = "MONMON_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// How log lines are written to standard error
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or filters such as monmon_http=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "MONMON_LOG")]
    pub(crate) log_level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Pipeline files
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// How problems are written: text to standard error, or one JSON array to standard output
    #[arg(long, value_enum, default_value_t = ProblemFormat::Text)]
    pub(crate) format: ProblemFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProblemFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum DbCommand {
    /// Make or update the tables; safe to run again, and by several at once
    #[command(after_help = Exit::HELP)]
    Migrate(StoreArgs),
    /// Sum measurements up by minute, hour and day, and let go of what is no longer kept; for cron, beside sinks or without
    #[command(after_help = Exit::HELP)]
    Maintain(MaintainArgs),
    /// Write the indexes of days that are over anew, without gaps (PostgreSQL); safe to run again, and beside writers
    #[command(after_help = Exit::HELP)]
    Pack(StoreArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MaintainArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// How long what is kept, as measurements=30d,minutes=90d,hours=5y,days=forever,keep-failures=1y; for the checks with
    /// a label as team=docs,measurements=7d. Nothing goes that is not named here
    #[arg(long, value_name = "WHAT=HOW-LONG,...")]
    pub(crate) retention: Vec<String>,
    /// Tell what would go, and change nothing
    #[arg(long, requires = "retention")]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// List dead letters, in the order of the messages' own times
    #[command(after_help = Exit::HELP)]
    List {
        #[command(flatten)]
        letters: LetterArgs,
        /// The most that are listed
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// How they are written: a table, or a JSON object a line
        #[arg(long, value_enum, default_value_t = LetterFormat::Text)]
        format: LetterFormat,
    },
    /// Show dead letters whole, with their bytes
    #[command(after_help = Exit::HELP)]
    Show {
        #[command(flatten)]
        letters: LetterArgs,
        /// Bytes in hexadecimal digits; otherwise as text, with escapes
        #[arg(long)]
        hex: bool,
        /// How they are written: text, or a JSON object a line
        #[arg(long, value_enum, default_value_t = LetterFormat::Text)]
        format: LetterFormat,
    },
    /// Read dead letters once more and store those that are good now; exit code 1 if any is kept
    #[command(after_help = Exit::HELP)]
    Replay {
        #[command(flatten)]
        letters: LetterArgs,
        /// All there are
        #[arg(long)]
        all: bool,
        /// How the outcomes are written: text, or a JSON object a line
        #[arg(long, value_enum, default_value_t = LetterFormat::Text)]
        format: LetterFormat,
    },
    /// Throw dead letters away; without --yes it only tells how many
    #[command(after_help = Exit::HELP)]
    Drop {
        #[command(flatten)]
        letters: LetterArgs,
        /// All there are
        #[arg(long)]
        all: bool,
        /// Really
        #[arg(long)]
        yes: bool,
    },
}

/// Which dead letters are meant: those of which everything is true that is given.
#[derive(Debug, Args)]
pub(crate) struct LetterArgs {
    /// Ids of dead letters
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<Uuid>,
    /// Why they were not stored, such as not_json or store_refused
    #[arg(long, value_name = "WORD")]
    pub(crate) reason: Option<String>,
    /// The Kafka topic they were read from
    #[arg(long, value_name = "NAME")]
    pub(crate) topic: Option<String>,
    /// Stored from then on: an instant such as 2026-11-25T12:00:00Z, or how long ago, such as 2h
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Stored before then
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<String>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LetterFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full&sslrootcert=ca.pem, or sqlite:PATH
    #[arg(long, value_name = "URL", env = "MONMON_STORE", hide_env_values = true)]
    pub(crate) store: String,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full&sslrootcert=ca.pem, or sqlite:PATH
    #[arg(
        long,
        value_name = "URL",
        env = "MONMON_STORE",
        hide_env_values = true,
        required_unless_present = "spool"
    )]
    pub(crate) store: Option<String>,
    /// Look at a sink's spool instead: what waits in it, and what it dropped
    #[arg(long, value_name = "PATH")]
    pub(crate) spool: Option<PathBuf>,
    /// How the states are written
    #[arg(long, value_enum, default_value_t = StatusFormat::Table)]
    pub(crate) format: StatusFormat,
}

#[derive(Debug, Args)]
pub(crate) struct IncidentsArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Those that are closed as well
    #[arg(long)]
    pub(crate) all: bool,
    /// How many at most
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub(crate) limit: u32,
    /// How the incidents are written
    #[arg(long, value_enum, default_value_t = StatusFormat::Table)]
    pub(crate) format: StatusFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusFormat {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// csv: a flat table; jsonl: the wire format, a measurement a line; parquet: a typed table. What --output ends in if
    /// not given, else jsonl
    #[arg(long, value_enum)]
    pub(crate) format: Option<ExportFormat>,
    /// Slots from here on: a day in UTC or an instant, such as 2026-01-31 or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = export::instant)]
    pub(crate) since: Option<Timestamp>,
    /// Slots before here
    #[arg(long, value_name = "TIME", value_parser = export::instant)]
    pub(crate) until: Option<Timestamp>,
    /// Only this check, by its name or by pipeline/source/name; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) check: Vec<String>,
    /// The file; standard output if not given
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    Csv,
    Jsonl,
    Parquet,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    monmon_syntax::parse_duration(text).map_err(|error| error.to_string())
}

impl Cli {
    /// Does what was asked for.
    pub async fn execute(self) -> Exit {
        plugins::set_up();
        match self.command {
            Command::Run(args) => run::run(&args).await,
            Command::Probe(args) => probe::probe(&args).await,
            Command::Validate(args) => validate::validate(&args),
            Command::Db(DbCommand::Migrate(args)) => db::migrate(&args).await,
            Command::Db(DbCommand::Maintain(args)) => maintain::maintain(&args).await,
            Command::Db(DbCommand::Pack(args)) => db::pack(&args).await,
            Command::Status(args) => status::status(&args).await,
            Command::Report(args) => sla::report(&args).await,
            Command::Audit(args) => audit::audit(&args).await,
            Command::Export(args) => export::export(&args).await,
            Command::Incidents(args) => incidents::incidents(&args).await,
            Command::DeadLetter(command) => dead_letter::execute(&command).await,
            Command::Plugin(command) => plugin::execute(&command),
            // It ends here: the exit code is for the process that asked.
            Command::CompilePlugin { metered } => std::process::exit(monmon_wasm::work(metered)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
