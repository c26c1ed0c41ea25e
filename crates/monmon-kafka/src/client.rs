//! The one place where librdkafka's properties are set, for the producer and the consumer alike.

use std::path::Path;
use std::time::Duration;

use monmon_stage::{StageContext, StageError, is_sabotaged};
use monmon_syntax::{Code, Late, Problem};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;

use crate::options::{bad_broker, check_topic};
use crate::spec::{Connection, Pem, Sasl, SinkSpec, SourceSpec, Tls};

/// Longest pause between two tries to reach a broker. librdkafka's own default leaves a broker that came back alone for
/// up to ten seconds.
const RECONNECT_MS_MAX: &str = "2000";

/// How often a topic that is missing is looked for. librdkafka's own default is five minutes.
const METADATA_MS: &str = "10000";

/// How much librdkafka reads ahead for each partition, in KiB.
const READ_AHEAD_KIB: &str = "8192";

/// Largest PEM file: room for a system's bundle of authorities.
const PEM_BYTES_MAX: usize = 1 << 20;

/// After how long without a poll librdkafka itself leaves the group: its own default.
const POLL_INTERVAL: Duration = Duration::from_secs(300);

/// How often offsets are committed: what a killed process reads again.
const COMMIT_MS: &str = "1000";

/// How soon librdkafka fetches more once it has read ahead enough. Its own default, a second, starves a quick reader.
const FETCH_BACKOFF_MS: &str = "10";

/// How often librdkafka tells of its queues and of where partitions end: for the metrics.
const STATISTICS_MS: &str = "2000";

/// What librdkafka is to log beside what is wrong: that a topic is another one under the old name is said nowhere else.
const DEBUG: &str = "topic";

/// The properties of a producer.
pub(crate) fn producer(spec: &SinkSpec, context: &StageContext) -> Result<ClientConfig, StageError> {
    let mut config = common(&spec.connection, context)?;
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("statistics.interval.ms", STATISTICS_MS)
        .set("compression.type", &spec.compression)
        .set("linger.ms", millis(spec.linger))
        .set("batch.size", spec.batch_size.to_string())
        .set("batch.num.messages", "1000000")
        .set("request.timeout.ms", millis(spec.request_timeout))
        .set("message.timeout.ms", millis(spec.delivery_timeout))
        // Java's choice of partition, so that other programs that key by check agree.
        .set("partitioner", "murmur2_random")
        // How long a topic may stay unknown before its messages come back; the sink itself tries again.
        .set("topic.metadata.propagation.max.ms", "3000")
        // The sink's own bounds are tighter; these only must not be hit first.
        .set("queue.buffering.max.messages", spec.max_in_flight.saturating_mul(2).min(10_000_000).to_string())
        .set(
            "queue.buffering.max.kbytes",
            (spec.max_in_flight_bytes / 512 + 65_536).min(i32::MAX as usize).to_string(),
        );
    pass_on(&spec.connection, context, &mut config)?;
    Ok(config)
}

/// The properties of a consumer. `eof`: whether to be told at the end of a partition.
pub(crate) fn consumer(
    spec: &SourceSpec,
    group: &str,
    eof: bool,
    context: &StageContext,
) -> Result<ClientConfig, StageError> {
    let mut config = common(&spec.connection, context)?;
    config
        .set("group.id", group)
        .set("partition.assignment.strategy", &spec.assignment)
        .set("session.timeout.ms", millis(spec.session_timeout))
        // librdkafka takes no session that is longer than this.
        .set("max.poll.interval.ms", millis(spec.session_timeout.max(POLL_INTERVAL)))
        // librdkafka commits by itself, but only what the source has stored, and that is what its sinks have acked.
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", COMMIT_MS)
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", if is_sabotaged("reset-latest") { "latest" } else { "earliest" })
        .set("enable.partition.eof", if eof { "true" } else { "false" })
        .set("allow.auto.create.topics", "false")
        .set("queued.max.messages.kbytes", READ_AHEAD_KIB)
        .set("fetch.queue.backoff.ms", FETCH_BACKOFF_MS)
        .set("statistics.interval.ms", STATISTICS_MS)
        .set("fetch.wait.max.ms", "100");
    if let Some(instance) = &spec.group_instance_id {
        config.set("group.instance.id", text(instance, context)?);
    }
    pass_on(&spec.connection, context, &mut config)?;
    let debug = config.get("debug").map_or_else(|| DEBUG.to_owned(), |more| format!("{DEBUG},{more}"));
    config.set("debug", debug).set_log_level(RDKafkaLogLevel::Debug);
    Ok(config)
}

/// A topic's name that has come.
pub(crate) fn topic(late: &Late, context: &StageContext) -> Result<String, StageError> {
    let name = text(late, context)?;
    match check_topic(&name) {
        Ok(()) => Ok(name),
        Err(expected) => {
            Err(refused(late, "what `topic` names is no topic".to_owned(), format!("expected {expected}")))
        }
    }
}

