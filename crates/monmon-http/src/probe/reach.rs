//! From a host and a port to a connection: the name looked up, the address judged, dialled, and where the check asks for
//! it a proxy gone through and TLS agreed on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use monmon_model::{Failure, FailureKind, Phase};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Facts;
use super::connect;
use super::manner::{Manner, within};
use super::proxy::{Proxy, ProxyKind, SocksTarget};
use super::resolver::literal;
use super::tls::Alpn;
use super::tls_failure::of_tls;
use super::trace::Trace;
use super::zone::{Reach, zone};

/// A connection, whatever it goes through.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

pub(crate) type Io = Box<dyn Wire>;

/// One measurement on its way: how it asks, and what is known so far.
pub(crate) struct Visit<'a> {
    pub(crate) manner: &'a Manner,
    /// The one address to go to, whatever the name has.
    pub(crate) pin: Option<IpAddr>,
    pub(crate) trace: &'a mut Trace,
    pub(crate) facts: &'a mut Facts,
}

/// Where a connection leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) host: &'a str,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: u16,
}

/// What follows once a connection is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The site speaks or is spoken to.
    Talk,
    /// The same by an HTTP proxy that is given whole requests.
    TalkToProxy,
    Tls,
}

/// Connects. How far it got is in the visit's trace and facts.
pub(crate) async fn reach(place: &Place<'_>, then: Then, visit: &mut Visit<'_>) -> Result<Io, Failure> {
    let manner = visit.manner;
    if let Some(proxy) = &manner.proxy {
        return by_proxy(proxy, place, then, visit).await;
    }
    let addresses = addresses(place, visit).await?;
    let stream = dial(&addresses, visit).await.map_err(|failure| after_connect(failure, then, visit))?;
    Ok(Box::new(stream))
}

async fn dial(addresses: &[SocketAddr], visit: &mut Visit<'_>) -> Result<TcpStream, Failure> {
    visit.trace.enter(Phase::Connect);
    visit.facts.remote_addr = addresses.first().copied();
    let mut tried = Vec::new();
    let dialling = connect::connect(addresses, &visit.manner.from, &mut tried);
    let connected = within(visit.manner.timeouts.connect, Phase::Connect, dialling).await;
    if !tried.is_empty() {
        visit.facts.details_mut().addresses = tried;
    }
    let (stream, address) = connected?;
    visit.facts.remote_addr = Some(address);
    visit.facts.first_zone.get_or_insert(zone(address.ip()));
    Ok(stream)
}

/// The addresses that may be dialled: those that were looked at are those that are dialled, so that a name which changes
/// its mind in between leads nowhere else.
async fn addresses(place: &Place<'_>, visit: &mut Visit<'_>) -> Result<Vec<SocketAddr>, Failure> {
    let manner = visit.manner;
    let found = lookup(place, visit).await?;
    let allowed = |ip: &IpAddr| manner.reach.allows(zone(*ip), visit.facts.first_zone);
    let addresses: Vec<SocketAddr> =
        found.iter().filter(|ip| allowed(ip)).map(|ip| SocketAddr::new(*ip, place.port)).collect();
    match found.first() {
        Some(first) if addresses.is_empty() => {
            visit.facts.remote_addr = Some(SocketAddr::new(*first, place.port));
            let why = match manner.reach {
                Reach::PublicOnly => "the check goes to public addresses only",
                _ => "a redirect must not lead there (`network private=#true` allows it)",
            };
            let message = format!("{first} is not a public address: {why}");
            Err(Failure::new(FailureKind::BlockedAddress, Phase::Dns, message))
        }
        _ => Ok(addresses),
    }
}

async fn lookup(place: &Place<'_>, visit: &mut Visit<'_>) -> Result<Vec<IpAddr>, Failure> {
    let manner = visit.manner;
    if let Some(pin) = visit.pin {
        return Ok(vec![pin]);
    }
    if let Some(ip) = place.ip {
        return literal(ip, manner.family);
    }
    if let Some(addresses) = manner.overridden(place.host) {
        return Ok(addresses.to_vec());
    }
    visit.trace.enter(Phase::Dns);
    let looking = manner.resolver.addresses(place.host, manner.family);
    within(manner.timeouts.dns, Phase::Dns, looking).await
}

