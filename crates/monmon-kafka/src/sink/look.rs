//! A look at the topics at the start: whether they are there, and what their acknowledgement is worth.

use std::sync::Arc;
use std::time::Duration;

use monmon_stage::{StageContext, StageError};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::{ClientConfig, ClientContext};
use tokio::runtime::Handle as Runtime;
use tracing::{debug, warn};

use crate::client;
use crate::contact::{Contact, first_contact, topic_error};
use crate::health::{Cause, Health};
use crate::sink::producer::Handle;

/// How long a question that only leads to a warning may take.
const ASK_WAIT: Duration = Duration::from_secs(2);

const MIN_IN_SYNC: &str = "min.insync.replicas";

pub(crate) struct Look {
    pub(crate) context: StageContext,
    pub(crate) health: Arc<Health>,
    pub(crate) config: ClientConfig,
    pub(crate) asked: Handle,
    pub(crate) topic: String,
    pub(crate) dead_letter_topic: String,
    /// The topic of the dead letters is named in the pipeline.
    pub(crate) dead_letters_wanted: bool,
}

impl Look {
    /// Blocks.
    pub(crate) fn run(self) -> Result<(), StageError> {
        let brokers = client::brokers(&self.config);
        let ask = |wait| self.asked.metadata(&self.topic, wait);
        match first_contact(&self.context, &self.health, &brokers, &self.topic, ask)? {
            Contact::Found(metadata) => {
                self.look_for_dead_letters()?;
                self.weigh(&metadata);
            }
            Contact::Missing => self.look_for_dead_letters()?,
            Contact::None => {}
        }
        Ok(())
    }

    fn look_for_dead_letters(&self) -> Result<(), StageError> {
        let (context, topic) = (&self.context, &self.dead_letter_topic);
        let missing = match self.asked.metadata(topic, ASK_WAIT).map(|metadata| topic_error(&metadata, topic))
        {
            Ok(Some(code)) => Cause::of(code) == Cause::TopicMissing,
            // What else may be wrong is told when the first letter is to go.
            Ok(None) | Err(_) => false,
        };
        if !missing {
            return Ok(());
        }
        if context.fail_fast && self.dead_letters_wanted {
            let error = StageError::transient(format!("the topic `{topic}` for dead letters does not exist"));
            return Err(error.help("make it; monmon makes no topics"));
        }
        warn!(pipeline = %context.pipeline, stage = %context.stage, dead_letter_topic = %topic,
            "the topic for dead letters does not exist; they wait for it, and hold up the stage when they are too many");
        Ok(())
    }

    /// Tells when losing one broker can lose what was acknowledged.
    fn weigh(&self, metadata: &Metadata) {
        let known = metadata.topics().iter().filter(|known| known.name() == self.topic);
        let Some(replicas) = known.flat_map(|known| known.partitions()).map(|one| one.replicas().len()).min()
        else {
            return;
        };
        let min_in_sync = match replicas {
            0 | 1 => None,
            _ => match self.min_in_sync() {
                Ok(count) => count,
                Err(error) => {
                    debug!(pipeline = %self.context.pipeline, stage = %self.context.stage, topic = %self.topic, %error,
                        "the topic's {MIN_IN_SYNC} cannot be read");
                    None
                }
            },
        };
        if let Some(told) = weakness(replicas, min_in_sync) {
            warn!(pipeline = %self.context.pipeline, stage = %self.context.stage, topic = %self.topic, replicas,
                min_insync_replicas = min_in_sync, "{told}");
        }
    }

    fn min_in_sync(&self) -> Result<Option<u32>, KafkaError> {
        let admin: AdminClient<Silent> = self.config.create_with_context(Silent)?;
        let options = AdminOptions::new().request_timeout(Some(ASK_WAIT)).operation_timeout(Some(ASK_WAIT));
        let asked = [ResourceSpecifier::Topic(&self.topic)];
        let answers = Runtime::current().block_on(admin.describe_configs(&asked, &options))?;
        let first = answers.into_iter().next().unwrap_or(Err(RDKafkaErrorCode::UnknownTopic));
        let told = first.map_err(KafkaError::AdminOp)?;
        Ok(told
            .get(MIN_IN_SYNC)
            .and_then(|entry| entry.value.as_deref())
            .and_then(|value| value.parse().ok()))
    }
}

/// Why the broker's acknowledgement is worth less than it may seem; nothing is said of what is not known.
fn weakness(replicas: usize, min_in_sync: Option<u32>) -> Option<&'static str> {
    match (replicas, min_in_sync) {
        (0, _) => None,
        (1, _) => {
            Some("the topic has one replica: what its broker loses is lost, though it was acknowledged")
        }
        (_, Some(0 | 1)) => Some(
            "the topic takes records with one replica in sync (min.insync.replicas=1): what that broker loses is lost, \
             though it was acknowledged",
        ),
        _ => None,
    }
}

/// Whatever is wrong with the connection is told by the producer's own.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(?level, facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        debug!(%error, reason, "reported by librdkafka");
    }
}

#[cfg(test)]
mod tests {
    use super::weakness;

    #[test]
    fn a_topic_is_weak_where_one_broker_may_hold_the_only_copy() {
        for (replicas, min_in_sync, weak) in [
            (1, None, true),
            (3, Some(1), true),
            (2, Some(1), true),
            (3, Some(2), false),
            (2, Some(2), false),
            (3, None, false),
            (0, None, false),
        ] {
            assert_eq!(weakness(replicas, min_in_sync).is_some(), weak, "{replicas} {min_in_sync:?}");
        }
    }
}
