//! A spool in a temporary folder, and a server that is there or not as a test says.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use monmon_model::{Event, Origin, Receipt, Rejected, RejectedReason};
use monmon_spool::{SPOOL, SpoolStatus, wrap};
use monmon_stage::{
    Batch, DecodeContext, EDGE_PLACES, Emitter, Envelope, Inlet, Item, OpenFuture, OpenStage, Sink,
    StageContext, StageError, StageSpec, inlet,
};
use monmon_syntax::{MemoryLoader, NodeSpec, Problems, load, read};
use monmon_testkit::stages::{AckBook, measurement, stage_context};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

static SINK: NodeSpec =
    NodeSpec { name: "test", help: "a sink of a test", children: &[&SPOOL], ..NodeSpec::BLANK };

/// What the server does with what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Up,
    /// Says nothing, and has it all when it is back.
    Away,
    /// Fails every ack.
    Refuses,
    /// Fails the ack of this one alone.
    RefusesOne(u64),
    /// The sink ends with an error, and what it holds is dropped.
    Breaks,
    /// The sink can't be opened.
    CannotOpen,
    /// The sink can't be opened, and never will be.
    Wrong,
    /// The sink panics.
    Panics,
}

/// The far side of the sink.
#[derive(Debug)]
pub(crate) struct Server {
    mode: watch::Sender<Mode>,
    got: Mutex<Vec<u64>>,
    receipts: Mutex<Vec<Receipt>>,
    count: watch::Sender<usize>,
    /// Where it writes what it got, before it says so.
    log: Option<File>,
}

impl Server {
    pub(crate) fn new(mode: Mode) -> Arc<Server> {
        Arc::new(Server::with_log(mode, None))
    }

    /// Writes each number on a line of the file, which outlives the process.
    pub(crate) fn logging(mode: Mode, file: &Path) -> Arc<Server> {
        let log = File::options().create(true).append(true).open(file).expect("a file of the test's");
        Arc::new(Server::with_log(mode, Some(log)))
    }

    fn with_log(mode: Mode, log: Option<File>) -> Server {
        Server {
            mode: watch::Sender::new(mode),
            got: Mutex::default(),
            receipts: Mutex::default(),
            count: watch::Sender::new(0),
            log,
        }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// The numbers of what was delivered, in the order of its coming.
    pub(crate) fn got(&self) -> Vec<u64> {
        self.got.lock().expect("no holder panics").clone()
    }

    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        self.receipts.lock().expect("no holder panics").clone()
    }

    /// Waits until so many were delivered.
    pub(crate) async fn has(&self, count: usize) {
        self.count.subscribe().wait_for(|now| *now >= count).await.expect("the server is here");
    }

    fn take(&self, envelope: Envelope) {
        if let Some(mut log) = self.log.as_ref() {
            writeln!(log, "{}", number(&envelope.item)).expect("it can be written");
        }
        if let Item::Event(reported) = &envelope.item
            && let Event::Receipt(receipt) = &*reported.event
        {
            self.receipts.lock().expect("no holder panics").push(receipt.clone());
        }
        let mut got = self.got.lock().expect("no holder panics");
        got.push(number(&envelope.item));
        self.count.send_replace(got.len());
        drop(got);
        envelope.ack.deliver();
    }
}

/// Receipts have numbers from here on, by the last number that they are about.
pub(crate) const RECEIPTS: u64 = 1_000_000;

pub(crate) fn number(item: &Item) -> u64 {
    match item {
        Item::Measurement(measured) => measured.measurement.seq,
        Item::Event(reported) => match &*reported.event {
            Event::Receipt(receipt) => RECEIPTS + receipt.last_seq,
            Event::Incident(_) => panic!("no test here gives incidents"),
        },
        Item::Rejected(refused) => refused.rejected.message.parse().expect("a test's message is its number"),
    }
}

#[derive(Debug)]
struct ServerSpec(Arc<Server>);

