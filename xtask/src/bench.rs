//! `cargo xtask bench`: the figures, from programs that run against optimised builds: the prober's in
//! `crates/monmon-bench`, each store's and broker's in the `examples` of its crate.

use std::process::Command;

use clap::Args;

use crate::{
    failure::Failure,
    figures::{Figure, Mark, between, cell, median, show},
    project::Project,
    runner::Runner,
    services::{Nodes, Services},
    steps::Steps,
};

#[derive(Args)]
pub(crate) struct Options {
    /// Passed on to the prober's benchmark; without any, all benchmarks run, about fifteen minutes
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(project: &Project, runner: &Runner, options: &Options) -> Result<(), Failure> {
    let services = Services::start(project, runner, Nodes::default())?;
    let bench = Bench { project, runner, services: &services };
    let measured = if options.arguments.is_empty() { bench.all() } else { bench.one(&options.arguments) };
    let stopped = services.stop();
    measured.and(stopped)
}

/// The topic that the Kafka benchmark fills and empties.
const TOPIC: &str = "monmon.bench";

struct Bench<'a> {
    project: &'a Project,
    runner: &'a Runner,
    services: &'a Services<'a>,
}

impl Bench<'_> {
    fn light(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.cargo(&["run", "--profile", "light"]);
        command.args(arguments).envs(self.services.environment());
        command
    }

    fn build(&self) -> Result<(), Failure> {
        self.runner.run("build", &mut self.project.cargo(&["build", "--profile", "light", "-p", "monmon"]))
    }

    fn one(&self, arguments: &[String]) -> Result<(), Failure> {
        self.build()?;
        self.runner.run("bench", self.light(&["-p", "monmon-bench", "--"]).args(arguments))
    }

    /// Whatever fails, the other figures are taken.
    fn all(&self) -> Result<(), Failure> {
        let mut steps = Steps::new(self.runner);
        let mut figures = Vec::new();
        if steps.step("build", || self.build())?.is_some() {
            let small = ["--checks", "1000", "--interval", "1s", "--for", "60s"];
            figures.extend(steps.step("1,000 checks x 1 s", || self.small(&small))?.into_iter().flatten());
            let over_tls = ["--checks", "300", "--interval", "1s", "--for", "30s", "--tls"];
            figures.extend(
                steps.step("300 checks x 1 s over TLS", || self.over_tls(&over_tls))?.into_iter().flatten(),
            );
            let large = ["--checks", "10000", "--interval", "10s", "--for", "30s"];
            figures.extend(steps.step("10,000 checks x 10 s", || self.large(&large))?.into_iter().flatten());
        }
        let beside = ["--checks", "1000", "--interval", "1s", "--for", "30s", "--hostile"];
        let crowds: [(&'static str, &[&str], f64); 3] = [
            ("1,000 checks x 1 s beside hostile sites", &beside, 120.0),
            ("10,000 checks x 1 s", &["--checks", "10000", "--interval", "1s", "--for", "30s"], 200.0),
            (
                "100,000 checks x 120 s, each its header and pattern",
                &["--checks", "100000", "--interval", "120s", "--for", "130s", "--own"],
                400.0,
            ),
        ];
        for (group, shape, rss_max) in &crowds {
            let taken = steps.step(group, || self.crowd(group, shape, *rss_max))?;
            figures.extend(taken.into_iter().flatten());
        }
        steps.step("phases beside curl", || {
            self.runner.run("phases", &mut self.light(&["-p", "monmon-bench", "--", "phases"]))
        })?;
        figures.extend(steps.step("Kafka", || self.kafka())?.into_iter().flatten());
        figures.extend(steps.step("PostgreSQL", || self.postgres())?.into_iter().flatten());
        show(&figures);
        steps.finish()
    }

    fn checks(&self, shape: &[&str]) -> Result<String, Failure> {
        let mut command = self.light(&["-p", "monmon-bench", "--", "http"]);
        self.runner.run_heard("checks", command.args(shape))
    }

    /// Where a bound is meant to hold it is the mark; else what other programs reached on such a machine stands beside it.
    fn small(&self, shape: &[&str]) -> Result<Vec<Figure>, Failure> {
        let output = self.checks(shape)?;
        let row = |name: &str, from_last| cell(&output, name, from_last);
        let mut found = Found { group: "1,000 checks x 1 s", figures: Vec::new() };
        found.add("checks/s", row("checks/s", 0).first(), "1/s", Mark::Beside("1,000 are due"));
        found.add("slots missed", row("slots missed", 0).first(), "slots", Mark::AtMost(0.0));
        let cpu = row("CPU of a check, us", 0);
        found.add("CPU of a check", cpu.first(), "us", Mark::Beside("best of the peers 219"));
        found.add(
            "CPU of a check, bare loop",
            row("CPU of a check, us", 1).first(),
            "us",
            Mark::Beside("the floor"),
        );
        found.add("CPU of a check to the bare loop's", ratio(&output).as_ref(), "times", Mark::AtMost(1.4));
        found.add("RSS", row("RSS at the end / peak, MB", 0).first(), "MB", Mark::AtMost(40.0));
        found.add(
            "RSS, peak",
            row("RSS at the end / peak, MB", 0).get(1),
            "MB",
            Mark::Beside("best of the peers 26"),
        );
        let spacing = row("spacing error p50 / p99 / max, ms", 0);
        found.add("spacing error, p50", spacing.first(), "ms", Mark::Beside("bare loop of the marks 0.31"));
        found.add("spacing error, p99", spacing.get(1), "ms", Mark::AtMost(10.0));
        let floor = row("spacing error p50 / p99 / max, ms", 1);
        let times = spacing.get(1).zip(floor.get(1)).map(|(ours, floor)| ours / floor);
        found.add("spacing error, p99, to the bare loop's", times.as_ref(), "times", Mark::AtMost(3.0));
        let peak = row("most arrivals in 10 ms / mean", 0);
        let herd = peak.first().zip(peak.get(1)).map(|(most, mean)| most / mean);
        found.add("most arrivals in 10 ms to the mean", herd.as_ref(), "times", Mark::AtMost(3.0));
        found.figures()
    }

    fn over_tls(&self, shape: &[&str]) -> Result<Vec<Figure>, Failure> {
        let output = self.checks(shape)?;
        let row = |name: &str, from_last| cell(&output, name, from_last);
        let mut found = Found { group: "300 checks x 1 s over TLS", figures: Vec::new() };
        found.add("slots missed", row("slots missed", 0).first(), "slots", Mark::AtMost(0.0));
        found.add(
            "CPU of a check",
            row("CPU of a check, us", 0).first(),
            "us",
            Mark::Beside("whole handshakes"),
        );
        let floor = row("CPU of a check, us", 1);
        found.add("CPU of a check, bare loop with rustls", floor.first(), "us", Mark::Beside("the floor"));
        found.add("CPU of a check to the bare loop's", ratio(&output).as_ref(), "times", Mark::AtMost(1.4));
        found.figures()
    }

    /// Many checks, and as many as there may be.
    fn crowd(&self, group: &'static str, shape: &[&str], rss_max: f64) -> Result<Vec<Figure>, Failure> {
        let output = self.checks(shape)?;
        let row = |name: &str| cell(&output, name, 0);
        let mut found = Found { group, figures: Vec::new() };
        found.add("checks/s", row("checks/s").first(), "1/s", Mark::Beside("as many as are due"));
        found.add("slots missed", row("slots missed").first(), "slots", Mark::AtMost(0.0));
        found.add("RSS, peak", row("RSS at the end / peak, MB").get(1), "MB", Mark::AtMost(rss_max));
        found.add("first check after", row("first check after, s").first(), "s", Mark::AtMost(3.0));
        found.figures()
    }

    fn large(&self, shape: &[&str]) -> Result<Vec<Figure>, Failure> {
        let output = self.checks(shape)?;
        let row = |name: &str| cell(&output, name, 0);
        let mut found = Found { group: "10,000 checks x 10 s", figures: Vec::new() };
        found.add("slots missed", row("slots missed").first(), "slots", Mark::AtMost(0.0));
        let rss = row("RSS at the end / peak, MB");
        found.add("RSS", rss.first(), "MB", Mark::AtMost(80.0));
        let spacing = row("spacing error p50 / p99 / max, ms");
        found.add("spacing error, p99", spacing.get(1), "ms", Mark::Beside("peers 4.3 to 622"));
        found.figures()
    }

    fn kafka(&self) -> Result<Vec<Figure>, Failure> {
        self.runner.run("topic", &mut self.services.script("kafka.sh", &["topic", TOPIC, "1"]))?;
        let brokers = self.services.brokers();
        let rate = ["-p", "monmon-kafka", "--example", "rate", "--", &brokers, TOPIC, "500000"];
        let output = self.runner.run_heard("rate", &mut self.light(&rate))?;
        let mut found = Found { group: "Kafka", figures: Vec::new() };
        let peers = [
            ("sink", "perf-test, acks=all: 442,000", "perf-test: 3.2"),
            ("source", "perf-test: 626,000 to 917,000", "perf-test: 1.1 to 2.4"),
        ];
        for (stage, rate_mark, cpu_mark) in peers {
            let line = output.lines().find(|line| line.starts_with(stage)).unwrap_or_default();
            let rate = between(line, "s: ", "/s,");
            found.add(&format!("measurements/s, {stage}"), rate.first(), "1/s", Mark::Beside(rate_mark));
            let cpu = between(line, "/s, ", " us of CPU");
            found.add(&format!("CPU of a measurement, {stage}"), cpu.first(), "us", Mark::Beside(cpu_mark));
        }
        found.figures()
    }

    fn postgres(&self) -> Result<Vec<Figure>, Failure> {
        let bench = ["-p", "monmon-postgres", "--example", "bench", "--", "100000"];
        let output = self.runner.run_heard("rows", &mut self.light(&bench))?;
        let mut found = Found { group: "PostgreSQL", figures: Vec::new() };
        let copied = median(between(&output, "plain COPY ", " rows/s"));
        found.add("rows/s, plain COPY", copied.as_ref(), "1/s", Mark::Beside("same rows, same run"));
        for connections in ["1", "2"] {
            let sink = format!("sink with connections {connections}: ");
            let lines: Vec<&str> = output.lines().filter(|line| line.contains(&sink)).collect();
            let lines = lines.join("\n");
            let rate = median(between(&lines, &sink, " rows/s"));
            let what = format!(
                "rows/s, sink, {connections} connection{}",
                if connections == "1" { "" } else { "s" }
            );
            found.add(&what, rate.as_ref(), "1/s", Mark::Beside("median of three rounds"));
            let ratio = median(between(&lines, " rows/s (", " of COPY"));
            found.add(&format!("{what}, to COPY"), ratio.as_ref(), "times", Mark::AtLeast(0.5));
        }
        found.figures()
    }
}

/// How much CPU a check takes of monmon, to the bare loop's.
fn ratio(output: &str) -> Option<f64> {
    let line =
        output.lines().find_map(|line| line.strip_prefix("CPU of a check, monmon to the bare loop: "))?;
    line.trim().parse().ok()
}

/// The figures of one benchmark. One that is not in its output makes the benchmark fail, when all are read.
struct Found {
    group: &'static str,
    figures: Vec<Result<Figure, String>>,
}

impl Found {
    fn add(&mut self, what: &str, value: Option<&f64>, unit: &'static str, mark: Mark) {
        let what = format!("{}: {what}", self.group);
        self.figures.push(match value {
            Some(&value) => Ok(Figure { what, value, unit, mark }),
            None => Err(what),
        });
    }

    fn figures(self) -> Result<Vec<Figure>, Failure> {
        let figures: Result<Vec<Figure>, String> = self.figures.into_iter().collect();
        figures.map_err(|what| Failure::Verdict(format!("`{what}` was not printed")))
    }
}
