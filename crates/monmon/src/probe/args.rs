//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// What to ask for: https, http, ws, wss, tcp, tls, dns or ping URLs; https where none is said. With --file names of checks
    #[arg(required = true, value_name = "URL")]
    pub(crate) urls: Vec<String>,
    /// A pipeline file, of which checks are named: with all that it says of them and of their source, and with the transforms
    /// behind; nothing reaches its sinks
    #[arg(short = 'f', long, value_name = "FILE", conflicts_with_all = [
        "method", "headers", "data", "user", "timeout", "status", "matches", "http", "ipv4", "ipv6", "each", "resolve",
        "resolver", "proxy", "no_redirects", "ca", "cert", "key", "server_name", "ask",
    ])]
    pub(crate) file: Option<PathBuf>,
    /// The request's method; POST where there is a body
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// A header to send
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// The request's body; @FILE reads it from a file
    #[arg(short = 'd', long = "data", value_name = "TEXT")]
    pub(crate) data: Option<String>,
    /// User and password for basic authentication
    #[arg(short = 'u', long, value_name = "USER:PASSWORD")]
    pub(crate) user: Option<String>,
    /// Longest time, redirects included
    #[arg(short = 't', long, value_name = "DURATION", default_value = "10s")]
    pub(crate) timeout: String,
    /// Good statuses, as in 200-299,304
    #[arg(long, value_name = "RANGES")]
    pub(crate) status: Option<String>,
    /// A regular expression that the page must have
    #[arg(short = 'm', long = "match", value_name = "REGEX")]
    pub(crate) matches: Vec<String>,
    /// The version of HTTP to speak: 1.1, 2 or any
    #[arg(long, value_name = "VERSION")]
    pub(crate) http: Option<String>,
    /// IPv4 only
    #[arg(short = '4', long, conflicts_with_all = ["ipv6", "each"])]
    pub(crate) ipv4: bool,
    /// IPv6 only
    #[arg(short = '6', long, conflicts_with = "each")]
    pub(crate) ipv6: bool,
    /// Check every address of the name
    #[arg(long)]
    pub(crate) each: bool,
    /// The address of a name, in place of a lookup
    #[arg(long, value_name = "HOST=ADDRESS")]
    pub(crate) resolve: Vec<String>,
    /// A name server to ask in place of the system's
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) resolver: Vec<String>,
    /// A proxy to go through: http://, socks5:// or socks5h://
    #[arg(short = 'x', long, value_name = "URL")]
    pub(crate) proxy: Option<String>,
    /// Follow no redirect
    #[arg(long)]
    pub(crate) no_redirects: bool,
    /// A PEM file of further certificate authorities
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A PEM file of the client's certificate
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// A PEM file of the client's private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// The name to ask for and to look for in the certificate, in place of the URL's host
    #[arg(long, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// More of what a `check` can have, in the pipeline language: 'expect time="<1s"; retry attempts=3'
    #[arg(short = 'a', long = "ask", value_name = "KDL")]
    pub(crate) ask: Vec<String>,
    /// How the result is written: for people, or a line of JSON a measurement
    #[arg(long, value_enum, default_value_t = ProbeFormat::Text)]
    pub(crate) format: ProbeFormat,
    /// What is logged: error, warn, info, debug, trace, or filters such as monmon_http=debug
    #[arg(long, value_name = "FILTER", default_value = "warn", env = "MONMON_LOG")]
    pub(crate) log_level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeFormat {
    Text,
    Json,
}
