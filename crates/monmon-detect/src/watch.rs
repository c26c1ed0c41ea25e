//! What is known of one check, and the incident that it is in or was in last.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use monmon_model::{Incident, Measurement, bounds, incident_id};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::policy::{Policy, interval_us};
use crate::window::{Mark, Placed, Slot, Verdict, Window};

/// Changes that are remembered of a check, at most.
pub(crate) const CHANGES_MAX: usize = 64;
/// What is still to be told of a check before the older words of an incident give way to its newest.
const UNTOLD_MAX: usize = 4;
/// Incidents of a check of which something is still to be told, at most.
const UNTOLD_INCIDENTS_MAX: usize = 64;
/// A slot that is so far ahead of the detector's own clock is of a clock that is wrong, in microseconds. What people set by
/// hand or by NTP differs by less.
const AHEAD_US: i64 = 5 * 60 * 1_000_000;

/// Who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetectorName {
    pub(crate) pipeline: String,
    pub(crate) detector: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watch {
    probers: BTreeMap<Uuid, Heard>,
    /// Whether the check is down, whatever is told of it.
    down: bool,
    /// The newest slot of any prober.
    pub(crate) newest: i64,
    /// Bad slots up to here belong to an incident that is over.
    over: i64,
    /// Slots up to here decide nothing: another process has decided by them, or by newer ones.
    #[serde(default)]
    decided: i64,
    /// When it went down and came up, as far back as flapping looks.
    changes: VecDeque<i64>,
    /// The first good slot after the last bad one of the incident that is open.
    #[serde(default)]
    recovered: Option<i64>,
    /// The newest one, open or closed.
    pub(crate) incident: Option<Incident>,
    /// What nobody is known to have heard, the oldest first.
    pub(crate) untold: Vec<Untold>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Heard {
    name: String,
    window: Window,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Untold {
    pub(crate) incident: Incident,
    /// Under way; not so after a start.
    #[serde(skip)]
    pub(crate) sent: bool,
}

/// What became of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Counted,
    /// It was counted before, or a later attempt of its slot was.
    Known,
    TooLate,
    /// As many other probers have a say as may have.
    Crowded,
}

/// How the checks fare that a check depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ground {
    /// None of them was in trouble after this instant.
    Firm { since: i64 },
    /// This check is down, or about to be.
    Shaky(Uuid),
}

impl Watch {
    /// Counts a measurement, and decides.
    pub(crate) fn take(
        &mut self,
        measurement: &Measurement,
        policy: &Policy,
        detector: &DetectorName,
        ground: Ground,
        now: i64,
    ) -> Taken {
        let slot = Slot {
            at: measurement.scheduled_at.as_microsecond(),
            attempt: measurement.attempt,
            mark: policy.mark(measurement),
        };
        let Some(heard) = self.heard(measurement, slot.at, policy) else { return Taken::Crowded };
        let ahead = now.saturating_add(AHEAD_US);
        if slot.at <= ahead && heard.window.newest().is_some_and(|newest| newest > ahead) {
            self.set_right(measurement.prober.id, slot.at, ahead);
        }
        let Some(heard) = self.probers.get_mut(&measurement.prober.id) else { return Taken::Crowded };
        match heard.window.place(slot, policy) {
            Placed::New => {}
            Placed::Known => return Taken::Known,
            Placed::TooLate => return Taken::TooLate,
        }
        let prober = measurement.prober.id;
        self.newest = self.newest.max(slot.at);
        self.decide(measurement, prober, policy, now);
        self.conclude(measurement, slot, policy, detector, ground, now);
        Taken::Counted
    }

    /// A prober's clock was ahead and has been set right: what it has seen in times to come would decide until they come.
    fn set_right(&mut self, prober: Uuid, at: i64, ahead: i64) {
        if let Some(heard) = self.probers.get_mut(&prober) {
            heard.window.forget_after(ahead, at);
        }
        self.newest = self.probers.values().filter_map(|heard| heard.window.newest()).max().unwrap_or(at);
        self.changes.retain(|change| *change <= ahead);
        if self.over > ahead {
            self.over = at.saturating_sub(1);
        }
    }

