//! What a cluster says about itself, as changes of state: each trouble is told once, and once that it is over.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use monmon_stage::{StageContext, StageError};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::{debug, info, warn};

/// What is wrong between us and the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    Unreachable,
    Login,
    Tls,
    TopicMissing,
    NotAllowed,
    /// The group cannot be joined as it is configured.
    Group,
    /// The cluster takes no records or commits at the moment.
    Unwilling,
}

impl Cause {
    pub(crate) fn of(code: RDKafkaErrorCode) -> Cause {
        use RDKafkaErrorCode as Code;
        match code {
            Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue => Cause::Unreachable,
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState => Cause::Login,
            Code::SSL => Cause::Tls,
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                Cause::TopicMissing
            }
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed => Cause::NotAllowed,
            Code::InvalidGroupId
            | Code::InconsistentGroupProtocol
            | Code::InvalidSessionTimeout
            | Code::GroupMaxSizeReached
            | Code::FencedInstanceId => Cause::Group,
            _ => Cause::Unwilling,
        }
    }

    /// Whether waiting is of no use when this is met before anything ever worked.
    pub(crate) fn ends_a_start(self) -> bool {
        matches!(self, Cause::Login | Cause::Tls | Cause::NotAllowed | Cause::Group)
    }

    fn told(self) -> &'static str {
        match self {
            Cause::Unreachable => "no kafka broker can be reached",
            Cause::Login => "the kafka broker refuses the login",
            Cause::Tls => "no TLS connection to the kafka broker can be made",
            Cause::TopicMissing => "the topic does not exist",
            Cause::NotAllowed => "the kafka broker does not allow it",
            Cause::Group => "the consumer group cannot be joined",
            Cause::Unwilling => "kafka cannot do it at the moment",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Cause::Unreachable => {
                "check `brokers`, and that the port is the one for this protocol (`tls`, `sasl`)"
            }
            Cause::Login => "check `sasl`: mechanism, user and password",
            Cause::Tls => {
                "check `tls`: the authority (`ca`), the client's `cert` and `key`, and the broker's name"
            }
            Cause::TopicMissing => {
                "make it, with the partitions and replicas it is to have; monmon makes no topics"
            }
            Cause::NotAllowed => "grant the user access to topic and group",
            Cause::Group => {
                "check `group`, `assignment` and `session-timeout`; all members need the same assignment"
            }
            Cause::Unwilling => "see the broker's own log",
        }
    }
}

/// The state of one stage's connection to its cluster; also the context that librdkafka reports to.
pub(crate) struct Health {
    pipeline: Arc<str>,
    stage: Arc<str>,
    topic: String,
    /// Whether `state` has any trouble: looked at for every message.
    ill: AtomicBool,
    /// Something has worked since the start.
    established: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    told: BTreeSet<Cause>,
    /// The latest trouble that ends a start.
    fault: Option<(Cause, String)>,
    /// Why a single broker could not be reached.
    reason: String,
}

impl Health {
    pub(crate) fn new(context: &StageContext, topic: &str) -> Health {
        Health {
            pipeline: context.pipeline.clone(),
            stage: context.stage.clone(),
            topic: topic.to_owned(),
            ill: AtomicBool::new(false),
            established: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Tells of a trouble, unless it was told since all was well.
    pub(crate) fn trouble(&self, cause: Cause, reason: &str) {
        let mut state = self.state();
        if cause.ends_a_start() {
            state.fault = Some((cause, reason.to_owned()));
        }
        if !state.told.insert(cause) {
            return;
        }
        self.ill.store(true, Ordering::Relaxed);
        warn!(pipeline = %self.pipeline, stage = %self.stage, topic = %self.topic, reason, "{}; waiting", cause.told());
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
        if !state.told.is_empty() {
            *state = State::default();
            info!(pipeline = %self.pipeline, stage = %self.stage, topic = %self.topic, "kafka works again");
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.established.load(Ordering::Relaxed)
    }

    /// The trouble that ends a start, as the stage's error; nothing once the stage has worked.
    pub(crate) fn fault(&self) -> Option<StageError> {
        if self.is_established() {
            return None;
        }
        let (cause, reason) = self.state().fault.clone()?;
        Some(StageError::permanent(cause.told()).caused_by(reason).help(cause.help()))
    }

    /// A trouble as an error, for those who do not want to wait.
    pub(crate) fn error(&self, cause: Cause) -> StageError {
        let message = match cause {
            Cause::TopicMissing => format!("the topic `{}` does not exist", self.topic),
            other => other.told().to_owned(),
        };
        let error = StageError::transient(message).help(cause.help());
        match self.reason() {
            Some(reason) => error.caused_by(reason),
            None => error,
        }
    }

    /// Why a broker could not be reached, as far as it was told.
    pub(crate) fn reason(&self) -> Option<String> {
        Some(self.state().reason.clone()).filter(|reason| !reason.is_empty())
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
            // The broker's word against our certificate, or against having none, comes after the handshake of TLS 1.3.
            RDKafkaErrorCode::BrokerTransportFailure if reason.contains("tls alert") => {
                self.trouble(Cause::Tls, reason);
            }
            // A single connection that ends is everyday life; all of them gone is trouble.
            RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut => self.state().reason = reason.to_owned(),
            RDKafkaErrorCode::AllBrokersDown => {
                let reason = self.reason().unwrap_or_else(|| reason.to_owned());
                self.trouble(Cause::Unreachable, &reason);
            }
            RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL => self.trouble(Cause::of(code), reason),
            // What concerns the topic or the group also comes with a message or a poll, and is judged there.
            _ => {
                debug!(pipeline = %self.pipeline, stage = %self.stage, %error, reason, "reported by librdkafka")
            }
        }
    }

    /// librdkafka repeats itself with every try; what matters comes as an error too.
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        debug!(pipeline = %self.pipeline, stage = %self.stage, ?level, facility, message, "librdkafka");
    }
}

/// For clients that only ask questions.
impl ClientContext for Health {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Health::log(self, level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.report(&error, reason);
    }
}
