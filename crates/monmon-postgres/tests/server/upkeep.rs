//! What keeps the upkeep in bounds: a clock that was wrong, several sinks, receipts of days that have gone.

use std::time::Duration;

use jiff::Timestamp;
use monmon_model::retention_id;
use monmon_postgres::{maintain, retention_plan};
use monmon_stage::Retention;

use crate::retention::{LATER, three_days};
use crate::rollups::roll_up;
use crate::support::{Running, Store, check, measurement, store};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn retention(text: &str) -> Retention {
    Retention::parse(&[text.to_owned()]).expect("a retention")
}

#[tokio::test]
async fn rollups_that_are_ahead_of_the_clock_are_made_again() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let ahead = "UPDATE monmon_rollup_state SET rolled_until = now() + interval '400 days'";
    place.client.batch_execute(ahead).await.expect("a clock that was wrong");
    let done = maintain(&place.target(), None, Timestamp::now()).await.expect("maintained");
    let now = Timestamp::now();
    assert!(done.healed_from.is_some_and(|from| from > now), "{done:?}");
    assert!(done.rolled_until.is_some_and(|until| until < now), "{done:?}");
    let done = maintain(&place.target(), None, now).await.expect("maintained");
    assert_eq!(done.healed_from, None);
    place.gone().await;
}

/// After the clock was set right nothing was rolled up for days, and what came in was in time.
#[tokio::test]
async fn days_are_made_again_from_the_last_one_that_has_rollups() {
    let place = Store::migrated().await;
    let now = Timestamp::now();
    let docs = check("docs", 60_000_000);
    let days_ago = |days: u64| measurement(&docs, 100 - days, now - Duration::from_secs(86_400 * days));
    let mut running = Running::at(&format!("url \"{}\"", place.url), false, now).await;
    running.send(vec![days_ago(50)]).await;
    running.resolved(1).await;
    maintain(&place.target(), None, now).await.expect("maintained");
    running.send([48, 40, 9, 5, 3].map(days_ago).to_vec()).await;
    assert_eq!(running.end().await.1, 6);
    let ahead = "UPDATE monmon_rollup_state SET rolled_until = now() + interval '400 days'";
    place
        .client
        .batch_execute(&format!("DELETE FROM monmon_rollup_late; {ahead}"))
        .await
        .expect("a wrong clock");
    let done = maintain(&place.target(), None, now).await.expect("maintained");
    assert!(done.healed_from.is_some_and(|from| from > now), "{done:?}");
    let faults = "monmon_rollup_check(current_date - 60, current_date + 1)";
    assert_eq!((place.count(faults).await, place.count("monmon_rollup_day").await), (0, 6));

    // How far back it goes, in days: not behind those of which measurements have gone, and to yesterday always.
    let sealed = |days: i32| {
        format!(
            "INSERT INTO monmon_rollup_checked
             SELECT monmon_uuid_floor(d::timestamp AT TIME ZONE 'UTC'), d, 1, now(), now()
             FROM (SELECT (now() AT TIME ZONE 'UTC')::date - {days} AS d) AS s; "
        )
    };
    let back = "SELECT (now() AT TIME ZONE 'UTC')::date - (rolled_until AT TIME ZONE 'UTC')::date FROM monmon_rollup_state";
    for (made, days) in [(String::new(), 35), (sealed(20), 19), (sealed(1), 1)] {
        let heal = format!("{made}{ahead}; SELECT monmon_rollup_heal()");
        place.client.batch_execute(&heal).await.expect("healed");
        assert_eq!(place.client.query_one(back, &[]).await.expect("a day").get::<_, i32>(0), days);
    }
    place.gone().await;
}

#[tokio::test]
async fn of_several_sinks_the_longest_times_count() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    roll_up(&place.client, LATER).await;
    let said = |days: u32| {
        format!(
            "SELECT monmon_retention_register('other', 'store', '{{\"measurements\": \"{} seconds\"}}')",
            days * 86_400
        )
    };
    for days in [2, 300] {
        // What it says now stands in place of what it said before.
        place.client.batch_execute(&said(days)).await.expect("another sink");
    }
    let row = place.client.query_one("SELECT id FROM monmon_retention_policy", &[]).await.expect("one row");
    assert_eq!(row.get::<_, uuid::Uuid>(0), retention_id("other", "store"));
    let (short, now) = (retention("measurements=1d"), at("2025-11-22T12:00:00Z"));
    let planned = retention_plan(&place.target(), &short, now).await.expect("a plan");
    assert!(planned.is_empty(), "{planned:?}");
    let done = maintain(&place.target(), Some(&short), now).await.expect("maintained");
    assert!(done.others_keep_longer && done.dropped.is_empty(), "{done:?}");
    let gone = "UPDATE monmon_retention_policy SET seen_at = now() - interval '8 days'";
    place.client.batch_execute(gone).await.expect("it is gone for good");
    let done = maintain(&place.target(), Some(&short), now).await.expect("maintained");
    assert!(!done.others_keep_longer, "{done:?}");
    assert!(done.dropped.iter().any(|name| name == "monmon_measurement_20251120"), "{done:?}");
    place.gone().await;
}

#[tokio::test]
async fn receipts_go_behind_their_days() {
    let place = Store::migrated().await;
    store(&place, three_days()).await;
    let receipts = "INSERT INTO monmon_receipt
        SELECT monmon_uuid_floor(t), gen_random_uuid(), t, t, t, t, 1, 0, 0, gen_random_uuid(), 'p', 's', false
        FROM generate_series('2025-11-17 00:00:00+00'::timestamptz, '2025-11-22 23:00:00+00', interval '1 hour') AS t";
    place.client.batch_execute(receipts).await.expect("receipts");
    roll_up(&place.client, LATER).await;
    let left = "SELECT count(*), min(at) FROM monmon_receipt";
    let kept = retention("measurements=1d,keep-failures=9y");
    // Nothing is old enough yet.
    maintain(&place.target(), Some(&kept), at("2025-11-20T12:00:00Z")).await.expect("maintained");
    assert_eq!(place.client.query_one(left, &[]).await.expect("a count").get::<_, i64>(0), 144);
    // Of the first day measurements go: what is two days older than the others proves nothing any more.
    let done = maintain(&place.target(), Some(&kept), at("2025-11-22T12:00:00Z")).await.expect("maintained");
    assert_eq!(done.receipts_deleted, 48, "{done:?}");
    let row = place.client.query_one(left, &[]).await.expect("a count");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, Timestamp>(1)), (96, at("2025-11-19T00:00:00Z")));
    place.gone().await;
}
