//! Patterns: looked over when the file is decoded, each once, within bounds.
//!
//! A compiled pattern takes some 26 KB, and a check looks for its own once an interval. So the patterns that most matchers
//! share stay compiled, and those beyond are compiled whenever they are looked for, which takes some 20 to 60 us of a thread
//! that times nothing.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use fancy_regex::{CompileError, Error, Regex, RegexBuilder};
use monmon_stage::matching::VALUES_MAX;
use monmon_syntax::{Code, Problem, Problems, Span, Spanned};

use crate::plain::Plain;

/// Longest pattern, in bytes.
pub const PATTERN_BYTES_MAX: usize = 16 * 1024;
/// Largest compiled pattern, in bytes (of each part of it that is compiled by itself).
pub const PATTERN_SIZE_MAX: usize = 4 << 20;
/// Different patterns in one stage: two for each of the most checks that a source can have.
pub const PATTERNS_MAX: usize = 200_000;
/// Of them, those that stay compiled: a plain one takes about 26 KB, so these are about 50 MB.
pub const PATTERNS_KEPT_MAX: usize = 2_000;
/// Steps back that one search may take, unless the file says otherwise.
pub const BACKTRACK_LIMIT: usize = 1_000_000;
/// Instructions of a pattern that backtracks.
const PROGRAM_MAX: usize = 100_000;
/// Memory of one pattern's lazily built automaton, in bytes.
const AUTOMATON_BYTES_MAX: usize = 1 << 20;

/// A pattern that is ready to be looked for.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) regex: Regex,
    /// Names of the groups that become values.
    pub(crate) groups: Box<[String]>,
}

impl Compiled {
    fn new(regex: Regex) -> Compiled {
        let mut groups: Vec<String> = regex.capture_names().flatten().map(str::to_owned).collect();
        groups.sort_unstable();
        groups.dedup();
        groups.truncate(VALUES_MAX);
        Compiled { regex, groups: groups.into() }
    }
}

/// A pattern's number within its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PatternId(u32);

/// The patterns of one stage while its matchers are read. Equal ones are one, however many checks have them.
pub(crate) struct Gathering<'a> {
    backtrack_limit: usize,
    known: HashMap<&'a str, PatternId>,
    /// By number: how often each is used, and what was compiled of it.
    all: Vec<(u32, Option<Arc<Compiled>>)>,
    plain: Plain,
}

impl<'a> Gathering<'a> {
    pub(crate) fn new(backtrack_limit: usize) -> Gathering<'a> {
        Gathering { backtrack_limit, known: HashMap::new(), all: Vec::new(), plain: Plain::default() }
    }

    /// Takes a pattern in; `None` where something was reported.
    pub(crate) fn take(
        &mut self,
        pattern: &'a Spanned<String>,
        problems: &mut Problems,
    ) -> Option<PatternId> {
        let text = pattern.value.as_str();
        if let Some(id) = self.known.get(text) {
            self.all[id.0 as usize].0 += 1;
            return Some(*id);
        }
        if self.all.len() >= PATTERNS_MAX {
            if self.all.len() == PATTERNS_MAX {
                problems.push(too_many(pattern.span));
                // One more entry, so that this is said once.
                self.all.push((0, None));
            }
            return None;
        }
        let compiled = if self.all.len() >= PATTERNS_KEPT_MAX && self.plain.is_sound(text) {
            None
        } else {
            // A wrong pattern is reported at each of its places, so it is compiled again.
            match compile(text, self.backtrack_limit) {
                Ok(compiled) => Some(Arc::new(compiled)).filter(|_| self.all.len() < PATTERNS_KEPT_MAX),
                Err(fault) => {
                    problems.push(fault.at(pattern));
                    return None;
                }
            }
        };
        let id = PatternId(u32::try_from(self.all.len()).ok()?);
        self.all.push((1, compiled));
        self.known.insert(text, id);
        Some(id)
    }

    /// Keeps those that are used most.
    pub(crate) fn finish(self) -> Patterns {
        let mut numbered: Vec<_> = (0..).map(PatternId).zip(self.all).collect();
        numbered.sort_by_key(|(_, (uses, _))| Reverse(*uses));
        numbered.truncate(PATTERNS_KEPT_MAX);
        let kept = numbered
            .into_iter()
            .map(|(id, (_, compiled))| (id, compiled.map_or_else(OnceLock::new, OnceLock::from)));
        Patterns { backtrack_limit: self.backtrack_limit, kept: kept.collect() }
    }
}

/// The patterns of one stage at work.
#[derive(Debug)]
pub(crate) struct Patterns {
    pub(crate) backtrack_limit: usize,
    kept: HashMap<PatternId, OnceLock<Arc<Compiled>>>,
}

