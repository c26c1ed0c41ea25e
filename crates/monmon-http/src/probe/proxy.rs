//! The way through a proxy: an HTTP tunnel (RFC 9110, section 9.3.6) or SOCKS5 (RFC 1928, RFC 1929).

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use monmon_model::{Failure, FailureKind, Phase};
use percent_encoding::percent_decode_str;
use tokio::net::TcpStream;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::Socks5Stream;
use url::{Host, Url};

use super::exchange::Driver;
use super::reach::Io;

/// The largest head of a proxy's reply.
const HEAD_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyKind {
    Http,
    /// Names are looked up here.
    Socks,
    /// Names are looked up by the proxy.
    SocksNames,
}

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) kind: ProxyKind,
    pub(crate) host: String,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: u16,
    user: Option<(String, String)>,
    /// Without the password.
    pub(crate) shown: String,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Proxy {
    pub(crate) fn new(url: &Url) -> Result<Proxy, String> {
        let (kind, default_port) = match url.scheme() {
            "http" => (ProxyKind::Http, 80),
            "socks5" => (ProxyKind::Socks, 1080),
            "socks5h" => (ProxyKind::SocksNames, 1080),
            other => return Err(format!("a proxy is http://, socks5:// or socks5h://, not {other}://")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("the proxy's URL names no host")?;
        // Of a scheme that is none of the web's the host is text still.
        let (host, ip) = match Host::parse(host).map_err(|error| format!("the proxy's host: {error}"))? {
            Host::Domain(name) => (name, None),
            Host::Ipv4(ip) => (ip.to_string(), Some(IpAddr::V4(ip))),
            Host::Ipv6(ip) => (ip.to_string(), Some(IpAddr::V6(ip))),
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = (!url.username().is_empty())
            .then(|| (decoded(url.username()), decoded(url.password().unwrap_or_default())));
        let port = url.port().unwrap_or(default_port);
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let shown = format!("{}://{authority}", url.scheme());
        Ok(Proxy { kind, host, ip, port, user, shown })
    }

    /// What an HTTP proxy is shown of user and password.
    pub(crate) fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.user.as_ref()?;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A failure on the way to the proxy: nothing is known of the site.
    pub(crate) fn failed(&self, failure: &Failure) -> Failure {
        let message = format!("the proxy {}: {}", self.shown, failure.message);
        Failure::new(FailureKind::ProxyFailed, failure.phase, message)
    }

    fn refused(&self, kind: FailureKind, message: &str) -> Failure {
        Failure::new(kind, Phase::Connect, format!("the proxy {} {message}", self.shown))
    }

    /// A tunnel through an HTTP proxy to `host:port`.
    pub(crate) async fn tunnel(&self, stream: TcpStream, host: &str, port: u16) -> Result<Io, Failure> {
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let broken = |error: hyper::Error| {
            self.refused(FailureKind::ProxyFailed, &format!("does not answer as a proxy does: {error}"))
        };
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut driver = Driver::of(Box::pin(connection.with_upgrades()));
        let uri = authority.parse().map_err(|_| {
            Failure::new(FailureKind::Internal, Phase::Connect, format!("`{authority}` is no target"))
        })?;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = uri;
        if let Ok(host) = HeaderValue::try_from(&authority) {
            request.headers_mut().insert(header::HOST, host);
        }
        if let Some(value) = self.authorization() {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
        }
        let response = driver.run(sender.send_request(request)).await.map_err(broken)?;
        let status = response.status().as_u16();
        if !response.status().is_success() {
            let message = format!("answers {status} for {authority}");
            // tinyproxy's way of saying that it could not connect.
            let unable = response
                .extensions()
                .get::<hyper::ext::ReasonPhrase>()
                .is_some_and(|reason| reason.as_bytes().eq_ignore_ascii_case(b"Unable to connect"));
            let kind = match status {
                500 if unable => FailureKind::ConnectUnreachable,
                504 => FailureKind::ConnectTimeout,
                502 | 503 => FailureKind::ConnectUnreachable,
                _ => FailureKind::ProxyFailed,
            };
            return Err(self.refused(kind, &message));
        }
        let upgraded = driver.run(hyper::upgrade::on(response)).await.map_err(broken)?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }

    /// The same through SOCKS5, to a name or an address.
    pub(crate) async fn socks(&self, stream: TcpStream, to: SocksTarget<'_>) -> Result<Io, Failure> {
        let target = match to {
            SocksTarget::Address(address) => TargetAddr::Ip(address),
            SocksTarget::Name(name, port) => TargetAddr::Domain(name.into(), port),
        };
        let connected = match &self.user {
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
            }
            None => Socks5Stream::connect_with_socket(stream, target).await,
        };
        connected.map(|stream| Box::new(stream) as Io).map_err(|error| {
            use tokio_socks::Error;
            let kind = match &error {
                Error::HostUnreachable | Error::NetworkUnreachable => FailureKind::ConnectUnreachable,
                Error::ConnectionRefused => FailureKind::ConnectRefused,
                Error::TtlExpired => FailureKind::ConnectTimeout,
                _ => FailureKind::ProxyFailed,
            };
            self.refused(kind, &format!("says: {}", error.to_string().to_lowercase()))
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SocksTarget<'a> {
    Address(SocketAddr),
    Name(&'a str, u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_proxies() {
        let read = |text: &str| Proxy::new(&text.parse().unwrap());
        let http = read("http://user:p%40ss@proxy.test:3128/").unwrap();
        assert_eq!(
            (http.kind, http.port, http.shown.as_str()),
            (ProxyKind::Http, 3128, "http://proxy.test:3128")
        );
        assert_eq!(http.authorization().unwrap(), "Basic dXNlcjpwQHNz");
        let socks = read("socks5h://[::1]").unwrap();
        assert_eq!(
            (socks.kind, socks.port, socks.ip),
            (ProxyKind::SocksNames, 1080, Some("::1".parse().unwrap()))
        );
        assert!(!format!("{http:?}").contains("ss"));
        for wrong in ["https://proxy.test", "ftp://proxy.test", "socks5:///"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
