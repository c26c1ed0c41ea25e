//! How runs begin, and how they don't.

use std::fmt;
use std::sync::{Arc, Mutex};

use monmon_engine::{Engine, stop_pair};
use monmon_stage::{OpenFuture, OpenStage, Section, StageContext, StageError, StageSpec};
use monmon_testkit::stages::{AckBook, CaptureSink, Step, TestSpec};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::support::{Pass, Written, assert_alone, open, options, plan, plan_named, sink, source};

/// A stage that waits for a server for ever. It says when it does, and gives the test its `stop`.
struct Waiting {
    waits: Mutex<Option<oneshot::Sender<CancellationToken>>>,
    guard: Arc<()>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

impl StageSpec for Waiting {
    fn describe(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let _held = self.guard.clone();
            let waits = self.waits.lock().expect("no test panicked").take().expect("it opens once");
            waits.send(context.stop.clone()).expect("the test waits");
            std::future::pending::<Result<OpenStage, StageError>>().await
        })
    }
}

fn waiting(from: &[usize]) -> (Written, oneshot::Receiver<CancellationToken>, Arc<()>) {
    let (waits, is_waiting) = oneshot::channel();
    let guard = Arc::new(());
    let spec = Waiting { waits: Mutex::new(Some(waits)), guard: guard.clone() };
    ((Section::Sinks, Box::new(spec), from.to_vec()), is_waiting, guard)
}

fn refused(message: &'static str) -> Written {
    let spec = TestSpec::new(move |_| Err(StageError::permanent(message)));
    (Section::Sinks, spec, vec![0])
}

#[tokio::test]
async fn what_opens_badly_is_named_and_ends_the_rest() {
    let (_stop, listener) = stop_pair();
    let (waiting, is_waiting, guard) = waiting(&[0]);
    let stages = vec![
        source(vec![], &AckBook::new()),
        waiting,
        refused("no such server"),
        refused("no such database"),
        sink(CaptureSink::default(), &[0]),
    ];
    let failed = open(plan(stages), options(), &listener).await.err().expect("two sinks can't open");
    let mut said: Vec<String> = failed
        .iter()
        .map(|failed| format!("{}/{}: {}", failed.pipeline, failed.stage, failed.error))
        .collect();
    said.sort();
    assert_eq!(said, ["test/s2: no such server", "test/s3: no such database"]);
    let stop = is_waiting.await.expect("the other sink was opening");
    assert!(stop.is_cancelled(), "a thread that opens something can't be aborted, only told");
    assert_alone(&guard);
}

#[tokio::test]
async fn a_panic_while_opening_has_a_name() {
    let (_stop, listener) = stop_pair();
    let broken = TestSpec::new(|_| panic!("an opening's bug, made by a test"));
    let stages = vec![source(vec![], &AckBook::new()), (Section::Sinks, broken as _, vec![0])];
    let failed = open(plan(stages), options(), &listener).await.err().expect("the sink can't open");
    assert_eq!(failed.iter().map(|failed| failed.stage.as_str()).collect::<Vec<_>>(), ["s1"]);
    assert!(failed[0].error.to_string().contains("panicked"));
}

#[tokio::test]
async fn a_stop_ends_the_waiting_for_a_server() {
    let (stop, listener) = stop_pair();
    let (waiting, is_waiting, guard) = waiting(&[0]);
    let stages = vec![source(vec![Step::UntilStopped], &AckBook::new()), waiting];
    let asking = async {
        let told = is_waiting.await.expect("the sink is opening");
        stop.ask();
        told
    };
    let opening = Engine::open(vec![plan(stages)], options(), listener);
    let (opened, told) = tokio::join!(opening, asking);
    assert!(opened.expect("nothing failed").is_none());
    assert!(told.is_cancelled());
    // The set is told to abort; its task goes when it has its next turn.
    tokio::task::yield_now().await;
    assert_alone(&guard);
}

#[tokio::test]
async fn one_pipeline_that_does_not_open_stops_all() {
    let guard = Arc::new(());
    let (_stop, listener) = stop_pair();
    let held = guard.clone();
    let good = TestSpec::new(move |_| Ok(OpenStage::Transform(Box::new(Pass::holding(&held)))));
    let first = plan_named(
        "first",
        vec![
            source(vec![], &AckBook::new()),
            (Section::Transforms, good, vec![0]),
            sink(CaptureSink::default(), &[1]),
        ],
    );
    let second = plan_named("second", vec![source(vec![], &AckBook::new()), refused("no such server")]);
    let failed = Engine::open(vec![first, second], options(), listener).await.err().expect("it can't open");
    let said: Vec<(&str, &str)> =
        failed.iter().map(|failed| (&*failed.pipeline, failed.stage.as_str())).collect();
    assert_eq!(said, [("second", "s1")]);
    assert_alone(&guard);
}