    /// The prober's entry; where there is no room, in place of one that has been silent for too long.
    fn heard(&mut self, measurement: &Measurement, at: i64, policy: &Policy) -> Option<&mut Heard> {
        let prober = &measurement.prober;
        if !self.probers.contains_key(&prober.id) && self.probers.len() >= policy.probers {
            let quiet = |heard: &Heard| heard.window.newest().unwrap_or(i64::MIN);
            let (id, since) =
                self.probers.iter().map(|(id, heard)| (*id, quiet(heard))).min_by_key(|(_, since)| *since)?;
            if since >= at.saturating_sub(policy.silent_us) {
                return None;
            }
            self.probers.remove(&id);
        }
        let open = self.incident.as_ref().filter(|incident| incident.closed_at.is_none());
        // What it said to another process holds until it says otherwise.
        let found_down = open.is_some_and(|incident| incident.probers.contains(&prober.name));
        let verdict = if found_down { Verdict::Down } else { Verdict::default() };
        let new = || Heard { name: prober.name.clone(), window: Window::with(verdict) };
        Some(self.probers.entry(prober.id).or_insert_with(new))
    }

    /// Whether the check is down now, by all that is known.
    fn decide(&mut self, measurement: &Measurement, prober: Uuid, policy: &Policy, now: i64) {
        let (over, decided) = (self.over, self.decided);
        if let Some(Heard { window, .. }) = self.probers.get_mut(&prober) {
            let floor = floor(window, policy, measurement).max(decided.saturating_add(1));
            window.judge(policy, floor, over);
        }
        let saying = |verdict| self.saying(verdict, measurement, policy, now).count();
        let (downs, ups) = (saying(Verdict::Down), saying(Verdict::Up));
        let change = match self.down {
            false => downs >= policy.quorum,
            // That nobody says anything any more is no recovery.
            true => downs < policy.quorum && ups > 0,
        };
        if change {
            self.down = !self.down;
            self.changes.push_back(self.newest);
            if self.changes.len() > CHANGES_MAX {
                self.changes.pop_front();
            }
        }
        let within = policy.flapping.map_or(0, |flapping| flapping.within_us);
        let first = self.newest.saturating_sub(within);
        self.changes.retain(|at| policy.flapping.is_some() && *at > first);
    }

