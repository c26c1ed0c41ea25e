//! What becomes of items while a server comes and goes.

mod support;

use std::time::Duration;

use monmon_testkit::stages::stage_context;
use support::{Mode, Rig, pass};

const SECOND: Duration = Duration::from_secs(1);

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.collect()
}

#[tokio::test(start_paused = true)]
async fn while_all_is_well_nothing_is_written() {
    let rig = Rig::new(Mode::Up);
    let running = rig.run("").await;
    let before = std::fs::metadata(rig.path()).expect("a file").modified().expect("a time");
    for first in (1..=2_000).step_by(50) {
        running.give(rig.batch(first..first + 50)).await;
    }
    rig.book.resolved(2_000).await;
    let counters = running.context.counters.clone();
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.got(), numbers(1..=2_000));
    assert_eq!(rig.book.delivered(), numbers(1..=2_000));
    assert_eq!(counters.counts().spooled, 0);
    let after = std::fs::metadata(rig.path()).expect("a file").modified().expect("a time");
    assert_eq!(before, after);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_delivered_in_time_is_spooled_and_comes_in_order() {
    let rig = Rig::new(Mode::Up);
    let running = rig.run("").await;
    running.give(rig.batch(1..=10)).await;
    rig.book.resolved(10).await;
    rig.server.set(Mode::Away);
    running.give(rig.batch(11..=20)).await;
    pass(SECOND / 2).await;
    assert_eq!(rig.book.entries().len(), 10, "not yet");
    rig.book.resolved(20).await;
    assert_eq!(rig.status().items, 10);
    // What comes now goes behind it, at once.
    running.give(rig.batch(21..=400)).await;
    rig.book.resolved(400).await;
    assert_eq!((rig.status().items, rig.server.got().len()), (390, 10));
    rig.server.set(Mode::Up);
    running.give(rig.batch(401..=500)).await;
    rig.server.has(500).await;
    rig.book.resolved(500).await;
    let counters = running.context.counters.clone();
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.got(), numbers(1..=500));
    assert_eq!(rig.book.failed(), [0; 0]);
    assert_eq!(rig.status().items, 0);
    let counts = counters.counts();
    assert!(counts.spooled >= 390 && counts.replayed == counts.spooled, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn the_next_run_delivers_what_the_last_one_could_not() {
    let rig = Rig::new(Mode::Away);
    for (first, last) in [(1, 300), (301, 400)] {
        let running = rig.run("").await;
        running.give(rig.batch(first..=last)).await;
        running.stop().await.expect("it is stored");
        assert_eq!(rig.book.delivered(), numbers(1..=last));
        assert_eq!(rig.status().items, last);
    }
    rig.server.set(Mode::Up);
    let running = rig.run("").await;
    running.give(rig.batch(401..=402)).await;
    rig.server.has(402).await;
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.got(), numbers(1..=402));
    assert_eq!((rig.status().items, rig.book.failed()), (0, vec![]));
    assert!(rig.status().bytes < 200_000, "{:?}", rig.status());
}

