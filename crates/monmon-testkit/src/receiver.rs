//! A server that is posted to, and keeps what it took: the other end of webhooks.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Largest body that is kept.
const BODY_BYTES_MAX: usize = 1 << 20;
/// A connection on which nothing comes for so long is let go of.
const IDLE: Duration = Duration::from_secs(10);

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Posted {
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// What it was answered with.
    pub status: u16,
}

impl Posted {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What one request is answered with.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    header: Option<(String, String)>,
    body: String,
    hangs_up: bool,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, header: None, body: String::new(), hangs_up: false }
    }

    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Reply {
        Reply { header: Some((name.to_owned(), value.to_owned())), ..self }
    }

    #[must_use]
    pub fn body(self, body: &str) -> Reply {
        Reply { body: body.to_owned(), ..self }
    }

    /// Takes the request, and closes the connection without a word.
    pub fn hang_up() -> Reply {
        Reply { hangs_up: true, ..Reply::status(0) }
    }
}

/// Listens on loopback until it is dropped.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    posted: Mutex<Vec<Posted>>,
    /// What the next requests are answered with; 200 when there is nothing.
    replies: Mutex<VecDeque<Reply>>,
    ended: AtomicBool,
}

impl Receiver {
    pub fn start() -> io::Result<Receiver> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let listening = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if seen.ended.load(Ordering::Relaxed) {
                    break;
                }
                let seen = Arc::clone(&seen);
                // A client that goes away is its own affair.
                std::thread::spawn(move || drop(serve(&seen, stream)));
            }
        });
        Ok(Receiver { addr, shared, listening: Some(listening) })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The next requests are answered so, one by one.
    pub fn reply(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.shared.replies).extend(replies);
    }

    /// What was posted, in the order in which it came.
    pub fn posted(&self) -> Vec<Posted> {
        lock(&self.shared.posted).clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees the end.
        drop(TcpStream::connect(self.addr));
        if let Some(listening) = self.listening.take() {
            drop(listening.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0).min(BODY_BYTES_MAX);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let reply = lock(&shared.replies).pop_front().unwrap_or_else(|| Reply::status(200));
        lock(&shared.posted).push(Posted { path, headers, body, status: reply.status });
        if reply.hangs_up {
            return Ok(());
        }
        let header = reply.header.map_or_else(String::new, |(name, value)| format!("{name}: {value}\r\n"));
        let (status, body) = (reply.status, reply.body);
        write!(writer, "HTTP/1.1 {status} said\r\n{header}content-length: {}\r\n\r\n{body}", body.len())?;
    }
}
