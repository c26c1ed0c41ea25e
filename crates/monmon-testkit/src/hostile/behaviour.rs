//! The closed list of what the hostile site can do, and what a prober should say of it.

/// What a prober should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Answered, and the body read to its end.
    Up,
    /// Answered with this status; whether that is good is for the check's expectations to say.
    Status(u16),
    /// Answered, and the body cut at the prober's own bound.
    Truncated,
    /// Answered, but in a coding that nobody can undo: a matcher can only say that it could not look.
    Undecodable,
    /// Down, with this kind of failure in this phase, in the words of the wire format.
    Down { kind: &'static str, phase: &'static str },
}

impl Expected {
    /// The kind and the phase of the failure, if there is one.
    pub fn failure(self) -> Option<(&'static str, &'static str)> {
        match self {
            Expected::Down { kind, phase } => Some((kind, phase)),
            Expected::Up | Expected::Status(_) | Expected::Truncated | Expected::Undecodable => None,
        }
    }
}

const fn down(kind: &'static str, phase: &'static str) -> Expected {
    Expected::Down { kind, phase }
}

macro_rules! behaviours {
    ($($(#[doc = $doc:literal])* $variant:ident $name:literal $scheme:literal $expected:expr;)*) => {
        /// One way for a server to go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Behaviour {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Behaviour {
            pub const ALL: &'static [Behaviour] = &[$(Behaviour::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self { $(Behaviour::$variant => $name,)* }
            }

            /// How the prober is to speak to it: `http` or `https`.
            pub fn scheme(self) -> &'static str {
                match self { $(Behaviour::$variant => $scheme,)* }
            }

            /// What the prober should say of `/`, given a timeout for those that never end.
            pub fn expected(self) -> Expected {
                match self { $(Behaviour::$variant => $expected,)* }
            }
        }
    };
}

