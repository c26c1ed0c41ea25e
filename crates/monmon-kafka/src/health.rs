//! What a cluster says about itself, as changes of state: each trouble is told once, and once that it is over.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use monmon_stage::{StageContext, StageCounters, StageError};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::Instant;
use tracing::{debug, info, trace, warn};

use crate::cause::lasting;
pub(crate) use crate::cause::{Cause, Security};
use crate::standstill::Standstill;

/// How long a cluster may be on the move before it is told.
const PASSING_FOR: Duration = Duration::from_secs(10);

/// The state of one stage's connection to its cluster; also the context that librdkafka reports to.
pub(crate) struct Health {
    pipeline: Arc<str>,
    stage: Arc<str>,
    topic: String,
    security: Security,
    /// Where what is told is seen from outside.
    counters: Arc<StageCounters>,
    /// The topic is another one under the old name, and nobody has taken note of it.
    made_anew: AtomicBool,
    pub(crate) standstill: Standstill,
    /// Whether `state` has any trouble, told or not: looked at for every message.
    ill: AtomicBool,
    /// A broker has answered since the start.
    connected: AtomicBool,
    /// Something has worked since the start.
    established: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// The first contact goes on: what may still turn out otherwise is not told.
    starting: bool,
    told: BTreeSet<Cause>,
    /// Since when the cluster has been on the move.
    moving_since: Option<Instant>,
    /// What would have been told.
    untold: Option<(Cause, String)>,
    /// The first trouble that ends a start: what follows from it comes later.
    fault: Option<(Cause, String)>,
    /// Why a single broker could not be reached.
    reason: String,
    /// A connection ended as between two protocols.
    suspect: bool,
}

impl Health {
    pub(crate) fn new(context: &StageContext, topic: &str, security: Security) -> Health {
        Health {
            pipeline: context.pipeline.clone(),
            stage: context.stage.clone(),
            topic: topic.to_owned(),
            security,
            counters: context.counters.clone(),
            made_anew: AtomicBool::new(false),
            standstill: Standstill::default(),
            ill: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            established: AtomicBool::new(false),
            state: Mutex::new(State {
                starting: true,
                told: BTreeSet::new(),
                moving_since: None,
                untold: None,
                fault: None,
                reason: String::new(),
                suspect: false,
            }),
        }
    }

    pub(crate) fn security(&self) -> Security {
        self.security
    }

    /// A trouble that ends a stage which has never worked; else as [`Health::waits`].
    pub(crate) fn trouble(&self, cause: Cause, reason: &str) {
        let connected = self.connected.load(Ordering::Relaxed);
        let ends = !self.is_established() && cause.ends_a_start() && !(cause.is_of_connection() && connected);
        if ends {
            self.state().fault.get_or_insert_with(|| (cause, lasting(reason)));
        } else {
            self.waits(cause, reason);
        }
    }

    /// What the cluster has answered to a question or a commit. While it moves its leaders it is given a moment.
    pub(crate) fn refused(&self, code: RDKafkaErrorCode, reason: &str) {
        if Cause::is_passing(code) && !self.moves_for_long() {
            debug!(pipeline = %self.pipeline, stage = %self.stage, topic = %self.topic, reason, "not at the moment");
        } else {
            self.trouble(Cause::of(code), reason);
        }
    }

    fn moves_for_long(&self) -> bool {
        self.ill.store(true, Ordering::Relaxed);
        self.state().moving_since.get_or_insert_with(Instant::now).elapsed() >= PASSING_FOR
    }

    /// Tells of a trouble that is waited out, unless it was told since all was well.
    pub(crate) fn waits(&self, cause: Cause, reason: &str) {
        let mut state = self.state();
        // A broker that refuses us counts as down for librdkafka, which is no news.
        let refused = state.fault.is_some() || state.told.iter().any(|told| told.is_of_connection());
        if cause == Cause::Unreachable && refused {
            return;
        }
        let reason = lasting(reason);
        if state.starting {
            state.untold.get_or_insert((cause, reason));
        } else if state.told.insert(cause) {
            self.ill.store(true, Ordering::Relaxed);
            self.counters.state().waits(cause.as_str(), cause.told(self.security));
            warn!(pipeline = %self.pipeline, stage = %self.stage, topic = %self.topic, reason, "{}; waiting",
                cause.told(self.security));
        }
    }

    /// The first contact has lasted long enough to tell what it has met.
    pub(crate) fn tell(&self) {
        let mut state = self.state();
        state.starting = false;
        let untold = state.untold.take();
        drop(state);
        if let Some((cause, reason)) = untold {
            self.waits(cause, &reason);
        }
    }

