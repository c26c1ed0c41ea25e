//! The replies that are plain bytes, sent whole.

use std::sync::OnceLock;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};

use super::Behaviour;
use crate::site::{gzip, html_page};

/// The title of every page that the hostile site manages to deliver.
pub const HOSTILE_PAGE_TITLE: &str = "Still here";

const PAGE_BYTES: usize = 1_024;
const BOMB_BLOCKS: usize = 1 << 10;
const BOMB_BLOCK_BYTES: usize = 1 << 20;
const GZIP_HEADER: &[u8] = &[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255];
/// A last block with nothing in it.
const DEFLATE_END: &[u8] = &[3, 0];

pub(crate) fn page() -> Bytes {
    html_page(HOSTILE_PAGE_TITLE, PAGE_BYTES)
}

/// A good reply.
pub(crate) fn good() -> Bytes {
    with_headers("", &page())
}

/// A reply of 200 with a right length and these header lines besides.
pub(crate) fn with_headers(lines: &str, body: &[u8]) -> Bytes {
    let length = body.len();
    head_and_body(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n{lines}\r\n"), body)
}

pub(crate) fn head_and_body(head: &str, body: &[u8]) -> Bytes {
    Bytes::from([head.as_bytes(), body].concat())
}

/// The reply of those behaviours that read a request, send these bytes and close; `None` for the others.
pub(crate) fn whole(behaviour: Behaviour) -> Option<Bytes> {
    head_fault(behaviour).or_else(|| body_fault(behaviour)).or_else(|| redirect(behaviour))
}

fn head_fault(behaviour: Behaviour) -> Option<Bytes> {
    let page = page();
    let length = page.len();
    let status = |line: &str| head_and_body(&format!("{line}\r\ncontent-length: {length}\r\n\r\n"), &page);
    let lengths = |lines: &str| head_and_body(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"), &page);
    Some(match behaviour {
        Behaviour::HeadCut => Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-le"),
        Behaviour::SshBanner => Bytes::from_static(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
        Behaviour::Http09 => page,
        Behaviour::VersionTwoLine => status("HTTP/2.0 200 OK"),
        Behaviour::BadStatusLine => status("HTTP/1.1 OK 200"),
        Behaviour::Status99 => status("HTTP/1.1 99 Low"),
        Behaviour::Status1000 => status("HTTP/1.1 1000 High"),
        Behaviour::Status999 => status("HTTP/1.1 999 Strange"),
        Behaviour::LineFeedOnly => {
            head_and_body(&format!("HTTP/1.1 200 OK\ncontent-length: {length}\n\n"), &page)
        }
        Behaviour::FoldedHeader => with_headers("x-folded: one\r\n two\r\n", &page),
        Behaviour::SpaceBeforeColon => with_headers("x-space : one\r\n", &page),
        Behaviour::NulInHeader => with_headers("x-nul: a\0b\r\n", &page),
        Behaviour::HighByteInHeader => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nx-high: ");
            Bytes::from([head.as_bytes(), b"\xFF\xFE\r\n\r\n", &page].concat())
        }
        Behaviour::Headers257 => {
            let lines: String = (0..256).map(|n| format!("x-{n}: {n}\r\n")).collect();
            with_headers(&lines, &page)
        }
        Behaviour::Only100 => Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n"),
        Behaviour::SwitchingUnasked => Bytes::from_static(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        ),
        Behaviour::LengthsDiffer => {
            lengths(&format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 1))
        }
        Behaviour::LengthNegative => lengths("content-length: -1\r\n"),
        Behaviour::LengthOverflow => lengths("content-length: 99999999999999999999999\r\n"),
        Behaviour::LengthHuge => lengths("content-length: 18446744073709551615\r\n"),
        Behaviour::LengthTwice => {
            lengths(&format!("content-length: {length}\r\ncontent-length: {length}\r\n"))
        }
        Behaviour::LengthAndChunked => chunked("content-length: 5\r\n", &page, "0\r\n\r\n"),
        Behaviour::UnknownTransferCoding => lengths("transfer-encoding: banana\r\n"),
        Behaviour::TwoReplies => Bytes::from([good(), good()].concat()),
        _ => return None,
    })
}

fn body_fault(behaviour: Behaviour) -> Option<Bytes> {
    let page = page();
    let length = page.len();
    Some(match behaviour {
        Behaviour::BodyShort | Behaviour::BodyReset => {
            head_and_body(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", length * 2), &page)
        }
        Behaviour::BadChunkSize => chunked("", &page, "not-hex\r\nmore\r\n0\r\n\r\n"),
        Behaviour::ChunkOverflow => chunked("", &page, "fffffffffffffffff\r\nmore\r\n"),
        Behaviour::NoLastChunk => chunked("", &page, ""),
        Behaviour::GzipBomb => with_headers("content-encoding: gzip\r\n", bomb()),
        Behaviour::GzipCorrupt => {
            let mut packed = gzip(&page).to_vec();
            let middle = packed.len() / 2;
            packed[10..middle].fill(0xFF);
            with_headers("content-encoding: gzip\r\n", &packed)
        }
        Behaviour::GzipCut => {
            let packed = gzip(&page);
            with_headers("content-encoding: gzip\r\n", &packed[..packed.len() / 2])
        }
        Behaviour::NotGzip => with_headers("content-encoding: gzip\r\n", &page),
        Behaviour::NotBrotli => with_headers("content-encoding: br\r\n", &[0xFF; 64]),
        Behaviour::NotZstd => with_headers("content-encoding: zstd\r\n", &page),
        Behaviour::UnknownEncoding => with_headers("content-encoding: banana\r\n", &page),
        Behaviour::GzipTwice => with_headers("content-encoding: gzip, gzip\r\n", &gzip(&gzip(&page))),
        Behaviour::NoContentWithBody => {
            head_and_body(&format!("HTTP/1.1 204 No Content\r\ncontent-length: {length}\r\n\r\n"), &page)
        }
        Behaviour::BytesAfterEnd => Bytes::from([&good()[..], b"and more, which nobody announced"].concat()),
        Behaviour::BadUtf8 => {
            let body = [&page[..], b"\xC3\x28\xFF\xFE\x80"].concat();
            with_headers("content-type: text/html; charset=utf-8\r\n", &body)
        }
        Behaviour::NulInBody => with_headers("", &[&page[..], b"\0\0\0"].concat()),
        Behaviour::ResetAfterEnd | Behaviour::SlowClose => good(),
        Behaviour::CloseDelimited | Behaviour::TlsTruncated => {
            head_and_body("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", &page)
        }
        _ => return None,
    })
}

fn redirect(behaviour: Behaviour) -> Option<Bytes> {
    Some(match behaviour {
        Behaviour::RedirectLoop => to("/"),
        Behaviour::RedirectFile => to("file:///etc/hostname"),
        Behaviour::RedirectFtp => to("ftp://127.0.0.1/"),
        Behaviour::RedirectBadLocation => to("http://[::bad/"),
        Behaviour::RedirectNoLocation => {
            Bytes::from_static(b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n")
        }
        _ => return None,
    })
}

pub(crate) fn to(location: &str) -> Bytes {
    Bytes::from(format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
}

fn chunked(lines: &str, body: &[u8], end: &str) -> Bytes {
    let head = format!("HTTP/1.1 200 OK\r\n{lines}transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
    Bytes::from([head.as_bytes(), body, b"\r\n", end.as_bytes()].concat())
}

/// About 1 MB of gzip that unpacks to 1 GiB: a page, then zeros. Made once, when it is first asked for.
///
/// A mebibyte of zeros is packed once, up to a full flush, after which nothing refers back; so the same bytes
/// can be repeated, and the checksum combined (RFC 1951, section 3.2; RFC 1952, section 2.3).
fn bomb() -> &'static [u8] {
    static BOMB: OnceLock<Vec<u8>> = OnceLock::new();
    BOMB.get_or_init(|| {
        let (page, zeros) = (page(), vec![0; BOMB_BLOCK_BYTES]);
        let mut checksum = Crc::new();
        checksum.update(&page);
        let mut zeros_checksum = Crc::new();
        zeros_checksum.update(&zeros);
        let zeros = deflated(&zeros);
        let mut bomb = GZIP_HEADER.to_vec();
        bomb.extend(deflated(&page));
        for _ in 0..BOMB_BLOCKS {
            bomb.extend(&zeros);
            checksum.combine(&zeros_checksum);
        }
        bomb.extend(DEFLATE_END);
        bomb.extend(checksum.sum().to_le_bytes());
        bomb.extend(checksum.amount().to_le_bytes());
        bomb
    })
}

fn deflated(plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(plain.len() + 1_024);
    Compress::new(Compression::best(), false)
        .compress_vec(plain, &mut packed, FlushCompress::Full)
        .expect("there is room for the packed bytes");
    packed
}
