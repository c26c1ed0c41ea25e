//! What was stored is read back as it was.

mod support;

use monmon_model::{
    Event, FailureKind, Measurement, Origin, Phase, Receipt, Rejected, RejectedReason, Selection, receipt_id,
};
use monmon_sqlite::Reader;
use monmon_stage::{Envelope, StoreReader, StoredPage};
use monmon_testkit::stages::{full_measurement, measurement};
use support::Rig;
use uuid::Uuid;

/// Everything that a reader gives, page after page.
async fn read(rig: &Rig, selection: &Selection) -> StoredPage {
    let mut reader = Reader::open(rig.path(), selection).expect("the file can be read");
    let expected = reader.count().await.expect("the rows can be counted");
    let mut all = StoredPage::default();
    loop {
        let page = reader.next().await.expect("the rows can be read");
        if page.is_empty() {
            break;
        }
        all.measurements.extend(page.measurements);
        all.events.extend(page.events);
        all.rejected.extend(page.rejected);
    }
    assert_eq!(all.len() as u64, expected, "as many as were counted");
    all
}

fn letter() -> Rejected {
    letter_at("2026-11-23T12:00:01Z")
}

fn letter_at(at: &str) -> Rejected {
    let origin = Origin {
        pipeline: "consumer".to_owned(),
        source: "events".to_owned(),
        topic: Some("measurements".to_owned()),
        partition: Some(3),
        offset: Some(41),
    };
    let at = at.parse().expect("a time");
    Rejected::new(RejectedReason::NotJson, "no", origin, at, Some(vec![0, 255]), b"\xff\0{".to_vec())
}

async fn filled(measurements: &[Measurement]) -> Rig {
    let rig = Rig::new();
    let stored = measurements.iter().zip(1..).map(|(one, token)| rig.envelope(token, one.clone()));
    let mut batch: Vec<Envelope> = stored.collect();
    batch.push(Envelope::rejected(letter(), None, rig.book.ack(0)));
    rig.store(vec![batch]).await.ended.expect("stored");
    rig
}

#[tokio::test]
async fn everything_comes_back_as_it_was() {
    let mut failed = measurement("down", 2);
    failed.fail(monmon_model::Failure::new(FailureKind::ConnectRefused, Phase::Connect, "nobody listens"));
    let stored = [full_measurement(), failed, measurement("docs", 3)];
    let rig = filled(&stored).await;
    let all = read(&rig, &Selection::default()).await;
    assert_eq!(all.measurements, stored);
    assert_eq!(all.rejected, [letter()]);
}

/// A letter's id has the time that its message claims.
#[tokio::test]
async fn letters_later_than_the_newest_receipt_are_read() {
    let one = measurement("docs", 1);
    let at = "2026-11-23T12:00:00Z".parse().expect("a time");
    let receipt = Receipt {
        id: receipt_id(one.prober.boot, 1, 1, at),
        prober: one.prober.clone(),
        pipeline: "test".to_owned(),
        source: "source".to_owned(),
        at,
        began_at: at,
        slots_from: at,
        slots_until: at,
        first_seq: 1,
        last_seq: 1,
        failed: 0,
        ids_xor: Uuid::nil(),
        last: false,
    };
    let rig = filled(&[one]).await;
    let later = letter_at("2030-01-01T00:00:00Z");
    let receipt = Event::Receipt(receipt);
    let more = vec![
        Envelope::event(receipt.clone(), None, rig.book.ack(2)),
        Envelope::rejected(later.clone(), None, rig.book.ack(3)),
    ];
    rig.store(vec![more]).await.ended.expect("stored");
    let all = read(&rig, &Selection::default()).await;
    assert_eq!((all.events, all.rejected), (vec![receipt], vec![letter(), later]));
}

#[tokio::test]
async fn pages_follow_each_other_without_a_hole() {
    let rig = Rig::new();
    rig.store(vec![rig.batch("docs", 1..=2_500), rig.batch("other", 2_501..=2_510)])
        .await
        .ended
        .expect("stored");
    let seqs = |all: StoredPage| all.measurements.iter().map(|one| one.seq).collect::<Vec<_>>();
    assert_eq!(seqs(read(&rig, &Selection::default()).await), (1..=2_510).collect::<Vec<_>>());
    let only = Selection { checks: vec!["test/source/other".to_owned()], ..Selection::default() };
    assert_eq!(seqs(read(&rig, &only).await), (2_501..=2_510).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_span_of_time_has_its_start_and_not_its_end() {
    let rig = filled(&[1, 2, 3, 4].map(|seq| measurement("docs", seq))).await;
    let at = |seq| Some(measurement("docs", seq).scheduled_at);
    for (since, until, seqs, letters) in [
        (None, None, vec![1, 2, 3, 4], 1),
        (at(2), None, vec![2, 3, 4], 0),
        (at(2), at(4), vec![2, 3], 0),
        (None, at(2), vec![1], 1),
        (at(4), at(4), vec![], 0),
    ] {
        let all = read(&rig, &Selection { since, until, checks: Vec::new() }).await;
        let found: Vec<u64> = all.measurements.iter().map(|one| one.seq).collect();
        assert_eq!((found, all.rejected.len()), (seqs, letters), "{since:?} {until:?}");
    }
    // Dead letters belong to no check.
    let only = Selection { checks: vec!["docs".to_owned()], ..Selection::default() };
    assert_eq!(read(&rig, &only).await.rejected, []);
}

#[tokio::test]
async fn a_check_that_is_not_there_is_told() {
    let rig = filled(&[measurement("docs", 1)]).await;
    let only = Selection { checks: vec!["dogs".to_owned()], ..Selection::default() };
    let error = Reader::open(rig.path(), &only).err().expect("no such check");
    assert!(error.to_string().ends_with("knows no check `dogs`"), "{error}");
}

#[tokio::test]
async fn a_row_that_nobody_knows_is_named_with_its_column() {
    let rig = filled(&[measurement("docs", 1)]).await;
    let id = measurement("docs", 1).id;
    for (change, parts) in [
        ("UPDATE monmon_measurement SET outcome = 'sideways'", vec!["outcome", "sideways"]),
        (
            "UPDATE monmon_measurement SET outcome = 'up'; UPDATE monmon_dead_letter SET reason = 'odd'",
            vec!["reason", "odd"],
        ),
    ] {
        let written = rusqlite::Connection::open(rig.path()).expect("opened");
        written.execute_batch(&format!("PRAGMA ignore_check_constraints = 1; {change}")).expect("changed");
        let mut reader = Reader::open(rig.path(), &Selection::default()).expect("the file can be read");
        let error = loop {
            match reader.next().await {
                Ok(page) => assert!(!page.is_empty(), "it was read"),
                Err(error) => break error,
            }
        };
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let id = if parts[0] == "outcome" { id } else { letter().id };
        for part in parts.into_iter().chain([id.to_string().as_str()]) {
            assert!(cause.contains(part), "{cause}");
        }
        assert!(!error.is_transient());
        assert!(error.help_text().is_some_and(|help| !help.contains("migrate")), "{error:?}");
    }
}
