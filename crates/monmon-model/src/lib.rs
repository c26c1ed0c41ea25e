//! What monmon measures and how it is written down: checks, measurements, matches, the wire format.
//!
//! The words are those of ARCHITECTURE.md. Everything here is plain data; nothing touches the world.

mod audit;
pub mod bounds;
mod check;
mod dead_letter;
mod event;
mod failure;
mod histogram;
mod id;
mod incident;
mod match_result;
mod measurement;
mod outcome;
mod rejected;
mod status;
mod stored;
mod twin;
pub mod wire;

pub use audit::{
    AuditBoot, AuditDefinition, AuditFacts, AuditIncident, AuditLetter, AuditOffsets, AuditProber,
    AuditReader, AuditReceipt, AuditRollup, AuditRow, AuditSum, AuditTimes, AuditWindow,
};
pub use check::{Check, Labels, Prober};
pub use dead_letter::{DeadLetter, DeadLetterFilter, Replayed};
pub use event::{Event, Receipt};
pub use failure::{Failure, FailureKind, Owner, Phase};
pub use histogram::Histogram;
pub use id::{
    batch_id, boot_id, check_id, context_id, definition_id, incident_id, match_id, measurement_id,
    receipt_id, rejected_id, retention_id, rollup_id, tls_id, verdict_id,
};
pub use incident::{Incident, IncidentState, StoredIncident};
pub use match_result::{Match, MatchStatus, Metric};
pub use measurement::{Certificate, Details, Hop, Measurement, Note, Reason, Step, Timings, Tls, Tried};
pub use outcome::Outcome;
pub use rejected::{Origin, Rejected, RejectedReason};
pub use status::CheckState;
pub use stored::{BadRow, MatchRow, MeasurementRow, Selection, TlsRow};
pub use twin::Twin;
