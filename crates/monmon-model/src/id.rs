//! Ids that are made, not drawn, so that a retry, a replay or a second copy of a process meets the same key.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid, uuid};

use crate::{Origin, RejectedReason};

/// Namespace of all check ids: UUIDv5 of the DNS namespace and `monmon.check`.
const CHECK_NAMESPACE: Uuid = uuid!("893a0c0d-be29-5bef-94e1-fff42e282504");

/// A check's id: UUIDv5 over pipeline, source and check name, each with its length, so that no two triples meet.
pub fn check_id(pipeline: &str, source: &str, name: &str) -> Uuid {
    let mut bytes = Vec::with_capacity(pipeline.len() + source.len() + name.len() + 24);
    for part in [pipeline, source, name] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    Uuid::new_v5(&CHECK_NAMESPACE, &bytes)
}

/// A measurement's id: a UUIDv7 whose time is the slot's and whose other bits are a hash of what makes it unique.
pub fn measurement_id(prober: Uuid, check: Uuid, scheduled_at: Timestamp, attempt: u32) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"monmon.measurement");
    hash.update(prober.as_bytes());
    hash.update(check.as_bytes());
    hash.update(scheduled_at.as_microsecond().to_be_bytes());
    hash.update(attempt.to_be_bytes());
    made_v7(scheduled_at, hash)
}

/// A match's id: the measurement's time, and a hash of the measurement, the stage and the matcher's name.
pub fn match_id(measurement: Uuid, scheduled_at: Timestamp, stage: &str, name: &str) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"monmon.match");
    hash.update(measurement.as_bytes());
    hash.update((stage.len() as u64).to_be_bytes());
    hash.update(stage.as_bytes());
    hash.update(name.as_bytes());
    made_v7(scheduled_at, hash)
}

/// A rejected message's id: its own time, and a hash of its place. Without a place the bytes stand in for it.
pub fn rejected_id(origin: &Origin, reason: RejectedReason, at: Timestamp, bytes: &[u8]) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"monmon.rejected");
    hash.update(reason.as_str());
    match (&origin.topic, origin.partition, origin.offset) {
        (Some(topic), Some(partition), Some(offset)) => {
            hash.update((topic.len() as u64).to_be_bytes());
            hash.update(topic.as_bytes());
            hash.update(partition.to_be_bytes());
            hash.update(offset.to_be_bytes());
        }
        _ => hash.update(bytes),
    }
    made_v7(at, hash)
}

/// The id of one life of a source: drawn, not made, because no two lives are the same.
pub fn boot_id(now: Timestamp) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(Uuid::new_v4().as_bytes());
    made_v7(now, hash)
}

fn made_v7(at: Timestamp, hash: Sha256) -> Uuid {
    let digest = hash.finalize();
    let mut bits = [0; 10];
    bits.copy_from_slice(&digest[..10]);
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &bits).into_uuid()
}
