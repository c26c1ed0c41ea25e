//! `property NAME VALUE`: what librdkafka offers and no option covers. What monmon's promises rest on is refused.

use monmon_syntax::{Code, Late, Problem, Spanned};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

/// A property to hand on as it is.
#[derive(Clone, Debug)]
pub(crate) struct Property {
    pub(crate) name: Spanned<String>,
    pub(crate) value: Late,
}

/// Properties that are refused, each with the reason or the option to use. A name that ends with `*` is a prefix.
const REFUSED: &[(&str, &str)] = &[
    ("bootstrap.servers", "the option `brokers` sets it"),
    ("metadata.broker.list", "the option `brokers` sets it"),
    ("client.id", "the option `client-id` sets it"),
    ("group.id", "the option `group` sets it"),
    ("group.instance.id", "the option `group-instance-id` sets it"),
    ("security.protocol", "`tls` and `sasl` set it"),
    ("ssl.ca.location", "`tls ca=` sets it"),
    ("ssl.ca.pem", "`tls ca=` sets it"),
    ("ssl.certificate.*", "`tls cert=` sets it"),
    ("ssl.key.*", "`tls key=` sets it"),
    ("enable.ssl.certificate.verification", "the broker's certificate is always verified"),
    ("sasl.mechanism*", "`sasl mechanism=` sets it"),
    ("sasl.username", "`sasl user=` sets it"),
    ("sasl.password", "`sasl password=` sets it"),
    ("compression.*", "the option `compression` sets it"),
    ("linger.ms", "the option `linger` sets it"),
    ("queue.buffering.max.*", "the options `linger`, `max-in-flight` and `max-in-flight-bytes` set it"),
    ("batch.size", "the option `batch-size` sets it"),
    ("request.timeout.ms", "the option `request-timeout` sets it"),
    ("message.timeout.ms", "the option `delivery-timeout` sets it"),
    ("delivery.timeout.ms", "the option `delivery-timeout` sets it"),
    ("session.timeout.ms", "the option `session-timeout` sets it"),
    ("partition.assignment.strategy", "the option `assignment` sets it"),
    ("acks", "monmon relies on all in-sync replicas"),
    ("request.required.acks", "monmon relies on all in-sync replicas"),
    ("enable.idempotence", "monmon relies on an idempotent producer"),
    ("enable.gapless.guarantee", "monmon sends again what was not delivered"),
    ("max.in.flight*", "the idempotent producer sets it"),
    ("retries", "a message is never given up"),
    ("message.send.max.retries", "a message is never given up"),
    ("transactional.id", "monmon's producer has no transactions"),
    ("partitioner", "the records of one check must stay in one partition"),
    ("delivery.report.only.error", "monmon waits for every delivery report"),
    ("dr_*", "monmon sets its own callbacks"),
    ("enable.auto.commit", "monmon commits what its sinks have acknowledged"),
    ("auto.commit.*", "monmon commits what its sinks have acknowledged"),
    ("enable.auto.offset.store", "monmon commits what its sinks have acknowledged"),
    ("offset.store.*", "monmon commits what its sinks have acknowledged"),
    ("auto.offset.reset", "monmon goes on at the earliest message, and reports the gap"),
    ("enable.partition.eof", "monmon sets it"),
    ("group.protocol", "monmon relies on the classic protocol's rebalances"),
    ("queued.*", "the options `max-in-flight` and `max-in-flight-bytes` bound what is read ahead"),
    ("log*", "monmon sets its own log"),
    ("statistics.interval.ms", "monmon's metrics rest on the statistics"),
    ("plugin.library.paths", "monmon loads no foreign code"),
    ("allow.auto.create.topics", "a topic is made on purpose, with its partitions and replicas"),
    ("opaque", "monmon sets it"),
    ("test.*", "it is for tests of librdkafka"),
];

/// Whether librdkafka knows the property and monmon leaves it to the user.
pub(crate) fn check(name: &Spanned<String>, value: Option<&str>) -> Result<(), Box<Problem>> {
    let text = name.value.as_str();
    if let Some((_, reason)) = REFUSED.iter().find(|(pattern, _)| matches(pattern, text)) {
        let problem = Problem::new(Code::Conflict, name.span, format!("the property `{text}` cannot be set"))
            .label((*reason).to_owned());
        return Err(Box::new(problem));
    }
    match ClientConfig::new().set(text, value.unwrap_or_default()).create_native_config() {
        Ok(_) => Ok(()),
        Err(error) => complaint(name, value, &error),
    }
}

fn complaint(name: &Spanned<String>, value: Option<&str>, error: &KafkaError) -> Result<(), Box<Problem>> {
    let text = &name.value;
    let unknown =
        matches!(error, KafkaError::ClientConfig(_, description, ..) if description.contains("No such"));
    // librdkafka's own words repeat the value, which may be a secret.
    let problem = match (unknown, value) {
        (true, _) => Problem::new(
            Code::UnknownOption,
            name.span,
            format!("librdkafka has no property `{text}` in this build"),
        )
        .label("unknown to librdkafka")
        .help("its CONFIGURATION.md lists them all"),
        (false, Some(_)) => Problem::new(
            Code::WrongType,
            name.span,
            format!("librdkafka does not take this value of `{text}`"),
        )
        .label("the value is refused")
        .help("its CONFIGURATION.md tells type and range"),
        // The value comes later, and is checked then.
        (false, None) => return Ok(()),
    };
    Err(Box::new(problem))
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}
