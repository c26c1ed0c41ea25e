//! Plugins in whole programs: from a site's page to rows with values, beside hostile ones, and from nothing to a plugin.

mod support;

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use monmon_testkit::{Answer, Site};
use monmon_wasm::{Compiler, Host, HostOptions, PluginError};
use support::{Database, MONMON, Place, TURN, Topic, eventually, setting};

const LOGIN: &str = r#"<!doctype html><title>Sign in</title><form method="post" action="/session">
<input name="username"><input type="password" name="password"></form>"#;

const CONSUMER: &str = r#"pipeline "plugin-consumer"
sources {
    kafka "events" brokers=(env)"BROKERS" topic=(env)"TOPIC" group=(env)"TOPIC" session-timeout="6s"
}
sinks {
    postgres "store" from="events" url=(env)"STORE" migrate=#true
}
"#;

/// An example plugin as `cargo xtask plugins` builds it.
fn built(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/dist").join(format!("{name}.wasm"));
    let path = std::fs::canonicalize(&path).unwrap_or_else(|_| panic!("{path:?}: run `cargo xtask plugins`"));
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// A plugin by hand, whose `check` is this.
fn by_hand(place: &Place, name: &str, check: &str) -> PathBuf {
    let text = include_str!("../crates/monmon-wasm/tests/guests/matcher.wat")
        .replace("{describe}", "(i32.const 0)")
        .replace("{configure}", "(i32.const 1024)")
        .replace("{check}", check)
        .replace("{more}", "");
    place.write(name, &text)
}

/// A pipeline under way, between this topic and this database.
fn start(place: &Place, topic: &Topic, database: &Database, file: &Path) -> support::Running {
    let mut command = place.monmon(&["run", file.to_str().expect("a path"), "--log", "json"]);
    command.env("BROKERS", setting("MONMON_TEST_KAFKA")).env("TOPIC", &topic.name);
    command.env("STORE", database.url()).env("FIELD", "password");
    place.start_command(command)
}

fn page(site: &Site, path: &str, html: &str) {
    site.set(path, Answer::body(html.as_bytes().to_vec()).header("content-type", "text/html"));
}

#[test]
fn a_plugins_values_are_stored() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (place, database, topic) = (Place::new(), Database::new(), Topic::new(2));
    let site = Site::start().expect("a site");
    page(&site, "/login", LOGIN);
    page(&site, "/changed", &LOGIN.replace("/session", "https://evil.example.org/session"));
    let html_form = built("html-form");
    let producer = place.write(
        "producer.kdl",
        &format!(
            r#"pipeline "plugin-producer"
sources {{
    http "sites" interval="300ms" timeout="2s" {{
        check "login" "{login}" {{
            wasm "own-form" plugin="{html_form}" {{ config {{ require "username"; }}; }}
        }}
        check "changed" "{changed}"
    }}
}}
transforms {{
    wasm "login-form" from="sites" plugin="{html_form}" {{
        config {{
            require "username" (env)"FIELD"
            same-origin #true
        }}
        limits memory="16MiB" time="1s"
    }}
}}
sinks {{
    kafka "events" from="login-form" brokers=(env)"BROKERS" topic=(env)"TOPIC"
}}
"#,
            login = site.url("/login"),
            changed = site.url("/changed"),
        ),
    );
    let consumer = place.write("consumer.kdl", CONSUMER);
    let start = |file: &Path| start(&place, &topic, &database, file);
    let producer = start(&producer);
    let consumer = start(&consumer);
    let count = |of: &str| {
        let sql = "SELECT count(*) FROM monmon_match_full AS x JOIN monmon_measurement m ON m.id = measurement_id \
                   JOIN monmon_check c ON c.id = m.check_id WHERE ";
        database.count(&format!("{sql}{of}")).unwrap_or(0)
    };
    let good = "c.name = 'login' AND stage = 'login-form' AND kind = 'wasm' AND x.status = 'passed' \
                AND \"values\" ->> 'action' = '/session' AND metrics -> 'forms' ->> 'value' = '1.0'";
    let bad = "c.name = 'changed' AND x.status = 'failed' AND m.outcome = 'down' \
               AND \"values\" ->> 'posts-to' = 'https://evil.example.org/session'";
    let inside = "c.name = 'login' AND stage = 'sites' AND x.name = 'own-form' \
                  AND x.status = 'passed'";
    for what in [good, bad, inside] {
        eventually(what, || count(what) >= 5);
    }
    assert_eq!(count("x.status = 'error'"), 0);
    let metric =
        "SELECT count(*) FROM monmon_metric WHERE matcher = 'login-form' AND metric = 'forms' AND value = 1";
    assert!(database.count(metric).unwrap_or(0) >= 10);
    for running in [producer, consumer] {
        let (status, log) = running.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

/// The other examples, each in its own check: what it found in a page is in the store, with its numbers.
#[test]
fn every_example_reaches_the_store() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (place, database, topic) = (Place::new(), Database::new(), Topic::new(1));
    let site = Site::start().expect("a site");
    site.set(
        "/health",
        Answer::body(br#"{"status":"ok","version":"1.4.2","db":{"latency_ms":12.5}}"#.to_vec())
            .header("content-type", "application/json"),
    );
    site.set(
        "/graded",
        Answer::body(b"<p>graded</p>".to_vec())
            .header("content-security-policy", "default-src 'self'")
            .header("x-content-type-options", "nosniff")
            .header("x-frame-options", "DENY")
            .header("referrer-policy", "no-referrer")
            .header("permissions-policy", "camera=()"),
    );
    page(&site, "/bare", "<p>no header at all</p>");
    page(&site, "/shop", "<title>Shop</title><p>Price: <b>1,299.50</b> EUR</p><script>secret()</script>");
    page(&site, "/hacked", "<body><h1>owned by nobody</h1></body>");
    let check = |name: &str, plugin: &str, config: &str| {
        let (url, plugin) = (site.url(&format!("/{name}")), built(plugin));
        format!(
            "        check \"{name}\" \"{url}\" {{\n            wasm \"looks\" plugin=\"{plugin}\" {{ \
             config {{ {config} }}; limits time=\"1s\"; }}\n        }}\n"
        )
    };
    let checks = [
        check(
            "health",
            "json-health",
            r#"expect "$.status == \"ok\"" "$.db.latency_ms < 50"; metric "latency = $.db.latency_ms ms"; value "release = $.version""#,
        ),
        check("graded", "security-headers", r#"least "A""#),
        check("bare", "security-headers", r#"least "D""#),
        check("shop", "version", r#"after "Price: <b>"; name "price"; unit "EUR"; max 2000"#),
        check("hacked", "visible-text", r#"keyword "welcome"; forbidden "owned by""#),
    ]
    .concat();
    let producer = place.write(
        "producer.kdl",
        &format!(
            r#"pipeline "examples-producer"
sources {{
    http "sites" interval="500ms" timeout="3s" {{
{checks}    }}
}}
sinks {{
    kafka "events" from="sites" brokers=(env)"BROKERS" topic=(env)"TOPIC"
}}
"#
        ),
    );
    let consumer = place.write("consumer.kdl", CONSUMER);
    let start = |file: &Path| start(&place, &topic, &database, file);
    let running = [start(&producer), start(&consumer)];
    for (name, what) in [
        (
            "health",
            "status = 'passed' AND \"values\" ->> 'release' = '1.4.2' AND metrics -> 'latency' = \
             '{\"value\": 12.5, \"unit\": \"ms\"}'",
        ),
        (
            "graded",
            "status = 'passed' AND \"values\" ->> 'grade' = 'A' AND metrics -> 'score' ->> 'unit' = '%'",
        ),
        ("bare", "status = 'failed' AND \"values\" ->> 'grade' = 'F' AND message LIKE '%grade F%'"),
        (
            "shop",
            "status = 'passed' AND \"values\" ->> 'price' = '1,299.50' AND metrics -> 'price' = \
             '{\"value\": 1299.5, \"unit\": \"EUR\"}'",
        ),
        ("hacked", "status = 'failed' AND message LIKE '%owned by%' AND metrics ? 'words'"),
    ] {
        let sql = format!(
            "SELECT count(*) FROM (SELECT c.name AS check_name, x.* FROM monmon_match_full x JOIN monmon_measurement m \
             ON m.id = x.measurement_id JOIN monmon_check c ON c.id = m.check_id) x \
             WHERE check_name = '{name}' AND kind = 'wasm' AND {what}"
        );
        eventually(&sql, || database.count(&sql).unwrap_or(0) >= 2);
    }
    for running in running {
        let (status, log) = running.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
    }
    let other = "SELECT count(*) FROM monmon_match_full WHERE status NOT IN ('passed', 'failed')";
    assert_eq!(database.count(other), Some(0));
}

#[test]
fn a_hostile_plugin_harms_nobody() {
    let place = Place::new();
    place.announce(&["the plugin failed 5 times in a row"]);
    let site = Site::start().expect("a site");
    page(&site, "/login", LOGIN);
    let checks: String =
        (0..50).map(|at| format!("        check \"c{at}\" \"{}\"\n", site.url("/login"))).collect();
    by_hand(&place, "loop.wat", "(loop $on (br $on)) (unreachable)");
    by_hand(&place, "bomb.wat", "(drop (memory.grow (i32.const 60000))) (i32.const 1088)");
    let file = place.write(
        "hostile.kdl",
        &format!(
            r#"pipeline "hostile"
sources {{
    http "sites" interval="500ms" timeout="10s" {{
{checks}    }}
}}
transforms {{
    wasm "loop" from="sites" plugin="loop.wat" {{ limits time="20ms"; }}
    wasm "bomb" from="loop" plugin="bomb.wat"
    wasm "form" from="bomb" plugin="{}" {{ config {{ require "username" "password"; }}; }}
}}
sinks {{
    sqlite "store" from="form" path="hostile.db"
}}
"#,
            built("html-form"),
        ),
    );
    let output = place.output(&["run", "--for", "6s", file.to_str().expect("a path")]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{log}");
    let database = rusqlite::Connection::open(place.path("hostile.db")).expect("the store");
    let count = |sql: &str| database.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("an answer");
    // A machine that stands still makes slots unknown; what was answered went through all three.
    let measured = count("SELECT count(*) FROM monmon_measurement WHERE status = 200");
    assert!(measured >= 100, "{measured} of 600 slots");
    assert_eq!(count("SELECT count(*) FROM monmon_measurement WHERE outcome = 'down'"), 0, "{log}");
    let of = |stage: &str, status: &str| {
        count(&format!("SELECT count(*) FROM monmon_match WHERE stage = '{stage}' AND status = '{status}'"))
    };
    assert_eq!([of("loop", "error"), of("bomb", "error")], [measured, measured]);
    assert_eq!([of("form", "passed"), of("form", "error")], [measured, 0]);
    let left_alone = "SELECT count(*) FROM monmon_match WHERE stage = 'loop' AND message LIKE '%left alone%'";
    assert!(count(left_alone) > measured / 2, "{log}");
    let told =
        "SELECT count(*) FROM monmon_match WHERE stage = 'bomb' AND message LIKE '%more memory than 64MiB%'";
    assert!(count(told) >= 5);
}

#[test]
fn what_is_wrong_with_a_plugin_is_shown_in_its_place() {
    let place = Place::new();
    let html_form = built("html-form");
    place.write("garbage.wasm", "MZ this is no plugin");
    by_hand(&place, "asks.wat", "(i32.const 1088)");
    let asks = std::fs::read_to_string(place.path("asks.wat")).expect("written");
    place.write(
        "asks.wat",
        &asks.replacen("(module", "(module (import \"env\" \"open_socket\" (func $extra))", 1),
    );
    let file = place.write(
        "bad.kdl",
        &format!(
            r#"pipeline "bad"
sources {{
    http "sites" {{
        check "home" "http://127.0.0.1:1/" {{
            wasm "inside" plugin="garbage.wasm"
        }}
    }}
}}
transforms {{
    wasm "gone" from="sites" plugin="no-such.wasm"
    wasm "asks" from="gone" plugin="asks.wat"
    wasm "form" from="asks" plugin="{html_form}" {{
        config {{
            required "username"
            method "put"
            same-origin "yes"
            require
        }}
    }}
    wasm "empty" from="form" plugin="{html_form}"
}}
sinks {{ stdout "out" from="empty"; }}
"#
        ),
    );
    let output = place.output(&["validate", "--format", "json", file.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(2), "a file that cannot be read is no verdict");
    let problems: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let told: Vec<(u64, String, String)> = problems
        .as_array()
        .expect("a list")
        .iter()
        .map(|problem| {
            let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
            (problem["line"].as_u64().unwrap_or(0), text("code"), text("message"))
        })
        .collect();
    for (line, code, words) in [
        (5, "monmon::bad_plugin", "it is not WebAssembly"),
        (10, "monmon::unreadable_file", "no-such.wasm"),
        (11, "monmon::bad_plugin", "open_socket"),
        (14, "monmon::unknown_option", "takes no `required`"),
        (15, "monmon::unknown_word", "`put` is no value of `method`"),
        (16, "monmon::wrong_type", "`same-origin` is a text"),
        (17, "monmon::missing_argument", "`require` has no value"),
        (20, "monmon::missing_option", "needs `require`"),
    ] {
        let found =
            told.iter().any(|(at, found, message)| *at == line && found == code && message.contains(words));
        assert!(found, "line {line}: {code} with `{words}` in {told:#?}");
    }
    assert_eq!(told.len(), 8, "{told:#?}");
}

#[test]
fn a_stage_has_so_many_plugins_and_no_more() {
    let place = Place::new();
    let mut checks = String::new();
    // About as many as a file may have nodes for.
    for at in 0..9_000 {
        // What is beyond the bound is not even looked at.
        let plugin = if at < 200 {
            by_hand(&place, &format!("p{at}.wat"), &format!("(drop (i32.const {at})) (i32.const 1088)"));
            format!("p{at}.wat")
        } else {
            format!("absent{at}.wat")
        };
        checks.push_str(&format!(
            "        check \"c{at}\" \"http://127.0.0.1:1/{at}\" {{ wasm \"m\" plugin=\"{plugin}\"; }}\n"
        ));
    }
    let file = place.write(
        "many.kdl",
        &format!(
            "pipeline \"many\"\nsources {{\n    http \"sites\" {{\n{checks}    }}\n}}\nsinks {{ stdout \"out\" from=\"sites\"; }}\n"
        ),
    );
    let output = place.output(&["validate", "--format", "json", file.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(1));
    let problems: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let problems = problems.as_array().expect("a list");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_eq!((&problems[0]["code"], &problems[0]["line"]), (&"monmon::too_many".into(), &204.into()));
}

#[test]
fn a_plugin_that_takes_too_long_to_compile_is_given_up() {
    let compiler = |time| Compiler::Process {
        program: MONMON.into(),
        arguments: vec!["compile-plugin".to_owned()],
        time,
    };
    let host = |time| Host::new(HostOptions { cache: None, compiler: compiler(time) });
    // Functions of which each is costly to lay out in registers.
    let body =
        "(local.set 0 (i32.add (i32.mul (local.get 0) (local.get 1)) (i32.xor (local.get 1) (i32.const 7))))"
            .repeat(2000);
    let functions = format!("(func (param i32 i32) {body})").repeat(200);
    let place = Place::new();
    by_hand(&place, "large.wat", "(i32.const 1088)");
    let text = std::fs::read_to_string(place.path("large.wat")).expect("written");
    let large = text.trim_end().strip_suffix(')').expect("a module").to_owned() + &functions + ")";
    let short = Duration::from_millis(300);
    assert_eq!(
        host(short).load_bytes(large.as_bytes(), false).map(drop),
        Err(PluginError::CompileTime(short))
    );
    // As many functions as there may be, and one more: a plugin or a reason, in bounded time and memory.
    let many = |count: usize| {
        text.trim_end().strip_suffix(')').expect("a module").to_owned() + &"(func)".repeat(count) + ")"
    };
    let long = Duration::from_secs(5);
    let outcome = host(long).load_bytes(many(900_000).as_bytes(), false).map(drop);
    assert!(
        matches!(outcome, Ok(()) | Err(PluginError::CompileTime(_) | PluginError::Compile(_))),
        "{outcome:?}"
    );
    let outcome = host(Duration::from_secs(60)).load_bytes(many(1_000_001).as_bytes(), false).map(drop);
    assert!(matches!(&outcome, Err(error) if error.to_string().contains("functions")), "{outcome:?}");
    // The same process does what is right, and says what is wrong.
    let host = host(Duration::from_secs(60));
    host.load_bytes(text.as_bytes(), false).expect("a plugin");
    assert_eq!(host.load_bytes(b"MZ", false).map(drop), Err(PluginError::NotWasm));
}

/// Every command of docs/plugins.md, in order, in an empty folder.
#[test]
fn the_tutorial_leads_to_a_running_plugin() {
    let place = Place::new();
    let tutorial = include_str!("../docs/plugins.md");
    let commands: Vec<&str> = tutorial
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split_once("```").expect("a block has an end").0)
        .collect();
    assert!(commands.len() >= 5);
    // Another port than the written one, which may be in use here.
    let free = { Site::start().expect("a site").addr() };
    let script = format!("set -e\nmonmon() {{ {MONMON} \"$@\"; }}\n{}", commands.join("\n"));
    let script = place.write("tutorial.sh", &script.replace("127.0.0.1:8480", &free.to_string()));
    let mut command = std::process::Command::new("bash");
    command.arg(&script).current_dir(place.folder.path());
    command.env("MONMON_STATE_DIR", place.path("state")).env("MONMON_CACHE_DIR", place.path("cache"));
    let output = command.output().expect("bash runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}{log}");
    assert!(text.contains("3 of 3 passed") && text.contains("greeting/sites/home"), "{text}{log}");
    let database = rusqlite::Connection::open(place.path("greeting.db")).expect("the store");
    let sql =
        "SELECT count(*) FROM monmon_metric WHERE matcher = 'greets' AND metric = 'size' AND unit = 'bytes'";
    let numbers: i64 = database.query_row(sql, [], |row| row.get(0)).expect("an answer");
    assert!(numbers >= 1, "{numbers}");
}
