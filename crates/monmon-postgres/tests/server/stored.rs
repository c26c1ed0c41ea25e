//! What is in the tables after a batch.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{Event, Hop, Origin, Receipt, Rejected, RejectedReason, Timings, wire};
use monmon_stage::Envelope;
use uuid::Uuid;

use crate::support::{
    Running, Store, a_match, check, down, measurement, noon, prober, series, store, tls_facts,
};

fn receipt() -> Event {
    Event::Receipt(Receipt {
        id: Uuid::from_u128(7),
        prober: prober(),
        pipeline: "producer".to_owned(),
        source: "sites".to_owned(),
        at: noon(),
        began_at: noon(),
        slots_from: noon(),
        slots_until: noon(),
        first_seq: 1,
        last_seq: 10,
        ids_xor: Uuid::nil(),
        failed: 0,
        last: false,
    })
}

#[tokio::test]
async fn a_measurement_is_stored_with_all_that_belongs_to_it() {
    let place = Store::migrated().await;
    let check = check("docs", 60_000_000);
    let mut up = measurement(&check, 1, noon());
    up.url = "https://docs.example.org/start".to_owned();
    up.tls = Some(tls_facts());
    up.matches = vec![a_match()];
    up.redirects = vec![Hop {
        url: check.url.clone(),
        status: 301,
        remote_addr: None,
        timings: Timings { total_us: 900, ..Timings::default() },
    }];
    up.body_wire_bytes = Some(3_000);
    up.details_mut().maintenance = Some("patching".to_owned());
    Arc::make_mut(&mut up.check).schedule = Some("*/5 * * * * UTC".to_owned());
    let bad = down(&check, 2, noon() + Duration::from_secs(60));
    store(&place, vec![bad.clone(), up.clone()]).await;
    let row = place
        .client
        .query_one(
            "SELECT m.scheduled_at, m.started_at, m.seq, m.body_bytes, m.total_us, m.dns_us, m.wait_us, m.status,
                    m.outcome, m.http_version, m.remote_addr, m.method, m.url, m.redirects->0->>'status',
                    t.certificate_issuer, b.prober_id, p.name, p.location, d.interval_us, c.labels->>'team',
                    x.name, x.status, x.values->>'title'
             FROM monmon_measurement_full m JOIN monmon_tls t ON t.id = m.tls_id JOIN monmon_boot b ON b.id = m.boot_id
             JOIN monmon_prober p ON p.id = b.prober_id JOIN monmon_check_definition d ON d.id = m.definition_id
             JOIN monmon_check c ON c.id = m.check_id JOIN monmon_match_full x ON x.measurement_id = m.id WHERE m.id = $1",
            &[&up.id],
        )
        .await
        .expect("one row");
    assert_eq!(row.get::<_, Timestamp>(0), up.scheduled_at);
    assert_eq!(row.get::<_, Option<Timestamp>>(1), up.started_at);
    assert_eq!((row.get::<_, i64>(2), row.get::<_, i64>(3)), (1, 10_240));
    assert_eq!(
        (row.get::<_, i32>(4), row.get::<_, Option<i32>>(5), row.get::<_, i32>(6)),
        (41_401, None, 31_000)
    );
    assert_eq!(row.get::<_, i16>(7), 200);
    let texts: Vec<Option<String>> = [8, 9, 10, 11, 12, 13, 14].map(|at| row.get(at)).to_vec();
    let expected =
        ["up", "1.1", "192.0.2.7:443", "", "https://docs.example.org/start", "301", "CN=Example CA"];
    assert_eq!(texts, expected.map(|text| (!text.is_empty()).then(|| text.to_owned())));
    assert_eq!(row.get::<_, Uuid>(15), up.prober.id);
    assert_eq!((row.get::<_, &str>(16), row.get::<_, &str>(17)), ("laptop", "hel"));
    assert_eq!((row.get::<_, i64>(18), row.get::<_, &str>(19)), (60_000_000, "docs"));
    assert_eq!((row.get::<_, &str>(20), row.get::<_, &str>(21)), ("title", "passed"));
    assert_eq!(row.get::<_, &str>(22), "Docs \u{2014} \"start\"");
    let row = place
        .client
        .query_one(
            "SELECT m.body_wire_bytes, m.details->>'maintenance', t.chain->0->>'issuer', d.schedule, c.sha256, c.subject,
                    c.days_left = c.days_left
             FROM monmon_measurement_full m JOIN monmon_tls t ON t.id = m.tls_id
             JOIN monmon_check_definition d ON d.id = m.definition_id
             JOIN monmon_certificate c ON c.measurement_id = m.id WHERE m.id = $1",
            &[&up.id],
        )
        .await
        .expect("one row");
    assert_eq!(row.get::<_, i64>(0), 3_000);
    assert_eq!(
        [1, 2, 3].map(|at| row.get::<_, String>(at)),
        ["patching", "CN=Example Root", "*/5 * * * * UTC"]
    );
    assert_eq!(
        [4, 5].map(|at| row.get::<_, String>(at)),
        ["cd".repeat(32), "CN=docs.example.org".to_owned()]
    );
    assert!(row.get::<_, bool>(6));
    let metric = place
        .client
        .query_one(
            "SELECT prober_id, stage, matcher, metric, value, unit FROM monmon_metric
             WHERE check_id = $1 AND scheduled_at BETWEEN $2 AND $2",
            &[&up.check.id, &up.scheduled_at],
        )
        .await
        .expect("one number");
    assert_eq!(metric.get::<_, Uuid>(0), up.prober.id);
    assert_eq!([1, 2, 3, 5].map(|at| metric.get::<_, String>(at)), ["titles", "title", "price", "EUR"]);
    assert_eq!(metric.get::<_, f64>(4).to_bits(), 12.5_f64.to_bits());
    let row = place
        .client
        .query_one(
            "SELECT outcome, reason_kind, reason_message, error_kind, error_phase, error_message, url
             FROM monmon_measurement WHERE id = $1",
            &[&bad.id],
        )
        .await
        .expect("one row");
    let texts: Vec<Option<&str>> = (0..7).map(|at| row.get(at)).collect();
    let said = Some("192.0.2.7:443 refused");
    assert_eq!(
        texts,
        [Some("down"), Some("failure"), None, Some("connect_refused"), Some("connect"), said, None]
    );
    place.gone().await;
}

