//! The running spool: takes from the source, gives to the sink, and turns to the disk between.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use monmon_stage::{Backoff, Batch, Envelope, Inlet, Sink, StageContext, StageError, StageSpec};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::desk::{Delivered, Desk};
use crate::error::{SpoolError, SpoolErrorKind};
use crate::inner::{Inner, News};
use crate::spec::Settings;
use crate::store::{Outcome, Store, Work};
use crate::tell::{Gone, Teller};

/// How long the start waits for the sink, so that what will never work is said then.
const START_WAIT: Duration = Duration::from_secs(6);
/// How long what was taken waits for more, so that one sync serves many.
const COMMIT_EVERY: Duration = Duration::from_millis(50);
/// With so many it does not wait.
const COMMIT_AT: usize = 1_000;
/// A full spool is tried again so often.
const FULL_PAUSE: Duration = Duration::from_secs(1);
/// At the end of a run the sink has this long to deliver the next item before the rest is left on the disk.
const END_QUIET: Duration = Duration::from_secs(2);
const END_QUIET_MAX: Duration = Duration::from_secs(7);
/// How long a refusal waits for the end of the sink, which would explain it.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);
/// Rows that are handed over before other things are looked at.
const HAND_OVER: usize = 256;

pub(crate) struct SpoolSink {
    context: StageContext,
    settings: Settings,
    inner: Inner,
    disk: Disk,
    desk: Desk,
    tell: Teller,
    pace: Pace,
    /// Taken from the source, and not yet anywhere.
    incoming: VecDeque<Envelope>,
    /// What the sink failed, and since when that is known.
    refusals: Vec<i64>,
    refused_at: Option<Instant>,
    /// When the next row may go to the sink, if that is what rows wait for.
    replay_at: Option<Instant>,
    /// After a refusal rows wait until then.
    hold: Hold,
    end: End,
    /// What ends the run, once all is safe.
    fatal: Option<StageError>,
    /// The sink has delivered something in this run.
    worked: bool,
}

/// The file, or the turn that has it.
struct Disk {
    store: Option<Store>,
    turn: Option<JoinHandle<Turned>>,
    last_turn: Instant,
    backoff: Backoff,
    /// After a failure nothing is tried until then.
    retry_at: Option<Instant>,
    /// There was no room for an append.
    full_until: Option<Instant>,
}

/// What a turn gives back, and what became of it.
type Turned = (Store, Work, Result<Outcome, SpoolError>);

struct Hold {
    until: Option<Instant>,
    backoff: Backoff,
}

/// How far the end of the run has come.
struct End {
    stopped_at: Option<Instant>,
    /// Nothing more comes since.
    ended_at: Option<Instant>,
    last_delivery: Instant,
}

impl SpoolSink {
    /// Opens the file and the sink behind it. A sink whose server is away is no reason not to start.
    pub(crate) async fn open(
        path: PathBuf,
        settings: Settings,
        spec: Arc<dyn StageSpec>,
        context: StageContext,
    ) -> Result<SpoolSink, StageError> {
        let mut tell = Teller::new(&context, &path);
        let now = context.clock.now();
        let opening = move || {
            let (store, totals, renewal) = Store::open(path, settings.bound, settings.when_full, now)?;
            let lost = store.lost()?;
            Ok::<_, SpoolError>((store, totals, lost, renewal))
        };
        let (store, totals, lost, renewal) = tokio::task::spawn_blocking(opening).await.map_err(ended)??;
        tell.opened(totals, renewal.as_ref());
        let mut inner = Inner::new(spec, context.clone());
        inner.start();
        let wait = if context.fail_fast { Duration::MAX } else { START_WAIT };
        match timeout(wait, inner.news()).await {
            Ok(News::Ended(error)) if context.fail_fast || !error.is_transient() => return Err(error),
            Ok(News::Ended(error)) => tell.sink_ended(&error),
            Ok(News::Opened) | Err(_) => {}
        }
        let seed = u64::from(std::process::id()) ^ now.as_nanosecond() as u64;
        let begun = Instant::now();
        Ok(SpoolSink {
            pace: Pace::new(settings.replay, begun),
            context,
            settings,
            inner,
            disk: Disk {
                store: Some(store),
                turn: None,
                last_turn: begun,
                backoff: Backoff::new(seed),
                retry_at: None,
                full_until: None,
            },
            desk: Desk::new(totals, lost),
            tell,
            incoming: VecDeque::new(),
            refusals: Vec::new(),
            refused_at: None,
            replay_at: None,
            hold: Hold { until: None, backoff: Backoff::new(seed ^ 0x5bd1) },
            end: End { stopped_at: None, ended_at: None, last_delivery: begun },
            fatal: None,
            worked: false,
        })
    }
}