impl StageSpec for ServerSpec {
    fn describe(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    fn open(&self, _context: StageContext) -> OpenFuture<'_> {
        let server = self.0.clone();
        Box::pin(async move {
            match *server.mode.borrow() {
                Mode::CannotOpen => return Err(StageError::transient("the server is away")),
                Mode::Wrong => return Err(StageError::permanent("the password is wrong")),
                _ => {}
            }
            Ok(OpenStage::Sink(Box::new(ServerSink(server.clone()))))
        })
    }
}

struct ServerSink(Arc<Server>);

#[async_trait]
impl Sink for ServerSink {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let server = self.0;
        let mut modes = server.mode.subscribe();
        let mut held: VecDeque<Envelope> = VecDeque::new();
        let mut ended = false;
        loop {
            let mode = *modes.borrow_and_update();
            match mode {
                Mode::Up => held.drain(..).for_each(|envelope| server.take(envelope)),
                Mode::Refuses => held.drain(..).for_each(|envelope| envelope.ack.fail()),
                Mode::RefusesOne(one) => held.drain(..).for_each(|envelope| match number(&envelope.item) {
                    number if number == one => envelope.ack.fail(),
                    _ => server.take(envelope),
                }),
                Mode::Breaks | Mode::CannotOpen | Mode::Wrong => {
                    return Err(StageError::transient("the connection broke"));
                }
                Mode::Panics => panic!("a sink's bug, made by a test"),
                Mode::Away => {}
            }
            if ended && held.is_empty() {
                return Ok(());
            }
            tokio::select! {
                batch = input.recv(), if !ended => match batch {
                    Some(batch) => held.extend(batch),
                    None => ended = true,
                },
                changed = modes.changed() => changed.expect("the server is here"),
            }
        }
    }
}

pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) book: Arc<AckBook>,
    pub(crate) server: Arc<Server>,
}

impl Rig {
    pub(crate) fn new(mode: Mode) -> Rig {
        let folder = TempDir::new().expect("a temporary folder");
        Rig { folder, book: AckBook::new(), server: Server::new(mode) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("test.spool")
    }

    pub(crate) fn status(&self) -> SpoolStatus {
        monmon_spool::status(&self.path()).expect("the spool can be read")
    }

    pub(crate) async fn open(
        &self,
        options: &str,
        context: StageContext,
    ) -> Result<Box<dyn Sink>, StageError> {
        open(self.folder.path(), options, self.server.clone(), context).await
    }

    /// Opens it and lets it run.
    pub(crate) async fn run(&self, options: &str) -> Running {
        let context = stage_context("events");
        let sink = self.open(options, context.clone()).await.expect("the spool can be opened");
        Running::new(sink, context)
    }

    /// One that is large, with its number.
    pub(crate) fn large(&self, number: u64, bytes: usize) -> Envelope {
        let origin = Origin {
            pipeline: "test".to_owned(),
            source: "source".to_owned(),
            topic: None,
            partition: None,
            offset: None,
        };
        let (reason, at) = (RejectedReason::NotJson, Timestamp::UNIX_EPOCH);
        let rejected = Rejected::new(reason, number.to_string(), origin, at, None, vec![0xff; bytes]);
        Envelope::rejected(rejected, None, self.book.ack(number))
    }

    /// The receipt of some of the measurements.
    pub(crate) fn receipt(&self, numbers: RangeInclusive<u64>) -> Envelope {
        let of = measurement("docs", *numbers.end());
        let at = of.scheduled_at;
        let event = Event::Receipt(Receipt {
            id: of.id,
            prober: of.prober,
            pipeline: "test".to_owned(),
            source: "source".to_owned(),
            at,
            began_at: at,
            slots_from: at,
            slots_until: at,
            first_seq: *numbers.start(),
            last_seq: *numbers.end(),
            ids_xor: of.id,
            failed: 0,
            last: false,
        });
        Envelope::event(event, None, self.book.ack(RECEIPTS + *numbers.end()))
    }

    pub(crate) fn batch(&self, seqs: impl IntoIterator<Item = u64>) -> Batch {
        let envelope = |seq| Envelope::measurement(measurement("docs", seq), None, self.book.ack(seq));
        seqs.into_iter().map(envelope).collect()
    }
}

pub(crate) async fn open(
    folder: &Path,
    options: &str,
    server: Arc<Server>,
    context: StageContext,
) -> Result<Box<dyn Sink>, StageError> {
    let file = folder.join("pipeline.kdl");
    let text = format!("test {{\n    spool \"test.spool\" {options}\n}}\n");
    let loader = MemoryLoader::new().with(file.clone(), text);
    let mut problems = Problems::new();
    let loaded = load(&file, &loader, &mut problems);
    let top = loaded.nodes.first().expect("one node");
    let node = read(&top.node, top.file, &SINK, &mut problems);
    let decoding = DecodeContext {
        pipeline: "test",
        stage: "events",
        sources: &loaded.sources,
        folder,
        loader: &loader,
    };
    let spec = wrap(&node, &decoding, Box::new(ServerSpec(server)));
    assert!(problems.is_empty(), "{problems:?}");
    match spec.open(context).await? {
        OpenStage::Sink(sink) => Ok(sink),
        OpenStage::Source(_) | OpenStage::Transform(_) => panic!("it is a sink"),
    }
}

/// A spool that runs beside the test.
pub(crate) struct Running {
    out: Option<Emitter>,
    tasks: JoinSet<Result<(), StageError>>,
    pub(crate) context: StageContext,
}

impl Running {
    pub(crate) fn new(sink: Box<dyn Sink>, context: StageContext) -> Running {
        let (outlet, input) = inlet(EDGE_PLACES, false);
        let mut tasks = JoinSet::new();
        tasks.spawn(sink.run(input));
        Running { out: Some(Emitter::new(vec![outlet])), tasks, context }
    }

