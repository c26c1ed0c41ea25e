//! Servers that are not there, and servers that say no: what is said, and the exit code.

mod support;

use std::process::Output;

use support::{Database, Place, TURN, Topic, setting};

/// A port of loopback on which nothing listens: the kernel gave it and has it back.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A check of nothing into this sink.
fn producer(sink: &str) -> String {
    format!(
        "pipeline \"refused\"\nsources {{\n    http \"sites\" interval=\"1s\" timeout=\"1s\" {{\n        check \"home\" \"http://{}/\"\n    \
         }}\n}}\nsinks {{\n    {sink}\n}}\n",
        nobody()
    )
}

/// Runs a pipeline that must be refused with exit code 2, and gives what it said.
fn refused(pipeline: &str, arguments: &[&str]) -> String {
    let place = Place::new();
    // Whether a check was made before the refusal is a matter of moments.
    place.announce(&["stage failed", "made, and not known to be stored"]);
    place.announce(&[
        "no kafka broker can be reached",
        "refuses the login",
        "no TLS connection to the kafka broker",
    ]);
    let file = place.write("refused.kdl", pipeline);
    let mut all = vec!["run", file.to_str().expect("a path")];
    all.extend(arguments);
    let output = place.output(&all);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(!said.contains("hunter2") && !said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_server_that_is_not_there_ends_a_run_that_asks_for_it() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let address = nobody();
    let said = refused(
        &producer(&format!("postgres \"store\" url=\"postgres://u:hunter2@{address}/db\"")),
        &["--fail-fast"],
    );
    assert!(said.contains("refused") && said.contains("store"), "{said}");
    let said =
        refused(&producer(&format!("kafka \"events\" brokers=\"{address}\" topic=\"t\"")), &["--fail-fast"]);
    assert!(said.contains(&address) || said.contains("events"), "{said}");
}

#[test]
fn a_server_that_is_not_there_is_waited_for() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let address = nobody();
    for sink in [
        format!("postgres \"store\" url=\"postgres://u:hunter2@{address}/db\""),
        format!("kafka \"events\" brokers=\"{address}\" topic=\"t\""),
    ] {
        let place = Place::new();
        place.announce(&["the store cannot be used now; waiting", "no kafka broker can be reached; waiting"]);
        place.announce(&[
            "within the grace",
            "made, and not known to be stored",
            "no sink said that they are stored",
        ]);
        let file = place.write("waiting.kdl", &producer(&sink));
        let mut running = place.start(&["run", "--grace", "1s", file.to_str().expect("a path")]);
        running.says("WARN");
        running.says("running");
        // Two slots at least.
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        assert!(running.is_running());
        let (status, log) = running.terminate();
        // What was measured meanwhile is not stored anywhere, and that is said, by number.
        let number = |text: &str| -> Option<u64> {
            let rest = log.split(text).nth(1)?;
            rest.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
        };
        let made = number("kind=\"http\" received=").expect("the source is counted");
        if made > 0 {
            assert_eq!(number("not known to be stored measurements="), Some(made), "{log}");
            assert_eq!(status.code(), Some(2), "{log}");
        }
        assert!(!log.contains("hunter2") && !log.contains("panicked"), "{log}");
        let warnings = log.lines().filter(|line| line.contains("WARN")).count();
        assert!(warnings < 8, "{warnings} warnings about one server:\n{log}");
    }
}

#[test]
fn wrong_credentials_are_no_reason_to_wait() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let url = setting("MONMON_TEST_POSTGRES").replace(":secret@", ":hunter2@");
    let said = refused(&producer(&format!("postgres \"store\" url=\"{url}\"")), &[]);
    assert!(said.contains("password authentication failed"), "{said}");
    let topic = Topic::new(1);
    let tls = setting("MONMON_TEST_KAFKA_TLS_DIR");
    let sasl = format!(
        "kafka \"events\" brokers=\"{}\" topic=\"{}\" {{\n        tls ca=\"{tls}/ca.pem\"\n        sasl mechanism=\"PLAIN\" user=\"app\" \
         password=\"hunter2\"\n    }}",
        setting("MONMON_TEST_KAFKA_SASL"),
        topic.name
    );
    let said = refused(&producer(&sasl), &[]);
    assert!(said.to_lowercase().contains("authentication"), "{said}");
    let no_certificate = format!(
        "kafka \"events\" brokers=\"{}\" topic=\"{}\" {{\n        tls ca=\"{tls}/ca.pem\"\n    }}",
        setting("MONMON_TEST_KAFKA_TLS"),
        topic.name
    );
    let said = refused(&producer(&no_certificate), &[]);
    assert!(said.contains("certificate") || said.to_lowercase().contains("tls"), "{said}");
}

#[test]
fn a_missing_schema_names_the_command_that_makes_it() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let database = Database::new();
    let sink = format!("postgres \"store\" url=\"{}\"", database.url());
    let said = refused(&producer(&sink), &[]);
    assert!(said.contains("monmon db migrate"), "{said}");
    let place = Place::new();
    let output = place.output(&["status", "--store", &database.url()]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("monmon db migrate"), "{}", text(&output));
    for _ in 0..2 {
        let output = place.output(&["db", "migrate", "--store", &database.url()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    }
    let output = place.output(&["status", "--store", &database.url()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_missing_topic_is_waited_for_or_refused() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let sink =
        format!("kafka \"events\" brokers=\"{}\" topic=\"surely-not-there\"", setting("MONMON_TEST_KAFKA"));
    let said = refused(&producer(&sink), &["--fail-fast"]);
    assert!(said.contains("surely-not-there"), "{said}");
}