impl Patterns {
    /// The compiled pattern; `text` is its own.
    pub(crate) fn get(&self, id: PatternId, text: &str) -> Result<Arc<Compiled>, String> {
        let kept = self.kept.get(&id);
        if let Some(compiled) = kept.and_then(OnceLock::get) {
            return Ok(Arc::clone(compiled));
        }
        let compiled = compile(text, self.backtrack_limit).map(Arc::new).map_err(|fault| fault.message)?;
        if let Some(place) = kept {
            // Another thread that came first has the same.
            drop(place.set(Arc::clone(&compiled)));
        }
        Ok(compiled)
    }
}

fn too_many(span: Span) -> Problem {
    Problem::new(Code::TooMany, span, format!("one stage can have at most {PATTERNS_MAX} different patterns"))
        .label("one too many")
        .help("spread the checks over several sources, or the matchers over several stages")
}

/// What is wrong with a pattern, and where in it.
struct Fault {
    message: String,
    place: Option<usize>,
    help: Option<&'static str>,
}

fn compile(pattern: &str, backtrack_limit: usize) -> Result<Compiled, Fault> {
    if pattern.len() > PATTERN_BYTES_MAX {
        let message = format!("the pattern has {} bytes, more than {PATTERN_BYTES_MAX}", pattern.len());
        return Err(Fault { message, place: None, help: Some("split it into several matchers") });
    }
    RegexBuilder::new(pattern)
        .backtrack_limit(backtrack_limit)
        .delegate_size_limit(PATTERN_SIZE_MAX)
        .delegate_dfa_size_limit(AUTOMATON_BYTES_MAX)
        .max_prog_size(PROGRAM_MAX)
        .build()
        .map(Compiled::new)
        .map_err(Fault::from)
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        const SMALLER: &str = "use smaller repetitions, or ASCII classes such as [0-9A-Za-z_] for \\w";
        match error {
            Error::ParseError(place, error) => {
                Fault { message: lower(&error.to_string()), place: Some(place), help: None }
            }
            Error::CompileError(error) => match &*error {
                CompileError::InnerError(inner) => match inner.size_limit() {
                    Some(limit) => Fault {
                        message: format!("the pattern needs more than {limit} bytes when compiled"),
                        place: None,
                        help: Some(SMALLER),
                    },
                    None => Fault { message: cause(inner), place: None, help: None },
                },
                CompileError::PatternTooComplex => Fault {
                    message: format!("the pattern needs more than {PROGRAM_MAX} instructions when compiled"),
                    place: None,
                    help: Some(SMALLER),
                },
                other => Fault { message: lower(&other.to_string()), place: None, help: None },
            },
            other => Fault { message: lower(&other.to_string()), place: None, help: None },
        }
    }
}

/// The innermost cause: what the regex engine says of its syntax, as one line without the drawing.
fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    let text = error.to_string();
    let line = text.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(&text);
    lower(line.lines().next().unwrap_or(line))
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

impl Fault {
    fn at(self, pattern: &Spanned<String>) -> Problem {
        let inner = self.place.and_then(|place| inner_span(pattern, place));
        let label = if inner.is_some() { "here" } else { "this pattern" };
        Problem::new(Code::BadPattern, inner.unwrap_or(pattern.span), self.message)
            .label(label)
            .maybe_help(self.help.map(str::to_owned))
    }
}

/// The place inside a pattern as a place in the file. Only where the text in the file is surely the pattern's own, between
/// its quotes: then `#"` and `"#` are of one length, and no escape has been taken out.
fn inner_span(pattern: &Spanned<String>, place: usize) -> Option<Span> {
    let Spanned { value, span } = pattern;
    let marks = span.len.checked_sub(value.len())?;
    // In a string without `#`, each quote and backslash would be written with one more character.
    let escapes = value.bytes().filter(|byte| matches!(byte, b'\\' | b'"')).count();
    let verbatim = match marks {
        0 | 2 => true,
        4 | 6 | 8 => escapes + 2 != marks && !value.contains('\n'),
        _ => false,
    };
    if !verbatim || place > value.len() {
        return None;
    }
    let start = value.floor_char_boundary(place);
    let len = value[start..].chars().next().map_or(0, char::len_utf8);
    // At the pattern's end the last character is marked, so that the mark is inside of it.
    let (start, len) = match len {
        0 => value.char_indices().next_back().map(|(at, last)| (at, last.len_utf8()))?,
        len => (start, len),
    };
    Some(Span::new(span.file, span.offset + marks / 2 + start, len))
}
