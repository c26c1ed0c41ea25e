//! Dead letters that are read back.

use monmon_model::{DeadLetter, DeadLetterFilter, Measurement, Replayed, Selection, wire};
use monmon_postgres::{DeadLetters, Reader};
use monmon_stage::StoreReader;

use crate::support::{Store, a_match, check, down, measurement, noon, series, store};

fn encoded(measurement: &Measurement) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::encode(measurement, &mut bytes);
    bytes
}

/// A dead letter as an earlier version may have left it.
async fn put(store: &Store, number: u32, reason: &str, topic: &str, bytes: &[u8]) {
    store
        .client
        .execute(
            "INSERT INTO monmon_dead_letter (id, reason, message, pipeline, source, topic, kafka_partition, kafka_offset,
                                             occurred_at, key, bytes)
             VALUES (md5($1)::uuid, $2, 'why', 'consumer', 'events', $3, 0, 7, $4, 'k', $5)",
            &[&number.to_string(), &reason, &topic, &noon(), &bytes],
        )
        .await
        .expect("a letter");
}

async fn all(store: &Store) -> (DeadLetters, Vec<DeadLetter>) {
    let letters = DeadLetters::open(&store.target()).await.expect("opened");
    let found = letters.list(&DeadLetterFilter::default(), 100).await.expect("listed");
    (letters, found)
}

#[tokio::test]
async fn they_are_found_by_their_marks_and_dropped_by_them() {
    let store = Store::migrated().await;
    put(&store, 1, "not_json", "a", b"one").await;
    put(&store, 2, "not_json", "b", b"two\0\xff").await;
    put(&store, 3, "empty", "b", b"").await;
    let (letters, found) = all(&store).await;
    assert!(found.is_sorted_by_key(|letter| letter.id), "in the order of their ids");
    let two = found.iter().find(|letter| letter.bytes == b"two\0\xff").expect("whole");
    assert_eq!((two.reason.as_str(), two.topic.as_deref(), two.offset), ("not_json", Some("b"), Some(7)));
    assert_eq!((two.key.as_deref(), two.occurred_at), (Some(&b"k"[..]), noon()));
    let hour = std::time::Duration::from_secs(3_600);
    let (before, after) = (two.stored_at - hour, two.stored_at + hour);
    let any = DeadLetterFilter::default;
    let cases = [
        (any(), 3),
        (DeadLetterFilter { reason: Some("not_json".to_owned()), ..any() }, 2),
        (DeadLetterFilter { reason: Some("not_json".to_owned()), topic: Some("b".to_owned()), ..any() }, 1),
        (DeadLetterFilter { since: Some(before), until: Some(after), ..any() }, 3),
        (DeadLetterFilter { since: Some(after), ..any() }, 0),
        (DeadLetterFilter { until: Some(before), ..any() }, 0),
        (DeadLetterFilter { ids: vec![two.id], ..any() }, 1),
        (DeadLetterFilter { after: Some(found[0].id), ..any() }, 2),
    ];
    for (filter, count) in &cases {
        assert_eq!(letters.count(filter).await.expect("counted"), *count, "{filter:?}");
        let listed = letters.list(filter, 100).await.expect("listed").len();
        assert_eq!(listed as u64, *count, "{filter:?}");
    }
    assert_eq!(letters.list(&any(), 2).await.expect("listed").len(), 2);
    assert_eq!(letters.remove(&cases[2].0).await.expect("dropped"), 1);
    assert_eq!(letters.count(&any()).await.expect("counted"), 2);
    store.gone().await;
}

