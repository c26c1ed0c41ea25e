//! Makes one measurement of every slot, whatever happens.

mod telling;
mod tries;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use monmon_model::{FailureKind, Outcome, Prober as ProberRecord, boot_id};
use monmon_stage::{Envelope, Mode, StageContext};
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::book::Book;
use super::descriptors::Shortage;
use super::guard::Guard;
use super::lag::Lag;
use super::open::Ready;
use super::owed::Owed;
use super::past::{BEAT_EVERY, Past};
use super::receipts::{CUT_EVERY, Receipts};
use crate::probe::{Probed, Prober};
use crate::schedule::{Due, Schedule};
use crate::timeline::{Shift, Timeline};

/// How often the wall clock is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

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
