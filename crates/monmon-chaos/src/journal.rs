//! The oracle of the log: a topic read from offset 0 by a client that is not monmon's, past every proxy.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use uuid::Uuid;

use crate::services::{eventually, patience};

const ASK: Duration = Duration::from_secs(10);

/// What one measurement's first message says.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) copies: u64,
}

/// Everything that a topic has held since its beginning.
pub(crate) struct Journal {
    brokers: String,
    pub(crate) topic: String,
    reader: BaseConsumer,
    next: BTreeMap<i32, i64>,
    pub(crate) seen: BTreeMap<Uuid, Seen>,
    /// Of measurements, by the URL that was asked: those with a status, and those that failed when the request was out.
    pub(crate) answered: BTreeMap<String, u64>,
    pub(crate) cut_off: BTreeMap<String, u64>,
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// By kind of failure.
    pub(crate) failures: BTreeMap<String, u64>,
    /// By boot and check: the highest number so far; and how many measurements came behind one that was made later.
    newest: BTreeMap<(String, String), u64>,
    pub(crate) overtaken: u64,
    /// Messages that are no measurement.
    pub(crate) foreign: u64,
    pub(crate) messages: u64,
}

impl Journal {
    pub(crate) fn new(brokers: &str, topic: &str) -> Result<Journal> {
        Ok(Journal {
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
            reader: reader(brokers)?,
            next: BTreeMap::new(),
            seen: BTreeMap::new(),
            answered: BTreeMap::new(),
            cut_off: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            failures: BTreeMap::new(),
            newest: BTreeMap::new(),
            overtaken: 0,
            foreign: 0,
            messages: 0,
        })
    }

    /// After the topic was made anew its offsets begin again; what was seen stays seen.
    pub(crate) fn begin_again(&mut self) -> Result<()> {
        self.next.clear();
        self.reader = reader(&self.brokers)?;
        Ok(())
    }

    /// Where each partition begins and ends. A leader that moves is waited for; a client may have lost sight of the
    /// brokers for ever, as monmon's can.
    pub(crate) fn watermarks(&mut self) -> Result<BTreeMap<i32, (i64, i64)>> {
        let mut found = Ok(BTreeMap::new());
        eventually("answer about the topic's offsets", || {
            found = self.try_watermarks();
            if found.is_err() {
                self.reader = reader(&self.brokers)?;
            }
            Ok(found.is_ok())
        })
        .with_context(|| {
            format!("{:#}", found.as_ref().err().map_or_else(String::new, ToString::to_string))
        })?;
        found
    }

    fn try_watermarks(&self) -> Result<BTreeMap<i32, (i64, i64)>> {
        let metadata = self.reader.fetch_metadata(Some(&self.topic), ASK).context("asking for the topic")?;
        let topic = metadata.topics().first().context("the topic is known")?;
        ensure!(topic.error().is_none(), "the topic can't be read: {:?}", topic.error());
        let mut marks = BTreeMap::new();
        for partition in topic.partitions() {
            let id = partition.id();
            let asked = self.reader.fetch_watermarks(&self.topic, id, ASK);
            marks.insert(id, asked.context("asking for offsets")?);
        }
        ensure!(!marks.is_empty(), "the topic has no partitions yet");
        Ok(marks)
    }

