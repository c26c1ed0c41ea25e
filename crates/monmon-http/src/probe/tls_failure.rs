//! What ends a TLS handshake: its kind, and words for it. rustls shows most of its errors as they stand in its code,
//! which says nothing to a reader; here each has a sentence.

use std::io;

use jiff::Timestamp;
use monmon_model::{Failure, FailureKind, Phase};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use super::failure::{cause, of_io};

/// How many of the names in a certificate are told.
const NAMES_MAX: usize = 5;

/// What ended a TLS handshake, or a TLS connection later on.
pub(crate) fn of_tls(error: &io::Error, phase: Phase) -> Failure {
    if let Some(tls) = cause::<rustls::Error>(error) {
        return of_rustls(tls, phase);
    }
    let mut failure = of_io(error, phase);
    if failure.kind == FailureKind::TlsClosed {
        "the server closed the connection in the middle of the TLS handshake"
            .clone_into(&mut failure.message);
    }
    failure
}

pub(crate) fn of_rustls(error: &rustls::Error, phase: Phase) -> Failure {
    Failure::new(kind(error), phase, message(error))
}

fn kind(error: &rustls::Error) -> FailureKind {
    use rustls::Error as Tls;
    match error {
        Tls::InvalidCertificate(certificate) => certificate_kind(certificate),
        Tls::NoCertificatesPresented => FailureKind::TlsUntrusted,
        Tls::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | Tls::AlertReceived(AlertDescription::ProtocolVersion)
        | Tls::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => FailureKind::TlsVersion,
        Tls::PeerIncompatible(_) => FailureKind::TlsHandshakeFailure,
        Tls::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::NoCertificate) => {
            FailureKind::TlsClientCertificate
        }
        Tls::AlertReceived(_) => FailureKind::TlsHandshakeFailure,
        Tls::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge
            | InvalidMessage::CertificatePayloadTooLarge
            | InvalidMessage::MessageTooLarge,
        ) => FailureKind::TooLarge,
        Tls::FailedToGetCurrentTime | Tls::FailedToGetRandomBytes | Tls::EncryptError => {
            FailureKind::Internal
        }
        _ => FailureKind::TlsProtocol,
    }
}

fn certificate_kind(error: &CertificateError) -> FailureKind {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => FailureKind::TlsExpired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            FailureKind::TlsNotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            FailureKind::TlsWrongName
        }
        CertificateError::Revoked => FailureKind::TlsRevoked,
        CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            FailureKind::TlsUnsupportedSignature
        }
        _ => FailureKind::TlsUntrusted,
    }
}

fn message(error: &rustls::Error) -> String {
    use rustls::Error as Tls;
    let fixed = match error {
        Tls::InvalidCertificate(certificate) => return certificate_message(certificate),
        Tls::AlertReceived(alert) => {
            return format!("the server ended the handshake with the alert: {}", alert_words(*alert));
        }
        Tls::PeerIncompatible(cause) => incompatible_words(cause),
        Tls::InvalidMessage(cause) => invalid_words(cause),
        Tls::NoCertificatesPresented => "the server showed no certificate",
        Tls::UnsupportedNameType => "the host's name cannot stand in a certificate",
        Tls::DecryptError => "a message of the server's cannot be decrypted",
        Tls::EncryptError => "a message to the server could not be encrypted",
        Tls::InappropriateMessage { .. } | Tls::InappropriateHandshakeMessage { .. } => {
            "the server sent a TLS message out of turn"
        }
        Tls::PeerMisbehaved(_) => "the server broke the rules of TLS",
        Tls::PeerSentOversizedRecord => "the server sent a TLS record that is too large",
        Tls::NoApplicationProtocol => "the server speaks neither HTTP/2 nor HTTP/1.1 over TLS",
        Tls::InvalidCertRevocationList(_) => "a list of revoked certificates cannot be used",
        Tls::FailedToGetCurrentTime => "this machine does not tell the time",
        Tls::FailedToGetRandomBytes => "this machine gives no random numbers",
        // What only a misused configuration gives, and what later versions may add.
        _ => "the TLS handshake went wrong",
    };
    fixed.to_owned()
}

