//! Problems as they are shown: to people through a handler of miette, to programs as JSON.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{
    Diagnostic, LabeledSpan, MietteError, MietteSpanContents, ReportHandler, SourceCode, SourceSpan,
    SpanContents,
};
use serde_json::json;

use crate::late::user_end;
use crate::problem::{Problem, Problems, Severity};
use crate::span::{FileId, SourceMap, Span, floor_char};

/// How much of a line is shown on either side of what is wrong.
const CONTEXT_BYTES_MAX: usize = 160;
/// How much of a text that a user wrote is repeated in a message.
const MESSAGE_CHARS_MAX: usize = 600;

/// Problems with the files they are in.
pub struct Report<'a> {
    problems: &'a Problems,
    sources: &'a SourceMap,
    /// The files' texts as they may be shown.
    shown: Vec<Arc<str>>,
}

impl<'a> Report<'a> {
    pub fn new(problems: &'a Problems, sources: &'a SourceMap) -> Self {
        let shown = sources.iter().map(|(id, file)| showable(&file.text, id, problems.hidden())).collect();
        Self { problems, sources, shown }
    }

    /// One diagnostic for each problem, in the order of the text.
    pub fn diagnostics(&self) -> impl Iterator<Item = impl Diagnostic + use<>> {
        self.problems.iter().map(|problem| self.diagnostic(problem))
    }

    fn diagnostic(&self, problem: &Problem) -> Shown {
        let mut labels: Vec<LabeledSpan> =
            problem.span.and_then(|span| self.label(span, &problem.label)).into_iter().collect();
        let mut related = Vec::new();
        for (span, label) in &problem.related {
            if problem.span.is_some_and(|main| main.file == span.file) {
                labels.extend(self.label(*span, label));
            } else {
                related.push(Shown {
                    code: None,
                    severity: miette::Severity::Advice,
                    message: printable(label),
                    help: None,
                    source: self.excerpt(*span),
                    labels: self.label(*span, "here").into_iter().collect(),
                    related: Vec::new(),
                });
            }
        }
        Shown {
            code: Some(problem.code.as_str()),
            severity: match problem.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
            },
            message: printable(&problem.message),
            help: problem.help.as_deref().map(printable),
            source: problem.span.and_then(|span| self.excerpt(span)),
            labels,
            related,
        }
    }

    fn excerpt(&self, span: Span) -> Option<Excerpt> {
        let file = self.sources.get(span.file)?;
        Some(Excerpt { name: printable(&file.name), text: self.shown.get(span.file.0 as usize)?.clone() })
    }

    /// The first line of the span is marked, and not more of it than is shown.
    fn label(&self, span: Span, label: &str) -> Option<LabeledSpan> {
        let text = self.shown.get(span.file.0 as usize)?;
        let start = floor_char(text, span.offset);
        let end = floor_char(text, span.end().min(start + CONTEXT_BYTES_MAX)).max(start);
        let end = text[start..end].find(['\n', '\r']).map_or(end, |line_end| start + line_end);
        let label = Some(printable(label)).filter(|label| !label.is_empty());
        Some(LabeledSpan::new(label, start, end - start))
    }

    /// All problems as text, as `handler` draws them, and how many are not shown.
    pub fn render(&self, handler: &dyn ReportHandler) -> String {
        let mut text = String::new();
        for diagnostic in self.diagnostics() {
            text.push_str(&Drawn { handler, diagnostic: &diagnostic }.to_string());
            text.push('\n');
        }
        if self.problems.dropped() > 0 {
            text.push_str(&format!("... and {} more\n", self.problems.dropped()));
        }
        text
    }

    /// An array of objects: code, severity, message, label, help, file, line, column, end_line, end_column, related.
    /// Lines and columns count from 1, columns in characters; the end is just past the last character.
    pub fn to_json(&self) -> serde_json::Value {
        self.problems.iter().map(|problem| self.json_of(problem)).collect()
    }

    fn json_of(&self, problem: &Problem) -> serde_json::Value {
        let mut object = json!({
            "code": problem.code.as_str(),
            "severity": problem.severity.as_str(),
            "message": printable(&problem.message),
            "label": printable(&problem.label),
            "help": problem.help.as_deref().map(printable),
        });
        add_place(&mut object, self.sources, problem.span);
        object["related"] = problem
            .related
            .iter()
            .map(|(span, label)| {
                let mut place = json!({ "label": printable(label) });
                add_place(&mut place, self.sources, Some(*span));
                place
            })
            .collect();
        object
    }
}

