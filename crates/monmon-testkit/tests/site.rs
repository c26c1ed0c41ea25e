//! The site, seen by a bare TCP client and by its own log.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod client;

use std::time::Duration;

use client::{get, get_from};
use monmon_testkit::{Answer, Site, SiteOptions, Tls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn pages_are_answered_as_set() {
    let site = Site::start().unwrap();
    site.set("/a", Answer::html("Hello", 10_240));
    site.set("/b", Answer::status(503).header("retry-after", "7"));
    site.set_below("/many/", Answer::text("one of many"));
    site.set("/go", Answer::redirect("/a"));
    let a = get(site.addr(), "/a?x=1").await;
    assert_eq!((a.status, a.body.len()), (200, 10_240));
    assert!(a.text().contains("<title>Hello</title>"));
    let b = get(site.addr(), "/b").await;
    assert_eq!(b.status, 503);
    assert!(b.head.contains("retry-after: 7"));
    assert_eq!(get(site.addr(), "/many/17").await.text(), "one of many");
    assert!(get(site.addr(), "/go").await.head.contains("location: /a"));
    assert_eq!(get(site.addr(), "/none").await.status, 404);
    site.set("/a", Answer::text("changed"));
    assert_eq!(get(site.addr(), "/a").await.text(), "changed");
    site.remove("/a");
    assert_eq!(get(site.addr(), "/a").await.status, 404);
}

#[tokio::test]
async fn every_request_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.jsonl");
    let site = Site::with(SiteOptions { access_log: Some(file.clone()), ..SiteOptions::default() }).unwrap();
    site.set("/page", Answer::html("t", 2_000));
    for number in 0..20 {
        get(site.addr(), &format!("/page?n={number}")).await;
    }
    assert!(site.reached(20, LONG).await);
    let hits = site.hits_of("/page");
    let queries: Vec<_> = hits.iter().filter_map(|hit| hit.query.clone()).collect();
    assert_eq!(queries, (0..20).map(|n| format!("n={n}")).collect::<Vec<_>>());
    for hit in &hits {
        assert_eq!(
            (hit.method.as_str(), hit.status, hit.body_bytes, hit.complete),
            ("GET", 200, 2_000, true)
        );
        assert!(hit.requested >= hit.accepted && hit.peer_port != 0);
        assert_eq!(hit.header("Host"), Some("site.test"));
    }
    site.clear();
    assert_eq!((site.hits().len(), site.count()), (0, 20));
    drop(site);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 20);
    let first = text.lines().next().unwrap();
    assert!(first.contains(
        r#""status":200,"body_bytes":2000,"complete":true,"method":"GET","path":"/page","query":"n=0""#
    ));
}

#[tokio::test]
async fn a_connection_is_kept_until_the_client_closes_it() {
    let site = Site::start().unwrap();
    site.set("/", Answer::text("hi"));
    let mut stream = TcpStream::connect(site.addr()).await.unwrap();
    // Two requests at once, the first of them with a body.
    let both = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabcGET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 2);
    let hits = site.hits();
    assert_eq!(hits[0].peer_port, hits[1].peer_port);
    assert_eq!((hits[0].method.as_str(), hits[1].status), ("POST", 404));
}

#[tokio::test]
async fn a_request_that_is_never_answered_is_logged_as_such() {
    let mut site = Site::start().unwrap();
    site.set("/never", Answer::text("x").delay_head(Duration::from_secs(3_600)));
    site.set("/half", Answer::html("t", 4_000).delay_body(Duration::from_secs(3_600)));
    let mut never = TcpStream::connect(site.addr()).await.unwrap();
    never.write_all(b"GET /never HTTP/1.1\r\n\r\n").await.unwrap();
    let mut half = TcpStream::connect(site.addr()).await.unwrap();
    half.write_all(b"GET /half HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(site.reached(2, LONG).await);
    let mut some = vec![0; 2_000];
    half.read_exact(&mut some).await.unwrap();
    site.stop();
    let (never, half) = (&site.hits_of("/never")[0], &site.hits_of("/half")[0]);
    assert_eq!((never.status, never.body_bytes, never.complete), (0, 0, false));
    assert_eq!((half.status, half.body_bytes, half.complete), (200, 2_000, false));
}

#[tokio::test]
async fn an_outage_refuses_and_ends_on_the_same_port() {
    let mut site = Site::start().unwrap();
    let addr = site.addr();
    assert_eq!(get(addr, "/").await.status, 200);
    for _ in 0..3 {
        site.stop();
        let refused = TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        site.resume().unwrap();
        assert_eq!((site.addr(), get(addr, "/").await.status), (addr, 200));
    }
}

#[tokio::test]
async fn tls_is_spoken_with_a_certificate_of_the_authority() {
    let tls = Tls::new("test authority").unwrap();
    let site = Site::start_tls(&tls).unwrap();
    site.set("/", Answer::text("secret"));
    let stream = client::tls(site.addr(), "site.test", tls.ca_pem()).await.unwrap();
    assert_eq!(get_from(stream, "/").await.text(), "secret");
    let stranger = Tls::new("stranger").unwrap();
    assert!(client::tls(site.addr(), "site.test", stranger.ca_pem()).await.is_err());
    assert!(site.url("/x").starts_with("https://127.0.0.1:"));
}

#[tokio::test]
async fn gzip_has_its_length() {
    let site = Site::start().unwrap();
    site.set("/", Answer::html("Packed", 50_000).gzip());
    let answer = get(site.addr(), "/").await;
    assert!(answer.head.contains("content-encoding: gzip"));
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut plain).unwrap();
    assert_eq!(plain.len(), 50_000);
}

#[tokio::test]
async fn the_demo_site_answers_what_the_path_asks() {
    let site = Site::with(SiteOptions { demo: true, ..SiteOptions::default() }).unwrap();
    for (path, status, bytes) in [("/page/7", 200, Some(10_240)), ("/bytes/300", 200, Some(300))] {
        let answer = get(site.addr(), path).await;
        assert_eq!((answer.status, Some(answer.body.len())), (status, bytes), "{path}");
    }
    for (path, status) in [
        ("/status/418", 418),
        ("/redirect/2", 302),
        ("/redirect/0", 200),
        ("/slow/1", 200),
        ("/bytes/x", 404),
    ] {
        assert_eq!(get(site.addr(), path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn files_are_written_and_keys_kept_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::new("a").unwrap();
    let files = tls.write(&folder.path().join("tls"), "monmon").unwrap();
    assert_eq!(std::fs::read_to_string(&files.ca).unwrap(), tls.ca_pem());
    for key in [&files.server_key, &files.client_key] {
        assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(std::fs::read_to_string(&files.client_certificate).unwrap().contains("BEGIN CERTIFICATE"));
}
