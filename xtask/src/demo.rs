//! `cargo xtask demo`: the whole road on real parts, rows shown as they arrive. nginx serves the PostgreSQL manual, the
//! producer checks it, the consumer stores; Kafka's topic and the database are made anew each time, so that at the end
//! what is in the one can be compared with what is in the other.

mod audit;
mod story;
mod table;

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use clap::Args;

use self::table::Table;
use crate::{
    doctor, duration,
    failure::Failure,
    project::Project,
    runner::{Runner, Running},
    say,
    services::{Nodes, Services},
};

const TOPIC: &str = "monmon.measurements";
const DATABASE: &str = "demo";
const REFRESH: Duration = Duration::from_secs(2);
/// How long the consumer may take to store what is in Kafka when the producer has ended.
const DRAIN: Duration = Duration::from_secs(30);
const LOG_TAIL_LINES: usize = 20;

#[derive(Args)]
pub(crate) struct Options {
    /// End by itself after this time; without it Ctrl-C ends the demo
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    time: Option<Duration>,
    /// Stop and kill the parts one after the other, and end when the story is told
    #[arg(long, conflicts_with = "time")]
    faults: bool,
    /// Leave Kafka, PostgreSQL and nginx up afterwards
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    doctor::run(
        project,
        runner,
        &doctor::Options { install: true, demo: true, ..doctor::Options::default() },
    )?;
    let services = Services::start(project, runner, Nodes::default())?;
    let shown = runner
        .run("start nginx", &mut services.script("nginx.sh", &["start"]))
        .and_then(|()| Demo { project, runner, services: &services }.play(options));
    if options.keep {
        return shown;
    }
    let interrupted = runner.forgive();
    let stopped = runner.run("stop nginx", &mut services.script("nginx.sh", &["stop"])).and(services.stop());
    shown.and(stopped)?;
    if interrupted { Err(Failure::Interrupted) } else { Ok(()) }
}

pub(crate) struct Demo<'a> {
    project: &'a Project,
    runner: &'a Runner,
    services: &'a Services<'a>,
}

impl Demo<'_> {
    fn play(&self, options: &Options) -> Result<(), Failure> {
        self.prepare()?;
        let mut producer = self.pipeline("producer")?;
        let mut consumer = self.pipeline("consumer")?;
        let watched = self.watch(options, &mut [&mut producer, &mut consumer]);
        let asked_to_end = matches!(watched, Err(Failure::Interrupted)) && self.runner.forgive();
        let stopped = self.stop(&mut producer, &mut consumer);
        if !asked_to_end {
            watched?;
        }
        stopped?;
        audit::compare(self)
    }

    fn prepare(&self) -> Result<(), Failure> {
        say::step("build monmon");
        self.runner
            .run("build", &mut self.project.cargo(&["build", "--profile", "light", "-p", "monmon"]))?;
        say::step("an empty topic and an empty database");
        fs::create_dir_all(self.folder()).map_err(Failure::io("making the demo's folder"))?;
        self.runner.run("make the topic", &mut self.services.script("kafka.sh", &["topic", TOPIC, "4"]))?;
        self.runner
            .run("make the database", &mut self.services.script("postgres.sh", &["database", DATABASE]))?;
        let store = self.services.database_url(DATABASE);
        self.runner.run("migrate", self.monmon().args(["db", "migrate", "--store", &store]))
    }

    /// Shows the rows and, with `--faults`, plays the story; a pipeline that ends by itself ends this.
    fn watch(&self, options: &Options, pipelines: &mut [&mut Running]) -> Result<(), Failure> {
        let mut table = Table::new(self);
        if options.faults {
            return story::play(self, pipelines, &mut table);
        }
        say::step("rows as they arrive; Ctrl-C ends");
        let end = options.time.map(|time| Instant::now() + time);
        while end.is_none_or(|end| Instant::now() < end) {
            self.tick(pipelines, &mut table)?;
        }
        Ok(())
    }

    fn tick(&self, pipelines: &mut [&mut Running], table: &mut Table<'_>) -> Result<(), Failure> {
        self.runner.pause(REFRESH)?;
        for pipeline in pipelines {
            if let Some(status) = pipeline.poll()? {
                self.show_log(&pipeline.name);
                return Err(Failure::Verdict(format!("the {} ended by itself with {status}", pipeline.name)));
            }
        }
        table.show();
        Ok(())
    }

    /// The producer first, so that the consumer can store all that it sent.
    fn stop(&self, producer: &mut Running, consumer: &mut Running) -> Result<(), Failure> {
        say::step("end");
        self.end(producer)?;
        let sent = audit::messages(self).unwrap_or(0);
        let end = Instant::now() + DRAIN;
        while Instant::now() < end && table::rows(self).is_some_and(|rows| rows < sent) {
            self.runner.pause(Duration::from_millis(200))?;
        }
        self.end(consumer)
    }

    fn end(&self, pipeline: &mut Running) -> Result<(), Failure> {
        let status = pipeline.stop("TERM")?;
        say::line(format_args!("the {} ended: {status}", pipeline.name));
        if status.success() {
            return Ok(());
        }
        self.show_log(&pipeline.name);
        Err(Failure::Verdict(format!("the {} ended with {status}", pipeline.name)))
    }

    fn pipeline(&self, name: &str) -> Result<Running, Failure> {
        let log = self.log(name);
        let open =
            |path: &PathBuf| File::create(path).map_err(Failure::io(format!("writing {}", path.display())));
        let errors = open(&log)?;
        let output = errors.try_clone().map_err(Failure::io("sharing a log"))?;
        let file = format!("pipelines/demo-{name}.kdl");
        say::line(format_args!("monmon run {file} (log: {})", log.display()));
        Running::start(name, self.monmon().args(["run", &file]).stdout(output).stderr(errors))
    }

    fn monmon(&self) -> Command {
        let mut command = Command::new(self.project.light_binary("monmon"));
        command
            .current_dir(&self.project.root)
            .env("MONMON_KAFKA_BROKERS", self.services.brokers())
            .env("MONMON_POSTGRES_URL", self.services.database_url(DATABASE))
            .env("MONMON_DEMO_CA", self.project.services.join("nginx/tls/ca.pem"));
        command
    }

    /// Asks the demo's database; nothing where it does not answer.
    fn sql(&self, options: &[&str], text: &str) -> Option<String> {
        let arguments = [&["psql", "-q", "-d", DATABASE], options, &["-c", text]].concat();
        self.runner.answer(&mut self.services.script("postgres.sh", &arguments))
    }

    fn folder(&self) -> PathBuf {
        self.project.services.join("demo")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.log"))
    }

    fn show_log(&self, name: &str) {
        let text = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..] {
            say::line(format_args!("    {line}"));
        }
    }
}
