//! One connection to a behaviour.

use std::{
    future::pending,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};

use super::{Behaviour, Context, bytes, tls};

/// Between two bytes of a drip: no reader that waits for the next byte alone ever times out.
const DRIP: Duration = Duration::from_millis(50);
/// Far longer than a busy machine keeps a client from its turn.
const FIRST_BYTE_WAIT: Duration = Duration::from_secs(2);
const REQUEST_BYTES_MAX: usize = 64 << 10;
/// How much is flooded at a time.
const FLOOD_BYTES: usize = 64 << 10;
const HEADER_BYTES: usize = 8 << 10;
/// The end of "endless", so that a client without a bound fills a disk or memory and not the whole day.
const ENDLESS_BYTES_MAX: u64 = 64 << 30;
const OVERSIZE_BYTES: u64 = 1 << 30;

pub(crate) async fn serve(
    behaviour: Behaviour,
    context: Arc<Context>,
    stream: TcpStream,
    sent: Arc<AtomicU64>,
) {
    // Without it the drips would be joined; an error means that the client has gone.
    stream.set_nodelay(true).ok();
    let drip = behaviour == Behaviour::TlsDrip;
    let stream = Counted { stream, sent, drip: drip.then(|| Box::pin(tokio::time::sleep(DRIP))) };
    // The client may go away at any moment: that is its right.
    match context.handshakes.acceptor(behaviour) {
        Some(acceptor) => over_tls(behaviour, acceptor, stream).await.ok(),
        None if behaviour.scheme() == "https" => broken_tls(behaviour, stream).await.ok(),
        None => plain(behaviour, &context, stream).await.ok(),
    };
}

async fn over_tls(
    behaviour: Behaviour,
    acceptor: &tokio_rustls::TlsAcceptor,
    stream: Counted,
) -> io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    read_request(&mut stream).await?;
    stream.write_all(&bytes::whole(behaviour).unwrap_or_else(bytes::good)).await?;
    stream.flush().await?;
    match behaviour {
        // Dropped without a word.
        Behaviour::TlsNoCloseNotify | Behaviour::TlsTruncated => Ok(()),
        _ => stream.shutdown().await,
    }
}

async fn broken_tls(behaviour: Behaviour, mut stream: Counted) -> io::Result<()> {
    let mut hello = [0; 16 << 10];
    let hello_bytes = stream.read(&mut hello).await?;
    if hello_bytes == 0 {
        return Ok(());
    }
    match behaviour {
        Behaviour::TlsOld => stream.write_all(&tls::old_hello()).await?,
        Behaviour::TlsVersionAlert => stream.write_all(tls::ALERT_PROTOCOL_VERSION).await?,
        Behaviour::TlsAlert => stream.write_all(tls::ALERT_HANDSHAKE_FAILURE).await?,
        Behaviour::TlsPlaintext => stream.write_all(&bytes::good()).await?,
        Behaviour::TlsHang => pending().await,
        Behaviour::TlsReset => return stream.stream.set_zero_linger(),
        _ => {}
    }
    close(stream).await
}

async fn plain(behaviour: Behaviour, context: &Context, mut stream: Counted) -> io::Result<()> {
    match behaviour {
        Behaviour::AcceptReset => {
            // At once it could come before the client knows that it is connected. So it waits for the first
            // byte, which it does not take, or for a client that only connects.
            tokio::time::timeout(FIRST_BYTE_WAIT, stream.stream.peek(&mut [0])).await.ok();
            return stream.stream.set_zero_linger();
        }
        Behaviour::AcceptClose => return close(stream).await,
        Behaviour::AcceptSilence => pending().await,
        Behaviour::SshBanner | Behaviour::ReplyFirst => {
            stream.write_all(&bytes::whole(behaviour).unwrap_or_else(bytes::good)).await?;
            read_request(&mut stream).await?;
            return close(stream).await;
        }
        _ => {}
    }
    let path = read_request(&mut stream).await?;
    if let Some(reply) = bytes::whole(behaviour) {
        stream.write_all(&reply).await?;
        return match behaviour {
            // A reset throws away what was not sent, but a page of this size is in the client's queue by now:
            // loopback hands it over within `write`.
            Behaviour::BodyReset | Behaviour::ResetAfterEnd => stream.stream.set_zero_linger(),
            Behaviour::SlowClose => pending().await,
            _ => close(stream).await,
        };
    }
    match behaviour {
        Behaviour::RequestReset => return stream.stream.set_zero_linger(),
        Behaviour::HeadSilence => pending().await,
        Behaviour::HeadStall => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
            pending().await
        }
        Behaviour::HeadDrip => drip(&mut stream, b"HTTP/1.1 200 OK\r\nx-drip: ").await?,
        Behaviour::EndlessHeaders
        | Behaviour::EndlessHeaderValue
        | Behaviour::EndlessReason
        | Behaviour::Endless100
        | Behaviour::Endless103 => endless_head(behaviour, &mut stream).await?,
        Behaviour::RedirectFive | Behaviour::RedirectFifty => {
            stream.write_all(&hop(behaviour, &path)).await?;
        }
        Behaviour::RedirectOtherOrigin => stream.write_all(&bytes::to(&context.other_origin)).await?,
        Behaviour::RedirectRelative if path == "/" => {
            stream.write_all(&bytes::to("below/../landed?q=1#top")).await?;
        }
        Behaviour::RedirectEndlessBody if path == "/" => {
            stream.write_all(b"HTTP/1.1 302 Found\r\nlocation: /landed\r\n\r\n").await?;
            flood(&mut stream, b"<p>moved</p>\n", ENDLESS_BYTES_MAX).await?;
        }
        Behaviour::RedirectRelative | Behaviour::RedirectEndlessBody => {
            stream.write_all(&bytes::good()).await?;
        }
        _ => endless_body(behaviour, &mut stream).await?,
    }
    close(stream).await
}

