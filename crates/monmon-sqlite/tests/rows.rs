//! What stands in the tables after measurements went in.

mod support;

use std::sync::Arc;

use monmon_model::{
    Failure, FailureKind, Measurement, Origin, Outcome, Phase, Rejected, RejectedReason, wire,
};
use monmon_stage::{Ack, Envelope, Feed, Place};
use monmon_testkit::stages::{full_measurement as full, measurement};
use rusqlite::types::Value;
use support::Rig;

/// The columns of a table's only row, as texts.
fn only(rig: &Rig, query: &str) -> Vec<String> {
    let connection = rig.read();
    let mut query = connection.prepare(query).expect("the columns are there");
    let columns = query.column_count();
    let mut rows = query
        .query_map([], |row| {
            (0..columns)
                .map(|at| {
                    Ok(match row.get::<_, Value>(at)? {
                        Value::Null => "null".to_owned(),
                        Value::Integer(number) => number.to_string(),
                        Value::Real(number) => number.to_string(),
                        Value::Text(text) => text,
                        Value::Blob(bytes) => format!("{bytes:?}"),
                    })
                })
                .collect::<rusqlite::Result<Vec<_>>>()
        })
        .expect("the query runs");
    let row = rows.next().expect("a row").expect("it can be read");
    assert!(rows.next().is_none(), "one row only");
    row
}

/// Which messages a transaction stored, and what became of them.
#[tokio::test]
async fn batches_are_on_record() {
    let rig = Rig::new();
    let feed =
        Feed { pipeline: "consumer".into(), source: "events".into(), topic: "measurements".to_owned() };
    let feed = Arc::new(feed);
    let read = |partition: i32, offset: i64, measurement: Measurement| {
        let place = Place { feed: feed.clone(), partition, offset };
        Envelope::read(measurement, place, Ack::ignored())
    };
    let mut large = measurement("docs", 4);
    large.seq = u64::MAX;
    let batch = vec![
        read(0, 7, measurement("docs", 1)),
        read(1, 5, measurement("docs", 2)),
        read(0, 8, measurement("docs", 1)),
        read(0, 11, large),
        Envelope::measurement(measurement("docs", 5), None, Ack::ignored()),
    ];
    rig.store(vec![batch]).await.ended.expect("stored");
    let connection = rig.read();
    let mut query = connection
        .prepare(
            "SELECT pipeline || ' ' || stage || ' ' || source || ' ' || topic || ' ' || partition_id || ' ' ||
                    first_offset || '-' || last_offset || ' ' || coalesce(offsets, 'all') || ' ' || messages || '=' ||
                    stored || '+' || duplicates || '+' || dead_letters || '+' || events
             FROM monmon_batch ORDER BY partition_id",
        )
        .expect("the table");
    let rows: Vec<String> =
        query.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("the records");
    assert_eq!(
        rows,
        [
            "consumer store events measurements 0 7-11 [[7,8],[11,11]] 3=1+1+1+0",
            "consumer store events measurements 1 5-5 all 1=1+0+0+0"
        ]
    );
}

