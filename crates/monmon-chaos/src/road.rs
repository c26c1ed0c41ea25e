//! One road under load: site, producers, topic, consumers, tables; and the account of every id on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use monmon_testkit::{Answer, Site};
use uuid::Uuid;

use crate::{
    database::Database,
    journal::Journal,
    process::{Holds, Program},
    services::eventually,
    theatre::Theatre,
};

/// What is written differently on this road.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) checks: usize,
    pub(crate) interval: &'static str,
    pub(crate) timeout: &'static str,
    pub(crate) producers: usize,
    pub(crate) consumers: usize,
    pub(crate) partitions: i32,
    /// Lines in the http source, in the kafka sink, in the kafka source.
    pub(crate) http: String,
    pub(crate) publish: String,
    pub(crate) read: String,
    /// The consumer's sink.
    pub(crate) store: String,
    /// Brokers, where they are not those of the theatre: of producers, of consumers, of the oracle.
    pub(crate) brokers: Option<[String; 3]>,
    /// Behind `CREATE DATABASE ...`.
    pub(crate) database: String,
    /// Settings of the topic.
    pub(crate) topic: Vec<(&'static str, &'static str)>,
    /// Fewer messages prove nothing.
    pub(crate) messages_min: usize,
    /// Whether the site is ever really down.
    pub(crate) may_be_down: bool,
    /// Most of what a process may hold.
    pub(crate) bounds: Holds,
}

pub(crate) const STORE: &str =
    r#"postgres "store" from="events" url=(env)"STORE" statement-timeout="10s" connect-timeout="3s""#;

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            name: "road",
            checks: 60,
            interval: "250ms",
            timeout: "10s",
            producers: 1,
            consumers: 1,
            partitions: 4,
            http: String::new(),
            publish: r#"request-timeout "5s"; property "socket.timeout.ms" "6000""#.to_owned(),
            read: String::new(),
            store: STORE.to_owned(),
            brokers: None,
            database: String::new(),
            topic: Vec::new(),
            messages_min: 1_000,
            may_be_down: false,
            // Two thousand checks may be under way, each with its connection.
            bounds: Holds { rss_mib: 400, descriptors: 2_300, threads: 80 },
        }
    }
}

/// What `monmon audit` must say of the road at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audit {
    /// Nothing is missing; where a producer was killed, what it had not told may be.
    Sound,
    /// Rows are missing by a fault's design, and it must say so.
    Broken,
    /// The first rows are missing. It may take that for a loss or for a store that joined late, and not for proven.
    Unproven,
}

/// How a program is started, where that is not simply.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// A program before it, with arguments, which becomes it.
    pub(crate) wrapper: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) arguments: Vec<String>,
}

pub(crate) struct Road<'a> {
    pub(crate) theatre: &'a Theatre,
    pub(crate) shape: Shape,
    pub(crate) folder: PathBuf,
    pub(crate) site: Site,
    pub(crate) topic: String,
    pub(crate) database: Database,
    pub(crate) journal: Journal,
    pub(crate) producers: Vec<Option<Program>>,
    pub(crate) consumers: Vec<Option<Program>>,
    /// Dead letters that must be there.
    pub(crate) poison: u64,
    /// Ids that a fault has taken on purpose: the broker was told to delete them.
    pub(crate) gone: BTreeSet<Uuid>,
    /// When producers were killed, and when the next one ran.
    pub(crate) kills: Vec<(Timestamp, Timestamp)>,
    /// Requests that the site may have seen without a measurement: those under way at kills.
    pub(crate) unmeasured_max: u64,
    /// Seen in the topic and not yet in the tables.
    pub(crate) unconfirmed: BTreeSet<Uuid>,
    pub(crate) confirmed: BTreeSet<Uuid>,
    pub(crate) held_most: Holds,
    /// Lines of trouble that the faults of this road bring about, beside those of all roads.
    pub(crate) announced: Vec<&'static str>,
    /// A check whose slots are not all in the tables, by a fault's design.
    pub(crate) skips_slots_of: Option<&'static str>,
    pub(crate) audit: Audit,
    /// Whether measurements of one check must come in the order in which they were made.
    pub(crate) is_in_order: bool,
    /// How the checks call the site, and where it really is.
    pub(crate) asked_as: Option<(String, String)>,
    /// Rows were taken away on purpose: slots and numbers prove nothing.
    pub(crate) rows_were_taken: bool,
}

