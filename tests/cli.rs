//! The command line: exit codes, and what is said.

mod support;

use std::process::Output;

use monmon_testkit::{Answer, Site};
use support::{Place, eventually};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// One check of this URL into standard output.
fn pipeline(url: &str) -> String {
    format!(
        "pipeline \"cli\"\nsources {{\n    http \"sites\" interval=\"1s\" timeout=\"2s\" {{\n        check \"home\" \"{url}\"\n    }}\n}}\n\
         sinks {{\n    stdout \"out\"\n}}\n"
    )
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("JSON lines are UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

#[test]
fn five_mistakes_are_five_problems() {
    let place = Place::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/pipelines/bad/five-mistakes.kdl");
    let output = place.output(&["validate", "--format", "json", file]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let problems: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found: Vec<String> = problems
        .as_array()
        .expect("an array")
        .iter()
        .map(|problem| {
            format!(
                "{}:{} {}",
                problem["line"],
                problem["column"],
                problem["code"].as_str().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(found.len(), 5, "{found:#?}");
    let lines: Vec<&str> = found.iter().map(|place| place.split(':').next().unwrap_or_default()).collect();
    assert_eq!(lines, ["4", "4", "6", "12", "13"], "{found:#?}");
}

#[test]
fn once_tells_by_its_exit_code() {
    let place = Place::new();
    let site = Site::start().expect("a site");
    site.set("/good", Answer::html("Good", 100));
    site.set("/bad", Answer::status(500));
    for (path, code, outcome) in [("/good", 0, "up"), ("/bad", 1, "down")] {
        let file = place.write("once.kdl", &pipeline(&site.url(path)));
        let output = place.output(&["run", "--once", file.to_str().expect("a path")]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        let measured = lines(&output);
        assert_eq!(measured.len(), 1, "{}", text(&output));
        assert_eq!(measured[0]["outcome"], outcome);
    }
    assert_eq!(site.count(), 2, "each check was made once");
}

#[test]
fn a_run_has_an_end() {
    let place = Place::new();
    let site = Site::start().expect("a site");
    site.set("/", Answer::html("Home", 100));
    let file = place.write("for.kdl", &pipeline(&site.url("/")));
    let output = place.output(&["run", "--for", "2500ms", file.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(lines(&output).len() as u64, site.count(), "each request is a line");
    assert!(site.count() >= 1);
}

#[test]
fn a_first_signal_drains_and_a_second_one_stops() {
    let place = Place::new();
    let site = Site::start().expect("a site");
    site.set("/", Answer::html("Home", 100));
    let file = place.write("signals.kdl", &pipeline(&site.url("/")));
    let path = file.to_str().expect("a path");
    for signal in ["TERM", "INT"] {
        let seen = site.count();
        let running = place.start(&["run", path]);
        eventually("request", || site.count() > seen);
        running.signal(signal);
        let (status, log) = running.end();
        assert_eq!(status.code(), Some(0), "{log}");
    }
    place.announce(&["stopping at once"]);
    // A reply that takes its time keeps the drain from ending before the second signal.
    site.set("/", Answer::html("Home", 100).delay_head(std::time::Duration::from_secs(60)));
    let slow = pipeline(&site.url("/")).replace("timeout=\"2s\"", "timeout=\"50s\"");
    let file = place.write("slow.kdl", &slow);
    let seen = site.count();
    let mut running = place.start(&["run", "--grace", "100s", file.to_str().expect("a path")]);
    eventually("request", || site.count() > seen);
    running.signal("INT");
    running.says("draining");
    running.signal("INT");
    let (status, log) = running.end();
    assert_eq!(status.code(), Some(130), "{log}");
}

#[test]
fn files_that_are_no_pipelines_are_refused() {
    let place = Place::new();
    let bytes: Vec<(&str, Vec<u8>)> = vec![
        ("empty.kdl", Vec::new()),
        ("latin1.kdl", b"pipeline \"caf\xe9\"".to_vec()),
        ("utf16.kdl", "pipeline \"p\"".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("large.kdl", vec![b' '; 100 << 20]),
        ("deep.kdl", "a {".repeat(10_000).into_bytes()),
        ("slashdash.kdl", "/-a {".repeat(10_000).into_bytes()),
        ("comments.kdl", "/*".repeat(10_000).into_bytes()),
        ("braces.kdl", "}".repeat(100_000).into_bytes()),
        ("nul.kdl", b"pipeline \"p\0\"".to_vec()),
    ];
    for (name, bytes) in bytes {
        let path = place.path(name);
        std::fs::write(&path, bytes).expect("a file in the temporary folder");
        let output = place.output(&["validate", path.to_str().expect("a path")]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
        assert!(text(&output).contains("monmon::"), "{name}: {}", text(&output));
    }
    for path in [place.path("not-there.kdl"), place.folder.path().to_owned()] {
        for command in ["validate", "run"] {
            let output = place.output(&[command, path.to_str().expect("a path")]);
            assert_eq!(output.status.code(), Some(2), "{}", text(&output));
            assert!(text(&output).contains("monmon::unreadable_file"), "{}", text(&output));
        }
    }
}

#[test]
fn usage_is_told_from_a_verdict() {
    let place = Place::new();
    for arguments in [
        &["run"][..],
        &["frobnicate"],
        &["run", "--grace", "soon", "x.kdl"],
        &["status", "--store", "mysql://x"],
    ] {
        let output = place.output(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
    }
    assert_eq!(place.output(&["--help"]).status.code(), Some(0));
    assert_eq!(place.output(&["--version"]).status.code(), Some(0));
}

#[test]
fn secrets_are_never_shown() {
    let place = Place::new();
    for url in [
        "postgres://u:hunter2@127.0.0.1:1/x",
        "postgres://u:hunter2@",
        "postgres://u:hunter2@h/x?sslmode=odd",
    ] {
        for command in [&["status", "--store", url][..], &["db", "migrate", "--store", url]] {
            let output = place.output(command);
            assert_eq!(output.status.code(), Some(2), "{}", text(&output));
            assert!(!text(&output).contains("hunter2"), "{}", text(&output));
        }
    }
}

#[test]
fn an_unset_variable_is_shown_where_it_is_named() {
    let place = Place::new();
    let file = place.write(
        "unset.kdl",
        "pipeline \"p\"\nsources {\n    http \"s\" {\n        check \"a\" \"http://127.0.0.1:1/\"\n    }\n}\nsinks {\n    \
         postgres \"store\" {\n        url (env)\"MONMON_SURELY_NOT_SET\"\n    }\n}\n",
    );
    let path = file.to_str().expect("a path");
    assert_eq!(place.output(&["validate", path]).status.code(), Some(0), "validate needs no environment");
    let output = place.output(&["run", path]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(
        text(&output).contains("MONMON_SURELY_NOT_SET") && text(&output).contains("unset.kdl:9"),
        "{}",
        text(&output)
    );
}

/// In a SQLite file; the real server's are tested beside the sink.
#[test]
fn dead_letters_are_listed_shown_stored_and_dropped() {
    let place = Place::new();
    let store = format!("sqlite:{}", place.path("monmon.db").display());
    let letters = |command: &[&str]| {
        let output = place.output(&[&["dead-letter"], command, &["--store", &store]].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), text(&output))
    };
    let (code, _, said) = letters(&["list"]);
    assert_eq!(code, Some(2), "a reader makes no file: {said}");
    assert_eq!(place.output(&["db", "migrate", "--store", &store]).status.code(), Some(0));
    assert_eq!(letters(&["list"]).1, "no dead letters\n");
    let mut good = Vec::new();
    monmon_model::wire::encode(&monmon_testkit::stages::measurement("docs", 1), &mut good);
    let file = rusqlite::Connection::open(place.path("monmon.db")).expect("the file");
    let put = |id: &str, reason: &str, bytes: &[u8]| {
        file.execute(
            "INSERT INTO monmon_dead_letter (id, reason, message, pipeline, source, topic, kafka_partition, kafka_offset,
                                             occurred_at, bytes)
             VALUES (?1, ?2, 'why', 'consumer', 'events', 'monmon.measurements', 3, 42, '2026-11-23T12:00:00.000000Z', ?3)",
            rusqlite::params![id, reason, bytes],
        )
        .expect("a letter");
    };
    let (bad, mended) = ("01a20847-1a52-7000-8000-000000000001", "01a20847-1a52-7000-8000-000000000002");
    put(bad, "not_json", b"{\x1b[31m\xff");
    put(mended, "newer_version", &good);
    let (_, listed, _) = letters(&["list"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(
        listed.contains("not_json") && listed.contains("consumer/events monmon.measurements[3]@42"),
        "{listed}"
    );
    let (_, listed, _) = letters(&["list", "--reason", "not_json", "--since", "1h", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("one object");
    assert_eq!((listed["id"].as_str(), listed["size"].as_u64()), (Some(bad), Some(7)));
    let (_, shown, _) = letters(&["show", bad]);
    assert!(shown.ends_with("{\\x1b[31m\\xff\n"), "no escape code reaches the terminal: {shown}");
    let (_, shown, _) = letters(&["show", bad, "--hex"]);
    assert!(shown.contains("00000000  7b 1b 5b 33 31 6d ff"), "{shown}");
    let (code, replayed, said) = letters(&["replay", "--all"]);
    assert_eq!(code, Some(1), "one is kept: {said}");
    assert!(
        replayed.contains(&format!("{mended} stored")) && replayed.contains(&format!("{bad} kept: not_utf8")),
        "{replayed}"
    );
    let count = |table: &str| {
        file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
            .expect("a count")
    };
    assert_eq!((count("monmon_measurement"), count("monmon_dead_letter")), (1, 1));
    for (command, code, left) in [
        (&["drop"][..], 2, 1),
        (&["drop", mended], 2, 1),
        (&["drop", bad], 2, 1),
        (&["drop", "--topic", "other", "--yes"], 2, 1),
        (&["drop", "--until", "1h", "--yes"], 2, 1),
        (&["drop", "--reason", "not_json", "--yes"], 0, 0),
    ] {
        let (ended, _, said) = letters(command);
        assert_eq!((ended, count("monmon_dead_letter")), (Some(code), left), "{command:?}: {said}");
    }
}
