//! The prober against HTTP/2 servers, good and bad.

use std::sync::Arc;

use bytes::Bytes;
use monmon_model::{Outcome, Phase};
use monmon_stage::PageBudget;
use monmon_testkit::Tls as TestTls;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::tests::{measure, prober};
use super::*;

#[derive(Clone, PartialEq)]
enum Manner {
    Good,
    RefuseStream,
    ResetInBody,
    ProtocolError,
    /// Agrees on HTTP/2 and answers in HTTP/1.
    SpeaksHttp1,
    /// Control frames without end.
    FloodsSettings,
    /// These bytes once the request is in, then those again and again; without them silence.
    Frames(Vec<u8>, Option<Vec<u8>>),
}

/// A frame as RFC 9113, section 4.1 has it.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, stream], payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// `:status: 200` of the static table (RFC 7541, appendix A).
const OK: &[u8] = &[0x88];

/// A header that no table knows, in the plainest form (RFC 7541, section 6.2.2).
fn plain_header(name: &str, value: &[u8]) -> Vec<u8> {
    assert!(name.len() < 127);
    let mut header = vec![0, name.len() as u8];
    header.extend_from_slice(name.as_bytes());
    match value.len() {
        length @ 0..127 => header.push(length as u8),
        mut length => {
            header.push(127);
            length -= 127;
            while length >= 128 {
                header.push((length % 128) as u8 | 128);
                length /= 128;
            }
            header.push(length as u8);
        }
    }
    header.extend_from_slice(value);
    header
}

async fn serve(stream: TlsStream<TcpStream>, manner: Manner) -> Result<(), h2::Error> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = stream;
    if manner == Manner::SpeaksHttp1 {
        let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        return stream.write_all(reply).await.map_err(|_gone| h2::Reason::NO_ERROR.into());
    }
    if manner == Manner::FloodsSettings {
        // An empty SETTINGS frame opens the connection; WINDOW_UPDATEs of one byte on the connection follow.
        let mut flood = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
        while stream.write_all(&flood).await.is_ok() {
            // A PRIORITY frame asks for nothing and is answered by nothing.
            flood = [0, 0, 5, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0].repeat(1_000);
        }
        return Ok(());
    }
    if let Manner::Frames(once, again) = &manner {
        let mut asked = [0; 256];
        let mut came = 0;
        while came < 100 {
            came += stream.read(&mut asked).await.map_err(|_gone| h2::Reason::NO_ERROR)?;
        }
        let settings = frame(SETTINGS, 0, 0, b"");
        stream.write_all(&[&settings[..], once].concat()).await.map_err(|_gone| h2::Reason::NO_ERROR)?;
        if let Some(again) = again {
            let flood = again.repeat(200);
            while stream.write_all(&flood).await.is_ok() {}
        }
        std::future::pending::<()>().await;
    }
    if manner == Manner::ResetInBody {
        // SETTINGS; HEADERS of stream 1 with `:status: 200`; five bytes of DATA; RST_STREAM with INTERNAL_ERROR.
        let frames = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88\0\0\x05\0\0\0\0\0\x01hello\
            \0\0\x04\x03\0\0\0\0\x01\0\0\0\x02";
        // The request comes first, so that the stream is known.
        let mut asked = [0; 256];
        let mut came = 0;
        while came < 100 {
            came += stream.read(&mut asked).await.map_err(|_gone| h2::Reason::NO_ERROR)?;
        }
        return stream.write_all(frames).await.map_err(|_gone| h2::Reason::NO_ERROR.into());
    }
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(asked) = connection.accept().await {
        let (request, mut respond) = asked?;
        assert_eq!(request.uri().scheme_str(), Some("https"));
        assert!(!request.headers().contains_key("host"));
        match manner {
            Manner::RefuseStream => respond.send_reset(h2::Reason::REFUSED_STREAM),
            Manner::ProtocolError => respond.send_reset(h2::Reason::PROTOCOL_ERROR),
            _ => {
                let mut body = respond.send_response(http::Response::new(()), false)?;
                body.send_data(Bytes::from_static(b"<title>two</title>"), true)?;
            }
        }
    }
    Ok(())
}

async fn met(manner: Manner) -> (Measurement, Option<Page>) {
    let authority = TestTls::new("an authority").unwrap();
    let mut config = (*authority.loopback_server().unwrap().server_config().unwrap()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let time = if matches!(manner, Manner::Frames(_, None)) { 1 } else { 20 };
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        // The client leaves when it has seen enough.
        let _end = serve(stream, manner).await;
        std::future::pending::<()>().await;
    };
    let prober = prober(authority.ca_pem(), Some(PageBudget::new(1 << 20)));
    let target = prober.target(&url, Vec::new(), Duration::from_secs(time));
    tokio::select! {
        found = measure(&prober, &target, &url) => found,
        () = server => unreachable!("it waits for ever"),
    }
}

#[tokio::test]
async fn http2_is_spoken_where_the_server_does() {
    let (measurement, page) = met(Manner::Good).await;
    assert_eq!(measurement.outcome, Outcome::Up, "{measurement:?}");
    assert_eq!(measurement.http_version.as_deref(), Some("2"));
    assert_eq!(page.unwrap().body, "<title>two</title>");
    assert!(measurement.tls.unwrap().version.is_some());
}

