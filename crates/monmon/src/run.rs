//! `monmon run`.

use std::error::Error;
use std::sync::Arc;

use monmon_engine::{Ending, Engine, Failed, RunOptions, RunReport, StopHandle, stop_pair};
use monmon_model::Outcome;
use monmon_plan::Plan;
use monmon_stage::{Mode, SystemClock, SystemWorld};
use monmon_syntax::{DiskLoader, Problems, Report, SourceMap, World, printable};
use monmon_web::Server;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::cli::RunArgs;
use crate::metrics::Board;
use crate::{Exit, front, logs, prober, progress};

/// Most checks that the verdict of `--once` names one by one.
const NAMED_MAX: usize = 20;

pub(crate) async fn run(args: &RunArgs) -> Exit {
    if let Err(message) = logs::start(&args.log) {
        logs::say(&format!("monmon: {message}"));
        return Exit::Failed;
    }
    let Loaded { plans, sources } = match load(args) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let options = match options(args) {
        Ok(options) => options,
        Err(message) => {
            logs::say(&format!("monmon: {message}"));
            return Exit::Failed;
        }
    };
    let board = Board::new(options.clock.now());
    // Ends with this function: whoever asks for metrics has no part in how a run goes.
    let mut servers = JoinSet::new();
    if let Some(address) = args.metrics {
        match Server::bind(address).await {
            Ok(server) => {
                info!(address = %server.address(), "serving /metrics and /healthz");
                servers.spawn(server.serve(board.pages()));
            }
            Err(error) => {
                logs::say(&format!("monmon: no metrics can be served at {address}: {error}"));
                return Exit::Failed;
            }
        }
    }
    let prober = options.prober.name.clone();
    let (stop, requests) = stop_pair();
    let signals = listen(stop);
    let work = async {
        let engine = match Engine::open(plans, options, requests.clone()).await {
            Ok(Some(engine)) => engine,
            Ok(None) => {
                info!("stopped before the start");
                return Exit::Good;
            }
            Err(failed) => {
                failed.iter().for_each(|failed| tell(failed, &sources));
                return Exit::Failed;
            }
        };
        info!(pipelines = sources.len(), %prober, "running");
        let shown = engine.progress();
        board.show(shown.clone());
        let report = tokio::select! {
            report = engine.run(requests.clone()) => report,
            () = progress::show(shown) => unreachable!("progress is shown for as long as there is any"),
        };
        logs::wipe_progress();
        conclude(args, &report, &sources)
    };
    tokio::select! {
        exit = work => exit,
        message = signals => {
            logs::say(&format!("monmon: {message}"));
            Exit::Failed
        }
    }
}

/// All files, each with the text that errors may point at.
struct Loaded {
    plans: Vec<Plan>,
    /// By pipeline name.
    sources: Vec<(Arc<str>, SourceMap)>,
}

/// Reads all files; what is wrong with any of them is told, and stops the run.
fn load(args: &RunArgs) -> Result<Loaded, Exit> {
    let mut loaded = Loaded { plans: Vec::new(), sources: Vec::new() };
    let mut exit = Exit::Good;
    for file in &args.files {
        let front = front(file, &DiskLoader);
        if !front.problems.is_empty() {
            logs::say(front.report().render(&logs::report_handler()).trim_end());
        }
        exit = exit.max(front.exit());
        let Some(plan) = front.plan else { continue };
        if loaded.sources.iter().any(|(name, _)| *name == plan.pipeline) {
            let message = format!("two of the files name their pipeline `{}`", plan.pipeline);
            logs::say(&format!("monmon: {message}; ids of checks are made from it, so each needs its own"));
            exit = exit.max(Exit::Bad);
        }
        loaded.sources.push((plan.pipeline.clone(), front.sources));
        loaded.plans.push(plan);
    }
    if exit == Exit::Good { Ok(loaded) } else { Err(exit) }
}

