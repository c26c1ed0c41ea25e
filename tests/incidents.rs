//! Incidents on the whole road: a site goes down and up, consumers are killed, and whoever must know hears of it once.

mod support;

use std::collections::BTreeSet;

use monmon_testkit::{Posted, Receiver, Reply, Site};
use monmon_webhook::signature;
use support::{Database, Place, Running, TURN, Topic, eventually, setting};

const SECRET: &str = "not to be told";

struct Road {
    place: Place,
    site: Site,
    receiver: Receiver,
    topic: Topic,
    database: Database,
}

impl Road {
    fn new() -> Road {
        let site = Site::start().expect("a site");
        let place = Place::new();
        place.write(
            "producer.kdl",
            &format!(
                r#"pipeline "incident-producer"
sources {{
    http "sites" interval="500ms" timeout="400ms" {{ check "shop" "{}"; }}
}}
sinks {{
    kafka "events" from="sites" brokers=(env)"BROKERS" topic=(env)"TOPIC"
}}
"#,
                site.url("/")
            ),
        );
        place.write(
            "consumer.kdl",
            r#"pipeline "incident-consumer"
sources {
    kafka "events" brokers=(env)"BROKERS" topic=(env)"TOPIC" group=(env)"TOPIC" session-timeout="6s"
}
transforms {
    detect "outages" from="events" {
        store (env)"STORE"
        down after=2 of=3
        up after=2
    }
}
sinks {
    postgres "store" from="outages" url=(env)"STORE"
    webhook "alerts" from="outages" url=(env)"ALERTS" secret=(env)"SECRET"
}
"#,
        );
        let receiver = Receiver::start().expect("a server");
        Road { place, site, receiver, topic: Topic::new(2), database: Database::new() }
    }

    /// Runs a file on a machine of this name: what is kept there is known there only.
    fn start(&self, file: &str, machine: &str) -> Running {
        let path = self.place.path(file);
        let mut command = self.place.monmon(&["run", path.to_str().expect("a path"), "--log", "json"]);
        command.env("BROKERS", setting("MONMON_TEST_KAFKA")).env("TOPIC", &self.topic.name);
        command.env("STORE", self.database.url()).env("SECRET", SECRET);
        command.env("ALERTS", self.receiver.url("/alerts")).env("MONMON_STATE_DIR", self.place.path(machine));
        self.place.start_command(command)
    }

    /// What was posted, of which this many were taken.
    fn taken(&self, event: &str) -> Vec<Posted> {
        let posted = self.receiver.posted().into_iter();
        posted.filter(|one| one.status == 200 && one.header("monmon-event") == Some(event)).collect()
    }

    fn count(&self, what: &str) -> u64 {
        self.database.count(&format!("SELECT count(*) FROM {what}")).unwrap_or(0)
    }
}

#[test]
fn an_outage_is_one_incident_whoever_is_killed_meanwhile() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut road = Road::new();
    road.place.announce(&["the webhook takes nothing now"]);
    let migrated = road.place.output(&["db", "migrate", "--store", &road.database.url()]);
    assert!(migrated.status.success());
    // Who must know can't be reached at first.
    road.receiver.reply([Reply::status(503), Reply::hang_up(), Reply::status(503)]);
    let producer = road.start("producer.kdl", "berlin");
    let consumer = road.start("consumer.kdl", "oslo");
    eventually("measurement that is up", || road.count("monmon_measurement WHERE outcome = 'up'") >= 2);
    road.site.stop();

    // Killed between the decision and the word of it.
    eventually("try at the webhook", || !road.receiver.posted().is_empty());
    consumer.kill();
    let consumer = road.start("consumer.kdl", "oslo");
    eventually("word of the opening", || !road.taken("incident.open").is_empty());
    eventually("row that is open", || road.count("monmon_incident WHERE closed_at IS NULL") == 1);

    // Killed while it is open; another machine takes over, with nothing to go by but the store.
    consumer.kill();
    let consumer = road.start("consumer.kdl", "rome");
    let bad = road.count("monmon_measurement WHERE outcome = 'down'");
    eventually("more bad slots", || road.count("monmon_measurement WHERE outcome = 'down'") >= bad + 3);
    let listed = road.place.output(&["incidents", "--store", &road.database.url()]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("incident-producer/sites/shop") && listed.contains("open"), "{listed}");

    road.site.resume().expect("the port is ours");
    eventually("word of the closing", || !road.taken("incident.closed").is_empty());
    eventually("row that is closed", || road.count("monmon_incident WHERE closed_at IS NOT NULL") == 1);
    for running in [producer, consumer] {
        let (status, log) = running.terminate();
        assert_eq!(status.code(), Some(0), "{log}");
    }

    assert_eq!(road.count("monmon_incident"), 1);
    let row = "monmon_incident AS i WHERE i.revision = 2 AND i.began_at = (SELECT min(m.scheduled_at) \
               FROM monmon_measurement AS m WHERE m.outcome = 'down') AND i.recovered_at IS NOT NULL AND i.reason <> ''";
    assert_eq!(road.count(row), 1, "{:?}", road.database.query("SELECT * FROM monmon_incident"));
    let id = road.database.query("SELECT id::text FROM monmon_incident")[0][0].clone().expect("an id");
    let posted = road.receiver.posted();
    let keys: BTreeSet<&str> = posted.iter().filter_map(|one| one.header("idempotency-key")).collect();
    assert_eq!(keys, BTreeSet::from([&*format!("{id}-open"), &*format!("{id}-closed")]));
    for one in &posted {
        let header = one.header("monmon-signature").expect("every try is signed");
        let time = header.split(['=', ',']).nth(1).and_then(|time| time.parse().ok()).expect("a time");
        assert_eq!(header, signature(SECRET.as_bytes(), time, &one.body));
    }
    let listed = road.place.output(&["incidents", "--store", &road.database.url()]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "no incidents are open\n");
}

/// The producer may decide as well; a file keeps what it knows, and SQLite the rows.
#[test]
fn one_process_without_kafka_decides_the_same() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut site = Site::start().expect("a site");
    let place = Place::new();
    let store = format!("sqlite:{}", place.path("s.db").display());
    let file = place.write(
        "p.kdl",
        &format!(
            r#"pipeline "alone"
sources {{ http "sites" interval="200ms" timeout="150ms" {{ check "shop" "{}"; }} }}
transforms {{ detect "outages" from="sites" {{ down after=2; up after=2; }} }}
sinks {{ sqlite "store" from="outages" path="s.db"; stdout "lines" from="outages" }}
"#,
            site.url("/")
        ),
    );
    let file = file.to_str().expect("a path");
    let mut running = place.start(&["run", file]);
    running.says(r#""outcome":"up""#);
    site.stop();
    running.says(r#""type":"incident""#);
    running.kill();
    let running = place.start(&["run", file]);
    let open = |all: &str| {
        let output = place.output(&["incidents", "--store", &store, "--format", "json", "--limit", all]);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        found.as_array().map_or(0, Vec::len)
    };
    eventually("open incident", || open("10") == 1);
    site.resume().expect("the port is ours");
    eventually("end of the incident", || open("10") == 0);
    assert_eq!(running.terminate().0.code(), Some(0));
    let output = place.output(&["incidents", "--store", &store, "--format", "json", "--all"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!((&found[0]["state"], &found[0]["check"]), (&"closed".into(), &"alone/sites/shop".into()));
}