pub(crate) fn text(late: &Late, context: &StageContext) -> Result<String, StageError> {
    Ok(late.resolve(&*context.world)?.into_string())
}

/// The brokers of a configuration that was made here.
pub(crate) fn brokers(config: &ClientConfig) -> String {
    config.get("bootstrap.servers").unwrap_or_default().to_owned()
}

/// What librdkafka says against a configuration, without the value, which may be a secret.
pub(crate) fn unusable(error: &KafkaError) -> StageError {
    match error {
        KafkaError::ClientConfig(_, _, name, _) => {
            StageError::permanent(format!("librdkafka does not take this value of the property `{name}`"))
        }
        KafkaError::ClientCreation(message) => StageError::permanent(format!(
            "the kafka client cannot be made: {}",
            message.trim_end_matches([':', ' '])
        )),
        other => StageError::permanent(format!("the kafka client cannot be made: {other}")),
    }
}

/// Requests that all brokers together have not answered yet.
pub(crate) fn requests_in_flight(statistics: &Statistics) -> f64 {
    let waiting = statistics.brokers.values().map(|broker| broker.waitresp_cnt.max(0));
    waiting.sum::<i64>() as f64
}

fn common(connection: &Connection, context: &StageContext) -> Result<ClientConfig, StageError> {
    let brokers = text(&connection.brokers, context)?;
    // What was kept out of the file is not shown either.
    if bad_broker(&brokers).is_some() {
        let label = "expected host:port, several with commas between".to_owned();
        return Err(refused(&connection.brokers, "a broker is not host:port".to_owned(), label));
    }
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", text(&connection.client_id, context)?)
        .set("reconnect.backoff.max.ms", RECONNECT_MS_MAX)
        .set("topic.metadata.refresh.interval.ms", METADATA_MS)
        .set("security.protocol", protocol(connection))
        .set_log_level(RDKafkaLogLevel::Info);
    if let Some(tls) = &connection.tls {
        set_tls(tls, context, &mut config)?;
    }
    if let Some(sasl) = &connection.sasl {
        set_sasl(sasl, context, &mut config)?;
    }
    Ok(config)
}

fn protocol(connection: &Connection) -> &'static str {
    match (&connection.tls, &connection.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    }
}

fn set_tls(tls: &Tls, context: &StageContext, config: &mut ClientConfig) -> Result<(), StageError> {
    match &tls.ca {
        Some(ca) => config.set("ssl.ca.pem", pem(ca, context)?),
        // The vendored OpenSSL does not know where this system keeps its authorities; librdkafka looks in all usual places.
        None => config.set("ssl.ca.location", "probe"),
    };
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        config.set("ssl.certificate.pem", pem(cert, context)?).set("ssl.key.pem", pem(key, context)?);
    }
    if let Some(password) = &tls.key_password {
        config.set("ssl.key.password", password.resolve(&*context.world)?.expose());
    }
    config.set("ssl.endpoint.identification.algorithm", "https");
    Ok(())
}

fn set_sasl(sasl: &Sasl, context: &StageContext, config: &mut ClientConfig) -> Result<(), StageError> {
    config
        .set("sasl.mechanism", sasl.mechanism.as_str())
        .set("sasl.username", text(&sasl.user, context)?)
        .set("sasl.password", sasl.password.resolve(&*context.world)?.expose());
    Ok(())
}

fn pass_on(
    connection: &Connection,
    context: &StageContext,
    config: &mut ClientConfig,
) -> Result<(), StageError> {
    for property in &connection.properties {
        config.set(&property.name.value, property.value.resolve(&*context.world)?.expose());
    }
    Ok(())
}

/// The PEM text: the value itself, or what the file that it names holds.
fn pem(pem: &Pem, context: &StageContext) -> Result<String, StageError> {
    let value = pem.late.resolve(&*context.world)?;
    if value.expose().contains("-----BEGIN") {
        return Ok(value.into_string());
    }
    let path = pem.folder.join(Path::new(value.expose()));
    let shown = path.display();
    let unreadable = |why: String| {
        let message = format!("the file `{shown}` {why}");
        let problem = Problem::new(Code::UnreadableFile, pem.late.span, message).label("needed here");
        StageError::from(problem.help("a relative path starts from the folder of the pipeline file"))
    };
    let bytes = context
        .world
        .read_file(&path, PEM_BYTES_MAX)
        .map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    if bytes.len() > PEM_BYTES_MAX {
        return Err(unreadable("is larger than 1MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| unreadable("is not PEM".to_owned()))?;
    if text.contains("-----BEGIN") { Ok(text) } else { Err(unreadable("is not PEM".to_owned())) }
}

fn refused(late: &Late, message: String, label: String) -> StageError {
    Problem::new(Code::BadName, late.span, message).label(label).into()
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
