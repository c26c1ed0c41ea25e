//! How the two stages are written: the catalogue's tables, and the way from a node to a spec.

use std::time::Duration;

use monmon_spool::{SPOOL, wrap};
use monmon_stage::{DecodeContext, FROM, STAGE_NAME, Section, StageKind, StageSpec};
use monmon_syntax::{
    ArgSpec, Code, Late, Node, NodeSpec, Occurs, OptionSpec, Problem, Problems, Spanned, ValueKind,
};

use crate::property::{self, Property};
use crate::spec::{Connection, Mechanism, Pem, Sasl, SinkSpec, SourceSpec, Tls};

/// The kafka source.
pub static SOURCE: StageKind =
    StageKind { section: Section::Sources, spec: &SOURCE_NODE, decode: decode_source };

/// The kafka sink.
pub static SINK: StageKind = StageKind { section: Section::Sinks, spec: &SINK_NODE, decode: decode_sink };

const BROKERS: OptionSpec = OptionSpec {
    name: "brokers",
    required: true,
    help: "where to find the cluster: host:port, several with commas between",
    example: r#"brokers "kafka-1:9092,kafka-2:9092""#,
    ..OptionSpec::BLANK
};

const TOPIC: OptionSpec = OptionSpec {
    name: "topic",
    required: true,
    help: "the topic's name; it must be there",
    example: r#"topic "monmon.measurements""#,
    ..OptionSpec::BLANK
};

const CLIENT_ID: OptionSpec = OptionSpec {
    name: "client-id",
    default: Some("monmon"),
    help: "the name that the broker's logs and quotas know this client by",
    example: r#"client-id "monmon-berlin""#,
    ..OptionSpec::BLANK
};

const MAX_IN_FLIGHT: OptionSpec = OptionSpec {
    name: "max-in-flight",
    kind: ValueKind::Integer { min: 1, max: 1_000_000 },
    default: Some("20000"),
    help: "how many messages may be under way, not yet acknowledged",
    example: "max-in-flight 20000",
    ..OptionSpec::BLANK
};

const MAX_IN_FLIGHT_BYTES: OptionSpec = OptionSpec {
    name: "max-in-flight-bytes",
    kind: ValueKind::Size { min: 64 << 10, max: 4 << 30 },
    default: Some("32MiB"),
    help: "how many bytes of messages may be under way, not yet acknowledged",
    example: r#"max-in-flight-bytes "32MiB""#,
    ..OptionSpec::BLANK
};

