//! The source as a pipeline file asks for it: what is refused, and what its slots become.

#![expect(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

mod common;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::{decoded, started, started_at, started_in, told};
use jiff::{SignedDuration, Timestamp};
use monmon_model::{FailureKind, Measurement, Outcome};
use monmon_stage::{Clock, Mode, SystemClock};
use monmon_syntax::MemoryLoader;
use monmon_testkit::{Answer, Behaviour, HostileSite, Site};
use uuid::Uuid;

#[test]
fn mistakes_in_checks_are_told_in_one_go() {
    let text = r#"http "sites" demo-site="0.0.0.0:80" {
        check "a" "https://a.test/" id="not-a-uuid" { header "bad name" "x"; header "host" "a"; header "host" "b" }
        check "b" "https://b.test/" { header "connection" "close"; header "x" "a\nb"; label k="v"; label k="w" }
        check "b" "https://b.test/again"
        check "B" "https://b.test/more" { match "m" "x"; match "m" "y" }
        checks-from "none.csv"
    }"#;
    insta::assert_snapshot!(told(text, &MemoryLoader::new()), @r##"
    monmon::out_of_range: the demo site is served on loopback only
    monmon::bad_name: `not-a-uuid` is not a UUID
    monmon::bad_name: `bad name` cannot be a header's name
    monmon::duplicate_name: the header `host` is given twice
    monmon::unsupported: the header `connection` is set by monmon
    monmon::forbidden_character: the value of `x` cannot be sent
    monmon::duplicate_name: the label `k` is given twice
    monmon::duplicate_name: two checks are named `b`
    monmon::confusable: the checks `b` and `B` differ by case alone
    monmon::duplicate_name: the check has two matchers named `m`
    monmon::unreadable_file: `none.csv` cannot be read: there is no such file
    "##);
}

