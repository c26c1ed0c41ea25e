//! One value: held against its kind, or a problem that says what was expected and how to write it.

use std::path::PathBuf;
use std::time::Duration;

use kdl::KdlValue;

use crate::late::{Late, LateSource, without_password};
use crate::mend::mended_url;
use crate::nearest::did_you_mean;
use crate::problem::{Code, Problem};
use crate::quantity::{
    QuantityError, format_duration, format_size, parse_below, parse_duration, parse_ranges, parse_size,
};
use crate::report::is_hidden;
use crate::span::Span;
use crate::table::{FOREVER, ValueKind};
use crate::value::Value;

const NAME_CHARS_MAX: usize = 200;
const URL_BYTES_MAX: usize = 8 * 1024;
const PATH_BYTES_MAX: usize = 4096;
const ENV_NAME_BYTES_MAX: usize = 255;

/// A value as it stands in the file, and what it is the value of.
pub(crate) struct Written<'a> {
    /// As it is named in messages: the option's or the argument's name.
    pub(crate) name: &'a str,
    pub(crate) annotation: Option<&'a str>,
    pub(crate) value: &'a KdlValue,
    pub(crate) span: Span,
}

/// Reads a default of the tables, by the same code as what the user writes.
pub(crate) fn decode_default(name: &str, text: &str, kind: ValueKind, span: Span) -> Result<Value, Problem> {
    let value = match (kind, text) {
        (ValueKind::Bool, "true") => KdlValue::Bool(true),
        (ValueKind::Bool, "false") => KdlValue::Bool(false),
        (ValueKind::Integer { .. }, text) => match text.parse::<i128>() {
            Ok(number) => KdlValue::Integer(number),
            Err(_) => KdlValue::String(text.to_owned()),
        },
        (_, text) => KdlValue::String(text.to_owned()),
    };
    Written { name, annotation: None, value: &value, span }.decode(kind)
}

