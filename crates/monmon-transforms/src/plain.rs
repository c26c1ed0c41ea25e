//! Patterns of which it is plain that they compile, so that a list of a hundred thousand need not be compiled to know it.
//!
//! What is plain is told by the parsed pattern: characters, classes, groups, alternatives and repetitions, and a size, reckoned
//! well above the true one, that is far from the bounds. Everything else is compiled to be judged.

use std::collections::HashMap;

use fancy_regex::{Assertion, Expr, RegexBuilder};

use crate::pattern::{PATTERN_BYTES_MAX, PATTERN_SIZE_MAX};

/// How large a pattern may be reckoned to be.
const SIZE_MAX: usize = PATTERN_SIZE_MAX / 4;
/// How deep its parts may lie within each other.
const DEPTH_MAX: usize = 32;
/// What a part takes beside its parts, in bytes.
const PART_BYTES: usize = 128;
/// What a character takes, in bytes; without regard to case several times that.
const CHAR_BYTES: usize = 64;
/// What any character takes, in bytes.
const ANY_BYTES: usize = 4 << 10;
/// What a class takes, in bytes: the largest of Unicode's are a quarter of it.
const CLASS_BYTES: usize = 512 << 10;
const ASCII_CLASS_BYTES: usize = 4 << 10;
/// Digits and white space have few ranges.
const SMALL_CLASS_BYTES: usize = 32 << 10;
/// Most different classes whose soundness is kept.
const CLASSES_MAX: usize = 1_000;

#[derive(Default)]
pub(crate) struct Plain {
    /// Classes are few, however many patterns have them.
    classes: HashMap<String, bool>,
}

impl Plain {
    /// Whether it is certain that the pattern compiles within its bounds.
    pub(crate) fn is_sound(&mut self, pattern: &str) -> bool {
        if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
            return false;
        }
        let Ok(tree) = Expr::parse_tree(pattern) else { return false };
        self.size(&tree.expr, 0).is_some_and(|size| size <= SIZE_MAX)
    }

    /// What a part takes at most; none where it is not plain.
    fn size(&mut self, part: &Expr, depth: usize) -> Option<usize> {
        if depth > DEPTH_MAX {
            return None;
        }
        let inside = match part {
            Expr::Empty => 0,
            Expr::Any { .. } => ANY_BYTES,
            Expr::Literal { val, casei: false } => val.len() * CHAR_BYTES,
            Expr::Literal { val, casei: true } if val.is_ascii() => val.len() * CHAR_BYTES * 4,
            Expr::Assertion(
                Assertion::StartText
                | Assertion::EndText
                | Assertion::StartLine { crlf: false }
                | Assertion::EndLine { crlf: false },
            ) => 0,
            Expr::Concat(parts) | Expr::Alt(parts) => {
                let mut sum = 0_usize;
                for part in parts {
                    sum = sum.saturating_add(self.size(part, depth + 1)?);
                }
                sum
            }
            Expr::Group(part) => self.size(part, depth + 1)?,
            Expr::Repeat { child, lo, hi, .. } => {
                let times = if *hi == usize::MAX { lo.saturating_add(1) } else { *hi };
                self.size(child, depth + 1)?.saturating_mul(times.max(1))
            }
            Expr::Delegate { inner, casei } => self.class(inner, *casei)?,
            _ => return None,
        };
        Some(inside.saturating_add(PART_BYTES))
    }

    fn class(&mut self, class: &str, casei: bool) -> Option<usize> {
        if matches!(class, r"\d" | r"\s") {
            return Some(SMALL_CLASS_BYTES);
        }
        let size = match class.is_ascii() && !class.contains(['\\', '^']) && !casei {
            true => ASCII_CLASS_BYTES,
            // All but a few is as large as any character.
            false if class.is_ascii() && !class.contains('\\') && !casei => 2 * ANY_BYTES,
            false => CLASS_BYTES,
        };
        let known = self.classes.get(class).copied();
        let is_sound = known.or_else(|| {
            let sound = RegexBuilder::new(class).build().is_ok();
            (self.classes.len() < CLASSES_MAX).then(|| self.classes.insert(class.to_owned(), sound))?;
            Some(sound)
        });
        is_sound?.then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compiles(pattern: &str) -> bool {
        RegexBuilder::new(pattern).delegate_size_limit(PATTERN_SIZE_MAX).build().is_ok()
    }

    #[test]
    fn what_people_write_is_plain() {
        let mut plain = Plain::default();
        for pattern in [
            "check-17|</html>",
            "<title>(?<title>[^<]*)</title>",
            "(?i)open[- ]source",
            r"\bversion (\d+)\.\d{1,3}$".trim_start_matches(r"\b"),
            "^(?:a|b)*?c+[0-9a-f]{32}",
        ] {
            assert!(plain.is_sound(pattern), "{pattern}");
            assert!(compiles(pattern), "{pattern}");
        }
    }

    #[test]
    fn what_is_large_or_wrong_or_steps_back_is_not() {
        let mut plain = Plain::default();
        for pattern in ["", "(((a{100}){100}){100})", "(abc", "[z-a]", r"(a)\1", "a(?=b)", r"\w{900}"] {
            assert!(!plain.is_sound(pattern), "{pattern}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// What is told to be plain compiles.
        #[test]
        fn plain_patterns_compile(
            parts in prop::collection::vec(prop::sample::select(vec![
                "a", "é", "ß", "(", ")", "|", "*", "+?", "{2}", "{0,50}", "{40,}", "[", "]", "^", "-", "z-a", "\\d", "\\w",
                "\\pL", "\\h", "\\R", "\\Z", "\\b", "(?i)", "(?x)", "(?:", "(?<n>", "(?m)", "&&", ".", "$", "\\x41", "[[:alpha:]]",
                "\\1", "(?=", "\\G", "#", " ", "[^<]", "(?s)", "(?-u)", "\\Q", "\\E", "{", "\\",
            ]), 1..12)
        ) {
            let pattern = parts.concat();
            if Plain::default().is_sound(&pattern) {
                prop_assert!(compiles(&pattern), "{}", pattern);
            }
        }
    }
}
