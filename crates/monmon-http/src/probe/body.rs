//! The body: read as it comes, decoded, cut at its bounds, kept only where somebody wants it.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{self, HeaderValue};
use http::response::Parts;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use monmon_model::{Failure, FailureKind, Note, Phase};
use monmon_stage::{PageBudget, PageHold};
use monmon_syntax::format_duration;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::time::timeout;
use tokio_util::io::StreamReader;

use super::exchange::Driver;
use super::failure::{cause, of_hyper};
use super::gate::{Flood, Gate};
use super::tls::hex;
use super::{Facts, Limits};

const DECODED_CHUNK_BYTES: usize = 16 * 1024;
/// After so many chunks the other checks get their turn: a bomb is decoded on the thread that times them all.
const CHUNKS_IN_A_TURN: usize = 8;

/// More came over the wire than the check wants: no error, the body is cut here.
#[derive(Debug, thiserror::Error)]
#[error("the body is longer than its bound")]
struct Cut;

/// Nothing came for longer than the check allows.
#[derive(Debug, thiserror::Error)]
#[error("nothing came of the body for too long")]
struct Idle;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
    /// Unknown, or several: the body is read and its text stays hidden.
    Opaque,
}

impl Coding {
    fn of(parts: &Parts) -> Coding {
        let mut values = parts.headers.get_all(header::CONTENT_ENCODING).iter();
        let (first, second) = (values.next(), values.next());
        let Some(value) = first else { return Coding::Identity };
        if second.is_some() {
            return Coding::Opaque;
        }
        match value.to_str().map(|text| text.trim().to_ascii_lowercase()).as_deref() {
            Ok("" | "identity") => Coding::Identity,
            Ok("gzip" | "x-gzip") => Coding::Gzip,
            Ok("deflate") => Coding::Deflate,
            Ok("br") => Coding::Brotli,
            Ok("zstd") => Coding::Zstd,
            _ => Coding::Opaque,
        }
    }
}

/// What is wanted of a body beside its length.
#[derive(Clone, Copy)]
pub(crate) struct Keep<'a> {
    pub(crate) limits: &'a Limits,
    /// Longest time between two parts.
    pub(crate) idle: Option<Duration>,
    /// The memory that all pages share; none where nobody wants the page.
    pub(crate) pages: Option<&'a PageBudget>,
    pub(crate) hash: bool,
    pub(crate) evidence_bytes_max: usize,
}

/// What was kept of a body.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) page: Option<(Bytes, PageHold)>,
    /// Of a whole body.
    pub(crate) sha256: Option<String>,
    /// Its beginning.
    pub(crate) evidence: Vec<u8>,
}

struct Keeper<'a> {
    budget: Option<&'a PageBudget>,
    hold: PageHold,
    body: Vec<u8>,
    hasher: Option<Sha256>,
    evidence: Vec<u8>,
    evidence_bytes_max: usize,
}

impl Keeper<'_> {
    fn add(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        let room = self.evidence_bytes_max - self.evidence.len();
        self.evidence.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some(budget) = self.budget else { return };
        if budget.grow(&mut self.hold, bytes.len() as u64) {
            self.body.extend_from_slice(bytes);
        } else {
            // A part of a page would be a lie to matchers, so none is kept.
            self.budget = None;
            self.hold = PageHold::default();
            self.body = Vec::new();
        }
    }
}

/// Reads the body to its end or its bound. What was kept is in the result; what was counted is in `facts`.
pub(crate) async fn read(
    parts: &Parts,
    body: Incoming,
    driver: &mut Driver,
    gate: &Gate,
    keep: Keep<'_>,
    facts: &mut Facts,
) -> Result<Kept, Failure> {
    let Keep { limits, idle, .. } = keep;
    let coding = Coding::of(parts);
    let chunked = parts.headers.contains_key(header::TRANSFER_ENCODING);
    note(parts, coding, facts);
    let mut keeper = Keeper {
        budget: keep.pages.filter(|_| coding != Coding::Opaque),
        hold: PageHold::default(),
        body: Vec::new(),
        hasher: keep.hash.then(Sha256::new),
        evidence: Vec::new(),
        evidence_bytes_max: keep.evidence_bytes_max,
    };
    facts.body_bytes = Some(0);
    let empty = hyper::body::Body::is_end_stream(&body);
    let wire_bytes = Arc::new(AtomicU64::new(0));
    let result = match coding {
        Coding::Identity | Coding::Opaque => driver.run(plain(body, limits, idle, &mut keeper, facts)).await,
        // A reply to HEAD names a coding and has nothing to decode.
        _ if empty => Ok(()),
        coding => {
            let wire = wire(body, limits.body_wire_bytes_max, idle, Arc::clone(&wire_bytes));
            let reader = StreamReader::new(Box::pin(wire));
            let decoder: Box<dyn AsyncRead + Send + Unpin> = match coding {
                Coding::Gzip => Box::new(multi_member(GzipDecoder::new(reader))),
                Coding::Deflate => Box::new(ZlibDecoder::new(reader)),
                Coding::Brotli => Box::new(BrotliDecoder::new(BufReader::new(reader))),
                _ => Box::new(ZstdDecoder::new(reader)),
            };
            let result = driver.run(decoded(decoder, limits, &mut keeper, facts)).await;
            facts.body_wire_bytes = Some(wire_bytes.load(Ordering::Relaxed));
            result
        }
    };
    if let Err(error) = result {
        if cause::<Idle>(&error).is_some() {
            let message =
                format!("nothing came of the body for {}", format_duration(idle.unwrap_or_default()));
            return Err(Failure::new(FailureKind::Timeout, Phase::Transfer, message));
        }
        if cause::<Cut>(&error).is_none() {
            return Err(of_body(&error, gate, chunked));
        }
        facts.body_truncated = true;
    }
    let whole = !facts.body_truncated;
    Ok(Kept {
        page: keeper.budget.is_some().then(|| (Bytes::from(keeper.body), keeper.hold)),
        sha256: keeper.hasher.filter(|_| whole).map(|hasher| hex(&hasher.finalize())),
        evidence: keeper.evidence,
    })
}