impl Written<'_> {
    pub(crate) fn decode(&self, kind: ValueKind) -> Result<Value, Problem> {
        match self.annotation {
            None => {}
            Some(annotation @ ("env" | "file")) => return self.late(annotation, kind),
            Some(other) => return Err(self.unknown_annotation(other)),
        }
        if let KdlValue::String(text) = self.value
            && text.contains('\0')
        {
            return Err(self.problem(
                Code::ForbiddenCharacter,
                format!("`{}` holds a NUL character", self.name),
                kind,
            ));
        }
        match (kind, self.value) {
            (ValueKind::Bool, KdlValue::Bool(flag)) => Ok(Value::Bool(*flag)),
            (ValueKind::Integer { min, max }, KdlValue::Integer(number)) => {
                self.integer(*number, min, max, kind)
            }
            (ValueKind::Bool | ValueKind::Integer { .. }, _) => Err(self.wrong_type(kind)),
            (_, KdlValue::String(text)) => self.text(text, kind),
            (_, _) => Err(self.wrong_type(kind)),
        }
    }

    fn text(&self, text: &str, kind: ValueKind) -> Result<Value, Problem> {
        match kind {
            ValueKind::Text => Ok(self.literal(text, false)),
            ValueKind::Secret => Ok(self.literal(text, true)),
            ValueKind::Duration { min, max } => self.duration(text, min, max, kind),
            ValueKind::Kept { .. } if text == FOREVER => Ok(Value::Duration(Duration::MAX)),
            ValueKind::Kept { min, max } => self.duration(text, min, max, kind),
            ValueKind::Size { min, max } => self.size(text, min, max, kind),
            ValueKind::Ranges { min, max } => self.ranges(text, min, max, kind),
            ValueKind::Below => parse_below(text)
                .map(Value::Below)
                .map_err(|error| self.quantity(Code::BadDuration, error, kind)),
            ValueKind::Url { schemes } => self.url(text, schemes, kind),
            ValueKind::Path if text.is_empty() || text.len() > PATH_BYTES_MAX => {
                let what = if text.is_empty() { "empty" } else { "too long" };
                Err(self.problem(Code::BadPath, format!("the path of `{}` is {what}", self.name), kind))
            }
            ValueKind::Path => Ok(self.literal(text, false)),
            ValueKind::OneOf(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            ValueKind::OneOf(words) => Err(self
                .problem(Code::UnknownWord, format!("`{text}` is no value of `{}`", self.name), kind)
                .maybe_help(did_you_mean(text, words.iter().copied()))),
            ValueKind::Pattern if text.is_empty() => {
                let message = format!("`{}` is empty and would match everything", self.name);
                Err(self.problem(Code::BadPattern, message, kind))
            }
            ValueKind::Pattern => Ok(Value::Text(text.to_owned())),
            ValueKind::Name => self.plain_name(text, kind),
            ValueKind::Bool | ValueKind::Integer { .. } => Err(self.wrong_type(kind)),
        }
    }

    fn literal(&self, text: &str, secret: bool) -> Value {
        Value::Late(Late { source: LateSource::Literal(text.to_owned()), secret, span: self.span })
    }

    fn late(&self, annotation: &str, kind: ValueKind) -> Result<Value, Problem> {
        if !kind.may_be_late() {
            let message = format!("`{}` cannot come by ({annotation})", self.name);
            return Err(self
                .problem(Code::LateNotAllowed, message, kind)
                .help("write the value itself; only texts, secrets, URLs and paths may come late"));
        }
        let example = if annotation == "env" { "(env)\"NAME\"" } else { "(file)\"path\"" };
        let KdlValue::String(text) = self.value else {
            return Err(Problem::new(Code::WrongType, self.span, format!("({annotation}) takes a text"))
                .label(format!("expected {example}")));
        };
        let source = match annotation {
            "env" if is_env_name(text) => LateSource::Env(text.clone()),
            "env" => {
                return Err(Problem::new(
                    Code::BadName,
                    self.span,
                    format!("`{text}` cannot be the name of an environment variable"),
                )
                .label("expected letters, digits and `_`, as in (env)\"NAME\""));
            }
            _ if text.is_empty() || text.len() > PATH_BYTES_MAX || text.contains('\0') => {
                return Err(Problem::new(Code::BadPath, self.span, "(file) does not name a file")
                    .label(format!("expected {example}")));
            }
            _ => LateSource::File(PathBuf::from(text)),
        };
        Ok(Value::Late(Late { source, secret: kind == ValueKind::Secret, span: self.span }))
    }

    fn unknown_annotation(&self, annotation: &str) -> Problem {
        Problem::new(Code::BadAnnotation, self.span, format!("`({annotation})` means nothing here"))
            .label("expected a value, or one with (env) or (file)")
            .maybe_help(did_you_mean(annotation, ["env", "file"]))
    }

    fn integer(&self, number: i128, min: i64, max: i64, kind: ValueKind) -> Result<Value, Problem> {
        match i64::try_from(number) {
            Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
            _ => {
                let what = if number < i128::from(min) { "small" } else { "large" };
                Err(self.problem(Code::OutOfRange, format!("`{}` is too {what}: {number}", self.name), kind))
            }
        }
    }

    fn duration(&self, text: &str, min: Duration, max: Duration, kind: ValueKind) -> Result<Value, Problem> {
        match parse_duration(text) {
            Ok(duration) if duration < min => {
                Err(self.out_of_range("short", text, format_duration(min), kind))
            }
            Ok(duration) if duration > max => {
                Err(self.out_of_range("long", text, format_duration(max), kind))
            }
            Ok(duration) => Ok(Value::Duration(duration)),
            Err(error) => Err(self.quantity(Code::BadDuration, error, kind)),
        }
    }

    fn size(&self, text: &str, min: u64, max: u64, kind: ValueKind) -> Result<Value, Problem> {
        match parse_size(text) {
            Ok(bytes) if bytes < min => Err(self.out_of_range("small", text, format_size(min), kind)),
            Ok(bytes) if bytes > max => Err(self.out_of_range("large", text, format_size(max), kind)),
            Ok(bytes) => Ok(Value::Size(bytes)),
            Err(error) => Err(self.quantity(Code::BadSize, error, kind)),
        }
    }

    fn ranges(&self, text: &str, min: u16, max: u16, kind: ValueKind) -> Result<Value, Problem> {
        let ranges = parse_ranges(text).map_err(|error| self.quantity(Code::BadRanges, error, kind))?;
        let outside = ranges.iter().find(|(first, last)| *first < min || *last > max);
        match outside {
            None => Ok(Value::Ranges(ranges)),
            Some((first, last)) => {
                let shown = if first == last { first.to_string() } else { format!("{first}-{last}") };
                let message = format!("`{shown}` lies outside of {min}-{max}");
                Err(self.problem(Code::OutOfRange, message, kind))
            }
        }
    }

    fn out_of_range(&self, what: &str, text: &str, bound: String, kind: ValueKind) -> Problem {
        let bounded = if matches!(what, "short" | "small") { "least" } else { "most" };
        self.problem(Code::OutOfRange, format!("`{}` is too {what}: `{text}`", self.name), kind)
            .help(format!("it can be at {bounded} \"{bound}\""))
    }

    fn quantity(&self, code: Code, error: QuantityError, kind: ValueKind) -> Problem {
        let code = if error.missing_unit { Code::MissingUnit } else { code };
        let problem = self.problem(code, format!("`{}`: {}", self.name, error.message), kind);
        problem.maybe_help(error.mend.map(|mend| format!("write it as \"{mend}\"")))
    }

    fn url(&self, text: &str, schemes: &'static [&'static str], kind: ValueKind) -> Result<Value, Problem> {
        let shown = without_password(text);
        let bad = |why: String| self.problem(Code::BadUrl, why, kind);
        if text.len() > URL_BYTES_MAX {
            return Err(bad(format!("the URL of `{}` is longer than 8KiB", self.name)));
        }
        let known = if schemes.is_empty() { &["https"][..] } else { schemes };
        let mend =
            || mended_url(text, known).map(|mended| format!("write it as \"{}\"", without_password(&mended)));
        if let Some(hidden) = text.chars().find(|c| c.is_whitespace() || is_hidden(*c)) {
            let what =
                if hidden == ' ' { "a space".to_owned() } else { format!("U+{:04X}", u32::from(hidden)) };
            return Err(bad(format!("`{shown}` is not a URL: it holds {what}")).maybe_help(mend()));
        }
        match text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()) {
            None => {
                return Err(bad(format!("`{shown}` is not a URL: it has no scheme")).maybe_help(mend()));
            }
            Some(scheme) if !schemes.is_empty() && !schemes.contains(&scheme.as_str()) => {
                let known = || known.iter().map(|known| format!("{known}://")).collect::<Vec<_>>().join(", ");
                let help = mend().unwrap_or_else(|| format!("it can begin with {}", known()));
                return Err(bad(format!("`{scheme}` URLs cannot be used here")).help(help));
            }
            Some(_) => {}
        }
        match url::Url::parse(text) {
            Ok(url) if url.host_str().is_none_or(str::is_empty) => {
                Err(bad(format!("`{shown}` names no host")))
            }
            Ok(_) => Ok(self.literal(text, false)),
            Err(error) => Err(bad(format!("`{shown}` is not a URL: {error}")).maybe_help(mend())),
        }
    }

    fn plain_name(&self, text: &str, kind: ValueKind) -> Result<Value, Problem> {
        let fault = if text.is_empty() {
            "is empty".to_owned()
        } else if text.chars().count() > NAME_CHARS_MAX {
            format!("is longer than {NAME_CHARS_MAX} characters")
        } else if text.trim() != text {
            "begins or ends with a space".to_owned()
        } else if let Some(hidden) = text.chars().find(|c| is_hidden(*c)) {
            format!("holds the invisible character U+{:04X}", u32::from(hidden))
        } else {
            return Ok(Value::Text(text.to_owned()));
        };
        Err(self.problem(Code::BadName, format!("the {} {fault}", self.name), kind))
    }

    fn wrong_type(&self, kind: ValueKind) -> Problem {
        let given = match self.value {
            KdlValue::String(_) => "a text",
            KdlValue::Integer(_) => "a bare number",
            KdlValue::Float(_) => "a bare number with a fraction",
            KdlValue::Bool(_) => "#true or #false",
            KdlValue::Null => "#null",
        };
        let number = matches!(self.value, KdlValue::Integer(_) | KdlValue::Float(_));
        let needs_unit = matches!(
            kind,
            ValueKind::Duration { .. } | ValueKind::Kept { .. } | ValueKind::Size { .. } | ValueKind::Below
        ) && number;
        let (code, message) = match needs_unit {
            true => (Code::MissingUnit, format!("`{}` needs a unit", self.name)),
            false => (Code::WrongType, format!("`{}` does not take {given}", self.name)),
        };
        self.problem(code, message, kind)
            .maybe_help(self.retyped(kind).map(|mend| format!("write it as {mend}")))
    }

    /// The same value in the type that is wanted, where that is plain.
    fn retyped(&self, kind: ValueKind) -> Option<String> {
        let mend = match (kind, self.value) {
            (ValueKind::Bool, KdlValue::String(text)) => match text.to_lowercase().as_str() {
                "true" | "yes" | "on" => "#true".to_owned(),
                "false" | "no" | "off" => "#false".to_owned(),
                _ => return None,
            },
            (ValueKind::Bool, KdlValue::Integer(0)) => "#false".to_owned(),
            (ValueKind::Bool, KdlValue::Integer(1)) => "#true".to_owned(),
            (ValueKind::Integer { min, max }, KdlValue::String(text)) => {
                let number = text.parse::<i64>().ok().filter(|number| (min..=max).contains(number))?;
                number.to_string()
            }
            (ValueKind::Duration { .. }, KdlValue::Integer(number)) => format!("\"{number}s\""),
            (ValueKind::Kept { .. }, KdlValue::Integer(number)) => format!("\"{number}d\""),
            (ValueKind::Duration { .. }, KdlValue::Float(number)) => {
                format!("\"{}\"", parse_duration(&format!("{number}s")).err()?.mend?)
            }
            (ValueKind::Size { .. }, KdlValue::Integer(number)) => {
                format!("\"{number}B\" for bytes or \"{number}MiB\" for mebibytes")
            }
            (ValueKind::Below, KdlValue::Integer(number)) => format!("\"<{number}s\""),
            (ValueKind::Secret, _) => return None,
            (_, KdlValue::Integer(number)) => format!("\"{number}\""),
            _ => return None,
        };
        Some(mend)
    }

    fn problem(&self, code: Code, message: String, kind: ValueKind) -> Problem {
        Problem::new(code, self.span, message).label(format!("expected {}", kind.expected()))
    }
}

fn is_env_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= ENV_NAME_BYTES_MAX
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
