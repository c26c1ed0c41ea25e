//! The verdict over one measurement.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ordered from good to bad; `Unknown` says nothing about the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Up,
    /// Reachable and right, but worse than wished (slow beyond a soft bound, a certificate near its end).
    Degraded,
    Down,
    /// The prober could not tell: its own trouble, never the site's.
    Unknown,
}

impl Outcome {
    pub const ALL: [Outcome; 4] = [Outcome::Up, Outcome::Degraded, Outcome::Down, Outcome::Unknown];

    /// The word in the wire format, the stores and the status table.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Up => "up",
            Outcome::Degraded => "degraded",
            Outcome::Down => "down",
            Outcome::Unknown => "unknown",
        }
    }

    pub fn from_word(word: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}
