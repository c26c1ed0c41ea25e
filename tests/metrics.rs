//! `monmon run --metrics`: what it serves is what Prometheus reads, and what is not well is named.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use monmon_stage::StageCounters;
use monmon_testkit::{Answer, Site};
use support::{Place, Running, eventually};

/// Asks for a path; the status and the body.
fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Where a run serves its metrics, as its log tells.
fn address(running: &mut Running) -> String {
    running.says("serving /metrics and /healthz");
    let log = running.log();
    let line = log.lines().find(|line| line.contains("serving /metrics")).expect("the line");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    line["address"].as_str().expect("an address").to_owned()
}

#[derive(Debug, Default)]
struct Scrape {
    /// By name: the type.
    families: BTreeMap<String, String>,
    /// Name with labels, and value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Scrape {
    /// Reads the text as strictly as the format is written down; what breaks it fails.
    fn read(text: &str) -> Scrape {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut scrape = Scrape::default();
        let (mut helped, mut current) = (BTreeSet::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a help");
                assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert!(name == current && ["counter", "gauge"].contains(&kind), "{line}");
                let conventional = name.ends_with("_total") == (kind == "counter");
                assert!(conventional, "counters, and only they, end with _total: {line}");
                let family = scrape.families.insert(name.to_owned(), kind.to_owned());
                assert!(family.is_none(), "a family stands twice: {line}");
            } else {
                let (name, labels, value) = sample(line);
                assert_eq!(name, current, "a sample outside its family: {line}");
                let known = scrape.samples.iter().any(|one| one.0 == name && one.1 == labels);
                assert!(!known, "a series stands twice: {line}");
                scrape.samples.push((name, labels, value));
            }
        }
        scrape
    }

    /// The sum of a family's samples that have these labels.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| sample.get(*label).is_some_and(|found| found == value))
        };
        let samples = self.samples.iter().filter(|one| one.0 == name && has(&one.1)).map(|one| one.2);
        samples.reduce(|sum, value| sum + value)
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).expect("a name and a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            rest = loop {
                match chars.next().expect("the value ends") {
                    (at, '"') => break &after[at + 1..],
                    (_, '\\') => value.push(match chars.next().expect("what is escaped") {
                        (_, 'n') => '\n',
                        (_, c @ ('\\' | '"')) => c,
                        (_, c) => panic!("`\\{c}` in {line}"),
                    }),
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "a label stands twice: {line}");
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect("the labels end");
    }
    let value = rest.strip_prefix(' ').expect("a value").parse().expect("a number");
    (name.to_owned(), labels, value)
}