    /// Probers of this verdict that were heard lately.
    fn saying<'a>(
        &'a self,
        verdict: Verdict,
        measurement: &Measurement,
        policy: &Policy,
        now: i64,
    ) -> impl Iterator<Item = &'a Heard> {
        let since = self.heard_since(measurement, policy, now);
        let fresh = move |heard: &&Heard| heard.window.newest_known().is_some_and(|slot| slot.at >= since);
        self.probers.values().filter(move |heard| heard.window.verdict == verdict).filter(fresh)
    }

    /// Who has told nothing from here on has no say.
    fn heard_since(&self, measurement: &Measurement, policy: &Policy, now: i64) -> i64 {
        // Two slots are as good as silence where slots are rare.
        let silent = policy.silent_us.max(interval_us(&measurement.check).saturating_mul(2));
        // One whose clock is ahead makes nobody else silent.
        self.newest.min(now).saturating_sub(silent)
    }

    /// The newest slot, but for those of clocks that are ahead where there are others.
    fn latest(&self, measurement: &Measurement, policy: &Policy, now: i64) -> i64 {
        let (since, ahead) = (self.heard_since(measurement, policy, now), now.saturating_add(AHEAD_US));
        let slots = self.probers.values().filter_map(|heard| heard.window.newest());
        slots.filter(|at| (since..=ahead).contains(at)).max().unwrap_or(self.newest)
    }

    /// Opens, changes or closes the incident.
    fn conclude(
        &mut self,
        measurement: &Measurement,
        slot: Slot,
        policy: &Policy,
        detector: &DetectorName,
        ground: Ground,
        now: i64,
    ) {
        let latest = self.latest(measurement, policy, now);
        let is_flapping = policy.flapping.is_some_and(|flapping| self.changes.len() >= flapping.changes);
        let Some(open) = self.incident.as_mut().filter(|incident| incident.closed_at.is_none()) else {
            if self.down {
                self.open(measurement, policy, detector, ground, is_flapping, now);
            }
            return;
        };
        let last_bad = open.last_bad_at.as_microsecond();
        match slot.mark {
            Mark::Bad if slot.at > last_bad => {
                open.last_bad_at = instant(slot.at);
                self.recovered = self.recovered.filter(|good| *good > slot.at);
            }
            Mark::Good if slot.at > last_bad => {
                self.recovered = Some(self.recovered.map_or(slot.at, |good| good.min(slot.at)));
            }
            _ => {}
        }
        let mut changed = false;
        if is_flapping && !open.flapping {
            open.flapping = true;
            changed = true;
        }
        if let (Some(_), Ground::Firm { since }) = (open.suppressed_by, ground)
            && slot.mark == Mark::Bad
            && slot.at > since
        {
            // Still down with the ground firm again: now it is the check's own trouble.
            open.suppressed_by = None;
            changed = true;
        }
        if !self.down && !is_flapping {
            // The slot may have been put between others; the incident does not end before it began.
            let closed_at = instant(latest).max(open.opened_at);
            open.closed_at = Some(closed_at);
            open.recovered_at = Some(self.recovered.map_or(closed_at, instant));
            // What each has seen belongs to it, and what is late; what those see next whose clock is right does not.
            if latest <= now.saturating_add(AHEAD_US) {
                self.over = latest.min(now);
            }
            self.probers.values_mut().for_each(|heard| heard.window.close());
            changed = true;
        }
        if changed {
            self.tell();
        }
    }

    fn open(
        &mut self,
        measurement: &Measurement,
        policy: &Policy,
        detector: &DetectorName,
        ground: Ground,
        flapping: bool,
        now: i64,
    ) {
        let (over, decided) = (self.over, self.decided);
        let saying: Vec<&Heard> = self.saying(Verdict::Down, measurement, policy, now).collect();
        let bad = saying.iter().flat_map(|Heard { window, .. }| {
            let floor = floor(window, policy, measurement).max(decided.saturating_add(1));
            window.bad(policy, floor, over).map(|slot| slot.at)
        });
        let slot = measurement.scheduled_at.as_microsecond();
        let (began, last_bad) = bad.fold((slot, slot), |(first, last), at| (first.min(at), last.max(at)));
        let DetectorName { pipeline, detector } = detector.clone();
        let began_at = instant(began);
        let why = measurement.reason.as_ref().map_or(measurement.outcome.as_str(), |reason| reason.message());
        let mut probers: Vec<String> = saying.iter().map(|heard| heard.name.clone()).collect();
        probers.sort();
        probers.dedup();
        let incident = Incident {
            id: incident_id(&pipeline, &detector, measurement.check.id, began_at),
            check: measurement.check.clone(),
            pipeline,
            detector,
            revision: 0,
            began_at,
            opened_at: instant(self.latest(measurement, policy, now)).max(began_at),
            last_bad_at: instant(last_bad),
            recovered_at: None,
            closed_at: None,
            reason: bounds::message(why),
            probers,
            flapping,
            suppressed_by: match ground {
                Ground::Shaky(check) => Some(check),
                Ground::Firm { .. } => None,
            },
        };
        self.recovered = None;
        self.incident = Some(incident);
        self.tell();
    }

    /// One more thing to be told of the incident as it is now.
    fn tell(&mut self) {
        let Some(incident) = &mut self.incident else { return };
        incident.revision += 1;
        if self.untold.len() >= UNTOLD_MAX {
            // The last word on an incident says all that the earlier ones do; without it the incident would stay open.
            let is_superseded = |at: usize| {
                self.untold[at + 1..].iter().any(|later| later.incident.id == self.untold[at].incident.id)
            };
            let superseded = (0..self.untold.len()).find(|at| is_superseded(*at));
            let full = (self.untold.len() >= UNTOLD_INCIDENTS_MAX).then_some(0);
            if let Some(at) = superseded.or(full) {
                self.untold.remove(at);
            }
        }
        self.untold.push(Untold { incident: incident.clone(), sent: false });
    }

    /// What somebody heard, or did not.
    pub(crate) fn settle(&mut self, id: Uuid, revision: u32, delivered: bool) {
        let is_it = |one: &Untold| (one.incident.id, one.incident.revision) == (id, revision);
        if delivered {
            self.untold.retain(|one| !is_it(one));
        } else if let Some(one) = self.untold.iter_mut().find(|one| is_it(one)) {
            one.sent = false;
        }
    }

    /// Whether more would be lost with this than good slots, which are as good as none.
    pub(crate) fn is_at_stake(&self) -> bool {
        self.down
            || !self.untold.is_empty()
            || !self.changes.is_empty()
            || self.incident.as_ref().is_some_and(|incident| incident.closed_at.is_none())
            || self.probers.values().any(|heard| heard.window.newest_bad().is_some())
    }

    /// What a check that depends on this one has under its feet.
    pub(crate) fn ground(&self, check: Uuid) -> Ground {
        let is_bad = |heard: &Heard| heard.window.newest_known().is_some_and(|slot| slot.mark == Mark::Bad);
        let is_open = self.incident.as_ref().is_some_and(|incident| incident.closed_at.is_none());
        if self.down || is_open || self.probers.values().any(is_bad) {
            return Ground::Shaky(check);
        }
        let bad = self.probers.values().filter_map(|heard| heard.window.newest_bad()).max();
        Ground::Firm { since: self.over.max(bad.unwrap_or(i64::MIN)) }
    }

    /// Takes over what another process has decided meanwhile, if it is news. What was counted here before is of no use then:
    /// the other has counted what is missing.
    pub(crate) fn adopt(&mut self, found: Incident, now: i64) {
        let is_news = self.incident.as_ref().is_none_or(|known| match known.id == found.id {
            true => found.revision > known.revision,
            false => found.opened_at > known.opened_at,
        });
        if !is_news {
            return;
        }
        self.probers.clear();
        self.changes.clear();
        self.untold.clear();
        self.recovered = None;
        self.down = found.closed_at.is_none();
        self.over = found.closed_at.map_or(self.over, |at| at.as_microsecond().min(now));
        self.newest = self.newest.max(self.over);
        // What is read once more from before the incident does not end it. Of a prober whose clock is ahead the last bad slot
        // would hold back all the others.
        let last_bad = found.last_bad_at.as_microsecond();
        self.decided = if self.down { last_bad.min(now.saturating_add(AHEAD_US)) } else { 0 };
        self.incident = Some(found);
    }
}

impl Ground {
    /// The worse of two.
    pub(crate) fn and(self, other: Ground) -> Ground {
        match (self, other) {
            (Ground::Firm { since: one }, Ground::Firm { since: other }) => {
                Ground::Firm { since: one.max(other) }
            }
            (shaky @ Ground::Shaky(_), _) | (_, shaky) => shaky,
        }
    }
}

fn floor(window: &Window, policy: &Policy, measurement: &Measurement) -> i64 {
    window.newest().unwrap_or(0).saturating_sub(policy.span_us(&measurement.check))
}

fn instant(us: i64) -> Timestamp {
    Timestamp::from_microsecond(us).unwrap_or(Timestamp::UNIX_EPOCH)
}