    pub(crate) async fn give(&self, batch: Batch) {
        self.out.as_ref().expect("the input is open").emit(batch).await.expect("the spool goes on");
    }

    /// Gives measurements by their numbers beside the test, however long that takes.
    pub(crate) fn feed(&self, book: &Arc<AckBook>, numbers: RangeInclusive<u64>) -> JoinSet<()> {
        let (out, book) = (self.out.clone().expect("the input is open"), book.clone());
        let numbers: Vec<u64> = numbers.collect();
        let mut feeding = JoinSet::new();
        feeding.spawn(async move {
            for some in numbers.chunks(50) {
                let envelope =
                    |seq: &u64| Envelope::measurement(measurement("docs", *seq), None, book.ack(*seq));
                out.emit(some.iter().map(envelope).collect()).await.expect("the spool goes on");
            }
        });
        feeding
    }

    /// Gives receipts beside the test, each of one number.
    pub(crate) fn feed_receipts(&self, rig: &Rig, count: u64) -> JoinSet<()> {
        let out = self.out.clone().expect("the input is open");
        let mut receipts: Vec<Envelope> = (1..=count).map(|number| rig.receipt(number..=number)).collect();
        let mut feeding = JoinSet::new();
        feeding.spawn(async move {
            while !receipts.is_empty() {
                let some = receipts.drain(..receipts.len().min(50)).collect();
                out.emit(some).await.expect("the spool goes on");
            }
        });
        feeding
    }

    /// Ends as a run does that was asked to.
    pub(crate) async fn stop(mut self) -> Result<(), StageError> {
        self.context.stop.cancel();
        self.out = None;
        self.tasks.join_next().await.expect("one task").expect("no panic")
    }

    /// Ends as a process does that is killed, as far as a task can: nothing is waited for but a write that is under way.
    pub(crate) async fn kill(mut self) {
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        drop(self.out);
    }
}

/// Time that passes.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