#[tokio::test]
async fn what_is_good_now_is_stored_and_is_a_dead_letter_no_more() {
    let place = Store::migrated().await;
    let docs = check("docs", 1_000_000);
    let mut good = measurement(&docs, 1, noon());
    good.matches = vec![a_match()];
    let known = measurement(&docs, 2, noon() - std::time::Duration::from_secs(1));
    let taken = down(&docs, 3, noon() - std::time::Duration::from_secs(2));
    let mut other = taken.clone();
    other.timings.total_us += 1;
    let mut refused = measurement(&docs, 4, noon() - std::time::Duration::from_secs(3));
    refused.timings.total_us = 1 << 40;
    let old = measurement(&docs, 5, noon() - std::time::Duration::from_secs(500 * 86_400));
    store(&place, vec![known.clone(), taken]).await;
    put(&place, 1, "newer_version", "a", &encoded(&good)).await;
    put(&place, 2, "store_refused", "a", &encoded(&known)).await;
    put(&place, 3, "duplicate_id", "a", &encoded(&other)).await;
    put(&place, 4, "store_refused", "a", &encoded(&refused)).await;
    put(&place, 5, "not_json", "a", b"{").await;
    put(&place, 6, "time_out_of_window", "a", &encoded(&old)).await;
    let (mut letters, found) = all(&place).await;
    let mut kept = Vec::new();
    let mut gone = Vec::new();
    for letter in &found {
        match letters.replay(letter, noon()).await.expect("asked") {
            Replayed::Kept(why) => kept.push(why),
            other => gone.push((letter.reason.clone(), other)),
        }
    }
    gone.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        gone,
        [("newer_version".to_owned(), Replayed::Stored), ("store_refused".to_owned(), Replayed::Known)]
    );
    kept.sort();
    let parts = ["a time of 1099511627776 us", "id ", "not_json: ", "the time 2025-07-11"];
    for (why, part) in kept.iter().zip(parts) {
        assert!(why.starts_with(part), "{why}");
    }
    assert_eq!(place.count("monmon_dead_letter").await, 4);
    assert_eq!((place.count("monmon_measurement").await, place.count("monmon_match").await), (3, 1));
    // Once more: what is kept is kept.
    let (_, found) = all(&place).await;
    for letter in &found {
        assert!(matches!(letters.replay(letter, noon()).await, Ok(Replayed::Kept(_))));
    }
    assert_eq!(place.count("monmon_dead_letter").await, 4);
    place.gone().await;
}

/// The server refuses the measurement still: the letter stays, and nothing of the measurement does.
#[tokio::test]
async fn what_the_server_refuses_once_more_stays() {
    let place = Store::migrated().await;
    let mut rows = series(&check("docs", 1_000_000), 2);
    rows[0].matches = vec![a_match()];
    put(&place, 1, "store_refused", "a", &encoded(&rows[0])).await;
    place
        .client
        .batch_execute("ALTER TABLE monmon_verdict ADD CONSTRAINT no_titles CHECK (stage <> 'titles')")
        .await
        .expect("a constraint");
    let (mut letters, found) = all(&place).await;
    let Replayed::Kept(why) = letters.replay(&found[0], noon()).await.expect("asked") else {
        panic!("stored")
    };
    assert!(why.contains("no_titles"), "{why}");
    assert_eq!((place.count("monmon_dead_letter").await, place.count("monmon_measurement").await), (1, 0));
    place
        .client
        .batch_execute("ALTER TABLE monmon_verdict DROP CONSTRAINT no_titles")
        .await
        .expect("dropped");
    assert_eq!(letters.replay(&found[0], noon()).await.expect("asked"), Replayed::Stored);
    assert_eq!((place.count("monmon_dead_letter").await, place.count("monmon_check").await), (0, 1));
    place.gone().await;
}

/// A letter's id has the time that its message claims.
#[tokio::test]
async fn letters_later_than_the_newest_receipt_are_read() {
    let place = Store::migrated().await;
    store(&place, series(&check("docs", 1_000_000), 1)).await;
    let receipt = "INSERT INTO monmon_receipt
        SELECT monmon_uuid_floor(t), boot_id, t, t, t, t, 1, 1, 0, gen_random_uuid(), 'p', 's', false
        FROM monmon_measurement_full, LATERAL (SELECT scheduled_at AS t) AS x";
    place.client.batch_execute(receipt).await.expect("a receipt");
    let letters = "INSERT INTO monmon_dead_letter (id, reason, message, pipeline, source, occurred_at, bytes)
        SELECT monmon_uuid_floor(t), 'not_json', 'why', 'consumer', 'events', t, 'x'
        FROM unnest('{2026-11-23 12:00:01Z, 2030-01-01Z}'::timestamptz[]) AS t";
    place.client.batch_execute(letters).await.expect("letters");
    let mut reader = Reader::open(place.target(), &Selection::default()).await.expect("a store");
    assert_eq!(reader.count().await.expect("counted"), 4);
    let (mut events, mut rejected) = (0, 0);
    loop {
        let page = reader.next().await.expect("read");
        if page.is_empty() {
            break;
        }
        events += page.events.len();
        rejected += page.rejected.len();
    }
    assert_eq!((events, rejected), (1, 2));
    place.gone().await;
}
