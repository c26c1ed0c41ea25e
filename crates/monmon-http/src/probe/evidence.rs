//! The beginning of a body, kept for people who want to know why a check was down.

use fancy_regex::Regex;
use monmon_model::bounds::{EVIDENCE_CHARS_MAX, fits};

#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) bytes_max: usize,
    /// What these match is not kept.
    pub(crate) redact: Vec<Regex>,
}

const REDACTED: &str = "***";
/// In place of everything, where a pattern cannot decide what is secret.
const UNDECIDED: &str = "(not kept: a pattern of `redact` could not be matched)";

impl Evidence {
    /// The text that is kept. Characters that no store takes become U+FFFD.
    pub(crate) fn text(&self, bytes: &[u8]) -> String {
        let bytes = &bytes[..bytes.len().min(self.bytes_max)];
        let mut text = String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
        for pattern in &self.redact {
            match pattern.try_replacen(&text, 0, REDACTED) {
                Ok(cleaned) => text = cleaned.into_owned(),
                Err(_) => return UNDECIDED.to_owned(),
            }
        }
        if !fits(&text, EVIDENCE_CHARS_MAX) {
            text = text.chars().take(EVIDENCE_CHARS_MAX).collect();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_cut_and_cleaned() {
        let rule = |max, patterns: &[&str]| Evidence {
            bytes_max: max,
            redact: patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect(),
        };
        assert_eq!(rule(5, &[]).text(b"abc\0\xffdef"), "abc\u{fffd}\u{fffd}");
        let cleaned = rule(100, &["token=[a-z0-9]+", "(?i)mallory"]).text(b"token=abc1 for Mallory, token=x");
        assert_eq!(cleaned, "*** for ***, ***");
        let endless = rule(100, &["(a+)+\\1$"]).text("a".repeat(90).as_bytes());
        assert!(endless == UNDECIDED || !endless.contains('a'), "{endless}");
        assert_eq!(rule(1 << 20, &["x"]).text(&[b'x'; 1 << 16]).chars().count(), EVIDENCE_CHARS_MAX);
    }
}
