//! How long to wait before the next try.

use std::time::Duration;

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

    /// After a success.
    pub fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
