//! Which addresses are of the world's, and which of somebody's own network (IANA's special-purpose registries).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whose network an address is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zone {
    Public,
    /// Loopback, private use, shared by a provider, documentation, benchmarks, multicast and the like.
    Private,
    /// Of the cable alone; where clouds keep their credentials (169.254.169.254).
    LinkLocal,
}

/// Which addresses may be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The file's own URL leads anywhere; a redirect leads to public addresses, or stays in the zone that it came from.
    #[default]
    AsGiven,
    Anywhere,
    PublicOnly,
}

impl Reach {
    /// Whether an address may be asked. `first`: the zone that the first request went to, once there was one.
    pub(crate) fn allows(self, zone: Zone, first: Option<Zone>) -> bool {
        match self {
            Reach::Anywhere => true,
            Reach::PublicOnly => zone == Zone::Public,
            Reach::AsGiven => zone == Zone::Public || first.is_none_or(|first| first == zone),
        }
    }
}

pub(crate) fn zone(ip: IpAddr) -> Zone {
    match ip {
        IpAddr::V4(ip) => of_v4(ip),
        IpAddr::V6(ip) => of_v6(ip),
    }
}

fn of_v4(ip: Ipv4Addr) -> Zone {
    let [a, b, c, _] = ip.octets();
    if ip.is_link_local() {
        return Zone::LinkLocal;
    }
    let is_private = ip.is_private()
        || ip.is_loopback()
        || ip.is_broadcast()
        || ip.is_multicast()
        || ip.is_documentation()
        // "This network", a provider's shared addresses, protocol assignments, benchmarks, reserved.
        || a == 0
        || (a == 100 && b & 0xC0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && b & 0xFE == 18)
        || a >= 240;
    if is_private { Zone::Private } else { Zone::Public }
}

fn of_v6(ip: Ipv6Addr) -> Zone {
    // An address of IPv4 in any of its disguises is what it stands for.
    if let Some(v4) = ip.to_ipv4_mapped() {
        return of_v4(v4);
    }
    let segments = ip.segments();
    match segments {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let [a, b] = high.to_be_bytes();
            let [c, d] = low.to_be_bytes();
            return of_v4(Ipv4Addr::new(a, b, c, d));
        }
        _ => {}
    }
    if ip.is_unicast_link_local() {
        return Zone::LinkLocal;
    }
    let is_private = ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        // Documentation, discard-only, and what was site-local once.
        || segments[..2] == [0x2001, 0xdb8]
        || segments[..4] == [0x100, 0, 0, 0]
        || segments[0] & 0xffc0 == 0xfec0;
    if is_private { Zone::Private } else { Zone::Public }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones() {
        for (address, expected) in [
            ("93.184.216.34", Zone::Public),
            ("10.1.2.3", Zone::Private),
            ("172.31.0.1", Zone::Private),
            ("172.32.0.1", Zone::Public),
            ("127.0.0.1", Zone::Private),
            ("0.0.0.0", Zone::Private),
            ("100.64.0.1", Zone::Private),
            ("100.128.0.1", Zone::Public),
            ("198.18.0.1", Zone::Private),
            ("169.254.169.254", Zone::LinkLocal),
            ("255.255.255.255", Zone::Private),
            ("::1", Zone::Private),
            ("::ffff:169.254.169.254", Zone::LinkLocal),
            ("::ffff:8.8.8.8", Zone::Public),
            ("64:ff9b::a9fe:a9fe", Zone::LinkLocal),
            ("2002:a00:1::", Zone::Private),
            ("fd00::1", Zone::Private),
            ("fe80::1", Zone::LinkLocal),
            ("2606:2800:220:1::1", Zone::Public),
        ] {
            assert_eq!(zone(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn what_may_be_asked() {
        use Zone::{LinkLocal, Private, Public};
        // The file's own address, whatever it is; then only what is public or of the same zone.
        for first in [Public, Private, LinkLocal] {
            assert!(Reach::AsGiven.allows(first, None));
            assert!(Reach::AsGiven.allows(Public, Some(first)));
            assert!(Reach::AsGiven.allows(first, Some(first)));
        }
        assert!(!Reach::AsGiven.allows(Private, Some(Public)));
        assert!(!Reach::AsGiven.allows(LinkLocal, Some(Private)));
        assert!(Reach::Anywhere.allows(LinkLocal, Some(Public)));
        assert!(!Reach::PublicOnly.allows(Private, None));
    }
}
