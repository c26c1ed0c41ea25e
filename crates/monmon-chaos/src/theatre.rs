//! Where all is played: the servers, the proxies before them, the program, and the count of what was broken.

use std::{
    cell::{Cell, RefCell, RefMut},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use monmon_testkit::{Proxy, ProxyCounters, ProxyMode};

use crate::{
    journal::Admin,
    services::{Ports, Services, local},
};

/// What a run is told.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) monmon: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) scripts: PathBuf,
    pub(crate) libs: Option<PathBuf>,
    pub(crate) first_port: u16,
}

/// Which way a proxy stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    ProducersAndKafka,
    ConsumersAndKafka,
    ConsumersAndPostgres,
}

pub(crate) struct Theatre {
    pub(crate) setting: Setting,
    pub(crate) services: Services,
    pub(crate) admin: Admin,
    proxies: [RefCell<Proxy>; 3],
    injections: Cell<u64>,
    sabotage: RefCell<Option<String>>,
    begun: Instant,
}

impl Theatre {
    pub(crate) fn open(setting: Setting) -> Result<Theatre> {
        let ports = Ports(setting.first_port);
        let folder = setting.folder.join("services");
        let libs = setting.libs.as_deref();
        let services = Services::start(folder, setting.scripts.clone(), ports, 1, true, libs)?;
        let proxy = |(server, listen)| {
            let proxy = Proxy::start_at(local(listen), local(server));
            Ok::<_, anyhow::Error>(RefCell::new(proxy.context("starting a proxy")?))
        };
        let proxies = [proxy(ports.producers())?, proxy(ports.consumers())?, proxy(ports.postgres())?];
        let admin = Admin::new(&services.brokers())?;
        let (injections, sabotage) = (Cell::new(0), RefCell::default());
        Ok(Theatre { setting, services, admin, proxies, injections, sabotage, begun: Instant::now() })
    }

    pub(crate) fn proxy(&self, between: Between) -> RefMut<'_, Proxy> {
        self.proxies[between as usize].borrow_mut()
    }

    pub(crate) fn counters(&self, between: Between) -> ProxyCounters {
        self.proxy(between).counters()
    }

    pub(crate) fn disturb(&self, between: Between, mode: ProxyMode) -> Result<()> {
        self.proxy(between).set(mode).with_context(|| format!("setting {between:?} to {mode:?}"))
    }

    /// Whatever was done to the connections ends.
    pub(crate) fn heal(&self) -> Result<()> {
        for between in [Between::ProducersAndKafka, Between::ConsumersAndKafka, Between::ConsumersAndPostgres]
        {
            self.disturb(between, ProxyMode::Pass)?;
        }
        Ok(())
    }

    /// The programs that start from now on make this mistake.
    pub(crate) fn sabotage(&self, mistake: Option<&str>) {
        self.sabotage.replace(mistake.map(str::to_owned));
    }

    pub(crate) fn mistake(&self) -> Option<String> {
        self.sabotage.borrow().clone()
    }

    /// One more fault was really brought about.
    pub(crate) fn injected(&self) {
        self.injections.set(self.injections.get() + 1);
    }

    pub(crate) fn injections(&self) -> u64 {
        self.injections.get()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn brokers(&self) -> String {
        self.services.brokers()
    }

    pub(crate) fn postgres_url(&self, database: &str) -> String {
        let port = self.services.ports.postgres().1;
        format!("postgres://app:secret@127.0.0.1:{port}/{database}")
    }
}