/// What is let pass and worth knowing.
fn note(parts: &Parts, coding: Coding, facts: &mut Facts) {
    let transfer = parts.headers.get(header::TRANSFER_ENCODING);
    if transfer.is_some() && parts.headers.contains_key(header::CONTENT_LENGTH) {
        facts.note(Note::LengthAndChunks);
    }
    let is_chunked =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.trim().eq_ignore_ascii_case("chunked"));
    if transfer.is_some_and(|value| !is_chunked(value)) {
        facts.note(Note::UnknownTransferCoding);
    }
    if coding == Coding::Opaque {
        facts.note(Note::UnknownContentCoding);
    }
}

/// Several gzip members after one another are one body (RFC 1952, section 2.2).
fn multi_member<R: tokio::io::AsyncBufRead>(mut decoder: GzipDecoder<R>) -> GzipDecoder<R> {
    decoder.multiple_members(true);
    decoder
}

async fn plain(
    mut body: Incoming,
    limits: &Limits,
    idle: Option<Duration>,
    keeper: &mut Keeper<'_>,
    facts: &mut Facts,
) -> Result<(), io::Error> {
    let bound = limits.body_bytes_max.min(limits.body_wire_bytes_max);
    while let Some(frame) = lively(idle, body.frame()).await? {
        let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
        take(&data, bound, keeper, facts)?;
    }
    Ok(())
}

async fn decoded(
    mut decoder: Box<dyn AsyncRead + Send + Unpin>,
    limits: &Limits,
    keeper: &mut Keeper<'_>,
    facts: &mut Facts,
) -> Result<(), io::Error> {
    let mut chunk = Vec::with_capacity(DECODED_CHUNK_BYTES);
    for turn in 1.. {
        chunk.clear();
        if decoder.read_buf(&mut chunk).await? == 0 {
            break;
        }
        take(&chunk, limits.body_bytes_max, keeper, facts)?;
        if turn % CHUNKS_IN_A_TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

fn take(bytes: &[u8], bound: u64, keeper: &mut Keeper<'_>, facts: &mut Facts) -> Result<(), io::Error> {
    let had = facts.body_bytes.unwrap_or(0);
    let room = usize::try_from(bound.saturating_sub(had)).unwrap_or(usize::MAX).min(bytes.len());
    keeper.add(&bytes[..room]);
    facts.body_bytes = Some(had + room as u64);
    if room < bytes.len() { Err(io::Error::other(Cut)) } else { Ok(()) }
}

/// The body's bytes as they came, up to the bound.
fn wire(
    body: Incoming,
    bound: u64,
    idle: Option<Duration>,
    count: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, io::Error>> + Send {
    let data = stream::try_unfold(body.into_data_stream(), move |mut body| async move {
        match lively(idle, body.next()).await? {
            Some(Ok(data)) => Ok(Some((data, body))),
            Some(Err(error)) => Err(io::Error::other(error)),
            None => Ok(None),
        }
    });
    data.map(move |data| {
        let data: Bytes = data?;
        let came = count.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
        if came > bound { Err(io::Error::other(Cut)) } else { Ok(data) }
    })
}

/// Waits for a part of the body, within the bound between two of them.
async fn lively<T>(idle: Option<Duration>, part: impl Future<Output = T>) -> Result<T, io::Error> {
    match idle {
        Some(idle) => timeout(idle, part).await.map_err(|_elapsed| io::Error::other(Idle)),
        None => Ok(part.await),
    }
}

fn of_body(error: &io::Error, gate: &Gate, chunked: bool) -> Failure {
    let failure = match cause::<hyper::Error>(error) {
        Some(hyper) => of_hyper(hyper, Phase::Transfer, gate),
        None if gate.is_flooded() => Failure::new(FailureKind::TooLarge, Phase::Transfer, Flood.to_string()),
        // Whatever is not hyper's is a decoder's.
        None => {
            let message = format!("the body cannot be decoded: {error}");
            return Failure::new(FailureKind::BadEncoding, Phase::Transfer, message);
        }
    };
    let ended = failure.kind == FailureKind::BodyIncomplete && chunked && eof(error);
    if ended {
        let message = "the connection closed before the last chunk";
        return Failure::new(FailureKind::BadChunk, Phase::Transfer, message);
    }
    failure
}

/// Whether the connection was closed in an orderly way, rather than reset.
fn eof(error: &io::Error) -> bool {
    cause::<hyper::Error>(error)
        .and_then(|hyper| std::error::Error::source(hyper))
        .and_then(|inner| inner.downcast_ref::<io::Error>())
        .is_none_or(|inner| inner.kind() == io::ErrorKind::UnexpectedEof)
}
