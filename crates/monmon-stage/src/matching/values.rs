//! What matchers read from a page, kept within what the wire takes.

use monmon_model::Measurement;

/// Values of one match; of a pattern's named groups the first by name.
pub const VALUES_MAX: usize = 32;
/// Longest value, in characters; the rest is cut off.
pub const VALUE_CHARS_MAX: usize = 1024;
/// All values of one measurement, in bytes: it must still fit the wire format with the worst of escapes.
pub const VALUES_BYTES_MAX: usize = 96 * 1024;

/// What the values of earlier matches take.
pub fn values_bytes(measurement: &Measurement) -> usize {
    let values = measurement.matches.iter().flat_map(|found| &found.values);
    values.map(|(name, value)| name.len() + value.len()).sum()
}

/// No text column can hold NUL.
pub fn storable(c: char) -> char {
    if c == '\0' { char::REPLACEMENT_CHARACTER } else { c }
}
