//! The tries of slots: begun, put off, landed, and made again after a failure.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{FailureKind, Outcome};
use monmon_stage::{Clock, Mode};
use tokio::time::Instant;

use super::{Landed, Producer, Try, is_good, lag};
use crate::schedule::Cadence;
use crate::source::owed::Told;

/// Most measurements of which it is waited for what matchers make of them. Beyond them transport alone decides.
const JUDGING_MAX: usize = 16_384;
/// How long it may take. What matchers find later leads to no other try.
const JUDGED_WITHIN: Duration = Duration::from_secs(30);

impl Producer {
    pub(super) fn later_at(&self) -> Option<Instant> {
        self.later.peek().map(|Reverse((at, _))| *at)
    }

    /// Begins what was put off and is due now. Where there is no room for it nothing is owed: the slot has a measurement
    /// already, or is none of the schedule's.
    pub(super) fn take_later(&mut self, now: Instant) {
        while let Some(Reverse((at, what))) = self.later.peek().copied()
            && at <= now
        {
            self.later.pop();
            if self.has_room() {
                self.begin(what);
            } else {
                tracing::debug!(stage = %self.context.stage, ?what, "no room for another try");
            }
        }
    }

    /// Begins a try, now or when its host has room for it.
    pub(super) fn begin(&mut self, what: Try) {
        if let Some(per_host) = self.bounds.per_host {
            let ready = &self.checks[what.check as usize];
            let host = self.hosts.entry(ready.host).or_default();
            if host.under_way >= per_host {
                host.waiting.push_back((Instant::now() + ready.target.timeout, what));
                self.waiting += 1;
                return;
            }
            host.under_way += 1;
        }
        self.start(what);
    }

    /// A check of this host is over: the next one that waits for it begins, unless its time is up.
    fn relieve(&mut self, check: u32) {
        let number = self.checks[check as usize].host;
        let Some(host) = self.hosts.get_mut(&number) else { return };
        host.under_way = host.under_way.saturating_sub(1);
        let now = Instant::now();
        let mut late = Vec::new();
        let mut next = None;
        while let Some((until, what)) = host.waiting.pop_front() {
            self.waiting -= 1;
            if now < until {
                host.under_way += 1;
                next = Some(what);
                break;
            }
            late.push(what);
        }
        if host.under_way == 0 {
            self.hosts.remove(&number);
        }
        for what in late {
            // A slot that was tried already has its measurement.
            if what.attempt == 1 {
                self.owe(what.check, what.slot, 1, FailureKind::Overload);
            }
        }
        if let Some(what) = next {
            self.start(what);
        }
    }

    fn start(&mut self, what: Try) {
        let checks = Arc::clone(&self.checks);
        let prober = Arc::clone(&self.prober);
        let guard = self.guard.clone();
        let clock: Arc<dyn Clock> = Arc::clone(&self.context.clock);
        let (late, due) = (Arc::clone(&self.lag), Instant::now());
        let task = self.under_way.spawn(async move {
            let (started_at, begun) = (clock.now(), Instant::now());
            // Checks wait for one another where there is no processor for all.
            lag(&late).note(begun, due);
            let mut probed = prober.probe(&checks[what.check as usize].target).await;
            if let Some(guard) = guard.filter(|_| probed.may_be_own_network())
                && !guard.is_alive(&prober, begun).await
            {
                probed.blame_own_network();
            }
            (started_at, probed)
        });
        self.tries.insert(task.id(), what);
    }

    /// A check has come to its end, in whatever way.
    pub(super) fn land(&mut self, landed: Landed) {
        let id = match &landed {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(what) = self.tries.remove(&id) else { return };
        let Try { check, slot, attempt } = what;
        if self.bounds.per_host.is_some() {
            self.relieve(check);
        }
        match landed {
            Ok((_, (started_at, mut probed))) => {
                let timeout = self.checks[check as usize].target.timeout;
                if probed.ran_out_of_time() && lag(&self.lag).explains(Instant::now(), timeout) {
                    probed.blame_starvation();
                }
                let mut measurement = self.blank(check, slot, attempt);
                measurement.started_at = Timestamp::from_microsecond(started_at.as_microsecond()).ok();
                let checks = Arc::clone(&self.checks);
                let page = probed.write(&checks[check as usize].target, &mut measurement);
                if measurement.failed_with(FailureKind::FdExhausted) {
                    self.shortage.note();
                    self.shortage.tell(&self.context.stage, Instant::now());
                }
                self.mark(check, slot, &mut measurement);
                if is_good(measurement.outcome) {
                    self.wait_for_matchers(what, measurement.seq);
                } else {
                    self.again(what, measurement.outcome);
                }
                self.hand_over(measurement, page);
            }
            Err(error) => {
                let kind = if error.is_cancelled() { FailureKind::Shutdown } else { FailureKind::Internal };
                // A slot that was tried already has its measurement.
                if attempt == 1 {
                    self.tell(check, Told::alone(slot, kind));
                }
            }
        }
    }

    /// What went well so far may still be found at fault by the check's own matchers, in a later stage. Where that would
    /// lead to another try it is waited for.
    fn wait_for_matchers(&mut self, what: Try, seq: u64) {
        let ready = &self.checks[what.check as usize];
        let may_follow = what.attempt < ready.retry().attempts || ready.when_down().is_some();
        if ready.is_matched && may_follow && self.judging.len() < JUDGING_MAX {
            self.book.await_verdict(seq);
            self.judging.insert(seq, (Instant::now(), what));
        }
    }

    /// Hears what matchers made of measurements. A slot whose check was due again meanwhile is not tried once more.
    pub(super) fn judge(&mut self) {
        let now = Instant::now();
        for (seq, outcome) in self.book.verdicts() {
            let Some((since, what)) = self.judging.remove(&seq) else { continue };
            let is_newest = self.context.mode == Mode::Once
                || self.line.at(now) < self.checks[what.check as usize].cadence.at_or_after(what.slot + 1);
            if let Some(outcome) = outcome.filter(|_| is_newest && now - since <= JUDGED_WITHIN) {
                self.again(what, outcome);
            }
        }
    }

    /// Whether there is more to do about a slot: another try, or a look before the next slot.
    fn again(&mut self, what: Try, outcome: Outcome) {
        if is_good(outcome) || self.context.stop.is_cancelled() {
            return;
        }
        let ready = &self.checks[what.check as usize];
        let now = Instant::now();
        let retry = ready.retry();
        if what.attempt < retry.attempts {
            self.later.push(Reverse((now + retry.wait, Try { attempt: what.attempt + 1, ..what })));
            return;
        }
        if outcome == Outcome::Down
            && self.context.mode == Mode::Continuous
            && let Some(interval) = ready.when_down()
        {
            let at = self.line.at(now);
            let slot = Cadence::new(ready.check.id, interval).at_or_after(at.saturating_add(1));
            // The schedule's own slots are its own.
            if slot < ready.cadence.at_or_after(at) {
                let what = Try { slot, attempt: 1, ..what };
                self.later.push(Reverse((self.line.instant(slot), what)));
            }
        }
    }
}
