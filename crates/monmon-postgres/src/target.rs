//! Which server, and how to get in: a connection string as libpq reads it, and TLS files that the pipeline names.
//!
//! All of it is worked out anew for each connection: passwords, certificates and service files are changed while a pipeline
//! runs, and the next connection takes them as they are then.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use monmon_stage::WorldRef;
use monmon_syntax::{Secret, World};
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::conninfo::{Settings, parse};
use crate::defaults::{fill, home, password};
use crate::error::StoreError;
use crate::tls::{Trust, connector};

/// A PEM file is small; what is larger is something else.
const PEM_BYTES_MAX: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// As libpq: a second may be over before the first packet is.
const CONNECT_TIMEOUT_MIN: u64 = 2;
/// How long sent bytes may stay unacknowledged: a server that vanished without a word is noticed by then.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const PORT: u16 = 5432;
/// Where Debian's server has its socket.
const SOCKET_FOLDER: &str = "/var/run/postgresql";

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

/// What a pipeline file or a command says of a server.
#[derive(Clone)]
pub struct Address {
    /// The connection string.
    pub url: Secret,
    pub tls: Option<TlsFiles>,
}

type Recipe = dyn Fn() -> Result<Address, StoreError> + Send + Sync;

/// A server that can be connected to. `Debug` and `Display` show no password.
#[derive(Clone)]
pub struct Target {
    recipe: Arc<Recipe>,
    world: WorldRef,
    connect_timeout: Option<Duration>,
    place: String,
}

/// How to get in, as of now.
pub(crate) struct Login {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: MakeRustlsConnect,
    pub(crate) doors: Vec<Door>,
    pub(crate) any_order: bool,
    /// How long one address may take, with all that belongs to a login.
    pub(crate) timeout: Duration,
}

/// One host of a connection string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// A name, an address, or the folder of a socket.
    pub(crate) host: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) password: Option<Secret>,
}

impl Target {
    /// Reads `postgres://user:password@host:port/database?sslmode=..` or `host=... user=...`, with the files that it names.
    pub fn parse(url: &str, tls: Option<&TlsFiles>, world: WorldRef) -> Result<Target, StoreError> {
        let address = Address { url: Secret::new(url), tls: tls.cloned() };
        Target::new(move || Ok(address.clone()), world)
    }

    /// A target whose address is asked for anew for each connection.
    pub fn new(
        recipe: impl Fn() -> Result<Address, StoreError> + Send + Sync + 'static,
        world: WorldRef,
    ) -> Result<Target, StoreError> {
        let place = place(&settings(&recipe()?, &*world)?)?;
        let target = Target { recipe: Arc::new(recipe), world, connect_timeout: None, place };
        // What is wrong now is told now.
        target.login()?;
        Ok(target)
    }

    pub(crate) fn with_connect_timeout(mut self, timeout: Duration) -> Target {
        self.connect_timeout = Some(timeout);
        self
    }

