//! HTTP checks: the bare loop's and monmon's, against one kind of site, at one rate.

use std::{
    fmt::Write as _,
    fs, io,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::{
    arrivals,
    process::{Measured, myself},
    report::{Figures, table},
    site::SiteProcess,
};

/// What the checks look for in the page.
pub(crate) const PATTERN: &str = "<title>(?<title>[^<]*)</title>";

/// What a prober gets to start and to settle before the figures are taken.
const WARM_UP: Duration = Duration::from_secs(4);
/// How long it runs on behind them, so that its end is not among them.
const RUN_OUT: Duration = Duration::from_secs(2);
/// How long a prober may take until its first check.
const START_MAX: Duration = Duration::from_secs(30);
/// More checks than this come from a list: a pipeline file has its bounds.
const IN_PLACE_MAX: u32 = 10_000;
const LOOK: Duration = Duration::from_millis(20);

/// How many checks, how often, how long.
#[derive(Args, Clone)]
pub(crate) struct Shape {
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    checks: u32,
    #[arg(long, default_value = "1s", value_parser = crate::duration)]
    interval: Duration,
    /// How long figures are taken
    #[arg(long = "for", default_value = "60s", value_parser = crate::duration)]
    length: Duration,
    /// Over TLS, a whole handshake for each check; the bare loop with rustls
    #[arg(long)]
    tls: bool,
    /// A header and a pattern of its own for every check, each unlike all others
    #[arg(long)]
    own: bool,
    /// Beside checks of everything that a site should not do, every 5 s; the figures are those of the healthy ones
    #[arg(long)]
    hostile: bool,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Sink {
    /// JSON lines to /dev/null
    Stdout,
    Sqlite,
}

pub(crate) fn floor(shape: &Shape) -> io::Result<String> {
    let folder = tempfile::tempdir()?;
    let paced = bare(shape, folder.path(), Some(shape.interval))?;
    let saturated = bare(shape, folder.path(), None)?;
    Ok(table(&[paced, saturated]))
}

pub(crate) fn beside(shape: &Shape, monmon: &Path, sink: Sink) -> io::Result<String> {
    if !monmon.is_file() {
        let what = format!("there is no `{}`; build it with `cargo build --profile light`", monmon.display());
        return Err(io::Error::other(what));
    }
    let folder = tempfile::tempdir()?;
    let floor = bare(shape, folder.path(), Some(shape.interval))?;
    let ours = program(shape, folder.path(), monmon, sink)?;
    let ratio = ours.cpu_us_per_check() / floor.cpu_us_per_check();
    let mut text = table(&[floor, ours]);
    write!(text, "\nCPU of a check, monmon to the bare loop: {ratio:.2}").map_err(io::Error::other)?;
    Ok(text)
}

/// The bare loop: paced at an interval, or as fast as it goes.
fn bare(shape: &Shape, folder: &Path, interval: Option<Duration>) -> io::Result<Figures> {
    let name = if interval.is_some() { "bare loop, paced" } else { "bare loop, saturated" };
    let site = SiteProcess::start(folder, name, shape.tls, false)?;
    let mut command = myself()?;
    let length = format!("{}ms", (WARM_UP + shape.length + RUN_OUT).as_millis());
    command.arg("bare").args(["--site", &site.addr.to_string(), "--checks", &shape.checks.to_string()]);
    command.args(["--for", &length]).stdout(Stdio::null());
    if let Some(ca) = &site.ca {
        command.arg("--ca").arg(ca);
    }
    if let Some(interval) = interval {
        command.args(["--interval", &format!("{}ms", interval.as_millis())]);
    }
    figures(name, &mut command, &site, shape, interval)
}

fn program(shape: &Shape, folder: &Path, monmon: &Path, sink: Sink) -> io::Result<Figures> {
    let site = SiteProcess::start(folder, "monmon", shape.tls, shape.hostile)?;
    let pipeline = folder.join("bench.kdl");
    fs::write(&pipeline, pipeline_text(shape, &site, sink))?;
    let scheme = if shape.tls { "https" } else { "http" };
    let mut list = format!("name,url{}\n", if shape.own { ",header.x-check,match.own" } else { "" });
    for check in 0..shape.checks {
        let own = if shape.own { format!(",own {check},check-{check}|</html>") } else { String::new() };
        writeln!(list, "c{check},{scheme}://{}/page/{check}{own}", site.addr)
            .expect("a String takes every byte");
    }
    fs::write(folder.join("checks.csv"), list)?;
    let length = format!("{}s", (WARM_UP + shape.length + RUN_OUT).as_secs());
    let mut command = Command::new(monmon);
    command.arg("run").arg(&pipeline).args(["--for", &length, "--log-level", "warn", "--state-dir"]);
    command.arg(folder.join("state")).stdin(Stdio::null()).stdout(Stdio::null());
    let name = match sink {
        Sink::Stdout => "monmon, to /dev/null",
        Sink::Sqlite => "monmon, to SQLite",
    };
    figures(name, &mut command, &site, shape, Some(shape.interval))
}

/// Runs a prober, and takes what it and the site use between its warm-up and its end.
fn figures(
    name: &str,
    command: &mut Command,
    site: &SiteProcess,
    shape: &Shape,
    interval: Option<Duration>,
) -> io::Result<Figures> {
    let mut prober = Measured::start(command)?;
    let mut waited = Duration::ZERO;
    while arrivals::count(&site.access_log)? == 0 {
        if let Some(status) = prober.ended()? {
            return Err(io::Error::other(format!("{name} ended before its first check: {status}")));
        }
        if waited > START_MAX {
            return Err(io::Error::other(format!("{name} made no check in {START_MAX:?}")));
        }
        thread::sleep(LOOK);
        waited += LOOK;
    }
    thread::sleep(WARM_UP);
    let (before, site_before) = (prober.usage()?, site.process.usage()?);
    thread::sleep(shape.length);
    let (after, site_after) = (prober.usage()?, site.process.usage()?);
    let status = prober.wait()?;
    if !status.success() {
        return Err(io::Error::other(format!("{name} ended badly: {status}")));
    }
    let ready = waited;
    let schedule = interval.map(|interval| (shape.checks, interval));
    Ok(Figures {
        name: name.to_owned(),
        length: shape.length,
        ready,
        cpu: after.cpu - before.cpu,
        site_cpu: site_after.cpu - site_before.cpu,
        rss_kib: after.rss_kib,
        rss_peak_kib: after.rss_peak_kib,
        arrivals: arrivals::between(&site.access_log, before.at, after.at, schedule)?,
    })
}

fn pipeline_text(shape: &Shape, site: &SiteProcess, sink: Sink) -> String {
    let interval = format!("{}ms", shape.interval.as_millis());
    let mut text =
        format!("pipeline \"bench\"\n\nsources {{\n    http \"sites\" interval=\"{interval}\" {{\n");
    let scheme = if site.ca.is_some() { "https" } else { "http" };
    if let Some(ca) = &site.ca {
        writeln!(text, "        tls ca=\"{}\"", ca.display()).expect("a String takes every byte");
    }
    if shape.own || shape.checks > IN_PLACE_MAX {
        text.push_str("        checks-from \"checks.csv\"\n");
    } else {
        for check in 0..shape.checks {
            writeln!(text, "        check \"c{check}\" \"{scheme}://{}/page/{check}\"", site.addr)
                .expect("a String takes every byte");
        }
    }
    for (at, url) in site.hostile.iter().enumerate() {
        writeln!(text, "        check \"h{at}\" \"{url}\" interval=\"5s\" timeout=\"2s\"")
            .expect("a String takes every byte");
    }
    text.push_str("    }\n}\n\ntransforms {\n    regex \"titles\" from=\"sites\" {\n");
    writeln!(text, "        match \"title\" #\"{PATTERN}\"#\n    }}\n}}\n\nsinks {{")
        .expect("a String takes every byte");
    text.push_str(match sink {
        Sink::Stdout => "    stdout \"lines\" from=\"titles\"\n}\n",
        Sink::Sqlite => "    sqlite \"store\" from=\"titles\" path=\"bench.db\"\n}\n",
    });
    text
}
