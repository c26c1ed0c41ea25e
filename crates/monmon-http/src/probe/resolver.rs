//! Names to addresses: by the system, by name servers of the check's own, or by what the file says.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
    ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use monmon_model::bounds::ADDRESSES_MAX;
use monmon_model::{Failure, FailureKind, Phase};

use super::failure::of_io;

/// How long one name server has for an answer before the question is asked once more, or of the next.
const ASK_TIME: Duration = Duration::from_secs(2);

/// Where a check's names are looked up.
#[derive(Clone)]
pub(crate) enum Resolver {
    /// `getaddrinfo`: what other programs on this machine see.
    System,
    Servers(Box<TokioResolver>),
}

/// Which addresses of a name are asked for, and in which order they are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Family {
    #[default]
    Any,
    V4,
    V6,
    PreferV4,
    PreferV6,
    /// Every address is measured.
    Each,
}

impl Family {
    fn sort(self, addresses: &mut Vec<IpAddr>) {
        match self {
            Family::Any | Family::Each => {}
            Family::V4 => addresses.retain(IpAddr::is_ipv4),
            Family::V6 => addresses.retain(IpAddr::is_ipv6),
            Family::PreferV4 => addresses.sort_by_key(IpAddr::is_ipv6),
            Family::PreferV6 => addresses.sort_by_key(IpAddr::is_ipv4),
        }
    }

    fn strategy(self) -> LookupIpStrategy {
        match self {
            Family::V4 => LookupIpStrategy::Ipv4Only,
            Family::V6 => LookupIpStrategy::Ipv6Only,
            _ => LookupIpStrategy::Ipv4AndIpv6,
        }
    }

    /// Which addresses a literal one may be.
    fn allows(self, ip: IpAddr) -> bool {
        match self {
            Family::V4 => ip.is_ipv4(),
            Family::V6 => ip.is_ipv6(),
            _ => true,
        }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Resolver::System => "System",
            Resolver::Servers(_) => "Servers",
        })
    }
}

impl Resolver {
    /// Asks these servers, in their order, over UDP and where an answer is cut over TCP.
    pub(crate) fn of_servers(servers: &[SocketAddr], family: Family) -> Result<Resolver, String> {
        let mut options = ResolverOpts::default();
        // What is measured is the lookup, so nothing is remembered and no file of this machine answers.
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = ASK_TIME;
        options.attempts = 1;
        options.ip_strategy = family.strategy();
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        let servers = servers.iter().map(|server| name_server(*server)).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map(|resolver| Resolver::Servers(Box::new(resolver)))
            .map_err(|error| error.to_string())
    }

    /// The addresses of a name, in the order in which they are tried.
    pub(crate) async fn addresses(&self, host: &str, family: Family) -> Result<Vec<IpAddr>, Failure> {
        let mut addresses = match self {
            Resolver::System => of_system(host).await?,
            Resolver::Servers(resolver) => {
                // A last dot: the name is whole, no search list is tried.
                let name = format!("{}.", host.trim_end_matches('.'));
                let found = resolver.lookup_ip(name).await.map_err(|error| of_net(&error, host))?;
                found.iter().collect()
            }
        };
        family.sort(&mut addresses);
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() {
            return Err(no_address(host, family));
        }
        Ok(addresses)
    }
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = server.port();
    }
    NameServerConfig::new(server.ip(), true, connections)
}

/// One question of a check that is about DNS itself.
pub(crate) async fn lookup(
    resolver: &TokioResolver,
    name: &str,
    record: RecordType,
) -> Result<Lookup, Failure> {
    let whole = format!("{}.", name.trim_end_matches('.'));
    resolver.lookup(whole, record).await.map_err(|error| of_net(&error, name))
}

/// An address that is written in place of a name.
pub(crate) fn literal(ip: IpAddr, family: Family) -> Result<Vec<IpAddr>, Failure> {
    if family.allows(ip) { Ok(vec![ip]) } else { Err(no_address(&ip.to_string(), family)) }
}

fn no_address(host: &str, family: Family) -> Failure {
    let of = match family {
        Family::V4 => " of IPv4",
        Family::V6 => " of IPv6",
        _ => "",
    };
    Failure::new(FailureKind::DnsNoAddress, Phase::Dns, format!("`{host}` has no address{of}"))
}

async fn of_system(host: &str) -> Result<Vec<IpAddr>, Failure> {
    let name = host.to_owned();
    // getaddrinfo is the one resolver that sees what other programs on this machine see, and it blocks.
    let answer = tokio::task::spawn_blocking(move || {
        let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
        let found = dns_lookup::getaddrinfo(Some(&name), None, Some(hints));
        found.map(|found| found.flatten().map(|info| info.sockaddr.ip()).take(1024).collect::<Vec<_>>())
    });
    let failure = |kind, message| Err(Failure::new(kind, Phase::Dns, message));
    match answer.await {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(error)) => match error.kind() {
            LookupErrorKind::NoName => failure(FailureKind::DnsNotFound, format!("`{host}` does not exist")),
            LookupErrorKind::NoData => failure(FailureKind::DnsNoAddress, format!("`{host}` has no address")),
            LookupErrorKind::Memory => {
                failure(FailureKind::OutOfMemory, "no memory for the resolver".to_owned())
            }
            LookupErrorKind::System => Err(of_io(&io::Error::from(error), Phase::Dns)),
            _ => failure(FailureKind::DnsFailed, format!("the lookup of `{host}` failed")),
        },
        Err(_stopped) => failure(FailureKind::Internal, "the resolver's thread ended".to_owned()),
    }
}

fn of_net(error: &NetError, host: &str) -> Failure {
    let failure = |kind, message| Failure::new(kind, Phase::Dns, message);
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => failure(FailureKind::DnsNotFound, format!("`{host}` does not exist")),
            ResponseCode::NoError => {
                failure(FailureKind::DnsNoAddress, format!("`{host}` has no such record"))
            }
            code => failure(FailureKind::DnsFailed, format!("the name server answers `{code}` for `{host}`")),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            failure(FailureKind::DnsFailed, format!("the name server answers `{code}` for `{host}`"))
        }
        NetError::Timeout => {
            failure(FailureKind::DnsTimeout, format!("no name server answered for `{host}` in time"))
        }
        NetError::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                failure(FailureKind::DnsFailed, "the name server refuses connections".to_owned())
            }
            io::ErrorKind::TimedOut => {
                failure(FailureKind::DnsTimeout, format!("no name server answered for `{host}` in time"))
            }
            _ => of_io(error, Phase::Dns),
        },
        other => failure(FailureKind::DnsFailed, format!("the lookup of `{host}` failed: {other}")),
    }
}
