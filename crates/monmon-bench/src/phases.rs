//! A second opinion on phases: curl and monmon ask a server that delays each of them by a known time, in turn.

use std::{io, net::SocketAddr, path::PathBuf, process::Command, sync::Arc, thread, time::Duration};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use monmon_testkit::Tls;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

const TLS_DELAY: Duration = Duration::from_millis(40);
const WAIT_DELAY: Duration = Duration::from_millis(70);
const BODY_DELAY: Duration = Duration::from_millis(55);
const PHASES: [&str; 5] = ["connect", "tls", "wait", "transfer", "total"];
const DELAYS: [Duration; 5] =
    [Duration::ZERO, TLS_DELAY, WAIT_DELAY, BODY_DELAY, Duration::from_millis(40 + 70 + 55)];

#[derive(Args)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 30)]
    rounds: u32,
    /// The built program
    #[arg(long, default_value = "target/light/monmon")]
    monmon: PathBuf,
}

/// What one request took, phase by phase, in milliseconds.
type Times = [f64; 5];

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let folder = tempfile::tempdir()?;
    let tls = Tls::new("the benchmark's authority")?;
    let ca = tls.write(folder.path(), "bench")?.ca;
    let acceptor = TlsAcceptor::from(tls.loopback_server()?.server_config()?);
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let site = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    // It ends with the process.
    thread::spawn(move || serve(listener, acceptor));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        ours.push(monmon(options, site, &ca)?);
        theirs.push(curl(site, &ca)?);
    }
    Ok(table(&ours, &theirs))
}

fn serve(listener: std::net::TcpListener, acceptor: TlsAcceptor) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let acceptor = Arc::new(acceptor);
        let mut under_way = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            let acceptor = Arc::clone(&acceptor);
            // A client that goes away is no fault of the server's.
            under_way.spawn(async move { answer(stream, &acceptor).await.ok() });
            while under_way.try_join_next().is_some() {}
        }
    })
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

fn monmon(options: &Options, site: SocketAddr, ca: &PathBuf) -> io::Result<Times> {
    let mut command = Command::new(&options.monmon);
    command
        .args(["probe", "--format", "json", "--http", "1.1", "--ca"])
        .arg(ca)
        .arg(format!("https://{site}/"));
    let output = command.output()?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(io::Error::other)?;
    let of = |name: &str| {
        told["timings"][name].as_f64().map(|us| us / 1e3).ok_or_else(|| io::Error::other(name.to_owned()))
    };
    Ok([of("connect_us")?, of("tls_us")?, of("wait_us")?, of("transfer_us")?, of("total_us")?])
}

fn curl(site: SocketAddr, ca: &PathBuf) -> io::Result<Times> {
    let wanted = "%{time_connect} %{time_appconnect} %{time_starttransfer} %{time_total}";
    let output = Command::new("curl")
        .args(["-sS", "--http1.1", "-o", "/dev/null", "-w", wanted, "--cacert"])
        .arg(ca)
        .arg(format!("https://{site}/"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let marks: Vec<f64> =
        text.split(' ').filter_map(|word| word.parse::<f64>().ok()).map(|s| s * 1e3).collect();
    match marks.as_slice() {
        [connect, tls, first, total] => Ok([*connect, tls - connect, first - tls, total - first, *total]),
        _ => Err(io::Error::other(format!("curl said `{text}` {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

fn table(ours: &[Times], theirs: &[Times]) -> String {
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
            format!("{}", DELAYS[at].as_millis()),
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