    /// The server as users may see it: `host:port/database`.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn login(&self) -> Result<Login, StoreError> {
        let world = &*self.world;
        let address = (self.recipe)()?;
        let settings = settings(&address, world)?;
        let (mode, files, trust) = decide(&settings, address.tls.as_ref(), world)?;
        let mut config = configured(&settings)?;
        config.ssl_mode(mode);
        let timeout = match self.connect_timeout {
            Some(timeout) => timeout,
            // Nothing here waits for ever, so zero is the default.
            None => match number(&settings, "connect_timeout")? {
                None | Some(0) => CONNECT_TIMEOUT,
                Some(seconds) => Duration::from_secs(seconds.max(CONNECT_TIMEOUT_MIN)),
            },
        };
        config.connect_timeout(timeout);
        Ok(Login {
            config,
            tls: connector(&files, trust)?,
            doors: doors(&settings, world)?,
            any_order: one_of(&settings, "load_balance_hosts", "disable", &["disable", "random"])?
                == "random",
            timeout,
        })
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

fn settings(address: &Address, world: &dyn World) -> Result<Settings, StoreError> {
    let mut settings = parse(address.url.expose())?;
    fill(&mut settings, world)?;
    Ok(settings)
}

fn place(settings: &Settings) -> Result<String, StoreError> {
    let doors: Vec<String> =
        hosts(settings)?.into_iter().map(|(host, _, port)| format!("{host}:{port}")).collect();
    Ok(format!("PostgreSQL at {}/{}", doors.join(","), database(settings)))
}

/// As libpq has it: a database is named as its user if nothing else is said.
fn database(settings: &Settings) -> &str {
    settings.get("dbname").or(settings.get("user")).map_or("", String::as_str)
}

/// Names, addresses and ports: lists of one length, but that one port may stand for all.
fn hosts(settings: &Settings) -> Result<Vec<(String, Option<IpAddr>, u16)>, StoreError> {
    let list = |word: &str| -> Vec<&str> {
        settings.get(word).map_or_else(Vec::new, |list| list.split(',').map(str::trim).collect())
    };
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = names.len().max(addresses.len()).max(1);
    let fits = |length: usize| length == 0 || length == count;
    if !fits(names.len()) || !fits(addresses.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return Err(StoreError::BadUrl("it names not as many addresses or ports as hosts".to_owned()));
    }
    (0..count)
        .map(|at| {
            let address = addresses.get(at).filter(|address| !address.is_empty());
            let address = address
                .map(|address| address.parse::<IpAddr>())
                .transpose()
                .map_err(|_| StoreError::BadUrl("a hostaddr is no IP address".to_owned()))?;
            let name = names.get(at).filter(|name| !name.is_empty()).map(|name| (*name).to_owned());
            let host = name.or(address.map(|address| address.to_string())).unwrap_or_else(local);
            let port = ports.get(at).or(ports.first()).filter(|port| !port.is_empty());
            let port = port
                .map_or(Ok(PORT), |port| port.parse())
                .map_err(|_| StoreError::BadUrl("a port is no number from 1 to 65535".to_owned()))?;
            Ok((host, address, port))
        })
        .collect()
}

/// Where a server of this machine is met if no host is named.
fn local() -> String {
    let folder = Path::new(SOCKET_FOLDER);
    if cfg!(unix) && folder.is_dir() { SOCKET_FOLDER.to_owned() } else { "localhost".to_owned() }
}

fn doors(settings: &Settings, world: &dyn World) -> Result<Vec<Door>, StoreError> {
    let given = settings.get("password");
    let user = settings.get("user").map_or("", String::as_str);
    let doors = hosts(settings)?.into_iter().map(|(host, address, port)| {
        let secret = given
            .cloned()
            .or_else(|| password(settings, &host, port, database(settings), user, world))
            .map(Secret::new);
        Door { host, address, port, password: secret }
    });
    Ok(doors.collect())
}

fn configured(settings: &Settings) -> Result<tokio_postgres::Config, StoreError> {
    let mut config = tokio_postgres::Config::new();
    let text = |word: &str| settings.get(word).map(String::as_str);
    config.user(text("user").unwrap_or_default()).dbname(database(settings));
    config.application_name(text("application_name").unwrap_or("monmon"));
    if let Some(options) = text("options") {
        config.options(options);
    }
    let seconds = |word: &str, default: Duration| -> Result<Duration, StoreError> {
        Ok(number(settings, word)?.map_or(default, Duration::from_secs))
    };
    config
        .keepalives(number(settings, "keepalives")? != Some(0))
        .keepalives_idle(seconds("keepalives_idle", KEEPALIVE_IDLE)?)
        .keepalives_interval(seconds("keepalives_interval", KEEPALIVE_INTERVAL)?);
    let retries = number(settings, "keepalives_count")?.and_then(|count| u32::try_from(count).ok());
    config.keepalives_retries(retries.unwrap_or(KEEPALIVE_RETRIES));
    let unacknowledged = number(settings, "tcp_user_timeout")?.filter(|milliseconds| *milliseconds > 0);
    config.tcp_user_timeout(unacknowledged.map_or(TCP_USER_TIMEOUT, Duration::from_millis));
    let attributes = ["any", "read-write", "primary", "read-only", "standby"];
    config.target_session_attrs(match one_of(settings, "target_session_attrs", "any", &attributes)? {
        "read-write" | "primary" => TargetSessionAttrs::ReadWrite,
        "read-only" | "standby" => TargetSessionAttrs::ReadOnly,
        _ => TargetSessionAttrs::Any,
    });
    config.channel_binding(
        match one_of(settings, "channel_binding", "prefer", &["disable", "prefer", "require"])? {
            "disable" => ChannelBinding::Disable,
            "require" => ChannelBinding::Require,
            _ => ChannelBinding::Prefer,
        },
    );
    config.ssl_negotiation(match one_of(settings, "sslnegotiation", "postgres", &["postgres", "direct"])? {
        "direct" => SslNegotiation::Direct,
        _ => SslNegotiation::Postgres,
    });
    Ok(config)
}

fn number(settings: &Settings, word: &str) -> Result<Option<u64>, StoreError> {
    let Some(value) = settings.get(word) else { return Ok(None) };
    // Below zero is "for ever" to libpq, which nothing here is.
    let number = value.trim().parse::<i64>();
    let number = number.map_err(|_| StoreError::BadUrl(format!("`{word}` is no whole number")))?;
    Ok(Some(u64::try_from(number).unwrap_or(0)))
}

fn one_of<'a>(
    settings: &'a Settings,
    word: &str,
    default: &'a str,
    known: &[&str],
) -> Result<&'a str, StoreError> {
    let value = settings.get(word).map_or(default, String::as_str);
    match known.contains(&value) {
        true => Ok(value),
        false => Err(StoreError::BadUrl(format!("{word} `{value}` is none of {}", known.join(", ")))),
    }
}

