//! Each hostile behaviour, seen by a bare TCP client: that it does what its name says.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod client;

use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use client::{get, request};
use monmon_model::{FailureKind, Phase};
use monmon_testkit::{Behaviour, Expected, HOSTILE_PAGE_TITLE, HostileSite};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Real time that is given to what should not happen. Long enough for loopback, short enough for a table.
const QUIET: Duration = Duration::from_millis(400);
/// Real time that is given to what should happen.
const PATIENCE: Duration = Duration::from_secs(30);
const ENOUGH_BYTES: usize = 8 << 20;

/// What a client saw.
#[derive(Debug, PartialEq)]
enum Seen {
    Refused,
    /// No answer to the connection attempt.
    NoConnection,
    /// So many bytes, then silence.
    Silence,
    Reset,
    End,
    /// More than anybody wants.
    Endless,
}

/// Connects, asks (unless it is to stay silent), reads to the end.
async fn see(addr: SocketAddr, ask: &[u8], patience: Duration) -> (Seen, Vec<u8>) {
    let mut got = Vec::new();
    let mut stream = match timeout(patience, TcpStream::connect(addr)).await {
        Err(_) => return (Seen::NoConnection, got),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return (Seen::Refused, got),
        Ok(Err(error)) => panic!("{error}"),
        Ok(Ok(stream)) => stream,
    };
    if stream.write_all(ask).await.is_err() {
        return (Seen::Reset, got);
    }
    loop {
        if got.len() > ENOUGH_BYTES {
            return (Seen::Endless, got);
        }
        match timeout(patience, stream.read_buf(&mut got)).await {
            Err(_) => return (Seen::Silence, got),
            Ok(Ok(0)) => return (Seen::End, got),
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return (Seen::Reset, got),
        }
    }
}

fn ends(behaviour: Behaviour) -> Seen {
    use Behaviour as B;
    match behaviour {
        B::ConnectRefused => Seen::Refused,
        B::ConnectBlackhole => Seen::NoConnection,
        B::AcceptReset | B::RequestReset | B::BodyReset | B::ResetAfterEnd => Seen::Reset,
        B::AcceptSilence
        | B::HeadSilence
        | B::HeadStall
        | B::BodyStall
        | B::BodyStallAtLast
        | B::SlowClose => Seen::Silence,
        B::EndlessHeaders
        | B::EndlessHeaderValue
        | B::EndlessReason
        | B::Endless100
        | B::Endless103
        | B::BodyEndless
        | B::BodyOversize
        | B::ChunkExtensionFlood
        | B::TrailerFlood
        | B::RedirectEndlessBody => Seen::Endless,
        _ => Seen::End,
    }
}

#[tokio::test]
async fn every_plain_behaviour_ends_as_it_should() {
    let site = HostileSite::start().unwrap();
    for behaviour in Behaviour::ALL.iter().copied().filter(|behaviour| behaviour.scheme() == "http") {
        if matches!(behaviour, Behaviour::HeadDrip | Behaviour::BodyDrip) {
            continue;
        }
        let addr = site.addr(behaviour).unwrap();
        let name = behaviour.name();
        let silent = matches!(ends(behaviour), Seen::Silence | Seen::NoConnection);
        let patience = if silent { QUIET } else { PATIENCE };
        let (seen, got) = see(addr, &request("/"), patience).await;
        assert_eq!(seen, ends(behaviour), "{name}: {} bytes", got.len());
        if matches!(behaviour.expected(), Expected::Up | Expected::Status(_) | Expected::Undecodable) {
            assert!(got.starts_with(b"HTTP/1.1 "), "{name}");
        }
        let connections = site.connections(behaviour);
        if !matches!(behaviour, Behaviour::ConnectRefused | Behaviour::ConnectBlackhole) {
            assert_eq!(connections, 1, "{name}");
            assert_eq!(site.sent_bytes(behaviour) == 0, got.is_empty(), "{name}");
        }
    }
}

#[tokio::test]
async fn drips_go_on_and_stay_slow() {
    let site = HostileSite::with(&[Behaviour::HeadDrip, Behaviour::BodyDrip]).unwrap();
    for behaviour in [Behaviour::HeadDrip, Behaviour::BodyDrip] {
        let mut stream = TcpStream::connect(site.addr(behaviour).unwrap()).await.unwrap();
        stream.write_all(&request("/")).await.unwrap();
        let mut got = Vec::new();
        // Five drops past the start.
        while !got.ends_with(b"ddddd") {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0);
        }
        assert!(got.len() < 2_000);
    }
}

