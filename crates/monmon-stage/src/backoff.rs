//! How long to wait before the next try.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Doubling waits with full jitter: each is drawn evenly from zero to a ceiling that doubles up to its maximum.
/// (The scheme is "full jitter" of M. Brooker, "Exponential Backoff And Jitter", 2015.)
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    ceiling: Duration,
    state: u64,
}

impl Backoff {
    pub const FIRST: Duration = Duration::from_millis(100);
    pub const MAX: Duration = Duration::from_secs(30);
    /// Longest wait of a run that is ending.
    pub const LAST: Duration = Duration::from_millis(500);

    /// `seed` sets the jitter apart between processes and stages.
    pub fn new(seed: u64) -> Backoff {
        Backoff::between(Backoff::FIRST, Backoff::MAX, seed)
    }

    pub fn between(first: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff { first, max, ceiling: first, state: seed | 1 }
    }

    /// The next wait; at least a tenth of the ceiling, so that a run of small draws is no busy loop.
    pub fn wait(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = (ceiling * 2).min(self.max);
        // xorshift64*: evenly spread bits are all that jitter asks for.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let drawn = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        let share = drawn as f64 / (1u64 << 53) as f64;
        ceiling.mul_f64(0.1 + 0.9 * share)
    }

    /// Waits before the next try.
    pub async fn pause(&mut self, stop: &CancellationToken) {
        Backoff::pause_for(self.wait(), stop).await;
    }

    /// Waits for so long. A run that is ending has no time for long waits: its beginning ends the wait at once, and from then
    /// on waits are short, so that a server that is back is met before the grace is over.
    pub async fn pause_for(wait: Duration, stop: &CancellationToken) {
        if stop.is_cancelled() {
            tokio::time::sleep(wait.min(Backoff::LAST)).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_run_ends_the_wait_and_keeps_the_next_ones_short() {
        let mut backoff = Backoff::between(Duration::from_secs(3600), Duration::from_secs(3600), 7);
        let stop = CancellationToken::new();
        let begun = tokio::time::Instant::now();
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        tokio::join!(backoff.pause(&stop), stopping);
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        backoff.pause(&stop).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(1) + Backoff::LAST);
    }

    #[test]
    fn waits_grow_to_the_maximum_and_start_over() {
        let mut backoff = Backoff::new(5);
        let mut ceiling = Backoff::FIRST;
        for _ in 0..20 {
            let wait = backoff.wait();
            assert!(wait <= ceiling && wait >= ceiling / 10, "{wait:?} of {ceiling:?}");
            ceiling = (ceiling * 2).min(Backoff::MAX);
        }
        backoff.reset();
        assert!(backoff.wait() <= Backoff::FIRST);
    }
}
