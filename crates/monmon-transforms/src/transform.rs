//! The running stage: matchers over the pages of a batch.

use std::collections::HashMap;
use std::sync::Arc;

use monmon_model::Measurement;
use monmon_stage::matching::{VALUES_BYTES_MAX, values_bytes};
use monmon_stage::{Batch, Item, Measured, Transform};
use uuid::Uuid;

use crate::matcher::{Matcher, Text};

/// Which matchers look at which measurements.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// All of them at every measurement.
    All(Arc<[Matcher]>),
    /// Each check has its own. Equal patterns share their automaton.
    ByCheck(Arc<HashMap<Uuid, Vec<Matcher>>>),
}

#[derive(Debug)]
pub(crate) struct RegexTransform {
    /// As the matches name it.
    pub(crate) stage: Arc<str>,
    pub(crate) scope: Scope,
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
            let said = matcher.look(&self.stage, &text, &mut room);
            measurement.add_match(said);
        }
        measured.keep_evidence();
    }
}

impl Scope {
    fn of(&self, measurement: &Measurement) -> &[Matcher] {
        match self {
            Scope::All(matchers) => matchers,
            Scope::ByCheck(checks) => checks.get(&measurement.check.id).map_or(&[], Vec::as_slice),
        }
    }
}