#[async_trait]
impl Sink for SpoolSink {
    async fn run(self: Box<Self>, mut input: Inlet) -> Result<(), StageError> {
        let mut spool = *self;
        loop {
            let now = Instant::now();
            spool.settle(now);
            spool.feed(now).await;
            spool.begin_turn(now);
            if spool.is_over(now) {
                return spool.close().await;
            }
            let takes = spool.takes();
            let due = spool.due(now);
            let stopped = spool.end.stopped_at.is_some();
            let results = spool.inner.results.clone();
            tokio::select! {
                batch = input.recv(), if takes => spool.take(batch),
                () = results.wake.notified() => {}
                turned = turned(&mut spool.disk.turn) => spool.end_turn(turned.map_err(ended)?),
                news = spool.inner.news(), if spool.inner.is_started() => spool.heard(news),
                () = spool.context.stop.cancelled(), if !stopped => spool.end.stopped_at = Some(Instant::now()),
                () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
        }
    }
}

async fn turned<T>(turn: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match turn {
        Some(turn) => turn.await,
        None => std::future::pending().await,
    }
}

impl SpoolSink {
    fn takes(&self) -> bool {
        self.end.ended_at.is_none() && self.incoming.is_empty() && self.desk.takes_more()
    }

    fn take(&mut self, batch: Option<Batch>) {
        match batch {
            Some(batch) => self.incoming.extend(batch),
            None => self.end.ended_at = Some(Instant::now()),
        }
    }

    /// What the sink has said.
    fn settle(&mut self, now: Instant) {
        for (position, delivered) in self.inner.results.take() {
            match delivered {
                true => self.delivered(position, now),
                false => self.refusals.push(position),
            }
        }
        // A sink that ends gives all back that it has, and that is no word on any of it; so an end is waited for first.
        if !self.refusals.is_empty() && *self.refused_at.get_or_insert(now) + REFUSAL_WAIT <= now {
            self.refused_at = None;
            for position in std::mem::take(&mut self.refusals) {
                self.desk.refuse(position);
            }
            self.hold.until = Some(now + self.hold.backoff.wait());
        }
        let late = self.desk.oldest_in_memory().is_some_and(|since| since + self.settings.after <= now);
        if late || (self.desk.in_flight() > 0 && self.time_is_over(now)) {
            self.desk.spool_flights();
        }
    }

    fn delivered(&mut self, position: i64, now: Instant) {
        if self.desk.deliver(position) == Delivered::FromDisk {
            self.context.counters.add_replayed(1);
        }
        self.tell.delivered();
        self.worked = true;
        self.end.last_delivery = now;
        self.inner.works();
        self.hold.backoff.reset();
    }

    /// Gives what came, or what is on the disk, to the sink.
    async fn feed(&mut self, now: Instant) {
        if self.inner.retry_at.is_some_and(|at| at <= now) && self.fatal.is_none() {
            self.inner.start();
        }
        let mut batch = Batch::new();
        let in_time = now.checked_sub(self.settings.after).unwrap_or(now);
        // What the sink has failed comes first, though nobody knows yet why it did.
        let orderly = self.refusals.is_empty() && self.hold.until.is_none();
        while let Some(envelope) = self.incoming.pop_front() {
            if !orderly || !self.desk.is_direct(in_time) || !self.inner.is_open() {
                self.desk.spool(envelope);
                continue;
            }
            match self.desk.pass(envelope, now, |position| self.inner.ack(position)) {
                Ok(envelope) => batch.push(envelope),
                Err(envelope) => {
                    self.incoming.push_front(envelope);
                    break;
                }
            }
        }
        if !batch.is_empty() {
            self.inner.give(batch).await;
        }
        if self.hold.until.is_some_and(|until| until <= now) {
            self.hold.until = None;
        }
        self.replay_at = None;
        if self.refusals.is_empty()
            && self.hold.until.is_none()
            && self.inner.is_open()
            && self.desk.has_ready()
        {
            self.replay(now).await;
        }
    }

