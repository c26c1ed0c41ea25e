//! Golden files, round trips, and everything that must be refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use uuid::{Uuid, uuid};

use super::*;
use crate::{
    Certificate, Check, Details, Failure, FailureKind, Hop, Incident, Match, MatchStatus, Metric, Note,
    Outcome, Phase, Prober, Reason, Receipt, Step, Timings, Tls, Tried, check_id, measurement_id,
};

const PROBER: Uuid = uuid!("0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b");

/// A measurement that went well.
pub(crate) fn example() -> Measurement {
    let check = Check {
        id: check_id("producer", "sites", "docs"),
        name: "docs".to_owned(),
        pipeline: "producer".to_owned(),
        source: "sites".to_owned(),
        method: "GET".to_owned(),
        url: "https://docs.example.org/".to_owned(),
        schedule: None,
        interval_us: 60_000_000,
        timeout_us: 10_000_000,
        labels: BTreeMap::from([("team".to_owned(), "docs".to_owned())]),
    };
    let prober = Prober {
        id: PROBER,
        name: "laptop".to_owned(),
        location: Some("hel".to_owned()),
        boot: uuid!("01932b00-0000-7000-8000-000000000000"),
    };
    let scheduled_at: Timestamp = "2026-11-23T12:00:07.25Z".parse().expect("a time");
    let timings = Timings {
        dns_us: Some(1_200),
        connect_us: Some(10_000),
        tls_us: Some(22_000),
        wait_us: Some(31_000),
        transfer_us: Some(400),
        total_us: 64_600,
    };
    Measurement {
        id: measurement_id(PROBER, check.id, scheduled_at, 1),
        seq: 42,
        attempt: 1,
        method: "GET".to_owned(),
        url: "https://docs.example.org/start".to_owned(),
        check: Arc::new(check),
        prober: Arc::new(prober),
        scheduled_at,
        started_at: Some("2026-11-23T12:00:07.250318Z".parse().expect("a time")),
        outcome: Outcome::Up,
        reason: None,
        error: None,
        status: Some(200),
        http_version: Some("1.1".to_owned()),
        remote_addr: Some("192.0.2.7:443".to_owned()),
        timings,
        body_bytes: Some(10_240),
        body_wire_bytes: Some(4_096),
        body_truncated: false,
        redirects: vec![Hop {
            url: "https://docs.example.org/".to_owned(),
            status: 301,
            remote_addr: Some("192.0.2.7:443".to_owned()),
            timings: Timings { wait_us: Some(900), total_us: 900, ..Timings::default() },
        }],
        tls: Some(Tls {
            version: Some("TLSv1.3".to_owned()),
            cipher: Some("TLS13_AES_256_GCM_SHA384".to_owned()),
            verified: Some(true),
            certificate: Some(Certificate {
                subject: "CN=docs.example.org".to_owned(),
                issuer: "CN=Example CA".to_owned(),
                not_before: "2026-10-01T00:00:00Z".parse().expect("a time"),
                not_after: "2026-12-30T00:00:00Z".parse().expect("a time"),
                sha256: Some("cd".repeat(32)),
            }),
            chain: vec![Certificate {
                subject: "CN=Example CA".to_owned(),
                issuer: "CN=Example Root".to_owned(),
                not_before: "2020-10-01T00:00:00Z".parse().expect("a time"),
                not_after: "2030-12-30T00:00:00Z".parse().expect("a time"),
                sha256: None,
            }],
        }),
        details: Some(Box::new(Details {
            body_sha256: Some("ab".repeat(32)),
            evidence: Some("<title>Docs</title>".to_owned()),
            proxy: Some("http://proxy.example.org:3128".to_owned()),
            retry_after_s: Some(120),
            maintenance: Some("patching".to_owned()),
            notes: vec![Note::LengthAndChunks],
            addresses: vec![Tried {
                address: "192.0.2.6:443".to_owned(),
                outcome: Outcome::Down,
                message: Some("connection refused".to_owned()),
                status: None,
                timings: None,
            }],
            steps: vec![Step {
                name: "sign in".to_owned(),
                outcome: Outcome::Up,
                message: None,
                method: "POST".to_owned(),
                url: "https://docs.example.org/session".to_owned(),
                status: Some(204),
                remote_addr: Some("192.0.2.7:443".to_owned()),
                body_bytes: Some(0),
                timings: Timings { wait_us: Some(700), total_us: 700, ..Timings::default() },
            }],
        })),
        matches: vec![Match {
            name: "title".to_owned(),
            stage: "titles".to_owned(),
            kind: "regex".to_owned(),
            status: MatchStatus::Passed,
            found: Some(true),
            message: None,
            values: BTreeMap::from([("title".to_owned(), "Docs \u{2014} \"start\"".to_owned())]),
            metrics: BTreeMap::from([
                ("price".to_owned(), metric(12.5, "EUR")),
                ("share".to_owned(), metric(0.1, "")),
            ]),
        }],
    }
}

