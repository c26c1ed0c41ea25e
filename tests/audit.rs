//! `monmon audit` and `monmon report` as users have them: on what real runs have left, and on what was done to it since.

mod support;

use monmon_testkit::{Answer, Site};
use serde_json::Value;
use support::{Database, Place, Running, TURN, Topic, eventually, setting};

/// A producer and a consumer with Kafka between them, and a database behind.
struct Road {
    place: Place,
    _site: Site,
    topic: Topic,
    database: Database,
}

impl Road {
    fn new() -> Road {
        let site = Site::start().expect("a site");
        site.set_below("/", Answer::html("A page to watch", 4_000));
        let road = Road { place: Place::new(), topic: Topic::new(4), database: Database::new(), _site: site };
        let checks: String = (0..10)
            .map(|number| format!("check \"c{number}\" \"{}\"\n", road._site.url(&format!("/{number}"))))
            .collect();
        road.place.write(
            "producer.kdl",
            &format!(
                "pipeline \"producer\"\nsources {{ http \"sites\" interval=\"300ms\" timeout=\"2s\" {{\n{checks}}}\n}}\n\
                 sinks {{ kafka \"events\" from=\"sites\" brokers=(env)\"BROKERS\" topic=(env)\"TOPIC\"; }}\n"
            ),
        );
        road.place.write(
            "consumer.kdl",
            r#"pipeline "consumer"
sources { kafka "events" brokers=(env)"BROKERS" topic=(env)"TOPIC" group=(env)"TOPIC" session-timeout="6s"; }
sinks { postgres "store" from="events" url=(env)"STORE" migrate=#true; }
"#,
        );
        road
    }

    fn start(&self, file: &str) -> Running {
        let path = self.place.path(file);
        let mut command = self.place.monmon(&["run", path.to_str().expect("a path"), "--log", "json"]);
        command.env("BROKERS", setting("MONMON_TEST_KAFKA"));
        command.env("TOPIC", &self.topic.name).env("STORE", self.database.url());
        self.place.start_command(command)
    }

    fn rows(&self) -> u64 {
        self.database.count("SELECT count(*) FROM monmon_measurement").unwrap_or(0)
    }

    fn more_rows(&self, more: u64) {
        let wanted = self.rows() + more;
        eventually("rows", || self.rows() >= wanted);
    }

    /// Until everything in the topic is stored.
    fn drain(&self, consumer: Running) {
        let journal = self.topic.journal();
        let receipts = || self.database.count("SELECT count(*) FROM monmon_receipt").unwrap_or(0);
        eventually("row for each measurement in the topic", || self.rows() >= journal.ids.len() as u64);
        eventually("row for each receipt in the topic", || receipts() >= journal.receipts.len() as u64);
        let (status, log) = consumer.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
    }

    fn audit(&self) -> (Option<i32>, Value) {
        audit(&self.place, &self.database.url())
    }

    /// With Kafka's word that nothing is on its way any more.
    fn audit_with_kafka(&self) -> (Option<i32>, Value) {
        let (brokers, group) = (setting("MONMON_TEST_KAFKA"), self.topic.name.as_str());
        let arguments = ["--settle", "0s", "--brokers", &brokers, "--group", group];
        audit_with(&self.place, &self.database.url(), &arguments)
    }
}

fn audit(place: &Place, store: &str) -> (Option<i32>, Value) {
    audit_with(place, store, &["--settle", "0s"])
}

fn audit_with(place: &Place, store: &str, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = place.output(&[&["audit", "--store", store, "--format", "json"], arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), value)
}

fn count(audit: &Value, kind: &str) -> u64 {
    audit["findings"][kind]["count"].as_u64().unwrap_or(0)
}

#[test]
fn what_ran_and_was_started_again_is_proven_and_damage_is_named() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let road = Road::new();
    let consumer = road.start("consumer.kdl");
    let producer = road.start("producer.kdl");
    road.more_rows(100);
    let (status, log) = producer.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    let producer = road.start("producer.kdl");
    road.more_rows(100);
    let (status, log) = producer.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    road.drain(consumer);