static TLS: NodeSpec = NodeSpec {
    name: "tls",
    help: "talk TLS; the broker's certificate and name are always verified",
    example: r#"tls ca="ca.pem" cert="service.cert" key="service.key""#,
    options: &[
        OptionSpec {
            name: "ca",
            kind: ValueKind::Path,
            help: "PEM file of the authorities to trust, or (env) with the PEM itself; default: the system's",
            example: r#"ca="ca.pem""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "cert",
            kind: ValueKind::Path,
            help: "PEM file of the client's certificate with its chain, or (env) with the PEM itself",
            example: r#"cert="service.cert""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "key",
            kind: ValueKind::Path,
            help: "PEM file of the client's key, or (env) with the PEM itself",
            example: r#"key="service.key""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "key-password",
            kind: ValueKind::Secret,
            help: "the password that the client's key is encrypted with",
            example: r#"key-password=(env)"KAFKA_KEY_PASSWORD""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static SASL: NodeSpec = NodeSpec {
    name: "sasl",
    help: "log in with a name and a password",
    example: r#"sasl mechanism="SCRAM-SHA-256" user="monmon" password=(env)"KAFKA_PASSWORD""#,
    options: &[
        OptionSpec {
            name: "mechanism",
            kind: ValueKind::OneOf(Mechanism::WORDS),
            required: true,
            help: "how to log in; what the broker offers",
            example: r#"mechanism="SCRAM-SHA-256""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "user",
            required: true,
            help: "the user's name",
            example: r#"user="monmon""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "password",
            kind: ValueKind::Secret,
            required: true,
            help: "the user's password",
            example: r#"password=(env)"KAFKA_PASSWORD""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static PROPERTY: NodeSpec = NodeSpec {
    name: "property",
    help: "a property of librdkafka that no option covers",
    example: r#"property "socket.keepalive.enable" "true""#,
    args: &[
        ArgSpec { name: "name", kind: ValueKind::Name, help: "the property's name", ..ArgSpec::BLANK },
        ArgSpec {
            name: "value",
            kind: ValueKind::Secret,
            help: "its value as a text; never shown, as it may be a secret",
            ..ArgSpec::BLANK
        },
    ],
    occurs: Occurs::Many,
    ..NodeSpec::BLANK
};

static SOURCE_NODE: NodeSpec = NodeSpec {
    name: "kafka",
    help: "reads measurements from a topic as a member of a consumer group",
    example: r#"kafka "events" { brokers "kafka:9092"; topic "monmon.measurements"; group "monmon-consumer" }"#,
    args: &[STAGE_NAME],
    options: &[
        BROKERS,
        TOPIC,
        OptionSpec {
            name: "group",
            required: true,
            help: "the consumer group: its members share the partitions, the broker keeps its place",
            example: r#"group "monmon-consumer""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "group-instance-id",
            help: "a name for this member that stays over restarts, and that no other member of the group has: the group waits for it for as long as a session, and gives its partitions to nobody else; default: none, and a member that ends gives its partitions up at once",
            example: r#"group-instance-id (env)"HOSTNAME""#,
            ..OptionSpec::BLANK
        },
        CLIENT_ID,
        OptionSpec {
            name: "assignment",
            kind: ValueKind::OneOf(&["cooperative-sticky", "range", "roundrobin"]),
            default: Some("cooperative-sticky"),
            help: "how the group's members share the partitions; the same for all of them",
            example: r#"assignment "cooperative-sticky""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "session-timeout",
            kind: ValueKind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(3_600) },
            default: Some("45s"),
            help: "after how long without a heartbeat a member counts as dead",
            example: r#"session-timeout "45s""#,
            ..OptionSpec::BLANK
        },
        MAX_IN_FLIGHT,
        MAX_IN_FLIGHT_BYTES,
    ],
    children: &[&TLS, &SASL, &PROPERTY],
    ..NodeSpec::BLANK
};

const SINK_TOPIC: OptionSpec = OptionSpec {
    help: "the topic's name; it must be there, and a warning tells at the start if losing one broker can lose what it has acknowledged: have 3 replicas and min.insync.replicas=2",
    ..TOPIC
};

static SINK_NODE: NodeSpec = NodeSpec {
    name: "kafka",
    help: "publishes measurements to a topic, each acknowledged by all in-sync replicas",
    example: r#"kafka "events" from="sites" { brokers "kafka:9092"; topic "monmon.measurements" }"#,
    args: &[STAGE_NAME],
    options: &[
        FROM,
        BROKERS,
        SINK_TOPIC,
        OptionSpec {
            name: "dead-letter-topic",
            help: "where to put what cannot be read or published; it is looked for at the start; default: the topic's name and `.dead-letter`",
            example: r#"dead-letter-topic "monmon.dead-letter""#,
            ..OptionSpec::BLANK
        },
        CLIENT_ID,
        OptionSpec {
            name: "compression",
            kind: ValueKind::OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]),
            default: Some("lz4"),
            help: "how batches are compressed",
            example: r#"compression "lz4""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "linger",
            kind: ValueKind::Duration { min: Duration::ZERO, max: Duration::from_secs(1) },
            default: Some("5ms"),
            help: "how long to wait for more messages before a batch is sent",
            example: r#"linger "5ms""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "batch-size",
            kind: ValueKind::Size { min: 1 << 10, max: 64 << 20 },
            default: Some("256KiB"),
            help: "largest batch, before compression",
            example: r#"batch-size "256KiB""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "request-timeout",
            kind: ValueKind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(300) },
            default: Some("30s"),
            help: "how long the broker may take for its replicas to acknowledge a batch",
            example: r#"request-timeout "30s""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "delivery-timeout",
            kind: ValueKind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(86_400) },
            default: Some("2m"),
            help: "after how long without success a message is reported and sent anew; it is never given up",
            example: r#"delivery-timeout "2m""#,
            ..OptionSpec::BLANK
        },
        MAX_IN_FLIGHT,
        MAX_IN_FLIGHT_BYTES,
    ],
    children: &[&TLS, &SASL, &PROPERTY, &SPOOL],
    ..NodeSpec::BLANK
};

fn decode_source(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let group = late(node, "group", context);
    if let Some(text) = group.as_literal().filter(|text| text.is_empty() && node.is_given("group")) {
        problems.push(bad_text(&group, text, "group", "a name such as \"monmon-consumer\""));
    }
    let group_instance_id =
        node.is_given("group-instance-id").then(|| late(node, "group-instance-id", context));
    if let Some(instance) = &group_instance_id
        && let Some(text @ "") = instance.as_literal()
    {
        let expected = "a name that no other member of the group has";
        problems.push(bad_text(instance, text, "group-instance-id", expected));
    }
    Box::new(SourceSpec {
        connection: connection(node, context, problems),
        topic: topic(node, "topic", context, problems),
        group,
        group_instance_id,
        assignment: word(node, "assignment"),
        session_timeout: duration(node, "session-timeout"),
        max_in_flight: count(node, "max-in-flight"),
        max_in_flight_bytes: size(node, "max-in-flight-bytes"),
    })
}

fn decode_sink(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let dead_letter_topic =
        node.is_given("dead-letter-topic").then(|| topic(node, "dead-letter-topic", context, problems));
    let sink = SinkSpec {
        connection: connection(node, context, problems),
        topic: topic(node, "topic", context, problems),
        dead_letter_topic,
        compression: word(node, "compression"),
        linger: duration(node, "linger"),
        batch_size: size(node, "batch-size"),
        request_timeout: duration(node, "request-timeout"),
        delivery_timeout: duration(node, "delivery-timeout"),
        max_in_flight: count(node, "max-in-flight"),
        max_in_flight_bytes: size(node, "max-in-flight-bytes"),
    };
    wrap(node, context, Box::new(sink))
}

