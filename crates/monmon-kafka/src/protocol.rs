//! Which protocol a broker's port speaks, asked with a few bytes: a connection that merely ends does not tell it, since
//! whatever stands in front of a broker that is down ends connections too. Blocks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long each step may take.
const STEP: Duration = Duration::from_secs(1);

/// How many brokers, and addresses of one, are asked at most.
const ASKED_MAX: usize = 3;

/// Kafka's ApiVersions, version 0, from a client without a name: any broker answers it before all else.
const API_VERSIONS: &[u8] = b"\0\0\0\x0a\0\x12\0\0monm\xff\xff";

/// Where the answer repeats the question's own mark.
const CORRELATION: std::ops::Range<usize> = 4..8;

/// The least that TLS 1.2 takes as a beginning: one cipher suite, no compression, no extensions. It is answered with a
/// handshake or, more likely, with an alert.
const CLIENT_HELLO: &[u8] =
    b"\x16\x03\x01\0\x2d\x01\0\0\x29\x03\x03monmon asks whether this is TLS.\0\0\x02\xc0\x2f\x01\0";

const TLS_ALERT: u8 = 0x15;
const TLS_HANDSHAKE: u8 = 0x16;

/// Whether one of the brokers, `host:port` with commas between, certainly speaks TLS.
pub(crate) fn speaks_tls(brokers: &str) -> bool {
    any(brokers, CLIENT_HELLO, |answer: &[u8; 2]| matches!(answer, [TLS_ALERT | TLS_HANDSHAKE, 3]))
}

/// Whether one of the brokers certainly speaks Kafka's protocol in plaintext.
pub(crate) fn speaks_plaintext(brokers: &str) -> bool {
    any(brokers, API_VERSIONS, |answer: &[u8; 8]| answer[CORRELATION] == API_VERSIONS[8..12])
}

fn any<const N: usize>(brokers: &str, question: &[u8], is_it: impl Fn(&[u8; N]) -> bool) -> bool {
    let addresses =
        brokers.split(',').take(ASKED_MAX).filter_map(|broker| broker.trim().to_socket_addrs().ok());
    let mut answers =
        addresses.flat_map(|all| all.take(ASKED_MAX)).filter_map(|address| ask(address, question).ok());
    answers.any(|answer| is_it(&answer))
}

fn ask<const N: usize>(address: SocketAddr, question: &[u8]) -> std::io::Result<[u8; N]> {
    let mut stream = TcpStream::connect_timeout(&address, STEP)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    stream.write_all(question)?;
    let mut answer = [0; N];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
