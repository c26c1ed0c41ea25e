//! What is written wrong, and what is said about it.

use monmon_kafka::{SINK, SOURCE};
use monmon_stage::StageKind;

use crate::harness::decode;

/// All problems, one a line: place, code, message, label, help.
fn problems(kind: &StageKind, text: &str) -> String {
    let (_, problems, sources) = decode(kind, text);
    let mut lines = String::new();
    for problem in problems.iter() {
        let place = problem.span.and_then(|span| sources.place(span.file, span.offset));
        let (line, column) = place.unwrap_or((0, 0));
        lines.push_str(&format!(
            "{line}:{column} {} {} [{}]",
            problem.code.as_str(),
            problem.message,
            problem.label
        ));
        if let Some(help) = &problem.help {
            lines.push_str(&format!(" ({help})"));
        }
        lines.push('\n');
    }
    lines
}

fn described(kind: &StageKind, text: &str) -> String {
    let (spec, problems, _) = decode(kind, text);
    assert!(problems.is_empty(), "{problems:?}");
    let text = format!("{:#}\n{spec:#?}", spec.describe());
    assert!(!text.contains("hunter2"), "{text}");
    text
}

#[test]
fn a_source_with_everything() {
    insta::assert_snapshot!(described(&SOURCE, SOURCE_WITH_EVERYTHING));
}

const SOURCE_WITH_EVERYTHING: &str = r#"kafka "events" {
    brokers "kafka-1:9092, kafka-2:9092"
    topic "monmon.measurements"
    group (env)"GROUP"
    group-instance-id "berlin-1"
    client-id "berlin"
    assignment "range"
    session-timeout "10s"
    max-in-flight 500
    max-in-flight-bytes "1MiB"
    tls ca="ca.pem" cert="service.cert" key="service.key" key-password="hunter2"
    sasl mechanism="SCRAM-SHA-512" user="app" password="hunter2"
    property "socket.keepalive.enable" "true"
    property "ssl.crl.location" "hunter2"
}"#;

#[test]
fn a_sink_with_defaults() {
    insta::assert_snapshot!(described(
        &SINK,
        r#"kafka "events" from="sites" { brokers (env)"BROKERS"; topic "monmon.measurements" }"#
    ));
}

#[test]
fn nothing_is_given() {
    insta::assert_snapshot!(problems(&SOURCE, r#"kafka "events" { tls; sasl; }"#));
}

#[test]
fn everything_is_wrong() {
    insta::assert_snapshot!(problems(
        &SINK,
        r#"kafka "events" from="sites" {
    brokers "kafka"
    topic "a topic"
    dead-letter-topic ".."
    compression "lz5"
    linger 5
    batch-size "1GiB"
    max-in-flight 0
    grup "x"
    tls cert="service.cert"
    sasl mechanism="GSSAPI" user="app" password="hunter2"
}"#
    ));
}

#[test]
fn brokers_that_are_none() {
    let all = ["", "kafka:0", "kafka:99999", ":9092", "kafka:9092,", "SSL://kafka:9092", "a:1;b:2"].map(
        |brokers| {
            problems(&SOURCE, &format!("kafka \"e\" {{ brokers \"{brokers}\"; topic \"t\"; group \"g\" }}"))
        },
    );
    insta::assert_snapshot!(all.concat());
}

#[test]
fn properties_that_cannot_be_set() {
    insta::assert_snapshot!(problems(
        &SINK,
        r#"kafka "events" from="sites" {
    brokers "kafka:9092"; topic "t"
    property "acks" "1"
    property "enable.idempotence" "false"
    property "ssl.key.location" "hunter2"
    property "queue.buffering.max.messages" "1"
    property "socket.keepalive.enabel" "true"
    property "socket.keepalive.enable" "perhaps-hunter2"
    property "client.rack" (env)"RACK"
    property "client.rack" "b"
    property "plugin.library.paths" "evil.so"
    property "socket.max.fails"
}"#
    ));
}
