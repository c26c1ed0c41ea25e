//! Makes one measurement of every slot, whatever happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{
    Failure, FailureKind, Measurement, Outcome, Phase, Prober as ProberRecord, Timings, boot_id,
    measurement_id,
};
use monmon_stage::{Clock, Envelope, Mode, Page, StageContext};
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::book::Book;
use super::descriptors::Shortage;
use super::guard::Guard;
use super::lag::Lag;
use super::open::Ready;
use super::owed::{Owed, Told};
use super::past::{BEAT_EVERY, Past};
use super::receipts::{CUT_EVERY, Receipts};
use crate::probe::{Probed, Prober};
use crate::schedule::{Cadence, Due, Schedule};
use crate::timeline::{Shift, Timeline};

/// How often the wall clock is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Most measurements of which it is waited for what matchers make of them. Beyond them transport alone decides.
const JUDGING_MAX: usize = 16_384;
/// How long it may take. What matchers find later leads to no other try.
const JUDGED_WITHIN: Duration = Duration::from_secs(30);
/// Most rows of what is owed that are told in one go, so that the next slot does not wait for them.
const TOLD_MAX: usize = 64;
/// How long the last receipt waits for what is under way, at most, and as a share of the grace.
const LAST_WAIT: Duration = Duration::from_secs(3);
const LAST_SHARE: u32 = 8;

type Landed = Result<(Id, (Timestamp, Probed)), JoinError>;

/// What there is to do.
pub(crate) struct Work {
    pub(crate) checks: Vec<Ready>,
    pub(crate) prober: Prober,
    pub(crate) guard: Option<Guard>,
    pub(crate) bounds: Bounds,
}

/// How much of it is done at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) concurrency: usize,
    pub(crate) per_host: Option<usize>,
}

/// One try of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Try {
    check: u32,
    slot: i64,
    attempt: u32,
}

/// The checks of one host, where there is a bound on them.
#[derive(Debug, Default)]
struct Host {
    under_way: usize,
    /// With the instant at which their time is up.
    waiting: VecDeque<(Instant, Try)>,
}

pub(crate) struct Producer {
    checks: Arc<[Ready]>,
    prober: Arc<Prober>,
    guard: Option<Arc<Guard>>,
    record: Arc<ProberRecord>,
    bounds: Bounds,
    context: StageContext,
    book: Arc<Book>,
    handover: mpsc::Sender<Envelope>,
    room: Arc<Notify>,
    line: Timeline,
    under_way: JoinSet<(Timestamp, Probed)>,
    tries: HashMap<Id, Try>,
    /// Tries that are on no schedule: again after a failure, and sooner while a check is down.
    later: BinaryHeap<Reverse<(Instant, Try)>>,
    /// By their numbers: what may be tried again once the check's own matchers were heard, and when it was handed over.
    judging: HashMap<u64, (Instant, Try)>,
    hosts: BTreeMap<u32, Host>,
    /// Over all hosts.
    waiting: usize,
    owed: Owed,
    past: Option<Arc<Past>>,
    /// All slots before this were taken from the schedule.
    taken_us: i64,
    seq: u64,
    /// Everything up to this number was heard of.
    heard_seq: u64,
    receipts: Receipts,
    overloaded: bool,
    shortage: Shortage,
    lag: Arc<Mutex<Lag>>,
}

