//! A spool whose process is killed in the middle of its work: what it acked arrives.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use monmon_stage::{Ack, AckTracker, Envelope};
use monmon_testkit::stages::{measurement, stage_context};
use support::{Mode, Rig, Running, Server, open};

const FOLDER: &str = "MONMON_TEST_SPOOL_KILLED_IN";
const FIRST: &str = "MONMON_TEST_SPOOL_FIRST";
const CHILD: &str = "the_spool_that_is_killed";
/// Acks that the parent waits for before it kills, for each of its tries.
const ACKED: [usize; 8] = [1, 30, 200, 400, 700, 1_500, 2_000, 3_000];
const EACH: u64 = 1_000_000;

/// Tells the parent of each ack as it comes.
struct Tell;

impl AckTracker for Tell {
    fn resolved(&self, token: u64, delivered: bool) {
        assert!(delivered, "the spool takes everything");
        writeln!(std::io::stdout(), "acked {token}.").expect("the parent reads");
    }
}

/// Not a test by itself: the body of the process that the test below starts and kills.
#[tokio::test]
async fn the_spool_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let first =
        std::env::var_os(FIRST).and_then(|first| first.into_string().ok()).expect("the parent sets it");
    let first: u64 = first.parse().expect("a number");
    let server = Server::logging(Mode::Away, &folder.join("got"));
    let context = stage_context("events");
    let options = "after=\"10ms\" replay=20000";
    let sink = open(&folder, options, server.clone(), context.clone()).await.expect("it can be opened");
    let running = Running::new(sink, context);
    let teller = Arc::new(Tell);
    let feeding = async {
        for from in (first..).step_by(25) {
            let batch = (from..from + 25)
                .map(|seq| {
                    Envelope::measurement(measurement("docs", seq), None, Ack::new(teller.clone(), seq))
                })
                .collect();
            running.give(batch).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let serving = async {
        loop {
            for mode in [Mode::Away, Mode::Up, Mode::Breaks] {
                server.set(mode);
                tokio::time::sleep(Duration::from_millis(37)).await;
            }
        }
    };
    tokio::select! {
        () = feeding => {}
        () = serving => {}
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acked_arrives_though_the_process_is_killed() {
    let rig = Rig::new(Mode::Up);
    let mut acked: BTreeSet<u64> = BTreeSet::new();
    let mut spooled_once = false;
    for (round, wanted) in ACKED.into_iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
            .env(FOLDER, rig.folder.path())
            .env(FIRST, (1 + round as u64 * EACH).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts again");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let (mut count, mut killed) = (0, false);
        // The pipe still holds what was told before the kill; a line that was cut has no end.
        while let Some(Ok(line)) = lines.next() {
            let number = |word: &str| line.rsplit_once(word)?.1.strip_suffix('.')?.parse::<u64>().ok();
            if let Some(number) = number("acked ") {
                acked.insert(number);
                count += 1;
            }
            if count >= wanted && !killed {
                child.kill().expect("it runs until it is killed");
                killed = true;
            }
        }
        let status = child.wait().expect("it is gone");
        assert!(killed && !status.success(), "it was killed, not ended: {status}");
        let status = rig.status();
        assert!(status.quarantined.is_empty(), "{status:?}");
        spooled_once |= status.items > 0;
    }
    assert!(spooled_once);
    let running = rig.run("").await;
    while rig.status().items > 0 {
        support::pass(Duration::from_millis(100)).await;
    }
    running.stop().await.expect("it ends well");
    let log = std::fs::read_to_string(rig.folder.path().join("got")).expect("the children wrote it");
    let mut got: BTreeSet<u64> = log.lines().filter_map(|line| line.parse().ok()).collect();
    got.extend(rig.server.got());
    let missing: Vec<&u64> = acked.difference(&got).collect();
    assert!(acked.len() > 5_000, "{}", acked.len());
    assert!(missing.is_empty(), "{} acked, and not there: {missing:?}", acked.len());
}
