//! What was really asked of the site.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

/// One request.
#[derive(Clone, Debug)]
pub struct Hit {
    /// Counts from 0 over the site's life.
    pub number: u64,
    pub peer_port: u16,
    /// When the connection was accepted, and when this request's head had come in whole.
    pub accepted: Instant,
    pub accepted_at: Timestamp,
    pub requested: Instant,
    pub requested_at: Timestamp,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    /// 0 until the head is sent.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub body_bytes: u64,
    /// The answer went out whole.
    pub complete: bool,
    head: Bytes,
}

impl Hit {
    /// The first request header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(&self.head).ok()?;
        let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

pub(crate) struct AccessLog {
    started: Instant,
    hits_max: usize,
    counts: watch::Sender<u64>,
    entries: Mutex<Entries>,
}

struct Entries {
    hits: Vec<Hit>,
    file: Option<File>,
    line: String,
}

impl AccessLog {
    pub(crate) fn open(file: Option<&Path>, hits_max: usize) -> io::Result<AccessLog> {
        let file = file.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
        Ok(AccessLog {
            started: Instant::now(),
            hits_max,
            counts: watch::Sender::new(0),
            entries: Mutex::new(Entries { hits: Vec::new(), file, line: String::new() }),
        })
    }

    pub(crate) fn hits(&self) -> Vec<Hit> {
        self.lock().hits.clone()
    }

    pub(crate) fn clear(&self) {
        self.lock().hits.clear();
    }

    pub(crate) fn count(&self) -> u64 {
        *self.counts.borrow()
    }

    pub(crate) fn counts(&self) -> watch::Receiver<u64> {
        self.counts.subscribe()
    }

    /// The request is logged before anything is sent; what was sent is added when `Entry` goes.
    pub(crate) fn begin(&self, mut hit: Hit, head: &[u8]) -> Entry<'_> {
        let mut entries = self.lock();
        hit.number = self.count();
        if entries.hits.len() < self.hits_max {
            hit.head = Bytes::copy_from_slice(head);
            entries.hits.push(hit.clone());
        }
        drop(entries);
        self.counts.send_modify(|count| *count += 1);
        Entry { log: self, hit }
    }

    fn end(&self, hit: &Hit) {
        let mut entries = self.lock();
        // The newest are at the end; it may have been cleared away meanwhile.
        if let Ok(place) = entries.hits.binary_search_by_key(&hit.number, |kept| kept.number) {
            let kept = &mut entries.hits[place];
            (kept.status, kept.body_bytes, kept.complete) = (hit.status, hit.body_bytes, hit.complete);
        }
        let Entries { file: Some(file), line, .. } = &mut *entries else { return };
        line.clear();
        write_line(line, hit, self.started);
        // Written at once: a log behind a buffer would be a poor witness after a kill.
        file.write_all(line.as_bytes())
            .expect("the access log can be written: without it no test means much");
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is being answered. Dropped, it is logged as it then stands.
pub(crate) struct Entry<'a> {
    log: &'a AccessLog,
    pub(crate) hit: Hit,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.log.end(&self.hit);
    }
}

impl Hit {
    #[expect(clippy::too_many_arguments, reason = "one for each column of the log")]
    pub(crate) fn arriving(
        peer_port: u16,
        accepted: Instant,
        accepted_at: Timestamp,
        requested: Instant,
        requested_at: Timestamp,
        method: &str,
        path: &str,
        query: Option<&str>,
    ) -> Hit {
        Hit {
            number: 0,
            peer_port,
            accepted,
            accepted_at,
            requested,
            requested_at,
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.map(str::to_owned),
            status: 0,
            body_bytes: 0,
            complete: false,
            head: Bytes::new(),
        }
    }
}

fn write_line(line: &mut String, hit: &Hit, started: Instant) {
    let micros = |instant: Instant| instant.saturating_duration_since(started).as_micros();
    write!(
        line,
        r#"{{"number":{},"accepted_us":{},"requested_us":{},"accepted_at":"{}","requested_at":"{}","peer_port":{},"status":{},"body_bytes":{},"complete":{},"method":"#,
        hit.number,
        micros(hit.accepted),
        micros(hit.requested),
        hit.accepted_at,
        hit.requested_at,
        hit.peer_port,
        hit.status,
        hit.body_bytes,
        hit.complete,
    )
    .expect("a String takes every byte");
    write_json_string(line, &hit.method);
    line.push_str(r#","path":"#);
    write_json_string(line, &hit.path);
    line.push_str(r#","query":"#);
    match &hit.query {
        Some(query) => write_json_string(line, query),
        None => line.push_str("null"),
    }
    line.push_str("}\n");
}

fn write_json_string(line: &mut String, text: &str) {
    line.push('"');
    for character in text.chars() {
        match character {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            control if control < ' ' => {
                write!(line, "\\u{:04x}", u32::from(control)).expect("a String takes every byte");
            }
            other => line.push(other),
        }
    }
    line.push('"');
}