fn add_place(object: &mut serde_json::Value, sources: &SourceMap, span: Option<Span>) {
    let file = span.and_then(|span| sources.get(span.file));
    let start = span.and_then(|span| sources.place(span.file, span.offset));
    let end = span.and_then(|span| sources.place(span.file, span.end()));
    object["file"] = json!(file.map(|file| printable(&file.name)));
    object["line"] = json!(start.map(|place| place.0));
    object["column"] = json!(start.map(|place| place.1));
    object["end_line"] = json!(end.map(|place| place.0));
    object["end_column"] = json!(end.map(|place| place.1));
}

/// The text with everything escaped that a terminal would obey or that would hide or turn around what is written.
/// Line ends of our own help texts stay.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (count, c) in text.chars().enumerate() {
        if count == MESSAGE_CHARS_MAX {
            shown.push_str("...");
            break;
        }
        match c {
            '\n' => shown.push(c),
            c if is_hidden(c) => shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => shown.push(c),
        }
    }
    shown
}

/// Control, direction and zero-width characters.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

struct Drawn<'a> {
    handler: &'a dyn ReportHandler,
    diagnostic: &'a dyn Diagnostic,
}

impl fmt::Display for Drawn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handler.debug(self.diagnostic, f)
    }
}

/// One problem, or one place in another file that explains it.
struct Shown {
    code: Option<&'static str>,
    severity: miette::Severity,
    message: String,
    help: Option<String>,
    source: Option<Excerpt>,
    labels: Vec<LabeledSpan>,
    related: Vec<Shown>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code.map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        match self.labels.is_empty() {
            true => None,
            false => Some(Box::new(self.labels.iter().cloned())),
        }
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        match self.related.is_empty() {
            true => None,
            false => Some(Box::new(self.related.iter().map(|shown| shown as &dyn Diagnostic))),
        }
    }
}

/// A file's text, of which long lines are cut near the place that is shown.
struct Excerpt {
    name: String,
    text: Arc<str>,
}

/// The text without what a terminal would obey, without secrets, and of the same length, so that all spans stay right.
fn showable(text: &Arc<str>, file: FileId, secrets: &[Span]) -> Arc<str> {
    let hidden = |c: char| is_hidden(c) && !matches!(c, '\n' | '\r' | '\t');
    let mut secrets: Vec<Range<usize>> =
        secrets.iter().filter(|span| span.file == file).map(|span| span.offset..span.end()).collect();
    secrets.extend(passwords(text));
    if secrets.is_empty() && !text.contains(hidden) {
        return text.clone();
    }
    secrets.sort_by_key(|range| range.start);
    let mut secrets = secrets.into_iter().peekable();
    let mut shown = String::with_capacity(text.len());
    for (offset, c) in text.char_indices() {
        while secrets.next_if(|range| range.end <= offset).is_some() {}
        let secret = secrets.peek().is_some_and(|range| range.contains(&offset));
        match c {
            '\n' | '\r' | '\t' => shown.push(c),
            c if secret => shown.extend(std::iter::repeat_n('*', c.len_utf8())),
            c if hidden(c) => shown.push(placeholder(c)),
            c => shown.push(c),
        }
    }
    shown.into()
}

/// The passwords of URLs, wherever they stand.
fn passwords(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, mark) in text.match_indices("://") {
        let start = at + mark.len();
        let url = &text[start..];
        let url = &url[..url.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(url.len())];
        if let Some(user_end) = user_end(url)
            && let Some(colon) = url[..user_end].find(':')
        {
            found.push(start + colon + 1..start + user_end);
        }
    }
    found
}

/// A visible character of the same length in UTF-8, so that all spans stay right.
fn placeholder(c: char) -> char {
    match c.len_utf8() {
        1 => '?',
        2 => '¿',
        3 => '\u{fffd}',
        _ => '\u{1f6ab}',
    }
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let text: &str = &self.text;
        if span.offset() + span.len() > text.len() {
            return Err(MietteError::OutOfBounds);
        }
        let line_start = |at: usize| text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = |at: usize| text[at..].find('\n').map_or(text.len(), |newline| at + newline + 1);
        // Asked for no line before, miette wants the place itself: it is what the header shows.
        let mut start = floor_char(text, span.offset());
        if lines_before > 0 {
            start = line_start(start);
            for _ in 0..lines_before {
                start = line_start(start.saturating_sub(1));
            }
        }
        let mut end = line_end(floor_char(text, span.offset() + span.len()));
        for _ in 0..lines_after {
            end = line_end(end);
        }
        let start = start.max(floor_char(text, span.offset().saturating_sub(CONTEXT_BYTES_MAX)));
        let end = end.min(floor_char(text, span.offset() + span.len() + CONTEXT_BYTES_MAX));
        let column = text[line_start(start)..start].chars().count();
        let line = text[..start].matches('\n').count();
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            &text.as_bytes()[start..end],
            (start, end - start).into(),
            line,
            column,
            text[start..end].matches('\n').count() + 1,
        )))
    }
}
