//! What a source did before it was started this time: until when every slot of its checks is accounted for. What lies
//! between then and now is told at the start, a row a check, so that no slot is silent because nobody was there to miss it.
//!
//! A file in the prober's state folder names the checks; its time of change is a heartbeat. After an orderly end it also
//! says to the microsecond how far slots were accounted for; after any other end the last heartbeat stands in for it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How often a source says that it lives.
pub(crate) const BEAT_EVERY: Duration = Duration::from_secs(5);
/// A beat may come to the disk so much later than it was due, while slots are taken: what it stands for reaches that far, so
/// that no slot is told that was measured.
const BEAT_LATE: Duration = Duration::from_secs(1);
/// The largest file that is read: the ids of all checks that a source may have, twice.
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    pipeline: String,
    source: String,
    /// Microseconds since 1970; only after an orderly end.
    until_us: Option<i64>,
    checks: Vec<Uuid>,
}

/// The file of one source.
#[derive(Debug)]
pub(crate) struct Past {
    path: PathBuf,
    kept: Kept,
    /// Trouble with the file was told; once is enough.
    is_told: AtomicBool,
}

/// What was left by the run before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) until_us: i64,
    pub(crate) checks: BTreeSet<Uuid>,
}

impl Past {
    pub(crate) fn new(folder: &Path, pipeline: &str, source: &str, checks: Vec<Uuid>) -> Past {
        // Names may hold anything; an id made of them may not.
        let name = monmon_model::check_id(pipeline, source, "").simple().to_string();
        let path = folder.join("sources").join(name + ".json");
        let kept = Kept { pipeline: pipeline.to_owned(), source: source.to_owned(), until_us: None, checks };
        Past { path, kept, is_told: AtomicBool::new(false) }
    }

    /// What the run before left; nothing where there was none, or its file cannot be read.
    pub(crate) fn left(&self) -> Option<Left> {
        let read = || -> io::Result<(Kept, SystemTime)> {
            let metadata = fs::metadata(&self.path)?;
            if metadata.len() > FILE_BYTES_MAX {
                return Err(io::Error::other("the file is too large"));
            }
            let kept = serde_json::from_slice(&fs::read(&self.path)?).map_err(io::Error::other)?;
            Ok((kept, metadata.modified()?))
        };
        match read() {
            Ok((kept, modified)) => {
                let beat = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
                    + BEAT_EVERY
                    + BEAT_LATE;
                let beat_us = i64::try_from(beat.as_micros()).unwrap_or(i64::MAX);
                let checks = kept.checks.into_iter().collect();
                Some(Left { until_us: kept.until_us.unwrap_or(beat_us), checks })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "what the run before did is not known; slots before this start are not told");
                None
            }
        }
    }

    /// From here on slots are this run's.
    pub(crate) fn begin(&self) {
        self.tell(self.write(&self.kept));
    }

    /// The source lives, at this instant of the time that its slots are counted in.
    pub(crate) fn beat(&self, now: Timestamp) {
        let touch = || File::options().write(true).open(&self.path)?.set_modified(now.into());
        self.tell(touch());
    }

    /// All slots before this one are accounted for, and no other.
    pub(crate) fn end(&self, until_us: i64) {
        let Kept { pipeline, source, checks, .. } = &self.kept;
        let (pipeline, source, checks) = (pipeline.clone(), source.clone(), checks.clone());
        self.tell(self.write(&Kept { pipeline, source, until_us: Some(until_us), checks }));
    }

    /// Whole or not at all: a crash in between leaves the file before.
    fn write(&self, kept: &Kept) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let aside = self.path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&serde_json::to_vec(kept).map_err(io::Error::other)?)?;
        fs::rename(&aside, &self.path)
    }

    fn tell(&self, result: io::Result<()>) {
        if let Err(error) = result
            && !self.is_told.swap(true, Ordering::Relaxed)
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "where the source stands cannot be kept: a restart would not tell the slots between");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let past = || Past::new(folder.path(), "a/b", "..", ids.to_vec());
        assert_eq!(past().left(), None);
        let one = past();
        one.begin();
        assert_eq!(past().left().unwrap().checks.len(), 2);
        let at: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        one.beat(at);
        let after = at.as_microsecond() + 6_000_000;
        assert_eq!(past().left().unwrap().until_us, after, "after a crash the last heartbeat stands in");
        one.end(17);
        assert_eq!(past().left(), Some(Left { until_us: 17, checks: ids.into_iter().collect() }));
        fs::write(&past().path, "{").unwrap();
        assert_eq!(past().left(), None);
        assert_eq!(Past::new(folder.path(), "a", "b", Vec::new()).left(), None, "another source");
    }
}