behaviours! {
    // TCP
    /// The port belongs to a socket that does not listen.
    ConnectRefused "connect-refused" "http" down("connect_refused", "connect");
    /// The backlog is full, so the handshake is never answered.
    ConnectBlackhole "connect-blackhole" "http" down("connect_timeout", "connect");
    AcceptReset "accept-reset" "http" down("reset", "wait");
    AcceptClose "accept-close" "http" down("closed_early", "wait");
    /// Accepts and never reads.
    AcceptSilence "accept-silence" "http" down("timeout", "wait");

    // TLS
    TlsExpired "tls-expired" "https" down("tls_expired", "tls");
    TlsNotYetValid "tls-not-yet-valid" "https" down("tls_not_yet_valid", "tls");
    TlsWrongName "tls-wrong-name" "https" down("tls_wrong_name", "tls");
    TlsSelfSigned "tls-self-signed" "https" down("tls_self_signed", "tls");
    /// Signed by an authority that nobody trusts.
    TlsUnknownIssuer "tls-unknown-issuer" "https" down("tls_untrusted", "tls");
    TlsMissingIntermediate "tls-missing-intermediate" "https" down("tls_untrusted", "tls");
    /// The chain carries a stranger before its intermediate, but can be built.
    TlsChainOutOfOrder "tls-chain-out-of-order" "https" Expected::Up;
    /// A certificate with 10,000 names.
    TlsManyNames "tls-many-names" "https" down("too_large", "tls");
    /// Answers with a TLS 1.0 hello.
    TlsOld "tls-old" "https" down("tls_version", "tls");
    /// Answers with the alert `protocol_version`.
    TlsVersionAlert "tls-version-alert" "https" down("tls_version", "tls");
    /// Answers with the alert `handshake_failure`.
    TlsAlert "tls-alert" "https" down("tls_handshake_failure", "tls");
    /// Reads the hello and says nothing.
    TlsHang "tls-hang" "https" down("timeout", "tls");
    /// Sends the handshake a byte at a time.
    TlsDrip "tls-drip" "https" down("timeout", "tls");
    TlsClose "tls-close" "https" down("tls_closed", "tls");
    TlsReset "tls-reset" "https" down("reset", "tls");
    TlsPlaintext "tls-plaintext" "https" down("tls_protocol", "tls");
    TlsClientCertificate "tls-client-certificate" "https" down("tls_client_certificate", "tls");
    /// A TLS server asked in plain HTTP.
    TlsAskedPlainly "tls-asked-plainly" "http" down("http_parse", "wait");
    /// A whole reply, then an end without close_notify.
    TlsNoCloseNotify "tls-no-close-notify" "https" Expected::Up;
    /// A body that only the end delimits, and an end that anybody could have forged.
    TlsTruncated "tls-truncated" "https" down("body_incomplete", "transfer");

    // The head
    HeadSilence "head-silence" "http" down("timeout", "wait");
    HeadDrip "head-drip" "http" down("timeout", "wait");
    /// Half a head, then silence.
    HeadStall "head-stall" "http" down("timeout", "wait");
    RequestClose "request-close" "http" down("closed_early", "wait");
    RequestReset "request-reset" "http" down("reset", "wait");
    /// Half a head, then the end.
    HeadCut "head-cut" "http" down("closed_early", "wait");
    SshBanner "ssh-banner" "http" down("http_parse", "wait");
    Http09 "http-0.9" "http" down("http_parse", "wait");
    VersionTwoLine "version-two-line" "http" down("http_parse", "wait");
    BadStatusLine "bad-status-line" "http" down("http_parse", "wait");
    Status99 "status-99" "http" down("http_parse", "wait");
    Status1000 "status-1000" "http" down("http_parse", "wait");
    Status999 "status-999" "http" Expected::Status(999);
    LineFeedOnly "line-feed-only" "http" Expected::Up;
    FoldedHeader "folded-header" "http" down("http_parse", "wait");
    SpaceBeforeColon "space-before-colon" "http" down("http_parse", "wait");
    NulInHeader "nul-in-header" "http" down("http_parse", "wait");
    HighByteInHeader "high-byte-in-header" "http" Expected::Up;
    Headers257 "headers-257" "http" down("too_many_headers", "wait");
    /// Headers of 8 KiB each, without end.
    EndlessHeaders "endless-headers" "http" down("head_too_large", "wait");
    EndlessHeaderValue "endless-header-value" "http" down("head_too_large", "wait");
    EndlessReason "endless-reason" "http" down("head_too_large", "wait");
    Endless100 "endless-100" "http" down("head_too_large", "wait");
    Endless103 "endless-103" "http" down("head_too_large", "wait");
    Only100 "only-100" "http" down("closed_early", "wait");
    SwitchingUnasked "switching-unasked" "http" down("protocol", "wait");
    /// The reply comes before the request was read.
    ReplyFirst "reply-first" "http" Expected::Up;
    LengthsDiffer "lengths-differ" "http" down("bad_length", "wait");
    LengthNegative "length-negative" "http" down("bad_length", "wait");
    LengthOverflow "length-overflow" "http" down("bad_length", "wait");
    /// 2^64 - 1, which some read as "no length".
    LengthHuge "length-huge" "http" down("bad_length", "wait");
    LengthTwice "length-twice" "http" Expected::Up;
    LengthAndChunked "length-and-chunked" "http" Expected::Up;
    UnknownTransferCoding "unknown-transfer-coding" "http" Expected::Up;
    TwoReplies "two-replies" "http" Expected::Up;

    // The body
    BodyShort "body-short" "http" down("body_incomplete", "transfer");
    BodyReset "body-reset" "http" down("body_incomplete", "transfer");
    BodyStall "body-stall" "http" down("timeout", "transfer");
    BodyStallAtLast "body-stall-at-last" "http" down("timeout", "transfer");
    BodyDrip "body-drip" "http" down("timeout", "transfer");
    BodyEndless "body-endless" "http" Expected::Truncated;
    /// A gibibyte, and its length told.
    BodyOversize "body-oversize" "http" Expected::Truncated;
    BadChunkSize "bad-chunk-size" "http" down("bad_chunk", "transfer");
    ChunkOverflow "chunk-overflow" "http" down("bad_chunk", "transfer");
    NoLastChunk "no-last-chunk" "http" down("bad_chunk", "transfer");
    ChunkExtensionFlood "chunk-extension-flood" "http" down("too_large", "transfer");
    TrailerFlood "trailer-flood" "http" down("too_large", "transfer");
    /// 1 MB that unpacks to 1 GiB.
    GzipBomb "gzip-bomb" "http" Expected::Truncated;
    GzipCorrupt "gzip-corrupt" "http" down("bad_encoding", "transfer");
    GzipCut "gzip-cut" "http" down("bad_encoding", "transfer");
    /// Plain text that says it is gzip.
    NotGzip "not-gzip" "http" down("bad_encoding", "transfer");
    NotBrotli "not-brotli" "http" down("bad_encoding", "transfer");
    NotZstd "not-zstd" "http" down("bad_encoding", "transfer");
    UnknownEncoding "unknown-encoding" "http" Expected::Undecodable;
    GzipTwice "gzip-twice" "http" Expected::Undecodable;
    NoContentWithBody "no-content-with-body" "http" Expected::Status(204);
    BytesAfterEnd "bytes-after-end" "http" Expected::Up;
    BadUtf8 "bad-utf-8" "http" Expected::Up;
    NulInBody "nul-in-body" "http" Expected::Up;
    /// The whole reply, then a connection that stays open.
    SlowClose "slow-close" "http" Expected::Up;
    CloseDelimited "close-delimited" "http" Expected::Up;
    ResetAfterEnd "reset-after-end" "http" Expected::Up;

    // Redirects
    RedirectLoop "redirect-loop" "http" down("too_many_redirects", "wait");
    RedirectFive "redirect-five" "http" Expected::Up;
    RedirectFifty "redirect-fifty" "http" down("too_many_redirects", "wait");
    /// To the site's other origin, [`super::HostileSite::other_origin`], which remembers what it was sent.
    RedirectOtherOrigin "redirect-other-origin" "http" Expected::Up;
    RedirectFile "redirect-file" "http" down("redirect_scheme", "wait");
    RedirectFtp "redirect-ftp" "http" down("redirect_scheme", "wait");
    RedirectBadLocation "redirect-bad-location" "http" down("redirect_invalid", "wait");
    RedirectNoLocation "redirect-no-location" "http" down("redirect_invalid", "wait");
    RedirectEndlessBody "redirect-endless-body" "http" Expected::Up;
    RedirectRelative "redirect-relative" "http" Expected::Up;
}
