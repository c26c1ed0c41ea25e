//! Checks from a CSV file: one row each, columns by the names in the first row.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use csv::StringRecord;
use http::HeaderValue;
use monmon_model::bounds::{self, LABELS_MAX, fits};
use monmon_model::{Labels, check_id};
use monmon_stage::DecodeContext;
use monmon_stage::matching::{InlineSpec, MatchSpec};
use monmon_syntax::{
    Code, Late, Node, Problem, Problems, Ranges, Span, Spanned, did_you_mean, format_duration, format_size,
    mended_url, parse_below, parse_duration, parse_ranges, printable,
};
use url::Url;

use super::decode::{CHECKS_MAX, Defaults, Names, default_status, header_fault, label_name, method};
use super::spec::CheckSpec;
use super::table::{
    INTERVAL_MAX, INTERVAL_MIN, METHODS, SCHEMES, STATUS_MAX, STATUS_MIN, TIMEOUT_MAX, TIMEOUT_MIN,
};

const COLUMNS: &[&str] = &["name", "url", "interval", "timeout", "method", "status", "time"];
const LABEL_PREFIX: &str = "label.";
/// A column of one header's values.
const HEADER_PREFIX: &str = "header.";
/// A column of one matcher's patterns.
const MATCH_PREFIX: &str = "match.";
/// Most columns of headers, and of matchers.
const OWN_COLUMNS_MAX: usize = 32;
/// As names in pipeline files have it.
const NAME_CHARS_MAX: usize = 200;
const _: () =
    assert!(NAME_CHARS_MAX <= bounds::NAME_CHARS_MAX && NAME_CHARS_MAX <= bounds::LABEL_VALUE_CHARS_MAX);
const URL_BYTES_MAX: usize = 8 * 1024;
/// The largest list.
const LIST_BYTES_MAX: usize = 64 << 20;
/// Most lines of one list, whether they can be used or not. Counted first: a million problems would hide this one.
const LINES_MAX: usize = 1_000_000;

/// Reads the file that a `checks-from` names, and adds its checks. Every row that is wrong is reported with its line.
pub(super) fn read(
    node: &Node,
    context: &DecodeContext<'_>,
    defaults: &Defaults,
    names: &mut Names,
    checks: &mut Vec<CheckSpec>,
    problems: &mut Problems,
) {
    let Some(late) = node.arg_late(0) else { return };
    let Some(path) = late.as_literal() else {
        problems.push(
            Problem::new(
                Code::LateNotAllowed,
                late.span,
                "the list of checks cannot come by (env) or (file)",
            )
            .label("write the path itself"),
        );
        return;
    };
    let place = Place { path, span: late.span };
    let bytes =
        match context.loader.load(&context.sources.rooted(late.span.file, Path::new(path)), LIST_BYTES_MAX) {
            Ok(bytes) if bytes.len() > LIST_BYTES_MAX => {
                let message = format!("`{path}` is larger than {}", format_size(LIST_BYTES_MAX as u64));
                problems.push(
                    Problem::new(Code::TooLarge, late.span, message).label("split it into several files"),
                );
                return;
            }
            Ok(bytes) => bytes,
            Err(error) => {
                let message = format!("`{path}` cannot be read: {error}");
                problems.push(Problem::new(Code::UnreadableFile, late.span, message).label("named here"));
                return;
            }
        };
    if bytes.iter().filter(|byte| **byte == b'\n').count() > LINES_MAX {
        let message = format!("`{path}` has more than {LINES_MAX} lines");
        problems.push(Problem::new(Code::TooMany, late.span, message).label("split it into several files"));
        return;
    }
    // Spreadsheets put a byte order mark before the first column's name.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(bytes);
    let columns = match reader.headers() {
        Ok(header) => match Columns::of(header, &place, problems) {
            Some(columns) => columns,
            None => return,
        },
        Err(error) => return problems.push(place.problem(1, unreadable(&error))),
    };
    for row in reader.records() {
        if checks.len() > CHECKS_MAX {
            return;
        }
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                problems.push(place.problem(line, unreadable(&error)));
                continue;
            }
        };
        let line = row.position().map_or(0, csv::Position::line);
        match columns.check(&row, context, defaults, late.span) {
            Ok(check) => {
                if names.add(&check.name, late.span, Some(line), problems) {
                    names.add_id(check.id, late.span, problems);
                    checks.push(check);
                }
            }
            Err(faults) => {
                for fault in faults {
                    problems.push(place.problem(line, fault));
                }
            }
        }
    }
}

fn unreadable(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "the row is not UTF-8".to_owned(),
        _ => format!("the row cannot be read: {error}"),
    }
}

/// Where the file is named; its rows have a line and no span.
struct Place<'a> {
    path: &'a str,
    span: Span,
}