#[test]
fn every_bad_row_has_its_line() {
    let csv = "\u{feff}name,url,interval,timeout,method,status,time,label.team\n\
               good,https://a.test/,30s,5s,head,\"200-299,304\",<2s,web\n\
               ,https://a.test/,,,,,,\n\
               two,ftp://a.test/,5,,FETCH,20,2s,\n\
               three,a.test,0s,1y,,200,<1s,\n\
               good,https://b.test/,,,,,,\n\
               ragged,https://c.test/\n\
               \"multi\nline\",https://d.test/,,,,,,\n\
               last,https://e.test/,,,,,,\n";
    let loader = MemoryLoader::new().with("sites.csv", csv);
    let text = r#"http "sites" { checks-from "sites.csv" }"#;
    insta::assert_snapshot!(told(text, &loader), @r##"
    monmon::bad_csv: `sites.csv`, line 3: the check has no name
    monmon::bad_csv: `sites.csv`, line 4: `ftp` URLs cannot be checked; it can begin with https://, http://, tcp://, tls://, dns://, ws://, wss://, ping://
    monmon::bad_csv: `sites.csv`, line 4: interval: the number `5` has no unit; write it as "5s"
    monmon::bad_csv: `sites.csv`, line 4: `FETCH` is none of the methods GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE
    monmon::bad_csv: `sites.csv`, line 4: the status `20` lies outside of 100-999
    monmon::bad_csv: `sites.csv`, line 4: time: `2s` is not an upper bound
    monmon::bad_csv: `sites.csv`, line 5: the url is none: it has no scheme; write it as "https://a.test"
    monmon::bad_csv: `sites.csv`, line 5: the interval `0s` lies outside of 100ms to 1d
    monmon::bad_csv: `sites.csv`, line 5: the timeout `1y` lies outside of 10ms to 10m
    monmon::duplicate_name: two checks are named `good` (line 6)
    monmon::bad_csv: `sites.csv`, line 7: 2 cells where the first row has 8
    monmon::bad_csv: `sites.csv`, line 8: the name holds a character that cannot be seen: `multi\nline`
    "##);
    let (spec, _) = decoded(text, &loader);
    insta::assert_json_snapshot!(spec.describe(), @r##"
    {
      "body-max": "8MiB",
      "checks": [
        {
          "id": "e8cdc58e-27eb-57ae-ace1-a709ae952398",
          "interval": "30s",
          "labels": {
            "team": "web"
          },
          "method": "HEAD",
          "name": "good",
          "status": "200-299,304",
          "time": "<2s",
          "timeout": "5s",
          "url": "https://a.test/"
        },
        {
          "id": "962dc40d-7324-5b92-8bba-ae0e567d342f",
          "interval": "1m",
          "method": "GET",
          "name": "last",
          "status": "200-299",
          "timeout": "10s",
          "url": "https://e.test/"
        }
      ],
      "concurrency": 2000,
      "pages-max": "64MiB",
      "wire-max": "2MiB"
    }
    "##);
}

#[test]
fn a_list_needs_its_columns() {
    let loader = MemoryLoader::new().with("sites.csv", "nmae,url,url\n");
    insta::assert_snapshot!(told(r#"http "sites" { checks-from "sites.csv" }"#, &loader), @r##"
    monmon::bad_csv: `sites.csv`, line 1: `nmae` is no column of a list of checks
    monmon::bad_csv: `sites.csv`, line 1: the column `url` is there twice
    monmon::bad_csv: `sites.csv`, line 1: the column `name` is missing
    "##);
}

/// The mend of each URL that is none, as the file's own line is told.
#[test]
fn urls_in_a_list_are_mended() {
    let csv = "name,url\n1,htp:/x\n2,http//x\n3,example.com\n4,localhost:8080/x\n5,//x\n6,http://x/a b\n\
               7,ftp://x\n8,http:x\n9,//user:secret@x\n10,http://\n11, http://fine \n";
    let loader = MemoryLoader::new().with("sites.csv", csv);
    insta::assert_snapshot!(told(r#"http "sites" { checks-from "sites.csv" }"#, &loader), @r##"
    monmon::bad_csv: `sites.csv`, line 2: the url is none: it has no scheme; write it as "http://x"
    monmon::bad_csv: `sites.csv`, line 3: the url is none: it has no scheme; write it as "http://x"
    monmon::bad_csv: `sites.csv`, line 4: the url is none: it has no scheme; write it as "https://example.com"
    monmon::bad_csv: `sites.csv`, line 5: the url is none: it has no scheme; write it as "http://localhost:8080/x"
    monmon::bad_csv: `sites.csv`, line 6: the url is none: it has no scheme; write it as "https://x"
    monmon::bad_csv: `sites.csv`, line 7: the url holds a space or a control character; write it as "http://x/a%20b"
    monmon::bad_csv: `sites.csv`, line 8: `ftp` URLs cannot be checked; it can begin with https://, http://, tcp://, tls://, dns://, ws://, wss://, ping://
    monmon::bad_csv: `sites.csv`, line 9: the url is none: it has no scheme; write it as "http://x"
    monmon::bad_csv: `sites.csv`, line 10: the url is none: it has no scheme
    monmon::bad_csv: `sites.csv`, line 11: the url is none: empty host
    "##);
}

#[test]
fn labels_have_bounds() {
    let label = |name: &str, value: &str| {
        told(
            &format!(r#"http "sites" {{ check "a" "https://a.test/" {{ label "{name}"="{value}" }} }}"#),
            &MemoryLoader::new(),
        )
    };
    assert_eq!(label(&"ü".repeat(64), &"ü".repeat(200)), "");
    insta::assert_snapshot!(
        [label(&"ü".repeat(65), "x"), label("", "x"), label("a\u{200b}b", "x"), label("team", &"x".repeat(201))].join("\n"),
        @r##"
    monmon::bad_name: a label's name is longer than 64 characters
    monmon::bad_name: a label's name is empty
    monmon::bad_name: the label's name `a\u{200b}b` holds a character that cannot be seen
    monmon::bad_name: the team is longer than 200 characters
    "##
    );
    let many: String = (0..66).map(|n| format!(" k{n}=\"v\"")).collect();
    let text = format!(r#"http "sites" {{ check "a" "https://a.test/" {{ label{many} }} }}"#);
    insta::assert_snapshot!(told(&text, &MemoryLoader::new()), @r##"
    monmon::too_many: the check has more than 64 labels
    "##);
    let long = "x".repeat(201);
    let csv = format!("name,url,label.team\na,https://a.test/,{long}\nb,https://a.test/,\u{200b}\n");
    let loader = MemoryLoader::new().with("sites.csv", csv);
    insta::assert_snapshot!(told(r#"http "sites" { checks-from "sites.csv" }"#, &loader), @r##"
    monmon::bad_csv: `sites.csv`, line 2: the label `team` is longer than 200 characters
    monmon::bad_csv: `sites.csv`, line 3: the label `team` holds a character that cannot be seen: `\u{200b}`
    "##);
    let titles: String = (0..65).map(|n| format!(",label.k{n}")).collect();
    let csv = format!("name,url,label.{},label.k0{titles}\n", "x".repeat(65));
    let loader = MemoryLoader::new().with("sites.csv", csv);
    insta::assert_snapshot!(told(r#"http "sites" { checks-from "sites.csv" }"#, &loader), @r##"
    monmon::bad_csv: `sites.csv`, line 1: a label's name is longer than 64 characters
    monmon::bad_csv: `sites.csv`, line 1: the column `label.k0` is there twice
    monmon::bad_csv: `sites.csv`, line 1: a check can have 64 labels at most
    "##);
}

#[test]
fn a_list_may_be_long_and_has_its_bounds() {
    let told_of = |csv: String| {
        let loader = MemoryLoader::new().with("sites.csv", csv);
        told(r#"http "sites" { checks-from "sites.csv" }"#, &loader)
    };
    let list = |rows: usize| -> String {
        let row = |n| format!("check {n},https://a-site-with-a-long-name.example.org/page/{n}\n");
        std::iter::once("name,url\n".to_owned()).chain((0..rows).map(row)).collect()
    };
    let long = list(20_000);
    assert!(long.len() > 1 << 20);
    let loader = MemoryLoader::new().with("sites.csv", long.clone());
    let (spec, _) = decoded(r#"http "sites" { checks-from "sites.csv" }"#, &loader);
    let described = spec.describe();
    assert_eq!(described["checks"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(described["checks-more"], 19_000);
    assert_eq!(told_of(long), "");
    insta::assert_snapshot!(told_of(list(100_001)), @"monmon::too_many: the source has more than 100000 checks");
    let useless = format!("name,url\n{}", ",\n".repeat(1_000_000));
    insta::assert_snapshot!(told_of(useless), @"monmon::too_many: `sites.csv` has more than 1000000 lines");
    let large = " ".repeat((64 << 20) + 1);
    insta::assert_snapshot!(told_of(large), @"monmon::too_large: `sites.csv` is larger than 64MiB");
}

#[test]
fn a_source_without_checks_is_a_mistake() {
    insta::assert_snapshot!(told(r#"http "sites""#, &MemoryLoader::new()), @"monmon::missing_node: the source has nothing to check");
}

/// Contiguous numbers, and for each check every slot once from the first to the last.
fn assert_complete(measurements: &[Measurement], interval_us: i64) {
    let numbers: Vec<u64> = measurements.iter().map(|one| one.seq).collect();
    assert_eq!(numbers, (1..=measurements.len() as u64).collect::<Vec<_>>());
    let mut slots: Vec<(Uuid, i64)> =
        measurements.iter().map(|one| (one.check.id, one.scheduled_at.as_microsecond())).collect();
    slots.sort_unstable();
    for pair in slots.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert_eq!(pair[1].1 - pair[0].1, interval_us);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn once_checks_each_check_once_and_ends() {
    let port = free_port();
    let text = format!(
        r#"http "sites" demo-site="127.0.0.1:{port}" {{
            check "home" "http://127.0.0.1:{port}/"
            check "slow" "http://127.0.0.1:{port}/slow" {{ expect time="<100ms" }}
            check "moved" "http://127.0.0.1:{port}/moved"
            check "missing" "http://127.0.0.1:{port}/none"
        }}"#
    );
    let (mut measurements, counts) = started(&text, Mode::Once, Duration::from_secs(30), 8).await.end().await;
    measurements.sort_by(|a, b| a.check.name.cmp(&b.check.name));
    let outcomes: Vec<_> = measurements
        .iter()
        .map(|one| {
            (one.check.name.as_str(), one.outcome, one.status, one.reason.as_ref().and_then(|why| why.name()))
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            ("home", Outcome::Up, Some(200), None),
            ("missing", Outcome::Down, Some(404), Some("status")),
            ("moved", Outcome::Up, Some(200), None),
            ("slow", Outcome::Down, Some(200), Some("time")),
        ]
    );
    assert_eq!((counts.received, counts.delivered, counts.failed), (4, 4, 0));
}

#[tokio::test]
async fn every_slot_is_measured_and_the_site_was_really_asked() {
    let site = Site::start().unwrap();
    site.set("/", Answer::html("home", 10_000));
    let text = format!(
        r#"http "sites" interval="100ms" {{ check "a" "{0}"; check "b" "{0}"; check "c" "{0}" }}"#,
        site.url("/")
    );
    let mut running = started(&text, Mode::Continuous, Duration::from_secs(30), 8).await;
    let mut all = running.take(60).await;
    running.stop.cancel();
    let (rest, counts) = running.end().await;
    all.extend(rest);
    assert_complete(&all, 100_000);
    // On a busy machine slots may be slept through; then they say so, and the site was not asked.
    let asked = all.iter().filter(|one| one.started_at.is_some()).count() as u64;
    assert_eq!(site.count(), asked);
    assert!(asked > 0);
    assert!(all.iter().all(|one| one.outcome == Outcome::Up || one.failed_with(FailureKind::Overslept)));
    assert_eq!((counts.received, counts.delivered), (all.len() as u64, all.len() as u64));
}

#[tokio::test]
async fn what_is_under_way_at_the_stop_is_told() {
    let site = HostileSite::with(&[Behaviour::HeadSilence]).unwrap();
    let url = site.url(Behaviour::HeadSilence).unwrap();
    let text = format!(r#"http "sites" interval="100ms" timeout="1m" {{ check "silent" "{url}" }}"#);
    let running = started(&text, Mode::Continuous, Duration::from_millis(400), 8).await;
    while site.connections(Behaviour::HeadSilence) < 5 {
        tokio::task::yield_now().await;
    }
    running.stop.cancel();
    let (all, counts) = running.end().await;
    assert_complete(&all, 100_000);
    assert!(all.len() >= 5);
    assert!(all.iter().all(|one| one.outcome == Outcome::Unknown), "{all:?}");
    assert!(all.iter().any(|one| one.failed_with(FailureKind::Shutdown)));
    assert_eq!(counts.received, all.len() as u64);
}

#[tokio::test]
async fn beyond_the_concurrency_slots_are_overload_and_none_is_lost() {
    let site = HostileSite::with(&[Behaviour::HeadSilence]).unwrap();
    let url = site.url(Behaviour::HeadSilence).unwrap();
    let text =
        format!(r#"http "sites" interval="100ms" timeout="1m" concurrency=2 {{ check "silent" "{url}" }}"#);
    let mut running = started(&text, Mode::Continuous, Duration::from_millis(400), 8).await;
    // With two under way for a minute, what comes meanwhile can only be overload.
    let mut all = running.take(4).await;
    assert!(
        all.iter()
            .all(|one| one.failed_with(FailureKind::Overload) || one.failed_with(FailureKind::Overslept))
    );
    running.stop.cancel();
    all.extend(running.end().await.0);
    assert_complete(&all, 100_000);
    assert_eq!(all.iter().filter(|one| one.failed_with(FailureKind::Shutdown)).count(), 2);
    assert_eq!(site.connections(Behaviour::HeadSilence), 2);
}

/// A wall clock that can be set.
struct Settable(AtomicI64);

impl Clock for Settable {
    fn now(&self) -> Timestamp {
        SystemClock.now() + SignedDuration::from_secs(self.0.load(Ordering::Acquire))
    }
}

#[tokio::test]
async fn a_long_pause_is_told_slot_by_slot_and_slots_go_on_meanwhile() {
    let site = Site::start().unwrap();
    site.set("/", Answer::html("home", 100));
    let text = format!(
        r#"http "sites" interval="100ms" {{ check "a" "{0}"; check "b" "{0}"; check "c" "{0}" }}"#,
        site.url("/")
    );
    let clock = Arc::new(Settable(AtomicI64::new(0)));
    let running = started_at(&text, Mode::Continuous, Duration::from_secs(30), 1, clock.clone());
    let mut running = running.await;
    let mut all = running.take(3).await;
    // Ten minutes of three checks are 18,000 slots: more than the hand-over holds, and nobody takes them at first.
    clock.0.store(600, Ordering::Release);
    let is_after = |one: &Measurement| one.scheduled_at > clock.now() - SignedDuration::from_secs(60);
    while !all.iter().any(|one| is_after(one) && one.outcome == Outcome::Up) || all.len() < 18_000 {
        all.extend(running.take(1).await);
    }
    running.stop.cancel();
    let (rest, counts) = running.end().await;
    all.extend(rest);
    assert_complete(&all, 100_000);
    let slept = all.iter().filter(|one| one.failed_with(FailureKind::Overslept)).count();
    assert!(slept > 17_000, "{slept}");
    assert!(all.iter().all(|one| !one.failed_with(FailureKind::Overload)), "the owed rows left no room");
    assert_eq!((counts.received, counts.delivered), (all.len() as u64, all.len() as u64));
    // Live slots were not kept waiting until all was told.
    let first_live = all.iter().position(|one| is_after(one) && one.outcome == Outcome::Up);
    let last_told = all.iter().rposition(|one| one.failed_with(FailureKind::Overslept) && !is_after(one));
    assert!(first_live < last_told, "{first_live:?} {last_told:?}");
}

/// How many slots a measurement stands for, as its reason says.
fn stands_for(one: &Measurement) -> i64 {
    let message = one.reason.as_ref().map_or("", |reason| reason.message());
    let Some((_, rest)) = message.split_once("stands for ") else { return 1 };
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_pause_too_long_for_the_grace_is_told_in_few_rows_and_none_is_silent() {
    let text = format!(
        r#"http "sites" interval="100ms" {{ check "a" "{0}"; check "b" "{0}" }}"#,
        format_args!("http://127.0.0.1:{}/", free_port())
    );
    let clock = Arc::new(Settable(AtomicI64::new(0)));
    let mut running = started_at(&text, Mode::Continuous, Duration::from_secs(2), 1, clock.clone()).await;
    let mut all = running.take(2).await;
    let days = 10;
    clock.0.store(days * 86_400, Ordering::Release);
    while !all.iter().any(|one| one.failed_with(FailureKind::Overslept)) {
        all.extend(running.take(1).await);
    }
    running.stop.cancel();
    let (rest, counts) = running.end().await;
    all.extend(rest);
    assert_eq!((counts.delivered, counts.failed), (all.len() as u64, 0));
    let mut slots: Vec<(Uuid, i64, i64)> =
        all.iter().map(|one| (one.check.id, one.scheduled_at.as_microsecond(), stands_for(one))).collect();
    slots.sort_unstable();
    for pair in slots.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert_eq!(pair[1].1 - pair[0].1, 100_000 * pair[0].2, "{pair:?}");
    }
    let stood_for: i64 = slots.iter().map(|(_, _, slots)| slots).sum();
    assert!(stood_for >= 2 * days * 864_000, "{stood_for}");
}

#[tokio::test]
async fn stages_that_are_gone_end_the_source() {
    let site = Site::start().unwrap();
    site.set("/", Answer::html("home", 100));
    let text = format!(r#"http "sites" interval="100ms" {{ check "a" "{}" }}"#, site.url("/"));
    let running = started(&text, Mode::Continuous, Duration::from_secs(1), 1).await;
    drop(running.inlet);
    // The engine stops every source when a stage fails; until then the source may go on or end.
    running.stop.cancel();
    running.task.await.unwrap().unwrap();
    let counts = running.counters.counts();
    assert_eq!(counts.delivered, 0);
    assert_eq!(counts.failed, counts.received);
}

/// What nobody was there to measure is told by the next run: every slot once, whoever tells it.
#[tokio::test]
async fn a_restart_leaves_no_slot_unaccounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start().unwrap();
    site.set("/", Answer::html("home", 100));
    let text = |checks: &str| format!("http \"sites\" interval=\"100ms\" {{ {checks} }}");
    let check = |name: &str| format!("check \"{name}\" \"{}\"\n", site.url("/"));
    let run = |text: String, ahead: i64| {
        let clock = Arc::new(Settable(AtomicI64::new(ahead)));
        let folder = folder.path().to_owned();
        async move {
            let mut running =
                started_in(&text, Mode::Continuous, Duration::from_secs(20), 64, clock, Some(folder)).await;
            let mut all = running.take(8).await;
            running.stop.cancel();
            all.extend(running.end().await.0);
            all
        }
    };
    let first = run(text(&[check("a"), check("b")].concat()), 0).await;
    // An hour later: `b` is gone, `c` is new.
    let second = run(text(&[check("a"), check("c")].concat()), 3600).await;
    let told: Vec<&Measurement> =
        second.iter().filter(|one| one.failed_with(FailureKind::NotRunning)).collect();
    let [gap] = told.as_slice() else { panic!("one row for the one check that both runs have: {told:?}") };
    assert_eq!((gap.check.name.as_str(), gap.outcome), ("a", Outcome::Unknown));
    let message = &gap.error.as_ref().unwrap().message;
    let number: i64 =
        message.split("stands for ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    // From the last slot of the first run to the first of the second, none is left out.
    let slots = |all: &[Measurement]| -> Vec<i64> {
        let of = all.iter().filter(|one| one.check.name == "a" && !one.failed_with(FailureKind::NotRunning));
        let mut slots: Vec<i64> = of.map(|one| one.scheduled_at.as_microsecond()).collect();
        slots.sort_unstable();
        slots
    };
    let (before, after) = (slots(&first), slots(&second));
    let (last, next) = (before.last().unwrap(), after.first().unwrap());
    assert_eq!(gap.scheduled_at.as_microsecond(), last + 100_000);
    assert_eq!(number, (next - last) / 100_000 - 1);
}

#[test]
fn rows_have_headers_and_patterns_of_their_own() {
    let list = "name,url,header.x-key,match.title,match.price\n\
                a,https://a.test/,k1,<title>A,\nb,https://b.test/,,<title>B,[0-9]+ EUR\n";
    let loader = MemoryLoader::new().with("./sites.csv", list);
    let (spec, problems) = decoded(r#"http "sites" { checks-from "sites.csv" }"#, &loader);
    assert!(problems.is_empty(), "{:?}", problems.iter().collect::<Vec<_>>());
    let patterns: Vec<String> =
        spec.inline_matches().iter().map(|one| one.spec.describe()["pattern"].to_string()).collect();
    assert_eq!(patterns, ["\"<title>A\"", "\"<title>B\"", "\"[0-9]+ EUR\""]);
    let described = spec.describe();
    assert_eq!(
        (&described["checks"][0]["headers"]["x-key"], &described["checks"][1]["headers"]),
        (&"k1".into(), &serde_json::Value::Null)
    );
    for (header, told_of) in [
        ("name,url,header.connection", "is set by monmon"),
        ("name,url,header.x y", "cannot be a header's name"),
        ("name,url,header.a,header.A", "twice"),
        ("name,url,match.a,match.a", "twice"),
    ] {
        let loader = MemoryLoader::new().with("./sites.csv", format!("{header}\n"));
        let text = told(r#"http "sites" { checks-from "sites.csv" }"#, &loader);
        assert!(text.contains(told_of), "{header}: {text}");
    }
}
