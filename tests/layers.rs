//! The arrows between crates point downwards: ARCHITECTURE.md, "Crates".

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Rows from the ground up. Crates of a row never see each other.
const ROWS: [&[&str]; 6] = [
    &["monmon-model", "monmon-syntax"],
    &["monmon-stage"],
    &["monmon-plan", "monmon-spool"],
    &[
        "monmon-engine",
        "monmon-http",
        "monmon-kafka",
        "monmon-postgres",
        "monmon-sqlite",
        "monmon-stdout",
        "monmon-transforms",
        "monmon-wasm",
        "monmon-web",
        "monmon-webhook",
    ],
    &["monmon-detect"],
    &["monmon"],
];

/// For development only: nothing that ships depends on them, unless for its tests.
const DEVELOPMENT: [&str; 4] = ["monmon-testkit", "monmon-bench", "monmon-chaos", "xtask"];

#[test]
fn arrows_point_downwards() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo tells of the workspace");
    let row_of: BTreeMap<&str, usize> =
        ROWS.iter().enumerate().flat_map(|(row, names)| names.iter().map(move |name| (*name, row))).collect();
    let mut seen = 0;
    for package in &metadata.packages {
        let name = package.name.as_str();
        if DEVELOPMENT.contains(&name) {
            continue;
        }
        let row = row_of.get(name).unwrap_or_else(|| panic!("`{name}` stands in no row"));
        seen += 1;
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            if dependency.kind == DependencyKind::Development {
                continue;
            }
            assert!(!DEVELOPMENT.contains(&other), "`{name}` ships with `{other}`, which is for development");
            if let Some(other_row) = row_of.get(other) {
                assert!(other_row < row, "`{name}` (row {}) uses `{other}` (row {})", row + 1, other_row + 1);
            }
        }
    }
    assert_eq!(seen, row_of.len(), "a crate that stands in a row is gone");
}
