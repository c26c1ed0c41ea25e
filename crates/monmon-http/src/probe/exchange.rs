//! One request and its reply, over a connection of its own: dns, connect, tls, wait, transfer.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use http::{Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use monmon_model::{Failure, FailureKind, Phase};
use tokio::task::AbortHandle;

use super::failure::of_hyper;
use super::gate::{Gate, Gated};
use super::manner::{HttpVersion, within};
use super::proxy::ProxyKind;
use super::reach::{Io, Then, Visit, reach, secure};
use super::request::{Asked, More, Prepared};
use super::tls::Alpn;
use super::{HEAD_BUFFER_BYTES_MAX, HEADERS_MAX};

/// What a server may send before its final head is in: interim replies, control frames, the head itself.
const HEAD_BYTES_MAX: u64 = 256 * 1024;
/// How much an HTTP/2 server may send of a body before it is asked for more; it may come with the head.
const H2_WINDOW_BYTES: u32 = 256 * 1024;

type Connection = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// The connection's own work, done whenever somebody waits for a part of it.
pub(crate) struct Driver {
    connection: Option<Connection>,
    /// What HTTP/2 spawned; it ends with this exchange.
    tasks: Tasks,
}

impl Driver {
    pub(crate) fn of(connection: Connection) -> Driver {
        Driver { connection: Some(connection), tasks: Tasks::default() }
    }

    /// Waits for `wanted` and moves the connection on meanwhile, in one task.
    pub(crate) async fn run<F: Future>(&mut self, wanted: F) -> F::Output {
        let mut wanted = std::pin::pin!(wanted);
        std::future::poll_fn(|context| {
            if let Some(connection) = &mut self.connection
                && connection.as_mut().poll(context).is_ready()
            {
                // Its error, if any, reaches `wanted` by hyper's own channel.
                self.connection = None;
            }
            match wanted.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(output),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

/// A reply whose head is in.
pub(crate) struct Reply {
    pub(crate) response: Response<Incoming>,
    pub(crate) driver: Driver,
    pub(crate) gate: Arc<Gate>,
}

/// Sends one request and waits for the head of its reply. How far it got is in the visit.
pub(crate) async fn exchange(
    request: &Prepared,
    more: &More,
    visit: &mut Visit<'_>,
) -> Result<Reply, Failure> {
    let manner = visit.manner;
    let whole = manner.proxy.as_ref().filter(|proxy| proxy.kind == ProxyKind::Http && !request.is_tls());
    let then = match (request.is_tls(), whole) {
        (true, _) => Then::Tls,
        (false, Some(_)) => Then::TalkToProxy,
        (false, None) => Then::Talk,
    };
    let name = request.server_name().filter(|_| request.is_tls());
    let io = reach(&request.place(), then, visit).await?;
    let (io, is_h2) = match &name {
        Some(name) => secure(io, name, Alpn::of(manner.version), visit).await?,
        // Without TLS there is nothing to agree by; who asks for HTTP/2 knows that it is there (RFC 9113, section 3.3).
        None => (io, manner.version == HttpVersion::Two && whole.is_none()),
    };
    if manner.version == HttpVersion::Two && !is_h2 {
        let message = "the server does not agree to HTTP/2";
        return Err(Failure::new(FailureKind::H2Protocol, Phase::Tls, message));
    }
    visit.trace.enter(Phase::Wait);
    let gate = Gate::new(HEAD_BYTES_MAX);
    let gated = Gated::new(io, Arc::clone(&gate));
    let asked = match is_h2 {
        true => request.http2(more),
        false => request.http1(more, whole.map(|proxy| proxy.authorization())),
    };
    let speaking = async {
        match is_h2 {
            true => speak_http2(asked, gated, gate).await,
            false => speak_http1(asked, gated, gate).await,
        }
    };
    within(manner.timeouts.wait, Phase::Wait, speaking).await
}

async fn speak_http1(asked: Asked, stream: Gated<Io>, gate: Arc<Gate>) -> Result<Reply, Failure> {
    let failed = |error: hyper::Error| of_hyper(&error, Phase::Wait, &gate);
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BUFFER_BYTES_MAX)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut driver = Driver::of(Box::pin(connection));
    let response = driver.run(sender.send_request(asked)).await.map_err(failed)?;
    finish(response, driver, gate)
}

async fn speak_http2(asked: Asked, stream: Gated<Io>, gate: Arc<Gate>) -> Result<Reply, Failure> {
    gate.allow(HEAD_BYTES_MAX + u64::from(H2_WINDOW_BYTES));
    let failed = |error: hyper::Error| {
        let mut failure = of_hyper(&error, Phase::Wait, &gate);
        // The server agreed on HTTP/2 and then spoke something else or nothing.
        if failure.kind == FailureKind::HttpParse || gate.kept().starts_with(b"HTTP/1") {
            failure.kind = FailureKind::H2Protocol;
        }
        failure
    };
    let tasks = Tasks::default();
    let (mut sender, connection) = http2::Builder::new(tasks.clone())
        .initial_stream_window_size(H2_WINDOW_BYTES)
        .initial_connection_window_size(H2_WINDOW_BYTES)
        .max_header_list_size(64 * 1024)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut driver = Driver { connection: Some(Box::pin(connection)), tasks };
    let response = driver.run(sender.send_request(asked)).await.map_err(failed)?;
    finish(response, driver, gate)
}

fn finish(response: Response<Incoming>, driver: Driver, gate: Arc<Gate>) -> Result<Reply, Failure> {
    // hyper gives 101 as a final reply; nobody asked to switch.
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        let message = "the server switched protocols unasked";
        return Err(Failure::new(FailureKind::Protocol, Phase::Wait, message));
    }
    Ok(Reply { response, driver, gate })
}

pub(crate) fn version_word(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

/// Runs what hyper's HTTP/2 needs beside the connection, and ends it with the exchange.
#[derive(Clone, Default)]
struct Tasks(Arc<Spawned>);

#[derive(Default)]
struct Spawned(Mutex<Vec<AbortHandle>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[expect(
        clippy::disallowed_methods,
        reason = "hyper wants it spawned; the exchange ends it with its own end"
    )]
    fn execute(&self, task: F) {
        let handle = tokio::task::spawn(task).abort_handle();
        if let Ok(mut tasks) = self.0.0.lock() {
            tasks.push(handle);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Ok(tasks) = self.tasks.0.0.lock() {
            tasks.iter().for_each(AbortHandle::abort);
        }
    }
}
