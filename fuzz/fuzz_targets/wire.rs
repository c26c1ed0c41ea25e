//! A message from Kafka: refused with a reason, or a measurement or an event that is the same when it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monmon_model::wire::{self, Message};

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = wire::decode_message(bytes) else { return };
    let mut written = Vec::new();
    match &message {
        Message::Measurement(measurement) => wire::encode(measurement, &mut written),
        Message::Event(event) => wire::encode_event(event, &mut written),
    }
    // What stands in JSON's short hand may be longer when it is written out.
    if written.len() <= wire::MEASUREMENT_BYTES_MAX {
        assert_eq!(wire::decode_message(&written).as_ref(), Ok(&message));
    }
});