impl Place<'_> {
    fn problem(&self, line: u64, fault: String) -> Problem {
        Problem::new(Code::BadCsv, self.span, format!("`{}`, line {line}: {fault}", self.path))
            .label("named here")
    }
}

/// Where each column stands.
struct Columns {
    known: [Option<usize>; COLUMNS.len()],
    labels: Vec<(String, usize)>,
    headers: Vec<(String, usize)>,
    matches: Vec<(String, usize)>,
    count: usize,
    /// What a check expects whose row does not say.
    status: Ranges,
}

impl Columns {
    fn of(header: &StringRecord, place: &Place<'_>, problems: &mut Problems) -> Option<Columns> {
        let mut columns = Columns {
            known: [None; COLUMNS.len()],
            labels: Vec::new(),
            headers: Vec::new(),
            matches: Vec::new(),
            count: header.len(),
            status: default_status(),
        };
        let mut sound = true;
        let mut wrong = |problem: Problem| {
            sound = false;
            problems.push(problem);
        };
        for (index, title) in header.iter().enumerate() {
            if let Some(label) = title.strip_prefix(LABEL_PREFIX).filter(|label| !label.is_empty()) {
                if let Err(fault) = label_name(label) {
                    wrong(place.problem(1, fault));
                } else if columns.labels.iter().any(|(known, _)| known == label) {
                    wrong(place.problem(1, format!("the column `{title}` is there twice")));
                } else {
                    columns.labels.push((label.to_owned(), index));
                }
            } else if let Some(name) = title.strip_prefix(HEADER_PREFIX).filter(|name| !name.is_empty()) {
                if let Some(fault) = header_fault(name) {
                    wrong(place.problem(1, fault));
                } else {
                    columns.headers.push((name.to_owned(), index));
                }
            } else if let Some(name) = title.strip_prefix(MATCH_PREFIX).filter(|name| !name.is_empty()) {
                match plain(name) {
                    Err(fault) => wrong(place.problem(1, format!("the matcher's name {fault}"))),
                    Ok(()) => columns.matches.push((name.to_owned(), index)),
                }
            } else if let Some(column) = COLUMNS.iter().position(|known| *known == title) {
                if columns.known[column].replace(index).is_some() {
                    wrong(place.problem(1, format!("the column `{title}` is there twice")));
                }
            } else {
                let problem =
                    place.problem(1, format!("`{}` is no column of a list of checks", printable(title)));
                wrong(problem.maybe_help(did_you_mean(title, COLUMNS.iter().copied())));
            }
        }
        if columns.labels.len() > LABELS_MAX {
            wrong(place.problem(1, format!("a check can have {LABELS_MAX} labels at most")));
        }
        for (what, own) in [("headers", &columns.headers), ("matchers", &columns.matches)] {
            let same = |at: usize| own[..at].iter().any(|(known, _)| known.eq_ignore_ascii_case(&own[at].0));
            if own.len() > OWN_COLUMNS_MAX {
                wrong(
                    place.problem(1, format!("a list can have {OWN_COLUMNS_MAX} columns of {what} at most")),
                );
            } else if let Some(at) = (1..own.len()).find(|at| same(*at)) {
                wrong(place.problem(1, format!("the {what} have `{}` twice", own[at].0)));
            }
        }
        for required in [0, 1] {
            if columns.known[required].is_none() {
                wrong(place.problem(1, format!("the column `{}` is missing", COLUMNS[required])));
            }
        }
        sound.then_some(columns)
    }

