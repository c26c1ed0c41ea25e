//! The world as a stage gets it: as an argument.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monmon_syntax::World;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::StageCounters;

/// The wall clock. Durations never come from it: they are taken with `tokio::time::Instant`.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The machine's environment and files, for late values.
#[derive(Debug)]
pub struct SystemWorld;

impl World for SystemWorld {
    fn env(&self, name: &str) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "this is the one door to the environment")]
        std::env::var(name).ok()
    }

    fn read_file(&self, path: &Path, max: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

pub type WorldRef = Arc<dyn World + Send + Sync>;

/// Who this prober is; a source adds its boot.
#[derive(Clone, Debug)]
pub struct ProberIdentity {
    pub id: Uuid,
    pub name: String,
    pub location: Option<String>,
    /// Where sources keep what outlives a run; nowhere for one that leaves nothing.
    pub state: Option<PathBuf>,
}

/// How long a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Until it is stopped.
    Continuous,
    /// Everything once: each check one time; a Kafka topic up to where it ended at the start.
    Once,
}

/// Everything that a stage may use of the world and of its run.
#[derive(Clone)]
pub struct StageContext {
    pub pipeline: Arc<str>,
    pub stage: Arc<str>,
    pub mode: Mode,
    /// Cancelled when the run shall end: a source stops producing. Sinks go on until their inlet ends.
    pub stop: CancellationToken,
    pub world: WorldRef,
    pub clock: Arc<dyn Clock>,
    pub prober: ProberIdentity,
    /// For sources: whether anything downstream wants pages.
    pub keep_pages: bool,
    /// Fail at once when a server can't be reached at the start, rather than wait for it.
    pub fail_fast: bool,
    /// From the stop to the end of the run, at most.
    pub grace: Duration,
    pub counters: Arc<StageCounters>,
}
