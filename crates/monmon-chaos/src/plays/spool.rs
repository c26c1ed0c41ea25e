//! The producer's queue on disk: full, failing, torn, deleted, claimed twice; and what is in it when its process is killed.

use std::{
    collections::BTreeSet, fs, os::unix::fs::FileExt as _, path::PathBuf, process::Command, time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use monmon_testkit::ProxyMode;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    dice::Dice,
    plays::{
        consumer::{can_trace, traced_at},
        disk::{SmallDisk, sqlite_of},
    },
    road::{Audit, Manner, Road, Shape},
    services::eventually,
    theatre::{Between, Theatre},
};

const LINK: Between = Between::ProducersAndKafka;
/// Where it lies, from the road's folder.
const FILE: &str = "disk/events.spool";
/// What comes within the time that the sink is given, before anything of it is on the disk, with as much again for a machine
/// that is busy.
const NOT_YET_SPOOLED_MAX: u64 = 1_000;
/// Lines of trouble that an outage brings about where there is a spool.
const ANNOUNCED: &[&str] = &[
    "the sink does not deliver in time",
    "the sink could not go on; it is opened again",
    "nothing can be spooled; trying again until it can",
];

fn shape(name: &'static str) -> Shape {
    let publish = format!(
        r#"request-timeout "5s"; property "socket.timeout.ms" "6000"
        spool "{FILE}" max="256MiB" after="300ms""#
    );
    Shape { name, publish, checks: 80, ..Shape::default() }
}

/// A road whose producer has a spool, in a folder that is there.
fn open<'a>(theatre: &'a Theatre, shape: Shape) -> Result<Road<'a>> {
    let mut road = Road::open(theatre, shape)?;
    fs::create_dir_all(road.path("disk"))?;
    road.announced.extend(ANNOUNCED);
    road.is_in_order = true;
    Ok(road)
}

fn file(road: &Road<'_>) -> PathBuf {
    road.path(FILE)
}

/// What monmon says of the spool.
fn status(road: &Road<'_>) -> Result<Value> {
    let mut command = Command::new(&road.theatre.setting.monmon);
    let output = command.args(["status", "--format", "json", "--spool"]).arg(file(road)).output()?;
    ensure!(output.status.success(), "status: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the status is JSON")
}

/// Asked by a process each time, so not too often.
fn items(road: &Road<'_>) -> Result<u64> {
    std::thread::sleep(Duration::from_millis(200));
    status(road)?["items"].as_u64().context("the status counts items")
}

/// Kafka goes, and so many items come to lie on the disk.
fn fill(road: &mut Road<'_>, more: u64) -> Result<u64> {
    let before = items(road)?;
    road.theatre.disturb(LINK, ProxyMode::Refuse)?;
    let mut now = before;
    eventually("items in the spool", || {
        road.watch()?;
        now = items(road)?;
        Ok(now >= before + more)
    })?;
    Ok(now)
}

/// Kafka is back, and nothing is left on the disk.
fn drain(road: &mut Road<'_>) -> Result<()> {
    road.theatre.heal()?;
    eventually("end of the spool", || {
        road.watch()?;
        Ok(items(road)? == 0)
    })?;
    road.flows(100)
}

/// The measurements in a spool that nobody has open, asked past monmon.
fn ids(road: &Road<'_>) -> Result<BTreeSet<Uuid>> {
    let body = "CAST(body AS TEXT)";
    let sql = format!(
        "SELECT json_extract({body}, '$.id') FROM monmon_spool_item \
         WHERE json_extract({body}, '$.type') = 'measurement'"
    );
    let told = sqlite_of(&file(road), &sql)?;
    Ok(told.lines().filter_map(|line| line.parse().ok()).collect())
}

fn occurrences(road: &Road<'_>, text: &str) -> usize {
    road.file("producer0.log").matches(text).count()
}

/// Until the producer's log has said it once more than `before` times.
fn says_again(road: &mut Road<'_>, text: &str, before: usize) -> Result<()> {
    eventually(text, || {
        road.watch()?;
        Ok(occurrences(road, text) > before)
    })
}

/// Row 1, with a spool: what lies in it when the process is killed goes out first, and none of it is lost.
pub(crate) fn killed(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = open(theatre, shape("spooled"))?;
    road.start_all()?;
    for _ in 0..3 {
        theatre.disturb(LINK, ProxyMode::Refuse)?;
        // By the site's own count, so that a spool that forgets is found by what is missing in the end.
        let wanted = road.site.count() + dice.between(2_500, 3_500);
        eventually("checks while Kafka is away", || {
            road.watch()?;
            Ok(road.site.count() >= wanted)
        })?;
        let lost_max = road.unmeasured_max + NOT_YET_SPOOLED_MAX;
        road.kill_producer(0)?;
        road.unmeasured_max = lost_max;
        theatre.injected();
        std::thread::sleep(dice.millis(0, 2_000));
        road.start_producer(0)?;
        road.producer(0)?.says("running")?;
        road.restarted();
        drain(&mut road)?;
    }
    road.settle()
}

