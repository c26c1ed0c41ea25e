//! The proxy between a bare client and an echo server.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{io, net::SocketAddr, time::Duration};

use monmon_testkit::{Proxy, ProxyMode, Way};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Real time that is given to what should not happen.
const QUIET: Duration = Duration::from_millis(150);

/// A server that says back what it hears.
async fn echo(tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    addr
}

async fn round_trip(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).await?;
    assert_eq!(back, bytes);
    Ok(())
}

async fn assert_reset(stream: &mut TcpStream) {
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn passes_and_ends_with_the_client() {
    let mut tasks = JoinSet::new();
    let proxy = Proxy::start(echo(&mut tasks).await).unwrap();
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    let big = vec![7; 300_000];
    let (mut read, mut write) = stream.split();
    let mut back = Vec::new();
    let (sent, received) = tokio::join!(
        async {
            write.write_all(&big).await?;
            write.shutdown().await
        },
        read.read_to_end(&mut back)
    );
    sent.unwrap();
    received.unwrap();
    assert_eq!(back, big);
    let counters = proxy.counters();
    assert_eq!(
        (counters.accepted, counters.bytes_to_server, counters.bytes_to_client),
        (1, 300_000, 300_000)
    );
    assert_eq!((counters.reset, counters.unreachable), (0, 0));
}

#[tokio::test]
async fn resets_what_is_open_and_what_comes() {
    let mut tasks = JoinSet::new();
    let mut proxy = Proxy::start(echo(&mut tasks).await).unwrap();
    let mut open = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut open, b"before").await.unwrap();
    proxy.set(ProxyMode::Reset).unwrap();
    assert_reset(&mut open).await;
    // The reset may come before `connect` has looked whether it succeeded.
    match TcpStream::connect(proxy.addr()).await {
        Ok(mut new) => assert_reset(&mut new).await,
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    proxy.set(ProxyMode::Pass).unwrap();
    let mut healed = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut healed, b"after").await.unwrap();
    assert_eq!(proxy.counters().reset, 2);
}

#[tokio::test]
async fn refuses_and_comes_back_on_its_port() {
    let mut tasks = JoinSet::new();
    let mut proxy = Proxy::start(echo(&mut tasks).await).unwrap();
    let addr = proxy.addr();
    let mut open = TcpStream::connect(addr).await.unwrap();
    round_trip(&mut open, b"before").await.unwrap();
    proxy.set(ProxyMode::Refuse).unwrap();
    assert_reset(&mut open).await;
    let refused = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    proxy.set(ProxyMode::Pass).unwrap();
    assert_eq!(proxy.addr(), addr);
    round_trip(&mut TcpStream::connect(addr).await.unwrap(), b"after").await.unwrap();
}

#[tokio::test]
async fn a_black_hole_moves_nothing_until_it_heals() {
    let mut tasks = JoinSet::new();
    let mut proxy = Proxy::start(echo(&mut tasks).await).unwrap();
    let mut open = TcpStream::connect(proxy.addr()).await.unwrap();
    round_trip(&mut open, b"before").await.unwrap();
    let before = proxy.counters();
    proxy.set(ProxyMode::Blackhole).unwrap();
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    open.write_all(b"x").await.unwrap();
    new.write_all(b"y").await.unwrap();
    for stream in [&mut open, &mut new] {
        assert!(tokio::time::timeout(QUIET, stream.read_u8()).await.is_err());
    }
    assert_eq!(proxy.counters().bytes_to_server, before.bytes_to_server);
    proxy.set(ProxyMode::Pass).unwrap();
    assert_eq!(open.read_u8().await.unwrap(), b'x');
    assert_eq!(new.read_u8().await.unwrap(), b'y');
}

#[tokio::test]
async fn cuts_at_the_very_byte() {
    let mut tasks = JoinSet::new();
    let mut proxy = Proxy::start(echo(&mut tasks).await).unwrap();
    for bytes in [1, 10, 1_000] {
        proxy.set(ProxyMode::CutAfter { bytes, way: Way::ToServer }).unwrap();
        let before = proxy.counters();
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        stream.write_all(&[1; 5_000]).await.unwrap();
        let mut back = Vec::new();
        let error = stream.read_to_end(&mut back).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let after = proxy.counters();
        assert_eq!(after.bytes_to_server - before.bytes_to_server, bytes);
        assert_eq!(after.reset - before.reset, 1);
    }
}

#[tokio::test]
async fn slow_ways_lose_nothing() {
    let mut tasks = JoinSet::new();
    let mut proxy = Proxy::start(echo(&mut tasks).await).unwrap();
    for mode in
        [ProxyMode::Throttle { bytes_per_second: 200_000 }, ProxyMode::Delay(Duration::from_millis(5))]
    {
        proxy.set(mode).unwrap();
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        round_trip(&mut stream, &[9; 30_000]).await.unwrap();
        assert_eq!(proxy.mode(), mode);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Proxy::start(nobody).unwrap();
    match TcpStream::connect(proxy.addr()).await {
        Ok(mut stream) => assert_reset(&mut stream).await,
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    assert_eq!(proxy.counters().unreachable, 1);
}
