//! The body: read as it comes, decoded, cut at its bounds, kept only where somebody wants it.

use std::io;

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header;
use http::response::Parts;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use monmon_model::{Failure, FailureKind, Phase};
use monmon_stage::{PageBudget, PageHold};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio_util::io::StreamReader;

use super::exchange::Driver;
use super::failure::{cause, of_hyper};
use super::gate::{Flood, Gate};
use super::{Facts, Limits};

const DECODED_CHUNK_BYTES: usize = 16 * 1024;
/// After so many chunks the other checks get their turn: a bomb is decoded on the thread that times them all.
const CHUNKS_IN_A_TURN: usize = 8;

/// More came over the wire than the check wants: no error, the body is cut here.
#[derive(Debug, thiserror::Error)]
#[error("the body is longer than its bound")]
struct Cut;

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

/// What is kept of a body, within the memory that all pages share.
struct Keeper<'a> {
    budget: Option<&'a PageBudget>,
    hold: PageHold,
    body: Vec<u8>,
}

impl Keeper<'_> {
    fn add(&mut self, bytes: &[u8]) {
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
    limits: &Limits,
    pages: Option<&PageBudget>,
    facts: &mut Facts,
) -> Result<Option<(Bytes, PageHold)>, Failure> {
    let coding = Coding::of(parts);
    let chunked = parts.headers.contains_key(header::TRANSFER_ENCODING);
    let mut keeper = Keeper {
        budget: pages.filter(|_| coding != Coding::Opaque),
        hold: PageHold::default(),
        body: Vec::new(),
    };
    facts.body_bytes = Some(0);
    let empty = hyper::body::Body::is_end_stream(&body);
    let result = match coding {
        Coding::Identity | Coding::Opaque => driver.run(plain(body, limits, &mut keeper, facts)).await,
        // A reply to HEAD names a coding and has nothing to decode.
        _ if empty => Ok(()),
        coding => {
            let reader = StreamReader::new(Box::pin(wire(body, limits.body_wire_bytes_max)));
            let decoder: Box<dyn AsyncRead + Send + Unpin> = match coding {
                Coding::Gzip => Box::new(multi_member(GzipDecoder::new(reader))),
                Coding::Deflate => Box::new(ZlibDecoder::new(reader)),
                Coding::Brotli => Box::new(BrotliDecoder::new(BufReader::new(reader))),
                _ => Box::new(ZstdDecoder::new(reader)),
            };
            driver.run(decoded(decoder, limits, &mut keeper, facts)).await
        }
    };
    if let Err(error) = result {
        if cause::<Cut>(&error).is_none() {
            return Err(of_body(&error, gate, chunked));
        }
        facts.body_truncated = true;
    }
    Ok(keeper.budget.is_some().then(|| (Bytes::from(keeper.body), keeper.hold)))
}

/// Several gzip members after one another are one body (RFC 1952, section 2.2).
fn multi_member<R: tokio::io::AsyncBufRead>(mut decoder: GzipDecoder<R>) -> GzipDecoder<R> {
    decoder.multiple_members(true);
    decoder
}

async fn plain(
    mut body: Incoming,
    limits: &Limits,
    keeper: &mut Keeper<'_>,
    facts: &mut Facts,
) -> Result<(), io::Error> {
    let bound = limits.body_bytes_max.min(limits.body_wire_bytes_max);
    while let Some(frame) = body.frame().await {
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
fn wire(body: Incoming, bound: u64) -> impl Stream<Item = Result<Bytes, io::Error>> + Send {
    let mut came = 0u64;
    body.into_data_stream().map(move |data| {
        let data = data.map_err(io::Error::other)?;
        came = came.saturating_add(data.len() as u64);
        if came > bound { Err(io::Error::other(Cut)) } else { Ok(data) }
    })
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
