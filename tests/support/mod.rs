//! What whole-program tests share: the program as a process, real services, and the oracles beside monmon's own word.

#![expect(dead_code, reason = "each test binary uses its own part of this")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use uuid::Uuid;

mod announced;
pub(crate) mod broker;

use announced::Announced;

pub(crate) const MONMON: &str = env!("CARGO_BIN_EXE_monmon");

/// How long anything that must come may take to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Tests of a binary that touch services or their processes take turns.
pub(crate) static TURN: Mutex<()> = Mutex::new(());

/// A setting that `cargo xtask test` makes.
pub(crate) fn setting(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "tests get the services' addresses from their environment")]
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"))
}

/// Runs one of the scripts in tests/services.
pub(crate) fn service(script: &str, arguments: &[&str]) -> String {
    let path = Path::new(&setting("MONMON_TEST_SERVICES")).join(script);
    let output =
        Command::new(&path).args(arguments).output().unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{script} {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A service that is down on purpose; back when the test ends, however it ends, so that the next one finds it.
pub(crate) struct Outage(&'static str, &'static [&'static str]);

impl Outage {
    pub(crate) fn new(script: &'static str, kill: &[&str], start: &'static [&'static str]) -> Outage {
        service(script, kill);
        Outage(script, start)
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        service(self.0, self.1);
    }
}

/// A folder with a prober's state, and pipeline files written into it. What the programs that are started here log is
/// held against what was announced.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    announced: Announced,
}

impl Place {
    pub(crate) fn new() -> Place {
        let announced = Announced::default();
        // The tests' cluster is one broker, and few of their topics have one for dead letters beside them.
        announced.add(&["the topic has one replica", "the topic for dead letters does not exist"]);
        Place { folder: tempfile::tempdir().expect("a temporary folder"), announced }
    }

    /// Warnings and errors with one of these texts in them may be logged here; any other fails the test.
    pub(crate) fn announce(&self, texts: &[&'static str]) {
        self.announced.add(texts);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file in the temporary folder");
        path
    }

    /// The program, with its state in this folder.
    pub(crate) fn monmon(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(MONMON);
        command.args(arguments).env("MONMON_STATE_DIR", self.path("state")).env("NO_COLOR", "1");
        command.env_remove("MONMON_STORE").env_remove("MONMON_LOG").env_remove("MONMON_METRICS");
        command.stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        let output = self.monmon(arguments).output().expect("the program starts");
        self.announced.check(String::from_utf8_lossy(&output.stderr).lines());
        output
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        self.start_command(self.monmon(arguments))
    }

    /// A command of `monmon`, with more set.
    pub(crate) fn start_command(&self, command: Command) -> Running {
        Running::start(command, self.announced.clone())
    }
}

/// A program under way, with the lines it writes.
pub(crate) struct Running {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    announced: Announced,
}

impl Running {
    fn start(mut command: Command, announced: Announced) -> Running {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        let readers = outputs.map(|output| {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    lines.lock().expect("no reader panics").push(line);
                }
            })
        });
        Running { child, lines, readers: readers.into(), announced }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.lines.lock().expect("no reader panics").join("\n")
    }

    /// Until a line has this in it.
    pub(crate) fn says(&mut self, text: &str) {
        eventually(&format!("`{text}` in the log"), || {
            if self.log().contains(text) {
                return true;
            }
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("ended with {status} before it said `{text}`:\n{}", self.log());
            }
            false
        });
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill starts").success(), "{name} can't be sent");
    }

    /// Kills it with no chance to clean up; proves that it was this that ended it.
    pub(crate) fn kill(mut self) -> String {
        use std::os::unix::process::ExitStatusExt;
        assert!(self.is_running(), "it ended by itself:\n{}", self.log());
        self.child.kill().expect("SIGKILL can be sent");
        let status = self.child.wait().expect("a child");
        assert_eq!(status.signal(), Some(9), "{status}");
        self.finish()
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return (status, self.finish());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running after {PATIENCE:?}:\n{}", self.log());
    }

    pub(crate) fn terminate(self) -> (ExitStatus, String) {
        self.signal("TERM");
        self.end()
    }

    fn finish(&mut self) -> String {
        self.readers.drain(..).for_each(|reader| reader.join().expect("a reader"));
        let log = self.log();
        self.announced.check(log.lines());
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is gone already where the test came to its end.
        drop(self.child.kill());
        drop(self.child.wait());
        if !self.readers.is_empty() && !std::thread::panicking() {
            self.finish();
        }
    }
}

/// Waits until something holds, and fails loudly if it never does.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A database of its own on the real server, gone when dropped.
pub(crate) struct Database {
    name: String,
    runtime: tokio::runtime::Runtime,
}

impl Database {
    pub(crate) fn new() -> Database {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let database = Database { name: format!("road_{}", Uuid::new_v4().simple()), runtime };
        database.admin(&format!("CREATE DATABASE {} OWNER app", database.name));
        database
    }

    fn url_of(setting_name: &str, database: &str) -> String {
        let mut url = url::Url::parse(&setting(setting_name)).expect("a URL");
        url.set_path(database);
        url.into()
    }

    pub(crate) fn url(&self) -> String {
        Database::url_of("MONMON_TEST_POSTGRES", &self.name)
    }

    pub(crate) fn admin(&self, sql: &str) {
        let url = setting("MONMON_TEST_POSTGRES_ADMIN");
        self.try_query(&url, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn try_query(&self, url: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(connection);
            let messages = client.simple_query(sql).await?;
            let rows = messages.into_iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                }
                _ => None,
            });
            Ok(rows.collect())
        })
    }

    /// All rows as text. Fails if the server does.
    pub(crate) fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.try_query(&self.url(), sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// A single count, or nothing while the server is away.
    pub(crate) fn count(&self, sql: &str) -> Option<u64> {
        let rows = self.try_query(&self.url(), sql).ok()?;
        rows.first()?.first()?.as_ref()?.parse().ok()
    }

    /// As `count`, asked as the superuser.
    pub(crate) fn admin_count(&self, sql: &str) -> Option<u64> {
        let rows = self.try_query(&Database::url_of("MONMON_TEST_POSTGRES_ADMIN", &self.name), sql).ok()?;
        rows.first()?.first()?.as_ref()?.parse().ok()
    }

    /// Lets another role make tables here.
    pub(crate) fn grant_all(&self, role: &str) {
        let url = Database::url_of("MONMON_TEST_POSTGRES_ADMIN", &self.name);
        self.try_query(&url, &format!("GRANT ALL ON SCHEMA public TO {role}")).expect("the superuser may");
    }

    /// Stored measurement ids, sorted as text.
    pub(crate) fn ids(&self) -> Vec<String> {
        let rows = self.query("SELECT id::text FROM monmon_measurement ORDER BY id");
        rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let url = setting("MONMON_TEST_POSTGRES_ADMIN");
        drop(self.try_query(&url, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)));
    }
}

