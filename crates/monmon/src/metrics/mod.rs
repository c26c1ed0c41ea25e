//! `monmon run --metrics`: the run's numbers as Prometheus reads them, and whether all is well.
//!
//! The numbers are those of the stages' own counters and gauges, read when somebody asks; nothing is kept for them.

mod health;
mod process;
mod text;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use monmon_engine::Progress;
use monmon_web::{Answer, Exposition, Pages};
use tokio::time::Instant;

/// For how long a text is good: those who ask together get the same one, so that they do not cost memory each.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What a run says of itself, from its first step on.
pub(crate) struct Board {
    /// None while the stages are being opened.
    progress: OnceLock<Progress>,
    started_at: Timestamp,
    written: Mutex<Option<(Instant, Bytes)>>,
}

impl Board {
    pub(crate) fn new(started_at: Timestamp) -> Arc<Board> {
        Arc::new(Board { progress: OnceLock::new(), started_at, written: Mutex::new(None) })
    }

    /// The stages are open.
    pub(crate) fn show(&self, progress: Progress) {
        // A run shows itself once.
        self.progress.get_or_init(|| progress);
    }

    pub(crate) fn pages(self: &Arc<Board>) -> Pages {
        let board = Arc::clone(self);
        Arc::new(move |path| match path {
            "/metrics" => Some(Answer {
                status: StatusCode::OK,
                content_type: Exposition::CONTENT_TYPE,
                body: board.metrics(),
            }),
            "/healthz" => Some(health::answer(board.progress.get())),
            _ => None,
        })
    }

    fn metrics(&self) -> Bytes {
        // Whoever comes while it is written waits, and gets the same.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, text)) = &*written
            && at.elapsed() < FRESH_FOR
        {
            return text.clone();
        }
        let text = Bytes::from(text::write(self.progress.get(), self.started_at, Timestamp::now()));
        *written = Some((Instant::now(), text.clone()));
        text
    }
}

/// `HOST:PORT`, or a port on this machine alone.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse::<u16>() {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let named = text.replace("localhost:", "127.0.0.1:");
    named.parse().map_err(|_| "expected an address and a port, as in 127.0.0.1:9464".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_on_this_machine() {
        for (text, read) in [
            ("9464", "127.0.0.1:9464"),
            (":9464", "127.0.0.1:9464"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:9464", "0.0.0.0:9464"),
            ("[::1]:0", "[::1]:0"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()), Ok(read.to_owned()), "{text}");
        }
        for text in ["", "example.org:1", "127.0.0.1", "99999"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