    fn check(
        &self,
        row: &StringRecord,
        context: &DecodeContext<'_>,
        defaults: &Defaults,
        span: Span,
    ) -> Result<CheckSpec, Vec<String>> {
        if row.len() != self.count {
            return Err(vec![format!("{} cells where the first row has {}", row.len(), self.count)]);
        }
        let mut faults = Vec::new();
        let cell =
            |column: usize| self.known[column].and_then(|at| row.get(at)).filter(|text| !text.is_empty());
        let mut keep = |result: Result<(), String>| faults.extend(result.err());
        let name = cell(0).unwrap_or_default();
        keep(plain_name(name));
        let url = cell(1).unwrap_or_default();
        keep(http_url(url));
        let mut interval = defaults.interval;
        keep(
            within("interval", cell(2), INTERVAL_MIN, INTERVAL_MAX)
                .map(|given| interval = given.unwrap_or(interval)),
        );
        let mut timeout = defaults.timeout;
        keep(
            within("timeout", cell(3), TIMEOUT_MIN, TIMEOUT_MAX)
                .map(|given| timeout = given.unwrap_or(timeout)),
        );
        let given = cell(4).unwrap_or("GET").to_ascii_uppercase();
        let method = method(&given).unwrap_or_else(|| {
            keep(Err(format!("`{}` is none of the methods {}", printable(&given), METHODS.join(", "))));
            METHODS[0]
        });
        let mut status = self.status.clone();
        if let Some(text) = cell(5) {
            match parse_ranges(text) {
                Ok(ranges)
                    if ranges.iter().all(|(first, last)| first >= STATUS_MIN && last <= STATUS_MAX) =>
                {
                    status = ranges;
                }
                Ok(_) => keep(Err(format!("the status `{text}` lies outside of {STATUS_MIN}-{STATUS_MAX}"))),
                Err(error) => keep(Err(format!("status: {}", error.message))),
            }
        }
        let mut time = None;
        if let Some(text) = cell(6) {
            keep(
                parse_below(text)
                    .map(|bound| time = Some(bound))
                    .map_err(|error| format!("time: {}", error.message)),
            );
        }
        let mut labels = Labels::new();
        for (label, at) in &self.labels {
            if let Some(text) = row.get(*at).filter(|text| !text.is_empty()) {
                keep(plain(text).map_err(|fault| format!("the label `{label}` {fault}")));
                labels.insert(label.clone(), text.to_owned());
            }
        }
        let given = |columns: &[(String, usize)]| {
            let cells =
                columns.iter().filter_map(|(name, at)| Some((name.clone(), row.get(*at)?.to_owned())));
            cells.filter(|(_, text)| !text.is_empty()).collect::<Vec<_>>()
        };
        let mut headers = Vec::new();
        for (name, value) in given(&self.headers) {
            if HeaderValue::from_str(&value).is_err() {
                faults.push(format!("the value of the header `{name}` cannot be sent"));
            }
            headers.push((name, Late::literal(value, span)));
        }
        // Patterns are compiled, and what is wrong with one told, where those of pipeline files are.
        let matches = given(&self.matches).into_iter().map(|(name, pattern)| {
            let (name, pattern) = (Spanned::new(name, span), Spanned::new(pattern, span));
            InlineSpec::Pattern(Arc::new(MatchSpec { name, pattern, present: true }))
        });
        let matches = matches.collect();
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(CheckSpec {
            id: check_id(context.pipeline, context.stage, name),
            name: name.to_owned(),
            url: Late::literal(url, span),
            interval,
            timeout,
            method,
            status,
            time,
            headers,
            labels,
            matches,
            ask: Arc::clone(&defaults.ask),
            more: None,
        })
    }
}

fn plain_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the check has no name".to_owned());
    }
    plain(name).map_err(|fault| format!("the name {fault}"))
}

/// What names and labels may be, in a list as in a pipeline file.
fn plain(text: &str) -> Result<(), String> {
    if !fits(text, NAME_CHARS_MAX) {
        return Err(format!("is longer than {NAME_CHARS_MAX} characters"));
    }
    if printable(text) != text || text.chars().any(char::is_control) {
        return Err(format!("holds a character that cannot be seen: `{}`", text.escape_debug()));
    }
    Ok(())
}

fn http_url(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the check has no url".to_owned());
    }
    if text.len() > URL_BYTES_MAX {
        return Err("the url is longer than 8KiB".to_owned());
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    let fault = match scheme {
        _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            "the url holds a space or a control character".to_owned()
        }
        // What the URL standard makes of `http:x` is not what a reader sees.
        None => "the url is none: it has no scheme".to_owned(),
        Some(scheme) if !SCHEMES.contains(&scheme.as_str()) => {
            format!(
                "`{}` URLs cannot be checked; it can begin with {}://",
                printable(&scheme),
                SCHEMES.join("://, ")
            )
        }
        Some(_) => match Url::parse(text) {
            Ok(url) if url.host_str().is_none_or(str::is_empty) => "the url names no host".to_owned(),
            Ok(_) => return Ok(()),
            Err(error) => format!("the url is none: {error}"),
        },
    };
    // What may hold a password is not shown again.
    match mended_url(text, SCHEMES).filter(|mended| !mended.contains('@')) {
        Some(mended) => Err(format!("{fault}; write it as \"{}\"", printable(&mended))),
        None => Err(fault),
    }
}

fn within(name: &str, text: Option<&str>, min: Duration, max: Duration) -> Result<Option<Duration>, String> {
    let Some(text) = text else { return Ok(None) };
    let given = parse_duration(text).map_err(|error| match error.mend {
        Some(mend) => format!("{name}: {}; write it as \"{mend}\"", error.message),
        None => format!("{name}: {}", error.message),
    })?;
    if given < min || given > max {
        let (min, max) = (format_duration(min), format_duration(max));
        return Err(format!("the {name} `{text}` lies outside of {min} to {max}"));
    }
    Ok(Some(given))
}
