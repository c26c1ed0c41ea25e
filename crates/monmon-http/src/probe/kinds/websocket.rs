//! `ws://` and `wss://`: the handshake (RFC 6455), and an answer: to a ping, or to a message of the check's own.

use bytes::Bytes;
use fancy_regex::Regex;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use http::header::{self, HeaderName};
use monmon_model::{Failure, FailureKind, Phase};
use monmon_stage::Page;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::super::Prober;
use super::super::failure::of_io;
use super::super::manner::within;
use super::super::reach::{Io, Then, Visit, reach, secure};
use super::super::request::{More, Prepared};
use super::super::tls::Alpn;

/// The longest message that is taken.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// How many messages may come before the one that is waited for.
const MESSAGES_MAX: usize = 1000;
const PING: &[u8] = b"monmon";

#[derive(Debug)]
pub(crate) struct WebSocket {
    /// The same URL as http:// or https://.
    pub(crate) request: Prepared,
    pub(crate) send: Option<Bytes>,
    pub(crate) reply: Option<Regex>,
}

impl WebSocket {
    pub(crate) async fn carry_out(
        &self,
        prober: &Prober,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Page>, Failure> {
        let manner = visit.manner;
        let then = if self.request.is_tls() { Then::Tls } else { Then::Talk };
        let io = reach(&self.request.place(), then, visit).await?;
        let name = self.request.server_name().filter(|_| self.request.is_tls());
        let io = match &name {
            Some(name) => secure(io, name, Alpn::Http1, visit).await?.0,
            None => io,
        };
        visit.trace.enter(Phase::Wait);
        let shaking = async { self.shake(io).await };
        let socket = match within(manner.timeouts.wait, Phase::Wait, shaking).await? {
            Shaken::Open(socket) => {
                visit.facts.status = Some(101);
                *socket
            }
            // A refusal is a reply like any other; what is expected of its status is judged with the rest.
            Shaken::Refused(status) => {
                visit.facts.status = Some(status);
                return Ok(None);
            }
        };
        visit.facts.http_version = Some("1.1");
        visit.trace.enter(Phase::Transfer);
        let said = within(manner.timeouts.idle, Phase::Transfer, self.talk(socket)).await?;
        let bytes = Bytes::from(said.text);
        if !said.wanted {
            let pattern = self.reply.as_ref().map(Regex::as_str).unwrap_or_default();
            let message = format!("no message matches `{pattern}`");
            visit.facts.misses.push(("reply".to_owned(), message));
        }
        Ok(if self.send.is_some() { prober.page_of(bytes, visit.facts, manner) } else { None })
    }

    async fn shake(&self, io: Io) -> Result<Shaken, Failure> {
        let asked = self.request.http1(&More::default(), None);
        let mut request = Request::new(());
        // The library wants its own scheme: ws for http, wss for https.
        let url = format!("ws{}", self.request.url.as_str().trim_start_matches("http"));
        *request.uri_mut() = url.parse().map_err(|error| {
            Failure::new(FailureKind::Internal, Phase::Start, format!("the URL cannot be sent: {error}"))
        })?;
        *request.headers_mut() = asked.headers().clone();
        let fixed: [(HeaderName, &str); 3] = [
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
        ];
        for (name, value) in fixed {
            request.headers_mut().insert(name, http::HeaderValue::from_static(value));
        }
        if let Ok(key) = http::HeaderValue::try_from(generate_key()) {
            request.headers_mut().insert(header::SEC_WEBSOCKET_KEY, key);
        }
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MESSAGE_BYTES_MAX);
        config.max_frame_size = Some(MESSAGE_BYTES_MAX);
        match client_async_with_config(request, io, Some(config)).await {
            Ok((socket, _)) => Ok(Shaken::Open(Box::new(socket))),
            Err(Error::Http(reply)) => Ok(Shaken::Refused(reply.status().as_u16())),
            Err(error) => Err(failure(&error, Phase::Wait)),
        }
    }

    async fn talk(&self, mut socket: WebSocketStream<Io>) -> Result<Said, Failure> {
        let failed = |error: Error| failure(&error, Phase::Transfer);
        let message = match &self.send {
            Some(bytes) => Message::text(String::from_utf8_lossy(bytes).into_owned()),
            None => Message::Ping(Bytes::from_static(PING)),
        };
        socket.send(message).await.map_err(failed)?;
        for _ in 0..MESSAGES_MAX {
            let Some(message) = socket.next().await else { break };
            match message.map_err(failed)? {
                Message::Pong(payload) if self.send.is_none() && payload.as_ref() == PING => {
                    close(socket).await;
                    return Ok(Said { wanted: true, text: String::new() });
                }
                Message::Text(text) if self.send.is_some() => {
                    let matches = |pattern: &Regex| pattern.is_match(text.as_str()).unwrap_or(false);
                    if self.reply.as_ref().is_none_or(matches) {
                        let text = text.to_string();
                        close(socket).await;
                        return Ok(Said { wanted: true, text });
                    }
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
        if self.send.is_some() && self.reply.is_some() {
            return Ok(Said { wanted: false, text: String::new() });
        }
        let message = "the connection closed before the answer";
        Err(Failure::new(FailureKind::ClosedEarly, Phase::Transfer, message))
    }
}

enum Shaken {
    Open(Box<WebSocketStream<Io>>),
    Refused(u16),
}

struct Said {
    wanted: bool,
    text: String,
}

/// Says good-bye; whether it is heard is no part of the check.
async fn close(mut socket: WebSocketStream<Io>) {
    if let Err(error) = socket.send(Message::Close(None)).await {
        tracing::debug!(%error, "a closing frame was not sent");
    }
}

fn failure(error: &Error, phase: Phase) -> Failure {
    match error {
        Error::Io(error) => of_io(error, phase),
        Error::ConnectionClosed | Error::AlreadyClosed => {
            Failure::new(FailureKind::ClosedEarly, phase, "the server closed the connection")
        }
        Error::Capacity(_) => Failure::new(FailureKind::TooLarge, phase, error.to_string()),
        Error::HttpFormat(_) => Failure::new(FailureKind::HttpParse, phase, error.to_string()),
        _ => Failure::new(FailureKind::Protocol, phase, error.to_string()),
    }
}
