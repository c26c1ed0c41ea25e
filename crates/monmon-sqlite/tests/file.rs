//! The file: made, shared, locked, taken away.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;

use monmon_sqlite::{StoreErrorKind, check_states, migrate};
use monmon_stage::{EDGE_PLACES, Emitter, StageError, inlet};
use monmon_testkit::stages::stage_context;
use rusqlite::Connection;
use support::{Rig, open};

#[test]
fn migrating_twice_applies_once() {
    let rig = Rig::new();
    assert_eq!(migrate(&rig.path()).expect("made"), files());
    assert_eq!(migrate(&rig.path()).expect("there"), [""; 0]);
    assert_eq!(usize::try_from(rig.count("monmon_schema_version")), Ok(files().len()));
    let numbers: Vec<String> = files().iter().map(|file| file[..4].to_owned()).collect();
    let all: Vec<String> = (1..=files().len()).map(|number| format!("{number:04}")).collect();
    assert_eq!(numbers, all, "what is to be applied is found by the highest number");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql/sqlite")
}

/// The migrations' files in their order.
fn files() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).expect("the folder");
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().expect("a name");
    let mut files: Vec<_> = entries.map(|entry| name(entry.expect("a file"))).collect();
    files.sort();
    files
}

#[test]
fn a_new_file_is_made_by_many_at_once() {
    const THREADS: usize = 16;
    for _ in 0..4 {
        let rig = Rig::new();
        let start = Barrier::new(THREADS);
        let made = || {
            start.wait();
            migrate(&rig.path())
        };
        let applied: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(made)).collect();
            threads
                .into_iter()
                .flat_map(|one| one.join().expect("no panic").expect("made or waited for"))
                .collect()
        });
        let mut told = applied.clone();
        told.sort();
        assert_eq!(told, files(), "each is told once");
        assert_eq!(usize::try_from(rig.count("monmon_schema_version")), Ok(told.len()));
    }
}

/// Longer than SQLite itself waits for a lock. A migration that comes late finds the file free, and proves less.
#[test]
fn a_new_file_that_another_process_keeps_locked_is_waited_for() {
    let rig = Rig::new();
    let other = rig.read();
    other.execute_batch("BEGIN EXCLUSIVE").expect("the lock is free");
    std::thread::scope(|scope| {
        let migrating = scope.spawn(|| migrate(&rig.path()));
        std::thread::sleep(Duration::from_millis(1_500));
        other.execute_batch("COMMIT").expect("unlocked");
        assert_eq!(migrating.join().expect("no panic").expect("waited for").len(), files().len());
    });
}

/// A file as an older monmon left it, with the view as it was then.
#[test]
fn an_older_file_is_brought_up_to_date() {
    let rig = Rig::new();
    let older = rig.read();
    for file in &files()[..2] {
        let sql = std::fs::read_to_string(folder().join(file)).expect("the file");
        older.execute_batch(&sql).expect("applied");
    }
    older.execute_batch("CREATE VIEW monmon_uptime_day AS SELECT 1 AS check_id").expect("the view");
    let reading = check_states(&rig.path(), jiff::Timestamp::UNIX_EPOCH).expect_err("older");
    assert_eq!(reading.kind(), StoreErrorKind::Schema);
    assert_eq!(migrate(&rig.path()).expect("migrated"), files()[2..]);
    assert_eq!(rig.count("monmon_uptime_day WHERE coverage < 1"), 0);
}

#[tokio::test]
async fn two_writers_and_a_reader() {
    let rig = Rig::new();
    let batches = |name: &'static str, from: u64| {
        (0..20).map(|n| rig.batch(name, from + n * 25..from + (n + 1) * 25)).collect::<Vec<_>>()
    };
    let now = "2026-11-23T12:30:00Z".parse().expect("a time");
    let reading = async {
        let mut seen = 0;
        while rig.book.entries().len() < 1_000 {
            match check_states(&rig.path(), now) {
                Ok(states) => seen = states.len(),
                // Before the tables are made.
                Err(error) => assert!(
                    matches!(
                        error.kind(),
                        StoreErrorKind::Missing | StoreErrorKind::NoTables | StoreErrorKind::Schema
                    ),
                    "{error:?}"
                ),
            }
            tokio::task::yield_now().await;
        }
        seen
    };
    let (one, two, _) = tokio::join!(rig.store(batches("one", 1)), rig.store(batches("two", 1_001)), reading);
    one.ended.expect("stored");
    two.ended.expect("stored");
    assert_eq!(rig.count("monmon_measurement"), 1_000);
    assert_eq!(rig.book.delivered().len(), 1_000);
    assert_eq!(check_states(&rig.path(), now).expect("there").len(), 2);
}

