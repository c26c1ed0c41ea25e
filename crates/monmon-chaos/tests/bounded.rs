//! The bounded run of the harness: part of the gate. `cargo xtask chaos` is the long one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn setting(name: &str) -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "tests get the services' addresses from their environment")]
    let value = std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `cargo xtask test`"));
    PathBuf::from(value)
}

/// Kafka's jars, which the shared broker has fetched.
fn libs() -> PathBuf {
    let entries = fs::read_dir(setting("MONMON_SERVICES_DIR").join("kafka")).expect("the services' folder");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let is_libs =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libs-"));
    paths.find(is_libs).expect("the services have fetched Kafka")
}

#[test]
fn faults_at_random_lose_and_double_nothing() {
    let harness = Path::new(env!("CARGO_BIN_EXE_monmon-chaos"));
    let monmon = harness.parent().expect("a folder").join("monmon");
    assert!(monmon.exists(), "{} is not built: test the whole workspace", monmon.display());
    let mut command = Command::new(harness);
    command.args(["--quick", "--for", "100s", "--port", "26000"]).arg("--monmon").arg(monmon);
    command.arg("--scripts").arg(setting("MONMON_TEST_SERVICES")).arg("--libs").arg(libs());
    command.arg("--folder").arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos"));
    let output = command.output().expect("the harness starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains(" 0 failed, 0 skipped"), "{told}");
}
