//! Quantities: a number and its unit in one text. Every error shows how the text should have been written.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const MICROS_PER_DAY: u128 = 86_400_000_000;

/// The units of a duration, longest first, in microseconds.
const DURATION_UNITS: &[(&str, u128)] = &[
    ("y", 365 * MICROS_PER_DAY),
    ("w", 7 * MICROS_PER_DAY),
    ("d", MICROS_PER_DAY),
    ("h", 3_600_000_000),
    ("m", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// What people write for the units of a duration.
const DURATION_WORDS: &[(&str, &[&str])] = &[
    ("us", &["µs", "μs", "usec", "usecs", "micro", "micros", "microsecond", "microseconds"]),
    ("ms", &["msec", "msecs", "milli", "millis", "millisecond", "milliseconds"]),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("m", &["min", "mins", "minute", "minutes"]),
    ("h", &["hr", "hrs", "hour", "hours"]),
    ("d", &["day", "days"]),
    ("w", &["wk", "wks", "week", "weeks"]),
    ("y", &["yr", "yrs", "year", "years"]),
];

const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// What people write for the units of a size, in lower case.
const SIZE_WORDS: &[(&str, &[&str])] = &[
    ("TiB", &["t", "tib"]),
    ("GiB", &["g", "gib"]),
    ("MiB", &["m", "mib"]),
    ("KiB", &["k", "kib"]),
    ("TB", &["tb"]),
    ("GB", &["gb"]),
    ("MB", &["mb"]),
    ("B", &["b", "byte", "bytes"]),
];

/// How many numbers and ranges one text may list.
const RANGES_MAX: usize = 64;

/// Why a text is not a quantity.
#[derive(Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct QuantityError {
    pub message: String,
    /// The text as it should have been written, where that can be told.
    pub mend: Option<String>,
    /// Whether all that is missing is the unit.
    pub missing_unit: bool,
}

impl QuantityError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), mend: None, missing_unit: false }
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }
}

/// Reads `30s`, `1m30s`, `500ms`, `90d`: whole numbers, each with its unit, each unit at most once, largest first.
/// Units: us, ms, s, m, h, d, w, and y for 365 days.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    strict_duration(text).map_err(|error| match error.mend {
        Some(_) => error,
        None => mended_duration(text, error),
    })
}

fn strict_duration(text: &str) -> Result<Duration, QuantityError> {
    let parts = duration_parts(text)?;
    let too_long = || QuantityError::new(format!("`{text}` is longer than can be counted"));
    let mut micros: u128 = 0;
    for (number, unit) in &parts {
        let part = number.parse::<u64>().map_err(|_| too_long())?;
        micros += u128::from(part) * unit.1;
    }
    if !parts.windows(2).all(|pair| pair[0].1.1 > pair[1].1.1) {
        let error = QuantityError::new(format!("`{text}` does not name each unit once, the largest first"));
        return Err(match duration_of_micros(micros) {
            Some(sum) => error.mend(format_duration(sum)),
            None => error,
        });
    }
    duration_of_micros(micros).ok_or_else(too_long)
}

fn duration_of_micros(micros: u128) -> Option<Duration> {
    u64::try_from(micros).ok().map(Duration::from_micros)
}

type Part<'a> = (&'a str, &'static (&'static str, u128));

fn duration_parts(text: &str) -> Result<Vec<Part<'_>>, QuantityError> {
    let mut parts = Vec::new();
    let mut rest = text;
    if text.is_empty() {
        return Err(QuantityError::new("the duration is empty"));
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if number.is_empty() {
            return Err(QuantityError::new(format!("`{text}` is not a duration")));
        }
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if unit.is_empty() {
            let mut error = QuantityError::new(format!("the number `{number}` has no unit"));
            error.missing_unit = after.is_empty();
            return Err(error);
        }
        let Some(unit) = DURATION_UNITS.iter().find(|known| known.0 == unit) else {
            return Err(QuantityError::new(format!("`{unit}` is no unit of time")));
        };
        if parts.len() == DURATION_UNITS.len() {
            return Err(QuantityError::new(format!(
                "`{text}` does not name each unit once, the largest first"
            )));
        }
        parts.push((number, unit));
        rest = after;
    }
    Ok(parts)
}