    let (code, clean) = road.audit();
    assert_eq!((code, clean["verdict"].as_str()), (Some(0), Some("proven")), "{clean:#}");
    assert_eq!(clean["rows"].as_u64(), Some(road.rows()));
    let told_together = clean["slots"]["told_together"].as_u64().unwrap_or(0);
    assert_eq!(
        clean["slots"]["due"].as_u64(),
        Some(road.rows() + told_together),
        "no slot has two rows: {clean:#}"
    );
    assert_eq!((&clean["boots"]["ended"], &clean["receipts"]["proven"]), (&2.into(), &2.into()), "{clean:#}");
    assert!(clean["partitions"].as_array().is_some_and(|all| !all.is_empty()), "{clean:#}");

    // One row of each hundred goes, with all that a vandal knows to hide.
    let lost = road.database.query(
        "DELETE FROM monmon_measurement WHERE seq % 100 = 50 RETURNING to_char(scheduled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US')",
    );
    let (code, broken) = road.audit_with_kafka();
    assert_eq!((code, broken["verdict"].as_str()), (Some(1), Some("broken")));
    assert_eq!(count(&broken, "missing_slot"), lost.len() as u64, "{broken:#}");
    assert_eq!(count(&broken, "seq_hole"), lost.len() as u64, "{broken:#}");
    let named: Vec<&Value> =
        broken["findings"]["missing_slot"]["shown"].as_array().expect("a list").iter().collect();
    for row in &lost {
        let at = row[0].as_deref().expect("a time").trim_end_matches('0');
        assert!(
            named.iter().any(|finding| finding["at"].as_str().is_some_and(|named| named.starts_with(at))),
            "{at}: {named:?}"
        );
    }
    road.database.query("DELETE FROM monmon_batch WHERE id = (SELECT id FROM monmon_batch WHERE first_offset > 0 AND last_offset < (SELECT max(last_offset) FROM monmon_batch AS b WHERE b.partition_id = monmon_batch.partition_id) LIMIT 1)");
    let (_, holed) = road.audit();
    assert!(count(&holed, "offset_hole") > 0, "{holed:#}");
}

/// One partition of four lags for longer than the audit waits: what is missing may be on its way, and is not called lost.
#[test]
fn a_partition_that_lags_is_not_broken() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let road = Road::new();
    let consumer = road.start("consumer.kdl");
    let producer = road.start("producer.kdl");
    road.more_rows(150);
    let (status, log) = producer.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    road.drain(consumer);
    // As if the newest of one check's partition had not come yet.
    let check = "(SELECT check_id FROM monmon_measurement ORDER BY check_id LIMIT 1)";
    let gone = road.database.query(&format!(
        "DELETE FROM monmon_measurement WHERE check_id = {check} AND seq > 60 RETURNING seq"
    ));
    assert!(!gone.is_empty());
    let (code, lagging) = road.audit();
    assert_eq!((code, lagging["verdict"].as_str()), (Some(0), Some("not_provable")), "{lagging:#}");
    assert_eq!(count(&lagging, "awaited_slot"), gone.len() as u64, "{lagging:#}");
    assert_eq!(count(&lagging, "awaited_seq"), gone.len() as u64, "{lagging:#}");
    assert_eq!(lagging["slots"]["missing"], 0, "{lagging:#}");
    // Kafka knows better.
    let (code, lost) = road.audit_with_kafka();
    assert_eq!((code, count(&lost, "missing_slot")), (Some(1), gone.len() as u64), "{lost:#}");
}

