//! Names to addresses, addresses to connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use monmon_model::{Failure, FailureKind, Phase};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use url::Host;

use super::failure::of_io;

/// How many of a name's addresses are tried.
const ADDRESSES_MAX: usize = 16;
/// How long an address has before the next one is tried beside it (RFC 8305, "Happy Eyeballs").
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// An unreachable network that is known this fast is the prober's own lack of a route, not a router's answer.
const OWN_ROUTE_WITHIN: Duration = Duration::from_millis(1);

/// The addresses of a host, in the order of RFC 6724 as the system's resolver gives them.
pub(crate) async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let name = host.to_owned();
    // getaddrinfo is the one resolver that sees what other programs on this machine see, and it blocks.
    let answer = tokio::task::spawn_blocking(move || {
        let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
        let found = dns_lookup::getaddrinfo(Some(&name), None, Some(hints));
        found.map(|found| {
            found.flatten().map(|info| info.sockaddr.ip()).take(ADDRESSES_MAX).collect::<Vec<_>>()
        })
    });
    let failure = |kind, message| Failure::new(kind, Phase::Dns, message);
    match answer.await {
        Ok(Ok(addresses)) if addresses.is_empty() => {
            Err(failure(FailureKind::DnsNoAddress, format!("`{host}` has no address")))
        }
        Ok(Ok(addresses)) => Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
        Ok(Err(error)) => {
            let (kind, message) = match error.kind() {
                LookupErrorKind::NoName => (FailureKind::DnsNotFound, format!("`{host}` does not exist")),
                LookupErrorKind::NoData => (FailureKind::DnsNoAddress, format!("`{host}` has no address")),
                LookupErrorKind::Memory => {
                    (FailureKind::OutOfMemory, "no memory for the resolver".to_owned())
                }
                LookupErrorKind::System => return Err(of_io(&io::Error::from(error), Phase::Dns)),
                _ => (FailureKind::DnsFailed, format!("the lookup of `{host}` failed")),
            };
            Err(failure(kind, message))
        }
        Err(_stopped) => Err(failure(FailureKind::Internal, "the resolver's thread ended".to_owned())),
    }
}

/// The host as an address, where it is written as one.
pub(crate) fn literal(host: &Host<&str>) -> Option<IpAddr> {
    match host {
        Host::Ipv4(ip) => Some(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(*ip)),
        Host::Domain(_) => None,
    }
}

/// The first connection that comes about, and to which address. The failure is that of the first address.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), Failure> {
    if let [only] = addresses {
        return dial(*only).await;
    }
    let mut waiting = addresses.iter();
    let mut dialling = FuturesUnordered::new();
    let mut first_failure = None;
    loop {
        match waiting.next() {
            Some(address) => dialling.push(dial(*address)),
            None if dialling.is_empty() => break,
            None => {}
        }
        let next = if waiting.len() > 0 {
            timeout(NEXT_ADDRESS_AFTER, dialling.next()).await
        } else {
            Ok(dialling.next().await)
        };
        match next {
            Ok(Some(Ok(connected))) => return Ok(connected),
            Ok(Some(Err(failure))) => {
                // The resolver puts the best address first, so its failure tells most.
                first_failure.get_or_insert(failure);
            }
            Ok(None) | Err(_) => {}
        }
    }
    Err(first_failure.unwrap_or_else(|| {
        Failure::new(FailureKind::DnsNoAddress, Phase::Connect, "no address to connect to")
    }))
}

async fn dial(address: SocketAddr) -> Result<(TcpStream, SocketAddr), Failure> {
    let started = Instant::now();
    match TcpStream::connect(address).await {
        Ok(stream) => {
            // A request is one small write; waiting to fill a packet would only delay it. Not vital if refused.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
            Ok((stream, address))
        }
        Err(error) => {
            let mut failure = of_io(&error, Phase::Connect);
            if error.kind() == io::ErrorKind::NetworkUnreachable && started.elapsed() < OWN_ROUTE_WITHIN {
                failure.kind = FailureKind::ProberOffline;
            }
            failure.message = format!("{address}: {}", failure.message);
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_first_address_does_not_hide_a_live_second() {
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = dead.local_addr().unwrap();
        drop(dead);
        let (_, used) = connect(&[gone, live.local_addr().unwrap()]).await.unwrap();
        assert_eq!(used, live.local_addr().unwrap());
        let failure = connect(&[gone, gone]).await.unwrap_err();
        assert_eq!((failure.kind, failure.phase), (FailureKind::ConnectRefused, Phase::Connect));
    }
}
