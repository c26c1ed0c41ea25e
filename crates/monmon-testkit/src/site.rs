//! An honest HTTP/1.1 site, plain or TLS, whose access log is the oracle of whole-program tests.

mod answer;
mod connection;
mod demo;
mod log;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, RwLock},
    time::Duration,
};

use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

use crate::{
    certs::Tls,
    host::{Accepted, Host, Port, Running},
};

pub use answer::Answer;
pub(crate) use answer::{gzip, html_page};
pub use demo::DEMO_PAGE_BYTES;
pub use log::Hit;

use log::AccessLog;

/// How a [`Site`] is set up.
#[derive(Clone)]
pub struct SiteOptions {
    /// Port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// With it the site speaks HTTPS.
    pub tls: Option<Arc<ServerConfig>>,
    /// One JSON object is appended here for each request, at its end.
    pub access_log: Option<PathBuf>,
    /// Requests kept in memory; further ones are counted, and written to the file, but not kept.
    pub hits_max: usize,
    /// Answer the paths of the demo site (`/`, `/page/…`, `/bytes/N`, `/status/N`, `/slow/MS`, `/gzip/N`,
    /// `/redirect/N`) where nothing else is set.
    pub demo: bool,
}

impl Default for SiteOptions {
    fn default() -> SiteOptions {
        SiteOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            access_log: None,
            hits_max: 1_000_000,
            demo: false,
        }
    }
}

/// A site on loopback. Its pages can be changed while it runs; it can be stopped and started on its port.
pub struct Site {
    // Fields drop in order: the listener ends before its runtime does.
    running: Option<Running>,
    port: Port,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    host: Host,
}

/// What the connections see of the site.
pub(crate) struct Shared {
    pages: RwLock<Pages>,
    log: AccessLog,
}

#[derive(Default)]
struct Pages {
    exact: BTreeMap<String, Arc<answer::Reply>>,
    below: BTreeMap<String, Arc<answer::Reply>>,
    demo: Option<demo::Demo>,
}

impl Site {
    /// A plain site with one page at `/`.
    pub fn start() -> io::Result<Site> {
        Site::with(SiteOptions::default())
    }

    /// An HTTPS site whose certificate `tls` has signed for `localhost`, `site.test` and the loopback
    /// addresses.
    pub fn start_tls(tls: &Tls) -> io::Result<Site> {
        let config = tls.loopback_server()?.server_config()?;
        Site::with(SiteOptions { tls: Some(config), ..SiteOptions::default() })
    }

    pub fn with(options: SiteOptions) -> io::Result<Site> {
        let host = Host::start("site")?;
        let port = Port::reserve(options.listen)?;
        let log = AccessLog::open(options.access_log.as_deref(), options.hits_max)?;
        let demo = options.demo.then(demo::Demo::new);
        let pages = RwLock::new(Pages { demo, ..Pages::default() });
        let shared = Arc::new(Shared { pages, log });
        let tls = options.tls.map(TlsAcceptor::from);
        let mut site = Site { running: None, port, shared, tls, host };
        site.set("/", Answer::html("monmon test site", 1_024));
        site.resume()?;
        Ok(site)
    }

    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The URL of a path on this site, by its address.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.port.addr())
    }

    /// From now on `path` (without its query) is answered so.
    pub fn set(&self, path: &str, answer: Answer) {
        self.pages_mut(|pages| pages.exact.insert(path.to_owned(), Arc::new(answer.into_reply())));
    }

    /// From now on every path that begins with `prefix`, and is not set itself, is answered so.
    pub fn set_below(&self, prefix: &str, answer: Answer) {
        self.pages_mut(|pages| pages.below.insert(prefix.to_owned(), Arc::new(answer.into_reply())));
    }

    /// From now on `path` is not found.
    pub fn remove(&self, path: &str) {
        self.pages_mut(|pages| {
            pages.exact.remove(path);
            pages.below.remove(path)
        });
    }

    /// An outage: closes the listener and all connections. Whoever connects is refused; the port stays ours.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }

    /// Ends the outage, on the same port.
    pub fn resume(&mut self) -> io::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let listener = self.port.listen(&self.host)?;
        let (shared, tls) = (Arc::clone(&self.shared), self.tls.clone());
        self.running = Some(
            self.host.accept(listener, move |accepted| serve(Arc::clone(&shared), tls.clone(), accepted)),
        );
        Ok(())
    }

    /// The requests since the start or the last [`Site::clear`], in the order of their arrival. Those that
    /// are still being answered are among them.
    pub fn hits(&self) -> Vec<Hit> {
        self.shared.log.hits()
    }

    /// The requests for one path.
    pub fn hits_of(&self, path: &str) -> Vec<Hit> {
        self.shared.log.hits().into_iter().filter(|hit| hit.path == path).collect()
    }

    /// How many requests there were since the start, kept or not. [`Site::clear`] does not change it.
    pub fn count(&self) -> u64 {
        self.shared.log.count()
    }

    /// Forgets the requests in memory; the file keeps them.
    pub fn clear(&self) {
        self.shared.log.clear();
    }

    /// Waits until [`Site::count`] has reached `count`; false if it has not within this real time, even if
    /// the caller's clock is paused.
    pub async fn reached(&self, count: u64, within: Duration) -> bool {
        let mut counts = self.shared.log.counts();
        let waiting = self.host.handle().spawn(async move {
            tokio::time::timeout(within, counts.wait_for(|now| *now >= count)).await.is_ok_and(|r| r.is_ok())
        });
        waiting.await.unwrap_or(false)
    }

    fn pages_mut<T>(&self, change: impl FnOnce(&mut Pages) -> T) {
        change(&mut self.shared.pages.write().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn reply(&self, path: &str) -> Option<Arc<answer::Reply>> {
        let pages = self.pages.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(reply) = pages.exact.get(path) {
            return Some(Arc::clone(reply));
        }
        let below = pages.below.iter().filter(|(prefix, _)| path.starts_with(prefix.as_str()));
        if let Some((_, reply)) = below.max_by_key(|(prefix, _)| prefix.len()) {
            return Some(Arc::clone(reply));
        }
        pages.demo.as_ref().and_then(|demo| demo.reply(path))
    }
}

async fn serve(shared: Arc<Shared>, tls: Option<TlsAcceptor>, accepted: Accepted) {
    let Accepted { stream, peer, at, wall } = accepted;
    let visitor = connection::Visitor { peer_port: peer.port(), accepted: at, accepted_at: wall };
    // A broken connection is the client's affair; the log says how much it got.
    match tls {
        None => connection::serve(&shared, stream, visitor).await.ok(),
        Some(tls) => match tls.accept(stream).await {
            Ok(stream) => connection::serve(&shared, stream, visitor).await.ok(),
            Err(_) => None,
        },
    };
}
