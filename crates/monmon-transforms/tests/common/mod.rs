//! Text in, problems or matches out.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use monmon_model::{
    Check, Failure, FailureKind, Measurement, Outcome, Phase, Prober, check_id, measurement_id,
};
use monmon_stage::matching::{InlineMatch, InlineSpec, MatchSpec};
use monmon_stage::{
    Ack, DecodeContext, Envelope, Item, Mode, OpenStage, Page, PageHold, ProberIdentity, StageContext,
    StageSpec, SystemClock, SystemWorld,
};
use monmon_syntax::{FileId, MemoryLoader, Node, Problems, SourceMap, Span, Spanned, load, read};
use monmon_transforms::{REGEX, inline_stage};
use uuid::Uuid;

/// Reads one `regex` node.
pub(crate) fn decode(text: &str) -> (Box<dyn StageSpec>, SourceMap, Problems) {
    let (node, sources, mut problems) = node(text);
    let loader = MemoryLoader::new();
    let context = DecodeContext {
        pipeline: "producer",
        stage: "titles",
        sources: &sources,
        folder: Path::new("."),
        loader: &loader,
    };
    let spec = (REGEX.decode)(&node, &context, &mut problems);
    (spec, sources, problems)
}

/// The same matchers as if they stood inside one check.
pub(crate) fn inline(text: &str, check: Uuid) -> (Box<dyn StageSpec>, Problems) {
    let (node, _, mut problems) = node(text);
    let specs = node.children_named("match").filter_map(MatchSpec::read);
    let matches: Vec<InlineMatch> =
        specs.map(|spec| InlineMatch { check, spec: InlineSpec::Pattern(Arc::new(spec)) }).collect();
    let stage = inline_stage("sites", &matches, &MemoryLoader::new(), &mut problems);
    (stage.expect("there are patterns"), problems)
}

/// A matcher for each of many checks.
pub(crate) fn inline_each(all: impl Iterator<Item = (Uuid, String)>) -> (Box<dyn StageSpec>, Problems) {
    let span = Span::new(FileId(0), 0, 0);
    let of = |(check, pattern)| {
        let (name, pattern) = (Spanned::new("own".to_owned(), span), Spanned::new(pattern, span));
        InlineMatch { check, spec: InlineSpec::Pattern(Arc::new(MatchSpec { name, pattern, present: true })) }
    };
    let matches: Vec<InlineMatch> = all.map(of).collect();
    let mut problems = Problems::new();
    let stage = inline_stage("sites", &matches, &MemoryLoader::new(), &mut problems);
    (stage.expect("there are patterns"), problems)
}

fn node(text: &str) -> (Node, SourceMap, Problems) {
    let loader = MemoryLoader::new().with("p.kdl", text);
    let mut problems = Problems::new();
    let loaded = load(Path::new("p.kdl"), &loader, &mut problems);
    let top = loaded.nodes.first().expect("one node");
    let node = read(&top.node, top.file, REGEX.spec, &mut problems);
    (node, loaded.sources, problems)
}

/// Each problem as `code: message @ text at its place`.
pub(crate) fn told(sources: &SourceMap, problems: &Problems) -> Vec<String> {
    let one = |problem: &monmon_syntax::Problem| {
        let place = problem.span.and_then(|span| sources.text(span)).unwrap_or_default();
        format!("{}: {} @ {place}", problem.code.as_str(), problem.message)
    };
    problems.iter().map(one).collect()
}

pub(crate) fn page(body: impl Into<Bytes>) -> Option<Page> {
    Some(Page::new(http::HeaderMap::new(), body.into(), false, PageHold::default()))
}

pub(crate) fn cut_page(body: impl Into<Bytes>) -> Option<Page> {
    Some(Page::new(http::HeaderMap::new(), body.into(), true, PageHold::default()))
}

pub(crate) fn measurement(check: &str) -> Measurement {
    let id = check_id("producer", "sites", check);
    let check = Check {
        id,
        name: check.into(),
        pipeline: "producer".into(),
        source: "sites".into(),
        method: "GET".into(),
        url: "http://127.0.0.1/".into(),
        schedule: None,
        interval_us: 1_000_000,
        timeout_us: 1_000_000,
        labels: Default::default(),
    };
    let prober =
        Prober { id: Uuid::from_u128(1), name: "laptop".into(), location: None, boot: Uuid::from_u128(2) };
    let at = "2026-11-23T12:00:00Z".parse().expect("a time");
    let failure = Failure::new(FailureKind::Internal, Phase::Start, "");
    let made = measurement_id(prober.id, id, at, 1);
    let mut measurement = Measurement::not_made(made, 1, 1, check.into(), prober.into(), at, failure);
    measurement.outcome = Outcome::Up;
    measurement.error = None;
    measurement.reason = None;
    measurement
}

pub(crate) async fn apply(spec: &dyn StageSpec, measurement: Measurement, page: Option<Page>) -> Measurement {
    let OpenStage::Transform(mut transform) = spec.open(context()).await.expect("regex opens") else {
        panic!("regex is a transform");
    };
    let mut batch = vec![Envelope::measurement(measurement, page, Ack::ignored())];
    transform.apply(&mut batch);
    match batch.remove(0).item {
        Item::Measurement(measured) => *measured.measurement,
        Item::Event(_) | Item::Rejected(_) => panic!("a measurement stays one"),
    }
}

fn context() -> StageContext {
    StageContext {
        pipeline: "producer".into(),
        stage: "titles".into(),
        mode: Mode::Continuous,
        stop: tokio_util::sync::CancellationToken::new(),
        world: Arc::new(SystemWorld),
        clock: Arc::new(SystemClock),
        prober: ProberIdentity { id: Uuid::from_u128(1), name: "laptop".into(), location: None, state: None },
        keep_pages: false,
        fail_fast: false,
        grace: std::time::Duration::from_secs(1),
        counters: Arc::default(),
    }
}
