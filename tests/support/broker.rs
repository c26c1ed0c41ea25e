//! A way to the broker that can be cut. A broker tells clients its own address, by which they would go past any proxy, so
//! what it says of that is changed on the way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use monmon_testkit::{Proxy, ProxyMode};

use super::setting;

pub(crate) struct BrokerProxy {
    proxy: Proxy,
}

impl BrokerProxy {
    pub(crate) fn start() -> BrokerProxy {
        let broker: SocketAddr = setting("MONMON_TEST_KAFKA").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = Proxy::start(listener.local_addr().expect("an address")).expect("a proxy");
        let (told, wanted) = (spelt(broker), spelt(proxy.addr()));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(broker) else { continue };
                let (client_too, server_too) =
                    (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
                std::thread::spawn(move || carry(client_too, server_too, None));
                let change = Some((told.clone(), wanted.clone()));
                std::thread::spawn(move || carry(server, client, change));
            }
        });
        BrokerProxy { proxy }
    }

    pub(crate) fn address(&self) -> String {
        self.proxy.addr().to_string()
    }

    pub(crate) fn set(&mut self, mode: ProxyMode) {
        self.proxy.set(mode).expect("the proxy goes on");
    }
}

/// As the protocol spells a broker's address, after the length of its host: both have the same number of bytes.
fn spelt(address: SocketAddr) -> Vec<u8> {
    let mut bytes = address.ip().to_string().into_bytes();
    bytes.extend(u32::from(address.port()).to_be_bytes());
    bytes
}

fn carry(mut from: TcpStream, mut to: TcpStream, change: Option<(Vec<u8>, Vec<u8>)>) {
    let mut buffer = vec![0; 64 << 10];
    let mut held: Vec<u8> = Vec::new();
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 {
            break;
        }
        held.extend_from_slice(&buffer[..count]);
        let mut ready = held.len();
        if let Some((told, wanted)) = &change {
            let mut at = 0;
            while at + told.len() <= held.len() {
                if held[at..].starts_with(told) {
                    held[at..at + told.len()].copy_from_slice(wanted);
                }
                at += 1;
            }
            // The end may be a beginning.
            let begins = |length: &usize| told.starts_with(&held[held.len() - length..]);
            ready -= (1..told.len().min(held.len() + 1)).rev().find(begins).unwrap_or(0);
        }
        if to.write_all(&held[..ready]).is_err() {
            break;
        }
        held.drain(..ready);
    }
    // Either side may be gone already.
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}