#[tokio::test]
async fn a_measurement_with_everything() {
    let rig = Rig::new();
    let full = full();
    rig.store(vec![vec![rig.envelope(1, full.clone())]]).await.ended.expect("stored");
    assert_eq!(rig.book.entries(), [(1, true)]);

    let row = only(
        &rig,
        "SELECT id, check_id, boot_id, scheduled_at, started_at, seq, attempt, outcome, status, http_version, \
         remote_addr, method, url, body_bytes, body_truncated, dns_us, connect_us, tls_us, wait_us, transfer_us, \
         total_us, reason_kind, reason_name, reason_message, error_kind FROM monmon_measurement",
    );
    let id = full.id.to_string();
    let check = full.check.id.to_string();
    let boot = full.prober.boot.to_string();
    let expected = [
        id.as_str(),
        &check,
        &boot,
        "2026-11-23T12:00:01.000000Z",
        "2026-11-23T12:00:01.000318Z",
        "1",
        "1",
        "down",
        "404",
        "1.1",
        "127.0.0.1:80",
        "null",
        "http://127.0.0.1/moved",
        "10240",
        "1",
        "1",
        "2",
        "3",
        "4",
        "5",
        "15",
        "expectation",
        "status",
        "status 404 is not in 200-299",
        "null",
    ];
    assert_eq!(row, expected);

    let query = "SELECT m.redirects, t.version, t.cipher, t.verified, t.certificate_subject, \
        t.certificate_not_after, f.name, f.stage, f.status, f.found, f.\"values\" \
        FROM monmon_measurement AS m JOIN monmon_tls AS t ON t.id = m.tls_id \
        JOIN monmon_match AS f ON f.measurement_id = m.id";
    let row = only(&rig, query);
    assert!(row[0].starts_with(r#"[{"url":"http://127.0.0.1/docs","status":301"#), "{}", row[0]);
    let expected =
        ["TLSv1.3", "null", "1", "CN=docs", "2026-12-30T00:00:00.000000Z", "title", "titles", "passed", "1"];
    assert_eq!(row[1..10], expected);
    assert_eq!(row[10], "{\"title\":\"Docs \u{2014} \\\"start\\\"\"}");

    let query = "SELECT m.body_wire_bytes, m.details, t.certificate_sha256 = c.sha256, t.chain, k.schedule, \
        d.schedule, c.subject, c.days_left IS NOT NULL FROM monmon_measurement AS m \
        JOIN monmon_tls AS t ON t.id = m.tls_id JOIN monmon_check AS k ON k.id = m.check_id \
        JOIN monmon_check_definition AS d ON d.id = m.definition_id \
        JOIN monmon_certificate AS c ON c.measurement_id = m.id";
    let row = only(&rig, query);
    assert_eq!(row[..3], ["3000", r#"{"maintenance":"patching","notes":["length_and_chunks"]}"#, "1"]);
    assert!(row[3].starts_with(r#"[{"subject":"CN=ca","issuer":"CN=root""#), "{}", row[3]);
    assert_eq!(row[4..], ["*/5 * * * * UTC", "*/5 * * * * UTC", "CN=docs", "1"]);

    let query = "SELECT stage, matcher, metric, value, unit FROM monmon_metric";
    assert_eq!(only(&rig, query), ["titles", "title", "price", "12.5", "EUR"]);

    let query = "SELECT c.name, c.url, d.id = c.definition_id, d.interval_us, p.name, p.first_seen_at, s.outcome \
        FROM monmon_measurement AS m JOIN monmon_check AS c ON c.id = m.check_id \
        JOIN monmon_check_definition AS d ON d.id = m.definition_id JOIN monmon_boot AS b ON b.id = m.boot_id \
        JOIN monmon_prober AS p ON p.id = b.prober_id JOIN monmon_check_state AS s ON s.check_id = c.id";
    let expected =
        ["docs", "http://127.0.0.1/docs", "1", "1000000", "test", "2026-11-23T12:00:01.000000Z", "down"];
    assert_eq!(only(&rig, query), expected);
}

#[tokio::test]
async fn a_failure_is_written_once() {
    let rig = Rig::new();
    let mut down = measurement("docs", 1);
    down.fail(Failure::new(FailureKind::ConnectRefused, Phase::Connect, "refused"));
    rig.store(vec![vec![rig.envelope(1, down)]]).await.ended.expect("stored");
    let query = "SELECT error_kind, error_phase, error_message, reason_kind, reason_message, tls_id, url \
        FROM monmon_measurement";
    let expected = ["connect_refused", "connect", "refused", "failure", "null", "null", "null"];
    assert_eq!(only(&rig, query), expected);
}

#[tokio::test]
async fn duplicates_are_stored_once_and_counted() {
    let rig = Rig::new();
    let stored = [full(), measurement("docs", 2)];
    let first = stored.iter().zip(1..).map(|(one, token)| rig.envelope(token, one.clone())).collect();
    rig.store(vec![first]).await.ended.expect("stored");
    let redelivered = |measurement: &Measurement| {
        let mut bytes = Vec::new();
        wire::encode(measurement, &mut bytes);
        wire::decode(&bytes).expect("a measurement")
    };
    // Again after a new start, and twice in one batch.
    let again = vec![vec![
        rig.envelope(11, redelivered(&stored[0])),
        rig.envelope(12, redelivered(&stored[1])),
        rig.envelope(13, measurement("docs", 3)),
        rig.envelope(14, measurement("docs", 3)),
    ]];
    let second = rig.store(again).await;
    second.ended.expect("stored");
    assert_eq!((second.counts.received, second.counts.delivered, second.counts.duplicates), (4, 4, 3));
    assert_eq!((rig.count("monmon_measurement"), rig.count("monmon_match")), (3, 1));
    assert_eq!(rig.count("monmon_dead_letter"), 0);
    assert_eq!(rig.book.delivered(), [1, 2, 11, 12, 13, 14]);
}

#[tokio::test]
async fn other_content_under_the_same_id_becomes_a_dead_letter_once() {
    let rig = Rig::new();
    let mut other = full();
    other.status = None;
    other.tls = None;
    let mut unmatched = full();
    unmatched.matches.clear();
    for round in 0..2 {
        let feed =
            Feed { pipeline: "consumer".into(), source: "events".into(), topic: "measurements".to_owned() };
        let feed = Arc::new(feed);
        let read = |offset: i64, measurement: &Measurement| {
            let place = Place { feed: feed.clone(), partition: 3, offset };
            Envelope::read(measurement.clone(), place, Ack::ignored())
        };
        let batch = vec![read(40, &full()), read(41, &other), read(42, &unmatched), read(43, &full())];
        let ran = rig.store(vec![batch]).await;
        ran.ended.expect("stored");
        assert_eq!((ran.counts.delivered, ran.counts.rejected, ran.counts.duplicates), (4, 2, 1 + round));
        assert_eq!(rig.count("monmon_dead_letter"), 2);
    }
    assert_eq!((rig.count("monmon_measurement"), rig.count("monmon_match")), (1, 1));
    let query = "SELECT reason, message, pipeline, source, topic, kafka_partition, bytes FROM monmon_dead_letter \
        WHERE kafka_offset = 41";
    let message = format!("id {} is stored already with other content: status, tls_id", full().id);
    let mut bytes = Vec::new();
    wire::encode(&other, &mut bytes);
    let bytes = format!("{bytes:?}");
    let expected = ["duplicate_id", &message, "consumer", "events", "measurements", "3", &bytes];
    assert_eq!(only(&rig, query), expected);
    let query = "SELECT message FROM monmon_dead_letter WHERE kafka_offset = 42";
    assert!(only(&rig, query)[0].ends_with("content: matches"));
}

#[tokio::test]
async fn a_pipeline_that_runs_twice_fills_no_dead_letters() {
    let rig = Rig::new();
    let other = |seq: u64| {
        let mut other = measurement("docs", seq);
        Arc::make_mut(&mut other.prober).boot = uuid::Uuid::from_u128(77);
        other.seq += 40;
        other.outcome = Outcome::Up;
        rig.envelope(100 + seq, other)
    };
    let mut batch = rig.batch("docs", 1..=50);
    batch.extend((1..=50).map(other));
    let ran = rig.store(vec![batch]).await;
    ran.ended.expect("stored");
    assert_eq!((ran.counts.duplicates, ran.counts.rejected, ran.counts.delivered), (50, 0, 100));
    assert_eq!(rig.count("monmon_measurement WHERE outcome = 'up'"), 0);
    assert_eq!(rig.count("monmon_dead_letter"), 0);
}

#[tokio::test]
async fn definitions_are_kept_and_the_newest_is_the_checks() {
    let rig = Rig::new();
    let with_interval = |seq, interval_us| {
        let mut measurement = measurement("docs", seq);
        Arc::make_mut(&mut measurement.check).interval_us = interval_us;
        rig.envelope(seq, measurement)
    };
    let late = with_interval(2, 7);
    rig.store(vec![vec![with_interval(5, 8)], vec![with_interval(9, 9)], vec![late]])
        .await
        .ended
        .expect("stored");
    assert_eq!(only(&rig, "SELECT interval_us, defined_at FROM monmon_check")[0], "9");
    assert_eq!(rig.count("monmon_check_definition"), 3);
    assert_eq!(only(&rig, "SELECT first_seen_at FROM monmon_prober"), ["2026-11-23T12:00:02.000000Z"]);
}

#[tokio::test]
async fn what_was_rejected_is_kept_whole() {
    let rig = Rig::new();
    let origin = Origin {
        pipeline: "consumer".to_owned(),
        source: "events".to_owned(),
        topic: Some("measurements".to_owned()),
        partition: Some(3),
        offset: Some(41),
    };
    let at = "2026-11-23T12:00:00Z".parse().expect("a time");
    let rejected = || {
        let key = Some(vec![0, 255]);
        Rejected::new(RejectedReason::NotJson, "no", origin.clone(), at, key, b"\xff\0{".to_vec())
    };
    let batch = vec![
        Envelope::rejected(rejected(), None, rig.book.ack(1)),
        Envelope::rejected(rejected(), None, rig.book.ack(2)),
        rig.envelope(3, measurement("docs", 1)),
    ];
    let ran = rig.store(vec![batch]).await;
    ran.ended.expect("stored");
    assert_eq!(ran.counts.rejected, 2);
    assert_eq!(rig.book.delivered(), [1, 2, 3]);
    let query = "SELECT reason, message, pipeline, source, topic, kafka_partition, kafka_offset, occurred_at, key, \
        bytes FROM monmon_dead_letter";
    let expected = [
        "not_json",
        "no",
        "consumer",
        "events",
        "measurements",
        "3",
        "41",
        "2026-11-23T12:00:00.000000Z",
        "[0, 255]",
        "[255, 0, 123]",
    ];
    assert_eq!(only(&rig, query), expected);
}

#[tokio::test]
async fn a_row_that_is_refused_goes_to_the_dead_letters_alone() {
    let rig = Rig::new();
    let mut refused = measurement("bad", 2);
    Arc::make_mut(&mut refused.check).interval_us = 0;
    let mut misfit = measurement("huge", 3);
    misfit.seq = u64::MAX;
    // As in PostgreSQL, whose columns of times have 32 bits: what one store takes the other one takes as well.
    let mut endless = measurement("endless", 5);
    endless.timings.total_us = 1 << 31;
    let batch = vec![
        rig.envelope(1, measurement("docs", 1)),
        rig.envelope(2, refused.clone()),
        rig.envelope(3, misfit),
        rig.envelope(4, measurement("docs", 4)),
        rig.envelope(5, endless),
    ];
    let ran = rig.store(vec![batch, rig.batch("docs", [6])]).await;
    ran.ended.expect("stored");
    assert_eq!(rig.book.delivered(), [1, 2, 3, 4, 5, 6]);
    assert_eq!((rig.count("monmon_measurement"), ran.counts.rejected), (3, 3));
    // Nothing of the refused measurement is left but its letter.
    assert_eq!(rig.count("monmon_check WHERE name <> 'docs'"), 0);
    let query = "SELECT reason, source, bytes FROM monmon_dead_letter WHERE message LIKE '%CHECK%'";
    let mut bytes = Vec::new();
    wire::encode(&refused, &mut bytes);
    assert_eq!(only(&rig, query), ["store_refused".to_owned(), "source".to_owned(), format!("{bytes:?}")]);
}
