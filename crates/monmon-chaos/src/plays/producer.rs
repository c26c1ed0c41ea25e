//! What strikes producers, or stands between them and Kafka.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jiff::Timestamp;
use monmon_testkit::{Answer, ProxyMode, Way};
use rustix::process::Signal;

use crate::{
    dice::Dice,
    plays::consumer::{can_trace, traced},
    process::state_of,
    road::{Manner, Road, Shape},
    services::eventually,
    theatre::{Between, Theatre},
};

const LINK: Between = Between::ProducersAndKafka;

fn any(road: &Road<'_>, dice: &mut Dice) -> usize {
    dice.index(road.producers.len())
}

const TRIES: u32 = 10;
/// Calls by which a producer sends and keeps things, and how many of each one of its threads makes within some seconds.
const CALLS: &[(&str, u64)] = &[
    ("sendmsg", 15),
    ("recvmsg", 15),
    ("writev", 400),
    ("write", 200),
    ("connect", 300),
    ("openat", 40),
    ("rename", 1),
    ("utimensat", 1),
];

/// Row 1: at the Nth of the calls by which a batch leaves the process or is written down.
pub(crate) fn killed_at_calls(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    ensure!(can_trace(), "SKIP: ptrace is not allowed here, or strace is not installed");
    let mut road = Road::begin(theatre, Shape { name: "writes", checks: 40, ..Shape::default() })?;
    let mut kills = 0;
    for _ in 0..TRIES {
        let mut producer = road.producers[0].take().expect("the producer runs");
        ensure!(producer.terminate()?.success(), "{}", producer.tail());
        let (call, most) = dice.pick(CALLS);
        let when = dice.between(1, most);
        road.start_producer_so(0, &traced(call, "signal=SIGKILL", when))?;
        let begun = Instant::now();
        while road.producer(0)?.is_running() && begun.elapsed() < Duration::from_secs(8) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if road.producer(0)?.is_running() {
            // So many calls of this kind were not made: no fault, and none is counted.
            road.kill_producer(0)?;
        } else {
            theatre.injected();
            kills += 1;
            road.lost_producer(0, Timestamp::now());
        }
        road.start_producer(0)?;
        road.flows(40)?;
        road.restarted();
    }
    ensure!(kills >= TRIES / 3, "of {TRIES} tries {kills} came to a kill");
    road.settle()
}

/// Row 2.
pub(crate) fn killed(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let at = any(road, dice);
    std::thread::sleep(dice.millis(0, 700));
    road.kill_producer(at)?;
    road.theatre.injected();
    std::thread::sleep(dice.millis(0, 1_500));
    road.start_producer(at)?;
    road.producer(at)?.says("running")?;
    road.restarted();
    Ok(())
}

/// Row 2, with many checks in flight: the site takes its time.
pub(crate) fn killed_in_flight(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let shape = Shape { name: "inflight", checks: 100, interval: "500ms", ..Shape::default() };
    let mut road = Road::begin(theatre, shape)?;
    for _ in 0..3 {
        road.site
            .set_below("/", Answer::html("A page to watch", 2_000).delay_head(Duration::from_millis(900)));
        let seen = road.site.count();
        eventually("checks in flight", || Ok(road.site.count() >= seen + 100))?;
        killed(&mut road, dice)?;
        road.site.set_below("/", Answer::html("A page to watch", 2_000));
        road.flows(100)?;
    }
    let told =
        road.database.count("SELECT count(*) FROM monmon_measurement WHERE error_kind = 'not_running'")?;
    // A kill shorter than a heartbeat ago leaves nothing to tell; the account of slots says whether any is silent.
    ensure!(told <= 300, "{told} rows tell of three kills");
    road.settle()
}

pub(crate) const OVERSLEPT: &str = "SELECT count(*) FROM monmon_measurement WHERE error_kind = 'overslept'";

/// Row 3.
pub(crate) fn stopped(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let at = any(road, dice);
    let before = road.database.count(OVERSLEPT)?;
    freeze(road, at, dice.millis(2_000, 6_000))?;
    eventually("slot that was overslept", || {
        Ok(road.database.count(OVERSLEPT).is_ok_and(|count| count > before))
    })
}

fn freeze(road: &mut Road<'_>, at: usize, pause: Duration) -> Result<()> {
    let id = road.producer(at)?.id();
    road.producer(at)?.signal(Signal::STOP)?;
    eventually("stopped process", || Ok(state_of(id) == Some('T')))?;
    road.theatre.injected();
    std::thread::sleep(pause);
    road.producer(at)?.signal(Signal::CONT)
}

