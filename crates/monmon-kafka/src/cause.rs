//! What can be wrong between us and a cluster, in the user's words, and how librdkafka's words are read.

use rdkafka::error::RDKafkaErrorCode;

use crate::spec::Connection;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    Unreachable,
    Login,
    /// The broker's certificate is not one that we trust.
    BrokerCertificate,
    /// The broker wants a certificate of us, or another one.
    ClientCertificate,
    /// The port speaks TLS and we do not.
    TlsWanted,
    /// We speak TLS and the port does not.
    TlsUnwanted,
    Tls,
    TopicMissing,
    NotAllowed,
    /// The group cannot be joined as it is configured.
    Group,
    /// The cluster takes no records or commits at the moment.
    Unwilling,
}

/// How we talk to the brokers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Security {
    pub(crate) tls: bool,
    pub(crate) ca: bool,
    pub(crate) certificate: bool,
    pub(crate) sasl: bool,
}

impl Security {
    pub(crate) fn of(connection: &Connection) -> Security {
        let tls = connection.tls.as_ref();
        Security {
            tls: tls.is_some(),
            ca: tls.is_some_and(|tls| tls.ca.is_some()),
            certificate: tls.is_some_and(|tls| tls.cert.is_some()),
            sasl: connection.sasl.is_some(),
        }
    }
}