#[test]
fn a_killed_producer_is_not_provable_and_nothing_else_is_wrong() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let road = Road::new();
    let consumer = road.start("consumer.kdl");
    let producer = road.start("producer.kdl");
    road.more_rows(100);
    producer.kill();
    let producer = road.start("producer.kdl");
    road.more_rows(100);
    let (status, log) = producer.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    road.drain(consumer);
    let (code, audit) = road.audit();
    assert_eq!((code, audit["verdict"].as_str()), (Some(0), Some("not_provable")), "{audit:#}");
    assert_eq!(count(&audit, "no_receipts"), 1, "{audit:#}");
    assert_eq!(audit["slots"]["missing"], 0, "{audit:#}");
    let strict = road.place.output(&["audit", "--store", &road.database.url(), "--settle", "0s", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    let text = String::from_utf8_lossy(&strict.stdout).into_owned();
    assert!(text.starts_with("NOT PROVABLE"), "{text}");
}

#[test]
fn a_store_that_is_written_is_not_broken_and_kafka_is_asked() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let road = Road::new();
    let consumer = road.start("consumer.kdl");
    let producer = road.start("producer.kdl");
    let brokers = setting("MONMON_TEST_KAFKA");
    let asked = ["--brokers", brokers.as_str(), "--group", road.topic.name.as_str()];
    road.more_rows(100);
    for _ in 0..6 {
        road.more_rows(40);
        let (_, live) =
            audit_with(&road.place, &road.database.url(), &[&["--settle", "3s"], &asked[..]].concat());
        assert_ne!(live["verdict"].as_str(), Some("broken"), "{live:#}");
        assert_eq!(live["slots"]["missing"], 0, "{live:#}");
    }
    let (status, log) = producer.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    road.drain(consumer);
    let asked = [&["--settle", "0s"], &asked[..]].concat();
    let (code, clean) = audit_with(&road.place, &road.database.url(), &asked);
    assert_eq!((code, clean["verdict"].as_str()), (Some(0), Some("proven")), "{clean:#}");

    // Without a partition's newest batch what was committed is not stored; without all of them it may never have been.
    road.database.query("DELETE FROM monmon_batch AS b WHERE last_offset = (SELECT max(last_offset) FROM monmon_batch AS o WHERE o.partition_id = b.partition_id) AND first_offset > 0 AND partition_id = (SELECT min(partition_id) FROM monmon_batch)");
    let (code, less) = audit_with(&road.place, &road.database.url(), &asked);
    assert_eq!((code, count(&less, "committed_not_stored") > 0), (Some(1), true), "{less:#}");
    road.database
        .query("DELETE FROM monmon_batch WHERE partition_id = (SELECT min(partition_id) FROM monmon_batch)");
    let (code, less) = audit_with(&road.place, &road.database.url(), &asked);
    assert_eq!((code, count(&less, "committed_nothing_stored")), (Some(0), 1), "{less:#}");
}

