//! The floor: what a check costs if it is nothing but a socket. A new TCP connection, a request, a page read to its
//! end, one regex over it; no timings, no schedule to speak of, no measurement.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use fancy_regex::Regex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Checks in flight when the loop goes as fast as it can.
const SATURATED_IN_FLIGHT: u32 = 64;
/// Checks in flight at most when it is paced; the site is then too slow for the rate.
const PACED_IN_FLIGHT_MAX: usize = 10_000;

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long)]
    site: SocketAddr,
    #[arg(long)]
    checks: u32,
    /// How often each check is made; as fast as it goes if not given
    #[arg(long, value_parser = crate::duration)]
    interval: Option<Duration>,
    #[arg(long = "for", value_parser = crate::duration)]
    length: Duration,
}

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let regex = Regex::new(crate::checks::PATTERN).map_err(io::Error::other)?;
    let target = Arc::new(Target { site: options.site, regex });
    match options.interval {
        Some(interval) => runtime.block_on(paced(options, interval, &target))?,
        None => runtime.block_on(saturated(options, &target))?,
    }
    Ok(String::new())
}

struct Target {
    site: SocketAddr,
    regex: Regex,
}

/// Check `n` of `checks` is due `n / checks` of an interval after the start, and every interval from then on.
async fn paced(options: &Options, interval: Duration, target: &Arc<Target>) -> io::Result<()> {
    let start = Instant::now();
    let mut in_flight = JoinSet::new();
    for round in 0.. {
        for check in 0..options.checks {
            let due = start + interval * round + interval * check / options.checks;
            if due >= start + options.length {
                return drain(in_flight).await;
            }
            sleep_until(due).await;
            if in_flight.len() >= PACED_IN_FLIGHT_MAX {
                return Err(io::Error::other("the site can't keep up with this rate"));
            }
            let target = Arc::clone(target);
            in_flight.spawn(async move { target.check(check).await });
            while let Some(done) = in_flight.try_join_next() {
                done.map_err(io::Error::other)??;
            }
        }
    }
    Ok(())
}

async fn saturated(options: &Options, target: &Arc<Target>) -> io::Result<()> {
    let end = Instant::now() + options.length;
    let mut loops = JoinSet::new();
    for number in 0..SATURATED_IN_FLIGHT {
        let (target, checks) = (Arc::clone(target), options.checks);
        loops.spawn(async move {
            let mut check = number;
            while Instant::now() < end {
                target.check(check % checks).await?;
                check += SATURATED_IN_FLIGHT;
            }
            Ok(())
        });
    }
    drain(loops).await
}

async fn drain(mut tasks: JoinSet<io::Result<()>>) -> io::Result<()> {
    while let Some(done) = tasks.join_next().await {
        done.map_err(io::Error::other)??;
    }
    Ok(())
}

impl Target {
    async fn check(&self, number: u32) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.site).await?;
        let request =
            format!("GET /page/{number} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.site);
        stream.write_all(request.as_bytes()).await?;
        let mut page = Vec::with_capacity(16 << 10);
        stream.read_to_end(&mut page).await?;
        let text = String::from_utf8_lossy(&page);
        match self.regex.captures(&*text) {
            Ok(Some(found)) if found.name("title").is_some() => Ok(()),
            _ => Err(io::Error::other("the page has no title")),
        }
    }
}
