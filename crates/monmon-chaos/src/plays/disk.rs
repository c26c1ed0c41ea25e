//! Disks that are full, under the database and the SQLite sink.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    dice::Dice,
    road::{Road, Shape, utf8},
    services::eventually,
    theatre::Theatre,
};

/// A small file system of its own in memory, gone when dropped.
pub(crate) struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// An error that begins with `SKIP` where mounting is not allowed.
    pub(crate) fn mount(folder: PathBuf, size: &str) -> Result<SmallDisk> {
        fs::create_dir_all(&folder)?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0777"), "tmpfs"]).arg(&folder);
        let output = command.output().context("starting mount")?;
        ensure!(output.status.success(), "SKIP: a tmpfs can't be mounted here");
        Ok(SmallDisk { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    /// Takes all the room there is, and proves it.
    pub(crate) fn fill(&self) -> Result<()> {
        let ballast = self.folder.join("ballast");
        let mut command = Command::new("dd");
        command.arg("if=/dev/zero").arg(format!("of={}", ballast.display())).arg("bs=4k");
        let output = command.output().context("starting dd")?;
        ensure!(!output.status.success(), "the disk did not become full");
        ensure!(ballast.exists(), "no room was taken: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Nobody may have a file of it open for writing when that ends.
    pub(crate) fn set_writable(&self, writable: bool) -> Result<()> {
        let mode = if writable { "remount,rw" } else { "remount,ro" };
        let status = Command::new("mount").args(["-o", mode]).arg(&self.folder).status();
        ensure!(status.context("starting mount")?.success(), "the disk can't be mounted anew as {mode}");
        Ok(())
    }

    pub(crate) fn relieve(&self) -> Result<()> {
        fs::remove_file(self.folder.join("ballast")).context("making room")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.folder).status().ok();
    }
}

/// Row 39: 53100.
pub(crate) fn tables_full(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    // The server's user must reach it.
    let place = PathBuf::from(format!("/var/tmp/monmon-chaos-{}", std::process::id()));
    let disk = SmallDisk::mount(place.clone(), "60m")?;
    let played = on_small_tables(theatre, dice, &disk);
    // The server must let go of the folder before it is taken away.
    drop(disk);
    fs::remove_dir(&place).ok();
    played
}

fn on_small_tables(theatre: &Theatre, dice: &mut Dice, disk: &SmallDisk) -> Result<()> {
    let inner = disk.path().join("tables");
    fs::create_dir(&inner)?;
    let owned = Command::new("chown").arg("postgres:").arg(&inner).status().context("starting chown")?;
    ensure!(owned.success(), "SKIP: the folder can't be given to the server's user");
    let asked = crate::database::Database::new(theatre.services.ports.postgres().0, "postgres")?;
    asked.server(&format!("CREATE TABLESPACE small OWNER app LOCATION '{}'", inner.display()))?;
    let played = (|| {
        let shape = Shape { name: "full", database: "TABLESPACE small".to_owned(), ..Shape::default() };
        let mut road = Road::begin(theatre, shape)?;
        for _ in 0..3 {
            disk.fill()?;
            let stuck = stops_growing(&mut road);
            theatre.injected();
            let waited = stuck.and_then(|()| road.wait(dice.millis(500, 3_000)));
            disk.relieve()?;
            waited?;
            road.flows(100)?;
        }
        let settled = road.settle();
        let name = road.database.name.clone();
        drop(road);
        asked.server(&format!("DROP DATABASE {name} WITH (FORCE)"))?;
        settled
    })();
    asked.server("DROP TABLESPACE small").ok();
    played
}

fn stops_growing(road: &mut Road<'_>) -> Result<()> {
    eventually("end of the disk", || {
        road.watch()?;
        let log = road.consumer(0)?.log();
        Ok(log.contains("No space left") || log.contains("could not extend") || log.contains("53100"))
    })
}

/// What a consumer's SQLite file is asked with.
fn sqlite(road: &Road<'_>, sql: &str) -> Result<String> {
    sqlite_of(&road.path("store/monmon.db"), sql)
}

/// What a SQLite file says, a line a row.
pub(crate) fn sqlite_of(file: &Path, sql: &str) -> Result<String> {
    let program = "import sqlite3, sys\n\
                   c = sqlite3.connect(sys.argv[1], timeout=20)\n\
                   print('\\n'.join(str(r[0]) for r in c.execute(sys.argv[2])))";
    let output = Command::new("python3").args(["-c", program]).arg(file).arg(sql).output();
    let output = output.context("SKIP: python3, which asks SQLite here, can't be started")?;
    ensure!(output.status.success(), "sqlite: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn sqlite_rows(road: &Road<'_>) -> Result<u64> {
    sqlite(road, "SELECT count(*) FROM monmon_measurement")?.parse().context("a count")
}

/// Row 43: the SQLite sink behind a topic: another writer, kills, a full disk.
pub(crate) fn sqlite_sink(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let store = r#"sqlite "store" from="events" path="store/monmon.db""#.to_owned();
    let mut road = Road::open(theatre, Shape { name: "sqlite", store, ..Shape::default() })?;
    let disk = SmallDisk::mount(road.path("store"), "40m")?;
    road.announced.push("nothing can be stored; trying again until it can");
    road.start_producer(0)?;
    road.start_consumer(0)?;
    let grows = |road: &mut Road<'_>, more: u64| -> Result<()> {
        let wanted = sqlite_rows(road).unwrap_or(0) + more;
        eventually("rows in the file", || {
            road.watch()?;
            Ok(sqlite_rows(road).is_ok_and(|rows| rows >= wanted))
        })
    };
    grows(&mut road, 50)?;
    for _ in 0..4 {
        std::thread::sleep(dice.millis(0, 700));
        road.consumer(0)?.kill()?;
        theatre.injected();
        road.start_consumer(0)?;
        grows(&mut road, 50)?;
    }
    busy(&road, dice)?;
    grows(&mut road, 50)?;
    disk.fill()?;
    theatre.injected();
    road.consumer(0)?.says("nothing can be stored")?;
    disk.relieve()?;
    grows(&mut road, 100)?;
    account_of_file(&mut road)
}

/// Another process keeps the file locked for some seconds.
fn busy(road: &Road<'_>, dice: &mut Dice) -> Result<()> {
    let seconds = dice.between(2, 5);
    let program = format!(
        "import sqlite3, sys, time\nc = sqlite3.connect(sys.argv[1], timeout=20, isolation_level=None)\n\
         c.execute('BEGIN IMMEDIATE')\ntime.sleep({seconds})\nc.execute('ROLLBACK')"
    );
    let file = utf8(&road.path("store/monmon.db"));
    let status = Command::new("python3").args(["-c", &program, &file]).status()?;
    ensure!(status.success(), "the file was not locked");
    road.theatre.injected();
    Ok(())
}

/// The same account, of a file.
fn account_of_file(road: &mut Road<'_>) -> Result<()> {
    let mut producer = road.producers[0].take().context("the producer runs")?;
    ensure!(producer.terminate()?.success(), "{}", producer.tail());
    road.journal.advance()?;
    let due = road.journal.seen.len() as u64;
    ensure!(due >= 1_000, "only {due} messages");
    eventually("row for each id", || {
        road.watch()?;
        Ok(sqlite_rows(road)? >= due)
    })?;
    let mut consumer = road.consumers[0].take().context("the consumer runs")?;
    ensure!(consumer.terminate()?.success(), "{}", consumer.tail());
    let stored = sqlite(road, "SELECT id FROM monmon_measurement")?;
    let stored: std::collections::BTreeSet<uuid::Uuid> =
        stored.lines().filter_map(|line| uuid::Uuid::parse_str(line).ok()).collect();
    ensure!(stored.iter().eq(road.journal.seen.keys()), "the file's ids are not the topic's");
    ensure!(sqlite(road, "SELECT count(*) FROM monmon_dead_letter")? == "0", "there are dead letters");
    ensure!(sqlite(road, "PRAGMA integrity_check")? == "ok", "the file is damaged");
    // There is no database on this road; what concerns logs and site is the same.
    road.logs_and_site()
}
