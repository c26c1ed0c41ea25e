//! Dead letters as a store gives them back: the rows of `monmon dead-letter`.

use jiff::Timestamp;
use uuid::Uuid;

/// What came in and could not be read or stored, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub id: Uuid,
    /// The word of [`RejectedReason`](crate::RejectedReason), or of a later version's.
    pub reason: String,
    pub message: String,
    pub pipeline: String,
    pub source: String,
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    /// The message's own time.
    pub occurred_at: Timestamp,
    pub stored_at: Timestamp,
    pub key: Option<Vec<u8>>,
    pub bytes: Vec<u8>,
}

/// Which dead letters are meant: those of which everything is true that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Only these; empty means any.
    pub ids: Vec<Uuid>,
    pub reason: Option<String>,
    pub topic: Option<String>,
    /// Stored from here on.
    pub since: Option<Timestamp>,
    /// Stored before this.
    pub until: Option<Timestamp>,
    /// Those whose id comes after this one: the next page.
    pub after: Option<Uuid>,
}

/// What became of a dead letter that was read once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is a measurement now, and no dead letter any more.
    Stored,
    /// The same measurement is there already: it is no dead letter any more.
    Known,
    /// It stays what it is, and why.
    Kept(String),
}