/// Row 3, with checks under way for longer than their timeout: what passes while nobody runs is not the site's fault.
pub(crate) fn overslept_timeouts(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let shape = Shape { name: "overslept", timeout: "2s", ..Shape::default() };
    let mut road = Road::begin(theatre, shape)?;
    road.site.set_below("/", Answer::html("A page to watch", 2_000).delay_head(Duration::from_millis(300)));
    for _ in 0..3 {
        road.flows(60)?;
        freeze(&mut road, 0, dice.millis(3_000, 5_000))?;
        road.flows(60)?;
    }
    let slept = road.database.count(OVERSLEPT)?;
    ensure!(slept > 0, "no slot was overslept");
    road.settle()
}

/// Row 4.
pub(crate) fn terminated(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let at = any(road, dice);
    let mut producer = road.producers[at].take().expect("the producer runs");
    let status = producer.terminate()?;
    ensure!(status.success(), "it ended with {status}:\n{}", producer.tail());
    road.theatre.injected();
    std::thread::sleep(dice.millis(0, 1_000));
    road.start_producer(at)
}

/// Row 4: a second signal while the first end is held up.
pub(crate) fn terminated_twice(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "twice", ..Shape::default() })?;
    for _ in 0..2 {
        theatre.disturb(LINK, ProxyMode::Blackhole)?;
        std::thread::sleep(Duration::from_millis(500));
        let killed = Timestamp::now();
        let mut producer = road.producers[0].take().expect("the producer runs");
        producer.signal(Signal::TERM)?;
        std::thread::sleep(dice.millis(300, 1_500));
        ensure!(producer.is_running(), "the flush was not held up:\n{}", producer.tail());
        producer.signal(Signal::TERM)?;
        let status = producer.end()?;
        ensure!(status.code() == Some(130), "it ended with {status}:\n{}", producer.tail());
        theatre.injected();
        theatre.heal()?;
        road.lost_producer(0, killed);
        road.start_producer(0)?;
        road.flows(100)?;
        road.restarted();
    }
    road.settle()
}

/// Row 5, in the middle of a run.
pub(crate) fn kafka_refuses(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    // With the fault before this one still healing there may be no connection to reset.
    let so_far = road.theatre.counters(LINK).bytes_to_server;
    eventually("traffic to Kafka", || Ok(road.theatre.counters(LINK).bytes_to_server > so_far))?;
    let before = road.theatre.counters(LINK);
    let mode = dice.pick(&[ProxyMode::Refuse, ProxyMode::Reset]);
    disturbed(road, mode, dice.millis(1_000, 4_000))?;
    let after = road.theatre.counters(LINK);
    ensure!(after.reset > before.reset, "no connection was reset");
    Ok(())
}

/// Row 5, at the start.
pub(crate) fn kafka_away_at_start(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = Road::open(theatre, Shape { name: "start", ..Shape::default() })?;
    theatre.disturb(LINK, ProxyMode::Refuse)?;
    road.start_producer(0)?;
    theatre.injected();
    eventually("checks while Kafka is away", || {
        road.watch()?;
        Ok(road.site.count() > 200)
    })?;
    std::thread::sleep(dice.millis(500, 2_000));
    road.journal.advance()?;
    ensure!(road.journal.messages == 0, "something reached Kafka");
    theatre.heal()?;
    road.start_consumer(0)?;
    road.flows(200)?;
    road.settle()
}

/// Row 6: no answer, no end, no reset.
pub(crate) fn kafka_silent(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let before = road.site.count();
    disturbed(road, ProxyMode::Blackhole, dice.millis(1_000, 8_000))?;
    ensure!(road.site.count() > before, "checks did not go on");
    Ok(())
}

/// Row 6: a trickle.
pub(crate) fn kafka_slow(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let before = road.site.count();
    disturbed(
        road,
        ProxyMode::Throttle { bytes_per_second: dice.between(1, 8) * 1_024 },
        dice.millis(2_000, 5_000),
    )?;
    ensure!(road.site.count() > before, "checks did not go on");
    Ok(())
}

/// Row 6: everything arrives late.
pub(crate) fn kafka_late(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    disturbed(road, ProxyMode::Delay(dice.millis(50, 400)), dice.millis(1_000, 3_000))
}

/// Row 7: what the broker has appended is told to nobody.
pub(crate) fn answers_lost(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let before = road.theatre.counters(LINK).reset;
    let bytes = dice.between(1, 400);
    road.theatre.disturb(LINK, ProxyMode::CutAfter { bytes, way: Way::ToClient })?;
    eventually("connection that was cut", || Ok(road.theatre.counters(LINK).reset > before))?;
    std::thread::sleep(dice.millis(0, 1_500));
    road.theatre.injected();
    road.theatre.heal()
}

/// Row 7, the other way: a request is cut in its middle.
pub(crate) fn requests_cut(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let before = road.theatre.counters(LINK).reset;
    let bytes = dice.between(1, 30_000);
    road.theatre.disturb(LINK, ProxyMode::CutAfter { bytes, way: Way::ToServer })?;
    eventually("connection that was cut", || Ok(road.theatre.counters(LINK).reset > before))?;
    std::thread::sleep(dice.millis(0, 1_500));
    road.theatre.injected();
    road.theatre.heal()
}