    /// Reads on to where the topic ends now.
    pub(crate) fn advance(&mut self) -> Result<()> {
        let marks = self.watermarks()?;
        let mut left = BTreeMap::new();
        let mut list = TopicPartitionList::new();
        for (partition, (low, high)) in marks {
            let next = self.next.entry(partition).or_insert(0);
            *next = (*next).max(low);
            if high > *next {
                left.insert(partition, high);
                list.add_partition_offset(&self.topic, partition, Offset::Offset(*next))?;
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        self.reader.assign(&list).context("reading the topic")?;
        let begun = Instant::now();
        while !left.is_empty() {
            ensure!(begun.elapsed() < patience(), "the topic can't be read to its end");
            let Some(polled) = self.reader.poll(Duration::from_millis(500)) else { continue };
            // Errors of a connection pass; what does not pass ends by the patience.
            let Ok(message) = polled else { continue };
            let (partition, offset) = (message.partition(), message.offset());
            let payload = message.payload().map(<[u8]>::to_vec).unwrap_or_default();
            drop(message);
            if self.next.get(&partition).is_some_and(|next| offset < *next) {
                continue;
            }
            self.next.insert(partition, offset + 1);
            self.add(partition, offset, &payload);
            if left.get(&partition).is_some_and(|high| offset + 1 >= *high) {
                left.remove(&partition);
            }
        }
        Ok(())
    }

    fn add(&mut self, partition: i32, offset: i64, payload: &[u8]) {
        self.messages += 1;
        let value: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
        let id = value["id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let Some(id) = id.filter(|_| value["type"] == "measurement" && value["v"] == 1) else {
            // What monmon itself tells beside measurements has a type of its own.
            if !matches!(value["type"].as_str(), Some("receipt" | "incident")) {
                self.foreign += 1;
            }
            return;
        };
        let entry = self.seen.entry(id).or_insert(Seen { partition, offset, copies: 0 });
        entry.copies += 1;
        if entry.copies > 1 {
            return;
        }
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let made_by = (text(&value["prober"]["boot"]), text(&value["check"]["id"]));
        let number = value["seq"].as_u64().unwrap_or(0);
        let newest = self.newest.entry(made_by).or_default();
        self.overtaken += u64::from(number < *newest);
        *newest = number.max(*newest);
        *self.outcomes.entry(text(&value["outcome"])).or_default() += 1;
        if let Some(kind) = value["error"]["kind"].as_str() {
            *self.failures.entry(kind.to_owned()).or_default() += 1;
        }
        let url = text(&value["url"]);
        if value["status"].is_u64() {
            *self.answered.entry(url).or_default() += 1;
        } else if matches!(value["error"]["phase"].as_str(), Some("wait" | "transfer" | "connect" | "tls")) {
            *self.cut_off.entry(url).or_default() += 1;
        }
    }

    /// Where the group stands; partitions without a commit are not in it.
    pub(crate) fn committed(&mut self, group: &str) -> Result<BTreeMap<i32, i64>> {
        let asked: BaseConsumer = config(&self.brokers).set("group.id", group).create()?;
        let mut list = TopicPartitionList::new();
        for partition in self.watermarks()?.keys() {
            list.add_partition(&self.topic, *partition);
        }
        let found = asked.committed_offsets(list, ASK).context("asking for commits")?;
        let offsets = found.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(offsets.collect())
    }
}

fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("enable.auto.commit", "false");
    // Errors show where they matter; librdkafka's own lines would drown the report.
    config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    config
}

fn reader(brokers: &str) -> Result<BaseConsumer> {
    let mut config = config(brokers);
    config.set("group.id", "journal").set("auto.offset.reset", "earliest");
    // After a broker was killed there is no time for long pauses.
    config.set("reconnect.backoff.max.ms", "500").set("check.crcs", "true");
    config.create().context("a reader of the topic")
}

pub(crate) fn publish(brokers: &str, topic: &str, partition: i32, messages: &[Vec<u8>]) -> Result<()> {
    let producer: BaseProducer = config(brokers).set("message.max.bytes", "20000000").create()?;
    for message in messages {
        let record = BaseRecord::<(), [u8]>::to(topic).payload(message).partition(partition);
        producer.send(record).map_err(|(error, _)| error).context("publishing")?;
    }
    producer.flush(patience()).context("publishing")
}

/// Sets where a group that nobody is a member of stands.
pub(crate) fn commit(brokers: &str, topic: &str, group: &str, offsets: &BTreeMap<i32, i64>) -> Result<()> {
    let consumer: BaseConsumer = config(brokers).set("group.id", group).create()?;
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).context("setting the group's place")
}

/// What changes the cluster.
pub(crate) struct Admin {
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

impl Admin {
    pub(crate) fn new(brokers: &str) -> Result<Admin> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Admin { client: config(brokers).create()?, runtime })
    }

    fn options() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK))
    }

    /// Makes a topic; one that was deleted a moment ago keeps its name a little longer.
    pub(crate) fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        eventually(&format!("topic {topic}"), || {
            let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
            for (name, value) in settings {
                new = new.set(name, value);
            }
            let made = self.runtime.block_on(self.client.create_topics([&new], &Admin::options()))?;
            Ok(made.iter().all(Result::is_ok))
        })?;
        eventually(&format!("topic {topic} in the metadata"), || {
            let metadata = self.client.inner().fetch_metadata(Some(topic), ASK)?;
            let made = metadata.topics().first();
            Ok(made.is_some_and(|made| {
                made.error().is_none() && made.partitions().iter().all(|partition| partition.leader() >= 0)
            }))
        })
    }

    pub(crate) fn delete(&self, topic: &str) -> Result<()> {
        let done = self.runtime.block_on(self.client.delete_topics(&[topic], &Admin::options()))?;
        ensure!(done.iter().all(Result::is_ok), "the topic can't be deleted: {done:?}");
        Ok(())
    }

    /// Replaces the topic's own settings by these.
    pub(crate) fn alter(&self, topic: &str, settings: &[(&str, &str)]) -> Result<()> {
        let mut config = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (name, value) in settings {
            config = config.set(name, value);
        }
        let done = self.runtime.block_on(self.client.alter_configs([&config], &Admin::options()))?;
        ensure!(done.iter().all(Result::is_ok), "the topic can't be changed: {done:?}");
        Ok(())
    }

    /// Deletes what is before these offsets, as retention does.
    pub(crate) fn delete_before(&self, topic: &str, offsets: &BTreeMap<i32, i64>) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        self.runtime.block_on(self.client.delete_records(&list, &Admin::options()))?;
        Ok(())
    }

    /// The leader of a topic's first partition.
    pub(crate) fn leader(&self, topic: &str) -> Result<i32> {
        let metadata = self.client.inner().fetch_metadata(Some(topic), ASK)?;
        let found = metadata.topics().first().and_then(|topic| topic.partitions().first());
        Ok(found.map_or(-1, |partition| partition.leader()))
    }
}
