//! Makes one measurement of every slot, whatever happens.

use std::collections::HashMap;
use std::sync::Arc;
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
use super::open::Ready;
use super::owed::{Owed, Told};
use crate::probe::{Probed, Prober};
use crate::schedule::{Due, Schedule};
use crate::timeline::{Shift, Timeline};

/// How often the wall clock is looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Most rows of what is owed that are told in one go, so that the next slot does not wait for them.
const TOLD_MAX: usize = 64;

type Landed = Result<(Id, (Timestamp, Probed)), JoinError>;

pub(crate) struct Producer {
    checks: Arc<[Ready]>,
    prober: Arc<Prober>,
    record: Arc<ProberRecord>,
    concurrency: usize,
    context: StageContext,
    book: Arc<Book>,
    handover: mpsc::Sender<Envelope>,
    room: Arc<Notify>,
    under_way: JoinSet<(Timestamp, Probed)>,
    slots: HashMap<Id, (u32, i64)>,
    owed: Owed,
    seq: u64,
    overloaded: bool,
    shortage: Shortage,
}

impl Producer {
    pub(crate) fn new(
        checks: Vec<Ready>,
        prober: Prober,
        concurrency: usize,
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
        Producer {
            owed: Owed::new(checks.len()),
            checks: checks.into(),
            prober: Arc::new(prober),
            record: Arc::new(record),
            concurrency,
            context: context.clone(),
            book,
            handover,
            room,
            under_way: JoinSet::new(),
            slots: HashMap::new(),
            seq: 0,
            overloaded: false,
            shortage: Shortage::default(),
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
        let mut line = Timeline::new(start, self.context.clock.now());
        let cadences = self.checks.iter().map(|ready| ready.cadence).collect();
        let mut schedule = Schedule::new(cadences, line.at(start));
        let mut watch_at = start + WATCH_EVERY;
        let timer = sleep_until(start);
        tokio::pin!(timer);
        let stop = self.context.stop.clone();
        let room = Arc::clone(&self.room);
        let handover = self.handover.clone();
        let mut due = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = handover.closed() => return,
                () = &mut timer => {
                    let now = Instant::now();
                    if now >= watch_at {
                        self.watch(&mut line, now);
                        watch_at = now + WATCH_EVERY;
                    }
                    schedule.take(line.at(now), &mut due);
                    for due in due.drain(..) {
                        self.take(due);
                    }
                    self.settle();
                    let next = schedule.next_due().map_or(watch_at, |slot| line.instant(slot).min(watch_at));
                    timer.as_mut().reset(next);
                }
                Some(landed) = self.under_way.join_next_with_id() => {
                    self.land(landed);
                    self.settle();
                }
                () = room.notified() => self.settle(),
            }
        }
    }

    /// Each check once, now. The instant of the start stands for the slot: it is on no schedule, so that these
    /// measurements have ids of their own and are never taken for those of a slot.
    async fn once(&mut self) {
        let slot = self.context.clock.now().as_microsecond();
        let stop = self.context.stop.clone();
        let room = Arc::clone(&self.room);
        let handover = self.handover.clone();
        let mut next = 0u32;
        let count = u32::try_from(self.checks.len()).unwrap_or(u32::MAX);
        while next < count || !self.under_way.is_empty() {
            while next < count && self.has_room() {
                self.start(next, slot);
                next += 1;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = handover.closed() => return,
                Some(landed) = self.under_way.join_next_with_id() => self.land(landed),
                () = room.notified() => {}
            }
        }
        for check in next..count {
            self.owe(check, slot, 1, FailureKind::Shutdown);
        }
    }

    fn watch(&mut self, line: &mut Timeline, now: Instant) {
        let stage = &self.context.stage;
        self.shortage.tell(stage, now);
        match line.watch(now, self.context.clock.now()) {
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
            Due::Start { check, slot } if self.has_room() => self.start(check, slot),
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
        self.under_way.len() < self.concurrency && self.handover.capacity() > self.under_way.len()
    }

    fn owe(&mut self, check: u32, first: i64, count: u64, kind: FailureKind) {
        let interval = self.checks[check as usize].cadence.interval_us();
        self.owed.add(check, first, count, interval, kind);
    }

    fn start(&mut self, check: u32, slot: i64) {
        let checks = Arc::clone(&self.checks);
        let prober = Arc::clone(&self.prober);
        let clock: Arc<dyn Clock> = Arc::clone(&self.context.clock);
        let task = self.under_way.spawn(async move {
            let started_at = clock.now();
            (started_at, prober.probe(&checks[check as usize].target).await)
        });
        self.slots.insert(task.id(), (check, slot));
    }

    /// A check has come to its end, in whatever way.
    fn land(&mut self, landed: Landed) {
        let id = match &landed {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some((check, slot)) = self.slots.remove(&id) else { return };
        match landed {
            Ok((_, (started_at, probed))) => {
                let mut measurement = self.blank(check, slot);
                measurement.started_at = Timestamp::from_microsecond(started_at.as_microsecond()).ok();
                let checks = Arc::clone(&self.checks);
                let page = probed.write(&checks[check as usize].target, &mut measurement);
                if measurement.failed_with(FailureKind::FdExhausted) {
                    self.shortage.note();
                    self.shortage.tell(&self.context.stage, Instant::now());
                }
                self.hand_over(measurement, page);
            }
            Err(error) => {
                let kind = if error.is_cancelled() { FailureKind::Shutdown } else { FailureKind::Internal };
                self.tell(check, Told::alone(slot, kind));
            }
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
        let relaxed = self.under_way.len() * 2 <= self.concurrency
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
        let mut measurement = self.blank(check, told.slot);
        let interval = self.checks[check as usize].cadence.interval_us();
        measurement.fail(Failure::new(told.kind, Phase::Start, told.message(interval)));
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

    fn blank(&mut self, check: u32, slot: i64) -> Measurement {
        self.seq += 1;
        let check = Arc::clone(&self.checks[check as usize].check);
        let scheduled_at = Timestamp::from_microsecond(slot).unwrap_or(Timestamp::UNIX_EPOCH);
        Measurement {
            id: measurement_id(self.record.id, check.id, scheduled_at, 1),
            seq: self.seq,
            attempt: 1,
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
        if untold > 0 {
            self.context.counters.add_received(untold);
            self.context.counters.add_failed(untold);
            tracing::error!(stage = %self.context.stage, untold, "slots without a measurement at the end");
        }
    }
}
