//! `dns://server/name?type=A`: one question to one name server, and its answers.

use std::net::SocketAddr;
use std::str::FromStr;

use bytes::Bytes;
use hickory_resolver::proto::rr::RecordType;
use monmon_model::{Failure, FailureKind, Phase};
use monmon_stage::Page;
use url::Url;

use super::super::Prober;
use super::super::manner::within;
use super::super::reach::Visit;
use super::super::resolver::{Family, Resolver, lookup};
use super::super::zone::zone;
use super::Endpoint;

const PORT: u16 = 53;
/// How many answers are looked at.
const ANSWERS_MAX: usize = 2_000;

#[derive(Debug)]
pub(crate) struct Dns {
    at: Endpoint,
    name: String,
    record: RecordType,
    /// Answers that have to be there.
    pub(crate) answers: Vec<String>,
}

impl Dns {
    pub(crate) fn new(url: &Url, answers: Vec<String>) -> Result<Dns, String> {
        let at = Endpoint::new(url, Some(PORT))?;
        let name = url.path().trim_matches('/').trim_end_matches('.').to_owned();
        if name.is_empty() || name.contains('/') {
            return Err(
                "the URL names nothing to look up, as in dns://192.0.2.53/example.org?type=A".to_owned()
            );
        }
        let mut record = RecordType::A;
        for (key, value) in url.query_pairs() {
            if key != "type" {
                return Err(format!("`{key}` is no part of such a URL; `type` is"));
            }
            record = RecordType::from_str(&value.to_ascii_uppercase())
                .map_err(|_| format!("`{value}` is no type of record"))?;
        }
        Ok(Dns { at, name, record, answers })
    }

    pub(crate) async fn carry_out(
        &self,
        prober: &Prober,
        visit: &mut Visit<'_>,
    ) -> Result<Option<Page>, Failure> {
        let manner = visit.manner;
        visit.trace.enter(Phase::Dns);
        let place = self.at.place();
        let asking = async {
            let server = match place.ip {
                Some(ip) => ip,
                None => manner.resolver.addresses(place.host, manner.family).await?[0],
            };
            if !manner.reach.allows(zone(server), None) {
                let message = format!("{server} is not a public address");
                return Err(Failure::new(FailureKind::BlockedAddress, Phase::Dns, message));
            }
            let server = SocketAddr::new(server, place.port);
            visit.facts.remote_addr = Some(server);
            let resolver = Resolver::of_servers(&[server], Family::Any)
                .map_err(|error| Failure::new(FailureKind::Internal, Phase::Start, error))?;
            let Resolver::Servers(resolver) = resolver else {
                return Err(Failure::new(FailureKind::Internal, Phase::Start, "no resolver"));
            };
            lookup(&resolver, &self.name, self.record).await
        };
        let found = within(manner.timeouts.dns, Phase::Dns, asking).await?;
        let mut answers: Vec<String> = found
            .answers()
            .iter()
            .filter(|record| record.record_type() == self.record)
            .take(ANSWERS_MAX)
            .map(|record| record.data.to_string())
            .collect();
        // Servers turn them round.
        answers.sort_unstable();
        let same = |wanted: &str, answer: &str| {
            wanted.trim_end_matches('.').eq_ignore_ascii_case(answer.trim_end_matches('.'))
        };
        if let Some(missing) =
            self.answers.iter().find(|wanted| !answers.iter().any(|answer| same(wanted, answer)))
        {
            let shown: Vec<&str> = answers.iter().take(10).map(String::as_str).collect();
            let message = format!("`{missing}` is not among the answers: {}", shown.join(", "));
            visit.facts.misses.push(("answer".to_owned(), message));
        }
        let text = answers.join("\n");
        Ok(prober.page_of(Bytes::from(text), visit.facts, manner))
    }
}