async fn endless_head(behaviour: Behaviour, stream: &mut Counted) -> io::Result<()> {
    let (start, again) = match behaviour {
        Behaviour::EndlessHeaders => {
            ("HTTP/1.1 200 OK\r\n", format!("x-endless: {}\r\n", "e".repeat(HEADER_BYTES)))
        }
        Behaviour::EndlessHeaderValue => ("HTTP/1.1 200 OK\r\nx-endless: ", "e".repeat(HEADER_BYTES)),
        Behaviour::EndlessReason => ("HTTP/1.1 200 ", "OK ".repeat(HEADER_BYTES)),
        Behaviour::Endless100 => ("", "HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
        _ => ("", "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n".to_owned()),
    };
    stream.write_all(start.as_bytes()).await?;
    flood(stream, again.as_bytes(), ENDLESS_BYTES_MAX).await
}

async fn endless_body(behaviour: Behaviour, stream: &mut Counted) -> io::Result<()> {
    let page = bytes::page();
    let announced = |length: u64| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let stall = match behaviour {
        Behaviour::BodyStall => Some((page.len() as u64 * 2, &page[..])),
        Behaviour::BodyStallAtLast => Some((page.len() as u64, &page[..page.len() - 1])),
        _ => None,
    };
    if let Some((length, part)) = stall {
        stream.write_all(&bytes::head_and_body(&announced(length), part)).await?;
        return pending().await;
    }
    match behaviour {
        Behaviour::BodyDrip => {
            stream.write_all(announced(OVERSIZE_BYTES).as_bytes()).await?;
            drip(stream, &page).await
        }
        Behaviour::BodyOversize => {
            let rest = OVERSIZE_BYTES - page.len() as u64;
            stream.write_all(&bytes::head_and_body(&announced(OVERSIZE_BYTES), &page)).await?;
            flood(stream, b"x", rest).await
        }
        Behaviour::ChunkExtensionFlood => {
            stream.write_all(chunked.as_bytes()).await?;
            stream.write_all(b"5;extension=").await?;
            flood(stream, b"e", ENDLESS_BYTES_MAX).await
        }
        Behaviour::TrailerFlood => {
            stream.write_all(chunked.as_bytes()).await?;
            stream.write_all(b"5\r\nhello\r\n0\r\n").await?;
            flood(stream, b"x-trailer: more\r\n", ENDLESS_BYTES_MAX).await
        }
        Behaviour::BodyEndless => {
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            stream.write_all(&bytes::head_and_body(head, &page)).await?;
            flood(stream, b"x", ENDLESS_BYTES_MAX).await
        }
        // `RequestClose`: the request is read, and that is all.
        _ => Ok(()),
    }
}

/// `/` leads to `/hop/1`, that to `/hop/2`, and so on.
fn hop(behaviour: Behaviour, path: &str) -> ::bytes::Bytes {
    let last = if behaviour == Behaviour::RedirectFive { 5 } else { 50 };
    let number: u32 = path.strip_prefix("/hop/").and_then(|number| number.parse().ok()).unwrap_or(0);
    if number < last { bytes::to(&format!("/hop/{}", number + 1)) } else { bytes::good() }
}

/// The start, then one byte at a time for ever.
async fn drip(stream: &mut Counted, start: &[u8]) -> io::Result<()> {
    stream.write_all(start).await?;
    loop {
        tokio::time::sleep(DRIP).await;
        stream.write_all(b"d").await?;
    }
}

async fn flood(stream: &mut Counted, piece: &[u8], bytes: u64) -> io::Result<()> {
    let block = piece.repeat((FLOOD_BYTES / piece.len()).max(1));
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        stream.write_all(&block[..part]).await?;
        left -= part as u64;
    }
    Ok(())
}

/// Reads the request's head and gives its path.
async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    let text = String::from_utf8_lossy(&head);
    let target = text.split(' ').nth(1).unwrap_or("/");
    Ok(target.split('?').next().unwrap_or("/").to_owned())
}

/// Ends our side, and reads what the client still sends: a socket that is closed with unread bytes resets the
/// connection, and that is another behaviour.
async fn close(mut stream: Counted) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(|_| ())
}

/// A stream that counts what it sends, and that can send it a byte at a time.
struct Counted {
    stream: TcpStream,
    sent: Arc<AtomicU64>,
    drip: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = bytes;
        if let Some(rest) = &mut self.drip {
            ready!(rest.as_mut().poll(context));
            rest.as_mut().reset(tokio::time::Instant::now() + DRIP);
            bytes = &bytes[..bytes.len().min(1)];
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
