//! The server: few connections, short ones, one request each.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, warn};

/// How many connections there are at most. One more ends the oldest: who has asked is answered long before, so that it is
/// one that only sits there.
pub const CONNECTIONS_MAX: usize = 64;

/// How long a request may take to come.
const HEAD_WAIT: Duration = Duration::from_secs(5);

/// How long a connection may last in all, however slowly its client reads.
const CONNECTION_WAIT: Duration = Duration::from_secs(15);

/// How many bytes a request's head may have, and how many fields.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEAD_FIELDS_MAX: usize = 64;

/// How long nothing is accepted after the system had no socket to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// What a path holds.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: &'static str,
    pub body: Bytes,
}

/// From a path to what it holds; nothing where there is nothing. It runs on a thread that may take its time.
pub type Pages = Arc<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

/// A server that has its port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

struct Shared {
    pages: Pages,
    /// Reached by this machine alone, so that no page of another name may ask for it.
    loopback: bool,
}

impl Server {
    pub async fn bind(address: SocketAddr) -> io::Result<Server> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Server { listener, address })
    }

    /// The address with the port that was found where port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for as long as it is polled.
    pub async fn serve(self, pages: Pages) {
        let shared = Arc::new(Shared { pages, loopback: self.address.ip().is_loopback() });
        let mut connections = JoinSet::new();
        let mut handles: VecDeque<AbortHandle> = VecDeque::new();
        let mut told = false;
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        if !std::mem::replace(&mut told, true) {
                            warn!(address = %self.address, %error, "no connection can be taken for the metrics; trying again");
                        }
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                Some(_ended) = connections.join_next() => {
                    handles.retain(|handle| !handle.is_finished());
                    continue;
                }
            };
            told = false;
            if handles.len() >= CONNECTIONS_MAX
                && let Some(oldest) = handles.pop_front()
            {
                oldest.abort();
            }
            handles.push_back(connections.spawn(connection(stream, Arc::clone(&shared))));
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(&shared, &request).await) }
    });
    let work = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WAIT)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_WAIT, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a client of the metrics"),
        Err(_) => debug!("a client of the metrics took too long"),
    }
}

async fn respond(shared: &Arc<Shared>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if shared.loopback && !names_this_machine(request) {
        return plain(
            StatusCode::MISDIRECTED_REQUEST,
            "this server answers to the address that it listens at\n",
        );
    }
    let path = request.uri().path().to_owned();
    let pages = Arc::clone(shared);
    // Writing many numbers takes its time, which is not the runtime's.
    let found = tokio::task::spawn_blocking(move || (pages.pages)(&path)).await;
    let Ok(found) = found else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "the answer broke off: this is a bug in monmon\n");
    };
    let Some(answer) = found else { return plain(StatusCode::NOT_FOUND, "nothing is here\n") };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    response(answer)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(Answer {
        status,
        content_type: "text/plain; charset=utf-8",
        body: Bytes::from_static(text.as_bytes()),
    })
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(answer.body));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    response
}

/// Whether the request is for this machine by an address or by the name that nobody can give to another. A page in a
/// browser here could ask with its own site's name, and read the answer.
fn names_this_machine(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(HOST) else { return true };
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| is_this_machine(authority.host()))
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_this_machine;

    #[test]
    fn only_names_that_nobody_else_can_have_are_this_machine() {
        for host in ["localhost", "LocalHost", "127.0.0.1", "127.1.2.3", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["example.org", "localhost.example.org", "192.0.2.1", "[::2]", ""] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
