//! Random graphs with random faults.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use monmon_engine::{Ending, RunReport, stop_pair};
use monmon_plan::{Plan, StageId};
use monmon_stage::{
    Batch, Emitter, Envelope, Inlet, Item, OpenStage, Section, Sink, Source, StageError, Transform,
};
use monmon_testkit::stages::{AckBook, TestSpec, measurement};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{Written, assert_alone, open, options, plan, sink, transform};

/// What a stage does wrong, if anything, and when: at the so-many-th item.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Errs(u64),
    Panics(u64),
}

/// How a sink treats its acks.
#[derive(Clone, Copy, Debug)]
struct Manners {
    /// Fails those whose token is a multiple of this; 0 for none.
    fails: u64,
    /// Keeps them all to the end, and then begins with the last.
    late: bool,
    /// Turns that it gives others before each batch.
    dawdles: u8,
    fault: Fault,
}

#[derive(Clone, Debug)]
struct Shape {
    /// Batches by source.
    sources: Vec<(Vec<u64>, Fault)>,
    transforms: Vec<(Vec<Index>, Fault)>,
    sinks: Vec<(Vec<Index>, Manners)>,
    capacity: usize,
    /// A stop that waits for nothing, when so many are resolved.
    cut_off_after: Option<usize>,
}

/// Shapes whose stages have faults and whose runs may be cut off, or have none and are not.
fn shape(faulty: bool) -> impl Strategy<Value = Shape> {
    let weight = u32::from(faulty);
    let fault = || {
        prop_oneof![
            3 => Just(Fault::None),
            weight => (1u64..12).prop_map(Fault::Errs),
            weight => (1u64..12).prop_map(Fault::Panics),
        ]
    };
    let cut_off = prop_oneof![2 => Just(None), weight => (0usize..20).prop_map(Some)];
    let from = || prop::collection::vec(any::<Index>(), 1..3);
    let manners = (0u64..4, any::<bool>(), 0u8..4, fault())
        .prop_map(|(fails, late, dawdles, fault)| Manners { fails, late, dawdles, fault });
    let sources = prop::collection::vec((prop::collection::vec(1u64..6, 1..8), fault()), 1..3);
    let transforms = prop::collection::vec((from(), fault()), 0..4);
    let sinks = prop::collection::vec((from(), manners), 1..4);
    (sources, transforms, sinks, 1usize..4, cut_off).prop_map(
        |(sources, transforms, sinks, capacity, cut_off_after)| Shape {
            sources,
            transforms,
            sinks,
            capacity,
            cut_off_after,
        },
    )
}

/// A source's measurements are those of the check of its name; its tokens are their `seq`.
struct RandomSource {
    name: String,
    batches: Vec<u64>,
    fault: Fault,
    made: Arc<AtomicU64>,
    book: Arc<AckBook>,
    _guard: Arc<()>,
}

#[async_trait::async_trait]
impl Source for RandomSource {
    async fn run(self: Box<Self>, out: Emitter) -> Result<(), StageError> {
        for count in &self.batches {
            let first = self.made.fetch_add(*count, Ordering::Relaxed) + 1;
            let tokens = first..first + count;
            let batch: Batch = tokens
                .clone()
                .map(|token| {
                    Envelope::measurement(measurement(&self.name, token), None, self.book.ack(token))
                })
                .collect();
            match self.fault {
                Fault::Errs(at) if tokens.contains(&at) => {
                    return Err(StageError::permanent("made by a test"));
                }
                Fault::Panics(at) if tokens.contains(&at) => panic!("a source's bug, made by a test"),
                _ => {}
            }
            if out.emit(batch).await.is_err() {
                break;
            }
        }
        drop(out);
        self.book.resolved(usize::try_from(self.made.load(Ordering::Relaxed)).expect("few")).await;
        Ok(())
    }
}

/// Lets all pass until its fault, for which an error is a panic too: transforms have no errors.
struct RandomTransform {
    fault: Fault,
    count: u64,
    _guard: Arc<()>,
}

