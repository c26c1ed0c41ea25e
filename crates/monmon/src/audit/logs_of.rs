//! Kafka's own word, beside what a store has of it: what was committed must be stored, and what is gone must have been.

use std::path::Path;

use monmon_kafka::{LogState, log_states};

use super::EARLIEST_US;
use super::finding::{Finding, Kind};
use super::ledger::Ledger;

/// The largest file of properties that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// librdkafka's properties: the brokers, and what a file has, a line each.
pub(super) fn properties(brokers: &str, file: Option<&Path>) -> Result<Vec<(String, String)>, String> {
    let mut properties = vec![("bootstrap.servers".to_owned(), brokers.to_owned())];
    let Some(path) = file else { return Ok(properties) };
    let shown = path.display();
    let read = || match std::fs::metadata(path)?.len() {
        0..=FILE_BYTES_MAX => std::fs::read_to_string(path),
        _ => Err(std::io::Error::other("the file is too large")),
    };
    let text = read().map_err(|error| format!("{shown} cannot be read: {error}"))?;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself may hold a password.
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| format!("{shown}, line {number}: a property is written name=value"))?;
        properties.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(properties)
}

/// Before the store is read: what is committed is stored before.
pub(super) async fn ask(
    properties: Vec<(String, String)>,
    group: String,
    topics: Vec<String>,
) -> Result<Vec<LogState>, String> {
    let asking = tokio::task::spawn_blocking(move || log_states(&properties, &group, &topics));
    asking
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("the Kafka brokers give no answer: {error}"))
}

pub(super) fn hold(ledger: &mut Ledger, state: LogState) {
    let key = (state.topic.clone(), state.partition);
    let last = ledger.offsets.last(&key);
    ledger.offsets.hold(&state);
    let Some(last) = last else {
        // It may have been committed before there was this store.
        let committed = state.committed.filter(|committed| *committed > 0);
        if let Some(committed) = committed.filter(|_| ledger.scope.since_us <= EARLIEST_US) {
            ledger.findings.add(Kind::CommittedNothingStored, 1, || Finding {
                topic: Some(state.topic),
                partition: Some(state.partition),
                last: Some(committed - 1),
                message: Some(format!("committed up to {committed}")),
                ..Finding::default()
            });
        }
        return;
    };
    let mut miss = |kind: Kind, upto: i64| {
        let count = u64::try_from(upto.saturating_sub(last)).unwrap_or(0);
        if count > 0 {
            ledger.findings.add(kind, count, || Finding {
                topic: Some(state.topic.clone()),
                partition: Some(state.partition),
                first: Some(last + 1),
                last: Some(upto),
                ..Finding::default()
            });
        }
    };
    miss(Kind::CommittedNotStored, state.committed.map_or(last, |committed| committed - 1));
    miss(Kind::NotStoredInTime, state.low - 1);
    ledger.offsets.logs.insert(key, state);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use monmon_model::{AuditOffsets, AuditReader};

    use super::*;

    #[test]
    fn what_is_committed_or_gone_must_be_stored() {
        let now = "2026-11-25T12:00:00Z".parse().unwrap();
        let held_of = |partition: i32, low: i64, committed: Option<i64>| {
            let scope = super::super::scope(None, now, now, Duration::ZERO, None).unwrap();
            let mut ledger = Ledger::new(scope);
            ledger.offsets(&AuditOffsets {
                topic: "t",
                partition: 0,
                pipeline: "p",
                source: "s",
                first: 5,
                last: 9,
                stored_us: 1,
            });
            hold(&mut ledger, LogState { topic: "t".to_owned(), partition, low, high: 30, committed });
            let told: Vec<String> = ledger
                .findings
                .iter()
                .map(|(kind, found)| format!("{} {}", kind.word(), found.count))
                .collect();
            told.join(", ")
        };
        let held = |low, committed| held_of(0, low, committed);
        assert_eq!(held(0, Some(10)), "");
        assert_eq!(held_of(1, 0, None), "");
        assert_eq!(held_of(1, 0, Some(0)), "");
        assert_eq!(held_of(1, 0, Some(4)), "committed_nothing_stored 1");
        assert_eq!(held(10, None), "");
        assert_eq!(held(0, Some(13)), "committed_not_stored 3");
        assert_eq!(held(12, Some(12)), "committed_not_stored 2, not_stored_in_time 2");
    }

    #[test]
    fn properties_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kafka.properties");
        std::fs::write(&path, "# how to log in\nsecurity.protocol = ssl\n\nssl.ca.location=ca.pem\n")
            .unwrap();
        let found = properties("a:1", Some(&path)).unwrap();
        let found: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(found, ["bootstrap.servers=a:1", "security.protocol=ssl", "ssl.ca.location=ca.pem"]);
        std::fs::write(&path, "a=b\nhunter2\n").unwrap();
        let error = properties("a:1", Some(&path)).unwrap_err();
        assert!(error.ends_with("line 2: a property is written name=value"), "{error}");
    }
}
