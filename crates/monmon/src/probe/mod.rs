//! `monmon probe`: one check, now. The command line becomes a pipeline of one source, so that everything that a pipeline
//! file can ask for is there, and is carried out by the same code.

mod args;
mod collect;
mod file;
mod text;
mod waterfall;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use monmon_engine::{Engine, RunOptions, stop_pair};
use monmon_model::{Measurement, Outcome, wire};
use monmon_plan::{Catalogue, compile, resolve};
use monmon_stage::{Mode, ProberIdentity, SystemClock, SystemWorld};
use monmon_syntax::{DiskLoader, FileLoader, LoadError, Problems, Report, load, printable};
use uuid::Uuid;

pub(crate) use args::ProbeArgs;
use args::ProbeFormat;

use crate::cli::{LogArgs, LogFormat};
use crate::run::with_causes;
use crate::{CATALOGUE, Exit, logs};

/// How the pipeline that the command line comes to is called in diagnostics.
const NAME: &str = "command line";
/// From the last answer to the end.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) async fn probe(args: &ProbeArgs) -> Exit {
    let log = LogArgs { log: LogFormat::Text, log_level: args.log_level.clone() };
    if let Err(message) = logs::start(&log) {
        logs::say(&format!("monmon: {message}"));
        return Exit::Failed;
    }
    let text = match &args.file {
        Some(_) => String::new(),
        None => match text::pipeline(args) {
            Ok(text) => text,
            Err(message) => {
                logs::say(&format!("monmon: {message}"));
                return Exit::Failed;
            }
        },
    };
    match run(args, text).await {
        Ok(measurements) => show(args, &measurements),
        Err(exit) => exit,
    }
}

/// Carries the pipeline out once. What is wrong with it is told.
async fn run(args: &ProbeArgs, text: String) -> Result<Vec<Measurement>, Exit> {
    static PROBE: Catalogue = Catalogue { kinds: &KINDS, inline_kinds: CATALOGUE.inline_kinds };
    static KINDS: [&monmon_stage::StageKind; 4] =
        [&monmon_http::SOURCE, &monmon_transforms::REGEX, &monmon_wasm::WASM, &collect::SINK];
    let loader = CommandLine { text };
    let mut problems = Problems::new();
    let (path, catalogue) = match &args.file {
        Some(path) => (path.as_path(), &CATALOGUE),
        None => (Path::new(NAME), &PROBE),
    };
    let loaded = load(path, &loader, &mut problems);
    let mut spec = resolve(&loaded, catalogue, &loader, &mut problems);
    if args.file.is_some() && !problems.has_errors() {
        spec = match spec.map(|spec| file::only(spec, &args.urls)).transpose() {
            Ok(spec) => spec,
            Err(message) => {
                logs::say(&printable(&format!("monmon: {message}")));
                return Err(Exit::Failed);
            }
        };
    }
    let plan = spec
        .and_then(|spec| compile(spec, catalogue, &loader, &mut problems))
        .filter(|_| !problems.has_errors());
    let tell = |problems: &Problems| {
        logs::say(Report::new(problems, &loaded.sources).render(&logs::report_handler()).trim_end());
    };
    if !problems.is_empty() {
        tell(&problems);
    }
    let Some(plan) = plan else { return Err(Exit::Failed) };
    let options = RunOptions {
        mode: Mode::Once,
        run_for: None,
        grace: GRACE,
        fail_fast: true,
        keep_newest: false,
        world: Arc::new(SystemWorld),
        clock: Arc::new(SystemClock),
        // Nothing of it is stored anywhere.
        prober: ProberIdentity { id: Uuid::nil(), name: "probe".to_owned(), location: None, state: None },
    };
    let (_stop, requests) = stop_pair();
    let failed = |failed: &monmon_engine::Failed| match failed.error.problem() {
        Some(problem) => {
            let mut problems = Problems::new();
            problems.push(problem.clone());
            tell(&problems);
        }
        None => logs::say(&format!("monmon: {}", with_causes(&failed.error))),
    };
    match Engine::open(vec![plan], options, requests.clone()).await {
        Ok(Some(engine)) => {
            let report = engine.run(requests).await;
            report.failed.iter().for_each(failed);
            if report.failed.is_empty() { Ok(collect::take()) } else { Err(Exit::Failed) }
        }
        Ok(None) => Err(Exit::Interrupted),
        Err(all) => {
            all.iter().for_each(failed);
            Err(Exit::Failed)
        }
    }
}

fn show(args: &ProbeArgs, measurements: &[Measurement]) -> Exit {
    let mut out = Vec::new();
    for (at, measurement) in measurements.iter().enumerate() {
        match args.format {
            ProbeFormat::Json => {
                wire::encode(measurement, &mut out);
                out.push(b'\n');
            }
            ProbeFormat::Text => {
                if at > 0 {
                    out.push(b'\n');
                }
                out.extend_from_slice(waterfall::draw(measurement).as_bytes());
            }
        }
    }
    if std::io::stdout().write_all(&out).is_err() {
        return Exit::Failed;
    }
    let any = |outcome| measurements.iter().any(|measurement| measurement.outcome == outcome);
    match (any(Outcome::Down), any(Outcome::Unknown)) {
        (true, _) => Exit::Bad,
        (false, true) => Exit::Failed,
        (false, false) => Exit::Good,
    }
}

/// The command line as a file; all other files are those on disk.
struct CommandLine {
    text: String,
}

impl FileLoader for CommandLine {
    fn load(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, LoadError> {
        if path == Path::new(NAME) {
            Ok(self.text.clone().into_bytes())
        } else {
            DiskLoader.load(path, bytes_max)
        }
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, LoadError> {
        if path == Path::new(NAME) { Ok(path.to_owned()) } else { DiskLoader.canonical(path) }
    }
}