    /// A broker has answered.
    pub(crate) fn connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
        self.state().untold = None;
    }

    /// Something worked.
    pub(crate) fn well(&self) {
        if !self.established.load(Ordering::Relaxed) {
            self.established.store(true, Ordering::Relaxed);
        }
        if self.ill.load(Ordering::Relaxed) {
            self.recover();
        }
    }

    fn recover(&self) {
        let mut state = self.state();
        self.ill.store(false, Ordering::Relaxed);
        state.reason.clear();
        state.moving_since = None;
        if !state.told.is_empty() {
            for cause in std::mem::take(&mut state.told) {
                self.counters.state().over(cause.as_str());
            }
            info!(pipeline = %self.pipeline, stage = %self.stage, topic = %self.topic, "kafka works again");
        }
    }

    /// Whether the brokers do not let us in, as far as it was told. One that does not take a certificate may just end the
    /// connection, as one does that is not well.
    pub(crate) fn is_refused(&self) -> bool {
        let refuses = |told: &Cause| told.is_of_connection() || *told == Cause::Unreachable;
        self.ill.load(Ordering::Relaxed) && self.state().told.iter().any(refuses)
    }

    fn is_established(&self) -> bool {
        self.established.load(Ordering::Relaxed)
    }

    /// The trouble that ends a start, as the stage's error; nothing once the stage has worked.
    pub(crate) fn fault(&self) -> Option<StageError> {
        if self.is_established() {
            return None;
        }
        let (cause, reason) = self.state().fault.clone()?;
        let error = StageError::permanent(cause.told(self.security)).help(cause.help(self.security));
        Some(if reason.is_empty() { error } else { error.caused_by(reason) })
    }

    /// A trouble as an error, for those who do not want to wait.
    pub(crate) fn error(&self, cause: Cause) -> StageError {
        let message = match cause {
            Cause::TopicMissing => format!("the topic `{}` does not exist", self.topic),
            other => other.told(self.security).to_owned(),
        };
        let error = StageError::transient(message).help(cause.help(self.security));
        match self.reason() {
            Some(reason) => error.caused_by(reason),
            None => error,
        }
    }

    /// Why a broker could not be reached, as far as it was told.
    pub(crate) fn reason(&self) -> Option<String> {
        Some(self.state().reason.clone()).filter(|reason| !reason.is_empty())
    }

    /// Whether a connection has ended as between two protocols since this was last asked.
    pub(crate) fn take_suspicion(&self) -> bool {
        std::mem::take(&mut self.state().suspect)
    }

    /// Whether the topic has become another one under its name since this was last asked.
    pub(crate) fn take_made_anew(&self) -> bool {
        self.made_anew.load(Ordering::Relaxed) && self.made_anew.swap(false, Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole at every moment; a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    /// One of librdkafka's own reports about the connection as a whole.
    pub(crate) fn report(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        match code {
            // A single connection that ends is everyday life; all of them gone is trouble.
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut => self.connection_failed(reason),
            RDKafkaErrorCode::AllBrokersDown => {
                let reason = self.reason().unwrap_or_else(|| reason.to_owned());
                self.trouble(Cause::Unreachable, &reason);
            }
            RDKafkaErrorCode::Authentication => self.trouble(Cause::Login, reason),
            RDKafkaErrorCode::SSL => {
                let cause = Cause::of_connection(reason, self.security).unwrap_or(Cause::Tls);
                self.trouble(cause, reason);
            }
            // What concerns the topic or the group also comes with a message or a poll, and is judged there.
            _ => {
                debug!(pipeline = %self.pipeline, stage = %self.stage, %error, reason, "reported by librdkafka")
            }
        }
    }

    /// What a single connection has failed of.
    fn connection_failed(&self, words: &str) {
        match Cause::of_connection(words, self.security) {
            Some(cause) => self.trouble(cause, words),
            None => {
                let mut state = self.state();
                state.suspect |= Cause::may_be_another_protocol(words, self.security);
                state.reason = lasting(words);
            }
        }
    }

    /// librdkafka repeats itself with every try; what matters comes as an error too, except that a broker has closed a
    /// connection.
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" && message.contains("Disconnected") {
            // The thread's name stands in front of the broker's.
            self.connection_failed(message.split_once("]: ").map_or(message, |(_, words)| words));
        }
        if facility == "METADATA" && is_another_topic(message, &self.topic) {
            self.made_anew.store(true, Ordering::Relaxed);
        }
        match level {
            RDKafkaLogLevel::Debug => {
                trace!(pipeline = %self.pipeline, stage = %self.stage, facility, message, "librdkafka");
            }
            _ => {
                debug!(pipeline = %self.pipeline, stage = %self.stage, ?level, facility, message, "librdkafka");
            }
        }
    }
}

/// The id that a topic has for librdkafka before it knows it.
const NO_TOPIC_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// librdkafka's word that a name stands for another topic than before. It goes on reading where it was in the old one.
fn is_another_topic(message: &str, topic: &str) -> bool {
    let Some((front, ids)) = message.split_once(" changed id from ") else { return false };
    front.ends_with(&format!("Topic {topic}")) && !ids.starts_with(NO_TOPIC_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_topic_is_told_from_one_that_becomes_known() {
        let thread = "[thrd:main]: ";
        for (message, is) in [
            ("Topic t changed id from 1b-3fhB0QQiQz0JnnVBhxw to u5XyXfkHR1mIx0qXx3bEnQ", true),
            ("Topic t changed id from AAAAAAAAAAAAAAAAAAAAAA to u5XyXfkHR1mIx0qXx3bEnQ", false),
            ("Topic other.t changed id from 1b-3fhB0QQiQz0JnnVBhxw to u5XyXfkHR1mIx0qXx3bEnQ", false),
            ("Topic t partition count changed from 1 to 2", false),
        ] {
            assert_eq!(is_another_topic(message, "t"), is, "{message}");
            assert_eq!(is_another_topic(&format!("{thread}{message}"), "t"), is, "{message}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_on_the_move_is_told_only_when_it_lasts() {
        let context = monmon_testkit::stages::stage_context("events");
        let health = Health::new(&context, "topic", Security::default());
        health.tell();
        let told = || health.state().told.clone();
        let ask = || health.refused(RDKafkaErrorCode::NotCoordinator, "not the coordinator");

        ask();
        tokio::time::advance(PASSING_FOR / 2).await;
        ask();
        assert!(told().is_empty());
        health.well();
        tokio::time::advance(PASSING_FOR).await;
        ask();
        assert!(told().is_empty(), "it worked in between");
        tokio::time::advance(PASSING_FOR).await;
        ask();
        assert_eq!(told().into_iter().collect::<Vec<_>>(), [Cause::Unwilling]);
    }
}
