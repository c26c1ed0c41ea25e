//! A second opinion on phases: curl and monmon ask a server that delays each of them by a known time, in turn.
//!
//! Name and connection are the system's to delay. So the whole is done in a network and a mount namespace of its own, where
//! `/etc/resolv.conf` names a slow name server on port 53, for curl and for monmon alike, and the site is reached through a
//! device that holds back the first packet of a connection.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use monmon_testkit::{DnsAnswer, DnsServer, Tls, Validity};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::mirror;

/// The name of the site. Nobody else has one under it (RFC 6761).
const NAME: &str = "slow.test";
const DNS_DELAY: Duration = Duration::from_millis(120);
const CONNECT_DELAY: Duration = Duration::from_millis(90);
const TLS_DELAY: Duration = Duration::from_millis(40);
const WAIT_DELAY: Duration = Duration::from_millis(70);
const BODY_DELAY: Duration = Duration::from_millis(55);
const PHASES: [&str; 6] = ["dns", "connect", "tls", "wait", "transfer", "total"];
/// How long a client may take to come.
const COME_MAX: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// The built program
    #[arg(long, default_value = "target/light/monmon")]
    monmon: PathBuf,
    /// Names and connections are not delayed: needs no root
    #[arg(long)]
    plain: bool,
    /// In namespaces of its own already
    #[arg(long, hide = true)]
    inside: bool,
}

/// What one request took, phase by phase, in milliseconds.
type Times = [f64; 6];

pub(crate) fn run(options: &Options) -> io::Result<String> {
    if options.plain || options.inside {
        return compare(options);
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--"]).arg(std::env::current_exe()?).args(["phases", "--inside"]);
    command.args(["--rounds", &options.rounds.to_string()]).arg("--monmon").arg(&options.monmon);
    let output = command.stderr(Stdio::inherit()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
        false => Err(io::Error::other(
            "no namespaces of its own, which need root (`unshare --net --mount`) and `/dev/net/tun`; `--plain` delays \
             TLS, first byte and body only",
        )),
    }
}

fn compare(options: &Options) -> io::Result<String> {
    let folder = tempfile::tempdir()?;
    let tls = Tls::new("the benchmark's authority")?;
    let ca = tls.write(folder.path(), "bench")?.ca;
    let names = [NAME.to_owned(), "127.0.0.1".to_owned()];
    let acceptor = TlsAcceptor::from(tls.server(&names, Validity::Always)?.server_config()?);
    let _dns = if options.inside { Some(slow_names(folder.path())?) } else { None };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let site = Site { acceptor, address: if options.inside { mirror::NEAR } else { Ipv4Addr::LOCALHOST } };
    let start = async { options.inside.then(|| mirror::start(CONNECT_DELAY)).transpose() };
    let _mirror = runtime.block_on(start)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let host = if options.inside { NAME } else { "127.0.0.1" };
        ours.push(monmon(&runtime.block_on(site.ask(|port| monmon_command(options, host, port, &ca)))?)?);
        theirs.push(curl(&runtime.block_on(site.ask(|port| curl_command(host, port, &ca)))?)?);
    }
    let delayed = |delay: Duration| if options.inside { delay } else { Duration::ZERO };
    let mut delays =
        [delayed(DNS_DELAY), delayed(CONNECT_DELAY), TLS_DELAY, WAIT_DELAY, BODY_DELAY, Duration::ZERO];
    delays[5] = delays.iter().sum();
    Ok(table(&delays, &ours, &theirs))
}

/// The loopback device up, and a slow name server as the system's only one.
fn slow_names(folder: &Path) -> io::Result<DnsServer> {
    let file = folder.join("resolv.conf");
    fs::write(&file, "nameserver 127.0.0.1\n")?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    let bound = Command::new("mount").arg("--bind").arg(&file).arg("/etc/resolv.conf").status()?;
    if !up.success() || !bound.success() {
        return Err(io::Error::other("`ip link set lo up` or `mount --bind` failed"));
    }
    let server = DnsServer::start_slow(SocketAddr::from(([127, 0, 0, 1], 53)), DNS_DELAY)?;
    server.set(NAME, DnsAnswer::Addresses(vec![mirror::FAR.into()]));
    Ok(server)
}