/// Parts of TLS alerts by which a broker speaks of our certificate, or of having none.
const CERTIFICATE_ALERTS: &[&str] = &["certificate", "unknown ca", "access denied"];

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

    /// Whether a cluster says it of itself while it starts, makes its offsets topic or moves a leader: a moment later it
    /// works.
    pub(crate) fn is_passing(code: RDKafkaErrorCode) -> bool {
        use RDKafkaErrorCode as Code;
        matches!(
            code,
            Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    }

    /// What a failed connection's own words say for certain. A mere end of the connection says nothing.
    pub(crate) fn of_connection(words: &str, security: Security) -> Option<Cause> {
        if words.contains("certificate verify failed") {
            return Some(Cause::BrokerCertificate);
        }
        // The broker's word on our certificate comes after the handshake of TLS 1.3, as a failure to read.
        if let Some((_, alert)) = words.split_once(" alert ") {
            // Before TLS 1.3, having no certificate is only a handshake that fails.
            let missing = alert.starts_with("handshake failure") && !security.certificate;
            let certificate = CERTIFICATE_ALERTS.iter().any(|part| alert.contains(part));
            return Some(if missing || certificate { Cause::ClientCertificate } else { Cause::Tls });
        }
        if words.contains("wrong version number") {
            return Some(Cause::TlsUnwanted);
        }
        None
    }

    /// Whether the words are those of a connection that ends where two protocols meet. So it also does when something
    /// between us and a broker that is down takes connections.
    pub(crate) fn may_be_another_protocol(words: &str, security: Security) -> bool {
        let state = if security.tls { "in state SSL_HANDSHAKE" } else { "in state APIVERSION_QUERY" };
        words.contains("Disconnected") && words.contains(state)
    }

    /// Whether it concerns the connection itself, whatever is asked through it.
    pub(crate) fn is_of_connection(self) -> bool {
        matches!(
            self,
            Cause::Login
                | Cause::BrokerCertificate
                | Cause::ClientCertificate
                | Cause::TlsWanted
                | Cause::TlsUnwanted
                | Cause::Tls
        )
    }

    /// Whether waiting is of no use when this is met before anything ever worked.
    pub(crate) fn ends_a_start(self) -> bool {
        self.is_of_connection() || matches!(self, Cause::NotAllowed | Cause::Group)
    }

    /// The label that metrics and the state of health have for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Cause::Unreachable => "kafka_unreachable",
            Cause::Login => "kafka_login",
            Cause::BrokerCertificate => "kafka_broker_certificate",
            Cause::ClientCertificate => "kafka_client_certificate",
            Cause::TlsWanted => "kafka_tls_wanted",
            Cause::TlsUnwanted => "kafka_tls_unwanted",
            Cause::Tls => "kafka_tls",
            Cause::TopicMissing => "kafka_topic_missing",
            Cause::NotAllowed => "kafka_not_allowed",
            Cause::Group => "kafka_group",
            Cause::Unwilling => "kafka_unwilling",
        }
    }

    pub(crate) fn told(self, security: Security) -> &'static str {
        match self {
            Cause::Unreachable => "no kafka broker can be reached",
            Cause::Login => "the kafka broker refuses the login",
            Cause::BrokerCertificate => "the kafka broker's certificate cannot be verified",
            Cause::ClientCertificate if security.certificate => {
                "the kafka broker does not take the client's certificate"
            }
            Cause::ClientCertificate => "the kafka broker wants a client certificate",
            Cause::TlsWanted => "the kafka broker's port speaks TLS, and `tls` is not given",
            Cause::TlsUnwanted => "the kafka broker's port does not speak TLS, and `tls` is given",
            Cause::Tls => "no TLS connection to the kafka broker can be made",
            Cause::TopicMissing => "the topic does not exist",
            Cause::NotAllowed => "the kafka broker does not allow it",
            Cause::Group => "the consumer group cannot be joined",
            Cause::Unwilling => "kafka cannot do it at the moment",
        }
    }

    pub(crate) fn help(self, security: Security) -> &'static str {
        match self {
            Cause::Unreachable => {
                "check `brokers`, and that the port is the one for this protocol (`tls`, `sasl`)"
            }
            Cause::Login => "check `sasl`: mechanism, user and password, and that the port is one for logins",
            Cause::BrokerCertificate if security.ca => {
                "check that the authority `ca=` has signed the broker's certificate, and that `brokers` names the broker as its certificate does"
            }
            Cause::BrokerCertificate => {
                "name the authority that has signed it: tls ca=\"ca.pem\"; the system's authorities have not"
            }
            Cause::ClientCertificate if security.certificate => {
                "check `cert=`: an authority that the broker trusts must have signed it, and it must not be out of date"
            }
            Cause::ClientCertificate if security.sasl => {
                "give `tls` a `cert=` and its `key=`, or use the broker's port for logins"
            }
            Cause::ClientCertificate => "give `tls` a `cert=` and its `key=`",
            Cause::TlsWanted => "give `tls`, or use the broker's port for plaintext",
            Cause::TlsUnwanted => "leave `tls` out, or use the broker's port for TLS",
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

/// librdkafka's words without what differs from one try to the next, nor its advice on options that are not ours.
pub(crate) fn lasting(words: &str) -> String {
    let words = words.rsplit_once(" (after ").map_or(words, |(lasting, _)| lasting);
    let words = words.split_once(": broker certificate could not be").map_or(words, |(lasting, _)| lasting);
    without_line(words.trim_end_matches([':', ' '])).replacen(": SSL handshake failed: error:", ": error:", 1)
}

/// Without the line of OpenSSL's own source that found it, which librdkafka puts in front while it logs more.
fn without_line(words: &str) -> String {
    if let Some((front, error)) = words.split_once(" error:")
        && let Some((front, line)) = front.rsplit_once(' ')
        && line.contains(".c:")
    {
        return format!("{front} error:{error}");
    }
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Security = Security { tls: true, ca: true, certificate: false, sasl: false };
    const KNOWN: Security = Security { certificate: true, ..BARE };

    #[test]
    fn alerts_are_told_apart() {
        let read = |words: &str| (Cause::of_connection(words, BARE), Cause::of_connection(words, KNOWN));
        let both = |cause: Cause| (Some(cause), Some(cause));
        for (words, causes) in [
            (
                "SSL routines::ssl/tls alert bad certificate: SSL alert number 42",
                both(Cause::ClientCertificate),
            ),
            ("SSL routines::tlsv13 alert certificate required", both(Cause::ClientCertificate)),
            ("SSL routines::tlsv1 alert unknown ca: SSL alert number 48", both(Cause::ClientCertificate)),
            (
                "SSL routines::ssl/tls alert handshake failure",
                (Some(Cause::ClientCertificate), Some(Cause::Tls)),
            ),
            ("SSL routines::tlsv1 alert protocol version", both(Cause::Tls)),
            (
                "error:0A000086:SSL routines::certificate verify failed: broker",
                both(Cause::BrokerCertificate),
            ),
            ("error:0A00010B:SSL routines::wrong version number", both(Cause::TlsUnwanted)),
            ("Connect to ipv4#127.0.0.1:1 failed: Connection refused", (None, None)),
        ] {
            assert_eq!(read(words), causes, "{words}");
        }
    }

    #[test]
    fn a_cluster_on_the_move_is_told_from_one_that_refuses() {
        use RDKafkaErrorCode as Code;
        assert!(Cause::is_passing(Code::NotCoordinator) && Cause::is_passing(Code::LeaderNotAvailable));
        assert!(!Cause::is_passing(Code::GroupAuthorizationFailed) && !Cause::is_passing(Code::UnknownTopic));
    }

    #[test]
    fn what_differs_between_tries_is_left_out() {
        assert_eq!(
            lasting("b: refused (see (a) there) (after 4ms in state CONNECT)"),
            "b: refused (see (a) there)"
        );
        assert_eq!(lasting("b: refused"), "b: refused");
        assert_eq!(
            lasting(
                "b: SSL handshake failed: ssl/a.c:21:tls_post error:0A:SSL routines::verify failed: broker certificate could not be verified"
            ),
            "b: error:0A:SSL routines::verify failed"
        );
    }
}
