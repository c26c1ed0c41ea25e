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

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    RefuseStream,
    ResetInBody,
    ProtocolError,
    /// Agrees on HTTP/2 and answers in HTTP/1.
    SpeaksHttp1,
    /// Control frames without end.
    FloodsSettings,
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
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        let stream = acceptor.accept(stream).await.unwrap();
        // The client leaves when it has seen enough.
        let _end = serve(stream, manner).await;
        std::future::pending::<()>().await;
    };
    let prober = prober(authority.ca_pem(), Some(PageBudget::new(1 << 20)));
    let target = prober.target(&url, Vec::new(), Duration::from_secs(20));
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
