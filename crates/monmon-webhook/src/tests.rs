//! The sink as a whole: items in, requests out, over loopback.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use monmon_model::{Event, Incident};
use monmon_stage::{DecodeContext, Emitter, Envelope, OpenStage, StageContext, inlet};
use monmon_syntax::{MemoryLoader, Problem, Problems, load, read};
use monmon_testkit::stages::{AckBook, measurement, stage_context};
use monmon_testkit::{Posted, Receiver, Reply, Site, Tls};
use serde_json::json;

use crate::format::tests::incident;
use crate::{SINK, signature};

/// Reads one `webhook` node; what is wrong as `code: message @ text at its place`.
fn decoded(text: &str) -> (Box<dyn monmon_stage::StageSpec>, String) {
    let loader = MemoryLoader::new().with("p.kdl", text);
    let mut problems = Problems::new();
    let loaded = load(Path::new("p.kdl"), &loader, &mut problems);
    let top = loaded.nodes.first().expect("one node");
    let node = read(&top.node, top.file, SINK.spec, &mut problems);
    let context = DecodeContext {
        pipeline: "consumer",
        stage: "alerts",
        sources: &loaded.sources,
        folder: Path::new("."),
        loader: &loader,
    };
    let spec = (SINK.decode)(&node, &context, &mut problems);
    let told = |problem: &Problem| {
        let place = problem.span.and_then(|span| loaded.sources.text(span)).unwrap_or_default();
        format!("{}: {} @ {place}\n", problem.code.as_str(), problem.message)
    };
    (spec, problems.iter().map(told).collect())
}

/// A run with these items; gives the context for its counts, and the acks.
async fn run(text: &str, events: Vec<Incident>, context: &StageContext) -> Arc<AckBook> {
    let (spec, problems) = decoded(text);
    assert_eq!(problems, "");
    let OpenStage::Sink(sink) = spec.open(context.clone()).await.expect("it opens") else { panic!("a sink") };
    let book = AckBook::new();
    let (outlet, input) = inlet(100, false);
    let emitter = Emitter::new(vec![outlet]);
    let mut batch = vec![Envelope::measurement(measurement("shop", 1), None, book.ack(0))];
    for (token, incident) in (1..).zip(events) {
        batch.push(Envelope::event(Event::Incident(incident), None, book.ack(token)));
    }
    emitter.emit(batch).await.expect("there is room");
    drop(emitter);
    sink.run(input).await.expect("it comes to its end");
    book
}

fn closed() -> Incident {
    let mut closed = incident();
    closed.revision = 2;
    closed.closed_at = "2026-11-23T12:10:30Z".parse().ok();
    closed
}

fn keys(posted: &[Posted]) -> Vec<(u16, String)> {
    let key = |one: &Posted| (one.status, one.header("idempotency-key").unwrap_or_default().to_owned());
    posted.iter().map(key).collect()
}

#[tokio::test]
async fn what_is_sent_is_signed_and_in_order_and_what_is_suppressed_is_not_sent() {
    let receiver = Receiver::start().unwrap();
    let text = format!(
        r#"webhook "alerts" from="x" {{ url "{}"; secret "s3cret"; header "authorization" "Bearer t" }}"#,
        receiver.url("/hook?key=1")
    );
    let mut quiet = incident();
    quiet.suppressed_by = Some(quiet.check.id);
    let book = run(&text, vec![incident(), quiet, closed()], &stage_context("alerts")).await;
    assert_eq!(book.delivered(), [0, 1, 2, 3]);
    let posted = receiver.posted();
    let id = incident().id;
    assert_eq!(keys(&posted), [(200, format!("{id}-open")), (200, format!("{id}-closed"))]);
    for one in &posted {
        let header = one.header("monmon-signature").expect("signed");
        let time = header.split(['=', ',']).nth(1).and_then(|time| time.parse().ok()).expect("a time");
        assert_eq!(header, signature(b"s3cret", time, &one.body));
        assert_eq!(one.header("content-type"), Some("application/json"));
        assert_eq!(one.header("authorization"), Some("Bearer t"));
        assert_eq!(one.path, "/hook?key=1");
    }
    assert_eq!(posted[1].json()["state"], json!("closed"));
    assert_eq!(posted[1].header("monmon-event"), Some("incident.closed"));
}