#[tokio::test]
async fn definitions_are_kept_over_time_and_an_old_one_does_not_come_back() {
    let place = Store::migrated().await;
    let old = check("docs", 60_000_000);
    let mut new = (*old).clone();
    new.interval_us = 30_000_000;
    let new = Arc::new(new);
    let early = noon() - Duration::from_secs(3_600);
    store(&place, vec![measurement(&new, 2, noon())]).await;
    // Late data of the old definition, by a writer that knows nothing of the new one.
    store(&place, vec![measurement(&old, 1, early)]).await;
    let row = place
        .client
        .query_one("SELECT interval_us, definition_id FROM monmon_check", &[])
        .await
        .expect("one");
    assert_eq!(row.get::<_, i64>(0), 30_000_000);
    assert_eq!(place.count("monmon_check_definition").await, 2);
    assert_eq!(
        place
            .count("monmon_measurement_full m JOIN monmon_check_definition d ON d.id = m.definition_id")
            .await,
        2
    );
    let first: Timestamp =
        place.client.query_one("SELECT first_seen_at FROM monmon_boot", &[]).await.expect("one").get(0);
    assert_eq!(first, early);
    place.gone().await;
}

#[tokio::test]
async fn a_poisoned_row_goes_to_the_dead_letters_alone() {
    let place = Store::migrated().await;
    let docs = check("docs", 1_000_000);
    let mut rows = series(&docs, 999);
    rows[500].url.push('\0');
    let mut found = a_match();
    found.values.insert("title".to_owned(), "\0".to_owned());
    rows[13].matches = vec![found];
    rows[77].timings.total_us = 1 << 40;
    let mut cursed = (*check("cursed", 1_000_000)).clone();
    cursed.labels.insert("team".to_owned(), "\0".to_owned());
    rows.push(measurement(&Arc::new(cursed), 1, noon()));
    let counters = store(&place, rows.clone()).await;
    assert_eq!((counters.counts().rejected, counters.counts().delivered), (4, 1_000));
    assert_eq!(place.count("monmon_measurement").await, 996);
    assert_eq!(place.count("monmon_check").await, 1, "nothing of a refused batch stays");
    let letters = place
        .client
        .query("SELECT reason, pipeline, source, bytes, message FROM monmon_dead_letter ORDER BY id", &[])
        .await
        .expect("letters");
    assert_eq!(letters.len(), 4);
    for letter in letters {
        assert_eq!((letter.get::<_, &str>(0), letter.get::<_, &str>(1)), ("store_refused", "producer"));
        assert!(!letter.get::<_, &[u8]>(3).is_empty());
    }
    let mut bytes = Vec::new();
    wire::encode(&rows[500], &mut bytes);
    assert_eq!(
        place
            .client
            .query("SELECT FROM monmon_dead_letter WHERE bytes = $1", &[&bytes])
            .await
            .expect("letters")
            .len(),
        1,
        "whole, in the wire format"
    );
    // Once more: the same letters have the same ids.
    store(&place, rows).await;
    assert_eq!(place.count("monmon_dead_letter").await, 4);
    place.gone().await;
}

