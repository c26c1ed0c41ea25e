//! What is dropped is told by the receipts that come behind it, and these are never dropped themselves.

mod support;

use std::time::Duration;

use support::{Mode, RECEIPTS, Rig, pass};

const SECOND: Duration = Duration::from_secs(1);

async fn drained(rig: &Rig, options: &str) {
    rig.server.set(Mode::Up);
    let running = rig.run(options).await;
    while rig.status().items > 0 {
        pass(SECOND / 10).await;
    }
    running.stop().await.expect("it ends well");
}

#[tokio::test(start_paused = true)]
async fn receipts_tell_what_was_dropped() {
    for word in ["oldest", "newest"] {
        // Nothing is with the sink: what is with it may be dropped and delivered both.
        let rig = Rig::new(Mode::CannotOpen);
        let options = format!("max=\"1MiB\" when-full=\"{word}\"");
        let mut running = rig.run(&options).await;
        for first in (1..=6_000).step_by(100) {
            let mut batch = rig.batch(first..first + 100);
            batch.push(rig.receipt(first..=first + 99));
            running.give(batch).await;
            if first == 3_001 {
                // What was dropped before is known afterwards.
                running.stop().await.expect("it is stored");
                running = rig.run(&options).await;
            }
        }
        rig.book.resolved(6_060).await;
        running.stop().await.expect("it is stored");
        drained(&rig, &options).await;
        let got = rig.server.got();
        let receipts = rig.server.receipts();
        assert_eq!(receipts.len(), 60, "{word}: none is dropped");
        assert!(rig.book.failed().iter().all(|number| *number < RECEIPTS), "{word}");
        let failed = rig.book.failed();
        for receipt in &receipts {
            let numbers = receipt.first_seq..=receipt.last_seq;
            // The source knows of these itself, and says so.
            let told = failed.iter().filter(|number| numbers.contains(number)).count() as u64;
            let stored = got.iter().filter(|number| numbers.contains(number)).count() as u64;
            assert_eq!(receipt.failed + told + stored, 100, "{word} {numbers:?}");
        }
        assert!(receipts.iter().any(|receipt| receipt.failed > 50) || word == "newest", "{receipts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_is_told_as_well() {
    let rig = Rig::new(Mode::RefusesOne(7));
    let running = rig.run("").await;
    running.give(rig.batch(1..=20)).await;
    while rig.status().refused == 0 {
        pass(SECOND).await;
    }
    running.give(vec![rig.receipt(1..=20)]).await;
    rig.server.has(20).await;
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.receipts()[0].failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_spool_of_receipts_alone_holds_the_source_back() {
    let rig = Rig::new(Mode::Away);
    let running = rig.run("max=\"1MiB\" when-full=\"oldest\"").await;
    let mut feeding = running.feed_receipts(&rig, 12_000);
    pass(60 * SECOND).await;
    assert!(rig.book.entries().len() < 12_000 && rig.status().dropped.is_empty(), "{:?}", rig.status());
    rig.server.set(Mode::Up);
    rig.server.has(12_000).await;
    feeding.join_next().await;
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.receipts().len(), 12_000);
}
