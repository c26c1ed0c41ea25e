//! Where the servers of the testkit live: a thread with a runtime, and ports that stay theirs while nobody
//! listens on them.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::mpsc as std_mpsc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinSet,
};

/// Connections that one listener serves at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 20_000;
/// The kernel caps this at `net.core.somaxconn`.
const BACKLOG: u32 = 4_096;
/// How long a listener rests when the process has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(10);

/// A thread with a single-threaded runtime. Dropping it ends every task and closes every socket.
pub(crate) struct Host {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Host {
    pub(crate) fn start(name: &str) -> io::Result<Host> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            // An error means that the host is gone, which is the same order.
            runtime.block_on(stopped).ok();
        })?;
        Ok(Host { handle, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Accepts on `listener` until the answer is stopped or dropped.
    pub(crate) fn accept<S, F>(&self, listener: TcpListener, serve: S) -> Running
    where
        S: Fn(Accepted) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let (ended_sender, ended) = std_mpsc::sync_channel(0);
        self.handle.spawn(async move {
            // Moved in to be dropped last: its end is what `Running::stop` waits for.
            let _ended: std_mpsc::SyncSender<()> = ended_sender;
            accept_loop(listener, stopped, serve).await;
        });
        Running { stop: Some(stop), ended }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// A connection as the accept loop hands it on.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) at: Instant,
    pub(crate) wall: jiff::Timestamp,
}

/// A listener at work.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    ended: std_mpsc::Receiver<()>,
}

impl Running {
    /// Closes the listener and all its connections, and returns when they are closed.
    pub(crate) fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        // Nothing is ever sent: the error says that the task has ended.
        self.ended.recv().ok();
    }
}

async fn accept_loop<S, F>(listener: TcpListener, mut stopped: oneshot::Receiver<()>, serve: S)
where
    S: Fn(Accepted) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let full = connections.len() >= CONNECTIONS_MAX;
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            _ = connections.join_next(), if full => {}
            accepted = listener.accept(), if !full => match accepted {
                Ok((stream, peer)) => {
                    let accepted =
                        Accepted { stream, peer, at: Instant::now(), wall: jiff::Timestamp::now() };
                    connections.spawn(serve(accepted));
                }
                Err(_) => tokio::time::sleep(ACCEPT_REST).await,
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    connections.shutdown().await;
}

/// A port that is ours for as long as this lives, whether anybody listens on it or not.
///
/// Linux lets several sockets with `SO_REUSEADDR` bind one port while none of the others listens, and gives a
/// bound port to nobody else. So one socket that never listens keeps the port through an outage: a client is
/// refused, and no other program can slip in.
pub(crate) struct Port {
    _holder: TcpSocket,
    addr: SocketAddr,
}

impl Port {
    pub(crate) fn reserve(addr: SocketAddr) -> io::Result<Port> {
        let holder = bound(addr)?;
        let addr = holder.local_addr()?;
        Ok(Port { _holder: holder, addr })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn listen(&self, host: &Host) -> io::Result<TcpListener> {
        self.listen_with(host, BACKLOG)
    }

    pub(crate) fn listen_with(&self, host: &Host, backlog: u32) -> io::Result<TcpListener> {
        let _context = host.handle.enter();
        bound(self.addr)?.listen(backlog)
    }
}

fn bound(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}