/// Adds the way to write it: without spaces, with the unit's short name, with a unit where one is missing.
fn mended_duration(text: &str, error: QuantityError) -> QuantityError {
    const MENDED_BYTES_MAX: usize = 64;
    if text.len() > MENDED_BYTES_MAX {
        return error;
    }
    let lower: String =
        text.to_lowercase().chars().filter(|c| !c.is_whitespace() && *c != '_' && *c != ',').collect();
    let mut mended = String::new();
    let mut rest = lower.as_str();
    let mut last_unit = "";
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (word, after) = after.split_at(letters);
        if number.is_empty() {
            return error;
        }
        let unit = match word {
            // What follows `1m` without a unit is meant as the next smaller one.
            "" => match last_unit {
                "h" => "m",
                "d" => "h",
                "s" => "ms",
                _ => "s",
            },
            word => match duration_unit_meant(word) {
                Some(unit) => unit,
                None => return error,
            },
        };
        match whole_parts(number, unit) {
            Some(part) => mended.push_str(&part),
            None => return error,
        }
        last_unit = unit;
        rest = after;
    }
    match strict_duration(&mended) {
        Ok(_) => error.mend(mended),
        Err(_) => error,
    }
}

fn duration_unit_meant(word: &str) -> Option<&'static str> {
    DURATION_UNITS
        .iter()
        .map(|(unit, _)| *unit)
        .find(|unit| *unit == word)
        .or_else(|| DURATION_WORDS.iter().find(|(_, words)| words.contains(&word)).map(|(unit, _)| *unit))
}

/// `1.5` and `h` give `1h30m`.
fn whole_parts(number: &str, unit: &str) -> Option<String> {
    let Some((whole, fraction)) = number.split_once('.') else { return Some(format!("{number}{unit}")) };
    let size = DURATION_UNITS.iter().find(|known| known.0 == unit)?.1;
    if fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let micros = whole.checked_mul(size)?.checked_add(fraction.parse::<u128>().ok()? * size / scale)?;
    duration_of_micros(micros).map(format_duration)
}

/// The text of a duration, to the microsecond: `1m30s`. [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros == 0 {
        return "0s".to_owned();
    }
    let year = 365 * MICROS_PER_DAY;
    if micros.is_multiple_of(year) {
        return format!("{}y", micros / year);
    }
    let mut rest = micros;
    let mut text = String::new();
    // Weeks and years are for whole numbers of them; 90d is what people write.
    for (unit, size) in DURATION_UNITS.iter().filter(|(unit, _)| !matches!(*unit, "y" | "w")) {
        if rest >= *size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    text
}

/// Reads `16MiB`, `64KiB`, `2MB`, `100B`: one whole number and its unit.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    // `KB` is what most people write for 1000 bytes.
    let known = SIZE_UNITS.iter().find(|(name, _)| *name == unit || (*name == "kB" && unit == "KB"));
    let too_large = || QuantityError::new(format!("`{text}` is larger than can be counted"));
    match known {
        Some((_, size)) if !number.is_empty() => {
            number.parse::<u64>().ok().and_then(|number| number.checked_mul(*size)).ok_or_else(too_large)
        }
        _ => Err(mended_size(text)),
    }
}

fn mended_size(text: &str) -> QuantityError {
    let compact: String =
        text.chars().take(64).filter(|c| !c.is_whitespace() && *c != '_' && *c != ',').collect();
    let digits = compact.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(compact.len());
    let (number, word) = compact.split_at(digits);
    if number.is_empty() {
        return QuantityError::new(match text {
            "" => "the size is empty".to_owned(),
            _ => format!("`{text}` is not a size"),
        });
    }
    let mut error = QuantityError::new(match word {
        "" => format!("the number `{number}` has no unit"),
        _ => format!("`{text}` is not a size"),
    });
    error.missing_unit = word.is_empty() && compact == text;
    let lower = word.to_lowercase();
    let unit = match lower.as_str() {
        "" => "B",
        "kb" => "kB",
        word => match SIZE_WORDS.iter().find(|(_, words)| words.contains(&word)) {
            Some((unit, _)) => unit,
            None => return error,
        },
    };
    let size = SIZE_UNITS.iter().find(|(name, _)| *name == unit).map_or(1, |(_, size)| *size);
    match number.split_once('.') {
        None if number.parse::<u64>().is_ok() => error.mend(format!("{number}{unit}")),
        None => error,
        Some((whole, fraction)) => match whole_size(whole, fraction, size) {
            Some(bytes) => error.mend(format_size(bytes)),
            None => error,
        },
    }
}

