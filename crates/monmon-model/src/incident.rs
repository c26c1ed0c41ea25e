//! A check's passage from up to down and back, as a detector decided.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Check;
use crate::bounds::{INCIDENT_PROBERS_MAX, MESSAGE_CHARS_MAX, NAME_CHARS_MAX};

/// An incident as it is at one time. Whatever is told of one incident has its id and counts up in `revision`; what has been
/// closed stays closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    /// UUIDv7: the time of the first bad slot, and a hash of detector, check and that slot.
    pub id: Uuid,
    pub check: Arc<Check>,
    /// Name of the pipeline in which the detector stands.
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub pipeline: String,
    /// Name of the detector's stage.
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub detector: String,
    /// 1 for what is told first. What has a lower number never replaces what has a higher one.
    pub revision: u32,
    /// The first bad slot.
    pub began_at: Timestamp,
    /// The slot that made it an incident.
    pub opened_at: Timestamp,
    /// The newest bad slot when this was told.
    pub last_bad_at: Timestamp,
    /// The first good slot after the last bad one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_at: Option<Timestamp>,
    /// The slot that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
    /// Why the check was found down, in words.
    #[schemars(length(max = MESSAGE_CHARS_MAX))]
    pub reason: String,
    /// Names of the probers that found it down.
    #[schemars(length(max = INCIDENT_PROBERS_MAX))]
    pub probers: Vec<String>,
    /// The check went down and up so often that the incident stays open until it is calm.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flapping: bool,
    /// A check that this one depends on was down: nobody need be told. Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed_by: Option<Uuid>,
}

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    Open,
    /// Open, and kept so because the check comes and goes.
    Flapping,
    Closed,
}

impl IncidentState {
    pub fn of(closed_at: Option<Timestamp>, flapping: bool) -> IncidentState {
        match (closed_at, flapping) {
            (Some(_), _) => IncidentState::Closed,
            (None, true) => IncidentState::Flapping,
            (None, false) => IncidentState::Open,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            IncidentState::Open => "open",
            IncidentState::Flapping => "flapping",
            IncidentState::Closed => "closed",
        }
    }
}

impl Incident {
    pub fn state(&self) -> IncidentState {
        IncidentState::of(self.closed_at, self.flapping)
    }
}

/// An incident as a store has it: the row of `monmon incidents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredIncident {
    pub id: Uuid,
    pub state: IncidentState,
    pub check_id: Uuid,
    /// Pipeline, source and name of the check, where the store knows it.
    pub check: Option<String>,
    pub pipeline: String,
    pub detector: String,
    pub revision: u32,
    pub began_at: Timestamp,
    pub opened_at: Timestamp,
    pub last_bad_at: Timestamp,
    pub recovered_at: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
    pub reason: String,
    pub probers: Vec<String>,
    pub flapping: bool,
    pub suppressed_by: Option<Uuid>,
}

impl StoredIncident {
    /// The incident itself, of a check that is at hand.
    pub fn of(self, check: Arc<Check>) -> Incident {
        Incident {
            id: self.id,
            check,
            pipeline: self.pipeline,
            detector: self.detector,
            revision: self.revision,
            began_at: self.began_at,
            opened_at: self.opened_at,
            last_bad_at: self.last_bad_at,
            recovered_at: self.recovered_at,
            closed_at: self.closed_at,
            reason: self.reason,
            probers: self.probers,
            flapping: self.flapping,
            suppressed_by: self.suppressed_by,
        }
    }
}