#[test]
fn a_run_that_is_well_is_told_in_numbers() {
    let site = Site::start().expect("a site");
    site.set_below("/", Answer::html("A page", 1_000));
    let place = Place::new();
    let pipeline = place.write(
        "pipeline.kdl",
        &format!(
            r##"pipeline "metrics"
sources {{
    http "sites" interval="200ms" timeout="2s" {{
        check #"a "quoted" \ name"# "{}"
        check "refused" "http://127.0.0.1:1/"
    }}
}}
transforms {{ regex "titles" from="sites" {{ match "title" "<title>" }} }}
sinks {{ sqlite "store" from="titles" path="monmon.db" }}
"##,
            site.url("/page")
        ),
    );
    let pipeline = pipeline.to_str().expect("a path");
    let mut running = place.start(&["run", pipeline, "--metrics", "127.0.0.1:0", "--log", "json"]);
    let address = address(&mut running);
    eventually("a good state", || get(&address, "/healthz") == (200, "{\"status\":\"ok\"}\n".to_owned()));
    // Sockets that say nothing are nobody's concern.
    let idle: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(&address).ok()).collect();
    let stored = [("stage", "store"), ("kind", "sqlite"), ("section", "sinks"), ("pipeline", "metrics")];
    let mut scrape = Scrape::default();
    eventually("ten rows", || {
        let (status, text) = get(&address, "/metrics");
        assert_eq!(status, 200);
        scrape = Scrape::read(&text);
        scrape.sum("monmon_stage_delivered_total", &stored).is_some_and(|count| count >= 10.0)
    });
    drop(idle);
    // Whatever a stage can count is there, of each stage, without a word in the code of the metrics.
    for counter in StageCounters::default().counts().each() {
        let name = format!("monmon_stage_{}_total", counter.name);
        let stages = scrape.samples.iter().filter(|one| one.0 == name).count();
        assert_eq!(stages, 3, "{name}");
    }
    let up =
        [("check", "a \"quoted\" \\ name"), ("outcome", "up"), ("pipeline", "metrics"), ("source", "sites")];
    assert_eq!(scrape.sum("monmon_check_outcome", &up), Some(1.0));
    let down = [("check", "refused"), ("outcome", "down")];
    assert_eq!(scrape.sum("monmon_check_outcome", &down), Some(1.0));
    assert_eq!(scrape.sum("monmon_check_outcome", &[]), Some(2.0), "each has one outcome");
    assert!(scrape.sum("monmon_check_duration_seconds", &[up[0]]).is_some_and(|seconds| seconds > 0.0));
    assert_eq!(scrape.sum("monmon_checks", &[]), Some(2.0));
    assert!(
        scrape.sum("monmon_measurements_total", &[("outcome", "down")]).is_some_and(|count| count >= 4.0)
    );
    assert_eq!(scrape.sum("monmon_stage_waiting", &[]), Some(0.0));
    assert_eq!(scrape.sum("monmon_stage_queue_capacity_places", &stored), Some(4_096.0));
    assert_eq!(scrape.sum("monmon_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_threads", "process_max_fds"] {
        assert!(scrape.sum(name, &[]).is_some_and(|value| value > 1.0), "{name}");
    }
    assert_eq!(get(&address, "/").0, 404);
    let (status, log) = running.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_stage_that_waits_is_named_and_no_secret_is() {
    let place = Place::new();
    place.announce(&["no kafka broker can be reached"]);
    let pipeline = place.write(
        "pipeline.kdl",
        r#"pipeline "waits"
sources {
    kafka "events" brokers="127.0.0.1:1" topic="t" group="g" {
        sasl mechanism="PLAIN" user="someone" password=(env)"SECRET"
    }
}
sinks { stdout "out" from="events" }
"#,
    );
    let mut command = place.monmon(&["run", pipeline.to_str().expect("a path"), "--log", "json"]);
    command.env("SECRET", "open-sesame").env("MONMON_METRICS", "127.0.0.1:0");
    let mut running = place.start_command(command);
    let address = address(&mut running);
    eventually("the waiting stage", || {
        let (status, body) = get(&address, "/healthz");
        assert_eq!(status, 503, "{body}");
        let health: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        health["status"] == "waiting"
            && health["stages"][0]["stage"] == "events"
            && health["stages"][0]["pipeline"] == "waits"
            && health["stages"][0]["cause"] == "kafka_unreachable"
    });
    let (_, text) = get(&address, "/metrics");
    let scrape = Scrape::read(&text);
    let waits = [("stage", "events"), ("cause", "kafka_unreachable")];
    assert_eq!(scrape.sum("monmon_stage_waiting_cause", &waits), Some(1.0));
    assert!(!text.contains("open-sesame") && !text.contains("someone"), "a secret is told:\n{text}");
    let (_, log) = running.terminate();
    assert!(!log.contains("open-sesame"), "a secret is told:\n{log}");
}

#[test]
fn a_port_that_is_taken_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let place = Place::new();
    let pipeline = place.write(
        "pipeline.kdl",
        "pipeline \"p\"\nsources { http \"sites\" { check \"a\" \"http://127.0.0.1:1/\" } }\nsinks { stdout \"out\" }\n",
    );
    let output = place.output(&["run", pipeline.to_str().expect("a path"), "--metrics", &address]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("no metrics can be served at {address}")), "{said}");
}
