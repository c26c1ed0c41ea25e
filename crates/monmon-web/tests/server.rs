//! The server against clients of every kind, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use monmon_web::{Answer, CONNECTIONS_MAX, Pages, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A bound for what must happen; reached only when it does not.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server whose `/page` holds a page; it ends with the set.
async fn server() -> (SocketAddr, JoinSet<()>) {
    let pages: Pages = Arc::new(|path| match path {
        "/page" => Some(Answer {
            status: StatusCode::OK,
            content_type: "text/plain",
            body: Bytes::from_static(b"a page\n"),
        }),
        "/bug" => panic!("a page's bug"),
        _ => None,
    });
    let server = Server::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a port");
    let address = server.address();
    let mut tasks = JoinSet::new();
    tasks.spawn(server.serve(pages));
    (address, tasks)
}

/// What comes back, to the end of the connection.
async fn ask(address: SocketAddr, request: &[u8]) -> String {
    let work = async {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // A server that has seen enough may end the connection before all is written.
        stream.write_all(request).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(PATIENCE, work).await.expect("an answer or an end")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_gets_its_answer() {
    let (address, _tasks) = server().await;
    let long = format!("GET /page?{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(100_000));
    let fields = format!("GET /page HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(1_000));
    for (request, expected) in [
        ("GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n", "200"),
        ("GET /page?x=1 HTTP/1.0\r\n\r\n", "200"),
        ("HEAD /page HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("GET /page/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
        ("POST /page HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", "405"),
        ("DELETE /page HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("GET /page HTTP/1.1\r\nHost: rebound.example.org\r\n\r\n", "421"),
        ("GET /bug HTTP/1.1\r\nHost: localhost\r\n\r\n", "500"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "400"),
        (&fields, "431"),
    ] {
        let answer = ask(address, request.as_bytes()).await;
        assert_eq!(status(&answer), expected, "{:?} for {:?}", answer, &request[..request.len().min(80)]);
    }
    assert!(["414", "431", "none"].contains(&status(&ask(address, long.as_bytes()).await)));
    let answer = ask(address, b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\na page\n"), "{answer}");
    assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
    let answer = ask(address, b"HEAD /page HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\n") && answer.contains("content-length: 7"), "{answer}");
}

/// More than may be connected: each of them that says nothing makes way for one that does.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_only_sit_there_keep_nobody_out() {
    let (address, _tasks) = server().await;
    let mut idle = Vec::new();
    for number in 0..1_000 {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // Half of them have begun to speak.
        if number % 2 == 0 {
            stream.write_all(b"GET /page HT").await.ok();
        }
        idle.push(stream);
        if number % 100 == 99 {
            let answer = ask(address, b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
            assert_eq!(status(&answer), "200");
        }
    }
    let mut open = 0;
    for stream in &mut idle {
        // Ended by the server, or still waited for.
        let mut byte = [0];
        if tokio::time::timeout(Duration::from_millis(1), stream.read(&mut byte)).await.is_err() {
            open += 1;
        }
    }
    assert!(open <= CONNECTIONS_MAX, "{open} are held");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let (address, _tasks) = server().await;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(b"GET /page HTTP/1.1\r\nHost: loc").await.expect("written");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.ok();
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}