#[tokio::test]
async fn what_is_not_taken_is_sent_again_in_its_turn() {
    let receiver = Receiver::start().unwrap();
    receiver.reply([
        Reply::status(503),
        Reply::hang_up(),
        Reply::status(429).header("retry-after", "1"),
        Reply::status(202),
    ]);
    let text = format!(r#"webhook "alerts" from="x" url="{}""#, receiver.url("/"));
    let context = stage_context("alerts");
    // A run that is ending waits for no long: the test need not either.
    context.stop.cancel();
    let book = run(&text, vec![incident(), closed()], &context).await;
    assert_eq!(book.delivered(), [0, 1, 2]);
    let id = incident().id;
    let open = format!("{id}-open");
    let told = keys(&receiver.posted());
    assert_eq!(told.iter().filter(|(_, key)| *key == open).count(), 4, "{told:?}");
    assert_eq!(told.last(), Some(&(200, format!("{id}-closed"))));
    assert_eq!(context.counters.counts().retries, 3);
}

#[tokio::test]
async fn what_is_at_fault_itself_is_given_up_and_counted() {
    for status in [400, 413, 422] {
        let receiver = Receiver::start().unwrap();
        receiver.reply([Reply::status(status), Reply::status(200)]);
        let text = format!(r#"webhook "alerts" from="x" url="{}""#, receiver.url("/"));
        let context = stage_context("alerts");
        let book = run(&text, vec![incident(), closed()], &context).await;
        assert_eq!(book.delivered(), [0, 1, 2]);
        let id = incident().id;
        let told = [(status, format!("{id}-open")), (200, format!("{id}-closed"))];
        assert_eq!(keys(&receiver.posted()), told);
        let counts = context.counters.counts();
        assert_eq!((counts.rejected, counts.failed, counts.retries), (1, 1, 0));
    }
}

#[tokio::test]
async fn what_somebody_can_mend_is_waited_for_and_sent_nowhere_else() {
    let other = Receiver::start().unwrap();
    let away = other.url("/secret");
    for status in [301, 307, 401, 402, 403, 404, 405, 407, 409, 410, 415] {
        let receiver = Receiver::start().unwrap();
        receiver.reply([Reply::status(status).header("location", &away), Reply::status(200)]);
        let text = format!(r#"webhook "alerts" from="x" url="{}""#, receiver.url("/"));
        let context = stage_context("alerts");
        // A run that is ending waits for no long: the test need not either.
        context.stop.cancel();
        let book = run(&text, vec![incident()], &context).await;
        assert_eq!(book.delivered(), [0, 1]);
        let key = format!("{}-open", incident().id);
        assert_eq!(keys(&receiver.posted()), [(status, key.clone()), (200, key)]);
        let counts = context.counters.counts();
        assert_eq!((counts.rejected, counts.retries), (0, 1), "{status}");
    }
    assert_eq!(other.posted().len(), 0);
}

/// What a server cannot digest waits for its next try beside all others, which are sent.
#[tokio::test]
async fn a_check_that_is_not_taken_holds_up_no_other() {
    let receiver = Receiver::start().unwrap();
    receiver.reply([
        Reply::status(500),
        Reply::status(500),
        Reply::status(500).header("retry-after", "3600"),
    ]);
    let text = format!(r#"webhook "alerts" from="x" url="{}" max-in-flight=1"#, receiver.url("/"));
    let context = stage_context("alerts");
    let of_check = |number: u128| {
        let mut incident = incident();
        incident.id = uuid::Uuid::from_u128(number);
        let mut check = (*incident.check).clone();
        check.id = uuid::Uuid::from_u128(number);
        incident.check = Arc::new(check);
        incident
    };
    let events: Vec<Incident> = (1..=5).map(of_check).collect();
    let two_are_taken = async {
        while receiver.posted().iter().filter(|posted| posted.status == 200).count() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = run(&text, events, &context) => panic!("one is to be sent again in an hour"),
        taken = tokio::time::timeout(Duration::from_secs(60), two_are_taken) => taken.expect("the others are sent"),
    }
}

/// Docs say that a token that expired loses nothing: it is mended in its file, and nothing is started anew.
#[tokio::test]
async fn a_token_that_is_mended_in_its_file_is_used() {
    let receiver = Receiver::start().unwrap();
    receiver.reply((0..4).map(|_| Reply::status(401)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old").unwrap();
    let text = format!(
        r#"webhook "alerts" from="x" {{ url "{}"; header "authorization" (file)"{}" }}"#,
        receiver.url("/"),
        file.display()
    );
    let context = stage_context("alerts");
    // A run that is ending waits for no long: the test need not either.
    context.stop.cancel();
    let is_refused = async {
        while receiver.posted().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let events = vec![incident()];
    let mended = async {
        is_refused.await;
        std::fs::write(&file, "new").unwrap();
    };
    let (book, ()) = tokio::join!(run(&text, events, &context), mended);
    assert_eq!(book.delivered(), [0, 1]);
    let last = receiver.posted().pop().expect("it was sent");
    assert_eq!((last.status, last.header("authorization")), (200, Some("new")));
}

/// PagerDuty has one status for a key that is wrong and for an event that is.
#[tokio::test]
async fn a_routing_key_that_is_mended_in_its_file_is_used() {
    let receiver = Receiver::start().unwrap();
    receiver.reply((0..4).map(|_| Reply::status(400).body("{\"errors\":[\"Invalid routing key\"]}")));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "old-key").unwrap();
    let text = format!(
        r#"webhook "alerts" from="x" {{ url "{}"; format "pagerduty"; routing-key (file)"{}" }}"#,
        receiver.url("/"),
        file.display()
    );
    let context = stage_context("alerts");
    context.stop.cancel();
    let mended = async {
        while receiver.posted().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::fs::write(&file, "new-key").unwrap();
    };
    let (book, ()) = tokio::join!(run(&text, vec![incident()], &context), mended);
    assert_eq!(book.delivered(), [0, 1]);
    let last = receiver.posted().pop().expect("it was sent");
    assert_eq!((last.status, &last.json()["routing_key"]), (200, &json!("new-key")));
}

#[tokio::test]
async fn who_asks_for_no_wait_at_all_is_not_asked_without_end() {
    let receiver = Receiver::start().unwrap();
    receiver.reply((0..1000).map(|_| Reply::status(503).header("retry-after", "0")));
    let text = format!(r#"webhook "alerts" from="x" url="{}""#, receiver.url("/"));
    let context = stage_context("alerts");
    let running = run(&text, vec![incident()], &context);
    assert!(tokio::time::timeout(Duration::from_millis(600), running).await.is_err());
    let tries = receiver.posted().len();
    assert!((1..=6).contains(&tries), "{tries}");
}

#[tokio::test]
async fn a_token_that_expired_is_what_health_is_about_and_nothing_is_delivered() {
    let receiver = Receiver::start().unwrap();
    receiver.reply((0..50).map(|_| Reply::status(401)));
    let text = format!(r#"webhook "alerts" from="x" url="{}""#, receiver.url("/"));
    let context = stage_context("alerts");
    let events = vec![incident()];
    let broken_off = tokio::time::timeout(Duration::from_millis(500), run(&text, events, &context)).await;
    assert!(broken_off.is_err());
    let waits = context.counters.state().waiting();
    assert_eq!(waits, [("webhook_refusing", "the webhook takes nothing now")]);
    // The measurement alone, which is not sent.
    assert_eq!(context.counters.counts().delivered, 1);
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_a_run_that_is_broken_off_says_so() {
    let receiver = Receiver::start().unwrap();
    let url = receiver.url("/");
    drop(receiver);
    let text = format!(r#"webhook "alerts" from="x" url="{url}" timeout="1s""#);
    let context = stage_context("alerts");
    let (spec, _) = decoded(&text);
    let OpenStage::Sink(sink) = spec.open(context.clone()).await.expect("it opens") else { panic!("a sink") };
    let book = AckBook::new();
    let (outlet, input) = inlet(100, false);
    let emitter = Emitter::new(vec![outlet]);
    emitter.emit(vec![Envelope::event(Event::Incident(incident()), None, book.ack(1))]).await.unwrap();
    let broken_off = tokio::time::timeout(Duration::from_millis(300), sink.run(input)).await;
    assert!(broken_off.is_err());
    // What is aborted lets go of its acks.
    book.resolved(1).await;
    assert_eq!(book.failed(), [1]);
    assert!(context.counters.counts().retries >= 1);
}

#[tokio::test]
async fn whom_to_trust_is_said_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls::new("an authority").unwrap();
    let files = tls.write(folder.path(), "monmon").unwrap();
    let site = Site::start_tls(&tls).unwrap();
    let node =
        |ca: &str| format!(r#"webhook "alerts" from="x" url="{}" {{ tls ca="{ca}"; }}"#, site.url("/"));
    let book = run(&node(&files.ca.display().to_string()), vec![incident()], &stage_context("alerts")).await;
    assert_eq!((book.delivered(), site.hits().len()), (vec![0, 1], 1));

    // Another authority's word counts for nothing, and nothing is sent.
    let other = Tls::new("another").unwrap().write(&folder.path().join("other"), "other").unwrap();
    let context = stage_context("alerts");
    let text = node(&other.ca.display().to_string());
    let broken_off =
        tokio::time::timeout(Duration::from_millis(500), run(&text, vec![incident()], &context)).await;
    assert!(broken_off.is_err());
    assert!(context.counters.counts().retries >= 1);
    assert_eq!(site.hits().len(), 1);
}

#[tokio::test]
async fn measurements_are_sent_where_they_are_asked_for() {
    let receiver = Receiver::start().unwrap();
    let text = format!(r#"webhook "all" from="x" url="{}" measurements=#true"#, receiver.url("/"));
    run(&text, Vec::new(), &stage_context("all")).await;
    let posted = receiver.posted();
    assert_eq!(posted[0].json()["type"], json!("measurement"));
    assert_eq!(posted[0].header("idempotency-key"), Some(measurement("shop", 1).id.to_string().as_str()));
}

#[test]
fn what_can_be_said_shows_no_secret() {
    let text = r#"webhook "alerts" from="x" format="pagerduty" secret="s3cret" timeout="5s" max-in-flight=2 {
        routing-key "k3y"
        header "authorization" "t0ken"
        header "x-env" (env)"TOKEN"
        tls ca="ca.pem"
    }"#;
    let (spec, problems) = decoded(text);
    assert_eq!(problems, "");
    let shown = format!("{:#}", spec.describe());
    insta::assert_snapshot!(shown);
    let (slack, _) =
        decoded(r#"webhook "a" from="x" format="slack" url="https://hooks.slack.com/services/T/B/s3cret""#);
    let all = format!("{shown} {spec:?} {} {slack:?}", slack.describe());
    for secret in ["s3cret", "k3y", "t0ken"] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[test]
fn what_is_wrong_is_told_in_one_go() {
    let texts = [
        r#"webhook "a" from="x""#,
        r#"webhook "a" from="x" url="https://example.org/" format="pagerduty" topic="t""#,
        r#"webhook "a" from="x" url="https://example.org/" format="ntfy" { body "{}"; tls cert="c" }"#,
        r##"webhook "a" from="x" url="https://example.org/" { body #"{"a": "{{check.nmae}} {{incident.reason}}", "b": "{{"}"# }"##,
        r#"webhook "a" from="x" url="https://example.org/" { body "no json"; header "monmon-signature" "x"; header "a b" "x" }"#,
        r#"webhook "a" from="x" url="https://example.org/" measurements=#true { body (env)"BODY" }"#,
    ];
    let told: Vec<String> = texts.iter().map(|text| format!("{text}\n{}", decoded(text).1)).collect();
    insta::assert_snapshot!(told.join("\n"));
}
