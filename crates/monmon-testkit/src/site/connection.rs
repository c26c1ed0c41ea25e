//! One connection to the site: requests in, answers out, each of them logged.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::Buf;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Answer, Shared, answer::Reply, log::Hit};

const HEAD_BYTES_MAX: usize = 64 << 10;
/// Room for the head of a common request, so that one read takes it.
const HEAD_BYTES_USUAL: usize = 2 << 10;
/// A request's own body is read and dropped, up to this.
const REQUEST_BODY_BYTES_MAX: u64 = 16 << 20;

/// Who has come, and when.
#[derive(Clone, Copy)]
pub(crate) struct Visitor {
    pub(crate) peer_port: u16,
    pub(crate) accepted: Instant,
    pub(crate) accepted_at: Timestamp,
}

struct Request<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    body_bytes: u64,
    closing: bool,
}

pub(crate) async fn serve<S>(site: &Shared, mut stream: S, visitor: Visitor) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(HEAD_BYTES_USUAL);
    loop {
        let Some(head_bytes) = read_head(&mut stream, &mut buffer).await? else { return Ok(()) };
        let (requested, requested_at) = (Instant::now(), Timestamp::now());
        let Some(request) = parse(&buffer[..head_bytes]) else {
            let reply = Answer::status(400).into_reply();
            return stream.write_all(&[&reply.head_closing[..], &reply.body[..]].concat()).await;
        };
        let Visitor { peer_port, accepted, accepted_at } = visitor;
        let Request { method, path, query, body_bytes, closing } = request;
        let hit =
            Hit::arriving(peer_port, accepted, accepted_at, requested, requested_at, method, path, query);
        let mut entry = site.log.begin(hit, &buffer[..head_bytes]);
        let reply = site.reply(path);
        let head_only = method == "HEAD";
        skip_body(&mut stream, &mut buffer, head_bytes, body_bytes).await?;
        match reply {
            Some(reply) => send(&mut stream, &reply, head_only, closing, &mut entry.hit).await?,
            None => {
                let reply = Answer::status(404).into_reply();
                send(&mut stream, &reply, head_only, closing, &mut entry.hit).await?;
            }
        }
        drop(entry);
        if closing {
            return stream.shutdown().await;
        }
    }
}

/// Reads until the buffer holds a whole head, and says how long it is; `None` at a clean end.
async fn read_head<S>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<Option<usize>>
where
    S: AsyncRead + Unpin,
{
    let mut searched = 0;
    loop {
        if let Some(end) = buffer[searched..].windows(4).position(|four| four == b"\r\n\r\n") {
            return Ok(Some(searched + end + 4));
        }
        searched = buffer.len().saturating_sub(3);
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the request's head is too large"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(head: &[u8]) -> Option<Request<'_>> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    // A proxy's form of the target carries the origin.
    let target = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut request = Request { method, path, query, body_bytes: 0, closing: version != "HTTP/1.1" };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            request.body_bytes = value.trim().parse().ok()?;
        } else if name.eq_ignore_ascii_case("connection") {
            request.closing |= value.trim().eq_ignore_ascii_case("close");
        }
    }
    (request.body_bytes <= REQUEST_BODY_BYTES_MAX).then_some(request)
}

/// Takes the request out of the buffer, with its body, of which a part may not have come yet.
async fn skip_body<S>(stream: &mut S, buffer: &mut Vec<u8>, head: usize, body_bytes: u64) -> io::Result<()>
where
    S: AsyncRead + Unpin,
{
    let body = usize::try_from(body_bytes).map_err(io::Error::other)?;
    let here = body.min(buffer.len() - head);
    buffer.drain(..head + here);
    let rest = u64::try_from(body - here).map_err(io::Error::other)?;
    if rest > 0 {
        tokio::io::copy(&mut (&mut *stream).take(rest), &mut tokio::io::sink()).await?;
    }
    Ok(())
}

async fn send<S>(
    stream: &mut S,
    reply: &Reply,
    head_only: bool,
    closing: bool,
    hit: &mut Hit,
) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    pause(reply.before_head).await;
    let head = if closing { &reply.head_closing } else { &reply.head };
    let body = if head_only { &[][..] } else { &reply.body[..] };
    let (early, late) =
        if reply.within_body.is_zero() { (body, &[][..]) } else { body.split_at(body.len() / 2) };
    let mut first = Buf::chain(head.as_ref(), early);
    while first.has_remaining() {
        // Counted write by write, so that the log is right when the client goes away.
        stream.write_buf(&mut first).await?;
        let body_left = first.remaining().min(early.len());
        if first.remaining() <= early.len() {
            hit.status = reply.status;
            hit.body_bytes = (early.len() - body_left) as u64;
        }
    }
    // A TLS stream may still hold some of it.
    stream.flush().await?;
    pause(reply.within_body).await;
    let mut late = late;
    while late.has_remaining() {
        hit.body_bytes += stream.write_buf(&mut late).await? as u64;
    }
    stream.flush().await?;
    hit.complete = true;
    Ok(())
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}
