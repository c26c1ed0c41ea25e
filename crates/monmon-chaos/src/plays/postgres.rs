//! What strikes the database, or stands between it and the consumers.

use std::time::Duration;

use anyhow::{Result, ensure};
use monmon_testkit::{ProxyMode, Way};

use crate::{
    dice::Dice,
    road::{Audit, Road, Shape},
    services::eventually,
    theatre::{Between, Theatre},
};

const LINK: Between = Between::ConsumersAndPostgres;
/// Our sessions, as the server sees them.
const OURS: &str = "usename = 'app'";

fn down_and_up(road: &mut Road<'_>, dice: &mut Dice, how: &str) -> Result<()> {
    let services = &road.theatre.services;
    services.postgres(&[how])?;
    ensure!(road.database.server("SELECT 1").is_err(), "the database is still there");
    road.theatre.injected();
    std::thread::sleep(dice.millis(0, 2_500));
    services.postgres(&["start"]).map(drop)
}

/// Row 34: kill -9 of all its processes.
pub(crate) fn killed(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    down_and_up(road, dice, "kill")
}

/// Row 34: an immediate stop.
pub(crate) fn crashed(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    down_and_up(road, dice, "crash")
}

/// Row 34: a restart in order.
pub(crate) fn restarted(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    down_and_up(road, dice, "stop")
}

/// Row 34: kill -9 of one backend of ours, whereupon the server drops all sessions and recovers.
pub(crate) fn backend_killed(road: &mut Road<'_>, _dice: &mut Dice) -> Result<()> {
    let sql = format!("SELECT pid FROM pg_stat_activity WHERE {OURS} LIMIT 1");
    let mut pid = None;
    eventually("backend of ours", || {
        let rows = road.database.server(&sql)?;
        pid = rows.first().and_then(|row| row[0].as_ref()?.parse::<u32>().ok());
        Ok(pid.is_some())
    })?;
    crate::process::signal_to(pid.unwrap_or(0), rustix::process::Signal::KILL)?;
    road.theatre.injected();
    eventually("database that answers", || Ok(road.database.server("SELECT 1").is_ok()))
}

/// Stopped as by a hypervisor.
pub(crate) fn paused(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let services = &road.theatre.services;
    services.postgres(&["pause"])?;
    road.theatre.injected();
    let waited = road.wait(dice.millis(1_000, 6_000));
    road.theatre.services.postgres(&["resume"])?;
    waited
}

/// Ends all sessions of ours, and proves that there were some.
fn terminate_all(road: &Road<'_>) -> Result<()> {
    let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}");
    eventually("session of ours", || Ok(!road.database.server(&sql)?.is_empty()))
}

fn changed(road: &mut Road<'_>, dice: &mut Dice, to: &str, back: &str) -> Result<()> {
    road.database.server(to)?;
    terminate_all(road)?;
    road.theatre.injected();
    let waited = road.wait(dice.millis(1_500, 4_000));
    road.database.server(back)?;
    terminate_all(road).ok();
    waited
}

/// Row 35: 25006.
pub(crate) fn read_only(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let name = road.database.name.clone();
    let before = road.stored()?;
    road.database.server(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on"))?;
    terminate_all(road)?;
    road.theatre.injected();
    let waited = road.wait(dice.millis(1_500, 4_000));
    let held = road.stored()?;
    road.database.server(&format!("ALTER DATABASE {name} RESET default_transaction_read_only"))?;
    // A session that began in between keeps what it began with.
    let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}");
    road.database.server(&sql)?;
    waited?;
    ensure!(held <= before + 5_000, "rows went into a database that was read only");
    Ok(())
}

/// Row 35: 53300.
pub(crate) fn too_many_connections(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    changed(road, dice, "ALTER ROLE app CONNECTION LIMIT 0", "ALTER ROLE app CONNECTION LIMIT -1")
}

/// Row 35: 28P01.
pub(crate) fn password_revoked(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    changed(road, dice, "ALTER ROLE app PASSWORD 'another'", "ALTER ROLE app PASSWORD 'secret'")
}

/// Row 35: the role may not log in at all (28000).
pub(crate) fn login_revoked(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    changed(road, dice, "ALTER ROLE app NOLOGIN", "ALTER ROLE app LOGIN")
}

/// Row 36: 55P03, as by an ALTER TABLE that is held.
pub(crate) fn table_locked(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let session = road.database.session()?;
    // Those that each batch goes into: what others have is written once and known from then on.
    let table = dice.pick(&["monmon_measurement", "monmon_match"]);
    session.run(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))?;
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    eventually("session that waits for the lock", || Ok(road.database.count(waiting)? > 0))?;
    road.theatre.injected();
    std::thread::sleep(dice.millis(500, 12_000));
    session.run("ROLLBACK")
}

/// Row 36: 40P01, with the writer as the victim.
pub(crate) fn deadlock(road: &mut Road<'_>, _dice: &mut Dice) -> Result<()> {
    let sql = "SELECT sum(deadlocks) FROM pg_stat_database";
    let before = road.database.count(sql)?;
    for _ in 0..10 {
        let session = road.database.session()?;
        session
            .run("SET deadlock_timeout = '1h'; BEGIN; LOCK TABLE monmon_match IN ACCESS EXCLUSIVE MODE")?;
        let waits = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
                     WHERE NOT granted AND relname LIKE 'monmon_match%'";
        eventually("writer that waits", || Ok(road.database.count(waits)? > 0))?;
        // It is let go when the writer was made the victim.
        session.run("LOCK TABLE monmon_measurement IN ACCESS EXCLUSIVE MODE; ROLLBACK")?;
        std::thread::sleep(Duration::from_millis(300));
        if road.database.count(sql)? > before {
            road.theatre.injected();
            return Ok(());
        }
    }
    anyhow::bail!("no deadlock came about")
}

