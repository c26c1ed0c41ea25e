//! The running stage: measurements pass, and what they say of incidents comes right behind them.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use monmon_model::{Check, Event, IncidentState, Measurement};
use monmon_stage::{Ack, Batch, Envelope, Item, StageContext, Transform};
use tracing::{info, warn};
use uuid::Uuid;

use crate::file::{Safe, StateFile};
use crate::ledger::{Ledger, Settled};
use crate::policy::{Policy, fits_name};
use crate::recall::Recall;
use crate::watch::{DetectorName, Ground, Taken, Watch};

/// Checks that one detector watches, at most. About half a kilobyte is kept of each for each prober.
pub(crate) const CHECKS_MAX: usize = 200_000;

/// With so many intervals between two slots one is missing: someone else may have had the check meanwhile.
const GAP_INTERVALS: f64 = 1.5;

pub(crate) struct Detector {
    policy: Arc<Policy>,
    name: DetectorName,
    context: StageContext,
    watches: HashMap<Uuid, Watched>,
    /// For each of the policy's dependencies the checks that others need.
    needed: Vec<BTreeSet<Uuid>>,
    ledger: Arc<Ledger>,
    file: Option<Arc<Mutex<StateFile>>>,
    recall: Option<Box<dyn Recall>>,
    /// Checks that have changed since the file was written.
    dirty: BTreeSet<Uuid>,
    /// Whether something is to be told that the file must hold first, whatever happens to the machine.
    urgent: bool,
    said: Said,
}

struct Watched {
    watch: Watch,
    /// Places of the dependencies that are for this check.
    depends: Vec<usize>,
    selected: bool,
    /// A row in the file says that something is at stake.
    kept: bool,
}

/// What was said in the log already, so that it is not said at every measurement.
#[derive(Default)]
struct Said {
    file_troubled: bool,
    too_many_checks: bool,
    crowded: bool,
    too_late: u64,
}

impl Detector {
    pub(crate) fn new(
        policy: Arc<Policy>,
        context: StageContext,
        file: Option<Arc<Mutex<StateFile>>>,
        recall: Option<Box<dyn Recall>>,
    ) -> Detector {
        let name =
            DetectorName { pipeline: context.pipeline.to_string(), detector: context.stage.to_string() };
        let needed = vec![BTreeSet::new(); policy.dependencies.len()];
        Detector {
            policy,
            name,
            context,
            watches: HashMap::new(),
            needed,
            ledger: Arc::default(),
            file,
            recall,
            dirty: BTreeSet::new(),
            urgent: false,
            said: Said::default(),
        }
    }

    /// What became of the events that were told.
    fn settle(&mut self) {
        for settled in self.ledger.settled() {
            if let Some(watched) = self.watches.get_mut(&settled.check) {
                watched.watch.settle(settled.incident, settled.revision, settled.delivered);
                self.dirty.insert(settled.check);
            }
        }
    }

    /// Brings to mind what is known elsewhere of the checks of a batch that this process does not know, or has not heard of
    /// for a while. Not so where the run ends before that can be asked.
    fn remember(&mut self, batch: &Batch) -> bool {
        let mut asked = BTreeSet::new();
        for envelope in batch {
            let Item::Measurement(measured) = &envelope.item else { continue };
            let check = &measured.measurement.check;
            let at = measured.measurement.scheduled_at.as_microsecond();
            match self.watches.get(&check.id) {
                Some(watched) if !watched.selected || !is_gap(&watched.watch, check, at) => {}
                Some(_) => {
                    asked.insert(check.id);
                }
                None if self.watches.len() < CHECKS_MAX => {
                    let watched = self.begin(check);
                    if watched.selected {
                        asked.insert(check.id);
                    }
                    self.watches.insert(check.id, watched);
                }
                None => {
                    if !std::mem::replace(&mut self.said.too_many_checks, true) {
                        warn!(stage = %self.context.stage, checks = CHECKS_MAX, check = check.name, "more checks than can be watched; this and further ones are not");
                    }
                }
            }
        }
        asked.iter().for_each(|check| self.read(*check));
        let (Some(recall), false) = (&mut self.recall, asked.is_empty()) else { return true };
        let checks: Vec<Uuid> = asked.into_iter().collect();
        let Some(found) = recall.newest(&self.name, &checks) else {
            // One that has just begun knows nothing yet, and would be taken for one that does.
            let is_new = |watch: &Watch| watch.newest == 0 && watch.untold.is_empty();
            self.watches.retain(|id, watched| !is_new(&watched.watch) || checks.binary_search(id).is_err());
            return false;
        };
        let now = self.context.clock.now().as_microsecond();
        for stored in found {
            let check = batch.iter().find_map(|envelope| match &envelope.item {
                Item::Measurement(measured) => {
                    let check = &measured.measurement.check;
                    (check.id == stored.check_id).then(|| check.clone())
                }
                _ => None,
            });
            if let (Some(check), Some(watched)) = (check, self.watches.get_mut(&stored.check_id)) {
                watched.watch.adopt(stored.of(check), now);
            }
        }
        true
    }

