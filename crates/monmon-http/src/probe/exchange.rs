//! One request and its reply, over a connection of its own: dns, connect, tls, wait, transfer.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use http::{Response, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use monmon_model::{Failure, FailureKind, Phase};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::connect;
use super::failure::of_hyper;
use super::gate::{Gate, Gated};
use super::request::Prepared;
use super::tls::TlsSetup;
use super::tls_failure::of_tls;
use super::trace::Trace;
use super::{Facts, HEAD_BUFFER_BYTES_MAX, HEADERS_MAX};

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

/// Sends one request and waits for the head of its reply. How far it got is in `trace` and `facts`.
pub(crate) async fn exchange(
    request: &Prepared,
    tls: &TlsSetup,
    trace: &mut Trace,
    facts: &mut Facts,
) -> Result<Reply, Failure> {
    let addresses = match request.ip {
        Some(ip) => vec![SocketAddr::new(ip, request.port)],
        None => {
            trace.enter(Phase::Dns);
            connect::resolve(&request.host, request.port).await?
        }
    };
    trace.enter(Phase::Connect);
    facts.remote_addr = addresses.first().copied();
    let (stream, address) =
        connect::connect(&addresses).await.map_err(|failure| after_connect(failure, request, trace))?;
    facts.remote_addr = Some(address);
    let gate = Gate::new(HEAD_BYTES_MAX);
    let Some(name) = &request.tls else {
        trace.enter(Phase::Wait);
        return speak_http1(request, Gated::new(stream, Arc::clone(&gate)), gate).await;
    };
    trace.enter(Phase::Tls);
    let (config, witness) = tls.one();
    facts.witness = Some(Arc::clone(&witness));
    let stream = TlsConnector::from(config)
        .connect(name.clone(), stream)
        .await
        .map_err(|error| witness.refine(of_tls(&error, Phase::Tls)))?;
    let session = stream.get_ref().1;
    facts.tls_version = session.protocol_version();
    facts.cipher = session.negotiated_cipher_suite();
    let is_h2 = session.alpn_protocol() == Some(b"h2".as_slice());
    trace.enter(Phase::Wait);
    let gated = Gated::new(stream, Arc::clone(&gate));
    if is_h2 { speak_http2(request, gated, gate).await } else { speak_http1(request, gated, gate).await }
}

/// A reset that comes with the connection: the kernel reports a refused handshake as such, so the connection was made
/// and reset before we looked. It is told as it would be had we looked in between.
fn after_connect(mut failure: Failure, request: &Prepared, trace: &mut Trace) -> Failure {
    if failure.kind == FailureKind::ConnectReset {
        failure.kind = FailureKind::Reset;
        failure.phase = if request.tls.is_some() { Phase::Tls } else { Phase::Wait };
        trace.enter(failure.phase);
    }
    failure
}

async fn speak_http1<T>(request: &Prepared, stream: Gated<T>, gate: Arc<Gate>) -> Result<Reply, Failure>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| of_hyper(&error, Phase::Wait, &gate);
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BUFFER_BYTES_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut driver = Driver { connection: Some(Box::pin(connection)), tasks: Tasks::default() };
    let response = driver.run(sender.send_request(request.http1())).await.map_err(failed)?;
    finish(response, driver, gate)
}

async fn speak_http2<T>(request: &Prepared, stream: Gated<T>, gate: Arc<Gate>) -> Result<Reply, Failure>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
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
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut driver = Driver { connection: Some(Box::pin(connection)), tasks };
    let response = driver.run(sender.send_request(request.http2())).await.map_err(failed)?;
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
