//! Addresses to connections.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use monmon_model::{Failure, FailureKind, Outcome, Phase, Tried};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::failure::of_io;

/// How long an address has before the next one is tried beside it (RFC 8305, "Happy Eyeballs").
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// An unreachable network that is known this fast is the prober's own lack of a route, not a router's answer.
const OWN_ROUTE_WITHIN: Duration = Duration::from_millis(1);

/// Where connections come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum From {
    #[default]
    Anywhere,
    Address(IpAddr),
    Interface(String),
}

/// The first connection that comes about, to which address, and which failed meanwhile. The failure is that of the first
/// address: the resolver puts the best one first.
pub(crate) async fn connect(
    addresses: &[SocketAddr],
    from: &From,
    tried: &mut Vec<Tried>,
) -> Result<(TcpStream, SocketAddr), Failure> {
    if let [only] = addresses {
        return dial(*only, from).await.map_err(|(_, failure)| failure);
    }
    let mut waiting = addresses.iter();
    let mut dialling = FuturesUnordered::new();
    let mut first_failure = None;
    loop {
        match waiting.next() {
            Some(address) => dialling.push(dial(*address, from)),
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
            Ok(Some(Err((address, failure)))) => {
                tried.push(Tried {
                    address: address.to_string(),
                    outcome: Outcome::Down,
                    message: Some(failure.message.clone()),
                    status: None,
                    timings: None,
                });
                first_failure.get_or_insert(failure);
            }
            Ok(None) | Err(_) => {}
        }
    }
    Err(first_failure.unwrap_or_else(|| {
        Failure::new(FailureKind::DnsNoAddress, Phase::Connect, "no address to connect to")
    }))
}

async fn dial(address: SocketAddr, from: &From) -> Result<(TcpStream, SocketAddr), (SocketAddr, Failure)> {
    let started = Instant::now();
    let connected = match from {
        From::Anywhere => TcpStream::connect(address).await,
        from => dial_from(address, from).await,
    };
    match connected {
        Ok(stream) => {
            // A request is one small write; waiting to fill a packet would only delay it. Not vital if refused.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "no TCP_NODELAY");
            }
            Ok((stream, address))
        }
        Err(error) => {
            let mut failure = of_io(&error, Phase::Connect);
            let own = started.elapsed() < OWN_ROUTE_WITHIN;
            match error.kind() {
                io::ErrorKind::NetworkUnreachable if own => failure.kind = FailureKind::ProberOffline,
                // What the file asks this machine for, it has not.
                io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::NotFound
                    if *from != From::Anywhere =>
                {
                    failure.kind = FailureKind::Internal;
                    failure.message = format!("{}: from {from}", failure.message);
                }
                _ => {}
            }
            failure.message = format!("{address}: {}", failure.message);
            Err((address, failure))
        }
    }
}

async fn dial_from(address: SocketAddr, from: &From) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    match from {
        From::Anywhere => {}
        From::Address(ip) => socket.bind(SocketAddr::new(*ip, 0))?,
        #[cfg(target_os = "linux")]
        From::Interface(name) => socket.bind_device(Some(name.as_bytes()))?,
        #[cfg(not(target_os = "linux"))]
        From::Interface(_) => return Err(io::ErrorKind::Unsupported.into()),
    }
    socket.connect(address).await
}

impl std::fmt::Display for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            From::Anywhere => f.write_str("anywhere"),
            From::Address(ip) => ip.fmt(f),
            From::Interface(name) => f.write_str(name),
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
        let mut tried = Vec::new();
        let (_, used) =
            connect(&[gone, live.local_addr().unwrap()], &From::Anywhere, &mut tried).await.unwrap();
        assert_eq!(used, live.local_addr().unwrap());
        assert_eq!((tried.len(), &tried[0].address), (1, &gone.to_string()));
        let failure = connect(&[gone, gone], &From::Anywhere, &mut tried).await.unwrap_err();
        assert_eq!((failure.kind, failure.phase), (FailureKind::ConnectRefused, Phase::Connect));
    }

    #[tokio::test]
    async fn a_source_address_is_used_or_said_to_be_none() {
        let site = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = site.local_addr().unwrap();
        let mut tried = Vec::new();
        let from = From::Address("127.0.0.5".parse().unwrap());
        let (stream, _) = connect(&[at], &from, &mut tried).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.0.0.5");
        let from = From::Address("192.0.2.1".parse().unwrap());
        let failure = connect(&[at], &from, &mut tried).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Internal, "{}", failure.message);
    }
}
