//! How protocols go over to TLS on a connection that began without it.

use monmon_model::{Failure, FailureKind, Phase};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::failure::of_io;
use super::super::reach::Io;

/// How much a server may say before TLS begins.
const TALK_BYTES_MAX: usize = 64 * 1024;

/// The request of RFC 4511, section 4.14: an extended operation with the name 1.3.6.1.4.1.1466.20037.
const LDAP_REQUEST: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";
/// `resultCode success` of its answer.
const LDAP_SUCCESS: &[u8] = b"\x0a\x01\x00";
/// `SSLRequest` of PostgreSQL's protocol.
const POSTGRES_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartTls {
    /// RFC 3207.
    Smtp,
    /// RFC 3501, section 6.2.1.
    Imap,
    /// RFC 2595, section 4.
    Pop3,
    /// RFC 4217.
    Ftp,
    /// RFC 6120, section 5.
    Xmpp,
    Ldap,
    Postgres,
}

impl StartTls {
    pub(crate) const WORDS: &'static [&'static str] =
        &["smtp", "imap", "pop3", "ftp", "xmpp", "ldap", "postgres"];

    pub(crate) fn of(word: &str) -> Option<StartTls> {
        Some(match word {
            "smtp" => StartTls::Smtp,
            "imap" => StartTls::Imap,
            "pop3" => StartTls::Pop3,
            "ftp" => StartTls::Ftp,
            "xmpp" => StartTls::Xmpp,
            "ldap" => StartTls::Ldap,
            "postgres" => StartTls::Postgres,
            _ => return None,
        })
    }

    /// Asks for TLS; what comes back is the connection on which it begins.
    pub(crate) async fn ask(self, io: Io) -> Result<Io, Failure> {
        let mut talk = Talk { io, said: Vec::new() };
        match self {
            StartTls::Smtp => {
                talk.lines("220").await?;
                talk.say(b"EHLO monmon.invalid\r\n").await?;
                let offered = talk.lines("250").await?.to_ascii_uppercase();
                if !offered.contains("STARTTLS") {
                    return Err(refused("does not offer STARTTLS"));
                }
                talk.say(b"STARTTLS\r\n").await?;
                talk.lines("220").await?;
            }
            StartTls::Ftp => {
                talk.lines("220").await?;
                talk.say(b"AUTH TLS\r\n").await?;
                talk.lines("234").await?;
            }
            StartTls::Imap => {
                talk.until(|line| line.starts_with("* OK"), "* ").await?;
                talk.say(b"a1 STARTTLS\r\n").await?;
                talk.until(|line| line.to_ascii_uppercase().starts_with("A1 OK"), "* ").await?;
            }
            StartTls::Pop3 => {
                talk.until(|line| line.starts_with("+OK"), "+").await?;
                talk.say(b"STLS\r\n").await?;
                talk.until(|line| line.starts_with("+OK"), "+").await?;
            }
            StartTls::Xmpp => {
                talk.say(
                    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' \
                      xmlns:stream='http://etherx.jabber.org/streams'>",
                )
                .await?;
                let ends = ["</stream:features>", "</stream:stream>"];
                talk.element("urn:ietf:params:xml:ns:xmpp-tls", &ends).await?;
                talk.say(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await?;
                talk.element("<proceed", &["<proceed", "<failure", "</stream:stream>"]).await?;
            }
            StartTls::Ldap => {
                talk.say(LDAP_REQUEST).await?;
                // The answer says its own length; short ones are all there are.
                let length = usize::from(talk.bytes(2).await?[1]);
                if length >= 0x80 || !talk.bytes(length).await?.windows(3).any(|part| part == LDAP_SUCCESS) {
                    return Err(refused("refuses StartTLS"));
                }
            }
            StartTls::Postgres => {
                talk.say(POSTGRES_REQUEST).await?;
                if talk.bytes(1).await? != b"S" {
                    return Err(refused("has no TLS"));
                }
            }
        }
        Ok(talk.io)
    }
}

fn refused(what: &str) -> Failure {
    Failure::new(FailureKind::Protocol, Phase::Wait, format!("the server {what}"))
}

/// A conversation. Read byte by byte, so that nothing of the handshake that follows is taken; it is short.
struct Talk {
    io: Io,
    said: Vec<u8>,
}

impl Talk {
    async fn say(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let failed = |error| of_io(&error, Phase::Wait);
        self.io.write_all(bytes).await.map_err(failed)?;
        self.io.flush().await.map_err(failed)
    }

    async fn byte(&mut self) -> Result<u8, Failure> {
        if self.said.len() >= TALK_BYTES_MAX {
            return Err(Failure::new(
                FailureKind::TooLarge,
                Phase::Wait,
                "the server says too much before TLS",
            ));
        }
        let byte = self.io.read_u8().await.map_err(|error| of_io(&error, Phase::Wait))?;
        self.said.push(byte);
        Ok(byte)
    }

    async fn bytes(&mut self, count: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::with_capacity(count);
        for _ in 0..count {
            bytes.push(self.byte().await?);
        }
        Ok(bytes)
    }

    async fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        loop {
            match self.byte().await? {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }

    /// A reply of one or more lines that begin with a code (RFC 5321, section 4.2.1).
    async fn lines(&mut self, code: &str) -> Result<String, Failure> {
        let mut all = String::new();
        loop {
            let line = self.line().await?;
            if !line.starts_with(code) {
                return Err(unexpected(&line, code));
            }
            let more = line.as_bytes().get(3) == Some(&b'-');
            all.push_str(&line);
            all.push('\n');
            if !more {
                return Ok(all);
            }
        }
    }

    /// Lines up to the one that is wanted; others have to begin as `meanwhile`.
    async fn until(&mut self, wanted: impl Fn(&str) -> bool, meanwhile: &str) -> Result<(), Failure> {
        loop {
            let line = self.line().await?;
            if wanted(&line) {
                return Ok(());
            }
            if !line.starts_with(meanwhile) {
                return Err(unexpected(&line, "OK"));
            }
        }
    }

    /// XML up to one of these ends, which has to hold what is wanted.
    async fn element(&mut self, wanted: &str, ends: &[&str]) -> Result<(), Failure> {
        let from = self.said.len();
        let holds = |said: &[u8], text: &str| said.windows(text.len()).any(|part| part == text.as_bytes());
        loop {
            let byte = self.byte().await?;
            let said = &self.said[from..];
            if byte == b'>' && ends.iter().any(|end| holds(said, end)) {
                return if holds(said, wanted) { Ok(()) } else { Err(refused("does not offer TLS")) };
            }
        }
    }
}

fn unexpected(line: &str, expected: &str) -> Failure {
    let shown: String = line.chars().take(200).collect();
    Failure::new(
        FailureKind::Protocol,
        Phase::Wait,
        format!("the server says `{}` where `{expected}` is expected", shown.escape_debug()),
    )
}
