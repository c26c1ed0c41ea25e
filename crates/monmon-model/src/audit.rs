//! What a store gives to an audit, as one snapshot: first what rows refer to, then the rows, one at a time. Times are
//! microseconds since 1970: an audit reads millions of them and shows few.

use uuid::Uuid;

use crate::{Histogram, Labels, Outcome};

/// The slots that are read: from the first instant up to, and without, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditWindow {
    pub since_us: i64,
    pub until_us: i64,
    /// From when to when sums are read of days of which measurements have gone; for a report only.
    pub sums: Option<(i64, i64)>,
}

/// What rows refer to, and what probers said of themselves.
#[derive(Clone, Debug, Default)]
pub struct AuditFacts {
    pub probers: Vec<AuditProber>,
    pub boots: Vec<AuditBoot>,
    pub definitions: Vec<AuditDefinition>,
    /// Checks that are not known to have ended, and those that have: when that was. For a report only.
    pub checks: Vec<(Uuid, Option<i64>)>,
    /// Times of which retention has dropped measurements: from one instant up to, and without, another.
    pub dropped: Vec<(i64, i64)>,
    /// Incidents that were open at some time of the window.
    pub incidents: Vec<AuditIncident>,
    /// Whether there are sums that can be held against the rows.
    pub has_rollups: bool,
}

#[derive(Clone, Debug)]
pub struct AuditProber {
    pub id: Uuid,
    pub name: String,
}

#[derive(Clone, Copy, Debug)]
pub struct AuditBoot {
    pub id: Uuid,
    pub prober_id: Uuid,
    /// The first slot that was stored of it.
    pub first_seen_us: i64,
}

#[derive(Clone, Debug)]
pub struct AuditDefinition {
    pub id: Uuid,
    pub check_id: Uuid,
    pub pipeline: String,
    pub source: String,
    pub name: String,
    pub interval_us: u64,
    pub schedule: Option<String>,
    pub labels: Labels,
    /// The first slot that was stored with it.
    pub first_seen_us: i64,
}

/// A row of `monmon_receipt`.
#[derive(Clone, Copy, Debug)]
pub struct AuditReceipt<'a> {
    pub boot_id: Uuid,
    pub pipeline: &'a str,
    pub source: &'a str,
    pub at_us: i64,
    pub began_us: i64,
    pub slots_from_us: i64,
    pub slots_until_us: i64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub ids_xor: Uuid,
    pub failed: u64,
    pub last: bool,
}

/// A row of `monmon_incident`.
#[derive(Clone, Debug)]
pub struct AuditIncident {
    pub check_id: Uuid,
    pub began_us: i64,
    /// The first good slot after it; none while it is open.
    pub recovered_us: Option<i64>,
    pub reason: String,
}

/// A row of `monmon_measurement`.
#[derive(Clone, Copy, Debug)]
pub struct AuditRow<'a> {
    pub id: Uuid,
    pub check_id: Uuid,
    pub definition_id: Uuid,
    pub boot_id: Uuid,
    pub slot_us: i64,
    pub seq: u64,
    pub attempt: u32,
    pub outcome: Outcome,
    /// How long the exchange took; only where it came to its end.
    pub total_us: Option<u32>,
    /// The slot lies in a window of maintenance.
    pub maintenance: bool,
    /// Why the outcome is `unknown`.
    pub error_kind: Option<&'a str>,
    /// What is said of a slot that was never begun.
    pub message: Option<&'a str>,
}

/// A row of `monmon_dead_letter`.
#[derive(Clone, Copy, Debug)]
pub struct AuditLetter<'a> {
    pub id: Uuid,
    pub reason: &'a str,
    pub bytes: &'a [u8],
}

/// Offsets of one partition of a topic that were stored in one batch. They come ordered by topic, partition and first
/// offset.
#[derive(Clone, Copy, Debug)]
pub struct AuditOffsets<'a> {
    pub topic: &'a str,
    pub partition: i32,
    /// Who read them: the names of a pipeline and of its source.
    pub pipeline: &'a str,
    pub source: &'a str,
    pub first: i64,
    pub last: i64,
    pub stored_us: i64,
}

/// A sum that is not that of the rows.
#[derive(Clone, Copy, Debug)]
pub struct AuditRollup<'a> {
    pub level: &'a str,
    pub check_id: Option<Uuid>,
    pub start_us: i64,
    pub difference: &'a str,
}

/// What one day, or one hour of a day that lies in the window in part, came to before measurements of it went: a row of
/// `monmon_rollup_check_day` or `monmon_rollup_check_hour`.
#[derive(Clone, Copy, Debug)]
pub struct AuditSum {
    pub check_id: Uuid,
    pub definition_id: Uuid,
    pub start_us: i64,
    pub width_us: i64,
    pub first_us: i64,
    pub last_us: i64,
    pub slots_known: u64,
    pub up: u64,
    pub down: u64,
}

/// The same of times: of a row of `monmon_rollup_day` or `monmon_rollup_hour`.
#[derive(Clone, Debug)]
pub struct AuditTimes {
    pub check_id: Uuid,
    pub prober_id: Uuid,
    pub start_us: i64,
    pub width_us: i64,
    pub histogram: Histogram,
}

/// Whoever holds it all against each other.
pub trait AuditReader {
    /// Comes once, before everything else.
    fn facts(&mut self, facts: AuditFacts);
    /// Those that are given between the window's ends; they come before all rows.
    fn receipt(&mut self, receipt: &AuditReceipt<'_>);
    fn row(&mut self, row: &AuditRow<'_>);
    /// Letters come behind all rows.
    fn letter(&mut self, letter: &AuditLetter<'_>);
    fn offsets(&mut self, offsets: &AuditOffsets<'_>);
    fn rollup(&mut self, rollup: &AuditRollup<'_>);
    /// Days, one more at each end of the window, and the hours of the days at its ends.
    fn sum(&mut self, sum: &AuditSum);
    fn times(&mut self, times: &AuditTimes);
}