/// Which files and how much trust: the pipeline's word, else the URL's, as libpq means it.
fn decide(
    settings: &Settings,
    tls: Option<&TlsFiles>,
    world: &dyn World,
) -> Result<(SslMode, TlsFiles, Trust), StoreError> {
    let modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
    let system_roots = settings.get("sslrootcert").map(String::as_str) == Some("system");
    // Who asks for TLS means the real thing; sslrootcert=system asks for it as well.
    let default = if tls.is_some() || system_roots { "verify-full" } else { "prefer" };
    let asked = one_of(settings, "sslmode", default, &modes)?;
    if asked == "disable" {
        return match tls {
            Some(_) => Err(StoreError::BadUrl("sslmode=disable, and the pipeline has `tls`".to_owned())),
            None => Ok((SslMode::Disable, TlsFiles::default(), Trust::Anything)),
        };
    }
    let mut files = files(settings, system_roots, world)?;
    if let Some(given) = tls {
        files.ca = given.ca.clone().or(files.ca);
        if given.cert.is_some() || given.key.is_some() {
            (files.cert, files.key) = (given.cert.clone(), given.key.clone());
        }
        if let Some(verify) = given.verify {
            let trust = match verify {
                Verify::Full => Trust::ChainAndName,
                Verify::Ca => Trust::Chain,
                Verify::None => Trust::Anything,
            };
            return Ok((SslMode::Require, files, trust));
        }
    }
    let (mode, trust) = match asked {
        // libpq: with a root certificate at hand `require` means `verify-ca`.
        "require" if files.ca.is_some() => (SslMode::Require, Trust::Chain),
        "require" => (SslMode::Require, Trust::Anything),
        "verify-ca" => (SslMode::Require, Trust::Chain),
        "verify-full" => (SslMode::Require, Trust::ChainAndName),
        _ => (SslMode::Prefer, Trust::Anything),
    };
    Ok((mode, files, trust))
}

