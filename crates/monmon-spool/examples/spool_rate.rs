//! What a spool costs: CPU of a measurement that goes straight through, with and without one; how fast it takes what the
//! sink does not, how fast it gives it back, and how many bytes a measurement has on the disk.
//!
//!     cargo run -p monmon-spool --example spool_rate -- FOLDER [COUNT]
#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use monmon_spool::{SPOOL, wrap};
use monmon_stage::{
    Ack, AckTracker, DecodeContext, EDGE_PLACES, Emitter, Envelope, Inlet, OpenFuture, OpenStage, Sink,
    StageContext, StageError, StageSpec, inlet,
};
use monmon_syntax::{MemoryLoader, NodeSpec, Problems, load, read};
use monmon_testkit::stages::{measurement, stage_context};
use tokio::task::JoinSet;
use tokio::time::Instant;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const BATCH: u64 = 64;

static SINK: NodeSpec =
    NodeSpec { name: "test", help: "a sink of this program", children: &[&SPOOL], ..NodeSpec::BLANK };

#[derive(Default)]
struct Resolved(AtomicU64);

impl AckTracker for Resolved {
    fn resolved(&self, _token: u64, delivered: bool) {
        self.0.fetch_add(u64::from(delivered), Ordering::Relaxed);
    }
}

/// Delivers at once, or nothing.
#[derive(Clone, Debug)]
struct Server {
    up: bool,
    got: Arc<AtomicU64>,
}

impl StageSpec for Server {
    fn describe(&self) -> serde_json::Value {
        serde_json::json!({})
    }

    fn open(&self, _context: StageContext) -> OpenFuture<'_> {
        let server = self.clone();
        Box::pin(async move { Ok(OpenStage::Sink(Box::new(server))) })
    }
}

#[async_trait]
impl Sink for Server {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let mut held = Vec::new();
        while let Some(batch) = input.recv().await {
            match self.up {
                true => {
                    self.got.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    batch.into_iter().for_each(|envelope| envelope.ack.deliver());
                }
                false => held.push(batch),
            }
        }
        Ok(())
    }
}

struct Run {
    out: Option<Emitter>,
    tasks: JoinSet<Result<(), StageError>>,
    context: StageContext,
    got: Arc<AtomicU64>,
    acked: Arc<Resolved>,
}

impl Run {
    async fn start(folder: &Path, spool: &str, up: bool) -> Outcome<Run> {
        let file = folder.join("rate.kdl");
        let loader = MemoryLoader::new().with(file.clone(), format!("test {{\n{spool}\n}}\n"));
        let mut problems = Problems::new();
        let loaded = load(&file, &loader, &mut problems);
        let top = loaded.nodes.first().ok_or("no node")?;
        let node = read(&top.node, top.file, &SINK, &mut problems);
        let sources = &loaded.sources;
        let decoding = DecodeContext { pipeline: "rate", stage: "rate", sources, folder, loader: &loader };
        let got = Arc::new(AtomicU64::new(0));
        let spec = wrap(&node, &decoding, Box::new(Server { up, got: got.clone() }));
        let context = stage_context("rate");
        let OpenStage::Sink(sink) = spec.open(context.clone()).await? else { return Err("no sink".into()) };
        let (outlet, input) = inlet(EDGE_PLACES, false);
        let mut tasks = JoinSet::new();
        tasks.spawn(sink.run(input));
        let out = Some(Emitter::new(vec![outlet]));
        Ok(Run { out, tasks, context, got, acked: Arc::default() })
    }

    async fn give(&self, count: u64) -> Outcome<()> {
        let example = measurement("docs", 1);
        let tracker: Arc<dyn AckTracker> = self.acked.clone();
        let out = self.out.as_ref().ok_or("it has ended")?;
        for start in (0..count).step_by(BATCH as usize) {
            let batch = (start..count.min(start + BATCH)).map(|number| {
                let mut one = example.clone();
                one.seq = number + 1;
                Envelope::measurement(one, None, Ack::new(tracker.clone(), number))
            });
            out.emit(batch.collect()).await?;
        }
        while self.acked.0.load(Ordering::Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    async fn stop(mut self) -> Outcome<()> {
        self.context.stop.cancel();
        self.out = None;
        Ok(self.tasks.join_next().await.ok_or("no task")???)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, rest @ ..] = arguments.as_slice() else { return Err("usage: rate FOLDER [COUNT]".into()) };
    let count: u64 = rest.first().map_or(Ok(200_000), |text| text.parse())?;
    let folder = PathBuf::from(folder);
    for (name, spool) in [("without a spool", ""), ("straight through a spool", "spool \"healthy.spool\"")] {
        let run = Run::start(&folder, spool, true).await?;
        let meter = Meter::start();
        run.give(count).await?;
        meter.print(name, count);
        run.stop().await?;
    }
    let spool = "spool \"rate.spool\" max=\"16GiB\" after=\"10ms\" replay=1000000";
    let run = Run::start(&folder, spool, false).await?;
    let meter = Meter::start();
    run.give(count).await?;
    meter.print("into the spool", count);
    run.stop().await?;
    let status = monmon_spool::status(&folder.join("rate.spool"))?;
    println!(
        "on the disk: {} items, {} bytes, {} each",
        status.items,
        status.bytes,
        status.bytes / status.items.max(1)
    );

    let begun = Instant::now();
    let run = Run::start(&folder, spool, true).await?;
    println!("opened and checked in {:.2} s", begun.elapsed().as_secs_f64());
    let meter = Meter::start();
    while run.got.load(Ordering::Relaxed) < status.items {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    meter.print("out of the spool", status.items);
    run.stop().await?;
    let status = monmon_spool::status(&folder.join("rate.spool"))?;
    println!("afterwards: {} items, {} bytes", status.items, status.bytes);
    Ok(())
}

/// Time on the clock and on the processor, of this process.
struct Meter {
    at: Instant,
    cpu: Duration,
}

impl Meter {
    fn start() -> Meter {
        Meter { at: Instant::now(), cpu: cpu() }
    }

    fn print(&self, name: &str, count: u64) {
        let (seconds, cpu) = (self.at.elapsed().as_secs_f64(), cpu().saturating_sub(self.cpu));
        let each = cpu.as_secs_f64() * 1e6 / count as f64;
        println!(
            "{name}: {count} in {seconds:.2} s, {:.0}/s, {each:.2} us of CPU each",
            count as f64 / seconds
        );
    }
}

/// The kernel counts in hundredths of a second (proc(5)).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
