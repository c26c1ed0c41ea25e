//! What strikes the prober's own way to the world: then it can't tell how the sites are, and must say so.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use monmon_testkit::{Answer, DnsAnswer, DnsServer, Site};

use crate::{
    dice::Dice,
    road::{Manner, Road, Shape},
    services::eventually,
    theatre::Theatre,
};

const OFFLINE: &str =
    "SELECT count(*) FROM monmon_measurement WHERE outcome = 'unknown' AND error_kind LIKE 'prober_%'";

fn more(road: &Road<'_>, sql: &str, what: &str) -> Result<()> {
    let before = road.database.count(sql)?;
    eventually(what, || Ok(road.database.count(sql)? >= before + 60))
}

/// Row 17: neither the sites nor the reference can be reached.
pub(crate) fn cut(theatre: &Theatre, dice: &mut Dice) -> Result<()> {
    let mut reference = Site::start().context("starting the reference")?;
    let http = format!("reference \"{}\" timeout=\"1s\"", reference.url("/"));
    let mut road = Road::begin(theatre, Shape { name: "uplink", http, ..Shape::default() })?;
    road.announced.push("no reference answers");
    for _ in 0..3 {
        reference.stop();
        road.site.stop();
        theatre.injected();
        more(&road, OFFLINE, "slot without a network")?;
        road.wait(dice.millis(0, 1_500))?;
        // A site that is back before the reference is only ever up.
        road.site.resume()?;
        reference.resume()?;
        road.flows(100)?;
    }
    // Its requests are no check's.
    road.settle()
}

/// Row 16: the name server does not answer, for no name; then one name alone is gone, which is that site's fault.
pub(crate) fn names_gone(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let names = DnsServer::start().context("starting a name server")?;
    let good = || DnsAnswer::Addresses(vec![[127, 0, 0, 1].into()]);
    for name in ["site.test", "reference.test"] {
        names.set(name, good());
    }
    let reference = Site::start().context("starting the reference")?;
    let http = format!(
        "reference \"http://reference.test:{}/\" timeout=\"1s\"\nresolver \"{}\"\ntimeouts dns=\"1s\"",
        reference.addr().port(),
        names.addr()
    );
    let mut road = Road::open(theatre, Shape { name: "names", http, ..Shape::default() })?;
    road.announced.push("no reference answers");
    let own = road.site.url("/");
    let named = format!("http://site.test:{}/", road.site.addr().port());
    road.rewrite("producer.kdl", &own, &named)?;
    road.asked_as = Some((named, own));
    road.start_all()?;
    for _ in 0..2 {
        for name in ["site.test", "reference.test"] {
            names.set(name, DnsAnswer::Silence);
        }
        theatre.injected();
        more(&road, OFFLINE, "slot without names")?;
        for name in ["reference.test", "site.test"] {
            names.set(name, good());
        }
        road.flows(100)?;
    }
    road.settle()
}

/// Row 19: bodies that are larger than the memory there is.
pub(crate) fn little_memory(theatre: &Theatre, _dice: &mut Dice) -> Result<()> {
    let group =
        std::path::PathBuf::from(format!("/sys/fs/cgroup/memory/monmon-chaos-{}", std::process::id()));
    ensure!(std::fs::create_dir(&group).is_ok(), "SKIP: no cgroup of memory can be made here");
    let played = bounded(theatre, &group);
    // The last process has left it a moment ago.
    std::thread::sleep(Duration::from_millis(300));
    std::fs::remove_dir(&group).ok();
    played
}

fn bounded(theatre: &Theatre, group: &std::path::Path) -> Result<()> {
    // Builds that are not optimised are large themselves.
    std::fs::write(group.join("memory.limit_in_bytes"), "160M")?;
    let http = "pages-max \"16MiB\"; wire-max \"1MiB\"".to_owned();
    let mut road = Road::open(theatre, Shape { name: "memory", http, ..Shape::default() })?;
    road.site.set_below("/", Answer::html("A page to watch", 8 << 20));
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.display());
    let wrapper = vec!["sh".to_owned(), "-c".to_owned(), enter, "sh".to_owned()];
    road.start_producer_so(0, &Manner { wrapper, ..Manner::default() })?;
    road.start_consumer(0)?;
    theatre.injected();
    road.flows(400)?;
    let failures = std::fs::read_to_string(group.join("memory.oom_control"))?;
    ensure!(!failures.contains("oom_kill 1"), "it was killed for its memory: {failures}");
    road.settle()
}
