//! The records of batches: they tile the log, whatever becomes of its messages.

use monmon_model::{Measurement, Rejected, RejectedReason};
use monmon_stage::{Envelope, Place};

use crate::support::{Running, Store, a_match, check, measurement, noon, series};

const COVERED: &str = "
    SELECT range_agg(r.run)::text
    FROM monmon_batch AS b
    CROSS JOIN LATERAL unnest(coalesce(b.offsets, int8multirange(int8range(b.first_offset, b.last_offset, '[]')))) AS r(run)
    WHERE b.topic = 'measurements' AND b.partition_id = $1";

async fn covered(store: &Store, partition: i32) -> Option<String> {
    store.client.query_one(COVERED, &[&partition]).await.expect("the records").get(0)
}

/// Messages, and those that were stored, known and buried.
async fn sums(store: &Store) -> [i64; 4] {
    let sql = "SELECT sum(messages), sum(stored), sum(duplicates), sum(dead_letters) FROM monmon_batch
               WHERE (pipeline, stage, source) = ('consumer', 'store', 'events')";
    let row = store.client.query_one(sql, &[]).await.expect("the records");
    [0, 1, 2, 3].map(|at| row.get::<_, Option<i64>>(at).unwrap_or(0))
}

fn not_json(running: &mut Running, partition: i32, offset: i64) -> Envelope {
    let place = Place { feed: running.feed.clone(), partition, offset };
    let bytes = offset.to_string().into();
    let rejected = Rejected::new(RejectedReason::NotJson, "no JSON", place.origin(), noon(), None, bytes);
    Envelope::rejected(rejected, Some(place), running.ack())
}

#[tokio::test]
async fn a_batch_is_on_record_with_what_became_of_its_messages() {
    let store = Store::migrated().await;
    let mut running = Running::new(&format!("url \"{}\"\nconnections 1", store.url)).await;
    let mut rows = series(&check("docs", 1_000_000), 4).into_iter();
    let [a, b, c, mut d] = std::array::from_fn(|_| rows.next().expect("four"));
    d.matches = vec![a_match()];
    let again = a.clone();
    let made_here = running.envelope(measurement(&check("made here", 1_000_000), 1, noon()));
    let batch = vec![
        running.read(0, 7, a),
        running.read(0, 8, again),
        running.read(1, 40, b),
        not_json(&mut running, 0, 9),
        running.read(1, 43, c),
        running.read(1, 41, d),
        made_here,
    ];
    running.emit(batch).await;
    let (result, delivered, _) = running.end().await;
    result.expect("stored");
    assert_eq!(delivered, 7);
    let rows = store
        .client
        .query(
            "SELECT pipeline, stage, source, topic, partition_id, first_offset, last_offset, messages, stored, duplicates,
                    dead_letters, offsets::text
             FROM monmon_batch ORDER BY partition_id",
            &[],
        )
        .await
        .expect("the records");
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            let names = [0, 1, 2, 3].map(|at| row.get::<_, String>(at)).join(" ");
            let offsets = [5, 6].map(|at| row.get::<_, i64>(at));
            let counts = [4, 7, 8, 9, 10].map(|at| row.get::<_, i32>(at));
            (names, offsets, counts, row.get::<_, Option<String>>(11))
        })
        .collect();
    let names = "consumer store events measurements";
    let holes = Some("{[40,42),[43,44)}".to_owned());
    assert_eq!(
        told,
        [
            (names.to_owned(), [7, 9], [0, 3, 1, 1, 1], None),
            (names.to_owned(), [40, 43], [1, 3, 3, 0, 0], holes)
        ]
    );
    assert_eq!(store.count("monmon_measurement").await, 5);
    assert_eq!(store.count("monmon_match").await, 1);
    store.gone().await;
}

/// Batches over two connections, halved around rows that the server refuses, with messages that come twice and ids that are
/// taken.
#[tokio::test]
async fn the_records_tile_the_log() {
    let store = Store::migrated().await;
    let mut running =
        Running::new(&format!("url \"{}\"\nconnections 2\nbatch 150\nlinger \"1ms\"", store.url)).await;
    let mut offsets = [0_i64; 3];
    let mut next = |partition: i32| {
        let offset = &mut offsets[usize::try_from(partition).expect("a partition")];
        *offset += 1;
        *offset - 1
    };
    let spoil = |mut measurement: Measurement| {
        measurement.remote_addr = Some("\0".to_owned());
        measurement
    };
    let rows = series(&check("docs", 1_000_000), 1_000);
    for part in rows.chunks(100) {
        let mut batch = Vec::new();
        for row in part {
            let partition = i32::try_from(row.seq % 3).expect("small");
            let mut row = row.clone();
            match row.seq % 50 {
                7 => batch.push(not_json(&mut running, partition, next(partition))),
                13 => row = spoil(row),
                // Another content under an id that was, or will be, taken.
                21 => {
                    let mut other = row.clone();
                    other.timings.total_us += 1;
                    batch.push(running.read(partition, next(partition), other));
                }
                35 => batch.push(running.read(partition, next(partition), row.clone())),
                _ => {}
            }
            batch.push(running.read(partition, next(partition), row));
        }
        running.emit(batch).await;
    }
    let (result, delivered, failed) = running.end().await;
    result.expect("stored");
    assert_eq!((delivered, failed), (1_060, 0));
    for (partition, end) in (0..).zip(offsets) {
        assert_eq!(covered(&store, partition).await, Some(format!("{{[0,{end})}}")), "{partition}");
    }
    let [messages, stored, duplicates, dead_letters] = sums(&store).await;
    assert_eq!((stored, dead_letters), (980, 60));
    assert_eq!(store.count("monmon_measurement").await, stored);
    assert_eq!(store.count("monmon_dead_letter").await, dead_letters);
    // Of the 40 duplicates 20 had other content, and are told again as dead letters.
    assert_eq!((messages, duplicates), (1_080, 40));
    store.gone().await;
}

#[tokio::test]
async fn what_is_read_again_is_on_record_as_known() {
    let store = Store::migrated().await;
    for _ in 0..2 {
        let mut running = Running::new(&format!("url \"{}\"", store.url)).await;
        let batch = (0..).zip(series(&check("docs", 1_000_000), 10));
        let batch = batch.map(|(offset, row)| running.read(0, offset, row)).collect();
        running.emit(batch).await;
        running.end().await.0.expect("stored");
    }
    assert_eq!(sums(&store).await, [20, 10, 10, 0]);
    assert_eq!(covered(&store, 0).await.as_deref(), Some("{[0,10)}"));
    store.gone().await;
}
