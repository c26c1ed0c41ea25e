//! `ping://host`: one ICMP echo, where the system lets us send one.

use std::io;
use std::net::IpAddr;

use monmon_model::{Failure, FailureKind, Phase};
use monmon_stage::Page;
use surge_ping::{Client, Config, ICMP, PingIdentifier, PingSequence, SurgeError};
use tokio::time::Duration;

use super::super::failure::of_io;
use super::super::manner::within;
use super::super::reach::{Visit, each};
use super::Endpoint;

/// What `ping` sends.
const PAYLOAD: [u8; 56] = [0x6d; 56];
/// Longer than any check: its own timeout ends it.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(crate) struct Ping {
    pub(crate) at: Endpoint,
}

impl Ping {
    pub(crate) async fn carry_out(&self, visit: &mut Visit<'_>) -> Result<Option<Page>, Failure> {
        let addresses = each(&self.at.place(), visit).await?;
        let Some(ip) = addresses.first().copied() else { return Ok(None) };
        visit.facts.remote_addr = Some((ip, 0).into());
        visit.trace.enter(Phase::Wait);
        within(visit.manner.timeouts.wait, Phase::Wait, echo(ip)).await?;
        Ok(None)
    }
}

async fn echo(ip: IpAddr) -> Result<(), Failure> {
    let kind = if ip.is_ipv4() { ICMP::V4 } else { ICMP::V6 };
    // A datagram socket first, which needs no privilege where the system allows it to our group.
    let client = Client::new(&Config::builder().kind(kind).build()).map_err(|error| no_socket(&error))?;
    let draw = uuid::Uuid::new_v4().as_u64_pair().0;
    let mut pinger = client.pinger(ip, PingIdentifier(draw as u16)).await;
    pinger.timeout(FOR_EVER);
    match pinger.ping(PingSequence((draw >> 16) as u16), &PAYLOAD).await {
        Ok(_) => Ok(()),
        Err(SurgeError::IOError(error)) => match error.kind() {
            io::ErrorKind::PermissionDenied => Err(no_socket(&error)),
            _ => {
                let mut failure = of_io(&error, Phase::Wait);
                if matches!(error.kind(), io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)
                {
                    failure.kind = FailureKind::ConnectUnreachable;
                }
                Err(failure)
            }
        },
        Err(error) => {
            Err(Failure::new(FailureKind::Protocol, Phase::Wait, format!("no echo: {error}").to_lowercase()))
        }
    }
}

fn no_socket(error: &io::Error) -> Failure {
    let message = format!(
        "this system lets monmon send no ICMP echo ({error}); on Linux `sysctl net.ipv4.ping_group_range` has to \
         hold its group, or the program CAP_NET_RAW"
    );
    Failure::new(FailureKind::Internal, Phase::Start, message)
}
