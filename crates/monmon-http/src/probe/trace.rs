//! Where the time goes. Phases follow one another without a gap, so they add up to the total exactly.

use std::time::Duration;

use monmon_model::{Phase, Timings};
use tokio::time::Instant;

/// The clock of one check. All marks are whole microseconds since its start, so sums of differences lose nothing.
#[derive(Debug)]
pub(crate) struct Trace {
    start: Instant,
    phase: Phase,
    marked_us: u64,
    hop: Timings,
    total: Timings,
    /// Since the last step.
    step: Timings,
}

impl Trace {
    pub(crate) fn new(start: Instant) -> Trace {
        Trace {
            start,
            phase: Phase::Start,
            marked_us: 0,
            hop: Timings::default(),
            total: Timings::default(),
            step: Timings::default(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The phase before ends here. What came before the first phase counts as part of it.
    pub(crate) fn enter(&mut self, phase: Phase) {
        if self.phase != Phase::Start {
            self.mark(Instant::now());
        }
        self.phase = phase;
    }

    /// One request of the chain has its answer; the next begins at the same instant.
    pub(crate) fn end_hop(&mut self) -> Timings {
        self.mark(Instant::now());
        self.phase = Phase::Start;
        let hop = std::mem::take(&mut self.hop);
        self.total.add(&hop);
        self.step.add(&hop);
        hop
    }

    /// What the requests since the last step's end took so far, with the one that is under way.
    pub(crate) fn so_far(&mut self) -> Duration {
        let open = if self.phase == Phase::Start {
            0
        } else {
            self.mark(Instant::now());
            self.hop.total_us
        };
        Duration::from_micros(self.step.total_us + open)
    }

    /// What passed since the last step's end; the request that is under way ends here.
    pub(crate) fn end_step(&mut self) -> Timings {
        if self.phase != Phase::Start {
            self.end_hop();
        }
        std::mem::take(&mut self.step)
    }

    /// The whole check, whatever phase it ended in.
    pub(crate) fn finish(mut self) -> Timings {
        if self.phase == Phase::Start {
            return self.total;
        }
        self.end_hop();
        self.total
    }

    fn mark(&mut self, now: Instant) {
        let now_us = now.saturating_duration_since(self.start).as_micros() as u64;
        let spent = now_us.saturating_sub(self.marked_us);
        self.marked_us = now_us;
        let slot = match self.phase {
            Phase::Start => return,
            Phase::Dns => &mut self.hop.dns_us,
            Phase::Connect => &mut self.hop.connect_us,
            Phase::Tls => &mut self.hop.tls_us,
            Phase::Wait => &mut self.hop.wait_us,
            Phase::Transfer => &mut self.hop.transfer_us,
        };
        *slot = Some(slot.unwrap_or(0) + spent);
        self.hop.total_us += spent;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever phases follow one another, however long each, and wherever it ends.
        #[test]
        fn phases_add_up(steps in prop::collection::vec((0usize..6, 0u64..3_000_000), 0..40)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let start = Instant::now();
                let mut trace = Trace::new(start);
                let mut hops = Timings::default();
                for (phase, nanos) in steps {
                    match Phase::ALL[phase] {
                        Phase::Start => hops.add(&trace.end_hop()),
                        phase => trace.enter(phase),
                    }
                    tokio::time::advance(Duration::from_nanos(nanos)).await;
                }
                let ended_open = trace.phase() != Phase::Start;
                let total = trace.finish();
                let sum: u64 = total.phases().into_iter().flatten().sum();
                prop_assert_eq!(sum, total.total_us);
                prop_assert!(total.total_us <= start.elapsed().as_micros() as u64);
                if ended_open {
                    prop_assert!(hops.total_us <= total.total_us);
                }
                Ok(())
            })?;
        }
    }
}
