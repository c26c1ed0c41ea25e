//! Pipeline files, good and bad, beside what monmon makes of them: `tests/pipelines/`.

use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};
use monmon::{Front, front};
use monmon_syntax::{DiskLoader, MemoryLoader};
use serde_json::json;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// A file as a user names it, from the project's folder, so that no snapshot holds a machine's path.
fn read(file: &Path) -> Front {
    std::env::set_current_dir(ROOT).expect("the project's folder is there");
    front(file.strip_prefix(ROOT).unwrap_or(file), &DiskLoader)
}

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(ROOT).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder's entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "kdl"))
        .collect();
    files.sort();
    files
}

fn drawn(front: &Front) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .with_links(false);
    front.report().render(&handler)
}

fn name(file: &Path) -> String {
    file.file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

fn snapshots(folder: &str) -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(ROOT).join(folder));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings
}

/// What is shipped, and what is good, is silent, and its spec and plan are as they were.
fn check_good(folder: &str, snapshots_in: &str) {
    for file in files(folder) {
        let front = read(&file);
        assert_eq!(drawn(&front), "", "{} has problems", file.display());
        let plan = front.plan.as_ref().map(monmon_plan::Plan::describe);
        let shown = json!({ "spec": front.spec, "plan": plan });
        snapshots(snapshots_in).bind(|| insta::assert_json_snapshot!(name(&file), shown));
    }
}

#[test]
fn shipped_pipelines_are_valid() {
    check_good("pipelines", "tests/pipelines/shipped");
}

#[test]
fn good_pipelines_are_valid() {
    check_good("tests/pipelines/good", "tests/pipelines/good");
}

#[test]
fn bad_pipelines_are_explained() {
    let bad = files("tests/pipelines/bad");
    assert!(bad.len() >= 40, "only {} files", bad.len());
    for file in bad {
        let front = read(&file);
        assert!(front.problems.has_errors() && front.plan.is_none(), "{} is taken for good", file.display());
        let text = drawn(&front);
        assert!(!text.contains("hunter2"), "{} shows a secret", file.display());
        snapshots("tests/pipelines/bad").bind(|| insta::assert_snapshot!(name(&file), text));
    }
}

/// Whole pipelines in the documents are valid, as they stand there.
#[test]
fn pipelines_in_documents_are_valid() {
    let mut found = 0;
    for document in ["README.md", "ARCHITECTURE.md", "docs/pipelines.md"] {
        let text = std::fs::read_to_string(Path::new(ROOT).join(document)).expect(document);
        let blocks = text.split("```kdl\n").skip(1).filter_map(|rest| rest.split("```").next());
        for block in blocks.filter(|block| block.starts_with("pipeline ")) {
            found += 1;
            let front = front(Path::new("block.kdl"), &MemoryLoader::new().with("block.kdl", block));
            assert_eq!(drawn(&front), "", "a pipeline in {document} has problems");
            assert!(front.plan.is_some());
        }
    }
    assert!(found >= 2, "only {found} pipelines");
}