fn metric(value: f64, unit: &str) -> Metric {
    Metric::new(value, unit).expect("a number")
}

/// A measurement of which only the failure is known.
fn down() -> Measurement {
    let up = example();
    let failure =
        Failure::new(FailureKind::ConnectRefused, Phase::Connect, "192.0.2.7:443 refused the connection");
    let mut down =
        Measurement::not_made(up.id, 43, 1, up.check.clone(), up.prober.clone(), up.scheduled_at, failure);
    down.started_at = up.started_at;
    down.timings = Timings { dns_us: Some(10), connect_us: Some(90), total_us: 100, ..Timings::default() };
    down
}

fn text(measurement: &Measurement) -> String {
    let mut bytes = Vec::new();
    encode(measurement, &mut bytes);
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// Writes the expected file anew where the person who runs the tests asks for it.
fn bless(path: &str, text: &str) {
    if std::env::var_os("MONMON_BLESS").is_some() {
        std::fs::write(path, format!("{}\n", text.trim_end())).expect("the folder is there");
    }
}

/// The bytes that this build writes are the bytes in the golden file, and both are read alike.
fn golden(name: &str, measurement: &Measurement) {
    let path = format!("{}/tests/golden/{name}.v1.json", env!("CARGO_MANIFEST_DIR"));
    bless(&path, &text(measurement));
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text(measurement), golden.trim_end(), "the wire format of {path} has changed");
    assert_eq!(&decode(golden.trim_end().as_bytes()).expect("golden files are read"), measurement);
}

#[test]
fn golden_up() {
    golden("up", &example());
}

#[test]
fn golden_down() {
    golden("down", &down());
}

