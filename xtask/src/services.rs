//! The real Kafka and PostgreSQL that tests, demo and benchmarks use. The scripts in `tests/services` do the work; here
//! they are started side by side, and their addresses are written down for the tests.

use std::{fs, process::Command};

use clap::{Args, Subcommand, value_parser};

use crate::{doctor, failure::Failure, project::Project, runner::Runner, say};

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start both, or say that they run already; prints their addresses and writes them to target/services/env
    Start {
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Stop both, keep their data
    Stop,
    /// Stop both and delete their data
    Reset,
    /// Say what runs
    Status,
}

#[derive(Args, Clone, Copy)]
pub(crate) struct Nodes {
    /// How many Kafka brokers; between different numbers lies a `reset`
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(1..=9))]
    kafka_nodes: u16,
}

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    match options.action {
        Action::Start { nodes } => {
            let services = Services::start(project, runner, nodes)?;
            for (name, value) in services.environment() {
                say::line(format_args!("{name}={value}"));
            }
            Ok(())
        }
        Action::Stop => both(project, runner, "stop"),
        Action::Reset => both(project, runner, "reset"),
        Action::Status => both(project, runner, "status").map_err(|failure| match failure {
            Failure::Step { .. } => {
                Failure::Verdict("not everything runs: `cargo xtask services start` starts it".to_owned())
            }
            other => other,
        }),
    }
}

fn both(project: &Project, runner: &Runner, action: &str) -> Result<(), Failure> {
    let (mut kafka, mut postgres) =
        (project.script("kafka.sh", &[action]), project.script("postgres.sh", &[action]));
    runner.run_all(vec![
        (&format!("kafka.sh {action}"), &mut kafka),
        (&format!("postgres.sh {action}"), &mut postgres),
    ])
}

pub(crate) struct Services<'a> {
    project: &'a Project,
    runner: &'a Runner,
    nodes: Nodes,
    /// What ran before stays when we go.
    ours: Vec<&'static str>,
}

impl<'a> Services<'a> {
    /// Installs what is missing, then returns when both answer.
    pub(crate) fn start(project: &'a Project, runner: &'a Runner, nodes: Nodes) -> Result<Self, Failure> {
        doctor::run(project, runner, &doctor::Options { install: true, ..doctor::Options::default() })?;
        let mut services = Self { project, runner, nodes, ours: Vec::new() };
        services.ours = ["kafka.sh", "postgres.sh"]
            .into_iter()
            .filter(|script| runner.answer(&mut services.script(script, &["status"])).is_none())
            .collect();
        let (mut kafka, mut postgres) =
            (services.script("kafka.sh", &["start"]), services.script("postgres.sh", &["start"]));
        let started = runner
            .run_all(vec![("start Kafka", &mut kafka), ("start PostgreSQL", &mut postgres)])
            .and_then(|()| {
                let text: String =
                    services.environment().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
                fs::write(project.services.join("env"), text)
                    .map_err(Failure::io("writing the services' addresses"))
            });
        match started {
            Ok(()) => Ok(services),
            Err(failure) => {
                services.stop()?;
                Err(failure)
            }
        }
    }

    /// Stops what was started here, also after an interruption.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        let interrupted = self.runner.forgive();
        for script in &self.ours {
            self.runner.run(&format!("{script} stop"), &mut self.script(script, &["stop"]))?;
        }
        if interrupted { Err(Failure::Interrupted) } else { Ok(()) }
    }

    pub(crate) fn script(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.project.script(name, arguments);
        command.env("KAFKA_NODES", self.nodes.kafka_nodes.to_string());
        command
    }

    /// Where everything is, for the tests.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let (kafka, postgres) = (self.project.kafka_port, self.project.postgres_port);
        let brokers = |offset: u16| {
            let all = (0..self.nodes.kafka_nodes).map(|i| format!("127.0.0.1:{}", kafka + 10 * i + offset));
            all.collect::<Vec<_>>().join(",")
        };
        let folder = |path: &str| self.project.services.join(path).display().to_string();
        let database =
            |user: &str, name: &str| format!("postgres://{user}:secret@127.0.0.1:{postgres}/{name}");
        vec![
            ("MONMON_TEST_SERVICES", self.project.scripts().display().to_string()),
            ("MONMON_SERVICES_DIR", self.project.services.display().to_string()),
            ("MONMON_TEST_KAFKA", brokers(0)),
            ("MONMON_TEST_KAFKA_TLS", brokers(1)),
            ("MONMON_TEST_KAFKA_SASL", brokers(2)),
            ("MONMON_TEST_KAFKA_TLS_DIR", folder("kafka/tls")),
            ("MONMON_TEST_KAFKA_USER", "app".to_owned()),
            ("MONMON_TEST_KAFKA_PASSWORD", "app-secret".to_owned()),
            ("MONMON_TEST_POSTGRES", database("app", "test")),
            ("MONMON_TEST_POSTGRES_ADMIN", database("postgres", "test")),
            ("MONMON_TEST_POSTGRES_TLS", database("app_tls", "test").replace("127.0.0.1", "localhost")),
            ("MONMON_TEST_POSTGRES_TLS_DIR", folder("postgres/tls")),
        ]
    }

    pub(crate) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.project.kafka_port)
    }

    pub(crate) fn database_url(&self, name: &str) -> String {
        format!("postgres://app:secret@127.0.0.1:{}/{name}", self.project.postgres_port)
    }
}

impl Default for Nodes {
    fn default() -> Self {
        Self { kafka_nodes: 1 }
    }
}
