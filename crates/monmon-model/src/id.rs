//! Ids that are made, not drawn, so that a retry, a replay or a second copy of a process meets the same key.

use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid, uuid};

use crate::{Check, Match, Origin, RejectedReason, Tls};

/// Namespace of all check ids: UUIDv5 of the DNS namespace and `monmon.check`.
const CHECK_NAMESPACE: Uuid = uuid!("893a0c0d-be29-5bef-94e1-fff42e282504");

/// Namespace of the ids of TLS facts.
const TLS_NAMESPACE: Uuid = uuid!("6d6f6e6d-6f6e-8000-8000-000000746c73");

/// Namespace of the ids of what measurements have in common.
const CONTEXT_NAMESPACE: Uuid = uuid!("6d6f6e6d-6f6e-8000-8000-000000637478");

/// Namespace of the ids of what matches have in common.
const VERDICT_NAMESPACE: Uuid = uuid!("6d6f6e6d-6f6e-8000-8000-000076657264");

/// A check's id: UUIDv5 over pipeline, source and check name, each with its length, so that no two triples meet.
pub fn check_id(pipeline: &str, source: &str, name: &str) -> Uuid {
    let mut bytes = Vec::with_capacity(pipeline.len() + source.len() + name.len() + 24);
    for part in [pipeline, source, name] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    Uuid::new_v5(&CHECK_NAMESPACE, &bytes)
}

/// The id of a check's definition, which changes whenever anything of it does: UUIDv5 in the namespace of the check's id
/// over its other fields, as `sql/postgres/0001_tables.sql` tells users of raw SQL.
pub fn definition_id(check: &Check) -> Uuid {
    let Check { id, name, pipeline, source, method, url, schedule, interval_us, timeout_us, labels } = check;
    let mut content = json!([pipeline, source, name, method, url, interval_us, timeout_us, labels]);
    // What came later is told only where it is there: older definitions keep their ids.
    if let (Some(schedule), Some(list)) = (schedule, content.as_array_mut()) {
        list.push(json!(schedule));
    }
    Uuid::new_v5(id, content.to_string().as_bytes())
}

/// The id of what a handshake agreed on: the same for all checks and servers that agree on the same. Made as
/// `sql/postgres/0001_tables.sql` tells.
pub fn tls_id(tls: &Tls) -> Uuid {
    let Tls { version, cipher, verified, certificate, chain } = tls;
    let certificate = certificate.as_ref();
    let mut content = json!([
        version,
        cipher,
        verified,
        certificate.map(|certificate| &certificate.subject),
        certificate.map(|certificate| &certificate.issuer),
        certificate.map(|certificate| certificate.not_before.as_microsecond()),
        certificate.map(|certificate| certificate.not_after.as_microsecond()),
    ]);
    // As above: handshakes of which less was told keep their ids.
    let sha256 = certificate.and_then(|certificate| certificate.sha256.as_ref());
    if let Some(list) = content.as_array_mut().filter(|_| sha256.is_some() || !chain.is_empty()) {
        list.push(json!(sha256));
        list.push(json!(chain));
    }
    Uuid::new_v5(&TLS_NAMESPACE, content.to_string().as_bytes())
}

/// The id of what a check's measurements have in common from one to the next. Made as `sql/postgres/0012_contexts.sql` tells.
pub fn context_id(
    definition: Uuid,
    boot: Uuid,
    http_version: Option<&str>,
    remote_addr: Option<&str>,
    tls: Option<Uuid>,
) -> Uuid {
    let content = json!([definition, boot, http_version, remote_addr, tls]);
    Uuid::new_v5(&CONTEXT_NAMESPACE, content.to_string().as_bytes())
}

/// The id of what a match says but for its message and values: one of a few that its matcher has. Made as
/// `sql/postgres/0012_contexts.sql` tells.
pub fn verdict_id(found: &Match) -> Uuid {
    let Match { stage, name, kind, status, found, message: _, values: _, metrics: _ } = found;
    let content = json!([stage, name, kind, status.as_str(), found]);
    Uuid::new_v5(&VERDICT_NAMESPACE, content.to_string().as_bytes())
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

/// An incident's id: the time of the first bad slot, and a hash of what makes it unique, so that whoever decides the same
/// again meets the same key.
pub fn incident_id(pipeline: &str, detector: &str, check: Uuid, began_at: Timestamp) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"monmon.incident");
    for part in [pipeline, detector] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(check.as_bytes());
    hash.update(began_at.as_microsecond().to_be_bytes());
    made_v7(began_at, hash)
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

/// A receipt's id: its time, and a hash of the boot and the numbers it is about.
pub fn receipt_id(boot: Uuid, first_seq: u64, last_seq: u64, at: Timestamp) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"monmon.receipt");
    hash.update(boot.as_bytes());
    hash.update(first_seq.to_be_bytes());
    hash.update(last_seq.to_be_bytes());
    hash.update(at.as_microsecond().to_be_bytes());
    made_v7(at, hash)
}