#[tokio::test]
async fn the_bomb_is_small_outside_and_large_inside() {
    let site = HostileSite::with(&[Behaviour::GzipBomb]).unwrap();
    let mut stream = TcpStream::connect(site.addr(Behaviour::GzipBomb).unwrap()).await.unwrap();
    stream.write_all(&request("/")).await.unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert!(got.len() < 2 << 20, "{} bytes", got.len());
    let body = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let decoder = flate2::read::GzDecoder::new(&got[body..]);
    // To the end, so that its checksum is looked at.
    let mut decoder = decoder;
    let plain = io::copy(&mut decoder, &mut io::sink()).unwrap();
    assert!(plain > 1 << 30, "{plain} bytes");
}

#[tokio::test]
async fn redirects_lead_where_they_say() {
    let site = HostileSite::with(&[
        Behaviour::RedirectLoop,
        Behaviour::RedirectFive,
        Behaviour::RedirectFifty,
        Behaviour::RedirectOtherOrigin,
        Behaviour::RedirectRelative,
    ])
    .unwrap();
    let addr = |behaviour| site.addr(behaviour).unwrap();
    assert!(get(addr(Behaviour::RedirectLoop), "/").await.head.contains("location: /"));
    for (behaviour, hops) in [(Behaviour::RedirectFive, 5), (Behaviour::RedirectFifty, 50)] {
        for hop in 0..hops {
            let path = if hop == 0 { "/".to_owned() } else { format!("/hop/{hop}") };
            let answer = get(addr(behaviour), &path).await;
            assert!(answer.head.contains(&format!("location: /hop/{}", hop + 1)));
        }
        assert!(get(addr(behaviour), &format!("/hop/{hops}")).await.text().contains(HOSTILE_PAGE_TITLE));
    }
    let answer = get(addr(Behaviour::RedirectOtherOrigin), "/").await;
    assert!(answer.head.contains(&site.other_origin().url("/landed")));
    assert_eq!(get(site.other_origin().addr(), "/landed").await.status, 200);
    assert_eq!(get(addr(Behaviour::RedirectRelative), "/landed").await.status, 200);
}

#[tokio::test]
async fn tls_faults_are_told_apart_by_a_real_client() {
    let site = HostileSite::start().unwrap();
    for (behaviour, words) in [
        (Behaviour::TlsExpired, "expired"),
        (Behaviour::TlsNotYetValid, "not valid yet"),
        (Behaviour::TlsWrongName, "not valid for name"),
        (Behaviour::TlsSelfSigned, "UnknownIssuer"),
        (Behaviour::TlsUnknownIssuer, "UnknownIssuer"),
        (Behaviour::TlsMissingIntermediate, "UnknownIssuer"),
        (Behaviour::TlsManyNames, "TooLarge"),
        (Behaviour::TlsOld, "peer is incompatible"),
        (Behaviour::TlsVersionAlert, "ProtocolVersion"),
        (Behaviour::TlsAlert, "HandshakeFailure"),
        (Behaviour::TlsClose, "eof"),
        (Behaviour::TlsReset, "reset"),
        (Behaviour::TlsPlaintext, "corrupt message"),
        (Behaviour::TlsClientCertificate, "CertificateRequired"),
    ] {
        let error = client::tls(site.addr(behaviour).unwrap(), "site.test", site.ca_pem()).await.unwrap_err();
        let said = error.to_string();
        assert!(said.to_lowercase().contains(&words.to_lowercase()), "{}: {said}", behaviour.name());
    }
    for behaviour in [Behaviour::TlsHang, Behaviour::TlsDrip] {
        let shaking = client::tls(site.addr(behaviour).unwrap(), "site.test", site.ca_pem());
        assert!(timeout(QUIET * 2, shaking).await.is_err(), "{}", behaviour.name());
        assert_eq!(site.connections(behaviour), 1);
    }
    assert!(site.sent_bytes(Behaviour::TlsDrip) > 0);
    for (behaviour, clean) in [
        (Behaviour::TlsChainOutOfOrder, true),
        (Behaviour::TlsNoCloseNotify, false),
        (Behaviour::TlsTruncated, false),
    ] {
        let addr = site.addr(behaviour).unwrap();
        let mut stream = client::tls(addr, "site.test", site.ca_pem()).await.unwrap();
        stream.write_all(&request("/")).await.unwrap();
        let mut got = Vec::new();
        assert_eq!(stream.read_to_end(&mut got).await.is_ok(), clean, "{}", behaviour.name());
        assert!(String::from_utf8_lossy(&got).contains(HOSTILE_PAGE_TITLE));
    }
}

#[test]
fn names_are_unique_and_expectations_are_words_of_the_model() {
    let names: BTreeSet<_> = Behaviour::ALL.iter().map(|behaviour| behaviour.name()).collect();
    assert_eq!(names.len(), Behaviour::ALL.len());
    for behaviour in Behaviour::ALL {
        let Some((kind, phase)) = behaviour.expected().failure() else { continue };
        assert!(FailureKind::ALL.iter().any(|known| known.as_str() == kind), "{kind}");
        assert!(Phase::ALL.iter().any(|known| known.as_str() == phase), "{phase}");
    }
}