#[test]
fn a_copy_of_a_part_is_not_provable_before_and_a_whole_one_is_proven() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (place, site) = (Place::new(), Site::start().expect("a site"));
    site.set_below("/", Answer::html("<b>", 100));
    for name in ["one", "two"] {
        let file = place.write(
            &format!("{name}.kdl"),
            &format!(
                "pipeline \"{name}\"\nsources {{ http \"sites\" interval=\"200ms\" {{\n check \"home\" \"{0}\"\n check \"docs\" \"{0}\"\n}}\n}}\n\
                 sinks {{ sqlite \"store\" path=\"{name}.db\"; }}\n",
                site.url("/")
            ),
        );
        let output = place.output(&["run", file.to_str().expect("a path"), "--for", "3s"]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let connection = rusqlite::Connection::open(place.path("one.db")).expect("the file");
    let middle = "SELECT scheduled_at FROM monmon_measurement ORDER BY id LIMIT 1 OFFSET 10";
    let since: String = connection.query_row(middle, [], |row| row.get(0)).expect("a row");
    let copied = |name: &str, from: &str, sources: &str| {
        let text = format!(
            "pipeline \"{name}\"\nsources {{\n{sources}\n}}\nsinks {{ sqlite \"copy\" from=\"{from}\" path=\"{name}.db\"; }}\n"
        );
        let file = place.write(&format!("{name}.kdl"), &text);
        let output = place.output(&["run", file.to_str().expect("a path")]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        audit(&place, &format!("sqlite:{}", place.path(&format!("{name}.db")).display()))
    };
    let both = "sqlite \"a\" path=\"one.db\"\nsqlite \"b\" path=\"two.db\"";
    let (code, both) = copied("both", "a,b", both);
    assert_eq!((code, both["verdict"].as_str()), (Some(0), Some("proven")), "{both:#}");
    assert_eq!(both["boots"]["ended"], 2, "{both:#}");
    let (code, late) = copied("late", "a", &format!("sqlite \"a\" path=\"one.db\" since=\"{since}\""));
    assert_eq!((code, late["verdict"].as_str()), (Some(0), Some("not_provable")), "{late:#}");
    assert_eq!(count(&late, "not_provable_before"), 1, "{late:#}");
    let (code, part) = copied("part", "a", "sqlite \"a\" path=\"one.db\" check=\"one/sites/home\"");
    assert_eq!((code, part["verdict"].as_str()), (Some(0), Some("not_provable")), "{part:#}");
    assert_eq!(count(&part, "no_receipts"), 1, "{part:#}");
    // What is asked for by a wrong name is in no store.
    let store = format!("sqlite:{}", place.path("both.db").display());
    for wrong in [["--check", "hom"], ["--pipeline", "three"]] {
        let output = place.output(&[&["audit", "--store", &store], &wrong[..]].concat());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{wrong:?}");
    }
    let output = place.output(&["audit", "--store", &store, "--month", "2026-01"]);
    assert_eq!(output.status.code(), Some(1), "nothing is stored of it");
}

#[test]
fn an_embedded_store_is_audited_and_reported_alike() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (place, site) = (Place::new(), Site::start().expect("a site"));
    site.set_below("/", Answer::html("<b>", 100));
    let file = place.write(
        "pipeline.kdl",
        &format!(
            "pipeline \"p\"\nsources {{ http \"sites\" interval=\"200ms\" {{\n check \"<b>home</b>\" \"{0}\" {{ label team=\"web\"; }}\n check \"docs\" \"{0}\"\n}}\n}}\n\
             sinks {{ sqlite \"store\" path=\"store.db\"; }}\n",
            site.url("/")
        ),
    );
    let file = file.to_str().expect("a path");
    let output = place.output(&["run", file, "--for", "3s"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let output = place.output(&["run", file, "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let store = format!("sqlite:{}", place.path("store.db").display());
    let (code, found) = audit(&place, &store);
    assert_eq!((code, found["verdict"].as_str()), (Some(0), Some("proven")), "{found:#}");
    assert_eq!(found["receipts"]["proven"], 2, "one of each run: {found:#}");

    let output = place.output(&[
        "report",
        "--store",
        &store,
        "--since",
        "2026-01-01",
        "--settle",
        "0s",
        "--label",
        "team=web",
        "--format",
        "json",
    ]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    assert_eq!(
        (checks.len(), checks[0]["uptime"].as_f64(), checks[0]["met"].as_bool()),
        (1, Some(1.0), Some(true)),
        "{report:#}"
    );
    assert!(checks[0]["latency_ms"]["p95"].as_f64().is_some_and(|ms| ms > 0.0), "{report:#}");
    let page = place.output(&["report", "--store", &store, "--since", "2026-01-01", "--format", "html"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("&lt;b&gt;home&lt;/b&gt;") && !page.contains("<b>home"), "{page}");

    // Once more without one row.
    let connection = rusqlite::Connection::open(place.path("store.db")).expect("the file");
    let deleted = "DELETE FROM monmon_measurement WHERE id = (SELECT id FROM monmon_measurement ORDER BY id LIMIT 1 OFFSET 5)";
    assert_eq!(connection.execute(deleted, []), Ok(1));
    let (code, found) = audit(&place, &store);
    assert_eq!(
        (code, count(&found, "missing_slot"), count(&found, "seq_hole")),
        (Some(1), 1, 1),
        "{found:#}"
    );
}

#[test]
fn what_cannot_be_looked_at_is_no_verdict() {
    let place = Place::new();
    for arguments in [
        &["audit", "--store", "sqlite:none.db"][..],
        &["audit", "--store", "postgres://nobody@127.0.0.1:1/none?connect_timeout=1"],
        &["audit", "--store", "sqlite:none.db", "--month", "2026-13"],
        &["audit", "--store", "sqlite:none.db", "--since", "2026-10-02", "--until", "2026-10-01"],
        &["audit", "--store", "sqlite:none.db", "--since", "2026-10-01T12:00:00"],
        &[
            "audit",
            "--store",
            "sqlite:none.db",
            "--brokers",
            "127.0.0.1:1",
            "--group",
            "g",
            "--month",
            "2026-10",
        ],
        &["report", "--store", "sqlite:none.db"],
    ] {
        let output = place.monmon(arguments).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