/// Row 36: 57014 and 57P01, again and again.
pub(crate) fn cancelled(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let how = dice.pick(&["pg_cancel_backend", "pg_terminate_backend"]);
    let sql = format!("SELECT {how}(pid) FROM pg_stat_activity WHERE {OURS} AND state <> 'idle'");
    let mut struck = 0;
    eventually("statement of ours", || {
        struck += road.database.server(&sql)?.len();
        Ok(struck >= 5)
    })?;
    road.theatre.injected();
    Ok(())
}

/// Row 36: 40001, as far as it comes about.
pub(crate) fn serializable(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let to = "ALTER ROLE app SET default_transaction_isolation = 'serializable'";
    changed(road, dice, to, "ALTER ROLE app RESET default_transaction_isolation")
}

/// Row 40: at any byte of the exchange.
pub(crate) fn cut(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let before = road.theatre.counters(LINK).reset;
    let way = dice.pick(&[Way::ToServer, Way::ToClient]);
    let bytes = dice.between(1, if way == Way::ToServer { 60_000 } else { 600 });
    road.theatre.disturb(LINK, ProxyMode::CutAfter { bytes, way })?;
    eventually("connection that was cut", || Ok(road.theatre.counters(LINK).reset > before))?;
    std::thread::sleep(dice.millis(0, 500));
    road.theatre.injected();
    road.theatre.heal()
}

/// Row 40: no answer, or a trickle.
pub(crate) fn silent(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let mode = dice.pick(&[
        ProxyMode::Blackhole,
        ProxyMode::Throttle { bytes_per_second: 2_048 },
        ProxyMode::Delay(Duration::from_millis(300)),
        ProxyMode::Refuse,
        ProxyMode::Reset,
    ]);
    road.theatre.disturb(LINK, mode)?;
    road.theatre.injected();
    road.wait(dice.millis(1_000, 6_000))?;
    road.theatre.heal()
}

/// Row 38: today's partition goes, with what is in it.
pub(crate) fn partition_gone(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "partition", ..Shape::default() })?;
    for round in 0..3 {
        road.reckon()?;
        let newest = "SELECT tableoid::regclass::text FROM monmon_measurement ORDER BY id DESC LIMIT 1";
        let rows = road.database.query(newest)?;
        let partition = rows.first().and_then(|row| row[0].clone()).unwrap_or_default();
        let aside = format!("aside_{round}");
        road.database.query(&format!(
            "BEGIN; ALTER TABLE monmon_measurement DETACH PARTITION {partition}; \
             ALTER TABLE {partition} RENAME TO {aside}; COMMIT"
        ))?;
        theatre.injected();
        road.database.tables.push(aside);
        road.rows_were_taken = true;
        road.audit = Audit::Unproven;
        road.flows(100)?;
    }
    road.settle()
}

/// Row 37: what only people can mend ends the run with help, and nothing is committed.
pub(crate) fn needs_people(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "people", ..Shape::default() })?;
    road.announced.push("stage failed");
    let faults = [
        ("ALTER TABLE monmon_match RENAME TO hidden", "ALTER TABLE hidden RENAME TO monmon_match"),
        ("REVOKE INSERT ON monmon_measurement FROM app", "GRANT INSERT ON monmon_measurement TO app"),
        (
            "ALTER TABLE monmon_boot RENAME COLUMN prober_id TO whose",
            "ALTER TABLE monmon_boot RENAME COLUMN whose TO prober_id",
        ),
    ];
    for (fault, mend) in faults {
        road.flows(50)?;
        road.database.query(fault)?;
        theatre.injected();
        // A boot that is stored is not written again: the next one is.
        let mut producer = road.producers[0].take().expect("the producer runs");
        ensure!(producer.terminate()?.success(), "{}", producer.tail());
        road.start_producer(0)?;
        let mut consumer = road.consumers[0].take().expect("the consumer runs");
        let status = consumer.end()?;
        ensure!(status.code() == Some(2), "{fault}: it ended with {status}:\n{}", consumer.tail());
        road.database.query(mend)?;
        road.start_consumer(0)?;
    }
    road.flows(100)?;
    road.settle()
}

/// Row 42: the schema is brought up to date under load, by several at once, and rollups are made, one of them killed.
pub(crate) fn maintained(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let url = road.theatre.postgres_url(&road.database.name);
    let start = |what: &str| {
        let mut command = std::process::Command::new(&road.theatre.setting.monmon);
        command.args(["db", what, "--store", &url]).stdout(std::process::Stdio::null()).spawn()
    };
    let running: Vec<_> = ["migrate", "migrate", "maintain", "maintain"].into_iter().map(start).collect();
    let mut killed = start("maintain")?;
    std::thread::sleep(dice.millis(50, 400));
    killed.kill()?;
    killed.wait()?;
    for child in running {
        let status = child?.wait()?;
        ensure!(status.success(), "a command of `monmon db` ended with {status}");
    }
    road.theatre.injected();
    Ok(())
}
