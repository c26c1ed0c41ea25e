//! A TCP proxy between a program and its server, to be cut, stopped and slowed while it runs.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use crate::host::{Host, Port, Running};

const BUFFER_BYTES: usize = 64 << 10;
/// A throttled direction moves so often in a second, and then as much as its rate allows.
const THROTTLE_STEPS: u64 = 20;

/// What the proxy does with its connections, those it has and those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    Pass,
    /// Connections are taken and kept, and nothing moves: no answer, no end, no reset.
    Blackhole,
    /// Connections are reset.
    Reset,
    /// Nobody listens; the connections that were there are reset.
    Refuse,
    /// Each connection is reset when exactly so many bytes more have gone this way.
    CutAfter {
        bytes: u64,
        way: Way,
    },
    /// Each direction of each connection moves so many bytes in a second.
    Throttle {
        bytes_per_second: u64,
    },
    /// Everything arrives later by this.
    Delay(Duration),
}

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// What has gone through a [`Proxy`] since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyCounters {
    pub accepted: u64,
    /// Connections that the server did not take.
    pub unreachable: u64,
    /// Connections that the proxy has reset, at once or in the middle.
    pub reset: u64,
    pub bytes_to_server: u64,
    pub bytes_to_client: u64,
}

/// A proxy for one server, on a port that stays its own for its lifetime.
pub struct Proxy {
    running: Option<Running>,
    port: Port,
    link: Arc<Link>,
    host: Host,
}

struct Link {
    server: SocketAddr,
    mode: watch::Sender<ProxyMode>,
    accepted: AtomicU64,
    unreachable: AtomicU64,
    reset: AtomicU64,
    bytes_to_server: AtomicU64,
    bytes_to_client: AtomicU64,
}

impl Proxy {
    /// Listens on a port that the kernel chooses, and passes.
    pub fn start(server: SocketAddr) -> io::Result<Proxy> {
        Proxy::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), server)
    }

    pub fn start_at(listen: SocketAddr, server: SocketAddr) -> io::Result<Proxy> {
        let host = Host::start("proxy")?;
        let port = Port::reserve(listen)?;
        let link = Arc::new(Link {
            server,
            mode: watch::Sender::new(ProxyMode::Pass),
            accepted: AtomicU64::new(0),
            unreachable: AtomicU64::new(0),
            reset: AtomicU64::new(0),
            bytes_to_server: AtomicU64::new(0),
            bytes_to_client: AtomicU64::new(0),
        });
        let mut proxy = Proxy { running: None, port, link, host };
        proxy.listen()?;
        Ok(proxy)
    }

    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    pub fn mode(&self) -> ProxyMode {
        *self.link.mode.borrow()
    }

    /// Changes what happens, also to the connections that are open.
    pub fn set(&mut self, mode: ProxyMode) -> io::Result<()> {
        self.link.mode.send_replace(mode);
        if mode != ProxyMode::Refuse {
            return self.listen();
        }
        if let Some(running) = self.running.take() {
            running.stop();
        }
        Ok(())
    }

    pub fn counters(&self) -> ProxyCounters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProxyCounters {
            accepted: count(&self.link.accepted),
            unreachable: count(&self.link.unreachable),
            reset: count(&self.link.reset),
            bytes_to_server: count(&self.link.bytes_to_server),
            bytes_to_client: count(&self.link.bytes_to_client),
        }
    }

    fn listen(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let listener = self.port.listen(&self.host)?;
        let link = Arc::clone(&self.link);
        self.running = Some(self.host.accept(listener, move |accepted| {
            link.accepted.fetch_add(1, Ordering::Relaxed);
            connection(Arc::clone(&link), accepted.stream)
        }));
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

/// Counts and does the reset, also when the task is dropped because the listener closes.
struct Client<'a> {
    stream: TcpStream,
    link: &'a Link,
    ended_well: bool,
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        if !self.ended_well {
            // An error means that the client has gone already.
            self.stream.set_zero_linger().ok();
            self.link.reset.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn connection(link: Arc<Link>, stream: TcpStream) {
    let mut client = Client { stream, link: &link, ended_well: false };
    let mut mode = link.mode.subscribe();
    let moving = mode.wait_for(|mode| *mode != ProxyMode::Blackhole).await.map(|mode| *mode);
    if !matches!(moving, Ok(mode) if !matches!(mode, ProxyMode::Reset | ProxyMode::Refuse)) {
        return;
    }
    let Ok(mut server) = TcpStream::connect(link.server).await else {
        link.unreachable.fetch_add(1, Ordering::Relaxed);
        return;
    };
    // The proxy must add no delay of its own; errors show at the first read.
    client.stream.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let ended = {
        let (from_client, to_client) = client.stream.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            pump(&link, Way::ToServer, from_client, to_server),
            pump(&link, Way::ToClient, from_server, to_client),
        )
    };
    client.ended_well = ended.is_ok();
    if ended.is_err() {
        server.set_zero_linger().ok();
    }
}

/// Moves one direction until its end. An error is a reset, of either side or by order.
async fn pump(
    link: &Link,
    way: Way,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let counter = match way {
        Way::ToServer => &link.bytes_to_server,
        Way::ToClient => &link.bytes_to_client,
    };
    let mut modes = link.mode.subscribe();
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut start, mut end) = (0, 0);
    // Since the mode was set.
    let mut moved: u64 = 0;
    let mut mode = *modes.borrow_and_update();
    loop {
        let allowed = match mode {
            ProxyMode::Reset | ProxyMode::Refuse => return Err(io::ErrorKind::ConnectionReset.into()),
            ProxyMode::Blackhole => 0,
            ProxyMode::Pass | ProxyMode::Delay(_) => BUFFER_BYTES as u64,
            ProxyMode::CutAfter { bytes, way: cut } if cut == way => match bytes.saturating_sub(moved) {
                0 => return Err(io::ErrorKind::ConnectionReset.into()),
                left => left,
            },
            ProxyMode::CutAfter { .. } => BUFFER_BYTES as u64,
            ProxyMode::Throttle { bytes_per_second } => (bytes_per_second / THROTTLE_STEPS).max(1),
        };
        let allowed = usize::try_from(allowed).unwrap_or(BUFFER_BYTES);
        let step = async {
            if allowed == 0 {
                return std::future::pending().await;
            }
            if start == end {
                return from.read(&mut buffer).await.map(Step::Read);
            }
            match mode {
                ProxyMode::Delay(delay) => tokio::time::sleep(delay).await,
                ProxyMode::Throttle { .. } => {
                    tokio::time::sleep(Duration::from_secs(1) / THROTTLE_STEPS as u32).await;
                }
                _ => {}
            }
            let part = allowed.min(end - start);
            to.write(&buffer[start..start + part]).await.map(Step::Written)
        };
        // Reading and writing are safe to drop half-way: they have then moved nothing.
        tokio::select! {
            biased;
            changed = modes.changed() => {
                changed.map_err(io::Error::other)?;
                (mode, moved) = (*modes.borrow_and_update(), 0);
            }
            step = step => match step? {
                Step::Read(0) => return to.shutdown().await,
                Step::Read(bytes) => (start, end) = (0, bytes),
                Step::Written(bytes) => {
                    start += bytes;
                    moved += bytes as u64;
                    counter.fetch_add(bytes as u64, Ordering::Relaxed);
                }
            }
        }
    }
}

enum Step {
    Read(usize),
    Written(usize),
}