/// Row 12: there is no room on the disk, again and again. What is on it stays; what comes waits, and when no more can wait
/// slots are told as unknown.
pub(crate) fn disk_full(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    // Enough of them that memory is full before long.
    let mut road = open(theatre, Shape { checks: 120, ..shape("spooldisk") })?;
    let disk = SmallDisk::mount(road.path("disk"), "64m")?;
    road.start_all()?;
    for _ in 0..2 {
        fill(&mut road, 300)?;
        let told = occurrences(&road, "the disk of the spool");
        let overloads = occurrences(&road, "more checks are due");
        disk.fill()?;
        theatre.injected();
        let before = items(&road)?;
        let felt = says_again(&mut road, "the disk of the spool", told)
            .and_then(|()| says_again(&mut road, "more checks are due", overloads))
            .and_then(|()| road.wait(dice.millis(0, 2_000)));
        let after = items(&road);
        disk.relieve()?;
        felt?;
        ensure!(after? >= before, "rows are gone that were on the full disk");
        eventually("more items in the spool", || {
            road.watch()?;
            Ok(items(&road)? > before + 500)
        })?;
        drain(&mut road)?;
    }
    let told = "SELECT count(*) FROM monmon_measurement WHERE error_kind = 'overload'";
    ensure!(road.database.count(told)? > 0, "no slot tells that there was no room");
    road.settle()
}

/// Row 12: the disk fails a sync now and then, and none that failed is taken for one that did not.
pub(crate) fn syncs_fail(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    ensure!(can_trace(), "SKIP: ptrace is not allowed here, or strace is not installed");
    let mut road = open(theatre, shape("spoolsync"))?;
    road.start_all()?;
    for _ in 0..2 {
        let mut producer = road.producers[0].take().context("the producer runs")?;
        ensure!(producer.terminate()?.success(), "{}", producer.tail());
        let failed = occurrences(&road, "the disk of the spool");
        // A transaction has about four: some fail, and most do not.
        let when = format!("{}+{}", dice.between(12, 30), dice.between(25, 45));
        road.start_producer_so(0, &traced_at("fsync,fdatasync", "error=EIO", &when))?;
        road.producer(0)?.says("running")?;
        fill(&mut road, 500)?;
        says_again(&mut road, "the disk of the spool", failed)?;
        theatre.injected();
        drain(&mut road)?;
        let mut producer = road.producers[0].take().context("the producer runs")?;
        ensure!(producer.terminate()?.success(), "{}", producer.tail());
        road.start_producer(0)?;
        road.flows(60)?;
    }
    road.settle()
}

/// What is done to a file that nobody has open.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// Some bits are other ones.
    Flipped,
    /// The end is missing.
    Cut,
    /// A page that was being written is half of another.
    Torn,
}

fn damage(road: &Road<'_>, how: Damage, dice: &mut Dice) -> Result<()> {
    const PAGE: u64 = 4_096;
    let path = file(road);
    let open = fs::OpenOptions::new().read(true).write(true).open(&path).context("opening the spool")?;
    let pages = open.metadata()?.len() / PAGE;
    ensure!(pages > 30, "the spool has {pages} pages only");
    match how {
        Damage::Flipped => {
            for _ in 0..5 {
                let at = dice.between(10 * PAGE, pages * PAGE - 1);
                let mut byte = [0];
                open.read_exact_at(&mut byte, at)?;
                open.write_all_at(&[byte[0] ^ 0x10], at)?;
            }
        }
        Damage::Cut => open.set_len(dice.between(20, pages - 5) * PAGE + 100)?,
        Damage::Torn => {
            for _ in 0..3 {
                let at = dice.between(10, pages - 1) * PAGE;
                open.write_all_at(&[0xa5; 2_048], at)?;
            }
        }
    }
    Ok(())
}

