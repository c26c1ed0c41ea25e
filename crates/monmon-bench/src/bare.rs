//! The floor: what a check costs if it is nothing but a socket. A new TCP connection, a request, a page read to its
//! end, one regex over it; no timings, no schedule to speak of, no measurement.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use fancy_regex::Regex;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_rustls::TlsConnector;

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
    /// Over TLS, with the certificates that this authority signed
    #[arg(long)]
    ca: Option<PathBuf>,
    #[arg(long = "for", value_parser = crate::duration)]
    length: Duration,
}

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let regex = Regex::new(crate::checks::PATTERN).map_err(io::Error::other)?;
    let tls = options.ca.as_deref().map(connector).transpose()?;
    let target = Arc::new(Target { site: options.site, regex, tls });
    match options.interval {
        Some(interval) => runtime.block_on(paced(options, interval, &target))?,
        None => runtime.block_on(saturated(options, &target))?,
    }
    Ok(String::new())
}

struct Target {
    site: SocketAddr,
    regex: Regex,
    tls: Option<TlsConnector>,
}

/// As a check wants it: every handshake a whole one.
fn connector(ca: &Path) -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(io::Error::other)? {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
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
        let stream = TcpStream::connect(self.site).await?;
        match &self.tls {
            Some(tls) => {
                self.ask(tls.connect(ServerName::IpAddress(self.site.ip().into()), stream).await?, number)
                    .await
            }
            None => self.ask(stream, number).await,
        }
    }

    async fn ask(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin, number: u32) -> io::Result<()> {
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
