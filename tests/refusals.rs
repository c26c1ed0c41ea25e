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
    place.announce(&["stage failed", "made, and not known to be stored", "no kafka broker can be reached"]);
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

/// Accepts connections, as a server that hangs or a port of something else does, and never says a word.
#[test]
fn a_server_that_says_nothing_is_told_long_before_it_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let url = format!("postgres://u:hunter2@{address}/db?connect_timeout=4");
    let said = refused(&producer(&format!("postgres \"store\" url=\"{url}\"")), &["--fail-fast"]);
    let waiting = said.find("waiting for the server's answer").expect("it is said");
    assert!(said[waiting..].contains("no login within 4s"), "{said}");
    let place = Place::new();
    for command in [&["status"][..], &["db", "migrate"]] {
        let output = place.output(&[command, &["--store", &url]].concat());
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let waiting =
            said.find(&format!("waiting for the answer of PostgreSQL at {address}/db")).expect("it is said");
        assert!(said[waiting..].contains("no login within 4s") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_is_no_sqlite_store_is_told_with_the_mend() {
    let place = Place::new();
    place.write("text", &"not a database, but long enough to be one\n".repeat(40));
    place.write("empty", "");
    let folder = place.folder.path().display();
    for (store, expected) in [
        ("sqlite:".to_owned(), "--store sqlite: needs a path, as in sqlite:monmon.db"),
        (format!("sqlite:{folder}"), "is a folder, not a database\n  help: name a file in it"),
        (format!("sqlite:{folder}/text"), "is not a SQLite database"),
        (format!("sqlite:{folder}/empty"), "is a database without monmon's tables\n  help: name the file"),
        (format!("sqlite:{folder}/nothing"), "there is no file"),
        (format!("sqlite:{folder}/no/folder"), "there is no file"),
    ] {
        let output = place.output(&["status", "--store", &store]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{store}: {said}");
    }
}

#[test]
fn an_id_that_comes_again_with_other_content_is_a_dead_letter_in_every_store() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (database, topic, place) = (Database::new(), Topic::new(1), Place::new());
    place.announce(&["ids came again with other content", "is the same pipeline run twice?"]);
    let good = include_str!("../crates/monmon-model/tests/golden/up.v1.json").trim_end();
    let other = good.replacen("\"seq\":42", "\"seq\":43", 1);
    let message: serde_json::Value = serde_json::from_str(good).expect("JSON");
    let boot = message["prober"]["boot"].as_str().expect("a boot");
    let second_run = other.replacen(boot, "01932b00-0000-7000-8000-00000000abcd", 1);
    assert!(other != good && second_run != other);
    topic.publish(&[good, &other, good, &second_run].map(|text| text.as_bytes().to_vec()));
    let pipeline = format!(
        "pipeline \"consumer\"\nsources {{\n    kafka \"events\" brokers=\"{}\" topic=\"{}\" group=\"{}\"\n}}\n\
         sinks {{\n    postgres \"store\" from=\"events\" url=\"{}\" migrate=#true\n    \
         sqlite \"copy\" from=\"events\" path=\"copy.db\"\n}}\n",
        setting("MONMON_TEST_KAFKA"),
        topic.name,
        topic.name,
        database.url(),
    );
    let file = place.write("consumer.kdl", &pipeline);
    let output = place.output(&["run", "--once", file.to_str().expect("a path")]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("is the same pipeline run twice?") && said.contains(boot), "{said}");
    let letters =
        "SELECT reason, topic, kafka_partition, kafka_offset, pipeline, source FROM monmon_dead_letter";
    let expected = ["duplicate_id", &topic.name, "0", "1", "consumer", "events"];
    assert_eq!(database.query(letters), [expected.map(|text| Some(text.to_owned()))]);
    assert_eq!(database.count("SELECT count(*) FROM monmon_measurement WHERE seq = 42"), Some(1));
    let copy = rusqlite::Connection::open(place.path("copy.db")).expect("the copy");
    let count = |what: &str| {
        let query = format!("SELECT count(*) FROM {what}");
        copy.query_row(&query, [], |row| row.get::<_, i64>(0)).expect("the table")
    };
    assert_eq!((count("monmon_measurement"), count("monmon_dead_letter WHERE kafka_offset = 1")), (1, 1));
    assert_eq!((count("monmon_measurement WHERE seq = 42"), count("monmon_dead_letter")), (1, 1));
}