/// The id of what a sink keeps for how long: a UUIDv8 of a hash of its pipeline and its name, as `monmon_retention_register`
/// makes it in PostgreSQL.
pub fn retention_id(pipeline: &str, stage: &str) -> Uuid {
    let mut hash = Sha256::new();
    for part in ["monmon.retention", pipeline, "\n", stage] {
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x0f);
    Uuid::from_bytes(bytes)
}

/// The id of one life of a source: drawn, not made, because no two lives are the same.
pub fn boot_id(now: Timestamp) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(Uuid::new_v4().as_bytes());
    made_v7(now, hash)
}

/// The id of the record of a batch: drawn as well, for each try is a batch of its own.
pub fn batch_id(now: Timestamp) -> Uuid {
    boot_id(now)
}

/// A rollup's id: the time is its start, the other bits are a hash of the check and of the prober or definition that it is
/// of. As `monmon_rollup_id` makes it in PostgreSQL.
pub fn rollup_id(check: Uuid, other: Uuid, start_at: Timestamp) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(b"monmon.rollup");
    hash.update(check.as_bytes());
    hash.update(other.as_bytes());
    let digest = hash.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    let millis = u64::try_from(start_at.as_millisecond()).unwrap_or(0);
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x0f);
    Uuid::from_bytes(bytes)
}

fn made_v7(at: Timestamp, hash: Sha256) -> Uuid {
    let digest = hash.finalize();
    let mut bits = [0; 10];
    bits.copy_from_slice(&digest[..10]);
    let millis = u64::try_from(at.as_millisecond()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &bits).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Certificate, MatchStatus};

    /// Rows in databases hold these: if one of them changes, every store has its checks and handshakes twice.
    #[test]
    fn ids_made_of_content_stay_what_they_are() {
        let mut check = Check {
            id: check_id("shop", "sites", "start page"),
            name: "start page".to_owned(),
            pipeline: "shop".to_owned(),
            source: "sites".to_owned(),
            method: "GET".to_owned(),
            url: r#"https://example.org/"ü"?a=1&b=2"#.to_owned(),
            schedule: None,
            interval_us: 30_000_000,
            timeout_us: 10_000_000,
            labels: [("team", "web"), ("area", r#"über \ "x""#)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        assert_eq!(definition_id(&check), uuid!("11c73d85-fcea-51dc-909a-265671221e35"));
        check.labels.clear();
        check.interval_us = u64::MAX;
        assert_eq!(definition_id(&check), uuid!("d860113f-30a1-56a3-acf2-05ea21ced5f8"));

        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let certificate = Certificate {
            subject: "CN=example.org".to_owned(),
            issuer: r#"CN=Prüfstelle, O="A""#.to_owned(),
            not_before: at("2026-01-01T00:00:00Z"),
            not_after: at("2027-01-01T00:00:00.000001Z"),
            sha256: None,
        };
        let agreed = Tls {
            version: Some("TLSv1.3".to_owned()),
            cipher: Some("TLS13_AES_256_GCM_SHA384".to_owned()),
            verified: Some(true),
            certificate: Some(certificate),
            chain: Vec::new(),
        };
        assert_eq!(tls_id(&agreed), uuid!("acfede5b-6b6d-5224-9f58-4d4fc2c3847d"));
        let nothing =
            Tls { version: None, cipher: None, verified: None, certificate: None, chain: Vec::new() };
        assert_eq!(tls_id(&nothing), uuid!("d1ea0841-c4d6-5a83-b324-c9d0c7fc7746"));

        let (definition, boot) =
            (uuid!("11c73d85-fcea-51dc-909a-265671221e35"), uuid!("01932b00-0000-7000-8000-000000000000"));
        let whole =
            context_id(definition, boot, Some("1.1"), Some("[2001:db8::7]:443"), Some(tls_id(&agreed)));
        assert_eq!(whole, uuid!("7215da88-bcaa-5a1a-a547-3bed428b12c9"));
        let bare = context_id(definition, boot, None, None, None);
        assert_eq!(bare, uuid!("dbdafb3f-5657-5e5b-80ea-d149ef5eae02"));

        let mut found = Match {
            name: r#"the "ü""#.to_owned(),
            stage: "titles".to_owned(),
            kind: "regex".to_owned(),
            status: MatchStatus::Passed,
            found: Some(true),
            message: Some("is not told of".to_owned()),
            values: BTreeMap::new(),
            metrics: BTreeMap::new(),
        };
        assert_eq!(verdict_id(&found), uuid!("cde6be96-f299-5c38-a573-8900825dc802"));
        (found.kind, found.status, found.found) = ("wasm".to_owned(), MatchStatus::Error, None);
        assert_eq!(verdict_id(&found), uuid!("2674a7df-1e0c-50db-87f9-9476fa962a4a"));
    }
}
