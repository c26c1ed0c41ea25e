//! A site with one listener for every way in which a server can go wrong.

mod behaviour;
mod bytes;
mod talk;
mod tls;

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
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    certs::Tls,
    host::{Host, Port, Running},
    site::{Answer, Site},
};

pub use behaviour::{Behaviour, Expected};
pub use bytes::HOSTILE_PAGE_TITLE;

use tls::Handshakes;

/// Connections that fill the queue of a listener with a backlog of zero. The kernel takes one more than the
/// backlog says; the others make sure.
const BACKLOG_FILLERS: usize = 4;
/// How long a filler is waited for: on loopback a connection that can be made is made at once.
const BACKLOG_FILL_WAIT: Duration = Duration::from_millis(200);

/// Every [`Behaviour`] asked for, each on a port of its own.
pub struct HostileSite {
    doors: Vec<Door>,
    tls: Tls,
    other_origin: Site,
    // Last, since the doors' tasks live in it.
    _host: Host,
}

struct Door {
    behaviour: Behaviour,
    port: Port,
    seen: watch::Receiver<u64>,
    sent: Arc<AtomicU64>,
    _guard: Guard,
}

/// What keeps a door as it is.
enum Guard {
    Closed,
    Full { _listener: TcpListener, _fillers: Vec<TcpStream> },
    Open { _running: Running },
}

/// What a connection's task knows.
pub(crate) struct Context {
    handshakes: Handshakes,
    other_origin: String,
}

impl HostileSite {
    /// All of [`Behaviour::ALL`].
    pub fn start() -> io::Result<HostileSite> {
        HostileSite::with(Behaviour::ALL)
    }

    pub fn with(behaviours: &[Behaviour]) -> io::Result<HostileSite> {
        let host = Host::start("hostile-site")?;
        let tls = Tls::new("hostile site's authority")?;
        let other_origin = Site::start()?;
        other_origin.set("/landed", Answer::html(HOSTILE_PAGE_TITLE, 1_024));
        let context = Arc::new(Context {
            handshakes: Handshakes::new(&tls, behaviours)?,
            other_origin: other_origin.url("/landed"),
        });
        let doors = behaviours
            .iter()
            .map(|behaviour| Door::open(*behaviour, &host, &context))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(HostileSite { doors, tls, other_origin, _host: host })
    }

    /// Where this behaviour is to be met; `None` if the site was started without it.
    pub fn addr(&self, behaviour: Behaviour) -> Option<SocketAddr> {
        self.door(behaviour).map(|door| door.port.addr())
    }

    /// The URL to check, by address. Certificates are for `127.0.0.1`, `localhost` and `site.test`.
    pub fn url(&self, behaviour: Behaviour) -> Option<String> {
        self.addr(behaviour).map(|addr| format!("{}://{addr}/", behaviour.scheme()))
    }

    /// The URL by a name, for a prober whose resolver leads that name to loopback.
    pub fn url_at(&self, behaviour: Behaviour, name: &str) -> Option<String> {
        self.addr(behaviour).map(|addr| format!("{}://{name}:{}/", behaviour.scheme(), addr.port()))
    }

    /// Connections that this behaviour has accepted: the proof that the fault happened. The kernel deals with
    /// those of the two `Connect…` behaviours, so they count none.
    pub fn connections(&self, behaviour: Behaviour) -> u64 {
        self.door(behaviour).map_or(0, |door| *door.seen.borrow())
    }

    /// Bytes that this behaviour has handed to the kernel.
    pub fn sent_bytes(&self, behaviour: Behaviour) -> u64 {
        self.door(behaviour).map_or(0, |door| door.sent.load(Ordering::Relaxed))
    }

    /// The authority that has signed what is signed, for the prober to trust.
    pub fn ca_pem(&self) -> &str {
        self.tls.ca_pem()
    }

    /// Where [`Behaviour::RedirectOtherOrigin`] leads.
    pub fn other_origin(&self) -> &Site {
        &self.other_origin
    }

    fn door(&self, behaviour: Behaviour) -> Option<&Door> {
        self.doors.iter().find(|door| door.behaviour == behaviour)
    }
}

impl Door {
    fn open(behaviour: Behaviour, host: &Host, context: &Arc<Context>) -> io::Result<Door> {
        let port = Port::reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let (seen_sender, seen) = watch::channel(0);
        let sent = Arc::new(AtomicU64::new(0));
        let guard = match behaviour {
            Behaviour::ConnectRefused => Guard::Closed,
            Behaviour::ConnectBlackhole => full(host, &port)?,
            _ => {
                let (context, sent) = (Arc::clone(context), Arc::clone(&sent));
                let running = host.accept(port.listen(host)?, move |accepted| {
                    seen_sender.send_modify(|seen| *seen += 1);
                    talk::serve(behaviour, Arc::clone(&context), accepted.stream, Arc::clone(&sent))
                });
                Guard::Open { _running: running }
            }
        };
        Ok(Door { behaviour, port, seen, sent, _guard: guard })
    }
}

/// A listener that nobody accepts from and whose queue is full: Linux then drops what would open a
/// connection, as a firewall would.
fn full(host: &Host, port: &Port) -> io::Result<Guard> {
    let listener = port.listen_with(host, 0)?;
    let addr = port.addr();
    let (fillers_sender, fillers) = std::sync::mpsc::sync_channel(1);
    host.handle().spawn(async move {
        let mut fillers = Vec::new();
        for _ in 0..BACKLOG_FILLERS {
            match tokio::time::timeout(BACKLOG_FILL_WAIT, TcpStream::connect(addr)).await {
                Ok(Ok(stream)) => fillers.push(stream),
                // Not answered: the queue is full.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        fillers_sender.send(fillers).ok();
    });
    let fillers = fillers.recv().map_err(io::Error::other)?;
    Ok(Guard::Full { _listener: listener, _fillers: fillers })
}
