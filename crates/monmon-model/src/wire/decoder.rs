//! Reading many measurements: checks and probers repeat, so each is read once and shared.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{DecodeError, Message, PREFIX, decode_by, event_of};
use crate::{Check, Details, Failure, Hop, Match, Measurement, Outcome, Prober, Reason, Timings, Tls};

/// How many checks and how many probers are known at a time; with one more, learning begins anew.
const KNOWN_MAX: usize = 16_384;

/// The longest JSON that is known by heart. With [`KNOWN_MAX`] it bounds what a decoder holds to a few ten MiB.
const KNOWN_BYTES_MAX: usize = 1 << 10;

/// Reads measurements exactly as [`super::decode`] does, but what tells of the same check or prober in the same bytes is
/// read once, and its value shared.
#[derive(Debug, Default)]
pub struct Decoder {
    checks: Known<Check>,
    probers: Known<Prober>,
}

impl Decoder {
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Measurement, DecodeError> {
        decode_by(bytes, |text| match self.read(text) {
            Ok(measurement) => Ok(measurement),
            // What is wrong is told with its place in the whole.
            Err(_inexact) => serde_json::from_str(text),
        })
    }

    /// Reads a message of whatever type.
    pub fn decode_message(&mut self, bytes: &[u8]) -> Result<Message, DecodeError> {
        // Nearly every message is a measurement, and begins as ours do.
        if !bytes.starts_with(PREFIX)
            && let Some(event) = event_of(bytes)?
        {
            return Ok(Message::Event(event));
        }
        self.decode(bytes).map(Message::Measurement)
    }

    fn read(&mut self, text: &str) -> serde_json::Result<Measurement> {
        let Parts {
            id,
            seq,
            attempt,
            check,
            prober,
            scheduled_at,
            started_at,
            method,
            url,
            outcome,
            reason,
            error,
            status,
            http_version,
            remote_addr,
            timings,
            body_bytes,
            body_wire_bytes,
            body_truncated,
            redirects,
            tls,
            details,
            matches,
        } = serde_json::from_str(text)?;
        Ok(Measurement {
            id,
            seq,
            attempt,
            check: self.checks.get(check)?,
            prober: self.probers.get(prober)?,
            scheduled_at,
            started_at,
            method,
            url,
            outcome,
            reason,
            error,
            status,
            http_version,
            remote_addr,
            timings,
            body_bytes,
            body_wire_bytes,
            body_truncated,
            redirects,
            tls,
            details,
            matches,
        })
    }
}

/// A [`Measurement`] whose check and prober are not read yet.
#[derive(Deserialize)]
struct Parts<'a> {
    id: Uuid,
    seq: u64,
    attempt: u32,
    #[serde(borrow)]
    check: &'a RawValue,
    #[serde(borrow)]
    prober: &'a RawValue,
    scheduled_at: Timestamp,
    #[serde(default)]
    started_at: Option<Timestamp>,
    method: String,
    url: String,
    outcome: Outcome,
    #[serde(default)]
    reason: Option<Reason>,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    http_version: Option<String>,
    #[serde(default)]
    remote_addr: Option<String>,
    timings: Timings,
    #[serde(default)]
    body_bytes: Option<u64>,
    #[serde(default)]
    body_wire_bytes: Option<u64>,
    #[serde(default)]
    body_truncated: bool,
    #[serde(default)]
    redirects: Vec<Hop>,
    #[serde(default)]
    tls: Option<Tls>,
    #[serde(default)]
    details: Option<Box<Details>>,
    #[serde(default)]
    matches: Vec<Match>,
}

/// Values by the JSON that they were read from.
#[derive(Debug)]
struct Known<T>(HashMap<Box<str>, Arc<T>>);

impl<T> Default for Known<T> {
    fn default() -> Known<T> {
        Known(HashMap::new())
    }
}

impl<T: DeserializeOwned> Known<T> {
    fn get(&mut self, raw: &RawValue) -> serde_json::Result<Arc<T>> {
        let text = raw.get();
        if let Some(known) = self.0.get(text) {
            return Ok(known.clone());
        }
        let read: Arc<T> = Arc::new(serde_json::from_str(text)?);
        if text.len() <= KNOWN_BYTES_MAX {
            if self.0.len() >= KNOWN_MAX {
                self.0.clear();
            }
            self.0.insert(text.into(), read.clone());
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{decode, encode, tests::example};

    fn text(measurement: &Measurement) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(measurement, &mut bytes);
        bytes
    }

    #[test]
    fn the_same_check_is_shared_and_another_is_not() {
        let mut decoder = Decoder::default();
        let one = example();
        let mut renamed = example();
        Arc::make_mut(&mut renamed.check).name.push('x');
        let mut read = |measurement: &Measurement| decoder.decode(&text(measurement)).expect("ours");
        let (first, second, other) = (read(&one), read(&one), read(&renamed));
        assert_eq!((&first, &second, &other), (&one, &one, &renamed));
        assert!(Arc::ptr_eq(&first.check, &second.check) && Arc::ptr_eq(&first.prober, &second.prober));
        assert!(!Arc::ptr_eq(&first.check, &other.check) && Arc::ptr_eq(&first.prober, &other.prober));
    }

    #[test]
    fn what_is_known_has_a_bound() {
        let mut known = Known::<u64>::default();
        for number in 0..=KNOWN_MAX as u64 {
            let raw = RawValue::from_string(number.to_string()).expect("JSON");
            assert_eq!(*known.get(&raw).expect("a number"), number);
        }
        assert_eq!(known.0.len(), 1);
        let long = format!("{}1", " ".repeat(KNOWN_BYTES_MAX));
        let mut known = Known::<Vec<u64>>::default();
        known.get(&RawValue::from_string(format!("[{long}]")).expect("JSON")).expect("a list");
        assert!(known.0.is_empty());
    }

    proptest! {
        /// Whatever is wrong, and whatever was read before.
        #[test]
        fn a_decoder_says_what_decode_says(at in 0usize..2000, byte in any::<u8>()) {
            let mut decoder = Decoder::default();
            let good = text(&example());
            let mut bad = good.clone();
            let at = at % bad.len();
            bad[at] = byte;
            for bytes in [&bad, &good, &bad, &good] {
                prop_assert_eq!(decoder.decode(bytes), decode(bytes));
            }
        }
    }
}
