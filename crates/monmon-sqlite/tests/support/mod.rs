//! A store in a temporary folder, and the sink that writes to it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use monmon_model::Measurement;
use monmon_sqlite::SINK;
use monmon_stage::{
    Batch, Counts, DecodeContext, EDGE_PLACES, Emitter, Envelope, OpenStage, Sink, StageContext, StageError,
    inlet,
};
use monmon_syntax::{MemoryLoader, Problems, load, read};
use monmon_testkit::stages::{AckBook, measurement, stage_context};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) struct Rig {
    folder: TempDir,
    pub(crate) book: Arc<AckBook>,
}

/// What a run of the sink left behind.
pub(crate) struct Ran {
    pub(crate) ended: Result<(), StageError>,
    pub(crate) counts: Counts,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig { folder: TempDir::new().expect("a temporary folder"), book: AckBook::new() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("monmon.db")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.path().join("monmon.db-wal")
    }

    /// Opens a sink as a pipeline file in the folder would, with more options.
    pub(crate) async fn open(
        &self,
        options: &str,
        context: StageContext,
    ) -> Result<Box<dyn Sink>, StageError> {
        open(self.folder(), &format!(r#"path="monmon.db" {options}"#), context).await
    }

    /// Runs a sink over these batches, to the end.
    pub(crate) async fn store(&self, batches: Vec<Batch>) -> Ran {
        let context = stage_context("store");
        let counters = context.counters.clone();
        let sink = self.open("", context).await.expect("the file can be opened");
        let (outlet, input) = inlet(EDGE_PLACES, false);
        let out = Emitter::new(vec![outlet]);
        for batch in batches {
            out.emit(batch).await.expect("the inlet is open");
        }
        drop(out);
        Ran { ended: sink.run(input).await, counts: counters.counts() }
    }

    /// Measurements of one check by their numbers, which are the tokens of their acks.
    pub(crate) fn batch(&self, name: &str, seqs: impl IntoIterator<Item = u64>) -> Batch {
        seqs.into_iter().map(|seq| self.envelope(seq, measurement(name, seq))).collect()
    }

    pub(crate) fn envelope(&self, token: u64, measurement: Measurement) -> Envelope {
        Envelope::measurement(measurement, None, self.book.ack(token))
    }

    pub(crate) fn read(&self) -> Connection {
        Connection::open(self.path()).expect("the file is there")
    }

    pub(crate) fn count(&self, table: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {table}");
        self.read().query_row(&query, [], |row| row.get(0)).expect("the table is there")
    }
}

pub(crate) async fn open(
    folder: &Path,
    options: &str,
    context: StageContext,
) -> Result<Box<dyn Sink>, StageError> {
    let file = folder.join("pipeline.kdl");
    let loader = MemoryLoader::new().with(file.clone(), format!("sqlite \"store\" {options}"));
    let mut problems = Problems::new();
    let loaded = load(&file, &loader, &mut problems);
    let top = loaded.nodes.first().expect("one node");
    let node = read(&top.node, top.file, SINK.spec, &mut problems);
    let decoding =
        DecodeContext { pipeline: "test", stage: "store", sources: &loaded.sources, folder, loader: &loader };
    let spec = (SINK.decode)(&node, &decoding, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    match spec.open(context).await? {
        OpenStage::Sink(sink) => Ok(sink),
        OpenStage::Source(_) | OpenStage::Transform(_) => panic!("sqlite is a sink"),
    }
}
