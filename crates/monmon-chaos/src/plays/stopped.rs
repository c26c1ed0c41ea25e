//! Each process of a road stopped for half a minute, as by a hypervisor that moves it: longer than any timeout, session
//! or statement may last, so that all who wait for it have given up when it comes back and believes that no time passed.

use std::{fs, thread::sleep, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::{
    dice::Dice,
    plays::producer::OVERSLEPT,
    process::{signal_to, state_of},
    road::{Road, Shape},
    services::eventually,
    theatre::Theatre,
};

const STOP: Duration = Duration::from_secs(30);

/// Row 3.
pub(crate) fn producer(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = road(theatre, "half_producer", dice)?;
    let id = road.producer(0)?.id();
    stopped(&mut road, id)?;
    eventually("slots that were overslept", || {
        Ok(road.database.count(OVERSLEPT).is_ok_and(|count| count > 0))
    })?;
    came_back(road)
}

/// Row 21.
pub(crate) fn broker(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = road(theatre, "half_broker", dice)?;
    road.announced.push("the kafka consumer looks for no broker any more");
    // Whether clients are told of no brokers at all, when it comes back as one that was fenced, is a matter of chance.
    for _ in 0..2 {
        let (id, asked) = (theatre.services.broker_pid(1)?, road.site.count());
        stopped(&mut road, id)?;
        ensure!(road.site.count() > asked, "checks did not go on");
        all_work_again(&road)?;
        road.flows(200)?;
        road.reckon()?;
    }
    came_back(road)
}

/// Row 26.
pub(crate) fn consumer(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = road(theatre, "half_consumer", dice)?;
    let (id, before) = (road.consumer(0)?.id(), road.stored()?);
    stopped(&mut road, id)?;
    ensure!(road.stored()? > before, "the other consumer did not go on");
    came_back(road)
}

/// Row 34.
pub(crate) fn database(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = road(theatre, "half_database", dice)?;
    theatre.services.postgres(&["pause"])?;
    theatre.injected();
    let waited = road.wait(STOP);
    theatre.services.postgres(&["resume"])?;
    waited?;
    came_back(road)
}

/// Two consumers, so that one is there to go on.
fn road<'a>(theatre: &'a Theatre, name: &'static str, dice: &mut Dice) -> Result<Road<'a>> {
    let mut road = Road::begin(theatre, Shape { name, interval: "500ms", consumers: 2, ..Shape::default() })?;
    road.wait(dice.millis(0, 1_000))?;
    Ok(road)
}

fn stopped(road: &mut Road<'_>, id: u32) -> Result<()> {
    signal_to(id, Signal::STOP)?;
    eventually("stopped process", || Ok(state_of(id) == Some('T')))?;
    road.theatre.injected();
    sleep(STOP);
    signal_to(id, Signal::CONT)?;
    road.watch()
}

/// Each program, and not only as many as it takes for rows to flow.
fn all_work_again(road: &Road<'_>) -> Result<()> {
    eventually("programs that all reach the broker again", || {
        let works_again = |name: &&str| {
            let log = fs::read_to_string(road.log(name)).unwrap_or_default();
            log.matches("no kafka broker can be reached").count() <= log.matches("kafka works again").count()
        };
        Ok(["producer0", "consumer0", "consumer1"].iter().all(works_again))
    })
}

fn came_back(mut road: Road<'_>) -> Result<()> {
    road.flows(200)?;
    road.settle()
}
