//! The first contact: a bounded try to reach the cluster and find the topic, so that what will never work is said at the
//! start and not found out by night.

use std::time::Duration;

use monmon_stage::{StageContext, StageError};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::health::{Cause, Health};
use crate::protocol;

/// How long the first contact is waited for; afterwards the stage starts and waits while it runs.
pub(crate) const CONTACT_WAIT: Duration = Duration::from_secs(5);

/// From when on it is told that no broker is reached. Before, a broker may be about to say why it refuses us.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// The wait is cut into slices, so that a login that was refused or a stop is seen between them.
const SLICE: Duration = Duration::from_millis(250);

/// What came of the first contact.
pub(crate) enum Contact {
    Found(Metadata),
    /// A broker has answered that the topic is not there.
    Missing,
    /// Not yet, and the stage waits.
    None,
}

/// Asks for the topic's metadata until there is an answer or a reason to give up. Blocks; `ask` may serve callbacks.
pub(crate) fn first_contact(
    context: &StageContext,
    health: &Health,
    brokers: &str,
    topic: &str,
    mut ask: impl FnMut(Duration) -> KafkaResult<Metadata>,
) -> Result<Contact, StageError> {
    let start = Instant::now();
    let mut verdict = Cause::Unreachable;
    while start.elapsed() < CONTACT_WAIT && !context.stop.is_cancelled() {
        let asked_at = Instant::now();
        match ask(SLICE) {
            Ok(metadata) => {
                health.connected();
                let Some(code) = topic_error(&metadata, topic) else {
                    health.tell();
                    return Ok(Contact::Found(metadata));
                };
                verdict = Cause::of(code);
                if verdict == Cause::TopicMissing {
                    break;
                }
                // A topic that is being made has no leader yet: only what ends a start is of interest.
                if verdict.ends_a_start() {
                    health.trouble(verdict, &code.to_string());
                }
            }
            Err(_not_yet) => verdict = Cause::Unreachable,
        }
        if health.take_suspicion() {
            name_protocol(health, brokers);
        }
        if let Some(fault) = health.fault() {
            return Err(fault);
        }
        if start.elapsed() >= TELL_AFTER {
            health.tell();
        }
        // An answer that comes at once is not asked for again at once.
        pause(SLICE.saturating_sub(asked_at.elapsed()), &context.stop);
    }
    health.tell();
    if context.stop.is_cancelled() {
        return Ok(Contact::None);
    }
    if context.fail_fast {
        return Err(health.error(verdict));
    }
    if verdict == Cause::TopicMissing {
        health.waits(verdict, "unknown to the broker");
        return Ok(Contact::Missing);
    }
    health.waits(verdict, &health.reason().unwrap_or_else(|| "no answer".to_owned()));
    Ok(Contact::None)
}

/// A connection that ended without a word may have met another protocol: the port itself is asked.
fn name_protocol(health: &Health, brokers: &str) {
    if health.security().tls {
        if protocol::speaks_plaintext(brokers) {
            health.trouble(Cause::TlsUnwanted, "");
        }
    } else if protocol::speaks_tls(brokers) {
        health.trouble(Cause::TlsWanted, "");
    }
}

/// What the metadata says against the topic.
pub(crate) fn topic_error(metadata: &Metadata, topic: &str) -> Option<RDKafkaErrorCode> {
    match metadata.topics().iter().find(|known| known.name() == topic) {
        Some(known) => known.error().map(RDKafkaErrorCode::from),
        None => Some(RDKafkaErrorCode::UnknownTopic),
    }
}

fn pause(time: Duration, stop: &CancellationToken) {
    if !stop.is_cancelled() {
        std::thread::sleep(time);
    }
}