struct Site {
    acceptor: TlsAcceptor,
    address: Ipv4Addr,
}

impl Site {
    /// Has a client ask, on a port of its own, and answers it.
    async fn ask(&self, client: impl FnOnce(u16) -> Command) -> io::Result<Output> {
        let listener = TcpListener::bind((self.address, 0)).await?;
        let mut command = client(listener.local_addr()?.port());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stream, _) = timeout(COME_MAX, listener.accept()).await??;
        answer(stream, &self.acceptor).await?;
        child.wait_with_output()
    }
}

async fn answer(stream: TcpStream, acceptor: &TlsAcceptor) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sleep(TLS_DELAY).await;
    let mut stream = acceptor.accept(stream).await?;
    let mut asked = [0; 4096];
    let mut came = 0;
    while !asked[..came].ends_with(b"\r\n\r\n") && came < asked.len() {
        came += stream.read(&mut asked[came..]).await?;
    }
    sleep(WAIT_DELAY).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhello").await?;
    stream.flush().await?;
    sleep(BODY_DELAY).await;
    stream.write_all(b"world").await?;
    stream.shutdown().await
}

fn monmon_command(options: &Options, host: &str, port: u16, ca: &Path) -> Command {
    let mut command = Command::new(&options.monmon);
    command.args(["probe", "--format", "json", "--http", "1.1", "--ca"]).arg(ca);
    command.arg(format!("https://{host}:{port}/"));
    command
}

fn curl_command(host: &str, port: u16, ca: &Path) -> Command {
    let wanted = "%{time_namelookup} %{time_connect} %{time_appconnect} %{time_starttransfer} %{time_total}";
    let mut command = Command::new("curl");
    command.args(["-sS", "--http1.1", "-o", "/dev/null", "-w", wanted, "--cacert"]).arg(ca);
    command.arg(format!("https://{host}:{port}/"));
    command
}

fn monmon(output: &Output) -> io::Result<Times> {
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(io::Error::other)?;
    let of = |name: &str| told["timings"][name].as_f64().map(|us| us / 1e3);
    let needed = |name: &str| of(name).ok_or_else(|| io::Error::other(format!("no `{name}` in {told}")));
    Ok([
        // An address needs no lookup.
        of("dns_us").unwrap_or(0.0),
        needed("connect_us")?,
        needed("tls_us")?,
        needed("wait_us")?,
        needed("transfer_us")?,
        needed("total_us")?,
    ])
}

fn curl(output: &Output) -> io::Result<Times> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let marks: Vec<f64> =
        text.split(' ').filter_map(|word| word.parse::<f64>().ok()).map(|s| s * 1e3).collect();
    match marks.as_slice() {
        [dns, connect, tls, first, total] => {
            Ok([*dns, connect - dns, tls - connect, first - tls, total - first, *total])
        }
        _ => Err(io::Error::other(format!("curl said `{text}` {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

fn table(delays: &[Duration; 6], ours: &[Times], theirs: &[Times]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "phase, ms",
        "delay",
        "curl, median",
        "monmon, median",
        "difference, median",
        "largest",
    ]);
    for (at, name) in PHASES.iter().enumerate() {
        let of = |all: &[Times]| median(all.iter().map(|times| times[at]).collect());
        let apart: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| (a[at] - b[at]).abs()).collect();
        let largest = apart.iter().copied().fold(0.0, f64::max);
        table.add_row([
            (*name).to_owned(),
            format!("{}", delays[at].as_millis()),
            format!("{:.2}", of(theirs)),
            format!("{:.2}", of(ours)),
            format!("{:.2}", median(apart)),
            format!("{largest:.2}"),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}
