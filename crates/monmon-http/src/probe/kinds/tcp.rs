//! `tcp://host:port`: a connection; where the check asks for it TLS in the protocol's own way, something sent, and a
//! reply that is looked for.

use bytes::Bytes;
use fancy_regex::Regex;
use monmon_model::{Failure, Phase};
use monmon_stage::Page;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Prober;
use super::super::failure::of_io;
use super::super::manner::within;
use super::super::reach::{Io, Then, Visit, reach, secure};
use super::super::tls::Alpn;
use super::{Endpoint, StartTls};

/// How much of a reply is looked at.
const REPLY_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Tcp {
    pub(crate) at: Endpoint,
    pub(crate) starttls: Option<StartTls>,
    pub(crate) send: Option<Bytes>,
    /// What the reply has to hold, at some time before its end.
    pub(crate) reply: Option<Regex>,
}

impl Tcp {
    pub(crate) async fn carry_out(
        &self,
        prober: &Prober,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Page>, Failure> {
        let mut io = reach(&self.at.place(), Then::Talk, visit).await?;
        let manner = visit.manner;
        if let Some(protocol) = self.starttls {
            visit.trace.enter(Phase::Wait);
            io = within(manner.timeouts.wait, Phase::Wait, protocol.ask(io)).await?;
            io = secure(io, self.at.name()?, Alpn::None, visit).await?.0;
        }
        if self.send.is_none() && self.reply.is_none() {
            return Ok(None);
        }
        visit.trace.enter(Phase::Wait);
        let mut reply = Vec::new();
        let found = within(manner.timeouts.wait, Phase::Wait, self.talk(io, &mut reply)).await;
        let page = prober.page_of(Bytes::from(reply), visit.facts, manner);
        if !found? {
            let pattern = self.reply.as_ref().map(Regex::as_str).unwrap_or_default();
            visit.facts.misses.push(("reply".to_owned(), format!("the reply does not match `{pattern}`")));
        }
        Ok(page)
    }

    /// Sends, and reads until the reply is as wanted (true), or over (false). Without a pattern anything is.
    async fn talk(&self, mut io: Io, reply: &mut Vec<u8>) -> Result<bool, Failure> {
        let failed = |error| of_io(&error, Phase::Wait);
        if let Some(send) = &self.send {
            io.write_all(send).await.map_err(failed)?;
            io.flush().await.map_err(failed)?;
        }
        loop {
            let read = io.read_buf(reply).await.map_err(failed)?;
            let wanted = match &self.reply {
                None => read > 0,
                Some(pattern) => pattern.is_match(&*String::from_utf8_lossy(reply)).unwrap_or(false),
            };
            if wanted || read == 0 || reply.len() >= REPLY_BYTES_MAX {
                return Ok(wanted);
            }
        }
    }
}