/// Row 13: what can be read of a damaged file goes on, what can't is counted, and the file is put aside.
pub(crate) fn damaged(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = open(theatre, shape("damaged"))?;
    road.announced.push("the spool was damaged");
    // A page that is read for what it once held has rows in it that were delivered before.
    road.is_in_order = false;
    road.start_all()?;
    for how in [Damage::Flipped, Damage::Cut, Damage::Torn] {
        fill(&mut road, 600)?;
        let mut producer = road.producers[0].take().context("the producer runs")?;
        ensure!(producer.terminate()?.success(), "{}", producer.tail());
        let before = ids(&road)?;
        ensure!(before.len() > 500, "only {} measurements are in the spool", before.len());
        damage(&road, how, dice)?;
        theatre.injected();
        let known = put_aside(&road);
        road.start_producer(0)?;
        // What is wrong in a row shows when the row is read, which is when somebody takes it.
        theatre.heal()?;
        road.producer(0)?.says("the spool was damaged")?;
        ensure!(put_aside(&road) == known + 1, "the damaged file was not put aside");
        let all = status(&road)?;
        let newest = all["quarantined"].as_array().and_then(|all| all.last());
        let lost = newest.context("the status names the damaged file")?["lost"].as_u64();
        drain(&mut road)?;
        road.journal.advance()?;
        let missing = before.iter().filter(|id| !road.journal.seen.contains_key(*id)).count() as u64;
        // Receipts lie among the measurements, and may be among the lost.
        ensure!(
            lost.is_none_or(|lost| (missing..=missing + 10).contains(&lost)),
            "{how:?}: {missing} of {} are missing, and {lost:?} are told",
            before.len()
        );
        let is_little = missing < before.len() as u64 / 2 || matches!(how, Damage::Cut);
        ensure!(is_little, "{how:?}: {missing} of {} are missing", before.len());
        road.unmeasured_max += missing;
        if missing > 0 {
            road.rows_were_taken = true;
            road.audit = Audit::Broken;
        }
    }
    road.settle()
}

/// How many damaged files lie beside the spool.
fn put_aside(road: &Road<'_>) -> usize {
    let entries = fs::read_dir(road.path("disk")).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    entries.map(name).filter(|name| name.contains(".damaged-") && !name.ends_with("-journal")).count()
}

/// Row 13: deleted while it is open, and read-only at the start.
pub(crate) fn deleted(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = open(theatre, shape("deleted"))?;
    road.announced.extend(["the spool was deleted while in use", "may not be written", "stage failed"]);
    let disk = SmallDisk::mount(road.path("disk"), "128m")?;
    road.start_all()?;
    for _ in 0..2 {
        fill(&mut road, 400)?;
        let rescued = occurrences(&road, "the spool was deleted while in use");
        fs::remove_file(file(&road))?;
        theatre.injected();
        says_again(&mut road, "the spool was deleted while in use", rescued)?;
        road.wait(dice.millis(0, 1_000))?;
        drain(&mut road)?;
    }
    let mut producer = road.producers[0].take().context("the producer runs")?;
    ensure!(producer.terminate()?.success(), "{}", producer.tail());
    disk.set_writable(false)?;
    road.start_producer(0)?;
    let mut producer = road.producers[0].take().context("the producer runs")?;
    let status = producer.end();
    disk.set_writable(true)?;
    let status = status?;
    theatre.injected();
    ensure!(status.code() == Some(2), "it ended with {status}:\n{}", producer.tail());
    ensure!(producer.log().contains("may not be written"), "{}", producer.tail());
    road.start_producer(0)?;
    road.flows(100)?;
    road.settle()
}

/// Row 14: a second process is refused and told who has the file; when that one is gone, however it went, it is free.
pub(crate) fn second_process(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = open(theatre, shape("claimed"))?;
    road.announced.extend(["is in use by the process", "stage failed"]);
    road.start_all()?;
    for _ in 0..3 {
        fill(&mut road, 200)?;
        let holder = road.producer(0)?.id();
        let seen = road.page_hits();
        let first = road.producers[0].take().context("the producer runs")?;
        // The same pipeline with the same file, by another prober.
        let second = Manner {
            environment: vec![("MONMON_STATE_DIR".to_owned(), crate::road::utf8(&road.path("second")))],
            ..Manner::default()
        };
        road.start_producer_so(0, &second)?;
        let mut second = road.producers[0].replace(first).context("the second was started")?;
        let status = second.end()?;
        theatre.injected();
        ensure!(status.code() == Some(2), "it ended with {status}:\n{}", second.tail());
        let told = format!("in use by the process {holder}");
        ensure!(second.log().contains(&told), "it does not say `{told}`:\n{}", second.tail());
        ensure!(road.page_hits() != seen, "the first goes on");
        road.wait(dice.millis(0, 1_000))?;
        road.kill_producer(0)?;
        road.start_producer(0)?;
        road.producer(0)?.says("running")?;
        road.restarted();
        drain(&mut road)?;
    }
    road.settle()
}