fn whole_size(whole: &str, fraction: &str, size: u64) -> Option<u64> {
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(size) / u128::from(scale);
    whole.checked_mul(size)?.checked_add(u64::try_from(part).ok()?)
}

/// The text of a size in the largest unit that fits without a rest: `16MiB`. [`parse_size`] reads it back.
pub fn format_size(bytes: u64) -> String {
    let fits = |size: u64| bytes != 0 && bytes.is_multiple_of(size);
    let (unit, size) = SIZE_UNITS.iter().find(|(_, size)| fits(*size)).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / size)
}

/// Numbers and ranges of them, as in `200-299,304`. Copies share them.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Ranges(Arc<[(u16, u16)]>);

impl Ranges {
    pub fn contains(&self, number: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// First and last of each, both included, in the order they were written.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u16)> {
        self.0.iter().copied()
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Reads `200-299,304`.
pub fn parse_ranges(text: &str) -> Result<Ranges, QuantityError> {
    let strict = ranges_of(text);
    if let Some(ranges) = strict {
        return match ranges.0.iter().find(|(first, last)| first > last) {
            None => Ok(ranges),
            Some((first, last)) => {
                let mended = Ranges(ranges.0.iter().map(|(a, b)| (*a.min(b), *a.max(b))).collect());
                Err(QuantityError::new(format!("the range `{first}-{last}` runs backwards"))
                    .mend(mended.to_string()))
            }
        };
    }
    if text.split(',').count() > RANGES_MAX {
        return Err(QuantityError::new(format!("there are more than {RANGES_MAX} numbers and ranges")));
    }
    let error = QuantityError::new(match text {
        "" => "the list of numbers is empty".to_owned(),
        _ => format!("`{text}` is not a list of numbers and ranges"),
    });
    let mended = ranges_meant(text);
    Err(match ranges_of(&mended) {
        Some(ranges) if ranges.0.iter().all(|(first, last)| first <= last) => error.mend(ranges.to_string()),
        _ => error,
    })
}

fn ranges_of(text: &str) -> Option<Ranges> {
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u16>().ok(),
        false => None,
    };
    let mut ranges = Vec::new();
    for part in text.split(',') {
        if ranges.len() == RANGES_MAX {
            return None;
        }
        ranges.push(match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        });
    }
    Some(Ranges(ranges.into()))
}

/// `2xx`, `200..299`, `200 - 299; 304` in our own way of writing.
fn ranges_meant(text: &str) -> String {
    let plain = text.replace("..=", "-").replace("..", "-").replace(['–', '—'], "-").replace([';', '|'], ",");
    let mut parts = Vec::new();
    for part in plain.split(',').take(RANGES_MAX + 1) {
        let words: Vec<&str> = part.split_whitespace().collect();
        let joined = words.concat();
        match joined.to_lowercase().strip_suffix("xx") {
            Some(hundreds) if hundreds.len() == 1 => parts.push(format!("{hundreds}00-{hundreds}99")),
            _ if !joined.contains('-') && words.len() > 1 => {
                parts.extend(words.iter().map(|word| (*word).to_owned()))
            }
            _ if joined.is_empty() => {}
            _ => parts.push(joined),
        }
    }
    parts.join(",")
}

/// Reads `<2s`.
pub fn parse_below(text: &str) -> Result<Duration, QuantityError> {
    if let Some(bound) = text.strip_prefix('<')
        && let Ok(bound) = parse_duration(bound)
    {
        return Ok(bound);
    }
    let bare = text.trim_start_matches(['<', '>', '=', '≤', ' ']);
    let downwards = !text.trim_start().starts_with('>');
    let (mend, missing_unit) = match parse_duration(bare) {
        Ok(_) => (Some(bare.to_owned()), false),
        Err(error) => (error.mend, error.missing_unit),
    };
    let message = match downwards {
        true => format!("`{text}` is not an upper bound"),
        false => format!("`{text}` is a lower bound, and only an upper one can be held"),
    };
    Err(QuantityError {
        message,
        mend: mend.filter(|_| downwards).map(|bound| format!("<{bound}")),
        missing_unit,
    })
}

#[cfg(test)]
mod tests;
