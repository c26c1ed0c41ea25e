//! What one matcher said of one measurement's page.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::bounds::{MESSAGE_CHARS_MAX, METRIC_UNIT_CHARS_MAX, NAME_CHARS_MAX};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchStatus {
    /// As the pipeline wants it: found where it should be, absent where it should not.
    Passed,
    /// Not as the pipeline wants it; the measurement is `down`.
    Failed,
    /// The matcher could not decide (limit hit, page cut off or not kept); the measurement is `unknown`.
    Error,
}

impl MatchStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            MatchStatus::Passed => "passed",
            MatchStatus::Failed => "failed",
            MatchStatus::Error => "error",
        }
    }
}

/// One matcher's word on one page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Match {
    /// The matcher's name, unique within a measurement's stage.
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub name: String,
    /// Name of the stage that matched.
    #[schemars(length(max = NAME_CHARS_MAX))]
    pub stage: String,
    /// The kind of matcher: `regex` or `wasm`.
    pub kind: String,
    pub status: MatchStatus,
    /// Whether the pattern was found; absent when the matcher could not decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MESSAGE_CHARS_MAX))]
    pub message: Option<String>,
    /// Named captures, and what a plugin has read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// Numbers that a plugin has read or worked out, such as a price.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, Metric>,
}

/// A number with its unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    #[serde(deserialize_with = "unsigned_zero")]
    value: f64,
    /// Such as `ms`; empty for a bare number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = METRIC_UNIT_CHARS_MAX))]
    unit: String,
}

/// Its value is finite, so equality is total.
impl Eq for Metric {}

impl Metric {
    /// `None` for what is no number. Zero has no sign: a store may not keep it.
    pub fn new(value: f64, unit: impl Into<String>) -> Option<Metric> {
        value.is_finite().then(|| Metric { value: plain_zero(value), unit: unit.into() })
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    pub fn unit(&self) -> &str {
        &self.unit
    }
}

fn plain_zero(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value }
}

/// JSON has no other numbers than finite ones.
fn unsigned_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    f64::deserialize(deserializer).map(plain_zero)
}
