//! The first contact: a bounded try to reach the cluster and find the topic, so that what will never work is said at the
//! start and not found out by night.

use std::time::Duration;

use monmon_stage::{StageContext, StageError};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::health::{Cause, Health};

/// How long the first contact is waited for; afterwards the stage starts and waits while it runs.
pub(crate) const CONTACT_WAIT: Duration = Duration::from_secs(5);

/// The wait is cut into slices, so that a login that was refused or a stop is seen between them.
const SLICE: Duration = Duration::from_millis(250);

/// Asks for the topic's metadata until there is an answer or a reason to give up. Blocks; `ask` may serve callbacks.
pub(crate) fn first_contact(
    context: &StageContext,
    health: &Health,
    topic: &str,
    mut ask: impl FnMut(Duration) -> KafkaResult<Metadata>,
) -> Result<(), StageError> {
    let end = Instant::now() + CONTACT_WAIT;
    let mut verdict = Cause::Unreachable;
    while Instant::now() < end && !context.stop.is_cancelled() {
        let asked_at = Instant::now();
        match ask(SLICE).map(|metadata| topic_error(&metadata, topic)) {
            Ok(None) => return Ok(()),
            Ok(Some(code)) => {
                verdict = Cause::of(code);
                match verdict {
                    Cause::TopicMissing => break,
                    cause if cause.ends_a_start() => health.trouble(cause, &code.to_string()),
                    // A topic that is being made has no leader yet.
                    _ => {}
                }
            }
            Err(_not_yet) => verdict = Cause::Unreachable,
        }
        if let Some(fault) = health.fault() {
            return Err(fault);
        }
        // An answer that comes at once is not asked for again at once.
        pause(SLICE.saturating_sub(asked_at.elapsed()), &context.stop);
    }
    if context.fail_fast && !context.stop.is_cancelled() {
        return Err(health.error(verdict));
    }
    let reason = health.reason().unwrap_or_else(|| "no answer".to_owned());
    match verdict {
        Cause::TopicMissing => health.trouble(verdict, "unknown to the broker"),
        verdict if !context.stop.is_cancelled() => health.trouble(verdict, &reason),
        _ => {}
    }
    Ok(())
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
