//! Proxies that sites are asked through: HTTP (tunnels, and whole requests) and SOCKS5.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::host::{Host, Running};

/// The largest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How many requests are kept in the log.
const LOG_MAX: usize = 10_000;

/// What a proxy does with what it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ForwardMode {
    #[default]
    Forward,
    /// An HTTP proxy says this status, a SOCKS proxy this code.
    Refuse(u16),
    Hang,
    Close,
    Garbage,
}

/// A forward proxy on loopback.
pub struct ForwardProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    // Fields drop in order: the listener ends before its runtime does.
    _running: Running,
    _host: Host,
}

struct Shared {
    user: Option<(String, String)>,
    mode: Mutex<ForwardMode>,
    log: Mutex<Vec<String>>,
}

#[derive(Clone, Copy)]
enum Speaks {
    Http,
    Socks,
}

impl ForwardProxy {
    /// `user`: who may use it; anybody where there is none.
    pub fn http(user: Option<(&str, &str)>) -> io::Result<ForwardProxy> {
        ForwardProxy::start(user, Speaks::Http)
    }

    pub fn socks(user: Option<(&str, &str)>) -> io::Result<ForwardProxy> {
        ForwardProxy::start(user, Speaks::Socks)
    }

    fn start(user: Option<(&str, &str)>, speaks: Speaks) -> io::Result<ForwardProxy> {
        let host = Host::start("test-forward")?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let entered = host.handle().enter();
        let listener = TcpListener::from_std(listener)?;
        drop(entered);
        let shared = Arc::new(Shared {
            user: user.map(|(user, password)| (user.to_owned(), password.to_owned())),
            mode: Mutex::default(),
            log: Mutex::default(),
        });
        let of_connections = Arc::clone(&shared);
        let running = host.accept(listener, move |accepted| {
            let shared = Arc::clone(&of_connections);
            async move {
                // A client or a target that goes away is no fault of the proxy's.
                match speaks {
                    Speaks::Http => serve_http(accepted.stream, &shared).await.ok(),
                    Speaks::Socks => serve_socks(accepted.stream, &shared).await.ok(),
                };
            }
        });
        Ok(ForwardProxy { address, shared, _running: running, _host: host })
    }

    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    pub fn set_mode(&self, mode: ForwardMode) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// What was asked for: `CONNECT host:port`, `GET http://...`, `address 127.0.0.1:80`, `name localhost:80`.
    pub fn asked(&self) -> Vec<String> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn note(&self, what: String) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.len() < LOG_MAX {
            log.push(what);
        }
    }

    fn mode(&self) -> ForwardMode {
        self.mode.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err(io::Error::other("the head is too large"));
        }
        head.push(stream.read_u8().await?);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

async fn serve_http(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let head = head(&mut stream).await?;
    let (first, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    shared.note(format!("{method} {target}"));
    let header = |name: &str| {
        rest.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    if let Some((user, password)) = &shared.user {
        let wanted = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
        if header("proxy-authorization").as_deref() != Some(wanted.as_str()) {
            let reply = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                         proxy-authenticate: Basic realm=\"test\"\r\ncontent-length: 0\r\n\r\n";
            return stream.write_all(reply.as_bytes()).await;
        }
    }
    match shared.mode() {
        ForwardMode::Forward => {}
        ForwardMode::Refuse(status) => {
            let reply = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
            return stream.write_all(reply.as_bytes()).await;
        }
        ForwardMode::Hang => std::future::pending().await,
        ForwardMode::Close => return Ok(()),
        ForwardMode::Garbage => return stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await,
    }
    if method == "CONNECT" {
        let mut site = TcpStream::connect(target).await?;
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
        copy_bidirectional(&mut stream, &mut site).await?;
        return Ok(());
    }
    let plain = target.strip_prefix("http://").unwrap_or_default();
    let (authority, path) = plain.split_once('/').unwrap_or((plain, ""));
    let address = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    let mut site = TcpStream::connect(address).await?;
    let kept: String = rest
        .split("\r\n")
        .filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("proxy-"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    site.write_all(format!("{method} /{path} HTTP/1.1\r\n{kept}via: 1.1 test\r\n\r\n").as_bytes()).await?;
    copy_bidirectional(&mut stream, &mut site).await?;
    Ok(())
}

/// RFC 1928, and RFC 1929 where there is a user.
async fn serve_socks(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await?;
    let mut methods = vec![0; usize::from(greeting[1])];
    stream.read_exact(&mut methods).await?;
    match shared.mode() {
        ForwardMode::Hang => std::future::pending().await,
        ForwardMode::Close => return Ok(()),
        ForwardMode::Garbage => return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await,
        _ => {}
    }
    let method = if shared.user.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        return stream.write_all(&[5, 0xff]).await;
    }
    stream.write_all(&[5, method]).await?;
    if let Some((user, password)) = &shared.user {
        stream.read_u8().await?;
        let given = (text(&mut stream).await?, text(&mut stream).await?);
        let right = given == (user.clone(), password.clone());
        stream.write_all(&[1, u8::from(!right)]).await?;
        if !right {
            return Ok(());
        }
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    let (host, as_name) = match request[3] {
        1 => (IpAddr::from(Ipv4Addr::from(stream.read_u32().await?)).to_string(), false),
        4 => (IpAddr::from(Ipv6Addr::from(stream.read_u128().await?)).to_string(), false),
        _ => (text(&mut stream).await?, true),
    };
    let port = stream.read_u16().await?;
    shared.note(format!("{} {host}:{port}", if as_name { "name" } else { "address" }));
    let reply = |code: u8| [5, code, 0, 1, 0, 0, 0, 0, 0, 0];
    if let ForwardMode::Refuse(code) = shared.mode() {
        return stream.write_all(&reply(u8::try_from(code).unwrap_or(1))).await;
    }
    let Ok(mut site) = TcpStream::connect((host.as_str(), port)).await else {
        return stream.write_all(&reply(5)).await;
    };
    stream.write_all(&reply(0)).await?;
    copy_bidirectional(&mut stream, &mut site).await?;
    Ok(())
}

async fn text(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut bytes).await?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
