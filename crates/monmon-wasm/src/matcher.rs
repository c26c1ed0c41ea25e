//! A plugin with a configuration, at work: its instance, its faults, its time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use monmon_stage::matching::PluginLimits;
use tracing::{debug, info, warn};

use crate::Fault;
use crate::host::Plugin;
use crate::instance::{Instance, Usage};
use crate::log::Logbook;
use crate::quarantine::{Budget, Change, Quarantine};
use crate::verdict::{Response, Verdict, words};

/// An instance is made anew after so many calls: what a language's runtime piles up has an end.
const CALLS_MAX: u64 = 100_000;

/// What came of a page.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Verdict(Verdict),
    /// The plugin's own word that it could not decide.
    Undecided(String),
    Fault(Fault),
    /// It was not asked, for this reason.
    NotAsked(String),
}

/// How often what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u64,
    pub undecided: u64,
    pub faults: u64,
    pub not_asked: u64,
    /// In all calls.
    pub time: Duration,
}

pub struct PluginMatcher {
    plugin: Arc<Plugin>,
    config: Arc<str>,
    limits: PluginLimits,
    fresh: bool,
    /// Pages wait for it, and what it may use of its thread has a bound.
    is_behind: bool,
    book: Option<Arc<Logbook>>,
    /// For the log: pipeline, stage and matcher.
    place: [Arc<str>; 3],
    instance: Option<Instance>,
    /// Of the instance.
    calls: u64,
    quarantine: Quarantine,
    budget: Budget,
    last_fault: Option<Fault>,
    counts: Counts,
    usage: Usage,
}

impl PluginMatcher {
    pub fn new(plugin: Arc<Plugin>, config: Arc<str>, limits: PluginLimits, fresh: bool) -> PluginMatcher {
        let nowhere: Arc<str> = "".into();
        PluginMatcher {
            plugin,
            config,
            limits,
            fresh,
            is_behind: false,
            book: None,
            place: [nowhere.clone(), nowhere.clone(), nowhere],
            instance: None,
            calls: 0,
            quarantine: Quarantine::new(1),
            budget: Budget::new(Instant::now()),
            last_fault: None,
            counts: Counts::default(),
            usage: Usage::default(),
        }
    }

    /// With a name in the log, where the plugin writes too.
    #[must_use]
    pub fn logged(
        mut self,
        pipeline: Arc<str>,
        stage: Arc<str>,
        matcher: Arc<str>,
        seed: u64,
    ) -> PluginMatcher {
        let book = Logbook::new(pipeline.clone(), stage.clone(), matcher.clone(), self.limits.log_lines);
        self.book = Some(Arc::new(book));
        self.place = [pipeline, stage, matcher];
        self.quarantine = Quarantine::new(seed);
        self
    }

    /// Whether pages wait for it. What it may use of its thread has a bound then.
    pub fn behind(&mut self, is_behind: bool) {
        self.is_behind = is_behind;
    }

    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the last call took.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    pub(crate) fn is_live(&self) -> bool {
        self.instance.is_some()
    }

    /// Gives the instance's memory back.
    pub(crate) fn rest(&mut self) {
        self.instance = None;
    }

    /// Asks the plugin about a response. Whatever it does, there is an answer.
    pub fn look(&mut self, check: &Arc<str>, response: &Response<'_>) -> Answer {
        let now = Instant::now();
        if let Some(left) = self.quarantine.left(now) {
            self.counts.not_asked += 1;
            let why = self.last_fault.as_ref().map(Fault::to_string).unwrap_or_default();
            let left = left.as_secs() + 1;
            return Answer::NotAsked(format!(
                "the plugin failed time after time and is left alone for {left} s more; last it {why}"
            ));
        }
        if self.budget.is_spent(now) && self.is_behind {
            self.counts.not_asked += 1;
            return Answer::NotAsked(
                "the plugin is too slow for its pages: its thread is busy all the time".to_owned(),
            );
        }
        let outcome = self.ask(check, response);
        let time = now.elapsed();
        self.budget.spend(time);
        self.counts.calls += 1;
        self.counts.time += time;
        self.usage.time = time;
        match outcome {
            Ok(answer) => {
                if self.quarantine.success() == Change::Over {
                    let [pipeline, stage, matcher] = &self.place;
                    info!(%pipeline, %stage, %matcher, "the plugin works again");
                }
                self.counts.undecided += u64::from(matches!(answer, Answer::Undecided(_)));
                answer
            }
            Err(fault) => {
                self.failed(&fault);
                Answer::Fault(fault)
            }
        }
    }

    fn ask(&mut self, check: &Arc<str>, response: &Response<'_>) -> Result<Answer, Fault> {
        // Taken out: after a fault it is gone.
        let mut instance = match self.instance.take().filter(|_| self.calls < CALLS_MAX) {
            Some(instance) => instance,
            None => self.start()?,
        };
        self.calls += 1;
        let description = &self.plugin.description;
        let headers = response.headers(description);
        let said = instance.check(check, response.passed(description, &headers))?;
        self.usage.memory_bytes = instance.memory_bytes();
        self.usage.fuel = instance.fuel_left().and_then(|left| Some(self.limits.fuel?.saturating_sub(left)));
        let answer = match said {
            Ok(verdict) => Answer::Verdict(Verdict::read(verdict)?),
            Err(why) => Answer::Undecided(words(&why)),
        };
        // One that has grown far would not give its memory back.
        if !self.fresh && instance.memory_bytes() <= self.limits.memory_bytes / 2 {
            self.instance = Some(instance);
        }
        Ok(answer)
    }

    fn start(&mut self) -> Result<Instance, Fault> {
        self.calls = 0;
        let mut instance = self.plugin.instance(self.limits, self.book.clone())?;
        match instance.configure(&self.config)? {
            Ok(()) => Ok(instance),
            Err(why) => Err(Fault::Start(format!("it refuses its configuration: {}", words(&why)))),
        }
    }

    fn failed(&mut self, fault: &Fault) {
        self.counts.faults += 1;
        let [pipeline, stage, matcher] = &self.place;
        debug!(%pipeline, %stage, %matcher, %fault, "the plugin failed");
        let is_new = self.last_fault.as_ref().map(Fault::kind) != Some(fault.kind());
        if let Change::Begun(wait) = self.quarantine.fault(Instant::now())
            // Told once, not after every try.
            && (is_new || self.counts.faults == u64::from(crate::FAULTS_MAX) || self.last_fault.is_none())
        {
            let (wait, plugin) = (format!("{wait:.1?}"), &self.plugin.description.name);
            warn!(%pipeline, %stage, %matcher, %plugin, %fault, wait,
                "the plugin failed {} times in a row and is left alone; its matches are errors", crate::FAULTS_MAX);
        }
        self.last_fault = Some(fault.clone());
    }
}

impl Drop for PluginMatcher {
    fn drop(&mut self) {
        let Counts { calls, undecided, faults, not_asked, time } = self.counts;
        let [pipeline, stage, matcher] = &self.place;
        if faults + not_asked > 0 {
            info!(%pipeline, %stage, %matcher, calls, undecided, faults, not_asked, ?time, "the plugin's calls in all");
        } else if calls > 0 {
            debug!(%pipeline, %stage, %matcher, calls, undecided, ?time, "the plugin's calls in all");
        }
    }
}
