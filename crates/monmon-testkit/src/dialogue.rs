//! Servers of other protocols than HTTP: a script of lines that may go over to TLS, and a WebSocket echo.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

use crate::Identity;
use crate::host::{Host, Running};

/// How much a client may say before the script goes on.
const HEARD_BYTES_MAX: usize = 64 * 1024;

/// One line of a script.
#[derive(Clone, Debug)]
pub enum Line {
    Say(Vec<u8>),
    /// Waits until the client's words end like this.
    Hear(Vec<u8>),
    StartTls,
    Hang,
    /// Gives back whatever comes.
    Echo,
}

impl Line {
    pub fn say(text: &str) -> Line {
        Line::Say(text.as_bytes().to_vec())
    }

    pub fn hear(text: &str) -> Line {
        Line::Hear(text.as_bytes().to_vec())
    }
}

/// What a WebSocket server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketMode {
    Echo,
    /// Answers pings, and no message.
    Mute,
    /// An answer of HTTP in place of the handshake's.
    Refuse(u16),
    /// A key that answers another request.
    WrongKey,
    /// Hangs up after the handshake.
    Close,
}

#[derive(Clone)]
enum Part {
    Script(Arc<[Line]>),
    WebSocket(WebSocketMode),
}

/// A server on loopback, one script for every connection.
pub struct Dialogue {
    address: SocketAddr,
    // Fields drop in order: the listener ends before its runtime does.
    _running: Running,
    _host: Host,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Dialogue {
    /// `identity`: what is shown where the script goes over to TLS.
    pub fn script(lines: Vec<Line>, identity: Option<&Identity>) -> io::Result<Dialogue> {
        Dialogue::start(Part::Script(lines.into()), identity, false)
    }

    /// With an identity the connection begins with TLS.
    pub fn web_socket(mode: WebSocketMode, identity: Option<&Identity>) -> io::Result<Dialogue> {
        Dialogue::start(Part::WebSocket(mode), identity, identity.is_some())
    }

    fn start(part: Part, identity: Option<&Identity>, at_once: bool) -> io::Result<Dialogue> {
        let host = Host::start("test-dialogue")?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let entered = host.handle().enter();
        let listener = TcpListener::from_std(listener)?;
        drop(entered);
        let acceptor = match identity {
            Some(identity) => Some(TlsAcceptor::from(identity.server_config()?)),
            None => None,
        };
        let running = host.accept(listener, move |accepted| {
            let (part, acceptor) = (part.clone(), acceptor.clone());
            async move {
                // A client that goes away is no fault of the server's.
                serve(accepted.stream, part, acceptor, at_once).await.ok();
            }
        });
        Ok(Dialogue { address, _running: running, _host: host })
    }

    pub fn addr(&self) -> SocketAddr {
        self.address
    }
}

async fn serve(
    stream: TcpStream,
    part: Part,
    acceptor: Option<TlsAcceptor>,
    at_once: bool,
) -> io::Result<()> {
    let mut stream: Box<dyn Wire> = Box::new(stream);
    if at_once && let Some(acceptor) = &acceptor {
        stream = Box::new(acceptor.accept(stream).await?);
    }
    match part {
        Part::WebSocket(mode) => web_socket(stream, mode).await,
        Part::Script(lines) => play(stream, &lines, acceptor).await,
    }
}

async fn play(mut stream: Box<dyn Wire>, lines: &[Line], acceptor: Option<TlsAcceptor>) -> io::Result<()> {
    for line in lines {
        match line {
            Line::Say(bytes) => {
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
            Line::Hear(end) => {
                let mut heard = Vec::new();
                while !heard.ends_with(end) {
                    if heard.len() >= HEARD_BYTES_MAX {
                        return Err(io::Error::other("the client says too much"));
                    }
                    heard.push(stream.read_u8().await?);
                }
            }
            Line::StartTls => {
                let acceptor = acceptor.as_ref().ok_or_else(|| io::Error::other("no identity"))?;
                stream = Box::new(acceptor.accept(stream).await?);
            }
            Line::Hang => std::future::pending().await,
            Line::Echo => {
                let mut buffer = [0; 4096];
                loop {
                    let read = stream.read(&mut buffer).await?;
                    if read == 0 {
                        return Ok(());
                    }
                    stream.write_all(&buffer[..read]).await?;
                    stream.flush().await?;
                }
            }
        }
    }
    // The client has what was said, and hangs up first.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn web_socket(mut stream: Box<dyn Wire>, mode: WebSocketMode) -> io::Result<()> {
    if let WebSocketMode::Refuse(_) | WebSocketMode::WrongKey = mode {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= HEARD_BYTES_MAX {
                return Err(io::Error::other("the head is too large"));
            }
            head.push(stream.read_u8().await?);
        }
        let reply = match mode {
            WebSocketMode::Refuse(status) => format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n"),
            _ => "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                  sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                .to_owned(),
        };
        return stream.write_all(reply.as_bytes()).await;
    }
    let mut socket = accept_async(stream).await.map_err(io::Error::other)?;
    if mode == WebSocketMode::Close {
        return socket.close(None).await.map_err(io::Error::other);
    }
    while let Some(message) = socket.next().await {
        let message = message.map_err(io::Error::other)?;
        if mode == WebSocketMode::Echo && matches!(message, Message::Text(_) | Message::Binary(_)) {
            socket.send(message).await.map_err(io::Error::other)?;
        }
    }
    Ok(())
}