fn options(args: &RunArgs) -> Result<RunOptions, String> {
    let world = SystemWorld;
    let prober =
        prober::identity(&args.prober, world.env("HOME").as_deref(), world.env("XDG_STATE_HOME").as_deref())?;
    Ok(RunOptions {
        mode: if args.once { Mode::Once } else { Mode::Continuous },
        run_for: args.run_for,
        grace: args.grace,
        fail_fast: args.fail_fast,
        keep_newest: args.metrics.is_some(),
        world: Arc::new(world),
        clock: Arc::new(SystemClock),
        prober,
    })
}

/// Asks for the end at every SIGINT and SIGTERM. Ends only if it can't listen.
async fn listen(stop: StopHandle) -> String {
    let (mut interrupt, mut terminate) =
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => return format!("can't listen for signals: {error}"),
        };
    let mut asked = 0;
    loop {
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        asked += 1;
        match asked {
            1 => info!(signal = name, "draining; a second signal stops at once"),
            _ => warn!(signal = name, "stopping at once"),
        }
        stop.ask();
    }
}

/// Tells how the run went, and finds its exit code.
fn conclude(args: &RunArgs, report: &RunReport, sources: &[(Arc<str>, SourceMap)]) -> Exit {
    for stage in &report.stages {
        let counts = stage.counts;
        info!(
            pipeline = %stage.pipeline, stage = %stage.stage, kind = stage.kind,
            received = counts.received, delivered = counts.delivered, failed = counts.failed,
            rejected = counts.rejected, duplicates = counts.duplicates, undecided = counts.undecided,
            retries = counts.retries, missed = counts.missed, spooled = counts.spooled,
            replayed = counts.replayed, dropped = counts.dropped,
            "counted"
        );
    }
    report.failed.iter().for_each(|failed| tell(failed, sources));
    let lost = report.lost();
    if lost > 0 {
        error!(measurements = lost, "made, and not known to be stored");
    }
    if report.overran {
        error!(grace = ?args.grace, "not everything came to its end within the grace");
    }
    let count = |outcome| report.verdicts.count(outcome);
    info!(
        ending = ?report.ending, up = count(Outcome::Up), degraded = count(Outcome::Degraded),
        down = count(Outcome::Down), unknown = count(Outcome::Unknown), "ended"
    );
    if report.ending == Ending::Interrupted {
        return Exit::Interrupted;
    }
    if !report.failed.is_empty() || report.overran || lost > 0 {
        return Exit::Failed;
    }
    if args.once { verdict(report) } else { Exit::Good }
}

/// What `--once` found: down is a bad verdict; unknown is none, and monmon's own trouble.
fn verdict(report: &RunReport) -> Exit {
    let down = report.verdicts.with(Outcome::Down);
    let unknown = report.verdicts.with(Outcome::Unknown);
    let all = down.iter().chain(&unknown);
    for verdict in all.take(NAMED_MAX) {
        let reason = verdict.reason.as_deref().unwrap_or_default();
        let line = format!("{} is {}: {reason}", verdict.check.name, verdict.outcome.as_str());
        logs::say(&printable(&line));
    }
    let more = (down.len() + unknown.len()).saturating_sub(NAMED_MAX);
    if more > 0 {
        logs::say(&format!("... and {more} more"));
    }
    match (down.is_empty(), unknown.is_empty()) {
        (false, _) => Exit::Bad,
        (true, false) => Exit::Failed,
        (true, true) => Exit::Good,
    }
}

/// Says why a stage could not go on; with its place in the file where there is one.
fn tell(failed: &Failed, sources: &[(Arc<str>, SourceMap)]) {
    let Failed { pipeline, stage, error } = failed;
    match error.problem() {
        Some(problem) => {
            let mut problems = Problems::new();
            problems.push(problem.clone());
            let nothing = SourceMap::new();
            let map = sources.iter().find(|(name, _)| name == pipeline).map_or(&nothing, |(_, map)| map);
            logs::say(Report::new(&problems, map).render(&logs::report_handler()).trim_end());
        }
        None => {
            let help = error.help_text();
            error!(%pipeline, %stage, error = %with_causes(error), help, "stage failed");
        }
    }
}

/// An error and all its causes, each once.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
