//! A network in which connecting takes as long as one likes.

use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tokio_tun::Tun;

/// Where a server listens, and under which address it is reached through the mirror. Both are set aside for benchmarks
/// (RFC 2544).
pub(crate) const NEAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const PACKET_MAX: usize = 65_536;

/// Starts a network device that sends back each packet with its sender and its receiver exchanged: who connects to [`FAR`]
/// reaches what listens on [`NEAR`] of the same port, and sees it as [`FAR`]. The first packet of a connection is held back
/// for `delay`. It ends with what this gives. The checksums stay right, for a sum does not depend on the order.
pub(crate) fn start(delay: Duration) -> io::Result<JoinSet<()>> {
    let built = Tun::builder().name("mirror").address(NEAR).netmask(MASK).up().build();
    let tun = built.map_err(io::Error::other)?.pop().ok_or_else(|| io::Error::other("no device was made"))?;
    let tun = Arc::new(tun);
    let mut mirror = JoinSet::new();
    mirror.spawn(async move {
        let mut held = JoinSet::new();
        let mut packet = vec![0; PACKET_MAX];
        while let Ok(length) = tun.recv(&mut packet).await {
            let packet = &mut packet[..length];
            if !exchange(packet) {
                continue;
            }
            while held.try_join_next().is_some() {}
            if is_first(packet) {
                let (tun, packet) = (Arc::clone(&tun), packet.to_vec());
                held.spawn(async move {
                    sleep(delay).await;
                    tun.send_all(&packet).await.ok();
                });
            } else if tun.send_all(packet).await.is_err() {
                break;
            }
        }
    });
    Ok(mirror)
}

/// Exchanges sender and receiver of an IPv4 packet; says whether it is one.
fn exchange(packet: &mut [u8]) -> bool {
    match packet {
        [version, ..] if *version >> 4 == 4 && packet.len() >= 20 => {
            let (sender, receiver) = packet[12..20].split_at_mut(4);
            sender.swap_with_slice(receiver);
            true
        }
        _ => false,
    }
}

/// Whether it is a TCP SYN that answers none.
fn is_first(packet: &[u8]) -> bool {
    const TCP: u8 = 6;
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    let header = usize::from(packet[0] & 0x0f) * 4;
    packet[9] == TCP && packet.get(header + 13).is_some_and(|flags| flags & (SYN | ACK) == SYN)
}
