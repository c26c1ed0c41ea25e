//! How long a measurement's texts may be, in characters, and how short its intervals. Stated once: whoever makes a measurement keeps to it, and the
//! wire format refuses what is longer, so that a message from elsewhere cannot put a book into a name.
//!
//! Pipeline files take names of 200 characters at most, so that what is made of a name (`sites/match`) fits too.

/// The shortest time from slot to slot, in microseconds: what a pipeline file may say. With less, whoever works out which
/// slots were due would have billions of them a day.
pub const INTERVAL_US_MIN: u64 = 100_000;
/// Names: of a check, its pipeline and source, a prober and its location, a matcher and its stage.
pub const NAME_CHARS_MAX: usize = 256;
/// How many labels a check may have.
pub const LABELS_MAX: usize = 64;
pub const LABEL_NAME_CHARS_MAX: usize = 64;
pub const LABEL_VALUE_CHARS_MAX: usize = 256;
/// How many metrics a match may have.
pub const METRICS_MAX: usize = 32;
pub const METRIC_NAME_CHARS_MAX: usize = 64;
pub const METRIC_UNIT_CHARS_MAX: usize = 32;
/// How many steps a measurement may have.
pub const STEPS_MAX: usize = 32;
/// How many addresses of a name a measurement may tell of.
pub const ADDRESSES_MAX: usize = 16;
/// How many certificates of a chain are on record, beside the server's own.
pub const CHAIN_MAX: usize = 8;
/// How many probers an incident may name.
pub const INCIDENT_PROBERS_MAX: usize = 64;
/// How many things a measurement may note.
pub const NOTES_MAX: usize = 16;
/// What is kept of a failing body.
pub const EVIDENCE_CHARS_MAX: usize = 16 * 1024;
/// What a reason, an error or a matcher says.
pub const MESSAGE_CHARS_MAX: usize = 4096;

/// What a message ends in that was cut.
const CUT: char = '…';

/// Whether a text has at most so many characters.
pub fn fits(text: &str, chars_max: usize) -> bool {
    // No text has more characters than bytes, and nearly all are short.
    text.len() <= chars_max || text.chars().nth(chars_max).is_none()
}

/// A message as it may be: one that is too long is cut, and shows it.
pub fn message(text: impl Into<String>) -> String {
    let mut text = text.into();
    if !fits(&text, MESSAGE_CHARS_MAX) {
        let end = text.char_indices().nth(MESSAGE_CHARS_MAX - 1).map_or(text.len(), |(at, _)| at);
        text.truncate(end);
        text.push(CUT);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_at_a_character_and_show_it() {
        for (char, count) in [('a', MESSAGE_CHARS_MAX), ('ü', MESSAGE_CHARS_MAX), ('𝄞', 3), ('a', 0)] {
            let whole = String::from(char).repeat(count);
            assert_eq!(message(whole.clone()), whole);
        }
        for char in ['a', 'ü', '𝄞'] {
            let cut = message(String::from(char).repeat(MESSAGE_CHARS_MAX + 1));
            assert_eq!(cut.chars().count(), MESSAGE_CHARS_MAX);
            assert!(cut.ends_with(CUT));
            assert!(fits(&cut, MESSAGE_CHARS_MAX) && !fits(&cut, MESSAGE_CHARS_MAX - 1));
        }
    }
}
