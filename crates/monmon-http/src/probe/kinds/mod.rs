//! Checks that are no HTTP requests. They share the way to the site, the phases and the record; what they got is a page
//! like any other, for matchers to look into.

mod dns;
mod ping;
mod starttls;
mod tcp;
mod websocket;

use std::net::IpAddr;

use monmon_model::Failure;
use monmon_stage::Page;
use rustls::pki_types::ServerName;
use url::{Host, Url};

pub(crate) use dns::Dns;
pub(crate) use ping::Ping;
pub(crate) use starttls::StartTls;
pub(crate) use tcp::Tcp;
pub(crate) use websocket::WebSocket;

use super::Prober;
use super::reach::{Place, Then, Visit, reach, secure};
use super::tls::Alpn;

#[derive(Debug)]
pub(crate) enum Kind {
    Tcp(Tcp),
    /// The handshake and the chain, and nothing after it.
    Tls(Endpoint),
    Dns(Dns),
    WebSocket(Box<WebSocket>),
    Ping(Ping),
}

/// A host, and where it has one a port.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    host: String,
    ip: Option<IpAddr>,
    port: u16,
    name: Option<ServerName<'static>>,
}

impl Endpoint {
    /// `default_port`: where the URL names none; without one it has to.
    pub(crate) fn new(url: &Url, default_port: Option<u16>) -> Result<Endpoint, String> {
        // Of a scheme that is none of the web's the host is text still.
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("the URL names no host")?;
        let (host, ip) =
            match Host::parse(host).map_err(|error| format!("the host cannot be used: {error}"))? {
                Host::Domain(name) => (name, None),
                Host::Ipv4(ip) => (ip.to_string(), Some(IpAddr::V4(ip))),
                Host::Ipv6(ip) => (ip.to_string(), Some(IpAddr::V6(ip))),
            };
        let port = url.port().or(default_port).ok_or("the URL names no port")?;
        let name = match ip {
            Some(ip) => Some(ServerName::IpAddress(ip.into())),
            None => ServerName::try_from(host.clone()).ok(),
        };
        Ok(Endpoint { host, ip, port, name })
    }

    pub(crate) fn place(&self) -> Place<'_> {
        Place { host: &self.host, ip: self.ip, port: self.port }
    }

    fn name(&self) -> Result<&ServerName<'static>, Failure> {
        self.name.as_ref().ok_or_else(|| {
            let message = format!("`{}` is no name for TLS", self.host);
            Failure::new(monmon_model::FailureKind::Internal, monmon_model::Phase::Start, message)
        })
    }
}

impl Kind {
    /// Where the connection leads, where there is one.
    pub(crate) fn place(&self) -> Option<Place<'_>> {
        match self {
            Kind::Tcp(tcp) => Some(tcp.at.place()),
            Kind::Tls(at) => Some(at.place()),
            Kind::WebSocket(socket) => Some(socket.request.place()),
            Kind::Ping(ping) => Some(ping.at.place()),
            Kind::Dns(_) => None,
        }
    }

    pub(crate) async fn carry_out(
        &self,
        prober: &Prober,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Page>, Failure> {
        match self {
            Kind::Tcp(tcp) => tcp.carry_out(prober, visit).await,
            Kind::Tls(at) => {
                let io = reach(&at.place(), Then::Tls, visit).await?;
                secure(io, at.name()?, Alpn::None, visit).await?;
                Ok(None)
            }
            Kind::Dns(dns) => dns.carry_out(prober, visit).await,
            Kind::WebSocket(socket) => socket.carry_out(prober, visit).await,
            Kind::Ping(ping) => ping.carry_out(visit).await,
        }
    }
}
