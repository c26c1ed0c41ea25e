//! A message from Kafka: refused with a reason, or a measurement that is the same when it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use monmon_model::wire;

fuzz_target!(|bytes: &[u8]| {
    let Ok(measurement) = wire::decode(bytes) else { return };
    let mut written = Vec::new();
    wire::encode(&measurement, &mut written);
    // What stands in JSON's short hand may be longer when it is written out.
    if written.len() <= wire::MEASUREMENT_BYTES_MAX {
        assert_eq!(wire::decode(&written).as_ref(), Ok(&measurement));
    }
});