#[tokio::test]
async fn a_poisoned_row_that_comes_with_a_receipt_goes_to_the_dead_letters_alone() {
    let place = Store::migrated().await;
    let mut running = Running::new(&format!("url \"{}\"\nconnections 1", place.url)).await;
    let mut rows = series(&check("docs", 1_000_000), 10);
    rows[3].url.push('\0');
    // Before the first year that the server knows.
    rows[7].started_at = Some("-009000-01-01T00:00:00Z".parse().expect("a time"));
    let mut batch = vec![Envelope::event(receipt(), None, running.ack())];
    batch.extend(rows.into_iter().map(|row| running.envelope(row)));
    running.emit(batch).await;
    let in_time = tokio::time::timeout(Duration::from_secs(60), running.resolved(11));
    in_time.await.expect("the batch is not tried for ever");
    let counts = running.counters.counts();
    assert_eq!((counts.delivered, counts.rejected, counts.retries), (11, 2, 0));
    assert_eq!((place.count("monmon_measurement").await, place.count("monmon_receipt").await), (8, 1));
    assert_eq!(place.count("monmon_dead_letter WHERE reason = 'store_refused'").await, 2);
    let (result, _, _) = running.end().await;
    result.expect("the sink ends well");
    place.gone().await;
}

/// As behind a pooler whose server is replaced by one that lacks the last commits: the connection stays.
#[tokio::test]
async fn what_measurements_refer_to_is_stored_anew_when_it_is_gone() {
    const TABLES: [&str; 7] = [
        "monmon_prober",
        "monmon_boot",
        "monmon_check",
        "monmon_check_definition",
        "monmon_tls",
        "monmon_context",
        "monmon_verdict",
    ];
    let place = Store::migrated().await;
    let mut running = Running::new(&format!("url \"{}\"\nconnections 1", place.url)).await;
    let docs = check("docs", 1_000_000);
    let mut rows = series(&docs, 90);
    for row in &mut rows {
        row.tls = Some(tls_facts());
        row.matches = vec![a_match()];
    }
    let all = TABLES.as_slice();
    let gone = std::iter::once(&all[..0]).chain(TABLES.chunks(1)).chain([all]);
    for (number, (gone, part)) in gone.zip(rows.chunks(10)).enumerate() {
        for table in gone {
            place.client.batch_execute(&format!("DELETE FROM {table}")).await.expect("deleted");
        }
        running.send(part.to_vec()).await;
        running.resolved((number + 1) * 10).await;
        for table in all {
            assert_eq!(place.count(table).await, 1, "{table}, without {gone:?}");
        }
    }
    let read = "monmon_measurement_full m JOIN monmon_check_definition d ON d.id = m.definition_id
                JOIN monmon_tls t ON t.id = m.tls_id JOIN monmon_boot b ON b.id = m.boot_id
                JOIN monmon_prober p ON p.id = b.prober_id JOIN monmon_check c ON c.id = m.check_id
                JOIN monmon_match_full x ON x.measurement_id = m.id
                WHERE m.remote_addr IS NOT NULL AND x.name = 'title'";
    assert_eq!(place.count(read).await, 90);
    // A receipt has its prober only.
    place.client.batch_execute("DELETE FROM monmon_boot").await.expect("deleted");
    let ack = running.ack();
    running.emit(vec![Envelope::event(receipt(), None, ack)]).await;
    running.resolved(91).await;
    assert_eq!((place.count("monmon_receipt").await, place.count("monmon_boot").await), (1, 1));
    let counts = running.counters.counts();
    assert_eq!((counts.delivered, counts.rejected, counts.duplicates, counts.retries), (91, 0, 0, 0));
    let (result, _, _) = running.end().await;
    result.expect("the sink ends well");
    place.gone().await;
}

