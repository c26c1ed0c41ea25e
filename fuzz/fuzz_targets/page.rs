//! A pattern (the first line) over a page (the rest, as bytes): one match, and a measurement that the wire format takes.
#![no_main]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use monmon_model::{
    Check, Failure, FailureKind, Measurement, Outcome, Phase, Prober, check_id, measurement_id, wire,
};
use monmon_stage::{
    Ack, DecodeContext, Envelope, Item, Mode, OpenStage, Page, PageHold, ProberIdentity, StageContext,
    StageSpec, SystemClock, SystemWorld,
};
use monmon_syntax::{MemoryLoader, Problems, load, read};
use monmon_transforms::REGEX;
use uuid::Uuid;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(pattern), Some(page)) = (parts.next(), parts.next()) else { return };
    let Ok(pattern) = std::str::from_utf8(pattern) else { return };
    let Some(spec) = decode(pattern) else { return };
    for truncated in [false, true] {
        let measurement = apply(&*spec, page, truncated);
        assert_eq!(measurement.matches.len(), 1);
        let mut written = Vec::new();
        wire::encode(&measurement, &mut written);
        assert_eq!(wire::decode(&written).as_ref(), Ok(&measurement));
    }
});

fn decode(pattern: &str) -> Option<Box<dyn StageSpec>> {
    let text = format!("regex \"titles\" {{\n match \"title\" ###\"{pattern}\"###\n}}");
    let loader = MemoryLoader::new().with("fuzz.kdl", text);
    let mut problems = Problems::new();
    let loaded = load(Path::new("fuzz.kdl"), &loader, &mut problems);
    let top = loaded.nodes.first()?;
    let node = read(&top.node, top.file, REGEX.spec, &mut problems);
    let context = DecodeContext {
        pipeline: "fuzz",
        stage: "titles",
        sources: &loaded.sources,
        folder: Path::new("."),
        loader: &loader,
    };
    let spec = (REGEX.decode)(&node, &context, &mut problems);
    problems.is_empty().then_some(spec)
}

fn apply(spec: &dyn StageSpec, page: &[u8], truncated: bool) -> Measurement {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let opened = runtime.block_on(spec.open(context())).expect("a matcher that was decoded opens");
    let OpenStage::Transform(mut transform) = opened else { panic!("regex is a transform") };
    let page = Page::new(http::HeaderMap::new(), page.to_vec().into(), truncated, PageHold::default());
    let mut batch = vec![Envelope::measurement(measurement(), Some(page), Ack::ignored())];
    transform.apply(&mut batch);
    match batch.remove(0).item {
        Item::Measurement(measured) => *measured.measurement,
        Item::Event(_) | Item::Rejected(_) => panic!("a measurement stays one"),
    }
}

fn measurement() -> Measurement {
    let id = check_id("fuzz", "sites", "home");
    let check = Check {
        id,
        name: "home".into(),
        pipeline: "fuzz".into(),
        source: "sites".into(),
        method: "GET".into(),
        url: "http://127.0.0.1/".into(),
        schedule: None,
        interval_us: 1_000_000,
        timeout_us: 1_000_000,
        labels: Default::default(),
    };
    let prober =
        Prober { id: Uuid::from_u128(1), name: "fuzz".into(), location: None, boot: Uuid::from_u128(2) };
    let at = "2026-11-23T12:00:00Z".parse().expect("a time");
    let failure = Failure::new(FailureKind::Internal, Phase::Start, "");
    let made = measurement_id(prober.id, id, at, 1);
    let mut measurement = Measurement::not_made(made, 1, 1, check.into(), prober.into(), at, failure);
    measurement.outcome = Outcome::Up;
    measurement.error = None;
    measurement.reason = None;
    measurement
}

fn context() -> StageContext {
    StageContext {
        pipeline: "fuzz".into(),
        stage: "titles".into(),
        mode: Mode::Continuous,
        stop: tokio_util::sync::CancellationToken::new(),
        world: Arc::new(SystemWorld),
        clock: Arc::new(SystemClock),
        prober: ProberIdentity { id: Uuid::from_u128(1), name: "fuzz".into(), location: None, state: None },
        keep_pages: false,
        fail_fast: false,
        grace: Duration::from_secs(1),
        counters: Arc::default(),
    }
}