#[tokio::test(start_paused = true)]
async fn what_was_acked_is_there_after_a_kill() {
    let rig = Rig::new(Mode::Away);
    let running = rig.run("").await;
    running.give(rig.batch(1..=100)).await;
    rig.book.resolved(100).await;
    running.give(rig.batch(101..=150)).await;
    running.kill().await;
    let acked = rig.book.delivered();
    assert!(acked.len() >= 100);
    rig.server.set(Mode::Up);
    let running = rig.run("").await;
    rig.server.has(acked.len()).await;
    running.stop().await.expect("it ends well");
    let got = rig.server.got();
    assert!(acked.iter().all(|number| got.contains(number)));
    assert!(got.is_sorted());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_no_loss() {
    let rig = Rig::new(Mode::Refuses);
    let running = rig.run("").await;
    running.give(rig.batch(1..=50)).await;
    rig.book.resolved(50).await;
    assert_eq!(rig.book.failed(), [0; 0]);
    rig.server.set(Mode::Up);
    rig.server.has(50).await;
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.got(), numbers(1..=50));
    assert_eq!(rig.status().items, 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_always_refused_is_set_aside_and_the_rest_goes_on() {
    let rig = Rig::new(Mode::RefusesOne(7));
    let running = rig.run("").await;
    running.give(rig.batch(1..=20)).await;
    rig.server.has(19).await;
    while rig.status().refused == 0 {
        pass(SECOND).await;
    }
    running.give(rig.batch(21..=30)).await;
    rig.server.has(29).await;
    running.stop().await.expect("it ends well");
    let wanted: Vec<u64> = numbers(1..=30).into_iter().filter(|number| *number != 7).collect();
    assert_eq!(rig.server.got(), wanted);
    assert_eq!((rig.status().items, rig.status().refused), (0, 1));
    assert_eq!(rig.book.failed(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_is_kept_when_the_file_is_made_anew() {
    let rig = Rig::new(Mode::RefusesOne(7));
    let running = rig.run("").await;
    running.give(rig.batch(1..=20)).await;
    while rig.status().refused == 0 {
        pass(SECOND).await;
    }
    rig.server.set(Mode::Away);
    std::fs::remove_file(rig.path()).expect("it was there");
    running.give(rig.batch(21..=30)).await;
    rig.book.resolved(30).await;
    assert_eq!((rig.status().items, rig.status().refused), (10, 1));
    running.stop().await.expect("it is stored");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_ends_is_opened_again() {
    for mode in [Mode::Breaks, Mode::CannotOpen, Mode::Wrong, Mode::Panics] {
        let rig = Rig::new(Mode::Up);
        let running = rig.run("").await;
        running.give(rig.batch(1..=10)).await;
        rig.server.has(10).await;
        rig.server.set(mode);
        running.give(rig.batch(11..=40)).await;
        rig.book.resolved(40).await;
        pass(100 * SECOND).await;
        rig.server.set(Mode::Up);
        rig.server.has(40).await;
        running.stop().await.expect("it ends well");
        assert_eq!(rig.server.got(), numbers(1..=40), "{mode:?}");
        assert_eq!(rig.book.failed(), [0; 0], "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_at_the_start_does_not_stop_it() {
    let rig = Rig::new(Mode::CannotOpen);
    let running = rig.run("").await;
    running.give(rig.batch(1..=10)).await;
    rig.book.resolved(10).await;
    rig.server.set(Mode::Up);
    rig.server.has(10).await;
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.got(), numbers(1..=10));
}

#[tokio::test(start_paused = true)]
async fn what_never_will_work_is_said_at_the_start() {
    let rig = Rig::new(Mode::Wrong);
    let told = rig.open("", stage_context("events")).await.err().expect("it can't be opened");
    assert_eq!(told.to_string(), "the password is wrong");
    let rig = Rig::new(Mode::CannotOpen);
    let mut context = stage_context("events");
    context.fail_fast = true;
    let told = rig.open("", context).await.err().expect("it shall not wait");
    assert_eq!(told.to_string(), "the server is away");
}

#[tokio::test(start_paused = true)]
async fn rows_go_to_the_sink_at_a_bounded_rate() {
    let rig = Rig::new(Mode::Away);
    let running = rig.run("").await;
    running.give(rig.batch(1..=2_000)).await;
    running.stop().await.expect("it is stored");
    rig.server.set(Mode::Up);
    let begun = tokio::time::Instant::now();
    let running = rig.run("replay=100").await;
    rig.server.has(2_000).await;
    let took = begun.elapsed();
    assert!((19 * SECOND..22 * SECOND).contains(&took), "{took:?}");
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.got(), numbers(1..=2_000));
}

#[tokio::test(start_paused = true)]
async fn rejected_messages_are_spooled_as_well() {
    let rig = Rig::new(Mode::Away);
    let running = rig.run("").await;
    running.give(vec![rig.large(1, 20_000)]).await;
    running.stop().await.expect("it is stored");
    assert_eq!(rig.book.delivered(), [1]);
    rig.server.set(Mode::Up);
    let running = rig.run("").await;
    rig.server.has(1).await;
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.got(), [1]);
}
