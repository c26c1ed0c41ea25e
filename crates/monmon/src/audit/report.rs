//! What an audit says, as data: the JSON of `monmon audit` is this, and the text is made of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::finding::{Findings, Found, Verdict};
use super::lane::Counts;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: u32,
    pub(super) verdict: Verdict,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    /// What is newer may still be on its way.
    pub(super) settled_until: Option<Timestamp>,
    pub(super) rows: u64,
    pub(super) dead_letters: u64,
    pub(super) slots: Counts,
    pub(super) boots: Boots,
    pub(super) receipts: Receipts,
    pub(super) numbers: Numbers,
    /// Ranges of offsets.
    pub(super) batches: u64,
    pub(super) partitions: Vec<PartitionLine>,
    /// Retention has dropped the measurements of slots before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dropped_before: Option<Timestamp>,
    /// Whether sums were held against the rows: where there are any.
    pub(super) rollups: bool,
    #[serde(serialize_with = "by_word")]
    pub(super) findings: Findings,
    pub(super) probers: Vec<ProberLine>,
    pub(super) checks_count: u64,
    pub(super) checks: Vec<CheckLine>,
}

fn by_word<S: Serializer>(findings: &Findings, serializer: S) -> Result<S::Ok, S::Error> {
    let by_word: BTreeMap<&str, &Found> = findings.iter().map(|(kind, found)| (kind.word(), found)).collect();
    by_word.serialize(serializer)
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Boots {
    pub(super) count: u64,
    pub(super) running: u64,
    /// In order.
    pub(super) ended: u64,
    pub(super) died: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Receipts {
    pub(super) count: u64,
    /// The rows are those that they are about.
    pub(super) proven: u64,
    pub(super) on_the_way: u64,
    /// Their rows were dropped by retention.
    pub(super) dropped: u64,
    /// Some of their rows lie outside of what was read.
    pub(super) outside: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Numbers {
    pub(super) count: u64,
    /// No receipt is about them yet, or will ever be.
    pub(super) without_receipt: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct PartitionLine {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) first: i64,
    pub(super) last: i64,
    /// Of the log itself, where the brokers were asked: the first offset that is there, the one after the last, and the
    /// one that the group goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_start: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_end: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) committed: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BootState {
    Running,
    Ended,
    /// Another boot followed, and there was no last receipt.
    Died,
    /// Nothing was heard of the newest boot for minutes.
    Silent,
}

/// The newest boot of a prober and source.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ProberLine {
    pub(super) prober: String,
    pub(super) prober_id: Uuid,
    pub(super) pipeline: String,
    pub(super) source: String,
    pub(super) boot: Uuid,
    pub(super) state: BootState,
    pub(super) proven_until: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
pub(super) struct CheckLine {
    pub(super) pipeline: String,
    pub(super) source: String,
    pub(super) check: String,
    pub(super) check_id: Uuid,
    pub(super) prober: String,
    pub(super) slots: Counts,
}
