//! What strikes consumers, or stands between them and Kafka.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use monmon_testkit::ProxyMode;
use rustix::process::Signal;

use crate::{
    dice::Dice,
    process::state_of,
    road::{Manner, Road, Shape},
    services::eventually,
    theatre::{Between, Theatre},
};

fn any(road: &Road<'_>, dice: &mut Dice) -> usize {
    dice.index(road.consumers.len())
}

/// Row 25: at any moment.
pub(crate) fn killed(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let at = any(road, dice);
    std::thread::sleep(dice.millis(0, 700));
    road.consumer(at)?.kill()?;
    road.theatre.injected();
    std::thread::sleep(dice.millis(0, 500));
    road.start_consumer(at)
}

/// Row 25: with batches that were read and cannot be stored yet, after commits of seconds.
pub(crate) fn killed_before_store(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let at = any(road, dice);
    road.theatre.services.postgres(&["pause"])?;
    std::thread::sleep(dice.millis(2_000, 3_500));
    let killed = road.consumer(at)?.kill();
    road.theatre.services.postgres(&["resume"])?;
    killed?;
    road.theatre.injected();
    road.start_consumer(at)
}

const TRIES: u32 = 8;

/// Row 25: at the Nth message to the server, of any batch, commit or heartbeat.
pub(crate) fn killed_at_calls(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    ensure!(can_trace(), "SKIP: ptrace is not allowed here, or strace is not installed");
    let mut road = Road::begin(theatre, Shape { name: "calls", checks: 40, ..Shape::default() })?;
    let mut kills = 0;
    for _ in 0..TRIES {
        let mut consumer = road.consumers[0].take().expect("the consumer runs");
        ensure!(consumer.terminate()?.success(), "{}", consumer.tail());
        let call = dice.pick(&["sendto", "sendmsg", "recvfrom", "recvmsg"]);
        let when = dice.between(1, 60);
        road.start_consumer_so(0, &traced(call, "signal=SIGKILL", when))?;
        let (program, begun) = (road.consumer(0)?, Instant::now());
        while program.is_running() && begun.elapsed() < Duration::from_secs(15) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if program.is_running() {
            // So many calls of this kind were not made: no fault, and none is counted.
            program.kill()?;
        } else {
            theatre.injected();
            kills += 1;
        }
        road.start_consumer(0)?;
        road.flows(40)?;
    }
    ensure!(kills >= TRIES / 3, "of {TRIES} tries {kills} came to a kill");
    road.settle()
}

/// As strace is told to spoil one call.
pub(crate) fn traced(call: &str, what: &str, when: u64) -> Manner {
    // With a filter in the kernel, which would hold up no other call, a thread beside the first is not killed.
    under_strace(&[], call, what, &when.to_string())
}

/// To spoil several calls, and of each of them those that `when` names, such as `5+3`: the fifth and each third after it.
pub(crate) fn traced_at(calls: &str, what: &str, when: &str) -> Manner {
    under_strace(&["--seccomp-bpf"], calls, what, when)
}

fn under_strace(options: &[&str], calls: &str, what: &str, when: &str) -> Manner {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:{what}:when={when}"));
    let first = ["strace", "-D", "-f"].iter().chain(options);
    let rest = ["-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    let wrapper = first.copied().chain(rest).map(str::to_owned).collect();
    Manner { wrapper, ..Manner::default() }
}

pub(crate) fn can_trace() -> bool {
    let tried = std::process::Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    tried.is_ok_and(|status| status.success())
}

/// Row 26: it comes back when the group has gone on without it.
pub(crate) fn zombie(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let at = any(road, dice);
    let id = road.consumer(at)?.id();
    road.consumer(at)?.signal(Signal::STOP)?;
    eventually("stopped process", || Ok(state_of(id) == Some('T')))?;
    road.theatre.injected();
    // Longer than a session of four seconds, most of the time.
    std::thread::sleep(dice.millis(3_000, 9_000));
    road.consumer(at)?.signal(Signal::CONT)
}

/// Row 26: both at once, so that both come back to a group that is gone.
pub(crate) fn all_zombies(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    for consumer in road.consumers.iter().flatten() {
        consumer.signal(Signal::STOP)?;
    }
    road.theatre.injected();
    std::thread::sleep(dice.millis(5_000, 8_000));
    for consumer in road.consumers.iter().flatten() {
        consumer.signal(Signal::CONT)?;
    }
    Ok(())
}

/// Row 27, once: one leaves in order and comes back.
pub(crate) fn leaves(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let at = any(road, dice);
    let mut consumer = road.consumers[at].take().expect("the consumer runs");
    let status = consumer.terminate()?;
    ensure!(status.success(), "it ended with {status}:\n{}", consumer.tail());
    road.theatre.injected();
    std::thread::sleep(dice.millis(0, 500));
    road.start_consumer(at)
}

fn joins_and_leaves(theatre: &Theatre, dice: &mut Dice, name: &'static str, assignment: &str) -> Result<()> {
    let read = format!("assignment \"{assignment}\"");
    let mut road = Road::begin(theatre, Shape { name, consumers: 2, read, ..Shape::default() })?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(25) {
        std::thread::sleep(Duration::from_secs(1));
        match dice.between(0, 3) {
            0 => {
                road.consumer(1)?.kill()?;
                theatre.injected();
            }
            _ => {
                let mut consumer = road.consumers[1].take().expect("the consumer runs");
                let status = consumer.terminate()?;
                ensure!(status.success(), "it ended with {status}:\n{}", consumer.tail());
                theatre.injected();
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        road.start_consumer(1)?;
    }
    road.flows(100)?;
    road.settle()
}

/// Row 27, cooperative.
pub(crate) fn cooperative(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    joins_and_leaves(theatre, dice, "cooperative", "cooperative-sticky")
}

/// Row 27, eager.
pub(crate) fn eager(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    joins_and_leaves(theatre, dice, "eager", "range")
}

/// Row 28: the database is slow for longer than a poll may take, scaled down.
pub(crate) fn poll_interval(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let read = r#"property "max.poll.interval.ms" "6000"; max-in-flight 100"#.to_owned();
    let mut road = Road::begin(theatre, Shape { name: "poll", consumers: 2, read, ..Shape::default() })?;
    for _ in 0..2 {
        theatre.services.postgres(&["pause"])?;
        theatre.injected();
        let waited = road.wait(dice.millis(8_000, 11_000));
        theatre.services.postgres(&["resume"])?;
        waited?;
        road.flows(100)?;
    }
    road.settle()
}

/// Row 44: between consumers and Kafka.
pub(crate) fn kafka_disturbed(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let mode = dice.pick(&[
        ProxyMode::Refuse,
        ProxyMode::Reset,
        ProxyMode::Blackhole,
        ProxyMode::Throttle { bytes_per_second: 4_096 },
        ProxyMode::Delay(Duration::from_millis(200)),
    ]);
    road.theatre.disturb(Between::ConsumersAndKafka, mode)?;
    road.theatre.injected();
    road.wait(dice.millis(1_000, 7_000))?;
    road.theatre.heal()
}
