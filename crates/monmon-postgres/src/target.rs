//! Which server, and how to get in: a URL as libpq writes it, and TLS files that the pipeline names.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use monmon_syntax::World;
use tokio_postgres::config::{Host, SslMode};

use crate::error::StoreError;
use crate::tls::{Trust, connector};

/// A PEM file is small; what is larger is something else.
const PEM_BYTES_MAX: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sent bytes may stay unacknowledged: a server that vanished without a word is noticed by then.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// Parameters of libpq that ask for nothing here: what they tune does not exist in this client.
const IGNORED: &[&str] =
    &["gssencmode", "krbsrvname", "gsslib", "sslcompression", "sslsni", "fallback_application_name"];
/// Parameters that the driver reads itself.
const PASSED_ON: &[&str] = &[
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "options",
    "password",
    "port",
    "sslnegotiation",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// How much of the server's certificate is checked: libpq's `verify-full`, `verify-ca` and `require`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Chain and name.
    Full,
    /// The chain only.
    Ca,
    /// Nothing: encrypted, but to whom is anybody's guess.
    None,
}

/// What a pipeline's `tls` node gives. It goes before what the URL says.
#[derive(Clone, Default)]
pub struct TlsFiles {
    /// PEM of the authorities that are trusted; the system's otherwise.
    pub ca: Option<Vec<u8>>,
    /// PEM of the client's certificate and key.
    pub cert: Option<Vec<u8>>,
    pub key: Option<Vec<u8>>,
    pub verify: Option<Verify>,
}

/// A server that can be connected to. `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct Target {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: tokio_postgres_rustls::MakeRustlsConnect,
    pub(crate) connect_timeout: Duration,
    place: String,
}

/// The TLS parameters of a URL.
#[derive(Default)]
struct UrlTls {
    mode: Option<String>,
    root: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

impl Target {
    /// Reads `postgres://user:password@host:port/database?sslmode=..`, with the certificate files that it names.
    pub fn parse(url: &str, tls: Option<&TlsFiles>, world: &dyn World) -> Result<Target, StoreError> {
        let (rest, url_tls) = split_parameters(url)?;
        // The driver's own message may quote the URL, so it is not repeated.
        let mut config = tokio_postgres::Config::from_str(&rest).map_err(|_| {
            StoreError::BadUrl("expected postgres://user:password@host:port/database".to_owned())
        })?;
        if config.get_hosts().is_empty() {
            return Err(StoreError::BadUrl("it names no host".to_owned()));
        }
        let (mode, files, verify) = decide(&url_tls, tls, world)?;
        config.ssl_mode(mode);
        if config.get_application_name().is_none() {
            config.application_name("monmon");
        }
        let connect_timeout = config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        config
            .connect_timeout(connect_timeout)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES);
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        let place = place(&config);
        Ok(Target { tls: connector(&files, verify)?, config, connect_timeout, place })
    }

    pub(crate) fn with_connect_timeout(mut self, timeout: Duration) -> Target {
        self.config.connect_timeout(timeout);
        self.connect_timeout = timeout;
        self
    }

    /// The server as users may see it: `host:port/database`.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.place).finish()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

fn place(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(at, host)| {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("PostgreSQL at {}/{database}", hosts.join(","))
}

/// Takes out of a URL the parameters that the driver does not know.
fn split_parameters(url: &str) -> Result<(String, UrlTls), StoreError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(StoreError::BadUrl("it does not begin with postgres://".to_owned()));
    }
    let mut tls = UrlTls::default();
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), tls)) };
    let mut kept = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || percent_decoded(value);
        match key {
            "sslmode" => tls.mode = Some(value()?),
            "sslrootcert" => tls.root = Some(value()?),
            "sslcert" => tls.cert = Some(value()?),
            "sslkey" => tls.key = Some(value()?),
            key if PASSED_ON.contains(&key) => kept.push(pair),
            key if IGNORED.contains(&key) => {}
            key => return Err(StoreError::BadUrl(format!("the parameter `{key}` is not known"))),
        }
    }
    let rest = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    Ok((rest, tls))
}

fn percent_decoded(text: &str) -> Result<String, StoreError> {
    let bad = || StoreError::BadUrl("a parameter has a broken percent escape".to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(bad);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| bad())?);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// Which files and how much trust: the pipeline's word, else the URL's, as libpq means it.
