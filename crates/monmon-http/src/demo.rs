//! A few pages on loopback, so that a first pipeline has something to watch: a good one, a slow one, one that fails now
//! and then, a redirect.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const VISITORS_MAX: usize = 64;
const HEAD_BYTES_MAX: usize = 8 * 1024;
const VISIT_MAX: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_millis(400);
/// Every so many requests `/flaky` fails.
const FLAKY_EVERY: u64 = 5;

/// Serves until dropped; returns only when the port is lost.
pub(crate) async fn serve(listener: TcpListener) -> io::Error {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    let places = Arc::new(Semaphore::new(VISITORS_MAX));
    let flaky = Arc::new(AtomicU64::new(0));
    let mut visits = JoinSet::new();
    loop {
        while visits.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return io::Error::other("the demo site has no places left");
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let flaky = Arc::clone(&flaky);
                visits.spawn(async move {
                    // A visitor that leaves early is no trouble of the demo's.
                    let _visit = timeout(VISIT_MAX, visit(stream, &flaky)).await;
                    drop(place);
                });
            }
            // Too many open files, or a visitor that left while it was let in: both pass.
            Err(error) => {
                tracing::debug!(%error, "the demo site let nobody in");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn visit(mut stream: TcpStream, flaky: &AtomicU64) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let line =
        String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, location, title) = match path.split('?').next().unwrap_or_default() {
        "/" => ("200 OK", "", "Welcome to the demo site"),
        "/slow" => {
            sleep(SLOW).await;
            ("200 OK", "", "A slow page")
        }
        "/flaky" if flaky.fetch_add(1, Ordering::Relaxed) % FLAKY_EVERY == FLAKY_EVERY - 1 => {
            ("503 Service Unavailable", "", "Out of order")
        }
        "/flaky" => ("200 OK", "", "A page that fails now and then"),
        "/moved" => ("302 Found", "location: /\r\n", "Moved"),
        _ => ("404 Not Found", "", "No such page"),
    };
    let body = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><title>{title}</title></head>\n<body><h1>{title}</h1>\n\
         <p>This page is part of monmon, for trying it out.</p></body>\n</html>\n"
    );
    let length = body.len();
    let shown = if method == "HEAD" { "" } else { body.as_str() };
    let reply = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\n{location}content-length: {length}\r\n\
         connection: close\r\n\r\n{shown}"
    );
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}