#[tokio::test]
async fn a_locked_file_is_waited_for() {
    let rig = Rig::new();
    migrate(&rig.path()).expect("made");
    let context = stage_context("store");
    let counters = context.counters.clone();
    let sink = rig.open("linger=\"0s\"", context).await.expect("open");
    let other = rig.read();
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
    let (outlet, input) = inlet(EDGE_PLACES, false);
    let out = Emitter::new(vec![outlet]);
    let unlocking = async {
        out.emit(rig.batch("docs", [1])).await.expect("taken");
        while counters.counts().retries == 0 {
            assert_eq!(rig.book.entries(), [], "nothing is acked that is not stored");
            // A pause between two looks: the test ends when the retry is seen, however long that takes.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        other.execute_batch("COMMIT").expect("unlocked");
        drop(out);
    };
    let (ended, ()) = tokio::join!(sink.run(input), unlocking);
    ended.expect("stored at last");
    assert_eq!((rig.book.entries(), rig.count("monmon_measurement")), (vec![(1, true)], 1));
}

/// Between two batches something happens to the file; both are there in the end, or what was is told.
async fn between(rig: &Rig, happens: impl FnOnce()) -> Result<(), StageError> {
    let sink = rig.open("linger=\"0s\"", stage_context("store")).await.expect("open");
    let (outlet, input) = inlet(EDGE_PLACES, false);
    let out = Emitter::new(vec![outlet]);
    let feeding = async {
        out.emit(rig.batch("docs", [1])).await.expect("taken");
        rig.book.resolved(1).await;
        happens();
        out.emit(rig.batch("docs", [2])).await.expect("taken");
        drop(out);
    };
    let (ended, ()) = tokio::join!(sink.run(input), feeding);
    ended
}

#[tokio::test]
async fn a_deleted_file_is_made_again_and_nothing_is_acked_into_the_void() {
    let rig = Rig::new();
    between(&rig, || std::fs::remove_file(rig.path()).expect("deleted")).await.expect("stored");
    assert_eq!(rig.book.delivered(), [1, 2]);
    assert_eq!(rig.count("monmon_measurement WHERE seq = 2"), 1);
}

#[tokio::test]
async fn a_deleted_log_loses_nothing() {
    let rig = Rig::new();
    between(&rig, || std::fs::remove_file(rig.log_path()).expect("deleted")).await.expect("stored");
    assert_eq!(rig.book.delivered(), [1, 2]);
    assert_eq!(rig.count("monmon_measurement"), 2);
}

#[tokio::test]
async fn a_table_that_is_gone_ends_the_run_with_help() {
    let rig = Rig::new();
    let dropping = || rig.read().execute_batch("DROP TABLE monmon_measurement").expect("dropped");
    let error = between(&rig, dropping).await.expect_err("no table");
    assert!(!error.is_transient());
    assert!(error.help_text().is_some_and(|help| help.contains("monmon db migrate")), "{error:?}");
    assert_eq!(rig.book.entries(), [(1, true), (2, false)]);
}

#[tokio::test]
async fn files_that_cannot_be_a_store() {
    let rig = Rig::new();
    std::fs::write(rig.folder().join("text"), "not a database, but long enough to be one\n".repeat(40))
        .expect("written");
    Connection::open(rig.folder().join("newer"))
        .and_then(|newer| {
            newer.execute_batch(
                "CREATE TABLE monmon_schema_version (version); INSERT INTO monmon_schema_version VALUES (99)",
            )
        })
        .expect("made");
    let files = files();
    let last = files.last().and_then(|name| name.split('_').next()).expect("a file").trim_start_matches('0');
    let newer = format!("was made by a newer monmon: its tables are of version 99, this one knows {last}");
    let cases = [
        ("text", "is not a SQLite database"),
        ("newer", &newer),
        ("no/such/folder/db", "cannot be opened"),
        (".", "is a folder, not a database"),
        ("/dev/null", "is not a SQLite database"),
    ];
    for (path, expected) in cases {
        let opened = open(rig.folder(), &format!("path=\"{path}\""), stage_context("store")).await;
        let error = opened.err().expect("refused");
        assert!(error.to_string().contains(expected), "{path}: {error}");
        assert!(!error.is_transient() && error.help_text().is_some(), "{path}: {error:?}");
    }
}

#[test]
fn a_reader_makes_no_file() {
    let rig = Rig::new();
    let error = check_states(&rig.path(), jiff::Timestamp::UNIX_EPOCH).expect_err("nothing is there");
    assert_eq!(error.kind(), StoreErrorKind::Missing);
    assert!(error.help().is_some());
    assert_eq!(std::fs::read_dir(rig.folder()).expect("the folder").count(), 0);
}

#[test]
fn a_reader_is_told_what_is_there_in_place_of_a_store() {
    let rig = Rig::new();
    let at = |name: &str| rig.folder().join(name);
    std::fs::write(at("empty"), "").expect("written");
    std::fs::write(at("text"), "not a database, but long enough to be one\n".repeat(40)).expect("written");
    Connection::open(at("other")).and_then(|other| other.execute_batch("CREATE TABLE t (x)")).expect("made");
    let cases = [
        ("nothing", StoreErrorKind::Missing, "there is no file"),
        ("", StoreErrorKind::Folder, "is a folder, not a database"),
        ("empty", StoreErrorKind::NoTables, "is a database without monmon's tables"),
        ("other", StoreErrorKind::NoTables, "is a database without monmon's tables"),
        ("text", StoreErrorKind::NotADatabase, "is not a SQLite database"),
    ];
    for (name, kind, said) in cases {
        let error = check_states(&at(name), jiff::Timestamp::UNIX_EPOCH).expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().contains(said) && error.help().is_some(), "{name}: {error}");
    }
}