    fn begin(&mut self, check: &Check) -> Watched {
        let dependencies = self.policy.dependencies.iter().enumerate();
        let mut depends = Vec::new();
        for (place, dependency) in dependencies {
            let is_it = fits_name(&dependency.on, check);
            if is_it {
                self.needed[place].insert(check.id);
            } else if fits_name(&dependency.pattern, check) {
                depends.push(place);
            }
        }
        let selected = self.policy.watches(check);
        Watched { watch: Watch::default(), depends, selected, kept: false }
    }

    /// Takes what the file has of a check, unless more is known here.
    fn read(&mut self, check: Uuid) {
        let Some(file) = &self.file else { return };
        let read = file.lock().unwrap_or_else(PoisonError::into_inner).read(check);
        match read {
            Ok(Some(found)) => {
                if let Some(watched) = self.watches.get_mut(&check)
                    && found.newest > watched.watch.newest
                {
                    watched.kept = found.is_at_stake();
                    watched.watch = found;
                }
            }
            Ok(None) => {}
            Err(error) => self.say_troubled(&error),
        }
    }

    /// One measurement; `tell` is given what has to be told, in order.
    fn look(&mut self, measurement: &Measurement, ack: &Ack, tell: &mut impl FnMut(Envelope)) {
        let check = measurement.check.id;
        let Some(watched) = self.watches.get(&check).filter(|watched| watched.selected) else { return };
        let ground = self.ground(&watched.depends);
        let Some(watched) = self.watches.get_mut(&check) else { return };
        // What is known from before was not heard by anyone; it goes first.
        if hand_on(watched, &self.ledger, ack, tell) {
            self.urgent = true;
        }
        let now = self.context.clock.now().as_microsecond();
        let taken = watched.watch.take(measurement, &self.policy, &self.name, ground, now);
        match taken {
            Taken::Counted => {
                if watched.kept || watched.watch.is_at_stake() {
                    self.dirty.insert(check);
                }
            }
            Taken::Known => self.context.counters.add_duplicates(1),
            Taken::TooLate => {
                self.said.too_late += 1;
                if self.said.too_late.is_power_of_two() {
                    info!(stage = %self.context.stage, check = measurement.check.name, slot = %measurement.scheduled_at,
                        count = self.said.too_late, "older than all that is remembered of its check: not counted");
                }
            }
            Taken::Crowded => {
                if !std::mem::replace(&mut self.said.crowded, true) {
                    warn!(stage = %self.context.stage, check = measurement.check.name, prober = measurement.prober.name,
                        probers = self.policy.probers, "more probers than have a say; this and further ones are not heard");
                }
            }
        }
        for untold in watched.watch.untold.iter().filter(|untold| !untold.sent) {
            let incident = &untold.incident;
            let word = match incident.state() {
                IncidentState::Open => "an incident is open",
                IncidentState::Flapping => "an incident is open: the check is flapping",
                IncidentState::Closed => "an incident is closed",
            };
            info!(stage = %self.context.stage, check = incident.check.name, incident = %incident.id, began_at = %incident.began_at,
                suppressed = incident.suppressed_by.is_some(), reason = incident.reason, "{word}");
        }
        if hand_on(watched, &self.ledger, ack, tell) {
            self.urgent = true;
        }
    }

