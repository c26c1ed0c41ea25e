//! The two stages as a pipeline file asks for them.

use std::path::PathBuf;
use std::time::Duration;

use monmon_stage::{OpenFuture, OpenStage, StageContext, StageSpec};
use monmon_syntax::{Late, format_duration, format_size};
use serde_json::{Map, Value, json};

use crate::property::Property;
use crate::{sink, source};

/// How to reach a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) brokers: Late,
    pub(crate) client_id: Late,
    pub(crate) tls: Option<Tls>,
    pub(crate) sasl: Option<Sasl>,
    pub(crate) properties: Vec<Property>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) ca: Option<Pem>,
    pub(crate) cert: Option<Pem>,
    pub(crate) key: Option<Pem>,
    pub(crate) key_password: Option<Late>,
}

/// A PEM file's path, or the PEM itself.
#[derive(Clone, Debug)]
pub(crate) struct Pem {
    pub(crate) late: Late,
    /// Where a relative path starts.
    pub(crate) folder: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Sasl {
    pub(crate) mechanism: Mechanism,
    pub(crate) user: Late,
    pub(crate) password: Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

#[derive(Clone, Debug)]
pub(crate) struct SourceSpec {
    pub(crate) connection: Connection,
    pub(crate) topic: Late,
    pub(crate) group: Late,
    pub(crate) group_instance_id: Option<Late>,
    pub(crate) assignment: String,
    pub(crate) session_timeout: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct SinkSpec {
    pub(crate) connection: Connection,
    pub(crate) topic: Late,
    pub(crate) dead_letter_topic: Option<Late>,
    pub(crate) compression: String,
    pub(crate) linger: Duration,
    pub(crate) batch_size: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) max_in_flight: usize,
    pub(crate) max_in_flight_bytes: usize,
}

impl Mechanism {
    pub(crate) const WORDS: &'static [&'static str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Mechanism> {
        [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512]
            .into_iter()
            .find(|mechanism| mechanism.as_str() == word)
    }
}

impl StageSpec for SourceSpec {
    fn describe(&self) -> Value {
        let mut fields = self.connection.describe();
        fields.insert("topic".to_owned(), shown(&self.topic));
        fields.insert("group".to_owned(), shown(&self.group));
        if let Some(instance) = &self.group_instance_id {
            fields.insert("group-instance-id".to_owned(), shown(instance));
        }
        fields.insert("assignment".to_owned(), json!(self.assignment));
        fields.insert("session-timeout".to_owned(), json!(format_duration(self.session_timeout)));
        fields.insert("max-in-flight".to_owned(), json!(self.max_in_flight));
        fields.insert("max-in-flight-bytes".to_owned(), json!(format_size(self.max_in_flight_bytes as u64)));
        Value::Object(fields)
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move { Ok(OpenStage::Source(Box::new(source::open(self, context).await?))) })
    }
}

impl StageSpec for SinkSpec {
    fn describe(&self) -> Value {
        let mut fields = self.connection.describe();
        fields.insert("topic".to_owned(), shown(&self.topic));
        if let Some(topic) = &self.dead_letter_topic {
            fields.insert("dead-letter-topic".to_owned(), shown(topic));
        }
        fields.insert("compression".to_owned(), json!(self.compression));
        fields.insert("linger".to_owned(), json!(format_duration(self.linger)));
        fields.insert("batch-size".to_owned(), json!(format_size(self.batch_size as u64)));
        fields.insert("request-timeout".to_owned(), json!(format_duration(self.request_timeout)));
        fields.insert("delivery-timeout".to_owned(), json!(format_duration(self.delivery_timeout)));
        fields.insert("max-in-flight".to_owned(), json!(self.max_in_flight));
        fields.insert("max-in-flight-bytes".to_owned(), json!(format_size(self.max_in_flight_bytes as u64)));
        Value::Object(fields)
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move { Ok(OpenStage::Sink(Box::new(sink::open(self, context).await?))) })
    }
}

impl Connection {
    fn describe(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("brokers".to_owned(), shown(&self.brokers));
        fields.insert("client-id".to_owned(), shown(&self.client_id));
        if let Some(tls) = &self.tls {
            let pem = |pem: &Option<Pem>| pem.as_ref().map(|pem| shown(&pem.late));
            fields.insert(
                "tls".to_owned(),
                json!({
                    "ca": pem(&tls.ca),
                    "cert": pem(&tls.cert),
                    "key": pem(&tls.key),
                    "key-password": tls.key_password.as_ref().map(shown),
                }),
            );
        }
        if let Some(sasl) = &self.sasl {
            fields.insert(
                "sasl".to_owned(),
                json!({
                    "mechanism": sasl.mechanism.as_str(),
                    "user": shown(&sasl.user),
                    "password": shown(&sasl.password),
                }),
            );
        }
        if !self.properties.is_empty() {
            let all = self.properties.iter().map(|one| (one.name.value.clone(), shown(&one.value)));
            fields.insert("properties".to_owned(), Value::Object(all.collect()));
        }
        fields
    }
}

/// The text of a value that was written in place, or where it will come from.
fn shown(late: &Late) -> Value {
    match late.as_literal() {
        // A key in PEM may stand where a path is expected.
        Some(text) if !late.secret && !text.contains("-----BEGIN") => json!(text),
        Some(_) => json!("***"),
        None => json!(format!("{late:?}")),
    }
}
