//! Where logs and a group's committed offsets stand, for an audit: a look from outside, which joins nothing.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Each question to the brokers.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    pub topic: String,
    pub partition: i32,
    /// The first offset that is still there.
    pub low: i64,
    /// The offset after the last one.
    pub high: i64,
    /// The group has done with everything before this one; none where it never committed.
    pub committed: Option<i64>,
}

/// Asks the brokers of all partitions of some topics; of a topic that is not there nothing is told. `properties` are
/// librdkafka's; they name the brokers and how to log in.
pub fn log_states(
    properties: &[(String, String)],
    group: &str,
    topics: &[String],
) -> Result<Vec<LogState>, KafkaError> {
    let mut config = ClientConfig::new();
    for (name, value) in properties {
        config.set(name, value);
    }
    // Without a subscription the group does not hear of it.
    config.set("group.id", group).set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let mut asked = TopicPartitionList::new();
    let mut partitions: Vec<(String, i32)> = Vec::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WAIT)?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            asked.add_partition(topic, partition.id());
            partitions.push((topic.clone(), partition.id()));
        }
    }
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let committed = consumer.committed_offsets(asked, ANSWER_WAIT)?;
    let mut states = Vec::with_capacity(partitions.len());
    for (topic, partition) in &partitions {
        let (low, high) = consumer.fetch_watermarks(topic, *partition, ANSWER_WAIT)?;
        let committed = committed.find_partition(topic, *partition).and_then(|found| match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        });
        states.push(LogState { topic: topic.clone(), partition: *partition, low, high, committed });
    }
    Ok(states)
}