impl Transform for RandomTransform {
    fn apply(&mut self, batch: &mut Batch) {
        self.count += batch.len() as u64;
        if let Fault::Errs(at) | Fault::Panics(at) = self.fault {
            assert!(self.count < at, "a transform's bug, made by a test");
        }
    }
}

/// By check and `seq`: how many copies a sink delivered.
type Copies = BTreeMap<(String, u64), usize>;
type Delivered = Arc<Mutex<Copies>>;

struct RandomSink {
    manners: Manners,
    delivered: Delivered,
    _guard: Arc<()>,
}

impl RandomSink {
    fn resolve(&self, envelope: Envelope) {
        let Item::Measurement(measured) = &envelope.item else { return };
        let (check, token) = (measured.measurement.check.name.clone(), measured.measurement.seq);
        if self.manners.fails != 0 && token.is_multiple_of(self.manners.fails) {
            return envelope.ack.fail();
        }
        *self.delivered.lock().expect("it is held for this line").entry((check, token)).or_default() += 1;
        envelope.ack.deliver();
    }
}

#[async_trait::async_trait]
impl Sink for RandomSink {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let mut kept = Vec::new();
        let mut count = 0;
        while let Some(batch) = input.recv().await {
            for _ in 0..self.manners.dawdles {
                tokio::task::yield_now().await;
            }
            for envelope in batch {
                count += 1;
                match self.manners.fault {
                    Fault::Errs(at) if count == at => return Err(StageError::transient("made by a test")),
                    Fault::Panics(at) if count == at => panic!("a sink's bug, made by a test"),
                    _ if self.manners.late => kept.push(envelope),
                    _ => self.resolve(envelope),
                }
            }
        }
        while let Some(envelope) = kept.pop() {
            self.resolve(envelope);
        }
        Ok(())
    }
}

/// What a run of a shape left behind.
struct Outcome {
    report: RunReport,
    /// By source: its book, and how many it made.
    books: Vec<(Arc<AckBook>, u64)>,
    /// By sink, and by source: what it delivered, and by how many ways the source's measurements come.
    sinks: Vec<(Copies, Vec<usize>)>,
}