fn disturbed(road: &mut Road<'_>, mode: ProxyMode, time: Duration) -> Result<()> {
    road.theatre.disturb(LINK, mode)?;
    road.theatre.injected();
    road.wait(time)?;
    road.theatre.heal()
}

/// Row 8: messages time out in the client, and its queue is full.
pub(crate) fn messages_time_out(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let publish = r#"request-timeout "1s"; delivery-timeout "2s"; max-in-flight 200
        property "socket.timeout.ms" "1500""#;
    let shape = Shape { name: "timeouts", publish: publish.to_owned(), ..Shape::default() };
    let mut road = Road::begin(theatre, shape)?;
    for _ in 0..2 {
        theatre.disturb(LINK, ProxyMode::Blackhole)?;
        theatre.injected();
        road.wait(dice.millis(4_000, 6_000))?;
        theatre.heal()?;
        road.flows(200)?;
    }
    road.settle()
}

/// Row 15.
pub(crate) fn clock_jumps(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    ensure!(std::path::Path::new(library).exists(), "SKIP: libfaketime is not installed (Debian: faketime)");
    let mut road = Road::open(theatre, Shape { name: "clock", ..Shape::default() })?;
    let offset = road.path("offset");
    std::fs::write(&offset, "+0")?;
    let environment = vec![
        ("LD_PRELOAD".to_owned(), library.to_owned()),
        ("FAKETIME_TIMESTAMP_FILE".to_owned(), crate::road::utf8(&offset)),
        ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
        // Durations come from the other clock, which nobody sets.
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ];
    road.start_producer_so(0, &Manner { environment, ..Manner::default() })?;
    road.start_consumer(0)?;
    road.flows(100)?;
    for jump in ["+3600", "+0", "-3600", "+0"] {
        std::fs::write(&offset, jump)?;
        theatre.injected();
        road.wait(dice.millis(2_000, 4_000))?;
        road.flows(100)?;
    }
    let long = road.database.count("SELECT count(*) FROM monmon_measurement WHERE total_us > 60000000")?;
    ensure!(long == 0, "{long} measurements took the jump for a duration");
    let ahead = "SELECT count(*) FROM monmon_measurement WHERE scheduled_at > now() + interval '30 minutes'";
    ensure!(road.database.count(ahead)? > 0, "the clock did not jump");
    road.settle()
}

/// Row 18.
pub(crate) fn no_descriptors(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let shape = Shape { name: "nofile", checks: 120, interval: "500ms", ..Shape::default() };
    let mut road = Road::open(theatre, shape)?;
    road.site.set_below("/", Answer::html("A page to watch", 2_000).delay_head(Duration::from_millis(400)));
    let wrapper = vec!["prlimit".to_owned(), "--nofile=64:64".to_owned()];
    road.start_producer_so(0, &Manner { wrapper, ..Manner::default() })?;
    theatre.injected();
    road.start_consumer(0)?;
    let exhausted = "SELECT count(*) FROM monmon_measurement WHERE error_kind = 'fd_exhausted'";
    eventually("slot without a descriptor", || {
        Ok(road.database.count(exhausted).is_ok_and(|count| count > 0))
    })?;
    road.announced.push("descriptors");
    road.settle()
}

/// Row 20.
pub(crate) fn no_processor(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let group = std::path::PathBuf::from(format!("/sys/fs/cgroup/cpu/monmon-chaos-{}", std::process::id()));
    ensure!(std::fs::create_dir(&group).is_ok(), "SKIP: no cgroup of processors can be made here");
    let played = starved(theatre, dice, &group);
    std::fs::remove_dir(&group).ok();
    played
}

fn starved(theatre: &Theatre, dice: &mut Dice, group: &std::path::Path) -> Result<()> {
    std::fs::write(group.join("cpu.cfs_period_us"), "100000")?;
    std::fs::write(group.join("cpu.cfs_quota_us"), "-1")?;
    // What comes all at once when there is a processor again must not be too much for the site.
    let shape = Shape { name: "starved", timeout: "3s", ..Shape::default() };
    let mut road = Road::begin(theatre, shape)?;
    std::fs::write(group.join("cgroup.procs"), road.producer(0)?.id().to_string())?;
    std::fs::write(group.join("cpu.cfs_quota_us"), "3000")?;
    theatre.injected();
    road.wait(dice.millis(10_000, 14_000))?;
    std::fs::write(group.join("cpu.cfs_quota_us"), "-1")?;
    let throttled = std::fs::read_to_string(group.join("cpu.stat"))?;
    let count = throttled.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse::<u64>().ok());
    ensure!(count > Some(10), "it was not starved: {throttled}");
    road.flows(200)?;
    road.settle()
}