/// All addresses that a check with `family="each"` goes to.
pub(crate) async fn each(place: &Place<'_>, visit: &mut Visit<'_>) -> Result<Vec<IpAddr>, Failure> {
    addresses(place, visit).await.map(|addresses| addresses.iter().map(SocketAddr::ip).collect())
}

async fn by_proxy(
    proxy: &Proxy,
    place: &Place<'_>,
    then: Then,
    visit: &mut Visit<'_>,
) -> Result<Io, Failure> {
    let manner = visit.manner;
    visit.facts.details_mut().proxy = Some(proxy.shown.clone());
    if let Some(ip) = place.ip
        && !manner.reach.allows(zone(ip), visit.facts.first_zone)
    {
        let message = format!("{ip} is not a public address");
        return Err(Failure::new(FailureKind::BlockedAddress, Phase::Dns, message));
    }
    // What the proxy is not to look up is looked up first: its own trouble is the site's.
    let socks_target = match proxy.kind {
        ProxyKind::Socks => addresses(place, visit).await?.first().copied().map(SocksTarget::Address),
        _ => place.ip.map(|ip| SocksTarget::Address(SocketAddr::new(ip, place.port))),
    };
    let at_proxy = |failure: Failure| proxy.failed(&failure);
    let found = match proxy.ip {
        Some(ip) => vec![ip],
        None => {
            visit.trace.enter(Phase::Dns);
            let looking = manner.resolver.addresses(&proxy.host, manner.family);
            within(manner.timeouts.dns, Phase::Dns, looking).await.map_err(at_proxy)?
        }
    };
    let addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(*ip, proxy.port)).collect();
    let zone_before = visit.facts.first_zone;
    let stream = dial(&addresses, visit).await.map_err(at_proxy)?;
    visit.facts.first_zone = zone_before.or(place.ip.map(zone));
    let through = async {
        match proxy.kind {
            ProxyKind::Http if then == Then::TalkToProxy => Ok(Box::new(stream) as Io),
            ProxyKind::Http => proxy.tunnel(stream, place.host, place.port).await,
            ProxyKind::Socks | ProxyKind::SocksNames => {
                let target = socks_target.unwrap_or(SocksTarget::Name(place.host, place.port));
                proxy.socks(stream, target).await
            }
        }
    };
    within(manner.timeouts.connect, Phase::Connect, through).await
}

/// A reset that comes with the connection: the kernel reports a refused handshake as such, so the connection was made
/// and reset before we looked. It is told as it would be had we looked in between.
fn after_connect(mut failure: Failure, then: Then, visit: &mut Visit<'_>) -> Failure {
    if failure.kind == FailureKind::ConnectReset {
        failure.kind = FailureKind::Reset;
        failure.phase = if then == Then::Tls { Phase::Tls } else { Phase::Wait };
        visit.trace.enter(failure.phase);
    }
    failure
}

/// Agrees on TLS over a connection. Gives it back with the protocol that was agreed on within it.
pub(crate) async fn secure(
    io: Io,
    name: &ServerName<'static>,
    alpn: Alpn,
    visit: &mut Visit<'_>,
) -> Result<(Io, bool), Failure> {
    visit.trace.enter(Phase::Tls);
    let manner = visit.manner;
    let (config, witness) = manner.tls.one(alpn);
    visit.facts.witness = Some(Arc::clone(&witness));
    let name = manner.server_name.clone().unwrap_or_else(|| name.clone());
    let handshake = async {
        TlsConnector::from(config)
            .connect(name, io)
            .await
            .map_err(|error| witness.refine(of_tls(&error, Phase::Tls)))
    };
    let stream = within(manner.timeouts.tls, Phase::Tls, handshake).await?;
    let session = stream.get_ref().1;
    visit.facts.tls_version = session.protocol_version();
    visit.facts.cipher = session.negotiated_cipher_suite();
    let is_h2 = session.alpn_protocol() == Some(b"h2".as_slice());
    Ok((Box::new(stream), is_h2))
}
