//! What travels beside measurements, on the same way and as safely: receipts of probers and incidents.

use std::sync::Arc;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bounds::NAME_CHARS_MAX;
use crate::{Incident, Prober};

/// One message that is no measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    Receipt(Receipt),
    Incident(Incident),
}

/// What a source says it has done since its last receipt, once all of it was delivered. Held against the rows it proves that
/// none is missing, and that none is missing because no slot was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// UUIDv7: the receipt's time, and a hash of boot and numbers.
    pub id: Uuid,
    pub prober: Arc<Prober>,
    /// Name of the pipeline.
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub pipeline: String,
    /// Name of the source stage.
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub source: String,
    pub at: Timestamp,
    /// When this boot began: slots of checks that are new in it are its own from here on.
    pub began_at: Timestamp,
    /// Slots of checks that the boot before had too are this boot's from here on: it tells what nobody was there to measure.
    pub slots_from: Timestamp,
    /// Every slot from there up to here has its measurements among those with numbers up to `last_seq`.
    pub slots_until: Timestamp,
    /// The first number that this receipt is about; `last_seq + 1` where nothing was numbered.
    pub first_seq: u64,
    /// The last one.
    pub last_seq: u64,
    /// All ids of these measurements, one XORed with the other.
    pub ids_xor: Uuid,
    /// Of these measurements, how many a sink gave up. They may be stored all the same.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: u64,
    /// No receipt of this boot follows: it came to an orderly end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub last: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Event {
    pub fn id(&self) -> Uuid {
        match self {
            Event::Receipt(receipt) => receipt.id,
            Event::Incident(incident) => incident.id,
        }
    }

    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Event::Receipt(receipt) => receipt.at,
            Event::Incident(incident) => incident.closed_at.unwrap_or(incident.opened_at),
        }
    }

    /// What it is about, and so what it stays in order with: a prober, or a check.
    pub fn key(&self) -> Uuid {
        match self {
            Event::Receipt(receipt) => receipt.prober.id,
            Event::Incident(incident) => incident.check.id,
        }
    }
}
