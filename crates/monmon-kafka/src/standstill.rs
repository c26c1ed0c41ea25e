//! Whether a client still tries to reach its cluster.
//!
//! A cluster whose brokers are all fenced, as after a pause that outlasted their session, says for a moment that it has
//! none. librdkafka then lets go of every broker that it knew, and may ask nobody again, for ever (seen with 2.12.1; its
//! issue 5301). Only a new client goes on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::statistics::{Broker, Statistics};
use tokio::time::Instant;

/// How long nothing may be tried. librdkafka pauses for two seconds between tries; where `reconnect.backoff.max.ms` is set
/// to more than this, a client is made anew without need, which costs little.
const REST_MAX: Duration = Duration::from_secs(20);

/// States in which a connection is neither there nor on its way.
const AT_REST: [&str; 3] = ["INIT", "DOWN", "TRY_CONNECT"];

#[derive(Debug, Default)]
pub(crate) struct Standstill(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Connections that were tried so far.
    tries: i64,
    /// Since when there is no connection, and nothing was tried.
    since: Option<Instant>,
}

impl Standstill {
    /// Looks at what librdkafka tells of its brokers. Gives whether it stands still for too long.
    pub(crate) fn look(&self, statistics: &Statistics) -> bool {
        let real = || statistics.brokers.values().filter(|broker| is_real(broker));
        let tries = real().filter_map(|broker| broker.connects).sum();
        let rests = real().all(|broker| AT_REST.contains(&broker.state.as_str()));
        let mut state = self.state();
        if !rests || tries > state.tries {
            state.since = None;
        } else {
            state.since.get_or_insert_with(Instant::now);
        }
        state.tries = tries;
        state.is_too_long()
    }

    pub(crate) fn is_too_long(&self) -> bool {
        self.state().is_too_long()
    }

    /// The next client begins from nothing.
    pub(crate) fn is_over(&self) {
        *self.state() = State::default();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Two numbers are whole at every moment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_too_long(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= REST_MAX)
    }
}

/// Logical brokers, such as a group's coordinator without an address, try without end what can't succeed.
fn is_real(broker: &Broker) -> bool {
    matches!(broker.source.as_str(), "learned" | "configured")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(brokers: &[(&str, &str, i64)]) -> Statistics {
        let brokers = brokers.iter().enumerate().map(|(number, (source, state, connects))| {
            let (source, state) = ((*source).to_owned(), (*state).to_owned());
            (number.to_string(), Broker { source, state, connects: Some(*connects), ..Broker::default() })
        });
        Statistics { brokers: brokers.collect(), ..Statistics::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_let_go_of_all_brokers_stands_still() {
        for left in
            [&[][..], &[("learned", "DOWN", 3)], &[("logical", "TRY_CONNECT", 9), ("internal", "UP", 0)]]
        {
            let standstill = Standstill::default();
            standstill.look(&told(&[("learned", "UP", 3)]));
            assert!(!standstill.look(&told(left)));
            tokio::time::advance(REST_MAX).await;
            assert!(standstill.look(&told(left)), "{left:?}");
            standstill.is_over();
            assert!(!standstill.look(&told(left)), "the next one is given time too");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_tries_does_not_stand_still() {
        let standstill = Standstill::default();
        for tries in 0..20 {
            tokio::time::advance(REST_MAX / 2).await;
            assert!(!standstill.look(&told(&[("learned", "DOWN", tries), ("configured", "INIT", 0)])));
        }
        for state in ["CONNECT", "SSL_HANDSHAKE", "APIVERSION_QUERY", "UP"] {
            tokio::time::advance(REST_MAX * 2).await;
            assert!(!standstill.look(&told(&[("learned", state, 19), ("configured", "INIT", 0)])), "{state}");
        }
    }
}
