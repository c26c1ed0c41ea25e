//! A writer that is killed in the middle of its work: what it acked is in the file.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use monmon_stage::{Ack, AckTracker, EDGE_PLACES, Emitter, Envelope, inlet};
use monmon_testkit::stages::{measurement, stage_context};
use rusqlite::Connection;
use support::{Rig, open};

const FOLDER: &str = "MONMON_TEST_KILLED_IN";
const CHILD: &str = "the_writer_that_is_killed";
/// Acks that the parent waits for before it kills, for each of its tries.
const ACKED: [usize; 4] = [1, 400, 1_500, 3_000];

/// Tells the parent of each ack as it comes.
struct Teller;

impl AckTracker for Teller {
    fn resolved(&self, token: u64, delivered: bool) {
        assert!(delivered, "the file takes everything");
        writeln!(std::io::stdout(), "acked {token}").expect("the parent reads");
    }
}

/// Not a test by itself: the body of the process that the test below starts and kills.
#[tokio::test]
async fn the_writer_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let options = "path=\"monmon.db\" batch=50 linger=\"0s\"";
    let sink = open(&folder, options, stage_context("store")).await.expect("the file can be opened");
    let (outlet, input) = inlet(EDGE_PLACES, false);
    let out = Emitter::new(vec![outlet]);
    let teller = Arc::new(Teller);
    let feeding = async {
        for first in (0u64..).step_by(25) {
            let batch = (first..first + 25)
                .map(|seq| {
                    Envelope::measurement(measurement("docs", seq), None, Ack::new(teller.clone(), seq))
                })
                .collect();
            out.emit(batch).await.expect("the sink goes on");
        }
    };
    let (ended, ()) = tokio::join!(sink.run(input), feeding);
    ended.expect("it never ends by itself");
}

#[test]
fn what_was_acked_survives_the_kill() {
    let rig = Rig::new();
    for wanted in ACKED {
        let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
            .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
            .env(FOLDER, rig.folder())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts again");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut acked: Vec<u64> = Vec::new();
        let mut killed = false;
        // The pipe still holds what was acked before the kill, and its last line may be cut.
        while let Some(Ok(line)) = lines.next() {
            acked.extend(line.rsplit_once("acked ").and_then(|(_, token)| token.parse::<u64>().ok()));
            if acked.len() >= wanted && !killed {
                child.kill().expect("it runs until it is killed");
                killed = true;
            }
        }
        let status = child.wait().expect("it is gone");
        assert!(killed && !status.success(), "it was killed, not ended: {status}");
        assert!(acked.len() >= wanted);
        // A number that was cut short is a number of an earlier ack.
        check(&rig, &acked);
    }
}

fn check(rig: &Rig, acked: &[u64]) {
    let file = Connection::open(rig.path()).expect("the file is whole");
    let verdict: String =
        file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is checked");
    assert_eq!(verdict, "ok");
    let mut stored = file.prepare("SELECT count(*) FROM monmon_measurement WHERE seq = ?1").expect("a query");
    for token in acked {
        let rows: i64 = stored.query_row([token.cast_signed()], |row| row.get(0)).expect("it runs");
        assert_eq!(rows, 1, "{token} was acked");
    }
}
