//! The rule that a warning or an error in a log is something that the test knew of.

use std::sync::{Arc, Mutex};

/// The texts by which a test knows the warnings and errors that it brings about.
#[derive(Clone, Default)]
pub(crate) struct Announced(Arc<Mutex<Vec<&'static str>>>);

impl Announced {
    pub(crate) fn add(&self, texts: &[&'static str]) {
        self.0.lock().expect("no holder panics").extend(texts);
    }

    /// Fails with all lines at `WARN` or `ERROR` that have none of the texts in them.
    pub(crate) fn check<'a>(&self, lines: impl Iterator<Item = &'a str>) {
        let texts = self.0.lock().expect("no holder panics").clone();
        let known = |line: &str| texts.iter().any(|text| line.contains(text));
        let rest: Vec<&str> = lines.filter(|line| is_trouble(line) && !known(line)).collect();
        assert!(rest.is_empty(), "logged, and not announced by the test:\n{}", rest.join("\n"));
    }
}

/// Whether it is a log line of `--log text` or `--log json` at one of the two levels. A diagnostic that is drawn for the
/// user and a measurement on standard output are neither.
fn is_trouble(line: &str) -> bool {
    let level = match serde_json::from_str::<serde_json::Value>(line) {
        Ok(json) => json["level"].as_str().map(str::to_owned),
        Err(_) => level_of_text(line).map(str::to_owned),
    };
    matches!(level.as_deref(), Some("WARN" | "ERROR"))
}

/// Of `2026-11-24T00:00:00.000000Z  WARN text`, which may stand behind a progress line that was wiped.
fn level_of_text(line: &str) -> Option<&str> {
    let line = line.rsplit('\r').next()?.trim_start_matches("\x1b[2K");
    let (time, rest) = line.split_once(' ')?;
    time.parse::<jiff::Timestamp>().ok()?;
    rest.split_whitespace().next()
}

#[test]
fn troubles_are_told_from_what_is_said() {
    for line in [
        "2026-11-24T00:00:00.000001Z  WARN the store cannot be used now stage=store",
        "2026-11-24T00:00:00.000001Z ERROR stage failed",
        "\r\x1b[2K2026-11-24T00:00:00.000001Z  WARN after a progress line",
        r#"{"timestamp":"2026-11-24T00:00:00.000001Z","level":"ERROR","message":"stage failed"}"#,
    ] {
        assert!(is_trouble(line), "{line}");
    }
    for line in [
        "2026-11-24T00:00:00.000001Z  INFO running",
        "  WARN is no level here",
        r#"{"level":"INFO","message":"WARN"}"#,
        r#"{"v":1,"outcome":"down","reason":"ERROR"}"#,
        "",
    ] {
        assert!(!is_trouble(line), "{line}");
    }
}

#[test]
fn only_what_was_announced_passes() {
    let announced = Announced::default();
    announced.add(&["cannot be used now"]);
    let known = "2026-11-24T00:00:00Z  WARN the store cannot be used now";
    announced.check([known].into_iter());
    let other = "2026-11-24T00:00:00Z ERROR measurements were lost";
    let caught = std::panic::catch_unwind(|| announced.check([known, other].into_iter()));
    let told = caught.expect_err("the other line fails");
    let told = told.downcast_ref::<String>().expect("a text");
    assert!(told.contains(other) && !told.contains(known), "{told}");
}