/// The files that are named, else those that lie where libpq looks.
fn files(settings: &Settings, system_roots: bool, world: &dyn World) -> Result<TlsFiles, StoreError> {
    let folder = home(world).map(|home| home.join(".postgresql"));
    let read = |word: &str, usual: &str| match settings.get(word) {
        Some(path) => world
            .read_file(Path::new(path), PEM_BYTES_MAX)
            .map(Some)
            .map_err(|error| StoreError::Tls(format!("the file `{path}` cannot be read: {error}"))),
        None => {
            Ok(folder.as_ref().and_then(|folder| world.read_file(&folder.join(usual), PEM_BYTES_MAX).ok()))
        }
    };
    let mut files = TlsFiles {
        ca: if system_roots { None } else { read("sslrootcert", "root.crt")? },
        cert: read("sslcert", "postgresql.crt")?,
        key: read("sslkey", "postgresql.key")?,
        verify: None,
    };
    if files.cert.is_none() && !settings.contains_key("sslkey") {
        // A key that lies about is nobody's wish.
        files.key = None;
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use monmon_stage::SystemWorld;

    use super::*;

    fn target(url: &str) -> Result<Target, StoreError> {
        Target::parse(url, None, Arc::new(SystemWorld))
    }

    #[test]
    fn urls_are_read_as_libpq_reads_them() {
        let cases = [
            ("postgres://u:p@h:1/d", SslMode::Prefer, "PostgreSQL at h:1/d"),
            (
                "postgresql://u@h/d?sslmode=require&gssencmode=disable",
                SslMode::Require,
                "PostgreSQL at h:5432/d",
            ),
            (
                "postgres://u:p%40@a:1,b:2/d?sslmode=disable&connect_timeout=3",
                SslMode::Disable,
                "PostgreSQL at a:1,b:2/d",
            ),
            ("host=a,b port=7 user=u dbname=d", SslMode::Prefer, "PostgreSQL at a:7,b:7/d"),
            ("hostaddr=::1 user=u", SslMode::Prefer, "PostgreSQL at ::1:5432/u"),
        ];
        for (url, mode, place) in cases {
            let target = target(url).expect(url);
            let login = target.login().expect(url);
            assert_eq!((login.config.get_ssl_mode(), target.place()), (mode, place), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_without_the_password() {
        let cases = [
            ("postgres://u:sekret@h/d?sslmode=mutual", "sslmode `mutual` is none of"),
            ("postgres://u:sekret@h/d?target_session_attrs=prefer-standby", "`prefer-standby` is none of"),
            ("postgres://u:sekret@h/d?sslrootcert=/nowhere/ca.pem", "`/nowhere/ca.pem` cannot be read"),
            ("postgres://u:sekret@a,b,c/d?port=1,2", "not as many addresses or ports as hosts"),
            ("postgres://u:sekret@h/d?hostaddr=h", "a hostaddr is no IP address"),
            ("postgres://u:sekret@h/d?keepalives_idle=long", "`keepalives_idle` is no whole number"),
        ];
        for (url, part) in cases {
            let error = target(url).expect_err(url);
            let text = format!("{error} {error:?}");
            assert!(text.contains(part) && !text.contains("sekret"), "{url}: {text}");
        }
    }

    #[test]
    fn every_host_is_a_door_of_its_own() {
        let url = "postgres://u:p@a:1,b:2/d?hostaddr=192.0.2.1,192.0.2.2&target_session_attrs=read-write&connect_timeout=1";
        let login = target(url).expect("a target").login().expect("a login");
        let door = |host: &str, address: &str, port| Door {
            host: host.to_owned(),
            address: Some(address.parse().expect("an address")),
            port,
            password: Some(Secret::new("p")),
        };
        assert_eq!(login.doors, [door("a", "192.0.2.1", 1), door("b", "192.0.2.2", 2)]);
        assert_eq!(login.config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(login.timeout, Duration::from_secs(2));
    }
}
