//! Reading rejected messages back: what [`super::encode_rejected`] has written.

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::{DecodeError, refuse};
use crate::{Origin, Rejected, RejectedReason};

/// Reads one rejected message, as it was.
pub fn decode_rejected(bytes: &[u8]) -> Result<Rejected, DecodeError> {
    #[derive(Deserialize)]
    struct Parts {
        id: Uuid,
        reason: RejectedReason,
        message: String,
        origin: Origin,
        at: Timestamp,
        key_hex: Option<String>,
        bytes_hex: String,
    }
    let Parts { id, reason, message, origin, at, key_hex, bytes_hex } = serde_json::from_slice(bytes)
        .map_err(|error| {
            let reason = if error.is_data() { RejectedReason::BadField } else { RejectedReason::NotJson };
            refuse(reason, error.to_string())
        })?;
    let key = key_hex.map(|hex| unhex("key_hex", &hex)).transpose()?;
    Ok(Rejected { id, reason, message, origin, at, key, bytes: unhex("bytes_hex", &bytes_hex)? })
}

fn unhex(field: &str, hex: &str) -> Result<Vec<u8>, DecodeError> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    let bytes: Option<Vec<u8>> = pairs.collect();
    bytes.ok_or_else(|| refuse(RejectedReason::BadField, format!("`{field}` is not in hex")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::encode_rejected;

    #[test]
    fn what_was_rejected_comes_back_as_it_was() {
        let origin = Origin {
            pipeline: "p".to_owned(),
            source: "s".to_owned(),
            topic: Some("t".to_owned()),
            partition: Some(3),
            offset: Some(9),
        };
        for (key, bytes) in [(None, Vec::new()), (Some(vec![0xff]), (0..=255).collect())] {
            let reason = RejectedReason::NotUtf8;
            let rejected = Rejected::new(reason, "no", origin.clone(), Timestamp::UNIX_EPOCH, key, bytes);
            let mut text = Vec::new();
            encode_rejected(&rejected, &mut text);
            assert_eq!(decode_rejected(&text), Ok(rejected));
        }
    }

    #[test]
    fn what_is_no_rejected_message_is_refused() {
        for text in ["", "{}", "[]", "{\"bytes_hex\":\"0\"}"] {
            assert!(decode_rejected(text.as_bytes()).is_err(), "{text}");
        }
        for hex in ["0", "0g", "é"] {
            assert!(unhex("bytes_hex", hex).is_err(), "{hex}");
        }
    }
}
