//! What is said of slots: measurements, rows of what is owed, receipts; and the last of them at the end.

use std::sync::Arc;

use jiff::Timestamp;
use monmon_model::{Failure, FailureKind, Measurement, Outcome, Phase, Timings, measurement_id};
use monmon_stage::{Envelope, Mode, Page};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, timeout_at};

use super::Producer;
use crate::schedule::Cadence;
use crate::source::owed::Told;

/// Most rows of what is owed that are told in one go, so that the next slot does not wait for them.
const TOLD_MAX: usize = 64;
/// How long the last receipt waits for what is under way, at most, and as a share of the grace.
const LAST_WAIT: Duration = Duration::from_secs(3);
const LAST_SHARE: u32 = 8;

impl Producer {
    pub(super) fn owe(&mut self, check: u32, first: i64, count: u64, kind: FailureKind) {
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

    /// Tells some of what is owed. There is more to it as long as there is room: what is told comes to the pump, and the
    /// pump wakes us again.
    pub(super) fn settle(&mut self) {
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

    pub(super) fn tell(&mut self, check: u32, told: Told) {
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

    /// Marks what lies in a window of maintenance.
    pub(super) fn mark(&self, check: u32, slot: i64, measurement: &mut Measurement) {
        if let Some(window) = self.checks[check as usize].maintenance(slot) {
            measurement.details_mut().maintenance = Some(window.to_owned());
        }
    }

    /// Room is there by `has_room` and `settle`; only when the stages behind are gone is there nobody to tell.
    pub(super) fn hand_over(&mut self, measurement: Measurement, page: Option<Page>) {
        let ack = self.book.ack(measurement.seq);
        self.context.counters.add_received(1);
        if let Err(mpsc::error::TrySendError::Full(envelope)) =
            self.handover.try_send(Envelope::measurement(measurement, page, ack))
        {
            tracing::error!(stage = %self.context.stage, "a measurement found no room in the hand-over");
            envelope.ack.fail();
        }
    }

    pub(super) fn blank(&mut self, check: u32, slot: i64, attempt: u32) -> Measurement {
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

    pub(super) fn cut_receipt(&mut self) {
        self.receipts.cut(self.seq, self.numbered_until());
        self.book.cut(self.seq);
    }

    /// Gives the receipts of what was delivered by now.
    pub(super) fn give_receipts(&mut self) {
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

    /// After the stop: what is under way may finish for half of the grace, the rest is told as unknown.
    pub(super) async fn end(mut self) {
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
