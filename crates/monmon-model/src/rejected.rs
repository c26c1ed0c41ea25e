//! What came in and could not be read: kept with its reason and origin, never dropped.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::rejected_id;
use crate::{Event, Measurement, bounds, wire};

/// Why something was rejected: a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RejectedReason {
    /// No bytes at all (a Kafka tombstone or an empty value).
    Empty,
    /// Larger than a measurement may be.
    TooLarge,
    NotUtf8,
    NotJson,
    /// JSON, but not a measurement of monmon's.
    NotOurs,
    /// A later major version of the wire format.
    NewerVersion,
    /// A field that is missing, of the wrong type, or out of its range.
    BadField,
    /// NUL in a string, which no text column can hold.
    NulInText,
    /// Its time is outside the window in which the store keeps partitions.
    TimeOutOfWindow,
    /// The id is there already with other content.
    DuplicateId,
    /// The store refused this row, and only this row.
    StoreRefused,
}

impl RejectedReason {
    pub const ALL: [RejectedReason; 11] = [
        RejectedReason::Empty,
        RejectedReason::TooLarge,
        RejectedReason::NotUtf8,
        RejectedReason::NotJson,
        RejectedReason::NotOurs,
        RejectedReason::NewerVersion,
        RejectedReason::BadField,
        RejectedReason::NulInText,
        RejectedReason::TimeOutOfWindow,
        RejectedReason::DuplicateId,
        RejectedReason::StoreRefused,
    ];

    pub fn from_word(word: &str) -> Option<RejectedReason> {
        RejectedReason::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            RejectedReason::Empty => "empty",
            RejectedReason::TooLarge => "too_large",
            RejectedReason::NotUtf8 => "not_utf8",
            RejectedReason::NotJson => "not_json",
            RejectedReason::NotOurs => "not_ours",
            RejectedReason::NewerVersion => "newer_version",
            RejectedReason::BadField => "bad_field",
            RejectedReason::NulInText => "nul_in_text",
            RejectedReason::TimeOutOfWindow => "time_out_of_window",
            RejectedReason::DuplicateId => "duplicate_id",
            RejectedReason::StoreRefused => "store_refused",
        }
    }
}

/// Where something came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the source stage.
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
}

/// Something that could not be read or stored, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Made from origin, reason and bytes, so that a re-read meets the same key. Its time is the message's own.
    pub id: Uuid,
    pub reason: RejectedReason,
    /// What is wrong, in words, with the place.
    pub message: String,
    pub origin: Origin,
    /// The message's own time as its carrier tells it (for Kafka the record's timestamp).
    pub at: Timestamp,
    pub key: Option<Vec<u8>>,
    pub bytes: Vec<u8>,
}

impl Rejected {
    pub fn new(
        reason: RejectedReason,
        message: impl Into<String>,
        origin: Origin,
        at: Timestamp,
        key: Option<Vec<u8>>,
        bytes: Vec<u8>,
    ) -> Rejected {
        let id = rejected_id(&origin, reason, at, &bytes);
        Rejected { id, reason, message: bounds::message(message), origin, at, key, bytes }
    }

    /// A measurement that a store can't keep as such: kept in the wire format, under its check as it is in Kafka. Without
    /// an origin it comes from the source that made it.
    pub fn of_measurement(
        measurement: &Measurement,
        origin: Option<Origin>,
        reason: RejectedReason,
        message: impl Into<String>,
    ) -> Rejected {
        let origin = origin.unwrap_or_else(|| Origin {
            pipeline: measurement.check.pipeline.clone(),
            source: measurement.check.source.clone(),
            topic: None,
            partition: None,
            offset: None,
        });
        let mut bytes = Vec::new();
        wire::encode(measurement, &mut bytes);
        let key = Some(measurement.check.id.to_string().into_bytes());
        Rejected::new(reason, message, origin, measurement.scheduled_at, key, bytes)
    }

    /// An event that a store can't keep as such. Without an origin it comes from the stage that made it.
    pub fn of_event(
        event: &Event,
        origin: Option<Origin>,
        reason: RejectedReason,
        message: impl Into<String>,
    ) -> Rejected {
        let (pipeline, source) = match event {
            Event::Receipt(receipt) => (&receipt.pipeline, &receipt.source),
            Event::Incident(incident) => (&incident.pipeline, &incident.detector),
        };
        let origin = origin.unwrap_or_else(|| Origin {
            pipeline: pipeline.clone(),
            source: source.clone(),
            topic: None,
            partition: None,
            offset: None,
        });
        let mut bytes = Vec::new();
        wire::encode_event(event, &mut bytes);
        let key = Some(event.key().to_string().into_bytes());
        Rejected::new(reason, message, origin, event.at(), key, bytes)
    }
}
