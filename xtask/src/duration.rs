//! Durations on the command line, written as in a pipeline: `30s`, `1m30s`.

use std::time::Duration;

pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write one as `30s`, `5m` or `1m30s`");
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: u64 = rest[..unit_at].parse().map_err(|_| wrong())?;
        let unit = &rest[unit_at..];
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let seconds = match &unit[..end] {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        total = count.checked_mul(seconds).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = &unit[end..];
    }
    // A century is not meant, and added to the clock would overflow.
    if total == 0 || total > 366 * 24 * 3600 { Err(wrong()) } else { Ok(Duration::from_secs(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("30s", Some(30)), ("1m30s", Some(90)), ("2h", Some(7200))] {
            assert_eq!(parse(text).ok().map(|d| d.as_secs()), seconds, "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "0s",
            "1x",
            "-1s",
            "1.5s",
            "99999999999999999999s",
            "18446744073709551615h",
            "30é",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
