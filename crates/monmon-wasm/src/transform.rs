//! The running stage: plugins over the pages of a batch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use monmon_model::{Match, MatchStatus, Measurement};
use monmon_stage::matching::{VALUES_BYTES_MAX, values_bytes};
use monmon_stage::{Batch, Item, Measured, StageCounters, Transform};
use uuid::Uuid;

use crate::matcher::{Answer, PluginMatcher};
use crate::quarantine::BACKLOG_MAX;
use crate::verdict::{Response, Verdict};

/// Most instances that one stage keeps; beyond it those that were not used for longest make room.
const LIVE_MAX: usize = 16;

/// A plugin as the matches name it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) present: bool,
    /// Of the stage's matchers; several names may share one.
    pub(crate) matcher: usize,
}

/// Which plugins look at which measurements.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    All(Named),
    ByCheck(Arc<HashMap<Uuid, Vec<Named>>>),
}

pub(crate) struct PluginTransform {
    /// As the matches name it.
    pub(crate) stage: Arc<str>,
    pub(crate) scope: Scope,
    pub(crate) matchers: Vec<PluginMatcher>,
    /// Those with an instance, the one used last behind.
    pub(crate) live: VecDeque<usize>,
    pub(crate) counters: Arc<StageCounters>,
    /// Whether pages that a plugin is too slow for pass without it.
    pub(crate) sheds: bool,
}

impl Transform for PluginTransform {
    fn backlog(&mut self, places: usize) {
        let is_behind = self.sheds && places >= BACKLOG_MAX;
        self.matchers.iter_mut().for_each(|matcher| matcher.behind(is_behind));
    }

    fn apply(&mut self, batch: &mut Batch) {
        for envelope in batch {
            if let Item::Measurement(measured) = &mut envelope.item {
                self.look(measured);
            }
        }
    }
}

impl PluginTransform {
    fn look(&mut self, measured: &mut Measured) {
        let Measured { measurement, page, .. } = measured;
        // Where the exchange failed there is nothing to look at, and the failure says all.
        if measurement.error.is_some() {
            return;
        }
        let scope = self.scope.clone();
        for named in scope.of(measurement) {
            let description = &self.matchers[named.matcher].plugin().description;
            let needs_page = description.needs_body || description.needs_headers;
            let answer = if needs_page && page.is_none() {
                Answer::NotAsked("there is no page: none came, or no memory was left for it".to_owned())
            } else {
                self.ask(named.matcher, measurement, page.as_ref())
            };
            let found = self.said(named, answer, measurement);
            self.counters.add_undecided(u64::from(found.status == MatchStatus::Error));
            measurement.add_match(found);
        }
        measured.keep_evidence();
    }

    fn ask(&mut self, at: usize, measurement: &Measurement, page: Option<&monmon_stage::Page>) -> Answer {
        let Some(response) = Response::of(measurement, page) else {
            return Answer::NotAsked("there is no response to look at".to_owned());
        };
        let check: Arc<str> = measurement.check.name.as_str().into();
        let answer = self.matchers[at].look(&check, &response);
        self.make_room(at);
        answer
    }

    fn make_room(&mut self, used: usize) {
        self.live.retain(|at| *at != used);
        if self.matchers[used].is_live() {
            self.live.push_back(used);
        }
        if self.live.len() > LIVE_MAX
            && let Some(oldest) = self.live.pop_front()
        {
            self.matchers[oldest].rest();
        }
    }

    fn said(&self, named: &Named, answer: Answer, measurement: &Measurement) -> Match {
        let mut said = Match {
            name: named.name.clone(),
            stage: self.stage.to_string(),
            kind: "wasm".to_owned(),
            status: MatchStatus::Error,
            found: None,
            message: None,
            values: Default::default(),
            metrics: Default::default(),
        };
        let verdict = match answer {
            Answer::Verdict(verdict) => verdict,
            Answer::Undecided(why) | Answer::NotAsked(why) => return Match { message: Some(why), ..said },
            Answer::Fault(fault) => return Match { message: Some(format!("the plugin {fault}")), ..said },
        };
        let Verdict { matched, message, values, metrics } = verdict;
        said.found = Some(matched);
        said.status = if matched == named.present { MatchStatus::Passed } else { MatchStatus::Failed };
        said.message = message.or_else(|| match (matched, named.present) {
            (false, true) => Some("not found".to_owned()),
            (true, false) => Some("found, and must not be there".to_owned()),
            _ => None,
        });
        said.metrics = metrics;
        let mut room = VALUES_BYTES_MAX.saturating_sub(values_bytes(measurement));
        let mut left_out = 0;
        for (name, value) in values {
            match room.checked_sub(name.len() + value.len()) {
                Some(left) => {
                    room = left;
                    said.values.insert(name, value);
                }
                None => left_out += 1,
            }
        }
        if left_out > 0 && said.message.is_none() {
            said.message = Some(format!(
                "{left_out} values were left out: a measurement holds {VALUES_BYTES_MAX} bytes"
            ));
        }
        said
    }
}

impl Scope {
    fn of(&self, measurement: &Measurement) -> &[Named] {
        match self {
            Scope::All(named) => std::slice::from_ref(named),
            Scope::ByCheck(checks) => checks.get(&measurement.check.id).map_or(&[], Vec::as_slice),
        }
    }
}
