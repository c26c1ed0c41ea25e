//! The demo site as a program of its own, for benchmarks and whole-program tests.
//!
//! `demo-site --listen 127.0.0.1:0 --access-log FILE`; it prints its URL, then serves until it is stopped.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use monmon_testkit::{Site, SiteOptions, Tls};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: demo-site [--listen ADDRESS] [--access-log FILE] [--tls FOLDER]

  --listen ADDRESS   where to listen (127.0.0.1:0: any free port)
  --access-log FILE  append one JSON object for each request
  --tls FOLDER       speak HTTPS; the authority to trust is written to FOLDER/ca.pem

paths: /  /page/ANYTHING  /bytes/N  /gzip/N  /status/N  /slow/MILLISECONDS  /redirect/N
It prints its URL as its first line, and stops at SIGINT, SIGTERM.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut errors = io::stderr();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return if io::stdout().write_all(USAGE.as_bytes()).is_ok() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        };
    }
    let answer = options(&arguments).and_then(|options| run(options).map_err(|error| error.to_string()));
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            writeln!(errors, "demo-site: {message}\n\n{USAGE}").ok();
            ExitCode::from(2)
        }
    }
}

fn options(arguments: &[String]) -> Result<SiteOptions, String> {
    // A long run would fill the memory with its log; the file is enough.
    let mut options = SiteOptions { hits_max: 0, demo: true, ..SiteOptions::default() };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--listen" => {
                options.listen = value
                    .parse::<SocketAddr>()
                    .map_err(|_| format!("`{value}` is not an address like 127.0.0.1:8080"))?;
            }
            "--access-log" => options.access_log = Some(PathBuf::from(value)),
            "--tls" => {
                let tls = Tls::new("demo-site authority").map_err(|error| error.to_string())?;
                tls.write(&PathBuf::from(value), "demo").map_err(|error| error.to_string())?;
                let config = tls.loopback_server().and_then(|server| server.server_config());
                options.tls = Some(config.map_err(|error| error.to_string())?);
            }
            _ => return Err(format!("`{name}` is not an option")),
        }
    }
    Ok(options)
}

fn run(options: SiteOptions) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The handlers stand before the URL is told, so that a stop at once is a clean one.
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let site = Site::with(options)?;
    let mut out = io::stdout();
    writeln!(out, "{}", site.url("/"))?;
    out.flush()?;
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    drop(site);
    Ok(())
}
