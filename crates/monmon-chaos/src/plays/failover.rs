//! A database that is lost with its newest rows: what followed it takes its place.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use uuid::Uuid;

use crate::{
    database::Database,
    dice::Dice,
    journal::commit,
    road::{Road, Shape},
    services::eventually,
    theatre::Theatre,
};

/// Rows that only the first server has.
const TAIL: u64 = 1_000;

/// Row 41: the heir lacks the tail, of which the group has committed that it is stored. The audit names what is missing, and
/// the topic read again from before brings it back.
pub(crate) fn lacks_the_tail(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "failover", ..Shape::default() })?;
    theatre.services.postgres(&["standby"])?;
    follows(&mut road)?;
    road.flows(200)?;
    theatre.services.postgres(&["standby-stop"])?;
    road.flows(TAIL)?;
    committed_to_here(&mut road)?;
    let first = road.database.all_ids()?;
    theatre.services.postgres(&["failover"])?;
    theatre.injected();
    let mut lost: Vec<Uuid> = Vec::new();
    eventually("rows of the heir", || {
        let Ok(heir) = road.database.all_ids() else { return Ok(false) };
        lost = first.iter().filter(|id| heir.binary_search(id).is_err()).copied().collect();
        Ok(true)
    })?;
    ensure!(lost.len() as u64 >= TAIL / 2, "the heir lacks {} rows only", lost.len());
    road.flows(100)?;
    let found = holes(&road)?;
    ensure!(found >= lost.len() as u64 / 2, "the audit finds {found} of {} rows that are lost", lost.len());
    // As `kafka-consumer-groups.sh --reset-offsets` does it, while no member is there.
    let mut consumer = road.consumers[0].take().context("the consumer runs")?;
    ensure!(consumer.terminate()?.success(), "{}", consumer.tail());
    let marks = road.journal.watermarks()?;
    let begin: BTreeMap<i32, i64> = marks.iter().map(|(partition, (low, _))| (*partition, *low)).collect();
    commit(&theatre.brokers(), &road.topic, &road.topic, &begin)?;
    road.start_consumer(0)?;
    eventually("return of what was lost", || {
        road.watch()?;
        Ok(road.database.stored_of(&lost).is_ok_and(|back| back.len() == lost.len()))
    })?;
    road.settle()
}

/// Until the second server has what the first one has.
fn follows(road: &mut Road<'_>) -> Result<()> {
    let standby = Database::new(road.theatre.services.ports.standby(), &road.database.name)?;
    let wanted = road.stored()?;
    eventually("rows at the standby", || {
        road.watch()?;
        Ok(standby.count("SELECT count(*) FROM monmon_measurement").is_ok_and(|rows| rows >= wanted))
    })
}

/// Until the group has committed all that the topic has by now.
fn committed_to_here(road: &mut Road<'_>) -> Result<()> {
    let marks = road.journal.watermarks()?;
    eventually("commits", || {
        road.watch()?;
        // Each look is a client of its own.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let committed = road.journal.committed(&road.topic)?;
        let is_there = |(partition, (_, high)): (&i32, &(i64, i64))| {
            *high == 0 || committed.get(partition).is_some_and(|offset| offset >= high)
        };
        Ok(marks.iter().all(is_there))
    })
}

/// How many messages the audit says are missing between those that are stored.
fn holes(road: &Road<'_>) -> Result<u64> {
    let mut command = std::process::Command::new(&road.theatre.setting.monmon);
    let url = road.theatre.postgres_url(&road.database.name);
    command.args(["audit", "--store", &url, "--format", "json", "--settle", "0s"]);
    let output = command.output().context("starting the audit")?;
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).context("the audit's JSON")?;
    ensure!(told["verdict"] == "broken", "the audit says {}: {}", told["verdict"], told["findings"]);
    Ok(told["findings"]["offset_hole"]["count"].as_u64().unwrap_or(0))
}
