//! What went wrong: a closed list of kinds, and the phase in which it happened.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{self, MESSAGE_CHARS_MAX};

/// The part of a check in which time is spent or something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before anything was sent: the prober's own preparation.
    Start,
    /// Name to addresses.
    Dns,
    /// TCP handshake.
    Connect,
    /// TLS handshake.
    Tls,
    /// From the request to the first byte of the final head.
    Wait,
    /// The body.
    Transfer,
}

impl Phase {
    pub const ALL: [Phase; 6] =
        [Phase::Start, Phase::Dns, Phase::Connect, Phase::Tls, Phase::Wait, Phase::Transfer];

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Start => "start",
            Phase::Dns => "dns",
            Phase::Connect => "connect",
            Phase::Tls => "tls",
            Phase::Wait => "wait",
            Phase::Transfer => "transfer",
        }
    }
}

/// Whose trouble a failure is: it decides between `down` and `unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Site,
    Prober,
}

macro_rules! failure_kinds {
    ($($(#[doc = $doc:literal])* $variant:ident = $word:literal, $owner:ident;)*) => {
        /// The closed list of what can go wrong. A new kind is a new minor version of the wire format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum FailureKind {
            $($(#[doc = $doc])* #[serde(rename = $word)] $variant,)*
            /// A kind that this version does not know, read from a newer prober.
            #[serde(other, rename = "other")]
            Other,
        }

        impl FailureKind {
            pub const ALL: &'static [FailureKind] = &[$(FailureKind::$variant,)* FailureKind::Other];

            /// The word in the wire format and the stores.
            pub fn as_str(self) -> &'static str {
                match self { $(FailureKind::$variant => $word,)* FailureKind::Other => "other" }
            }

            pub fn owner(self) -> Owner {
                match self { $(FailureKind::$variant => Owner::$owner,)* FailureKind::Other => Owner::Site }
            }
        }
    };
}

failure_kinds! {
    /// The name does not exist.
    DnsNotFound = "dns_not_found", Site;
    /// The name server failed or refused.
    DnsFailed = "dns_failed", Site;
    /// The name server did not answer in time.
    DnsTimeout = "dns_timeout", Site;
    /// The name exists but has no address.
    DnsNoAddress = "dns_no_address", Site;
    /// The address may not be checked (private, or not allowed).
    BlockedAddress = "blocked_address", Site;
    ConnectRefused = "connect_refused", Site;
    ConnectTimeout = "connect_timeout", Site;
    /// No route to the address.
    ConnectUnreachable = "connect_unreachable", Site;
    ConnectReset = "connect_reset", Site;
    TlsExpired = "tls_expired", Site;
    TlsNotYetValid = "tls_not_yet_valid", Site;
    TlsWrongName = "tls_wrong_name", Site;
    /// The chain ends in nothing that is trusted.
    TlsUntrusted = "tls_untrusted", Site;
    TlsSelfSigned = "tls_self_signed", Site;
    TlsRevoked = "tls_revoked", Site;
    /// A signature or key that is too weak or not known.
    TlsUnsupportedSignature = "tls_unsupported_signature", Site;
    /// No protocol version in common.
    TlsVersion = "tls_version", Site;
    /// The server ended the handshake with an alert.
    TlsHandshakeFailure = "tls_handshake_failure", Site;
    /// The connection ended in the middle of the handshake.
    TlsClosed = "tls_closed", Site;
    /// What came was not TLS.
    TlsProtocol = "tls_protocol", Site;
    /// The server asks for a client certificate, or refuses the one it got.
    TlsClientCertificate = "tls_client_certificate", Site;
    /// The reply is not HTTP.
    HttpParse = "http_parse", Site;
    HeadTooLarge = "head_too_large", Site;
    TooManyHeaders = "too_many_headers", Site;
    BadLength = "bad_length", Site;
    BadChunk = "bad_chunk", Site;
    /// The body's encoding is broken or not known.
    BadEncoding = "bad_encoding", Site;
    /// The server did something that the protocol forbids.
    Protocol = "protocol", Site;
    H2Protocol = "h2_protocol", Site;
    /// The server refused the stream or went away.
    Refused = "refused", Site;
    TooManyRedirects = "too_many_redirects", Site;
    RedirectScheme = "redirect_scheme", Site;
    RedirectInvalid = "redirect_invalid", Site;
    /// The connection was reset after it had been made.
    Reset = "reset", Site;
    /// The server closed the connection before it answered.
    ClosedEarly = "closed_early", Site;
    /// The body ended before its announced end.
    BodyIncomplete = "body_incomplete", Site;
    TooLarge = "too_large", Site;
    /// The check's total time ran out; the phase tells where.
    Timeout = "timeout", Site;
    /// A step's reply does not hold what a later step needs.
    CaptureFailed = "capture_failed", Site;
    /// The proxy cannot be reached, or refuses.
    ProxyFailed = "proxy_failed", Prober;
    /// No access token could be had.
    TokenFailed = "token_failed", Prober;
    /// No file descriptor was left.
    FdExhausted = "fd_exhausted", Prober;
    OutOfMemory = "out_of_memory", Prober;
    /// The prober's own network is down, or none of the references answers.
    ProberOffline = "prober_offline", Prober;
    /// The prober had more to do than its limits allow.
    Overload = "overload", Prober;
    /// The prober slept or was stopped through the slot.
    Overslept = "overslept", Prober;
    /// The prober was shutting down.
    Shutdown = "shutdown", Prober;
    /// The prober was not running.
    NotRunning = "not_running", Prober;
    /// A request that could not be made as the file asks.
    Internal = "internal", Prober;
}

/// What went wrong, where, and in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    pub kind: FailureKind,
    pub phase: Phase,
    #[schemars(length(max = MESSAGE_CHARS_MAX))]
    pub message: String,
}

impl Failure {
    pub fn new(kind: FailureKind, phase: Phase, message: impl Into<String>) -> Failure {
        Failure { kind, phase, message: bounds::message(message) }
    }
}
