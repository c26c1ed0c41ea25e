//! Text in, a policy or problems out.

use std::path::Path;

use monmon_stage::DecodeContext;
use monmon_syntax::{MemoryLoader, Problem, Problems, load, read};

use crate::DETECT;

/// What is shown of a detector, and each problem as `code: message @ text at its place`.
fn written(text: &str) -> String {
    let loader = MemoryLoader::new().with("p.kdl", text);
    let mut problems = Problems::new();
    let loaded = load(Path::new("p.kdl"), &loader, &mut problems);
    let top = loaded.nodes.first().expect("one node");
    let node = read(&top.node, top.file, DETECT.spec, &mut problems);
    let context = DecodeContext {
        pipeline: "consumer",
        stage: "outages",
        sources: &loaded.sources,
        folder: Path::new("."),
        loader: &loader,
    };
    let spec = (DETECT.decode)(&node, &context, &mut problems);
    let told = |problem: &Problem| {
        let place = problem.span.and_then(|span| loaded.sources.text(span)).unwrap_or_default();
        format!("{}: {} @ {place}\n", problem.code.as_str(), problem.message)
    };
    let told: String = problems.iter().map(told).collect();
    if told.is_empty() { format!("{:#}", spec.describe()) } else { told }
}

#[test]
fn all_has_defaults() {
    insta::assert_snapshot!(written(r#"detect "outages" from="events""#));
}

#[test]
fn all_that_can_be_said() {
    insta::assert_snapshot!(written(
        r#"detect "outages" from="events" degraded="bad" attempts=3 store=(env)"URL" {
            down after=2 of=3
            up after=4
            probers agree=2 of=3 silent="5m"
            flapping changes=8 within="30m"
            select "shop-*" team="web"
            select "gateway"
            depends "shop-*" on="gateway"
        }"#
    ));
}

#[test]
fn what_can_never_be_is_told() {
    insta::assert_snapshot!(written(
        r#"detect "outages" from="events" degraded="worse" {
            down after=4 of=3
            up after=0
            probers agree=3 of=2
            flapping changes=1 within="1ms"
            depends "a" on="b"
            depends "b*" on="c"
            depends "*" on="a"
            depends "x*" on="x1"
            select
        }"#
    ));
}