#[tokio::test]
async fn http2_failures_have_their_kinds() {
    for (manner, kind, phase) in [
        (Manner::RefuseStream, FailureKind::Refused, Phase::Wait),
        (Manner::ProtocolError, FailureKind::H2Protocol, Phase::Wait),
        (Manner::ResetInBody, FailureKind::BodyIncomplete, Phase::Transfer),
        (Manner::SpeaksHttp1, FailureKind::H2Protocol, Phase::Wait),
        (Manner::FloodsSettings, FailureKind::HeadTooLarge, Phase::Wait),
    ] {
        let (measurement, _) = met(manner).await;
        let failure = measurement.error.unwrap();
        assert_eq!((failure.kind, failure.phase), (kind, phase), "{}", failure.message);
    }
}

/// What no library would send.
#[tokio::test]
async fn http2_of_every_bad_kind_has_its_kind_and_its_bound() {
    let head = || frame(HEADERS, END_HEADERS, 1, OK);
    let data = |text: &[u8], flags: u8| frame(DATA, flags, 1, text);
    let more = |headers: &[Vec<u8>]| frame(HEADERS, END_HEADERS, 1, &[OK, &headers.concat()].concat());
    let whole = |frames: &[Vec<u8>]| Manner::Frames(frames.concat(), None);
    let flood = |first: &[Vec<u8>], again: Vec<u8>| Manner::Frames(first.concat(), Some(again));
    let early = || [vec![0x08, 3], b"103".to_vec()].concat();
    // 4,000 bytes into the table, then told of again and again by one byte each.
    let bomb = || {
        let mut block = plain_header("x", &[b'a'; 3_900]);
        block[0] = 0x40;
        [OK.to_vec(), block, vec![0xbe; 10_000]].concat()
    };
    let long =
        |count: usize| (0..count).map(|_| plain_header("x", &[b'a'; 1_000])).collect::<Vec<_>>().concat();
    let cases = [
        ("goaway at once", whole(&[frame(GOAWAY, 0, 0, &[0; 8])]), "refused", "wait"),
        (
            "goaway with an error",
            whole(&[frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2])]),
            "h2_protocol",
            "wait",
        ),
        (
            "goaway in the body",
            whole(&[
                head(),
                data(b"hel", 0),
                frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
                data(b"lo", END_STREAM),
            ]),
            "up",
            "",
        ),
        (
            "reset in the body",
            whole(&[head(), data(b"hel", 0), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])]),
            "body_incomplete",
            "transfer",
        ),
        ("ping flood", flood(&[], frame(PING, 0, 0, &[0; 8])), "head_too_large", "wait"),
        ("window flood", flood(&[], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])), "head_too_large", "wait"),
        ("unknown frames", flood(&[], frame(0xee, 0, 0, &[0; 64])), "head_too_large", "wait"),
        ("103 flood", flood(&[], frame(HEADERS, END_HEADERS, 1, &early())), "head_too_large", "wait"),
        (
            "continuation flood",
            flood(&[frame(HEADERS, 0, 1, OK)], frame(CONTINUATION, 0, 1, &long(10))),
            "h2_protocol",
            "wait",
        ),
        ("empty data flood", flood(&[head()], data(b"", 0)), "h2_protocol", "transfer"),
        ("hpack bomb", whole(&[frame(HEADERS, END_HEADERS, 1, &bomb())]), "h2_protocol", "wait"),
        (
            "80 KiB of headers",
            whole(&[
                frame(HEADERS, 0, 1, &[OK, &long(10)].concat()),
                frame(CONTINUATION, 0, 1, &long(16)),
                frame(CONTINUATION, 0, 1, &long(16)),
                frame(CONTINUATION, 0, 1, &long(16)),
                frame(CONTINUATION, 0, 1, &long(16)),
                frame(CONTINUATION, END_HEADERS, 1, &long(16)),
            ]),
            "h2_protocol",
            "wait",
        ),
        ("a frame too large", whole(&[head(), data(&[b'a'; 20_000], 0)]), "h2_protocol", "transfer"),
        (
            "a window that overflows",
            whole(&[
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            ]),
            "h2_protocol",
            "wait",
        ),
        ("a push", whole(&[frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82])]), "h2_protocol", "wait"),
        (
            "no status",
            whole(&[frame(HEADERS, END_HEADERS, 1, &plain_header("x", b"y"))]),
            "h2_protocol",
            "wait",
        ),
        ("a header in capitals", whole(&[more(&[plain_header("X-Big", b"y")])]), "h2_protocol", "wait"),
        (
            "a length that is not kept",
            whole(&[more(&[plain_header("content-length", b"10")]), data(b"hello", END_STREAM)]),
            "h2_protocol",
            "transfer",
        ),
        ("a head, then silence", whole(&[head()]), "timeout", "transfer"),
        ("silence", whole(&[]), "timeout", "wait"),
    ];
    // The library has one word for a head that is too large and for what it calls abuse: a breach of the protocol.
    let mut wrong = Vec::new();
    for (name, manner, kind, phase) in cases {
        let (measurement, _) = met(manner).await;
        let told = match &measurement.error {
            Some(failure) => (failure.kind.as_str(), failure.phase.as_str()),
            None => (measurement.outcome.as_str(), ""),
        };
        let sum: u64 = measurement.timings.phases().into_iter().flatten().sum();
        assert_eq!(sum, measurement.timings.total_us);
        if told != (kind, phase) {
            wrong.push(format!("{name}: {told:?}, expected {:?}: {:?}", (kind, phase), measurement.error));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