fn connection(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Connection {
    let brokers = late(node, "brokers", context);
    if let Some(text) = brokers.as_literal()
        && node.is_given("brokers")
        && let Some(bad) = bad_broker(text)
    {
        problems.push(bad_text(&brokers, bad, "broker", "host:port such as \"kafka.example.org:9092\""));
    }
    Connection {
        brokers,
        client_id: late(node, "client-id", context),
        tls: node.child("tls").map(|node| tls(node, context, problems)),
        sasl: node.child("sasl").and_then(|node| sasl(node, context)),
        properties: properties(node, context, problems),
    }
}

fn tls(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Tls {
    let pem = |name: &str| {
        node.late(name).map(|late| Pem {
            folder: context.sources.rooted(late.span.file, "".as_ref()),
            late: late.rooted(context.sources),
        })
    };
    for (given, missing) in [("cert", "key"), ("key", "cert"), ("key-password", "key")] {
        if node.is_given(given) && !node.is_given(missing) {
            let message = format!("`{given}` is given and `{missing}` is not");
            let span = node.option_span(given).unwrap_or(node.name_span);
            problems.push(
                Problem::new(Code::Conflict, span, message)
                    .label(format!("needs `{missing}` beside it"))
                    .help("a client certificate is a pair: cert=\"service.cert\" key=\"service.key\""),
            );
        }
    }
    let key_password = node.late("key-password").map(|late| late.rooted(context.sources));
    Tls { ca: pem("ca"), cert: pem("cert"), key: pem("key"), key_password }
}

fn sasl(node: &Node, context: &DecodeContext<'_>) -> Option<Sasl> {
    let mechanism = Mechanism::from_word(&node.one_of("mechanism")?.value)?;
    let user = node.late("user")?.rooted(context.sources);
    Some(Sasl { mechanism, user, password: node.late("password")?.rooted(context.sources) })
}

fn properties(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Vec<Property> {
    let mut properties: Vec<Property> = Vec::new();
    for child in node.children_named("property") {
        let (Some(name), Some(value)) = (child.arg_text(0), child.arg_late(1)) else { continue };
        if let Some(first) = properties.iter().find(|known| known.name.value == name.value) {
            problems.push(
                Problem::new(Code::DuplicateName, name.span, format!("`{}` is set twice", name.value))
                    .label("set again here")
                    .related(first.name.span, "first set here"),
            );
            continue;
        }
        let value = value.rooted(context.sources);
        match property::check(&name, value.as_literal()) {
            Ok(()) => properties.push(Property { name, value }),
            Err(problem) => problems.push(*problem),
        }
    }
    properties
}

/// A topic's name; checked here where it was written in place, and again when it has come.
fn topic(node: &Node, option: &str, context: &DecodeContext<'_>, problems: &mut Problems) -> Late {
    let late = late(node, option, context);
    if let Some(text) = late.as_literal()
        && node.is_given(option)
        && let Err(expected) = check_topic(text)
    {
        problems.push(bad_text(&late, text, "topic", expected));
    }
    late
}

/// What Kafka takes as a topic's name.
pub(crate) fn check_topic(name: &str) -> Result<(), &'static str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Err("a name such as \"monmon.measurements\""),
        "." | ".." => Err("another name than `.` and `..`"),
        name if name.len() > 249 => Err("a name of at most 249 characters"),
        name if !name.chars().all(plain) => Err("letters, digits, `.`, `_` and `-` only"),
        _ => Ok(()),
    }
}

/// The first of the brokers that is not `host:port`.
pub(crate) fn bad_broker(brokers: &str) -> Option<&str> {
    brokers.split(',').map(str::trim).find(|broker| {
        // librdkafka takes a protocol in front; it would only contradict `tls` and `sasl`.
        let parts = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains("://"));
        !parts.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0))
    })
}

fn bad_text(late: &Late, text: &str, what: &str, expected: &str) -> Problem {
    Problem::new(Code::BadName, late.span, format!("`{text}` is no {what}"))
        .label(format!("expected {expected}"))
}

/// A value whose absence `read` has reported, or has filled with its default, stands as an empty text.
fn late(node: &Node, option: &str, context: &DecodeContext<'_>) -> Late {
    let late = node.late(option).unwrap_or_else(|| Late::literal("", node.name_span));
    late.rooted(context.sources)
}

fn word(node: &Node, option: &str) -> String {
    node.one_of(option).map_or_else(String::new, value)
}

fn duration(node: &Node, option: &str) -> Duration {
    node.duration(option).map_or(Duration::ZERO, value)
}

fn size(node: &Node, option: &str) -> usize {
    node.size(option).map_or(0, |size| usize::try_from(size.value).unwrap_or(usize::MAX))
}

fn count(node: &Node, option: &str) -> usize {
    node.integer(option).map_or(1, |count| usize::try_from(count.value).unwrap_or(1))
}

fn value<T>(spanned: Spanned<T>) -> T {
    spanned.value
}