fn decide(
    url: &UrlTls,
    tls: Option<&TlsFiles>,
    world: &dyn World,
) -> Result<(SslMode, TlsFiles, Trust), StoreError> {
    let read = |path: &Option<String>| match path.as_deref() {
        None | Some("") => Ok(None),
        Some(path) => {
            let bytes = world
                .read_file(Path::new(path), PEM_BYTES_MAX)
                .map_err(|error| StoreError::Tls(format!("the file `{path}` cannot be read: {error}")))?;
            Ok(Some(bytes))
        }
    };
    let system_roots = url.root.as_deref() == Some("system");
    let mut files = TlsFiles {
        ca: if system_roots { None } else { read(&url.root)? },
        cert: read(&url.cert)?,
        key: read(&url.key)?,
        verify: None,
    };
    if let Some(given) = tls {
        files.ca = given.ca.clone().or(files.ca);
        files.cert = given.cert.clone().or(files.cert);
        files.key = given.key.clone().or(files.key);
        if let Some(verify) = given.verify {
            let trust = match verify {
                Verify::Full => Trust::ChainAndName,
                Verify::Ca => Trust::Chain,
                Verify::None => Trust::Anything,
            };
            return Ok((SslMode::Require, files, trust));
        }
    }
    let asked = match (url.mode.as_deref(), tls) {
        (Some(mode), _) => mode,
        // Who asks for TLS means the real thing; sslrootcert=system asks for it as well.
        (None, Some(_)) => "verify-full",
        (None, None) if system_roots => "verify-full",
        (None, None) => "prefer",
    };
    let (mode, trust) = match asked {
        "disable" if tls.is_some() => {
            return Err(StoreError::BadUrl("sslmode=disable, and the pipeline has `tls`".to_owned()));
        }
        "disable" => (SslMode::Disable, Trust::Anything),
        "allow" | "prefer" => (SslMode::Prefer, Trust::Anything),
        // libpq: with a root certificate at hand `require` means `verify-ca`.
        "require" if files.ca.is_some() => (SslMode::Require, Trust::Chain),
        "require" => (SslMode::Require, Trust::Anything),
        "verify-ca" => (SslMode::Require, Trust::Chain),
        "verify-full" => (SslMode::Require, Trust::ChainAndName),
        other => {
            let known = "disable, allow, prefer, require, verify-ca, verify-full";
            return Err(StoreError::BadUrl(format!("sslmode `{other}` is none of {known}")));
        }
    };
    Ok((mode, files, trust))
}

#[cfg(test)]
mod tests {
    use monmon_stage::SystemWorld;

    use super::*;

    #[test]
    fn urls_are_read_as_libpq_reads_them() {
        let cases = [
            ("postgres://u:p@h:1/d", Ok((SslMode::Prefer, "PostgreSQL at h:1/d"))),
            (
                "postgresql://u@h/d?sslmode=require&gssencmode=disable",
                Ok((SslMode::Require, "PostgreSQL at h:5432/d")),
            ),
            (
                "postgres://u:p%40@a:1,b:2/d?sslmode=disable&connect_timeout=3",
                Ok((SslMode::Disable, "PostgreSQL at a:1,b:2/d")),
            ),
            ("postgres://u:sekret@h/d?sslmode=mutual", Err("sslmode `mutual` is none of")),
            ("postgres://u:sekret@h/d?colour=red", Err("the parameter `colour` is not known")),
            ("postgres://u:sekret@h:port/d", Err("expected postgres://")),
            ("mysql://u:sekret@h/d", Err("does not begin with postgres://")),
            ("postgres://u:sekret@h/d?sslrootcert=/nowhere/ca.pem", Err("`/nowhere/ca.pem` cannot be read")),
            ("postgres://u:sekret@h/d?sslrootcert=%2", Err("broken percent escape")),
        ];
        for (url, expected) in cases {
            let target = Target::parse(url, None, &SystemWorld);
            match (target, expected) {
                (Ok(target), Ok((mode, place))) => {
                    assert_eq!((target.config.get_ssl_mode(), target.place()), (mode, place), "{url}");
                }
                (Err(error), Err(part)) => {
                    let text = format!("{error} {error:?}");
                    assert!(text.contains(part) && !text.contains("sekret"), "{url}: {text}");
                }
                (other, _) => panic!("{url}: {other:?}"),
            }
        }
    }
}
