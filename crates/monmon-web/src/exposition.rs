//! The text format of Prometheus, version 0.0.4.

use std::fmt::{self, Write};

/// What a family's numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// It only grows, and begins again with the process.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Type {
    fn as_str(self) -> &'static str {
        match self {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
        }
    }
}

/// A sample's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Count(u64),
    Number(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Value {
        Value::Count(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Value {
        Value::Count(count as u64)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Number(number)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Count(count) => write!(f, "{count}"),
            Value::Number(number) if number.is_infinite() => {
                f.write_str(if *number > 0.0 { "+Inf" } else { "-Inf" })
            }
            Value::Number(number) => write!(f, "{number}"),
        }
    }
}

/// A text of families, each written once and whole.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// The samples of one name.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
    help: &'a str,
    kind: Type,
    begun: bool,
}

impl Exposition {
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// Nothing is written of a family that gets no sample.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Type, help: &'a str) -> Family<'a> {
        debug_assert!(is_name(name), "`{name}` is no name of a metric");
        Family { text: &mut self.text, name, help, kind, begun: false }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Type, help: &str, value: impl Into<Value>) {
        self.family(name, kind, help).sample(&[], value);
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

impl Family<'_> {
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) {
        if !std::mem::replace(&mut self.begun, true) {
            let (name, kind) = (self.name, self.kind.as_str());
            self.text.push_str("# HELP ");
            self.text.push_str(name);
            self.text.push(' ');
            escape(self.text, self.help, false);
            self.push(format_args!("\n# TYPE {name} {kind}\n"));
        }
        self.text.push_str(self.name);
        for (at, (label, text)) in labels.iter().enumerate() {
            debug_assert!(is_name(label), "`{label}` is no name of a label");
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            escape(self.text, text, true);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.push(format_args!(" {}\n", value.into()));
    }

    fn push(&mut self, arguments: fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("a String takes all");
    }
}

fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_written_once_with_what_it_means() {
        let mut exposition = Exposition::default();
        let mut family = exposition.family("monmon_items_total", Type::Counter, "Items,\nand C:\\more.");
        family.sample(&[("stage", "a\"b\\c\nd"), ("kind", "é")], 3u64);
        family.sample(&[], u64::MAX);
        exposition.family("monmon_nothing", Type::Gauge, "Nothing.");
        exposition.single("monmon_age_seconds", Type::Gauge, "An age.", f64::INFINITY);
        exposition.single("monmon_share", Type::Gauge, "A share.", 0.25);
        let expected = "# HELP monmon_items_total Items,\\nand C:\\\\more.\n\
            # TYPE monmon_items_total counter\n\
            monmon_items_total{stage=\"a\\\"b\\\\c\\nd\",kind=\"é\"} 3\n\
            monmon_items_total 18446744073709551615\n\
            # HELP monmon_age_seconds An age.\n\
            # TYPE monmon_age_seconds gauge\n\
            monmon_age_seconds +Inf\n\
            # HELP monmon_share A share.\n\
            # TYPE monmon_share gauge\n\
            monmon_share 0.25\n";
        assert_eq!(exposition.into_text(), expected);
    }
}
