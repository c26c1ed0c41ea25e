//! The whole road on a real broker and a real database, with things killed on the way. The oracles are the site's own
//! access log, the topic read from offset 0, and the rows; never monmon's counters.

mod support;

use std::time::Duration;

use monmon_testkit::{Answer, Site};
use support::{Database, Journal, Outage, Place, Running, TURN, Topic, eventually, setting};

/// The road between a site and a table.
struct Road {
    place: Place,
    site: Site,
    topic: Topic,
    database: Database,
}

impl Road {
    /// `checks` checks, each every `interval`.
    fn new(checks: usize, interval: &str) -> Road {
        let site = Site::start().expect("a site");
        site.set_below("/", Answer::html("A page to watch", 4_000));
        let road = Road { place: Place::new(), site, topic: Topic::new(4), database: Database::new() };
        let lines: Vec<String> = (0..checks)
            .map(|number| {
                format!("        check \"c{number}\" \"{}\"", road.site.url(&format!("/page/{number}")))
            })
            .collect();
        road.place.write(
            "producer.kdl",
            &format!(
                r##"pipeline "road-producer"
sources {{
    http "sites" interval="{interval}" timeout="2s" {{
{}
    }}
}}
transforms {{
    regex "titles" from="sites" {{
        match "title" #"<title>(?<title>[^<]*)</title>"#
    }}
}}
sinks {{
    kafka "events" from="titles" brokers=(env)"BROKERS" topic=(env)"TOPIC"
}}
"##,
                lines.join("\n")
            ),
        );
        road.place.write(
            "consumer.kdl",
            r#"pipeline "road-consumer"
sources {
    // A killed member keeps its partitions until its session ends; the shortest that the broker takes.
    kafka "events" brokers=(env)"BROKERS" topic=(env)"TOPIC" group=(env)"TOPIC" session-timeout="6s"
}
sinks {
    postgres "store" from="events" url=(env)"STORE" migrate=#true
}
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

    fn stored(&self) -> u64 {
        self.database.count("SELECT count(*) FROM monmon_measurement").unwrap_or(0)
    }

    /// Until this many more rows are there.
    fn more_rows(&self, more: u64) {
        let wanted = self.stored() + more;
        eventually(&format!("{wanted} rows"), || self.stored() >= wanted);
    }

    /// Stops the producer, waits until everything that Kafka holds is stored, stops the consumer, and compares.
    fn settle(&self, producer: Running, consumer: Running) -> Journal {
        let (status, log) = producer.terminate();
        assert_eq!(status.code(), Some(0), "the producer:\n{log}");
        let journal = self.topic.journal();
        let ids = journal.sorted_ids();
        eventually("row for each id in the topic", || self.stored() >= ids.len() as u64);
        let (status, log) = consumer.terminate();
        assert_eq!(status.code(), Some(0), "the consumer:\n{log}");
        let stored = self.database.ids();
        assert_eq!(stored.len(), ids.len(), "rows against ids in the topic");
        assert!(stored == ids, "the same number of rows, but not the same ids");
        assert_eq!(self.database.count("SELECT count(*) FROM monmon_dead_letter"), Some(0));
        // Every request that the site saw is a measurement in the topic, and the other way round.
        assert_eq!(
            journal.answered,
            self.site.count(),
            "measurements with a status against the site's access log"
        );
        journal
    }
}

#[test]
fn what_is_measured_is_stored() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let road = Road::new(20, "500ms");
    let producer = road.start("producer.kdl");
    let consumer = road.start("consumer.kdl");
    road.more_rows(100);
    let journal = road.settle(producer, consumer);
    assert_eq!(journal.outcomes.get("up"), Some(&(journal.ids.len() as u64)), "{:?}", journal.outcomes);
    let titles = road.database.count(
        "SELECT count(*) FROM monmon_match_full WHERE status = 'passed' AND \"values\" ->> 'title' = 'A page to watch'",
    );
    assert_eq!(titles, Some(journal.ids.len() as u64));
    let phases = "SELECT count(*) FROM monmon_measurement WHERE total_us <> coalesce(dns_us, 0) + coalesce(connect_us, 0) \
                  + coalesce(tls_us, 0) + coalesce(wait_us, 0) + coalesce(transfer_us, 0)";
    assert_eq!(road.database.count(phases), Some(0), "the phases add up to the total");
    let gaps = "SELECT count(*) FROM (SELECT boot_id, max(seq) - count(*) AS gap FROM monmon_measurement_full GROUP BY 1) x \
                WHERE gap <> 0";
    assert_eq!(road.database.count(gaps), Some(0), "seq counts without gaps");
}

#[test]
fn a_site_that_is_down_is_data() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut road = Road::new(5, "300ms");
    let producer = road.start("producer.kdl");
    let consumer = road.start("consumer.kdl");
    let of = |road: &Road, what: &str| {
        road.database.count(&format!("SELECT count(*) FROM monmon_measurement WHERE {what}")).unwrap_or(0)
    };
    eventually("measurement that is up", || of(&road, "outcome = 'up'") >= 5);
    road.site.stop();
    let refused = "outcome = 'down' AND error_kind = 'connect_refused' AND error_phase = 'connect'";
    eventually("measurement that is down", || of(&road, refused) >= 5);
    let ups = of(&road, "outcome = 'up'");
    road.site.resume().expect("the site is back");
    eventually("measurement that is up again", || of(&road, "outcome = 'up'") >= ups + 5);
    road.settle(producer, consumer);
}