    async fn replay(&mut self, now: Instant) {
        let mut batch = Batch::new();
        let most = self.pace.allowed(now).min(HAND_OVER);
        while batch.len() < most {
            let Some(envelope) = self.desk.hand_over(now, |position| self.inner.ack(position)) else { break };
            batch.push(envelope);
        }
        self.pace.use_up(batch.len());
        // With room in the window for no more, the sink's next word is waited for.
        self.replay_at = match batch.len() {
            _ if !self.desk.has_ready() => None,
            HAND_OVER => Some(now),
            count if count == most => Some(self.pace.next()),
            _ => None,
        };
        if !batch.is_empty() {
            self.inner.give(batch).await;
        }
    }

    /// Turns to the disk, if there is something to do there and nobody is at it.
    fn begin_turn(&mut self, now: Instant) {
        if self.disk.retry_at.is_some_and(|at| at > now) {
            return;
        }
        let waited = self.disk.last_turn + COMMIT_EVERY <= now || self.end.ended_at.is_some();
        let full = self.disk.full_until.is_some_and(|until| until > now) && self.desk.deletes() == 0;
        let appends = !full && self.desk.unwritten() > 0 && (waited || self.desk.unwritten() >= COMMIT_AT);
        let deletes = self.desk.deletes() > 0 && (waited || self.desk.deletes() >= COMMIT_AT);
        let rows = self.inner.is_open() && self.hold.until.is_none() && self.desk.wants_rows();
        if !(appends || deletes || rows || self.desk.is_stuck()) {
            return;
        }
        let Some(mut store) = self.disk.store.take() else { return };
        let work = self.desk.begin_turn(appends);
        let at = self.context.clock.now();
        self.disk.turn = Some(tokio::task::spawn_blocking(move || {
            let outcome = store.work(&work, at);
            (store, work, outcome)
        }));
    }

    fn end_turn(&mut self, (store, work, outcome): Turned) {
        let now = Instant::now();
        self.disk.turn = None;
        self.disk.store = Some(store);
        self.disk.last_turn = now;
        match outcome {
            Ok(Outcome::Done(done)) => {
                self.works_again();
                let gone = Gone { delivered: work.deletes.len(), set_aside: work.set_aside.len() };
                let turned = self.desk.end_turn(work, done);
                self.disk.full_until = turned.full.then_some(now + FULL_PAUSE);
                let totals = self.desk.totals();
                self.context.counters.add_spooled(turned.spooled);
                self.context.counters.add_dropped(turned.dropped);
                self.gauge();
                self.tell.turned(turned, totals, gone, now);
            }
            Ok(Outcome::Renewed(renewal, totals)) => {
                self.desk.undo_turn(work);
                self.desk.renewed(totals);
                self.tell.renewed(&renewal);
                self.works_again();
            }
            Err(error) => {
                self.desk.undo_turn(work);
                self.desk.shrink();
                self.disk.retry_at = Some(now + self.disk.backoff.wait());
                // Somebody who reads is no trouble.
                if error.kind() != SpoolErrorKind::Busy {
                    self.tell.trouble(&error);
                }
            }
        }
    }

    /// How much is on the disk, for whoever looks at the run.
    fn gauge(&self) {
        let (totals, state) = (self.desk.totals(), self.context.counters.state());
        state.set_spool_items(totals.items as f64);
        state.set_spool_bytes(totals.bytes as f64);
        match totals.items {
            0 => state.over("spool"),
            _ => state.waits("spool", "items are in the spool, and not delivered"),
        }
    }

    fn works_again(&mut self) {
        self.disk.retry_at = None;
        self.disk.backoff.reset();
        self.tell.well();
    }

    fn heard(&mut self, news: News) {
        let News::Ended(error) = news else { return };
        // What it said before it ended still counts.
        let now = Instant::now();
        for (position, _) in self.inner.results.take().into_iter().filter(|(_, delivered)| *delivered) {
            self.delivered(position, now);
        }
        self.refusals.clear();
        self.refused_at = None;
        self.desk.take_back();
        if self.context.fail_fast && !self.worked {
            self.end.ended_at.get_or_insert(now);
            self.fatal = Some(error);
        } else {
            self.tell.sink_ended(&error);
        }
    }

