//! How fast the two stages are: how long one measurement alone takes to the broker and back, and then measurements a second
//! and CPU each, through the sink and back through the source.
//!
//!     cargo run --profile light -p monmon-kafka --example rate -- 127.0.0.1:19092 TOPIC [COUNT]
//!
//! The topic must be there and empty. With `COUNT` 0 the sink is left out and the topic is read.
#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{Check, Measurement, Outcome, Prober, Timings, check_id, measurement_id};
use monmon_stage::{
    Ack, AckTracker, DecodeContext, EDGE_PLACES, Emitter, Envelope, Mode, OpenStage, ProberIdentity,
    StageContext, StageCounters, StageKind, StageSpec, SystemClock, SystemWorld, inlet,
};
use monmon_syntax::{MemoryLoader, Problems, load, read};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const BATCH: u64 = 500;

/// How many measurements go alone, after those that are not counted.
const ALONE: u64 = 200;
const WARM: u64 = 5;

/// Tells of each ack.
#[derive(Default)]
struct Acks(tokio::sync::Notify);

impl AckTracker for Acks {
    fn resolved(&self, _token: u64, _delivered: bool) {
        self.0.notify_one();
    }
}

#[derive(Default)]
struct Delivered(AtomicU64);

impl AckTracker for Delivered {
    fn resolved(&self, _token: u64, delivered: bool) {
        self.0.fetch_add(u64::from(delivered), Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, rest @ ..] = arguments.as_slice() else {
        return Err("usage: rate BROKERS TOPIC [COUNT]".into());
    };
    let count: u64 = rest.first().map_or(Ok(500_000), |text| text.parse())?;
    let common = format!("brokers \"{brokers}\"; topic \"{topic}\"");
    if count > 0 {
        one_by_one(&common).await?;
        through_the_sink(&common, count).await?;
    }
    through_the_source(&common).await
}

/// One at a time, each after the last was acknowledged and read.
async fn one_by_one(common: &str) -> Result<(), Box<dyn std::error::Error>> {
    let (sink_spec, source_spec) = (
        spec(&monmon_kafka::SINK, &format!("kafka \"out\" from=\"x\" {{ {common} }}")),
        spec(
            &monmon_kafka::SOURCE,
            &format!("kafka \"in\" {{ {common}; group \"rate.{}\" }}", Uuid::new_v4()),
        ),
    );
    let (to, back) = (context(Mode::Continuous), context(Mode::Continuous));
    let stop = back.stop.clone();
    let (OpenStage::Sink(sink), OpenStage::Source(source)) =
        (sink_spec.open(to).await?, source_spec.open(back).await?)
    else {
        return Err("no sink or no source".into());
    };
    let (outlet, input) = inlet(EDGE_PLACES, false);
    let (end, mut read) = inlet(EDGE_PLACES, false);
    let mut tasks = JoinSet::new();
    tasks.spawn(sink.run(input));
    tasks.spawn(source.run(Emitter::new(vec![end])));
    let out = Emitter::new(vec![outlet]);
    let acks = Arc::new(Acks::default());
    let tracker: Arc<dyn AckTracker> = acks.clone();
    let example = example();
    let (mut acked, mut arrived) = (Vec::new(), Vec::new());
    // The first ones wait for the group.
    for number in 0..ALONE + WARM {
        let begun = Instant::now();
        let one = Envelope::measurement(example.clone(), None, Ack::new(tracker.clone(), number));
        out.emit(vec![one]).await?;
        acks.0.notified().await;
        let to_ack = begun.elapsed();
        let batch = read.recv().await.ok_or("the source has ended")?;
        if number >= WARM {
            acked.push(to_ack);
            arrived.push(begun.elapsed());
        }
        batch.into_iter().for_each(|envelope| envelope.ack.deliver());
        // As when nothing else is to do: what waits for a message has settled down.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (what, times) in [("acknowledged", &mut acked), ("read", &mut arrived)] {
        times.sort();
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        println!("one alone, {what} after: p50 {:.2?}, p99 {:.2?}", at(0.5), at(0.99));
    }
    drop(out);
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn through_the_sink(common: &str, count: u64) -> Result<(), Box<dyn std::error::Error>> {
    let spec = spec(&monmon_kafka::SINK, &format!("kafka \"out\" from=\"x\" {{ {common} }}"));
    let OpenStage::Sink(sink) = spec.open(context(Mode::Continuous)).await? else {
        return Err("no sink".into());
    };
    let (outlet, input) = inlet(EDGE_PLACES, false);
    let mut tasks = JoinSet::new();
    tasks.spawn(sink.run(input));
    let out = Emitter::new(vec![outlet]);
    let delivered = Arc::new(Delivered::default());
    let tracker: Arc<dyn AckTracker> = delivered.clone();
    let example = example();
    let meter = Meter::start();
    for start in (0..count).step_by(BATCH as usize) {
        let batch = (start..count.min(start + BATCH)).map(|number| {
            let mut one = example.clone();
            one.seq = number + 1;
            one.scheduled_at += Duration::from_millis(number);
            one.id = measurement_id(one.prober.id, one.check.id, one.scheduled_at, 1);
            Envelope::measurement(one, None, Ack::new(tracker.clone(), number))
        });
        out.emit(batch.collect()).await?;
    }
    drop(out);
    tasks.join_next().await.ok_or("no task")???;
    meter.print("sink", delivered.0.load(Ordering::Relaxed));
    Ok(())
}

async fn through_the_source(common: &str) -> Result<(), Box<dyn std::error::Error>> {
    let text = format!("kafka \"in\" {{ {common}; group \"rate.{}\" }}", Uuid::new_v4());
    let OpenStage::Source(source) = spec(&monmon_kafka::SOURCE, &text).open(context(Mode::Once)).await?
    else {
        return Err("no source".into());
    };
    let (outlet, mut input) = inlet(EDGE_PLACES, false);
    let mut tasks = JoinSet::new();
    tasks.spawn(source.run(Emitter::new(vec![outlet])));
    let mut count = 0;
    let mut meter = None;
    while let Some(batch) = input.recv().await {
        // From the first batch on: joining the group takes its time.
        meter.get_or_insert_with(Meter::start);
        count += batch.len() as u64;
        batch.into_iter().for_each(|envelope| envelope.ack.deliver());
    }
    if let Some(meter) = meter {
        meter.print("source", count);
    }
    tasks.join_next().await.ok_or("no task")???;
    Ok(())
}

fn spec(kind: &StageKind, text: &str) -> Box<dyn StageSpec> {
    let mut problems = Problems::new();
    let loader = MemoryLoader::new().with("rate.kdl", text);
    let loaded = load(Path::new("rate.kdl"), &loader, &mut problems);
    let node = read(&loaded.nodes[0].node, loaded.nodes[0].file, kind.spec, &mut problems);
    let (sources, folder) = (&loaded.sources, Path::new("."));
    let context = DecodeContext { pipeline: "rate", stage: "rate", sources, folder, loader: &loader };
    let spec = (kind.decode)(&node, &context, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    spec
}

fn context(mode: Mode) -> StageContext {
    StageContext {
        pipeline: "rate".into(),
        stage: "rate".into(),
        mode,
        stop: CancellationToken::new(),
        world: Arc::new(SystemWorld),
        clock: Arc::new(SystemClock),
        prober: ProberIdentity {
            id: Uuid::from_u128(7),
            name: "rate".to_owned(),
            location: None,
            state: None,
        },
        keep_pages: false,
        fail_fast: true,
        grace: Duration::from_secs(30),
        counters: Arc::new(StageCounters::default()),
    }
}

fn example() -> Measurement {
    let check = Check {
        id: check_id("rate", "sites", "docs"),
        name: "docs".to_owned(),
        pipeline: "rate".to_owned(),
        source: "sites".to_owned(),
        method: "GET".to_owned(),
        url: "https://docs.example.org/".to_owned(),
        schedule: None,
        interval_us: 60_000_000,
        timeout_us: 10_000_000,
        labels: BTreeMap::new(),
    };
    let prober =
        Prober { id: Uuid::from_u128(7), name: "rate".to_owned(), location: None, boot: Uuid::nil() };
    let scheduled_at = Timestamp::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
    Measurement {
        id: Uuid::nil(),
        seq: 0,
        attempt: 1,
        method: "GET".to_owned(),
        url: check.url.clone(),
        check: Arc::new(check),
        prober: Arc::new(prober),
        scheduled_at,
        started_at: Some(scheduled_at),
        outcome: Outcome::Up,
        reason: None,
        error: None,
        status: Some(200),
        http_version: Some("1.1".to_owned()),
        remote_addr: Some("192.0.2.1:443".to_owned()),
        timings: Timings {
            dns_us: Some(1_200),
            connect_us: Some(10_000),
            tls_us: Some(22_000),
            wait_us: Some(31_000),
            transfer_us: Some(400),
            total_us: 64_600,
        },
        body_bytes: Some(10_240),
        body_wire_bytes: None,
        body_truncated: false,
        redirects: Vec::new(),
        tls: None,
        details: None,
        matches: Vec::new(),
    }
}

/// Time and this process's CPU.
struct Meter {
    start: Instant,
    cpu: Duration,
}

impl Meter {
    fn start() -> Meter {
        Meter { start: Instant::now(), cpu: cpu() }
    }

    fn print(&self, what: &str, count: u64) {
        let (time, cpu) = (self.start.elapsed(), cpu() - self.cpu);
        println!(
            "{what}: {count} measurements in {time:.2?}: {:.0}/s, {:.2} us of CPU each",
            count as f64 / time.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / count as f64,
        );
    }
}

/// User and system time, which Linux tells in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10)
}