/// A topic of its own, read from its beginning by a client that is not monmon's.
pub(crate) struct Topic {
    pub(crate) name: String,
}

/// What a topic holds.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// How often each measurement id is in the topic.
    pub(crate) ids: BTreeMap<String, u64>,
    /// Of these, how many are of each outcome.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Distinct measurements that the site answered.
    pub(crate) answered: u64,
    pub(crate) messages: u64,
    /// Distinct receipts.
    pub(crate) receipts: BTreeSet<String>,
    /// The ids of each check, in the order of the topic where it has one partition.
    pub(crate) by_check: BTreeMap<String, Vec<String>>,
}

impl Topic {
    pub(crate) fn new(partitions: u32) -> Topic {
        let name = format!("road-{}", Uuid::new_v4().simple());
        service("kafka.sh", &["topic", &name, &partitions.to_string()]);
        Topic { name }
    }

    fn config(&self) -> rdkafka::ClientConfig {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", setting("MONMON_TEST_KAFKA"));
        config
    }

    pub(crate) fn publish(&self, messages: &[Vec<u8>]) {
        use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
        let producer: BaseProducer = self.config().create().expect("a producer");
        for message in messages {
            let record = BaseRecord::<(), [u8]>::to(&self.name).payload(message).partition(0);
            producer.send(record).expect("room in the queue");
        }
        producer.flush(PATIENCE).expect("all is published");
    }

    /// Everything from offset 0 to the end.
    pub(crate) fn journal(&self) -> Journal {
        use rdkafka::consumer::{BaseConsumer, Consumer};
        use rdkafka::{Message, Offset, TopicPartitionList};
        let mut config = self.config();
        config.set("group.id", "journal").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE).expect("metadata");
        let partitions: Vec<i32> =
            metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
        let mut left: BTreeMap<i32, i64> = BTreeMap::new();
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let (low, high) = consumer.fetch_watermarks(&self.name, partition, PATIENCE).expect("watermarks");
            if high > low {
                left.insert(partition, high);
                list.add_partition_offset(&self.name, partition, Offset::Beginning).expect("an offset");
            }
        }
        let mut journal = Journal::default();
        if left.is_empty() {
            return journal;
        }
        consumer.assign(&list).expect("an assignment");
        let begun = Instant::now();
        while !left.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "the topic can't be read to its end");
            let Some(message) = consumer.poll(Duration::from_secs(1)) else { continue };
            let message = message.expect("a message");
            journal.add(message.payload().unwrap_or_default());
            if left.get(&message.partition()).is_some_and(|high| message.offset() + 1 >= *high) {
                left.remove(&message.partition());
            }
        }
        journal
    }
}

impl Journal {
    fn add(&mut self, payload: &[u8]) {
        self.messages += 1;
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(payload) else { return };
        let Some(id) = value["id"].as_str() else { return };
        if value["type"] == "receipt" {
            self.receipts.insert(id.to_owned());
        }
        if value["type"] != "measurement" {
            return;
        }
        let check = value["check"]["id"].as_str().unwrap_or_default().to_owned();
        self.by_check.entry(check).or_default().push(id.to_owned());
        let seen = self.ids.entry(id.to_owned()).or_default();
        *seen += 1;
        if *seen == 1 {
            *self.outcomes.entry(value["outcome"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            self.answered += u64::from(value["status"].is_u64());
        }
    }

    pub(crate) fn sorted_ids(&self) -> Vec<String> {
        self.ids.keys().cloned().collect()
    }
}
