//! The running stage: matchers over the pages of a batch.

use std::sync::Arc;

use monmon_model::Measurement;
use monmon_stage::matching::{VALUES_BYTES_MAX, values_bytes};
use monmon_stage::{Batch, Item, Measured, Transform};

use crate::matcher::{Matcher, Text};
use crate::pattern::Patterns;

/// Which matchers look at which measurements.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// In the order of their checks, where each check has its own.
    matchers: Arc<[Matcher]>,
    by_check: bool,
}

#[derive(Debug)]
pub(crate) struct RegexTransform {
    /// As the matches name it.
    pub(crate) stage: Arc<str>,
    pub(crate) scope: Scope,
    pub(crate) patterns: Arc<Patterns>,
}

impl Transform for RegexTransform {
    fn apply(&mut self, batch: &mut Batch) {
        for envelope in batch {
            if let Item::Measurement(measured) = &mut envelope.item {
                self.look(measured);
            }
        }
    }
}

impl RegexTransform {
    fn look(&self, measured: &mut Measured) {
        let Measured { measurement, page, .. } = measured;
        let matchers = self.scope.of(measurement);
        // Where the exchange failed there is nothing to look at, and the failure says all.
        if matchers.is_empty() || measurement.error.is_some() {
            return;
        }
        let Some(page) = page else {
            for matcher in matchers {
                let said = matcher
                    .undecided(&self.stage, "there is no page: none came, or no memory was left for it");
                measurement.add_match(said);
            }
            return;
        };
        let text = String::from_utf8_lossy(&page.body);
        let text = Text { text: &text, cut_at: page.truncated.then_some(page.body.len()) };
        let mut room = VALUES_BYTES_MAX.saturating_sub(values_bytes(measurement));
        for matcher in matchers {
            let said = matcher.look(&self.stage, &self.patterns, &text, &mut room);
            measurement.add_match(said);
        }
        measured.keep_evidence();
    }
}

impl Scope {
    /// All of them look at every measurement.
    pub(crate) fn all(matchers: Vec<Matcher>) -> Scope {
        Scope { matchers: matchers.into(), by_check: false }
    }

    /// Each looks at the measurements of its own check, in the order of the file.
    pub(crate) fn by_check(mut matchers: Vec<Matcher>) -> Scope {
        matchers.sort_by_key(|matcher| matcher.check);
        Scope { matchers: matchers.into(), by_check: true }
    }

    pub(crate) fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }

    fn of(&self, measurement: &Measurement) -> &[Matcher] {
        if !self.by_check {
            return &self.matchers;
        }
        let check = Some(measurement.check.id);
        let first = self.matchers.partition_point(|matcher| matcher.check < check);
        let own = self.matchers[first..].iter().take_while(|matcher| matcher.check == check).count();
        &self.matchers[first..first + own]
    }
}