impl Producer {
    pub(crate) fn new(
        work: Work,
        context: &StageContext,
        book: Arc<Book>,
        handover: mpsc::Sender<Envelope>,
        room: Arc<Notify>,
    ) -> Producer {
        let record = ProberRecord {
            id: context.prober.id,
            name: context.prober.name.clone(),
            location: context.prober.location.clone(),
            boot: boot_id(context.clock.now()),
        };
        let Work { checks, prober, guard, bounds } = work;
        let ids = || checks.iter().map(|ready| ready.check.id).collect();
        let state = context.prober.state.as_ref().filter(|_| context.mode == Mode::Continuous);
        let past = state.map(|folder| Arc::new(Past::new(folder, &context.pipeline, &context.stage, ids())));
        let record = Arc::new(record);
        let receipts =
            Receipts::new(Arc::clone(&record), Arc::clone(&context.pipeline), Arc::clone(&context.stage));
        Producer {
            past,
            taken_us: 0,
            owed: Owed::new(checks.len()),
            checks: checks.into(),
            prober: Arc::new(prober),
            guard: guard.map(Arc::new),
            record,
            bounds,
            line: Timeline::new(Instant::now(), context.clock.now()),
            context: context.clone(),
            book,
            handover,
            room,
            under_way: JoinSet::new(),
            tries: HashMap::new(),
            later: BinaryHeap::new(),
            judging: HashMap::new(),
            hosts: BTreeMap::new(),
            waiting: 0,
            seq: 0,
            heard_seq: 0,
            receipts,
            overloaded: false,
            shortage: Shortage::default(),
            lag: Arc::new(Mutex::new(Lag::new(Instant::now()))),
        }
    }

    pub(crate) async fn run(mut self) {
        match self.context.mode {
            Mode::Continuous => self.on_schedule().await,
            Mode::Once => self.once().await,
        }
        self.end().await;
    }