impl<'a> Road<'a> {
    /// Topic and tables are there, the producers run; consumers start when something waits for them.
    pub(crate) fn open(theatre: &'a Theatre, shape: Shape) -> Result<Road<'a>> {
        let tag = format!("{}_{}", shape.name, Uuid::new_v4().simple());
        let tag = tag[..tag.len().min(shape.name.len() + 9)].to_owned();
        let folder = theatre.setting.folder.join("roads").join(&tag);
        fs::create_dir_all(&folder).context("making a road's folder")?;
        let site = Site::start().context("starting the site")?;
        site.set_below("/", Answer::html("A page to watch", 2_000));
        let oracle = shape.brokers.as_ref().map_or_else(|| theatre.brokers(), |three| three[2].clone());
        if shape.brokers.is_none() {
            theatre.admin.create(&tag, shape.partitions, &shape.topic)?;
        }
        let database = Database::new(theatre.services.ports.postgres().0, &tag)?;
        database.is_up()?;
        database.server(&format!("CREATE DATABASE {tag} OWNER app {}", shape.database))?;
        let journal = Journal::new(&oracle, &tag)?;
        let road = Road {
            theatre,
            producers: (0..shape.producers).map(|_| None).collect(),
            consumers: (0..shape.consumers).map(|_| None).collect(),
            shape,
            folder,
            site,
            topic: tag,
            database,
            journal,
            poison: 0,
            gone: BTreeSet::new(),
            kills: Vec::new(),
            unmeasured_max: 0,
            unconfirmed: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            held_most: Holds::default(),
            announced: Vec::new(),
            skips_slots_of: None,
            asked_as: None,
            audit: Audit::Sound,
            is_in_order: false,
            rows_were_taken: false,
        };
        road.write()?;
        road.migrate()?;
        Ok(road)
    }

    /// Opened, and everything runs and flows.
    pub(crate) fn begin(theatre: &'a Theatre, shape: Shape) -> Result<Road<'a>> {
        let mut road = Road::open(theatre, shape)?;
        road.start_all()?;
        Ok(road)
    }

    pub(crate) fn start_all(&mut self) -> Result<()> {
        for at in 0..self.producers.len() {
            self.start_producer(at)?;
        }
        // A consumer that begins at the end of the topic would miss what waits here.
        eventually("messages before the first consumer", || {
            self.journal.advance()?;
            Ok(self.journal.seen.len() >= 20)
        })?;
        for at in 0..self.consumers.len() {
            self.start_consumer(at)?;
        }
        self.flows(50)
    }

    fn write(&self) -> Result<()> {
        let Shape { interval, timeout, http, publish, read, store, .. } = &self.shape;
        let checks: Vec<String> = (0..self.shape.checks)
            .map(|number| {
                format!("        check \"c{number}\" \"{}\"", self.site.url(&format!("/page/{number}")))
            })
            .collect();
        let checks = checks.join("\n");
        let producer = format!(
            r##"pipeline "chaos-producer"
sources {{
    http "sites" interval="{interval}" timeout="{timeout}" {{
{checks}
        {http}
    }}
}}
transforms {{
    regex "titles" from="sites" {{
        match "title" #"<title>(?<title>[^<]*)</title>"#
    }}
}}
sinks {{
    kafka "events" from="titles" {{
        brokers (env)"BROKERS"
        topic (env)"TOPIC"
        {publish}
    }}
}}
"##
        );
        // A killed member keeps its partitions until its session ends.
        let consumer = format!(
            r#"pipeline "chaos-consumer"
sources {{
    kafka "events" {{
        brokers (env)"BROKERS"
        topic (env)"TOPIC"
        group (env)"TOPIC"
        session-timeout "4s"
        property "heartbeat.interval.ms" "1000"
        {read}
    }}
}}
sinks {{
    {store}
}}
"#
        );
        fs::write(self.folder.join("producer.kdl"), producer).context("writing a pipeline")?;
        fs::write(self.folder.join("consumer.kdl"), consumer).context("writing a pipeline")
    }

    fn migrate(&self) -> Result<()> {
        let url = self.theatre.postgres_url(&self.database.name);
        let mut command = Command::new(&self.theatre.setting.monmon);
        let output = command.args(["db", "migrate", "--store", &url]).output().context("starting monmon")?;
        ensure!(output.status.success(), "db migrate: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// `monmon` with what the pipelines ask for.
    fn monmon(&self, file: &str, state: &str, is_producer: bool, manner: &Manner) -> Command {
        let program = &self.theatre.setting.monmon;
        let mut command = match manner.wrapper.split_first() {
            None => Command::new(program),
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(program);
                command
            }
        };
        let ports = self.theatre.services.ports;
        let at = |port: u16| format!("127.0.0.1:{port}");
        let brokers = match (&self.shape.brokers, is_producer) {
            (Some([producers, _, _]), true) => producers.clone(),
            (Some([_, consumers, _]), false) => consumers.clone(),
            (None, true) => at(ports.producers().1),
            (None, false) => at(ports.consumers().1),
        };
        command.arg("run").arg(self.folder.join(file)).args(["--log", "json", "--grace", "20s"]);
        command.args(["--prober", state]).args(&manner.arguments);
        command.env("MONMON_STATE_DIR", self.folder.join(state)).env("NO_COLOR", "1");
        command.env("BROKERS", brokers).env("TOPIC", &self.topic).env("FOLDER", &self.folder);
        command.env("STORE", self.theatre.postgres_url(&self.database.name));
        command.env_remove("MONMON_STORE").env_remove("MONMON_LOG");
        if let Some(mistake) = self.theatre.mistake() {
            command.env("MONMON_SABOTAGE", mistake);
        }
        for (name, value) in &manner.environment {
            command.env(name, value);
        }
        command
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    pub(crate) fn start_producer(&mut self, at: usize) -> Result<()> {
        self.start_producer_so(at, &Manner::default())
    }

    pub(crate) fn start_producer_so(&mut self, at: usize, manner: &Manner) -> Result<()> {
        let state = format!("producer{at}");
        let command = self.monmon("producer.kdl", &state, true, manner);
        self.producers[at] = Some(Program::start(command, &self.log(&state))?);
        Ok(())
    }

    pub(crate) fn start_consumer(&mut self, at: usize) -> Result<()> {
        self.start_consumer_so(at, &Manner::default())
    }

    pub(crate) fn start_consumer_so(&mut self, at: usize, manner: &Manner) -> Result<()> {
        let state = format!("consumer{at}");
        let command = self.monmon("consumer.kdl", &state, false, manner);
        self.consumers[at] = Some(Program::start(command, &self.log(&state))?);
        Ok(())
    }

    pub(crate) fn producer(&mut self, at: usize) -> Result<&mut Program> {
        self.producers[at].as_mut().context("the producer runs")
    }

    pub(crate) fn consumer(&mut self, at: usize) -> Result<&mut Program> {
        self.consumers[at].as_mut().context("the consumer runs")
    }

    /// Kills a producer, and keeps account of what that may cost.
    pub(crate) fn kill_producer(&mut self, at: usize) -> Result<()> {
        let killed = Timestamp::now();
        self.producer(at)?.kill()?;
        self.lost_producer(at, killed);
        Ok(())
    }

    /// A producer has ended without a chance to clean up.
    pub(crate) fn lost_producer(&mut self, at: usize, killed: Timestamp) {
        self.producers[at] = None;
        // What is lost is what was under way; the window in which slots may be silent is closed by `restarted`.
        self.kills.push((killed, killed));
        self.unmeasured_max += UNDER_WAY_MAX;
    }

    /// A killed producer measures again.
    pub(crate) fn restarted(&mut self) {
        let now = Timestamp::now();
        if let Some(last) = self.kills.last_mut() {
            last.1 = now;
        }
    }

    pub(crate) fn stored(&self) -> Result<u64> {
        self.database.count("SELECT count(*) FROM monmon_measurement")
    }

    /// Until so many more measurements are stored, while everything that should run runs.
    pub(crate) fn flows(&mut self, more: u64) -> Result<()> {
        let mut wanted = None;
        eventually(&format!("{more} more rows"), || {
            self.watch()?;
            // The database may still be coming up.
            let Ok(stored) = self.stored() else { return Ok(false) };
            Ok(stored >= *wanted.get_or_insert(stored + more))
        })
    }

    /// What runs still runs, and within its bounds.
    pub(crate) fn watch(&mut self) -> Result<()> {
        let programs = self.producers.iter_mut().chain(&mut self.consumers);
        let mut most = self.held_most;
        for (at, program) in programs.enumerate() {
            let Some(program) = program else { continue };
            ensure!(program.is_running(), "program {at} ended by itself:\n{}", program.tail());
            most = most.most(program.holds().unwrap_or_default());
        }
        self.held_most = most;
        let Holds { rss_mib, descriptors, threads } = self.shape.bounds;
        ensure!(
            most.rss_mib <= rss_mib && most.descriptors <= descriptors && most.threads <= threads,
            "beyond the bounds {:?}: {most:?}",
            self.shape.bounds
        );
        Ok(())
    }

    /// Waits, with an eye on what runs.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<()> {
        let begun = std::time::Instant::now();
        while begun.elapsed() < time {
            std::thread::sleep(Duration::from_millis(100).min(time));
            self.watch()?;
        }
        Ok(())
    }

    pub(crate) fn page_hits(&self) -> BTreeMap<String, u64> {
        let mut hits = BTreeMap::new();
        for hit in self.site.hits() {
            let mut url = self.site.url(&hit.path);
            if let Some((called, is)) = &self.asked_as {
                url = url.replacen(is.as_str(), called, 1);
            }
            *hits.entry(url).or_default() += 1;
        }
        hits
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether an instant lies where a killed producer may leave slots without a word: a heartbeat is five seconds old at
    /// most, and what was under way at the kill had not been told.
    pub(crate) fn may_be_silent(&self, from: Timestamp, until: Timestamp) -> bool {
        self.kills.iter().any(|(killed, back)| {
            from >= *killed - SignedDuration::from_secs(12) && until <= *back + SignedDuration::from_secs(12)
        })
    }

    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default()
    }

    pub(crate) fn rewrite(&self, name: &str, from: &str, to: &str) -> Result<()> {
        let text = self.file(name);
        ensure!(text.contains(from), "`{from}` is not in {name}");
        fs::write(self.folder.join(name), text.replace(from, to)).context("writing a pipeline")
    }
}

/// Checks and messages under way in a producer at one moment: the kafka sink's queue is the larger part.
const UNDER_WAY_MAX: u64 = 2_000;

pub(crate) fn utf8(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