#[test]
fn a_killed_consumer_loses_and_doubles_nothing() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let road = Road::new(200, "500ms");
    let producer = road.start("producer.kdl");
    let mut consumer = road.start("consumer.kdl");
    road.more_rows(200);
    for round in 0..6u64 {
        // Not a fixed point of a batch's life: anywhere within some tens of milliseconds.
        std::thread::sleep(Duration::from_millis(37 * (round * 7 % 5) + 11));
        let before = road.stored();
        consumer.kill();
        consumer = road.start("consumer.kdl");
        eventually("row after the kill", || road.stored() > before);
    }
    let journal = road.settle(producer, consumer);
    assert!(journal.ids.len() > 1000, "only {} measurements under load", journal.ids.len());
}

#[test]
fn a_killed_broker_and_a_killed_database_lose_and_double_nothing() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let road = Road::new(50, "500ms");
    road.place
        .announce(&["no kafka broker can be reached; waiting", "kafka cannot do it at the moment; waiting"]);
    road.place
        .announce(&["the store cannot be used now; waiting", "the group went on without us; joining again"]);
    let mut producer = road.start("producer.kdl");
    let mut consumer = road.start("consumer.kdl");
    road.more_rows(100);

    let outage = Outage::new("kafka.sh", &["kill", "1"], &["up", "1"]);
    eventually("end of the broker", || std::net::TcpStream::connect(setting("MONMON_TEST_KAFKA")).is_err());
    let seen = road.site.count();
    eventually("check while the broker is away", || road.site.count() > seen + 100);
    drop(outage);
    road.more_rows(100);

    let outage = Outage::new("postgres.sh", &["kill"], &["start"]);
    assert_eq!(road.database.count("SELECT 1"), None, "the database is gone");
    let seen = road.site.count();
    eventually("check while the database is away", || road.site.count() > seen + 100);
    drop(outage);
    road.more_rows(100);

    assert!(producer.is_running() && consumer.is_running(), "neither gave up");
    let journal = road.settle(producer, consumer);
    assert!(journal.ids.len() > 400, "only {} measurements", journal.ids.len());
}