    async fn on_schedule(&mut self) {
        let start = Instant::now();
        let cadences = self.checks.iter().map(|ready| ready.cadence.clone()).collect();
        let mut schedule = Schedule::new(cadences, self.line.at(start));
        self.taken_us = self.line.at(start);
        let slots_from_us = self.resume(self.taken_us);
        self.receipts.begin(self.taken_us, slots_from_us);
        let mut watch_at = start + WATCH_EVERY;
        let mut beat_at = start + BEAT_EVERY;
        let mut cut_at = start + CUT_EVERY;
        let timer = sleep_until(start);
        tokio::pin!(timer);
        let stop = self.context.stop.clone();
        let room = Arc::clone(&self.room);
        let handover = self.handover.clone();
        let book = Arc::clone(&self.book);
        let mut due = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = handover.closed() => return,
                () = &mut timer => {
                    let now = Instant::now();
                    lag(&self.lag).note(now, timer.deadline());
                    if now >= watch_at {
                        self.watch(now);
                        watch_at = now + WATCH_EVERY;
                        self.give_receipts();
                    }
                    if now >= beat_at {
                        self.beat(now);
                        beat_at = now + BEAT_EVERY;
                    }
                    let at = self.line.at(now);
                    schedule.take(at, &mut due);
                    self.taken_us = at.saturating_add(1);
                    for due in due.drain(..) {
                        self.take(due);
                    }
                    self.take_later(now);
                    if now >= cut_at {
                        self.cut_receipt();
                        cut_at = now + CUT_EVERY;
                    }
                    self.settle();
                    let next = schedule.next_due().map_or(watch_at, |slot| self.line.instant(slot).min(watch_at));
                    timer.as_mut().reset(self.later_at().map_or(next, |later| later.min(next)));
                }
                Some(landed) = self.under_way.join_next_with_id() => {
                    self.land(landed);
                    self.settle();
                    if let Some(later) = self.later_at().filter(|later| *later < timer.deadline()) {
                        timer.as_mut().reset(later);
                    }
                }
                () = book.any_verdict() => {
                    self.judge();
                    if let Some(later) = self.later_at().filter(|later| *later < timer.deadline()) {
                        timer.as_mut().reset(later);
                    }
                }
                () = room.notified() => self.settle(),
            }
        }
    }

    /// Says that the source lives, on another thread: a disk that is slow must not distort what is timed here.
    fn beat(&self, now: Instant) {
        if let Some(past) = self.past.clone()
            && let Ok(at) = Timestamp::from_microsecond(self.line.at(now))
        {
            drop(tokio::task::spawn_blocking(move || past.beat(at)));
        }
    }

    /// Owes what was due since the run before, which nobody was there to measure: a row a check. Gives the instant from
    /// which on all slots are this run's.
    fn resume(&mut self, now: i64) -> i64 {
        let Some(past) = &self.past else { return now };
        let left = past.left();
        past.begin();
        let Some(left) = left.filter(|left| left.until_us < now) else { return now };
        for (number, ready) in (0_u32..).zip(self.checks.iter()) {
            let first = ready.cadence.at_or_after(left.until_us);
            if first >= now || !left.checks.contains(&ready.check.id) {
                continue;
            }
            let (last, before) = ready.cadence.newest(first, now - 1);
            let interval = ready.cadence.interval_us();
            self.owed.add_together(number, (first, last), before + 1, interval, FailureKind::NotRunning);
        }
        left.until_us
    }

    /// Up to when every slot has all of its measurements numbered.
    fn numbered_until(&self) -> i64 {
        let waiting = self.hosts.values().flat_map(|host| &host.waiting).map(|(_, what)| what);
        let later = self.later.iter().map(|Reverse((_, what))| what);
        let open = self.tries.values().chain(waiting).chain(later).map(|what| what.slot);
        open.chain(self.owed.oldest()).min().unwrap_or(self.taken_us).min(self.taken_us)
    }

    fn cut_receipt(&mut self) {
        self.receipts.cut(self.seq, self.numbered_until());
        self.book.cut(self.seq);
    }

    /// Gives the receipts of what was delivered by now.
    fn give_receipts(&mut self) {
        while let Some(settled) = self.book.next_settled() {
            self.heard_seq = settled.last_seq;
            self.receipts.settle(settled);
        }
        // Room first, as for measurements; what finds none is given a second later.
        while self.has_place()
            && let Some(receipt) = self.receipts.give(self.heard_seq, self.context.clock.now())
        {
            let envelope = Envelope::event(receipt, None, self.book.ack_unnumbered());
            if let Err(mpsc::error::TrySendError::Full(envelope)) = self.handover.try_send(envelope) {
                envelope.ack.fail();
            }
        }
    }

    /// The last receipt, behind everything else. What is under way may be heard of before, for a while.
    async fn give_last_receipt(&mut self, begun: Instant) {
        let until = Instant::now() + (self.context.grace / LAST_SHARE).min(LAST_WAIT);
        // Whether it came to that or not, the receipt is of all that was numbered.
        let _in_time = timeout_at(until, self.book.settled()).await.is_ok();
        self.cut_receipt();
        while let Some(settled) = self.book.next_settled() {
            self.receipts.settle(settled);
        }
        let until_us = match self.context.mode {
            Mode::Continuous => self.numbered_until(),
            Mode::Once => self.receipts.began_us(),
        };
        let receipt = self.receipts.give_last(self.seq, until_us, self.context.clock.now());
        if let Ok(Ok(place)) = timeout_at(begun + self.context.grace, self.handover.reserve()).await {
            place.send(Envelope::event(receipt, None, self.book.ack_unnumbered()));
        }
    }

    /// Each check once, now. The instant of the start stands for the slot: it is on no schedule, so that these
    /// measurements have ids of their own and are never taken for those of a slot.
    async fn once(&mut self) {
        let slot = self.context.clock.now().as_microsecond();
        // It has no slots of its own.
        self.receipts.begin(slot, slot);
        let stop = self.context.stop.clone();
        let room = Arc::clone(&self.room);
        let handover = self.handover.clone();
        let book = Arc::clone(&self.book);
        let mut next = 0u32;
        let count = u32::try_from(self.checks.len()).unwrap_or(u32::MAX);
        while next < count || !self.under_way.is_empty() || !self.later.is_empty() || !self.judging.is_empty()
        {
            self.take_later(Instant::now());
            while next < count && self.has_room() {
                self.begin(Try { check: next, slot, attempt: 1 });
                next += 1;
            }
            let later = self.later_at();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = handover.closed() => return,
                Some(landed) = self.under_way.join_next_with_id() => self.land(landed),
                () = book.any_verdict() => self.judge(),
                () = room.notified() => {}
                () = sleep_until(later.unwrap_or_else(Instant::now)), if later.is_some() => {}
            }
        }
        for check in next..count {
            self.owe(check, slot, 1, FailureKind::Shutdown);
        }
    }

    fn watch(&mut self, now: Instant) {
        let stage = &self.context.stage;
        self.shortage.tell(stage, now);
        match self.line.watch(now, self.context.clock.now()) {
            Shift::Steady => {}
            Shift::Forward { by_us } => {
                tracing::warn!(%stage, by_us, "the wall clock went ahead: the slots between are told as overslept");
            }
            Shift::Back { by_us } => {
                tracing::warn!(%stage, by_us, "the wall clock went back: slots go on from where they were");
            }
        }
    }

    fn take(&mut self, due: Due) {
        match due {
            Due::Start { check, slot } if self.has_room() => self.begin(Try { check, slot, attempt: 1 }),
            Due::Start { check, slot } => {
                if !self.overloaded {
                    self.overloaded = true;
                    let under_way = self.under_way.len();
                    tracing::warn!(stage = %self.context.stage, under_way, "more checks are due than can be under way");
                }
                self.owe(check, slot, 1, FailureKind::Overload);
            }
            Due::Overslept { check, first, count } => self.owe(check, first, count, FailureKind::Overslept),
        }
    }

    fn later_at(&self) -> Option<Instant> {
        self.later.peek().map(|Reverse((at, _))| *at)
    }

    /// Begins what was put off and is due now. Where there is no room for it nothing is owed: the slot has a measurement
    /// already, or is none of the schedule's.
    fn take_later(&mut self, now: Instant) {
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

    /// Whether one more check may be under way: its measurement must find a place in the hand-over when it lands.
    fn has_room(&self) -> bool {
        self.begun() < self.bounds.concurrency && self.has_place()
    }

    /// Whether one more item finds a place in the hand-over that no check claims which is under way. How many of those
    /// there may be is another matter: a receipt needs none.
    fn has_place(&self) -> bool {
        self.handover.capacity() > self.begun()
    }

    fn begun(&self) -> usize {
        self.under_way.len() + self.waiting
    }

    fn owe(&mut self, check: u32, first: i64, count: u64, kind: FailureKind) {
        let cadence = &self.checks[check as usize].cadence;
        let interval = cadence.interval_us();
        match cadence {
            Cadence::Every { .. } => self.owed.add(check, first, count, interval, kind),
            Cadence::By { .. } => {
                let mut slot = first;
                for _ in 0..count {
                    self.owed.add(check, slot, 1, interval, kind);
                    slot = cadence.next(slot);
                }
            }
        }
    }

    /// Begins a try, now or when its host has room for it.
    fn begin(&mut self, what: Try) {
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
    fn land(&mut self, landed: Landed) {
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
    fn judge(&mut self) {
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

    /// Marks what lies in a window of maintenance.
    fn mark(&self, check: u32, slot: i64, measurement: &mut Measurement) {
        if let Some(window) = self.checks[check as usize].maintenance(slot) {
            measurement.details_mut().maintenance = Some(window.to_owned());
        }
    }

    /// Tells some of what is owed. There is more to it as long as there is room: what is told comes to the pump, and the
    /// pump wakes us again.
    fn settle(&mut self) {
        for _ in 0..TOLD_MAX {
            if !self.may_tell() {
                break;
            }
            let Some((check, told)) = self.owed.pop() else { break };
            self.tell(check, told);
        }
        // Told only once half of the room is free again, so that the edge of the bound is no flood of lines.
        let relaxed = self.under_way.len() * 2 <= self.bounds.concurrency
            && self.handover.capacity() * 2 >= self.handover.max_capacity();
        if self.overloaded && self.owed.is_empty() && relaxed {
            self.overloaded = false;
            tracing::info!(stage = %self.context.stage, "checks are on time again");
        }
    }

    /// Half of the room that is not claimed by what is under way is left to slots that come due meanwhile: what is owed
    /// must never be the reason that more is.
    fn may_tell(&self) -> bool {
        let max = self.handover.max_capacity();
        let waiting = max - self.handover.capacity();
        waiting < max.saturating_sub(self.under_way.len()).div_ceil(2)
    }

    fn tell(&mut self, check: u32, told: Told) {
        let measurement = self.untried(check, told);
        self.hand_over(measurement, None);
    }

    fn untried(&mut self, check: u32, told: Told) -> Measurement {
        let mut measurement = self.blank(check, told.slot, 1);
        let interval = self.checks[check as usize].cadence.interval_us();
        measurement.fail(Failure::new(told.kind, Phase::Start, told.message(interval)));
        self.mark(check, told.slot, &mut measurement);
        measurement
    }

    /// Room is there by `has_room` and `settle`; only when the stages behind are gone is there nobody to tell.
    fn hand_over(&mut self, measurement: Measurement, page: Option<Page>) {
        let ack = self.book.ack(measurement.seq);
        self.context.counters.add_received(1);
        if let Err(mpsc::error::TrySendError::Full(envelope)) =
            self.handover.try_send(Envelope::measurement(measurement, page, ack))
        {
            tracing::error!(stage = %self.context.stage, "a measurement found no room in the hand-over");
            envelope.ack.fail();
        }
    }

    fn blank(&mut self, check: u32, slot: i64, attempt: u32) -> Measurement {
        self.seq += 1;
        let check = Arc::clone(&self.checks[check as usize].check);
        let scheduled_at = Timestamp::from_microsecond(slot).unwrap_or(Timestamp::UNIX_EPOCH);
        let id = measurement_id(self.record.id, check.id, scheduled_at, attempt);
        self.receipts.number(id);
        Measurement {
            id,
            seq: self.seq,
            attempt,
            method: check.method.clone(),
            url: check.url.clone(),
            check,
            prober: Arc::clone(&self.record),
            scheduled_at,
            started_at: None,
            outcome: Outcome::Up,
            reason: None,
            error: None,
            status: None,
            http_version: None,
            remote_addr: None,
            timings: Timings::default(),
            body_bytes: None,
            body_wire_bytes: None,
            body_truncated: false,
            redirects: Vec::new(),
            tls: None,
            details: None,
            matches: Vec::new(),
        }
    }

    /// After the stop: what is under way may finish for half of the grace, the rest is told as unknown.
    async fn end(mut self) {
        self.later.clear();
        for (_, host) in std::mem::take(&mut self.hosts) {
            for (_, what) in host.waiting {
                if what.attempt == 1 {
                    self.owe(what.check, what.slot, 1, FailureKind::Shutdown);
                }
            }
        }
        self.waiting = 0;
        let now = Instant::now();
        let half = now + self.context.grace / 2;
        while let Ok(Some(landed)) = timeout_at(half, self.under_way.join_next_with_id()).await {
            self.land(landed);
        }
        self.under_way.abort_all();
        while let Some(landed) = self.under_way.join_next_with_id().await {
            self.land(landed);
        }
        self.shortage.tell_rest(&self.context.stage, Instant::now());
        let last = now + self.context.grace;
        let hurry = now + self.context.grace / 4 * 3;
        let mut is_shrunk = false;
        while !self.owed.is_empty() {
            if !is_shrunk && Instant::now() >= hurry {
                self.owed.shrink();
                is_shrunk = true;
            }
            // Room first: a row is taken only when it can be told, so that what is left is known to the slot.
            let handover = self.handover.clone();
            let until = if is_shrunk { last } else { hurry };
            let place = match timeout_at(until, handover.reserve()).await {
                Ok(Ok(place)) => place,
                Err(_elapsed) if !is_shrunk => continue,
                Ok(Err(_)) | Err(_) => break,
            };
            let Some((check, told)) = self.owed.pop() else { break };
            let measurement = self.untried(check, told);
            let ack = self.book.ack(measurement.seq);
            self.context.counters.add_received(1);
            place.send(Envelope::measurement(measurement, None, ack));
        }
        let untold = self.owed.slots();
        if let Some(past) = &self.past {
            past.end(self.taken_us);
        }
        if untold > 0 {
            self.context.counters.add_received(untold);
            self.context.counters.add_failed(untold);
            tracing::error!(stage = %self.context.stage, untold, "slots without a measurement at the end");
        }
        self.give_last_receipt(now).await;
    }
}

fn lag(lag: &Mutex<Lag>) -> MutexGuard<'_, Lag> {
    // Numbers are whole at every moment.
    lag.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_good(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Up | Outcome::Degraded)
}

#[cfg(test)]
mod tests;
