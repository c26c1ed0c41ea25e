//! Patterns of names: `*` stands for any text.

/// Whether a text is what the pattern says.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(head) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        // The first place is as good as any later one: what is between may be any text.
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text) in [
            ("a", "a"),
            ("*", ""),
            ("a*", "a"),
            ("a*b*c", "a1b2b3c"),
            ("*/b", "a/b"),
            ("*a*", "bab"),
            ("ü*", "über"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "b"), ("a*a", "a"), ("a*b", "ab c"), ("", "a"), ("*a*a*", "a")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }
}
