//! One matcher over one page.

use std::collections::BTreeMap;
use std::sync::Arc;

use fancy_regex::{Captures, Error, RuntimeError};
use monmon_model::{Match, MatchStatus};
use monmon_stage::matching::{MatchSpec, VALUE_CHARS_MAX, VALUES_BYTES_MAX, storable};
use uuid::Uuid;

use crate::pattern::{Compiled, PatternId, Patterns};

/// Matchers of one stage, or of one check.
pub const MATCHERS_MAX: usize = 200;
/// How much of what was found a message quotes, in characters.
const QUOTE_CHARS_MAX: usize = 80;

#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    /// The check that it belongs to, where it does not belong to all.
    pub(crate) check: Option<Uuid>,
    pub(crate) spec: Arc<MatchSpec>,
    pub(crate) pattern: PatternId,
}

/// What a matcher is given of a page.
pub(crate) struct Text<'a> {
    pub(crate) text: &'a str,
    /// Bytes after which the page was cut, if it was.
    pub(crate) cut_at: Option<usize>,
}

impl Matcher {
    /// What the matcher says of a page; `room` is what is left for values.
    pub(crate) fn look(&self, stage: &str, patterns: &Patterns, page: &Text<'_>, room: &mut usize) -> Match {
        let searched = match patterns.get(self.pattern, &self.spec.pattern.value) {
            Ok(compiled) => self.search(&compiled, page, room),
            Err(why) => Err(format!("the pattern cannot be looked for: {why}")),
        };
        match searched {
            Err(why) => self.undecided(stage, why),
            Ok(Some(found)) => self.found(stage, found),
            Ok(None) => match page.cut_at {
                // It may stand in what was cut off.
                Some(bytes) => {
                    self.undecided(stage, format!("not found, but the page was cut at {bytes} bytes"))
                }
                None => self.absent(stage),
            },
        }
    }

    /// A match that could not be decided.
    pub(crate) fn undecided(&self, stage: &str, why: impl Into<String>) -> Match {
        self.said(stage, MatchStatus::Error, None, Some(why.into()))
    }

    fn search(
        &self,
        compiled: &Compiled,
        page: &Text<'_>,
        room: &mut usize,
    ) -> Result<Option<Found>, String> {
        let Compiled { regex, groups } = compiled;
        // Without groups the engine need not keep track of any, which is several times faster.
        if groups.is_empty() {
            let found = regex.find(page.text).map_err(|error| self.explain(&error))?;
            return Ok(found.map(|found| Found { text: quote(found.as_str()), ..Found::default() }));
        }
        let Some(captures) = regex.captures(page.text).map_err(|error| self.explain(&error))? else {
            return Ok(None);
        };
        let mut found = Found::default();
        if !self.spec.present {
            found.text = captures.get(0).map(|all| quote(all.as_str())).unwrap_or_default();
        }
        take_values(groups, &captures, &mut found, room);
        Ok(Some(found))
    }

    fn found(&self, stage: &str, found: Found) -> Match {
        let left_out = (found.left_out > 0).then(|| {
            format!("{} values were left out: a measurement holds {VALUES_BYTES_MAX} bytes", found.left_out)
        });
        let (status, message) = match self.spec.present {
            true => (MatchStatus::Passed, left_out),
            false => (MatchStatus::Failed, Some(format!("found `{}`, which must not be there", found.text))),
        };
        Match { values: found.values, ..self.said(stage, status, Some(true), message) }
    }

    fn absent(&self, stage: &str) -> Match {
        match self.spec.present {
            true => self.said(stage, MatchStatus::Failed, Some(false), Some("not found".to_owned())),
            false => self.said(stage, MatchStatus::Passed, Some(false), None),
        }
    }

    fn said(&self, stage: &str, status: MatchStatus, found: Option<bool>, message: Option<String>) -> Match {
        Match {
            name: self.spec.name.value.clone(),
            stage: stage.to_owned(),
            kind: "regex".to_owned(),
            status,
            found,
            message,
            values: BTreeMap::new(),
            metrics: BTreeMap::new(),
        }
    }

    fn explain(&self, error: &Error) -> String {
        match error {
            Error::RuntimeError(RuntimeError::BacktrackLimitExceeded) => {
                "gave up: the pattern went back and forth on this page more often than `backtrack-limit` allows"
                    .to_owned()
            }
            Error::RuntimeError(RuntimeError::StackOverflow) => {
                "gave up: the pattern needs more memory on this page than it may have".to_owned()
            }
            other => format!("gave up: {other}"),
        }
    }
}

fn take_values(groups: &[String], captures: &Captures<'_, str>, found: &mut Found, room: &mut usize) {
    for group in groups {
        let Some(text) = captures.name(group) else { continue };
        let value: String = text.as_str().chars().take(VALUE_CHARS_MAX).map(storable).collect();
        let size = group.len() + value.len();
        match room.checked_sub(size) {
            Some(left) => *room = left,
            None => {
                found.left_out += 1;
                continue;
            }
        }
        found.values.insert(group.clone(), value);
    }
}

#[derive(Default)]
struct Found {
    text: String,
    values: BTreeMap<String, String>,
    left_out: usize,
}

/// The beginning of a text, on one line.
fn quote(text: &str) -> String {
    let mut chars = text.chars();
    let mut quote: String =
        chars.by_ref().take(QUOTE_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if chars.next().is_some() {
        quote.push('\u{2026}');
    }
    quote
}
