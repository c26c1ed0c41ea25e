//! What is to be checked, and who checks it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bounds::{
    INTERVAL_US_MIN, LABEL_NAME_CHARS_MAX, LABEL_VALUE_CHARS_MAX, LABELS_MAX, NAME_CHARS_MAX,
};

/// Free text by which checks are grouped and found.
pub type Labels = BTreeMap<String, String>;

/// A check as a measurement carries it: enough for a store to know it without the pipeline file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// UUIDv5 of pipeline, source and name, or what the file gives as `id`. The same for all probers and restarts.
    pub id: Uuid,
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub name: String,
    /// Name of the pipeline that declares the check.
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub pipeline: String,
    /// Name of the source stage that declares the check.
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub source: String,
    /// Method of the first request; of a check that is no request its kind: `TCP`, `TLS`, `DNS`, `WEBSOCKET`, `PING`.
    pub method: String,
    /// URL of the first request, without any password.
    pub url: String,
    /// When the check is due, where that is not every interval: a crontab expression with its time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub schedule: Option<String>,
    /// Time from slot to slot, in microseconds; the mean of it where `schedule` says when.
    #[schemars(range(min = INTERVAL_US_MIN))]
    pub interval_us: u64,
    /// Longest time that one measurement may take, in microseconds.
    pub timeout_us: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = LABELS_MAX,
        "propertyNames" = { "maxLength": LABEL_NAME_CHARS_MAX },
        "additionalProperties" = { "type": "string", "maxLength": LABEL_VALUE_CHARS_MAX },
    ))]
    pub labels: Labels,
}

/// Who made a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prober {
    /// Made at the first start and kept.
    pub id: Uuid,
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub location: Option<String>,
    /// One source's life, from its start to its end; `Measurement::seq` counts within it.
    pub boot: Uuid,
}

impl Prober {
    /// Whether both tell the same of the prober, in whatever boot.
    pub fn same_but_for_boot(&self, other: &Prober) -> bool {
        (self.id, &self.name, &self.location) == (other.id, &other.name, &other.location)
    }
}
