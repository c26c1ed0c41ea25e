//! A producer whose broker comes and goes: the spool bridges it. The oracles are the site's access log and the topic read
//! from its beginning.

mod support;

use std::path::PathBuf;
use std::process::Command;

use monmon_testkit::{Answer, ProxyMode, Site};
use serde_json::Value;
use support::broker::BrokerProxy;
use support::{Journal, MONMON, Place, Running, TURN, Topic, eventually};

/// Checks, and how often in a second each is due.
const CHECKS: usize = 20;
/// What may be under way and nowhere yet: the checks themselves, and what came within the time that the sink is given,
/// with as much again for a machine that is busy.
const UNDER_WAY_MAX: u64 = 2 * CHECKS as u64 * 5;

struct Producer {
    place: Place,
    site: Site,
    topic: Topic,
    broker: BrokerProxy,
}

impl Producer {
    fn new() -> Producer {
        let site = Site::start().expect("a site");
        site.set_below("/", Answer::html("A page to watch", 2_000));
        let producer =
            Producer { place: Place::new(), site, topic: Topic::new(1), broker: BrokerProxy::start() };
        let checks: String = (0..CHECKS)
            .map(|number| {
                format!("        check \"c{number}\" \"{}\"\n", producer.site.url(&format!("/{number}")))
            })
            .collect();
        producer.place.write(
            "producer.kdl",
            &format!(
                r#"pipeline "spooled"
sources {{
    http "sites" interval="200ms" timeout="2s" {{
{checks}    }}
}}
sinks {{
    kafka "events" brokers=(env)"BROKERS" topic=(env)"TOPIC" {{
        spool "events.spool" max="64MiB" after="300ms"
    }}
}}
"#
            ),
        );
        producer.place.announce(&[
            "no kafka broker can be reached; waiting",
            "kafka cannot do it at the moment; waiting",
            "the sink does not deliver in time; what comes goes to the spool",
        ]);
        producer
    }

    fn command(&self) -> Command {
        let path = self.place.path("producer.kdl");
        let mut command = self.place.monmon(&["run", path.to_str().expect("a path"), "--log", "json"]);
        command.env("BROKERS", self.broker.address()).env("TOPIC", &self.topic.name);
        command
    }

    fn start(&self) -> Running {
        self.place.start_command(self.command())
    }

    fn spool(&self) -> PathBuf {
        self.place.path("events.spool")
    }

    /// What `monmon status --spool` says.
    fn status(&self) -> Value {
        let output = Command::new(MONMON)
            .args(["status", "--format", "json", "--spool"])
            .arg(self.spool())
            .output()
            .expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn items(&self) -> u64 {
        self.status()["items"].as_u64().expect("a number")
    }

    /// Until the site was asked so many times more.
    fn more_checks(&self, more: usize) {
        let wanted = self.site.count() + more as u64;
        eventually(&format!("{more} more checks"), || self.site.count() >= wanted);
    }

    fn check_topic(&self) -> Journal {
        let journal = self.topic.journal();
        let doubled: Vec<_> = journal.ids.iter().filter(|(_, count)| **count > 1).collect();
        assert!(doubled.is_empty(), "more than once in the topic: {doubled:?}");
        for ids in journal.by_check.values() {
            assert!(ids.is_sorted(), "a check is out of its order: {ids:?}");
        }
        journal
    }
}

#[test]
fn an_outage_of_the_broker_is_bridged() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut producer = Producer::new();
    let mut running = producer.start();
    producer.more_checks(100);
    for mode in [ProxyMode::Refuse, ProxyMode::Blackhole] {
        let before = running.log().matches("the spool has drained").count();
        producer.broker.set(mode);
        eventually("items in the spool", || producer.items() >= 200);
        // The checks go on as if nothing were.
        producer.more_checks(200);
        producer.broker.set(ProxyMode::Pass);
        eventually("end of the spool", || running.log().matches("the spool has drained").count() > before);
        producer.more_checks(100);
    }
    assert!(running.is_running());
    let (status, log) = running.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    let journal = producer.check_topic();
    assert_eq!(journal.answered, producer.site.count(), "the topic against the site's access log");
    assert_eq!(journal.outcomes.keys().collect::<Vec<_>>(), ["up"], "{:?}", journal.outcomes);
    assert_eq!(producer.items(), 0);
}

#[test]
fn kills_and_ends_during_an_outage_lose_nothing_that_was_spooled() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut producer = Producer::new();
    producer.broker.set(ProxyMode::Refuse);
    // The broker is away from the first moment on.
    let mut running = producer.start();
    eventually("items in the spool", || producer.spool().exists() && producer.items() >= 100);
    producer.place.announce(&["in use by the process"]);
    let second = producer.command().output().expect("the program starts");
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2), "{told}");
    assert!(told.contains(&format!("in use by the process {}", running.id())), "{told}");

    let mut lost_max = 0;
    for _ in 0..3 {
        let before = producer.items();
        eventually("more items", || producer.items() >= before + 60);
        running.kill();
        lost_max += UNDER_WAY_MAX;
        assert!(producer.items() >= before + 60);
        running = producer.start();
        running.says("the spool has items from before");
    }
    eventually("still more items", || producer.items() >= 400);
    let (status, log) = running.terminate();
    assert_eq!(status.code(), Some(0), "what is in the spool is stored:\n{log}");
    assert!(log.contains("kept in the spool for the next run"), "{log}");
    let kept = producer.items();

    producer.broker.set(ProxyMode::Pass);
    let mut running = producer.start();
    running.says("the spool has drained");
    let (status, log) = running.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    let journal = producer.check_topic();
    assert!(journal.ids.len() as u64 >= kept, "{} of {kept}", journal.ids.len());
    let (asked, answered) = (producer.site.count(), journal.answered);
    assert!(answered <= asked && answered + lost_max >= asked, "{answered} of {asked} that the site saw");
    assert_eq!(producer.items(), 0);
}