fn certificate_message(error: &CertificateError) -> String {
    use CertificateError as Bad;
    let fixed = match error {
        Bad::ExpiredContext { not_after, .. } => {
            return format!("the certificate expired at {}", time(not_after));
        }
        Bad::NotValidYetContext { not_before, .. } => {
            return format!("the certificate is not valid before {}", time(not_before));
        }
        Bad::NotValidForNameContext { expected, presented } => {
            return format!("the certificate is for {}, not for `{}`", names(presented), expected.to_str());
        }
        Bad::Expired => "the certificate has expired",
        Bad::NotValidYet => "the certificate is not valid yet",
        Bad::NotValidForName => "the certificate is for another name",
        Bad::UnknownIssuer => "the certificate's issuer is not one that is trusted here",
        Bad::BadEncoding => "the certificate is broken",
        Bad::Revoked => "the certificate was revoked",
        Bad::UnknownRevocationStatus
        | Bad::ExpiredRevocationList
        | Bad::ExpiredRevocationListContext { .. } => "nothing tells whether the certificate was revoked",
        Bad::UnhandledCriticalExtension => "the certificate has a critical extension that is not known",
        Bad::BadSignature => "a signature in the chain of certificates is wrong",
        Bad::UnsupportedSignatureAlgorithmContext { .. } => {
            "a signature in the chain of certificates is of a kind that is not trusted"
        }
        Bad::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "a signature in the chain of certificates does not fit its key"
        }
        Bad::InvalidPurpose | Bad::InvalidPurposeContext { .. } => "the certificate is not one for servers",
        Bad::InvalidOcspResponse => "the server's word on revocation (OCSP) is broken",
        Bad::ApplicationVerificationFailure => "the certificate was refused",
        Bad::Other(other) => other_words(other),
        // A kind without its context (deprecated in rustls), and what later versions may add.
        _ => "the certificate cannot be trusted",
    };
    fixed.to_owned()
}

/// What webpki tells and rustls has no variant for.
fn other_words(other: &rustls::OtherError) -> &'static str {
    use webpki::Error as Pki;
    match other.0.downcast_ref::<Pki>() {
        Some(Pki::CaUsedAsEndEntity) => {
            "the server's certificate is one of a certificate authority; to trust it as it is, name it in `tls ca=`"
        }
        Some(Pki::EndEntityUsedAsCa) => "a server's certificate stands in the chain as an authority's",
        Some(Pki::CertDistrusted) => "the certificate is distrusted",
        Some(Pki::UnsupportedCertVersion) => "the certificate is not of X.509 version 3",
        Some(Pki::NameConstraintViolation) => "the certificate's authority may not issue for this name",
        Some(Pki::PathLenConstraintViolated | Pki::MaximumPathDepthExceeded) => {
            "the chain of certificates is longer than its authority allows"
        }
        Some(
            Pki::MaximumPathBuildCallsExceeded
            | Pki::MaximumSignatureChecksExceeded
            | Pki::MaximumNameConstraintComparisonsExceeded,
        ) => "the chain of certificates takes too long to check",
        Some(Pki::ExtensionValueInvalid | Pki::MalformedExtensions) => {
            "the certificate has a broken extension"
        }
        Some(Pki::InvalidSerialNumber) => "the certificate's serial number is broken",
        Some(Pki::MalformedDnsIdentifier | Pki::MalformedNameConstraint) => {
            "a name in the certificate is broken"
        }
        _ => "the certificate cannot be trusted",
    }
}

fn time(at: &UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "a time out of range".to_owned(), |at| at.to_string())
}

/// Names as rustls presents them, `DnsName("a.test")` and `IpAddress(192.0.2.1)`, without the wrapping.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name".to_owned();
    }
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        format!("`{}`", inner.trim_matches('"'))
    };
    let mut told: Vec<String> = presented.iter().take(NAMES_MAX).map(bare).collect();
    if presented.len() > NAMES_MAX {
        told.push(format!("{} more", presented.len() - NAMES_MAX));
    }
    told.join(", ")
}

fn alert_words(alert: AlertDescription) -> &'static str {
    use AlertDescription as Alert;
    match alert {
        Alert::CloseNotify => "close",
        Alert::UnexpectedMessage => "unexpected message",
        Alert::BadRecordMac => "bad record",
        Alert::DecryptionFailed => "decryption failed",
        Alert::RecordOverflow => "record too large",
        Alert::DecompressionFailure => "decompression failed",
        Alert::HandshakeFailure => "handshake failure",
        Alert::NoCertificate => "no certificate",
        Alert::BadCertificate => "bad certificate",
        Alert::UnsupportedCertificate => "unsupported certificate",
        Alert::CertificateRevoked => "certificate revoked",
        Alert::CertificateExpired => "certificate expired",
        Alert::CertificateUnknown => "certificate unknown",
        Alert::IllegalParameter => "illegal parameter",
        Alert::UnknownCA => "unknown certificate authority",
        Alert::AccessDenied => "access denied",
        Alert::DecodeError => "message not understood",
        Alert::DecryptError => "signature or decryption wrong",
        Alert::ExportRestriction => "export restriction",
        Alert::ProtocolVersion => "no such version of TLS",
        Alert::InsufficientSecurity => "ciphers too weak",
        Alert::InternalError => "internal error",
        Alert::InappropriateFallback => "inappropriate fallback",
        Alert::UserCanceled => "cancelled",
        Alert::NoRenegotiation => "no renegotiation",
        Alert::MissingExtension => "missing extension",
        Alert::UnsupportedExtension => "unsupported extension",
        Alert::CertificateUnobtainable => "certificate not to be had",
        Alert::UnrecognisedName => "no such name here",
        Alert::BadCertificateStatusResponse => "bad certificate status",
        Alert::BadCertificateHashValue => "bad certificate hash",
        Alert::UnknownPSKIdentity => "unknown key identity",
        Alert::CertificateRequired => "client certificate required",
        Alert::NoApplicationProtocol => "no common application protocol",
        Alert::EncryptedClientHelloRequired => "encrypted hello required",
        _ => "one that is not known",
    }
}

