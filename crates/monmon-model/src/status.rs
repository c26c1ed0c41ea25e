//! What a store tells of a check: the row of `monmon status`.

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::Outcome;

/// A check's newest measurement, and its last 24 hours in numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckState {
    pub check_id: Uuid,
    pub pipeline: String,
    pub source: String,
    pub name: String,
    pub url: String,
    pub outcome: Outcome,
    /// Why the outcome is what it is; empty when up.
    pub reason: Option<String>,
    pub status: Option<u16>,
    pub scheduled_at: Timestamp,
    /// Median and 95th percentile of the total time over the last 24 hours, of measurements that got an answer.
    pub total_p50_us: Option<u64>,
    pub total_p95_us: Option<u64>,
    /// Share of known measurements that were up or degraded, 0 to 1; none without any known measurement.
    pub uptime: Option<f64>,
    /// Share of the slots due in the last 24 hours (since the first measurement) that have a known outcome, 0 to 1.
    pub coverage: Option<f64>,
}