#[test]
fn what_is_not_ours_goes_to_the_dead_letters() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let road = Road::new(1, "1s");
    let good = include_str!("../crates/monmon-model/tests/golden/up.v1.json").trim_end();
    let poison: Vec<(&str, Vec<u8>)> = vec![
        ("not_json", b"hello".to_vec()),
        ("empty", Vec::new()),
        ("not_utf8", vec![0xff, 0xfe]),
        ("not_ours", br#"{"type":"weather"}"#.to_vec()),
        ("newer_version", good.replacen("\"v\":1", "\"v\":99", 1).into_bytes()),
        ("nul_in_text", good.replacen("\"docs\"", "\"do\\u0000cs\"", 1).into_bytes()),
        ("bad_field", good.replacen("\"seq\":42", "\"seq\":-42", 1).into_bytes()),
    ];
    let mut messages: Vec<Vec<u8>> = poison.iter().map(|(_, bytes)| bytes.clone()).collect();
    // The same measurement twice: stored once.
    messages.push(good.as_bytes().to_vec());
    messages.push(good.as_bytes().to_vec());
    road.topic.publish(&messages);
    let consumer = road.start("consumer.kdl");
    let dead = || road.database.count("SELECT count(*) FROM monmon_dead_letter").unwrap_or(0);
    eventually("row and the dead letters", || road.stored() == 1 && dead() == poison.len() as u64);
    for (offset, (reason, bytes)) in poison.iter().enumerate() {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let sql = format!(
            "SELECT reason FROM monmon_dead_letter WHERE topic = '{}' AND kafka_partition = 0 AND kafka_offset = {offset} \
             AND bytes = '\\x{hex}'",
            road.topic.name
        );
        assert_eq!(road.database.query(&sql), [[Some((*reason).to_owned())]], "offset {offset}");
    }
    let (status, log) = consumer.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    // Read again from the last commit: nothing comes twice.
    let again = road.start("consumer.kdl");
    road.topic.publish(&[b"one more".to_vec()]);
    eventually("one more dead letter", || dead() == poison.len() as u64 + 1);
    let (status, log) = again.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!((road.stored(), dead()), (1, poison.len() as u64 + 1));
}

/// As managed services demand: Kafka with a client certificate on the way in and a login on the way out, PostgreSQL with
/// a verified server and a client certificate.
#[test]
fn the_road_is_the_same_over_tls_and_logins() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let road = Road::new(5, "300ms");
    let kafka = setting("MONMON_TEST_KAFKA_TLS_DIR");
    let postgres = setting("MONMON_TEST_POSTGRES_TLS_DIR");
    let producer = std::fs::read_to_string(road.place.path("producer.kdl")).expect("the producer's file");
    let producer = producer.replace(
        r#"brokers=(env)"BROKERS" topic=(env)"TOPIC""#,
        &format!(
            r#"brokers="{}" topic=(env)"TOPIC" {{
        tls ca="{kafka}/ca.pem" cert="{kafka}/client.pem" key="{kafka}/client.key"
    }}"#,
            setting("MONMON_TEST_KAFKA_TLS")
        ),
    );
    road.place.write("producer.kdl", &producer);
    let consumer = std::fs::read_to_string(road.place.path("consumer.kdl")).expect("the consumer's file");
    let consumer = consumer.replace(
        r#"brokers=(env)"BROKERS" topic=(env)"TOPIC" group=(env)"TOPIC" session-timeout="6s""#,
        &format!(
            r#"brokers="{}" topic=(env)"TOPIC" group=(env)"TOPIC" {{
        tls ca="{kafka}/ca.pem"
        sasl mechanism="SCRAM-SHA-512" user="{}" password="{}"
    }}"#,
            setting("MONMON_TEST_KAFKA_SASL"),
            setting("MONMON_TEST_KAFKA_USER"),
            setting("MONMON_TEST_KAFKA_PASSWORD"),
        ),
    );
    let consumer = consumer.replace(
        r#"url=(env)"STORE" migrate=#true"#,
        &format!(
            r#"url="{}" migrate=#true {{
        tls ca="{postgres}/ca.pem" cert="{postgres}/client.pem" key="{postgres}/client.key"
    }}"#,
            road.database.url().replace("app:secret@127.0.0.1", "app_cert@localhost"),
        ),
    );
    assert!(producer.contains("client.key") && consumer.contains("SCRAM") && consumer.contains("app_cert"));
    road.place.write("consumer.kdl", &consumer);
    road.database.grant_all("app_cert");
    let producer = road.start("producer.kdl");
    let consumer = road.start("consumer.kdl");
    // The tables belong to another role here, so it is asked as that one.
    eventually("rows", || {
        road.database.admin_count("SELECT count(*) FROM monmon_measurement").unwrap_or(0) >= 20
    });
    let tls = road.database.admin_count(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'app_cert' \
         AND datname = current_database() AND client_dn LIKE '%app_cert%'",
    );
    assert!(tls >= Some(1), "the sink's connection is encrypted and has shown its certificate: {tls:?}");
    for running in [producer, consumer] {
        let (status, log) = running.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains(&setting("MONMON_TEST_KAFKA_PASSWORD")), "a secret is in the log:\n{log}");
    }
}