/// Different places, from the first so many.
fn places(from: &[Index], before: usize) -> Vec<usize> {
    let mut places: Vec<usize> = from.iter().map(|index| index.index(before)).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn named(place: usize) -> String {
    format!("s{place}")
}

/// By how many ways each stage is reached from a source.
fn ways(plan: &Plan, source: &str) -> BTreeMap<String, usize> {
    let mut ways = vec![0; plan.stages.len()];
    // Stages stand in topological order, and those that share a task have no edge between them.
    let mut inputs: Vec<(usize, usize)> = plan.edges.iter().map(|edge| (edge.from.0, edge.to.0)).collect();
    for task in &plan.tasks {
        inputs.extend(task.stages.windows(2).map(|pair| (pair[0].0, pair[1].0)));
    }
    for place in 0..plan.stages.len() {
        let own = usize::from(&*plan.stage(StageId(place)).name == source);
        ways[place] =
            own + inputs.iter().filter(|(_, to)| *to == place).map(|(from, _)| ways[*from]).sum::<usize>();
    }
    plan.stages.iter().zip(ways).map(|(stage, ways)| (stage.name.to_string(), ways)).collect()
}

async fn play(shape: &Shape) -> Outcome {
    let guard = Arc::new(());
    let mut stages: Vec<Written> = Vec::new();
    let mut books = Vec::new();
    for (place, (batches, fault)) in shape.sources.iter().enumerate() {
        let (made, book) = (Arc::new(AtomicU64::new(0)), AckBook::new());
        books.push((book.clone(), made.clone()));
        let source = RandomSource {
            name: named(place),
            batches: batches.clone(),
            fault: *fault,
            made,
            book,
            _guard: guard.clone(),
        };
        let spec = TestSpec::new(|_| Ok(OpenStage::Source(Box::new(source))));
        stages.push((Section::Sources, spec, Vec::new()));
    }
    for (from, fault) in &shape.transforms {
        let from = places(from, stages.len());
        stages.push(transform(RandomTransform { fault: *fault, count: 0, _guard: guard.clone() }, &from));
    }
    let feeders = stages.len();
    let mut fed: Vec<usize> = stages.iter().flat_map(|(_, _, from)| from.clone()).collect();
    let mut sinks: Vec<(String, Delivered)> = Vec::new();
    let mut feed = |stages: &mut Vec<Written>, from: &[usize], manners: Manners| {
        let delivered = Delivered::default();
        sinks.push((named(stages.len()), delivered.clone()));
        stages.push(sink(RandomSink { manners, delivered, _guard: guard.clone() }, from));
    };
    for (from, manners) in &shape.sinks {
        let from = places(from, feeders);
        fed.extend(&from);
        feed(&mut stages, &from, *manners);
    }
    // No stage may lead nowhere.
    for end in (0..feeders).filter(|place| !fed.contains(place)) {
        feed(&mut stages, &[end], Manners { fails: 0, late: false, dawdles: 0, fault: Fault::None });
    }
    let mut plan = plan(stages);
    plan.edges.iter_mut().for_each(|edge| edge.capacity = shape.capacity);
    let ways: Vec<_> = (0..books.len()).map(|source| ways(&plan, &named(source))).collect();

    let (stop, listener) = stop_pair();
    let engine = open(plan, options(), &listener).await.expect("the test's stages open");
    let cutting_off = async {
        if let Some(after) = shape.cut_off_after {
            books[0].0.resolved(after).await;
            stop.ask();
            stop.ask();
        }
        std::future::pending::<()>().await
    };
    let report = tokio::select! {
        report = engine.run(listener) => report,
        () = cutting_off => unreachable!("it never ends"),
    };
    assert_alone(&guard);
    let by_source = |name: &String| ways.iter().map(|ways| ways[name]).collect();
    let taken = |delivered: Delivered| delivered.lock().expect("no sink is left").clone();
    Outcome {
        report,
        sinks: sinks.into_iter().map(|(name, delivered)| (taken(delivered), by_source(&name))).collect(),
        books: books.into_iter().map(|(book, made)| (book, made.load(Ordering::Relaxed))).collect(),
    }
}

fn played(shape: &Shape) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(play(shape));
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
    outcome
}

/// Every token is resolved once (the book looks at that), and delivered exactly if every sink that it reaches has
/// delivered every copy.
fn check(outcome: &Outcome) {
    for (place, (book, made)) in outcome.books.iter().enumerate() {
        let entries = book.entries();
        assert_eq!(
            entries.iter().map(|(token, _)| *token).collect::<Vec<_>>(),
            (1..=*made).collect::<Vec<_>>()
        );
        for (token, delivered) in entries {
            let key = (named(place), token);
            let everywhere = outcome
                .sinks
                .iter()
                .all(|(taken, ways)| taken.get(&key).copied().unwrap_or(0) == ways[place]);
            assert_eq!(delivered, everywhere, "token {token} of source {place}");
        }
    }
    for failed in &outcome.report.failed {
        let cause = std::error::Error::source(&failed.error).unwrap_or(&failed.error).to_string();
        assert!(cause.contains("made by a test"), "{}: {cause}", failed.stage);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_token_is_resolved_once(shape in shape(false)) {
        let outcome = played(&shape);
        prop_assert_eq!(outcome.report.ending, Ending::Finished);
        prop_assert!(outcome.report.failed.is_empty() && !outcome.report.overran);
        check(&outcome);
        for (place, (book, made)) in outcome.books.iter().enumerate() {
            prop_assert_eq!(*made, shape.sources[place].0.iter().sum::<u64>());
            let fails = |token| {
                let named = outcome.sinks.iter().zip(&shape.sinks);
                named.filter(|((_, ways), _)| ways[place] > 0).any(|(_, (_, manners))| manners.fails != 0 && token % manners.fails == 0)
            };
            let expected: Vec<(u64, bool)> = (1..=*made).map(|token| (token, !fails(token))).collect();
            prop_assert_eq!(book.entries(), expected);
        }
    }

    #[test]
    fn and_so_it_is_when_stages_break_or_the_run_is_cut_off(shape in shape(true)) {
        check(&played(&shape));
    }
}
