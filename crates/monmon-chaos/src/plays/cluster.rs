//! Three brokers, each partition on all of them, two of which must have what is acknowledged.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::{
    dice::Dice,
    journal::Admin,
    process::signal_to,
    road::{Road, Shape},
    services::{Ports, Services, eventually},
    theatre::Theatre,
};

const NODES: u16 = 3;
/// A broker that was killed is let back in when its session has ended: 4 s in these brokers.
const SESSION: Duration = Duration::from_secs(5);

/// Row 22: leaders die one after the other, all are rolled, two are down at once. Row 9: then there are too few replicas.
pub(crate) fn leaders(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let setting = &theatre.setting;
    let folder = setting.folder.join("cluster");
    let ports = Ports(setting.first_port + 200);
    let services =
        Services::start(folder, setting.scripts.clone(), ports, NODES, false, setting.libs.as_deref())?;
    let brokers = services.brokers();
    let admin = Admin::new(&brokers)?;
    let shape = Shape {
        name: "cluster",
        brokers: Some([brokers.clone(), brokers.clone(), brokers]),
        consumers: 2,
        ..Shape::default()
    };
    let mut road = Road::open(theatre, shape)?;
    admin.create(&road.topic, road.shape.partitions, &[("min.insync.replicas", "2")])?;
    road.start_all()?;
    for _ in 0..3 {
        let leader = leader(&admin, &road)?;
        services.kafka(&["kill", &leader])?;
        theatre.injected();
        road.wait(SESSION + dice.millis(0, 2_000))?;
        road.flows(100)?;
        services.kafka(&["up", &leader])?;
        road.flows(60)?;
        road.reckon()?;
    }
    let order: BTreeSet<u16> = (1..=NODES).collect();
    for node in order {
        services.kafka(&["kill", &node.to_string()])?;
        theatre.injected();
        std::thread::sleep(SESSION);
        services.kafka(&["up", &node.to_string()])?;
        road.flows(60)?;
    }
    road.reckon()?;
    // Two of three: nothing may be acknowledged, and nothing is lost.
    let seen = road.site.count();
    let still = [1, 2].map(|node| services.broker_pid(node));
    for pid in &still {
        signal_to(*pid.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?, Signal::STOP)?;
    }
    theatre.injected();
    let waited = road.wait(dice.millis(4_000, 8_000));
    for pid in still.into_iter().flatten() {
        signal_to(pid, Signal::CONT)?;
    }
    waited?;
    ensure!(road.site.count() > seen + 200, "checks did not go on");
    road.flows(100)?;
    road.settle()
}

fn leader(admin: &Admin, road: &Road<'_>) -> Result<String> {
    let mut found = -1;
    eventually("leader", || {
        found = admin.leader(&road.topic).unwrap_or(-1);
        Ok(found > 0)
    })
    .context("asking who leads")?;
    Ok(found.to_string())
}

/// Row 23: a promise that is weaker is told at the start.
pub(crate) fn weak_promise(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let mut road = Road::begin(theatre, Shape { name: "weak", ..Shape::default() })?;
    road.producer(0)?.says("the topic has one replica")?;
    theatre.injected();
    road.settle()
}