#[tokio::test]
async fn rejected_messages_are_kept_with_their_origin() {
    let place = Store::migrated().await;
    let mut running = Running::new(&format!("url \"{}\"", place.url)).await;
    let origin = Origin {
        pipeline: "consumer".to_owned(),
        source: "events".to_owned(),
        topic: Some("monmon.measurements".to_owned()),
        partition: Some(3),
        offset: Some(42),
    };
    let bytes = b"\x00\xffnot json".to_vec();
    let at = Timestamp::MIN;
    let message = "a \0 in the words";
    let rejected = Rejected::new(RejectedReason::NotUtf8, message, origin, at, Some(vec![0]), bytes.clone());
    let ack = running.ack();
    running.emit(vec![Envelope::rejected(rejected, None, ack)]).await;
    let (result, delivered, _) = running.end().await;
    result.expect("stored");
    assert_eq!(delivered, 1);
    let row = place
        .client
        .query_one(
            "SELECT reason, topic, kafka_partition, kafka_offset, bytes, key FROM monmon_dead_letter",
            &[],
        )
        .await
        .expect("one letter");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("not_utf8", "monmon.measurements"));
    assert_eq!((row.get::<_, i32>(2), row.get::<_, i64>(3)), (3, 42));
    assert_eq!((row.get::<_, &[u8]>(4), row.get::<_, &[u8]>(5)), (&bytes[..], &[0u8][..]));
    place.gone().await;
}

#[tokio::test]
async fn partitions_are_made_within_the_window_only() {
    let place = Store::migrated().await;
    let check = check("docs", 1_000_000);
    let day = Duration::from_secs(86_400);
    let rows = vec![
        measurement(&check, 1, noon() - 399 * day),
        measurement(&check, 2, noon() - 401 * day),
        measurement(&check, 3, noon() + day),
        measurement(&check, 4, noon() + 3 * day),
        measurement(&check, 5, Timestamp::UNIX_EPOCH),
    ];
    store(&place, rows).await;
    assert_eq!(place.count("monmon_measurement").await, 2);
    assert_eq!(place.count("monmon_dead_letter WHERE reason = 'time_out_of_window'").await, 3);
    assert_eq!(
        place.count("pg_tables WHERE schemaname = current_schema() AND tablename LIKE '%_1970%'").await,
        0
    );
    place.gone().await;
}

#[tokio::test]
async fn a_partition_that_was_dropped_is_made_anew() {
    let place = Store::migrated().await;
    let check = check("docs", 1_000_000);
    let mut running = Running::new(&format!("url \"{}\"\nconnections 1", place.url)).await;
    running.send(series(&check, 10)).await;
    running.resolved(10).await;
    place.client.batch_execute("DROP TABLE monmon_measurement_20261123").await.expect("dropped");
    running.send(series(&check, 10)).await;
    let (result, delivered, _) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, place.count("monmon_measurement").await), (20, 10));
    place.gone().await;
}
