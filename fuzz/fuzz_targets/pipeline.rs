//! A pipeline's text, read as a file, resolved and compiled: a plan or problems, whose places are in the text and which
//! can be drawn.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use miette::{GraphicalReportHandler, GraphicalTheme};
use monmon::front;
use monmon_syntax::MemoryLoader;

fuzz_target!(|bytes: &[u8]| {
    let loader = MemoryLoader::new().with("fuzz.kdl", bytes);
    let front = front(Path::new("fuzz.kdl"), &loader);
    assert_eq!(front.plan.is_none(), front.problems.has_errors());
    if let Some(plan) = &front.plan {
        plan.describe();
        return;
    }
    for problem in front.problems.iter() {
        if let Some(span) = problem.span {
            assert!(front.sources.text(span).is_some(), "{} points at nothing", problem.code.as_str());
        }
    }
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
    assert!(!front.report().render(&handler).is_empty());
});