    /// What is not delivered now goes to the disk, and stays there.
    fn time_is_over(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// A quarter of the grace is left for the disk.
    fn deadline(&self) -> Option<Instant> {
        let ended_at = self.end.ended_at?;
        Some(self.end.stopped_at.unwrap_or(ended_at) + self.context.grace * 3 / 4)
    }

    /// Until when the next delivery is waited for at the end.
    fn quiet_until(&self) -> Option<Instant> {
        let since = self.end.ended_at?.max(self.end.last_delivery);
        Some(since + (self.settings.after + END_QUIET).min(END_QUIET_MAX))
    }

    fn is_over(&self, now: Instant) -> bool {
        if self.end.ended_at.is_none() || !self.incoming.is_empty() || !self.desk.is_safe() {
            return false;
        }
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let gave_up = self.fatal.is_some() || over(self.deadline()) || over(self.quiet_until());
        // Rows that were delivered are not left for the next run, unless the disk does not let go of them.
        let clean = !self.desk.has_deletes() || self.disk.retry_at.is_some();
        !self.desk.is_turning() && (self.desk.is_empty() || (gave_up && clean))
    }

    /// When to look again though nothing has happened.
    fn due(&self, now: Instant) -> Option<Instant> {
        let memory = self.desk.oldest_in_memory().map(|since| since + self.settings.after);
        let idle = self.disk.turn.is_none();
        let commit = (idle && self.desk.unwritten() + self.desk.deletes() > 0).then(|| {
            let full = self.disk.full_until.filter(|_| self.desk.deletes() == 0);
            let next = self.disk.last_turn + COMMIT_EVERY;
            next.max(self.disk.retry_at.unwrap_or(next)).max(full.unwrap_or(next))
        });
        let later = |at: Option<Instant>| at.filter(|at| *at > now);
        let ends = later(self.deadline()).into_iter().chain(later(self.quiet_until())).min();
        let retry = later(self.disk.retry_at).filter(|_| idle);
        let reopen = self.inner.retry_at.filter(|_| self.fatal.is_none());
        let refusals = self.refused_at.map(|at| at + REFUSAL_WAIT);
        let dues = [memory, commit, refusals, self.replay_at, self.hold.until, reopen, ends, retry];
        dues.into_iter().flatten().min()
    }

    async fn close(mut self) -> Result<(), StageError> {
        if self.desk.is_empty() && self.inner.is_open() {
            // It has nothing left to do but to end.
            let until = Instant::now() + self.context.grace / 4;
            if let Ok(Some(error)) = timeout_at(until, self.inner.finish()).await {
                self.tell.sink_ended(&error);
            }
        }
        self.tell.ended(self.desk.totals());
        let store = self.disk.store.take();
        tokio::task::spawn_blocking(move || drop(store)).await.map_err(ended)?;
        match self.fatal {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

fn ended(error: JoinError) -> StageError {
    StageError::permanent("the spool's writing thread ended").caused_by(error)
}

/// How fast rows go to the sink.
struct Pace {
    per_second: f64,
    allowance: f64,
    at: Instant,
}

/// What was not used is kept for so long.
const PACE_KEPT: Duration = Duration::from_millis(100);

impl Pace {
    fn new(per_second: u32, now: Instant) -> Pace {
        Pace { per_second: f64::from(per_second), allowance: 0.0, at: now }
    }

    fn allowed(&mut self, now: Instant) -> usize {
        let most = (self.per_second * PACE_KEPT.as_secs_f64()).max(1.0);
        self.allowance = (self.allowance + self.per_second * (now - self.at).as_secs_f64()).min(most);
        self.at = now;
        self.allowance as usize
    }

    fn use_up(&mut self, count: usize) {
        self.allowance -= count as f64;
    }

    /// When the next may go.
    fn next(&self) -> Instant {
        let missing = (1.0 - self.allowance).max(0.0);
        // A timer may be early by less than its unit.
        self.at + Duration::from_secs_f64(missing / self.per_second).max(Duration::from_millis(1))
    }
}