    fn ground(&self, depends: &[usize]) -> Ground {
        let mut ground = Ground::Firm { since: i64::MIN };
        let checks = depends.iter().flat_map(|place| &self.needed[*place]);
        for (id, watched) in checks.filter_map(|id| Some((*id, self.watches.get(id)?))) {
            ground = ground.and(watched.watch.ground(id));
        }
        ground
    }

    /// Puts into the file what has changed. Nothing is told before this is done.
    fn keep(&mut self) {
        let urgent = std::mem::take(&mut self.urgent);
        let Some(file) = &self.file else { return self.dirty.clear() };
        if self.dirty.is_empty() {
            return;
        }
        let rows = self.dirty.iter().filter_map(|id| Some((*id, &self.watches.get(id)?.watch)));
        let safe = if urgent { Safe::AtOnce } else { Safe::Soon };
        let written = file.lock().unwrap_or_else(PoisonError::into_inner).write(rows, safe);
        match written {
            Ok(()) => {
                for id in std::mem::take(&mut self.dirty) {
                    if let Some(watched) = self.watches.get_mut(&id) {
                        watched.kept = watched.watch.is_at_stake();
                    }
                }
                if std::mem::take(&mut self.said.file_troubled) {
                    info!(stage = %self.context.stage, "the state of incidents can be kept again");
                }
            }
            Err(error) => self.say_troubled(&error),
        }
    }

    fn say_troubled(&mut self, error: &rusqlite::Error) {
        if !std::mem::replace(&mut self.said.file_troubled, true) {
            warn!(stage = %self.context.stage, %error, "the state of incidents cannot be kept: a restart may open some of them again");
        }
    }
}

impl Transform for Detector {
    fn apply(&mut self, batch: &mut Batch) {
        self.settle();
        if !self.remember(batch) {
            // What was read from a log is read again, and whoever does so decides. What was made here has only this way.
            batch.retain(
                |envelope| !matches!(&envelope.item, Item::Measurement(measured) if measured.place.is_some()),
            );
        }
        let mut events: Vec<(usize, Envelope)> = Vec::new();
        for (place, envelope) in batch.iter().enumerate() {
            if let Item::Measurement(measured) = &envelope.item {
                self.look(&measured.measurement, &envelope.ack, &mut |event| events.push((place, event)));
            }
        }
        self.keep();
        if events.is_empty() {
            return;
        }
        let mut events = events.into_iter().peekable();
        let mut told = Batch::with_capacity(batch.len() + events.len());
        for (place, envelope) in batch.drain(..).enumerate() {
            told.push(envelope);
            while let Some((_, event)) = events.next_if(|(after, _)| *after == place) {
                told.push(event);
            }
        }
        *batch = told;
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        // What was heard by now need not be told again at the next start.
        self.settle();
        self.keep();
    }
}

/// Hands on what was not told yet, with a share of the ack. Whether there was something.
fn hand_on(watched: &mut Watched, ledger: &Arc<Ledger>, ack: &Ack, tell: &mut impl FnMut(Envelope)) -> bool {
    let mut any = false;
    for untold in watched.watch.untold.iter_mut().filter(|untold| !untold.sent) {
        untold.sent = true;
        any = true;
        let incident = untold.incident.clone();
        let what = Settled {
            check: incident.check.id,
            incident: incident.id,
            revision: incident.revision,
            delivered: false,
        };
        let ack = ledger.open(what, ack.share());
        tell(Envelope::event(Event::Incident(incident), None, ack));
    }
    any
}

fn is_gap(watch: &Watch, check: &Check, at: i64) -> bool {
    let gap = check.interval_us as f64 * GAP_INTERVALS;
    at.saturating_sub(watch.newest) as f64 > gap
}
