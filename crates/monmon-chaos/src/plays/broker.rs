//! What strikes the broker, and what a topic can come to.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use monmon_testkit::ProxyMode;
use rustix::process::Signal;

use crate::{
    dice::Dice,
    journal::commit,
    process::signal_to,
    road::{Audit, Road, Shape},
    services::{answers, eventually},
    theatre::{Between, Theatre},
};

/// Row 21: kill -9, and started again.
pub(crate) fn killed(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    down_and_up(road, dice, "kill")
}

/// Row 21: a clean stop.
pub(crate) fn restarted(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    down_and_up(road, dice, "stop")
}

fn down_and_up(road: &mut Road<'_>, dice: &mut Dice, how: &str) -> Result<()> {
    let services = &road.theatre.services;
    let seen = road.site.count();
    services.kafka(&[how])?;
    eventually("end of the broker", || Ok(!answers(services.ports.kafka(1))))?;
    road.theatre.injected();
    std::thread::sleep(dice.millis(0, 2_000));
    let up = services.kafka(&["up", "1"]);
    ensure!(road.site.count() > seen, "checks did not go on");
    up.map(drop)
}

/// Row 21: stopped as by a hypervisor.
pub(crate) fn paused(road: &mut Road<'_>, dice: &mut Dice) -> Result<()> {
    let broker = road.theatre.services.broker_pid(1)?;
    signal_to(broker, Signal::STOP)?;
    road.theatre.injected();
    let waited = road.wait(dice.millis(2_000, 9_000));
    signal_to(broker, Signal::CONT)?;
    waited
}

/// Row 10: messages that are larger than the topic takes.
pub(crate) fn too_large(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = Road::open(theatre, Shape { name: "large", ..Shape::default() })?;
    let letters = format!("{}.dead-letter", road.topic);
    theatre.admin.create(&letters, 1, &[])?;
    theatre.admin.alter(&road.topic, &[("max.message.bytes", "6000")])?;
    // One in twenty says much of itself.
    // What repeats itself would be small when it is compressed.
    let letters_and_digits = || char::from(dice.pick(b"0123456789abcdefghijklmnopqrstuvwxyz"));
    let much: String = std::iter::repeat_with(letters_and_digits).take(7_000).collect();
    let long = road.site.url(&format!("/large/{much}"));
    road.rewrite(
        "producer.kdl",
        "    }\n}\ntransforms",
        &format!("        check \"large\" \"{long}\"\n    }}\n}}\ntransforms"),
    )?;
    road.announced.push("a measurement is refused and becomes a dead letter");
    road.start_all()?;
    theatre.injected();
    let mut dead = crate::journal::Journal::new(&theatre.brokers(), &letters)?;
    eventually("dead letters of large messages", || {
        dead.advance()?;
        road.watch()?;
        Ok(dead.messages >= 20)
    })?;
    road.flows(200)?;
    // What the site was asked for the large check is among the letters, not in the topic.
    road.unmeasured_max += road.page_hits().get(&long).copied().unwrap_or(0) + 20;
    road.skips_slots_of = Some("large");
    road.audit = Audit::Broken;
    road.settle()?;
    dead.advance()?;
    let asked = road.page_hits().get(&long).copied().unwrap_or(0);
    ensure!(dead.messages == asked, "{} dead letters of {asked} large measurements", dead.messages);
    Ok(())
}

/// Row 11: the topic goes and is made anew.
pub(crate) fn topic_made_anew(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "anew", ..Shape::default() })?;
    road.announced.push("the topic was deleted and made anew");
    road.announced.push("messages were deleted from the topic before they were read");
    for _ in 0..2 {
        // What the topic takes with it is read first: nothing is published between the last look and the end.
        theatre.disturb(Between::ProducersAndKafka, ProxyMode::Refuse)?;
        road.wait(Duration::from_millis(1_500))?;
        road.reckon()?;
        theatre.admin.delete(&road.topic)?;
        theatre.injected();
        std::thread::sleep(dice.millis(500, 1_500));
        theatre.heal()?;
        road.wait(dice.millis(500, 3_000))?;
        theatre.admin.create(&road.topic, road.shape.partitions, &[])?;
        road.journal.begin_again()?;
        road.flows(100)?;
    }
    road.settle()
}

/// Row 24: the broker deletes what nobody has read.
pub(crate) fn unread_deleted(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "unread", ..Shape::default() })?;
    for _ in 0..2 {
        road.reckon()?;
        let mut consumer = road.consumers[0].take().context("the consumer runs")?;
        ensure!(consumer.terminate()?.success(), "{}", consumer.tail());
        let committed = road.journal.committed(&road.topic)?;
        let more = road.journal.messages + 400;
        eventually("messages that nobody reads", || {
            road.journal.advance()?;
            Ok(road.journal.messages >= more)
        })?;
        let marks = road.journal.watermarks()?;
        let before: BTreeMap<i32, i64> =
            marks.iter().map(|(partition, (_, high))| (*partition, high - 5)).collect();
        // What goes is read first, all of it.
        road.journal.advance()?;
        let taken = road.journal.seen.iter().filter(|(_, seen)| {
            let from = committed.get(&seen.partition).copied().unwrap_or(0);
            seen.offset >= from && seen.offset < before[&seen.partition]
        });
        let taken: Vec<_> = taken.map(|(id, _)| *id).collect();
        ensure!(taken.len() > 200, "only {} unread messages", taken.len());
        road.gone.extend(taken);
        road.rows_were_taken = true;
        road.audit = Audit::Broken;
        theatre.admin.delete_before(&road.topic, &before)?;
        theatre.injected();
        road.start_consumer(0)?;
        road.announced.push("messages were deleted from the topic before they were read");
        road.consumer(0)?.says("messages were deleted from the topic before they were read")?;
        road.flows(100)?;
    }
    road.settle()
}

/// Row 30: the group's place lies beyond the topic's end.
pub(crate) fn offset_out_of_range(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "range", ..Shape::default() })?;
    road.announced.push("the log ends before where it was read to");
    road.announced.push("messages were deleted from the topic before they were read");
    for _ in 0..2 {
        let mut consumer = road.consumers[0].take().context("the consumer runs")?;
        ensure!(consumer.terminate()?.success(), "{}", consumer.tail());
        let marks = road.journal.watermarks()?;
        let beyond = marks.iter().map(|(partition, (_, high))| (*partition, high + 1_000_000)).collect();
        commit(&theatre.brokers(), &road.topic, &road.topic, &beyond)?;
        theatre.injected();
        road.start_consumer(0)?;
        road.flows(100)?;
        road.all_stored_now()?;
    }
    road.settle()
}
