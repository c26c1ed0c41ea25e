//! What a path answers.

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

/// The largest page that is generated.
const PAGE_BYTES_MAX: usize = 256 << 20;
const FILLER: &str =
    "<p>The quick brown fox jumps over the lazy dog, and the dog does not mind at all.</p>\n";

/// What the site says to a request. Built up from one of the constructors.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    before_head: Duration,
    within_body: Duration,
    gzip: bool,
}

/// An answer as bytes, made once and sent often.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: Bytes,
    pub(crate) head_closing: Bytes,
    pub(crate) body: Bytes,
    pub(crate) before_head: Duration,
    pub(crate) within_body: Duration,
}

impl Answer {
    /// A page of exactly `bytes` bytes (or a little more, where the title needs it) with this title.
    pub fn html(title: &str, bytes: usize) -> Answer {
        Answer::body(html_page(title, bytes)).header("content-type", "text/html; charset=utf-8")
    }

    pub fn text(text: impl Into<String>) -> Answer {
        Answer::body(text.into().into_bytes()).header("content-type", "text/plain; charset=utf-8")
    }

    /// These bytes, without a content type.
    pub fn body(body: impl Into<Bytes>) -> Answer {
        Answer {
            status: 200,
            headers: Vec::new(),
            body: body.into(),
            before_head: Duration::ZERO,
            within_body: Duration::ZERO,
            gzip: false,
        }
    }

    /// A short page with this status.
    pub fn status(status: u16) -> Answer {
        Answer::text(format!("{status} {}\n", reason(status))).with_status(status)
    }

    /// A 302 to this place, which is sent as it is written.
    pub fn redirect(location: &str) -> Answer {
        Answer::body(Bytes::new()).with_status(302).header("location", location)
    }

    #[must_use]
    pub fn with_status(self, status: u16) -> Answer {
        Answer { status, ..self }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Waits so long before the status line.
    #[must_use]
    pub fn delay_head(self, delay: Duration) -> Answer {
        Answer { before_head: delay, ..self }
    }

    /// Waits so long in the middle of the body.
    #[must_use]
    pub fn delay_body(self, delay: Duration) -> Answer {
        Answer { within_body: delay, ..self }
    }

    /// Compresses the body, whatever the request accepts.
    #[must_use]
    pub fn gzip(self) -> Answer {
        Answer { gzip: true, ..self }
    }

    pub(crate) fn into_reply(self) -> Reply {
        let bodiless = matches!(self.status, 100..=199 | 204 | 304);
        let body = match (bodiless, self.gzip) {
            (true, _) => Bytes::new(),
            (false, true) => gzip(&self.body),
            (false, false) => self.body,
        };
        let mut head = format!("HTTP/1.1 {} {}\r\nserver: testkit\r\n", self.status, reason(self.status));
        if !bodiless {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        if self.gzip {
            head.push_str("content-encoding: gzip\r\n");
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        Reply {
            status: self.status,
            head_closing: Bytes::from(format!("{head}connection: close\r\n\r\n")),
            head: Bytes::from(format!("{head}\r\n")),
            body,
            before_head: self.before_head,
            within_body: self.within_body,
        }
    }
}

pub(crate) fn html_page(title: &str, bytes: usize) -> Bytes {
    let start = format!("<!doctype html>\n<html><head><title>{title}</title></head>\n<body>\n");
    let end = "</body></html>\n";
    let bytes = bytes.clamp(start.len() + end.len(), PAGE_BYTES_MAX);
    let mut page = start;
    page.reserve(bytes - page.len());
    while page.len() + FILLER.len() + end.len() <= bytes {
        page.push_str(FILLER);
    }
    let rest = bytes - page.len() - end.len();
    page.extend(std::iter::repeat_n('\n', rest));
    page.push_str(end);
    Bytes::from(page)
}

pub(crate) fn gzip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).expect("a Vec takes every byte");
    Bytes::from(encoder.finish().expect("a Vec takes every byte"))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