fn incompatible_words(cause: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as Not;
    match cause {
        Not::ServerDoesNotSupportTls12Or13 | Not::ServerTlsVersionIsDisabledByOurConfig => {
            "the server speaks neither TLS 1.2 nor TLS 1.3"
        }
        Not::NoCipherSuitesInCommon => "no cipher in common with the server",
        Not::NoKxGroupsInCommon | Not::NamedGroupsExtensionRequired | Not::KeyShareExtensionRequired => {
            "no key exchange in common with the server"
        }
        Not::NoSignatureSchemesInCommon
        | Not::NoCertificateRequestSignatureSchemesInCommon
        | Not::SignatureAlgorithmsExtensionRequired => "no kind of signature in common with the server",
        Not::ServerRejectedEncryptedClientHello(_) => "the server refused the encrypted hello",
        _ => "the server lacks a part of TLS that is needed",
    }
}

fn invalid_words(cause: &InvalidMessage) -> &'static str {
    use InvalidMessage as Bad;
    match cause {
        Bad::InvalidContentType => "what came is not TLS",
        Bad::UnknownProtocolVersion => "the server answered with a version of TLS that is not known",
        Bad::HandshakePayloadTooLarge | Bad::MessageTooLarge => {
            "the server sent a TLS message that is too large"
        }
        Bad::CertificatePayloadTooLarge => "the server's certificates are larger than 64KiB",
        _ => "a TLS message of the server's is broken",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::ServerName;
    use rustls::{OtherError, PeerMisbehaved};

    use super::*;

    fn told(error: impl Into<rustls::Error>) -> String {
        let failure = of_rustls(&error.into(), Phase::Tls);
        format!("{}: {}", failure.kind.as_str(), failure.message)
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn words_for_what_goes_wrong() {
        let other = |error: webpki::Error| CertificateError::Other(OtherError(std::sync::Arc::new(error)));
        let presented = |count| (0..count).map(|n| format!("DnsName(\"{n}.test\")")).collect();
        let expected = ServerName::try_from("a.test").unwrap();
        let wrong_name =
            |presented| CertificateError::NotValidForNameContext { expected: expected.clone(), presented };
        let lines = [
            told(CertificateError::ExpiredContext { time: at(1_795_000_000), not_after: at(1_790_000_000) }),
            told(CertificateError::NotValidYetContext { time: at(0), not_before: at(1_790_000_000) }),
            told(CertificateError::ExpiredContext { time: at(0), not_after: at(u64::MAX) }),
            told(wrong_name(Vec::new())),
            told(wrong_name(vec!["IpAddress(192.0.2.1)".to_owned()])),
            told(wrong_name(presented(10_000))),
            told(CertificateError::UnknownIssuer),
            told(other(webpki::Error::CaUsedAsEndEntity)),
            told(other(webpki::Error::BadDer)),
            told(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)),
            told(rustls::Error::AlertReceived(AlertDescription::Unknown(200))),
            told(InvalidMessage::InvalidContentType),
            told(InvalidMessage::MissingData("ServerHello")),
            told(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            told(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec),
            told(rustls::Error::General("GeneralText".to_owned())),
        ];
        insta::assert_snapshot!(lines.join("\n"), @r##"
        tls_expired: the certificate expired at 2026-09-21T14:13:20Z
        tls_not_yet_valid: the certificate is not valid before 2026-09-21T14:13:20Z
        tls_expired: the certificate expired at a time out of range
        tls_wrong_name: the certificate is for no name, not for `a.test`
        tls_wrong_name: the certificate is for `192.0.2.1`, not for `a.test`
        tls_wrong_name: the certificate is for `0.test`, `1.test`, `2.test`, `3.test`, `4.test`, 9995 more, not for `a.test`
        tls_untrusted: the certificate's issuer is not one that is trusted here
        tls_untrusted: the server's certificate is one of a certificate authority; to trust it as it is, name it in `tls ca=`
        tls_untrusted: the certificate cannot be trusted
        tls_handshake_failure: the server ended the handshake with the alert: no such name here
        tls_handshake_failure: the server ended the handshake with the alert: one that is not known
        tls_protocol: what came is not TLS
        tls_protocol: a TLS message of the server's is broken
        tls_version: the server speaks neither TLS 1.2 nor TLS 1.3
        tls_protocol: the server broke the rules of TLS
        tls_protocol: the TLS handshake went wrong
        "##);
    }

    /// Whatever is given, no message shows how an error is called in code: two capitals in one word, or brackets.
    #[test]
    fn no_message_shows_code() {
        let alerts = (0..=255u8).map(|code| rustls::Error::AlertReceived(AlertDescription::from(code)));
        let own = ["TLS", "HTTP/2", "HTTP/1.1", "X.509", "OCSP", "KiB"];
        for error in alerts {
            let mut message = message(&error);
            own.iter().for_each(|word| message = message.replace(word, ""));
            assert!(!message.contains(|c: char| c.is_uppercase() || "{}()_".contains(c)), "{message}");
        }
    }
}
