//! A Kafka and a PostgreSQL of the harness's own, with proxies before them: nothing else uses them, so they may be broken.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// How long anything that must come may take to come, in seconds.
static PATIENCE: AtomicU64 = AtomicU64::new(120);
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
const POLL: Duration = Duration::from_millis(50);

/// Ports of one set of services, counted from the first. The scripts give each broker ten.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports(pub(crate) u16);

impl Ports {
    pub(crate) fn kafka(self, node: u16) -> u16 {
        self.0 + 10 * (node - 1)
    }
    pub(crate) fn kafka_tls(self) -> u16 {
        self.0 + 1
    }
    pub(crate) fn kafka_sasl(self) -> u16 {
        self.0 + 2
    }
    /// The listener that only producers know, and what they really connect to.
    pub(crate) fn producers(self) -> (u16, u16) {
        (self.0 + 4, self.0 + 6)
    }
    pub(crate) fn consumers(self) -> (u16, u16) {
        (self.0 + 5, self.0 + 7)
    }
    pub(crate) fn postgres(self) -> (u16, u16) {
        (self.0 + 95, self.0 + 96)
    }
    /// Of a producer and of a consumer, where they are asked to serve metrics.
    pub(crate) fn metrics(self) -> (u16, u16) {
        (self.0 + 97, self.0 + 99)
    }
    /// The database that follows the first one, where there is one.
    pub(crate) fn standby(self) -> u16 {
        self.postgres().0 + 3
    }
}

pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// One broker with its proxies, or several without; and at most one database.
pub(crate) struct Services {
    pub(crate) folder: PathBuf,
    scripts: PathBuf,
    pub(crate) ports: Ports,
    pub(crate) nodes: u16,
    has_postgres: bool,
}

impl Services {
    /// Starts them on fresh data. `libs`: a folder of Kafka's jars that was fetched before, if there is one.
    pub(crate) fn start(
        folder: PathBuf,
        scripts: PathBuf,
        ports: Ports,
        nodes: u16,
        has_postgres: bool,
        libs: Option<&Path>,
    ) -> Result<Services> {
        fs::create_dir_all(folder.join("kafka")).context("making the services' folder")?;
        if let Some(libs) = libs.filter(|libs| libs.is_dir()) {
            let name = libs.file_name().context("a folder of jars has a name")?;
            let to = folder.join("kafka").join(name);
            if !to.exists() {
                // Hard links: the archive of classes that a clean stop leaves stays apart.
                let copied =
                    Command::new("cp").arg("-rl").args([libs, &to]).status().context("starting cp")?;
                ensure!(copied.success(), "the jars could not be linked");
                fs::remove_file(to.join("classes.jsa")).ok();
            }
        }
        let services = Services { folder, scripts, ports, nodes, has_postgres };
        services.kafka(&["reset"])?;
        let started = std::thread::scope(|scope| {
            let kafka = scope.spawn(|| services.kafka(&["start"]));
            if has_postgres {
                services.postgres(&["reset"])?;
                services.postgres(&["start"])?;
            }
            kafka.join().map_err(|_| anyhow::anyhow!("starting Kafka broke off"))?
        });
        started?;
        Ok(services)
    }

    pub(crate) fn script(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.scripts.join(name));
        command.args(arguments).stdin(Stdio::null()).env("MONMON_SERVICES_DIR", &self.folder);
        command.env("KAFKA_PORT", self.ports.0.to_string()).env("KAFKA_NODES", self.nodes.to_string());
        command.env("KAFKA_HEAP", "384m").env("KAFKA_EXTRA", self.kafka_lines());
        command.env("PG_PORT", self.ports.postgres().0.to_string()).env("PG_OPTS", "-c shared_buffers=64MB");
        command
    }

    /// Later lines of a properties file win over those of the script.
    fn kafka_lines(&self) -> String {
        if self.nodes > 1 {
            return "group.min.session.timeout.ms=3000".to_owned();
        }
        let (p, (producers, producers_proxy)) = (self.ports.0, self.ports.producers());
        let (consumers, consumers_proxy) = self.ports.consumers();
        let at = |name: &str, port: u16| format!("{name}://127.0.0.1:{port}");
        let base = format!("{},{},{}", at("PLAINTEXT", p), at("SSL", p + 1), at("SASL_SSL", p + 2));
        [
            format!(
                "listeners={base},{},{},{}",
                at("CONTROLLER", p + 3),
                at("PRODUCERS", producers),
                at("CONSUMERS", consumers)
            ),
            format!(
                "advertised.listeners={base},{},{}",
                at("PRODUCERS", producers_proxy),
                at("CONSUMERS", consumers_proxy)
            ),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,\
             PRODUCERS:PLAINTEXT,CONSUMERS:PLAINTEXT"
                .to_owned(),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            "super.users=User:ANONYMOUS".to_owned(),
            "allow.everyone.if.no.acl.found=true".to_owned(),
            // A login is asked for anew: a password that was changed is felt without a new connection.
            "listener.name.sasl_ssl.scram-sha-256.connections.max.reauth.ms=3000".to_owned(),
            "group.min.session.timeout.ms=3000".to_owned(),
            // A broker on a busy machine is not to shut itself out.
            "broker.session.timeout.ms=9000".to_owned(),
        ]
        .join("\n")
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let output = self.script(name, arguments).output().with_context(|| format!("starting {name}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{name} {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }

    pub(crate) fn kafka(&self, arguments: &[&str]) -> Result<String> {
        self.run("kafka.sh", arguments)
    }

    pub(crate) fn postgres(&self, arguments: &[&str]) -> Result<String> {
        self.run("postgres.sh", arguments)
    }

    pub(crate) fn brokers(&self) -> String {
        let all = (1..=self.nodes).map(|node| format!("127.0.0.1:{}", self.ports.kafka(node)));
        all.collect::<Vec<_>>().join(",")
    }

    pub(crate) fn tls_folder(&self) -> PathBuf {
        self.folder.join("kafka/tls")
    }

    pub(crate) fn broker_pid(&self, node: u16) -> Result<u32> {
        let path = self.folder.join(format!("kafka/node{node}/pid"));
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.trim().parse().context("the broker's pid")
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // They run on data that nobody needs any more.
        if self.has_postgres {
            self.postgres(&["reset"]).ok();
        }
        self.kafka(&["reset"]).ok();
    }
}

/// Waits until something holds; an error tells what did not come.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let (begun, patience) = (Instant::now(), patience());
    while !holds()? {
        ensure!(!is_interrupted(), "interrupted");
        ensure!(begun.elapsed() < patience, "no {what} within {patience:?}");
        std::thread::sleep(POLL);
    }
    Ok(())
}

/// From now on SIGINT and SIGTERM end the run in order.
pub(crate) fn hear_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("listening for signals")?;
    }
    Ok(())
}

pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

pub(crate) fn patience() -> Duration {
    Duration::from_secs(PATIENCE.load(Ordering::Relaxed))
}

pub(crate) fn set_patience(patience: Duration) {
    PATIENCE.store(patience.as_secs(), Ordering::Relaxed);
}

pub(crate) fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(&local(port), Duration::from_secs(1)).is_ok()
}
