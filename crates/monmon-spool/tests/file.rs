//! What becomes of the file: bounds, damage, deletion, folders that are not there, two at once.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use monmon_spool::SpoolErrorKind;
use monmon_stage::StageError;
use monmon_testkit::stages::{measurement, stage_context};
use support::{Mode, Rig, pass};

const SECOND: Duration = Duration::from_secs(1);

/// So many items in the file, and nobody who has it open.
async fn filled(count: u64) -> Rig {
    let rig = Rig::new(Mode::Away);
    let running = rig.run("").await;
    running.give(rig.batch(1..=count)).await;
    running.stop().await.expect("it is stored");
    assert_eq!(rig.status().items, count);
    rig
}

/// What a run with the server there delivers of it.
async fn delivered(rig: &Rig) -> Vec<u64> {
    rig.server.set(Mode::Up);
    let running = rig.run("").await;
    while rig.status().items > 0 {
        pass(SECOND / 10).await;
    }
    running.stop().await.expect("it ends well");
    rig.server.got()
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_holds_the_source_back() {
    let rig = Rig::new(Mode::Away);
    let running = rig.run("max=\"1MiB\"").await;
    let mut feeding = running.feed(&rig.book, 1..=24_000);
    pass(60 * SECOND).await;
    let status = rig.status();
    assert!(status.bytes <= 1 << 20, "{status:?}");
    assert!(status.items > 600 && status.dropped.is_empty(), "{status:?}");
    assert_eq!(rig.book.entries().len() as u64, status.items, "the rest waits");
    assert_eq!(feeding.try_join_next().map(|_| ()), None, "and the source with it");
    rig.server.set(Mode::Up);
    rig.server.has(24_000).await;
    feeding.join_next().await;
    running.stop().await.expect("it ends well");
    assert_eq!(rig.server.got(), (1..=24_000).collect::<Vec<_>>());
    assert_eq!(rig.book.failed(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_drops_what_it_is_told_to_and_says_whose() {
    for (word, oldest) in [("oldest", true), ("newest", false)] {
        let rig = Rig::new(Mode::Away);
        let running = rig.run(&format!("max=\"1MiB\" when-full=\"{word}\"")).await;
        for first in (1..=6_000).step_by(100) {
            running.give(rig.batch(first..first + 100)).await;
        }
        rig.book.resolved(6_000).await;
        let status = rig.status();
        let dropped: u64 = status.dropped.iter().map(|check| check.count).sum();
        assert!(status.bytes <= 1 << 20, "{status:?}");
        assert_eq!(status.items + dropped, 6_000, "{word}");
        assert!(status.items > 600, "{status:?}");
        let [docs] = status.dropped.as_slice() else { panic!("one check: {status:?}") };
        assert_eq!((docs.pipeline.as_str(), docs.check.as_str()), ("test", "docs"));
        if !oldest {
            assert!(docs.first > Some(measurement("docs", 500).scheduled_at));
            assert_eq!(docs.last, Some(measurement("docs", 6_000).scheduled_at));
            assert_eq!(rig.book.failed().len() as u64, dropped, "a dropped item is known to be lost");
        }
        assert_eq!(running.context.counters.counts().dropped, dropped);
        running.stop().await.expect("it ends well");
        let got = delivered(&rig).await;
        assert!(got.is_sorted());
        let newest = got.last() == Some(&6_000);
        assert_eq!(newest, oldest);
        // What was dropped outlives the restart.
        assert_eq!(rig.status().dropped.iter().map(|check| check.count).sum::<u64>(), dropped);
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_is_refused_and_told_who_has_it() {
    let rig = Rig::new(Mode::Up);
    let running = rig.run("").await;
    let told = rig.open("", stage_context("events")).await.err().expect("it is in use");
    assert!(told.to_string().contains(&format!("in use by the process {}", std::process::id())), "{told}");
    assert_eq!(rig.status().pid, Some(std::process::id()));
    running.stop().await.expect("it ends well");
    assert_eq!(rig.status().pid, None);
    rig.open("", stage_context("events")).await.map(drop).expect("it is free");
}

fn text(error: &StageError) -> String {
    format!("{error} / {}", error.help_text().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_a_spool_is_refused_and_left_alone() {
    let check = async |make: &dyn Fn(&std::path::Path), wanted: &str| {
        let rig = Rig::new(Mode::Up);
        make(&rig.path());
        let told = rig.open("", stage_context("events")).await.err().expect("it can't be opened");
        assert!(text(&told).contains(wanted), "{}", text(&told));
    };
    check(&|path| std::fs::create_dir(path).expect("a folder"), "is a folder").await;
    check(&|path| std::fs::write(path, "notes of mine").expect("a file"), "something else than a spool")
        .await;
    let database = |path: &std::path::Path| {
        let connection = rusqlite::Connection::open(path).expect("a database");
        connection
            .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1)")
            .expect("a table");
    };
    check(&database, "something else than a spool").await;
    check(
        &|path| std::fs::remove_dir(path.parent().expect("a folder")).expect("it is gone"),
        "make the folder",
    )
    .await;
    let newer = |path: &std::path::Path| {
        let connection = rusqlite::Connection::open(path).expect("a database");
        connection
            .execute_batch("PRAGMA application_id = 1835889520; PRAGMA user_version = 99; CREATE TABLE t (a)")
            .expect("a table");
    };
    check(&newer, "use the newer monmon").await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_deleted_while_open_loses_nothing() {
    let rig = Rig::new(Mode::Away);
    let running = rig.run("").await;
    running.give(rig.batch(1..=100)).await;
    rig.book.resolved(100).await;
    std::fs::remove_file(rig.path()).expect("it was there");
    running.give(rig.batch(101..=200)).await;
    rig.book.resolved(200).await;
    assert_eq!(rig.status().items, 200);
    running.stop().await.expect("it is stored");
    let mut got = delivered(&rig).await;
    got.dedup();
    assert_eq!(got, (1..=200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_goes_away_for_a_while_is_waited_for() {
    let rig = Rig::new(Mode::Away);
    let running = rig.run("").await;
    running.give(rig.batch(1..=100)).await;
    rig.book.resolved(100).await;
    let (folder, away) = (rig.folder.path().to_owned(), rig.folder.path().with_extension("away"));
    std::fs::rename(&folder, &away).expect("it is moved");
    running.give(rig.batch(101..=200)).await;
    pass(10 * SECOND).await;
    assert_eq!(rig.book.entries().len(), 100, "nothing is acked that is not at its place");
    std::fs::rename(&away, &folder).expect("it is back");
    rig.book.resolved(200).await;
    running.stop().await.expect("it is stored");
    assert_eq!(delivered(&rig).await, (1..=200).collect::<Vec<_>>());
}

/// Every byte of a small spool, or so many of them: whatever is changed, what can be read goes on.
#[tokio::test(start_paused = true)]
async fn a_flipped_bit_costs_what_it_hits_and_no_more() {
    let whole = filled(300).await;
    let bytes = std::fs::read(whole.path()).expect("the file");
    let mut seed = 7u64;
    let mut renewed = 0;
    for round in 0..60 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // The first pages are looked at more closely: all hangs on them.
        let end = if round % 3 == 0 { 4096 * 3 } else { bytes.len() };
        let at = (seed >> 20) as usize % end;
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (seed >> 8 & 7);
        let rig = Rig::new(Mode::Up);
        std::fs::write(rig.path(), &damaged).expect("a file");
        let mut got = delivered(&rig).await;
        got.sort_unstable();
        got.dedup();
        let status = rig.status();
        renewed += status.quarantined.len();
        // One page of rows at most, and none without a word.
        assert!(got.len() >= 290, "byte {at}: {} rows", got.len());
        if got.len() < 300 {
            let [put_aside] = status.quarantined.as_slice() else { panic!("byte {at}: {status:?}") };
            assert!(
                put_aside.lost.is_none_or(|lost| lost as usize == 300 - got.len()),
                "byte {at}: {put_aside:?}"
            );
            assert_eq!(
                std::fs::read(rig.folder.path().join(&put_aside.file)).expect("kept").len(),
                damaged.len()
            );
        }
    }
    assert!(renewed > 10, "only {renewed} were found to be damaged");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_cut_keeps_what_is_left() {
    let whole = filled(300).await;
    let bytes = std::fs::read(whole.path()).expect("the file");
    for cut in [100, 4_096, 5_000, bytes.len() / 2, bytes.len() - 1] {
        let rig = Rig::new(Mode::Up);
        std::fs::write(rig.path(), &bytes[..cut]).expect("a file");
        let opened = rig.open("", stage_context("events")).await;
        if let Err(told) = opened {
            assert!(
                cut < 512 && text(&told).contains("something else than a spool"),
                "{cut}: {}",
                text(&told)
            );
            continue;
        }
        drop(opened);
        let got = delivered(&rig).await;
        assert!(got.is_sorted());
        // Four rows lie in a page.
        let pages = cut / 4_096;
        assert!(got.len() + 10 >= (pages * 4).saturating_sub(30).min(300), "{cut}: {} rows", got.len());
        assert_eq!(rig.status().quarantined.len(), 1, "{cut}");
    }
}

/// The file's structure is sound, and one row says something else than was written.
#[tokio::test(start_paused = true)]
async fn a_row_that_was_changed_is_found_when_it_is_read() {
    let rig = filled(200).await;
    let mut bytes = std::fs::read(rig.path()).expect("the file");
    let text = b"\"seq\":150";
    let at = bytes.windows(text.len()).rposition(|bytes| bytes == text).expect("the row is in the file");
    bytes[at + text.len() - 1] = b'1';
    std::fs::write(rig.path(), &bytes).expect("it can be written");
    let got = delivered(&rig).await;
    let wanted: Vec<u64> = (1..=200).filter(|number| *number != 150).collect();
    let mut once = got.clone();
    once.dedup();
    assert_eq!(once, wanted);
    let [put_aside] = &rig.status().quarantined[..] else { panic!("{:?}", rig.status()) };
    assert_eq!((put_aside.kept, put_aside.lost), (199, Some(1)));
}

#[tokio::test(start_paused = true)]
async fn a_status_of_nothing_is_an_error() {
    let rig = Rig::new(Mode::Up);
    let told = monmon_spool::status(&rig.path()).expect_err("nothing is there");
    assert_eq!(told.kind(), SpoolErrorKind::Missing);
    std::fs::write(rig.path(), "notes").expect("a file");
    assert_eq!(monmon_spool::status(&rig.path()).map_err(|error| error.kind()), Err(SpoolErrorKind::Damaged));
}

/// Not as root, who may write anywhere.
#[tokio::test(start_paused = true)]
async fn a_file_that_may_not_be_written_is_an_error() {
    let rig = filled(3).await;
    let locked = std::fs::Permissions::from_mode(0o444);
    std::fs::set_permissions(rig.path(), locked).expect("it is ours");
    if std::fs::OpenOptions::new().write(true).open(rig.path()).is_ok() {
        return;
    }
    let told = rig.open("", stage_context("events")).await.err().expect("it can't be written");
    assert!(text(&told).contains("may not be written"), "{}", text(&told));
}
