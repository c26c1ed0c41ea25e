//! The newest slots of one check as one prober saw them, and what that prober says of the check.

use serde::{Deserialize, Serialize};

use crate::policy::Policy;

/// Slots that a window has beyond those that decide: what comes so late is still put into its place.
pub(crate) const LATE_SLOTS: usize = 8;

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mark {
    #[serde(rename = "g")]
    Good,
    #[serde(rename = "b")]
    Bad,
    /// Nothing: the prober could not tell, or nobody shall be told.
    #[serde(rename = "n")]
    Nothing,
}

impl Mark {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Mark::Good => "good",
            Mark::Bad => "bad",
            Mark::Nothing => "nothing",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// In microseconds since 1970, as are all instants of this crate.
    pub(crate) at: i64,
    pub(crate) attempt: u32,
    pub(crate) mark: Mark,
}

/// What a prober says of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// It has seen too little.
    #[default]
    Unclear,
    Up,
    Down,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// By time.
    slots: Vec<Slot>,
    pub(crate) verdict: Verdict,
    /// Bad slots up to here belong to a trouble that is over.
    over: i64,
}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    New,
    /// It is there, from this attempt or a later one.
    Known,
    /// It is older than all that is remembered.
    TooLate,
}

impl Window {
    /// Without a slot, and with what was known of it elsewhere.
    pub(crate) fn with(verdict: Verdict) -> Window {
        Window { verdict, ..Window::default() }
    }

    pub(crate) fn place(&mut self, slot: Slot, policy: &Policy) -> Placed {
        match self.slots.binary_search_by_key(&slot.at, |known| known.at) {
            Ok(place) if self.slots[place].attempt >= slot.attempt => return Placed::Known,
            Ok(place) => self.slots[place] = slot,
            Err(0) if self.slots.len() >= policy.window_slots() => return Placed::TooLate,
            Err(place) => {
                self.slots.insert(place, slot);
                if self.slots.len() > policy.window_slots() {
                    self.slots.remove(0);
                }
            }
        }
        Placed::New
    }

    /// Lets go of what was seen after an instant; at `at` it begins anew.
    pub(crate) fn forget_after(&mut self, last: i64, at: i64) {
        self.slots.retain(|slot| slot.at <= last);
        if self.over > last {
            self.over = at.saturating_sub(1);
        }
    }

    /// All that it has seen belongs to a trouble that is over.
    pub(crate) fn close(&mut self) {
        self.over = self.over.max(self.newest().unwrap_or(self.over));
    }

    /// Finds the verdict anew. `floor` is where the slots begin that are not too old to count, `over` the end of the check's
    /// last incident.
    pub(crate) fn judge(&mut self, policy: &Policy, floor: i64, over: i64) {
        let run: Vec<Slot> = self.deciding(policy, floor).take(policy.up_after).collect();
        if run.len() == policy.up_after && run.iter().all(|slot| slot.mark == Mark::Good) {
            if self.verdict == Verdict::Down {
                self.over = run.last().map_or(self.over, |first| first.at);
            }
            self.verdict = Verdict::Up;
        } else if self.bad(policy, floor, over).count() >= policy.down_after {
            self.verdict = Verdict::Down;
        }
    }

    /// The bad ones among the slots that decide whether the check is down, the newest first.
    pub(crate) fn bad<'a>(
        &'a self,
        policy: &'a Policy,
        floor: i64,
        over: i64,
    ) -> impl Iterator<Item = Slot> + 'a {
        let over = over.max(self.over);
        let newest = self.deciding(policy, floor).take(policy.down_of);
        newest.filter(move |slot| slot.mark == Mark::Bad && slot.at > over)
    }

    /// Slots that say something, the newest first.
    fn deciding<'a>(&'a self, policy: &'a Policy, floor: i64) -> impl Iterator<Item = Slot> + 'a {
        let newest = self.newest();
        let known = self.slots.iter().rev().copied();
        known.filter(move |slot| {
            // Its next attempt is on its way.
            let is_open = slot.mark == Mark::Bad && slot.attempt < policy.attempts && Some(slot.at) == newest;
            slot.mark != Mark::Nothing && slot.at >= floor && !is_open
        })
    }

    pub(crate) fn newest(&self) -> Option<i64> {
        self.slots.last().map(|slot| slot.at)
    }

    /// The newest slot that says something.
    pub(crate) fn newest_known(&self) -> Option<Slot> {
        self.slots.iter().rev().copied().find(|slot| slot.mark != Mark::Nothing)
    }

    pub(crate) fn newest_bad(&self) -> Option<i64> {
        self.slots.iter().rev().find(|slot| slot.mark == Mark::Bad).map(|slot| slot.at)
    }
}