/// What a later minor version may send: new fields everywhere and a kind of failure that is not known here.
#[test]
fn a_later_minor_version_is_read() {
    let sent = text(&down())
        .replacen(r#""seq""#, r#""color":{"new":[1]},"seq""#, 1)
        .replace("connect_refused", "connect_quantum");
    let read = decode(sent.as_bytes()).expect("unknown fields are ignored");
    assert_eq!(read.error.map(|failure| failure.kind), Some(FailureKind::Other));
}

#[test]
fn the_schemas_are_published_as_generated() {
    for (word, schema) in [("measurement", schema()), ("incident", incident_schema())] {
        let path = format!("{}/../../docs/schema/{word}.v1.json", env!("CARGO_MANIFEST_DIR"));
        let schema = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
        bless(&path, &schema);
        let published = std::fs::read_to_string(path).unwrap_or_default();
        assert!(published == schema, "docs/schema is out of date; run the test with MONMON_BLESS=1");
    }
}

#[test]
fn golden_incident() {
    let [_, incident] = events();
    let mut bytes = Vec::new();
    encode_event(&incident, &mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let path = format!("{}/tests/golden/incident.v1.json", env!("CARGO_MANIFEST_DIR"));
    bless(&path, &text);
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden.trim_end(), "the wire format of {path} has changed");
    let later = golden.replacen(r#""reason""#, r#""color":{"new":[1]},"reason""#, 1);
    assert_eq!(
        decode_message(later.trim_end().as_bytes()),
        Ok(Message::Event(incident)),
        "a later minor version"
    );
}

#[test]
fn what_is_refused_and_why() {
    use RejectedReason::*;
    let good = text(&example());
    let swap = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is in {good}");
        good.replacen(from, to, 1).into_bytes()
    };
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let cases: Vec<(Vec<u8>, RejectedReason)> = vec![
        (b"".to_vec(), Empty),
        (vec![b' '; MEASUREMENT_BYTES_MAX + 1], TooLarge),
        (b"\xff\xfe".to_vec(), NotUtf8),
        (b"hello".to_vec(), NotJson),
        (b"{".to_vec(), NotJson),
        (deep, NotJson),
        (b"[1]".to_vec(), NotOurs),
        (b"null".to_vec(), NotOurs),
        (b"{}".to_vec(), NotOurs),
        (swap(r#""type":"measurement""#, r#""type":"weather""#), NotOurs),
        (swap(r#""v":1"#, r#""v":"1""#), NotOurs),
        (swap(r#""v":1"#, r#""v":99"#), NewerVersion),
        (swap(r#""seq":42"#, r#""seq":-1"#), BadField),
        (swap(r#""seq":42"#, r#""seq":9223372036854775808"#), BadField),
        (swap(r#""interval_us":60000000"#, r#""interval_us":99999"#), BadField),
        (swap(r#""status":200"#, r#""status":70000"#), BadField),
        (swap(r#""status":200"#, r#""status":99"#), BadField),
        (swap("2026-11-23T12:00:07.25Z", "2026-11-24T12:00:07.25Z"), BadField),
        (swap("2026-11-23T12:00:07.25Z", "yesterday"), BadField),
        (swap("Docs", "Do\\u0000cs"), NulInText),
        (swap("Docs", "Do\\ud800cs"), NotJson),
        (good.as_bytes()[..good.len() - 1].to_vec(), NotJson),
        (format!("{good}{good}").into_bytes(), NotJson),
    ];
    for (bytes, reason) in cases {
        let shown: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
        assert_eq!(decode(&bytes).expect_err("a refusal").reason, reason, "{shown}");
    }
    decode(swap("Docs", "Do\\\\u0000cs").as_slice()).expect("an escaped backslash is no NUL");
}

/// Each text with a bound: as long as it may be it is read, one longer it is refused, and nothing is cut.
#[test]
fn texts_have_bounds() {
    type Put = fn(&mut Measurement, String);
    fn check(measurement: &mut Measurement) -> &mut Check {
        Arc::make_mut(&mut measurement.check)
    }
    fn prober(measurement: &mut Measurement) -> &mut Prober {
        Arc::make_mut(&mut measurement.prober)
    }
    let texts: [(usize, Put); 14] = [
        (NAME_CHARS_MAX, |one, text| check(one).name = text),
        (NAME_CHARS_MAX, |one, text| check(one).pipeline = text),
        (NAME_CHARS_MAX, |one, text| check(one).source = text),
        (NAME_CHARS_MAX, |one, text| prober(one).name = text),
        (NAME_CHARS_MAX, |one, text| prober(one).location = Some(text)),
        (LABEL_NAME_CHARS_MAX, |one, text| drop(check(one).labels.insert(text, String::new()))),
        (LABEL_VALUE_CHARS_MAX, |one, text| drop(check(one).labels.insert("team".to_owned(), text))),
        (NAME_CHARS_MAX, |one, text| {
            one.reason = Some(Reason::Expectation { name: text, message: String::new() });
        }),
        (NAME_CHARS_MAX, |one, text| one.reason = Some(Reason::Match { name: text, message: String::new() })),
        (MESSAGE_CHARS_MAX, |one, text| one.reason = Some(Reason::Failure { message: text })),
        (MESSAGE_CHARS_MAX, |one, text| {
            one.error = Some(Failure { kind: FailureKind::Reset, phase: Phase::Wait, message: text });
        }),
        (NAME_CHARS_MAX, |one, text| one.matches[0].name = text),
        (NAME_CHARS_MAX, |one, text| one.matches[0].stage = text),
        (MESSAGE_CHARS_MAX, |one, text| one.matches[0].message = Some(text)),
    ];
    for (index, (max, put)) in texts.into_iter().enumerate() {
        for char in ["a", "ü"] {
            let mut longest = example();
            put(&mut longest, char.repeat(max));
            assert_eq!(decode(text(&longest).as_bytes()).as_ref(), Ok(&longest), "{index}");
            let mut longer = example();
            put(&mut longer, char.repeat(max + 1));
            let refused = decode(text(&longer).as_bytes()).expect_err("a refusal");
            assert_eq!(refused.reason, RejectedReason::BadField, "{index}");
            assert!(refused.message.ends_with(&format!("is longer than {max} characters")), "{refused}");
        }
    }
    let mut measurement = example();
    check(&mut measurement).labels = (0..LABELS_MAX).map(|n| (n.to_string(), String::new())).collect();
    decode(text(&measurement).as_bytes()).expect("as many labels as there may be");
    check(&mut measurement).labels.insert("one more".to_owned(), String::new());
    let refused = decode(text(&measurement).as_bytes()).expect_err("a refusal");
    assert_eq!(refused.message, "`check.labels` has 65 labels, at most 64");
}

/// What is made here is never what is refused there.
#[test]
fn messages_that_are_made_fit() {
    let long = "ü".repeat(MESSAGE_CHARS_MAX + 1);
    let mut missed = example();
    missed.miss("status", long.clone());
    let mut failed = example();
    failed.fail(Failure { kind: FailureKind::Reset, phase: Phase::Wait, message: long.clone() });
    let mut unmatched = example();
    let found = Match { message: Some(long), status: MatchStatus::Failed, ..unmatched.matches[0].clone() };
    unmatched.add_match(found);
    for measurement in [missed, failed, unmatched] {
        assert_eq!(decode(text(&measurement).as_bytes()).as_ref(), Ok(&measurement));
    }
}

proptest! {
    #[test]
    fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        drop(decode(&bytes));
    }

    #[test]
    fn decode_of_a_mutated_measurement_never_panics(at in 0usize..2000, byte in any::<u8>()) {
        let mut bytes = text(&example()).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        drop(decode(&bytes));
    }

    #[test]
    fn round_trip(
        seq in 0..=i64::MAX as u64,
        attempt in 1..=i32::MAX as u32,
        name in "[^\0]{0,40}",
        status in prop::option::of(100u16..=999),
        total_us in 0..=i64::MAX as u64,
        at_us in -1_000_000_000_000_000i64..4_000_000_000_000_000,
        outcome in prop::sample::select(Outcome::ALL.to_vec()),
        kind in prop::sample::select(FailureKind::ALL.to_vec()),
    ) {
        let mut measurement = example();
        measurement.scheduled_at = Timestamp::from_microsecond(at_us.max(0)).expect("a time in range");
        measurement.attempt = attempt;
        measurement.id = measurement_id(PROBER, measurement.check.id, measurement.scheduled_at, attempt);
        measurement.seq = seq;
        measurement.outcome = outcome;
        measurement.status = status;
        measurement.timings.total_us = total_us;
        measurement.error = Some(Failure::new(kind, Phase::Wait, name.clone()));
        measurement.matches[0].values.insert(name.clone(), name);
        let read = decode(text(&measurement).as_bytes()).expect("what is written is read");
        prop_assert_eq!(read, measurement);
    }
}

#[test]
fn metrics_have_bounds() {
    let with = |name: &str, unit: &str, count: usize| {
        let mut one = example();
        let names = (0..count).map(|at| format!("{name}{at}"));
        one.matches[0].metrics = names.map(|name| (name, metric(1.0, unit))).collect();
        let mut bytes = Vec::new();
        encode(&one, &mut bytes);
        decode(&bytes).map(drop).map_err(|error| error.reason)
    };
    assert_eq!(with("m", "ms", METRICS_MAX), Ok(()));
    assert_eq!(with("m", "ms", METRICS_MAX + 1), Err(RejectedReason::BadField));
    assert_eq!(with(&"m".repeat(METRIC_NAME_CHARS_MAX), "", 1), Err(RejectedReason::BadField));
    assert_eq!(with("m", &"u".repeat(METRIC_UNIT_CHARS_MAX + 1), 1), Err(RejectedReason::BadField));
}

#[test]
fn what_is_no_number_is_no_metric_and_zero_has_no_sign() {
    assert_eq!([f64::NAN, f64::INFINITY].map(|value| Metric::new(value, "")), [None, None]);
    assert!(metric(-0.0, "").value().is_sign_positive());
    let read: Metric = serde_json::from_str(r#"{"value": -0.0, "unit": "s"}"#).expect("a metric");
    assert!(read.value().is_sign_positive() && read.unit() == "s");
}

proptest! {
    #[test]
    fn a_metric_comes_back_to_the_bit(bits: u64) {
        if let Some(metric) = Metric::new(f64::from_bits(bits), "ms") {
            let text = serde_json::to_string(&metric).expect("JSON");
            let back: Metric = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(back.value().to_bits(), metric.value().to_bits(), "{}", text);
        }
    }
}

fn events() -> [Event; 2] {
    let measurement = example();
    let at: Timestamp = "2026-11-23T12:01:00Z".parse().expect("a time");
    let receipt = Receipt {
        id: uuid!("01932b00-0000-7000-8000-000000000001"),
        prober: measurement.prober.clone(),
        pipeline: "producer".to_owned(),
        source: "sites".to_owned(),
        at,
        began_at: measurement.scheduled_at,
        slots_from: measurement.scheduled_at,
        slots_until: at,
        first_seq: 1,
        last_seq: 42,
        ids_xor: measurement.id,
        failed: 0,
        last: false,
    };
    let incident = Incident {
        id: uuid!("01932b00-0000-7000-8000-000000000002"),
        check: measurement.check.clone(),
        pipeline: "consumer".to_owned(),
        detector: "outages".to_owned(),
        revision: 1,
        began_at: measurement.scheduled_at,
        opened_at: at,
        last_bad_at: at,
        recovered_at: None,
        closed_at: None,
        reason: "connection refused".to_owned(),
        probers: vec!["test".to_owned()],
        flapping: false,
        suppressed_by: Some(measurement.check.id),
    };
    [Event::Receipt(receipt), Event::Incident(incident)]
}

#[test]
fn events_come_back_as_they_were_and_are_no_measurements() {
    for event in events() {
        let mut bytes = Vec::new();
        encode_event(&event, &mut bytes);
        assert!(bytes.starts_with(br#"{"v":1,"type":""#), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(decode_message(&bytes), Ok(Message::Event(event)));
        assert_eq!(decode(&bytes).map_err(|error| error.reason), Err(RejectedReason::NotOurs));
    }
}

#[test]
fn events_out_of_their_bounds_are_refused() {
    let [receipt, incident] = events().map(|event| {
        let mut bytes = Vec::new();
        encode_event(&event, &mut bytes);
        String::from_utf8(bytes).expect("text")
    });
    let name = "x".repeat(NAME_CHARS_MAX + 1);
    for (text, reason) in [
        (receipt.replace("\"first_seq\":1", "\"first_seq\":44"), RejectedReason::BadField),
        (receipt.replace("\"first_seq\":1", "\"first_seq\":0"), RejectedReason::BadField),
        (receipt.replace("\"last_seq\":42", "\"last_seq\":18446744073709551615"), RejectedReason::BadField),
        (incident.replace("\"outages\"", &format!("\"{name}\"")), RejectedReason::BadField),
        (incident.replace("[\"test\"]", &format!("[\"{name}\"]")), RejectedReason::BadField),
        (incident.replace("\"interval_us\":60000000", "\"interval_us\":1"), RejectedReason::BadField),
        (incident.replace("\"revision\":1", "\"revision\":0"), RejectedReason::BadField),
        (incident.replace("connection refused", "\\u0000"), RejectedReason::NulInText),
        (incident.replace("\"v\":1", "\"v\":2"), RejectedReason::NotOurs),
        (incident.replace("\"incident\"", "\"poem\""), RejectedReason::NotOurs),
    ] {
        assert_eq!(decode_message(text.as_bytes()).map_err(|error| error.reason), Err(reason), "{text}");
    }
}
