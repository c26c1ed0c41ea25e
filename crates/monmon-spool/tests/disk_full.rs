//! A disk that is full: nothing is lost, the source is held back, and all goes on when there is room again.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use monmon_stage::{Batch, Envelope};
use monmon_testkit::stages::{AckBook, measurement, stage_context};
use support::{Mode, Running, Server, open, pass};

const SECOND: Duration = Duration::from_secs(1);

/// A file system of its own, of so many bytes.
struct Small<'a>(&'a Path);

impl Small<'_> {
    fn mount(at: &Path) -> Option<Small<'_>> {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(at).output().ok()?;
        mounted.status.success().then_some(Small(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).status());
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_holds_the_source_back_and_heals() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(_small) = Small::mount(folder.path()) else {
        // Only root may mount; everyone else has the bound's own tests.
        return;
    };
    let ballast = folder.path().join("ballast");
    std::fs::write(&ballast, vec![0; 1 << 20]).expect("there is room for it");
    let server = Server::new(Mode::Away);
    let book = AckBook::new();
    let context = stage_context("events");
    // A bound beyond what the disk has.
    let sink =
        open(folder.path(), "max=\"64MiB\" when-full=\"newest\"", server.clone(), context.clone()).await;
    let running = Running::new(sink.expect("it can be opened"), context);
    let mut feeding = running.feed(&book, 1..=24_000);
    pass(60 * SECOND).await;
    let before = book.entries().len();
    assert!(before > 200 && book.failed().is_empty(), "{before}");
    let status = monmon_spool::status(&folder.path().join("test.spool")).expect("it can be read");
    assert_eq!(status.items, before as u64);
    pass(60 * SECOND).await;
    assert_eq!(feeding.try_join_next().map(|_| ()), None, "the source is held back");

    // Room again: what waited is written.
    let before = book.entries().len();
    std::fs::remove_file(&ballast).expect("it was there");
    book.resolved(before + 200).await;
    server.set(Mode::Up);
    server.has(24_000).await;
    feeding.join_next().await;
    running.stop().await.expect("it ends well");
    assert_eq!(book.failed(), [0; 0]);
    assert_eq!(server.got(), (1..=24_000).collect::<Vec<_>>());
}

/// A disk with no room at all still lets the spool drain.
#[tokio::test(start_paused = true)]
async fn a_spool_drains_on_a_full_disk() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(_small) = Small::mount(folder.path()) else { return };
    let server = Server::new(Mode::Away);
    let book = AckBook::new();
    let context = stage_context("events");
    let sink = open(folder.path(), "max=\"64MiB\"", server.clone(), context.clone()).await;
    let running = Running::new(sink.expect("it can be opened"), context);
    let batch: Batch =
        (1..=300).map(|seq| Envelope::measurement(measurement("docs", seq), None, book.ack(seq))).collect();
    running.give(batch).await;
    book.resolved(300).await;
    // Fills what is left.
    drop(std::fs::write(folder.path().join("ballast"), vec![0; 4 << 20]));
    server.set(Mode::Up);
    server.has(300).await;
    pass(5 * SECOND).await;
    running.stop().await.expect("it ends well");
    assert_eq!(server.got(), (1..=300).collect::<Vec<_>>());
}
