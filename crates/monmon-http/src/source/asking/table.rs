//! How it is written.

use std::time::Duration;

use monmon_syntax::{ArgSpec, NodeSpec, Occurs, OptionSpec, ValueKind};

use crate::probe::Family;
use crate::source::table::{INTERVAL_MAX, INTERVAL_MIN, TIMEOUT_MAX};

const PHASE: OptionSpec = OptionSpec {
    kind: ValueKind::Duration { min: Duration::from_millis(1), max: TIMEOUT_MAX },
    ..OptionSpec::BLANK
};

const TIMEOUTS: NodeSpec = NodeSpec {
    name: "timeouts",
    help: "bounds of single phases, within the check's own `timeout`",
    example: r#"timeouts dns="2s" connect="3s" tls="3s" wait="5s" idle="5s""#,
    options: &[
        OptionSpec { name: "dns", help: "of looking the name up", example: r#"dns="2s""#, ..PHASE },
        OptionSpec {
            name: "connect",
            help: "of connecting, with a proxy's own part",
            example: r#"connect="3s""#,
            ..PHASE
        },
        OptionSpec { name: "tls", help: "of the TLS handshake", example: r#"tls="3s""#, ..PHASE },
        OptionSpec {
            name: "wait",
            help: "from the request to the end of the reply's head",
            example: r#"wait="5s""#,
            ..PHASE
        },
        OptionSpec { name: "idle", help: "between two parts of the body", example: r#"idle="5s""#, ..PHASE },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

const REDIRECTS: NodeSpec = NodeSpec {
    name: "redirects",
    help: "which redirects are followed",
    example: r#"redirects follow="origin" max=3"#,
    options: &[
        OptionSpec {
            name: "follow",
            kind: ValueKind::OneOf(&["always", "origin", "never"]),
            default: Some("always"),
            help: "`origin`: as long as scheme, host and port stay; a redirect that is not followed is the reply",
            example: r#"follow="never""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "max",
            kind: ValueKind::Integer { min: 0, max: 20 },
            default: Some("10"),
            help: "most redirects after one another",
            example: "max=3",
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

const RETRY: NodeSpec = NodeSpec {
    name: "retry",
    help: "tries a slot again that is not up; every try is a measurement, and the last one decides the slot",
    example: r#"retry attempts=3 wait="2s""#,
    options: &[
        OptionSpec {
            name: "attempts",
            kind: ValueKind::Integer { min: 1, max: 10 },
            required: true,
            help: "most tries of a slot, with the first; what the check's own matchers find fault with is tried again as well",
            example: "attempts=3",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "wait",
            kind: ValueKind::Duration { min: Duration::ZERO, max: TIMEOUT_MAX },
            default: Some("1s"),
            help: "time from the end of a try to the next",
            example: r#"wait="2s""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

pub(super) const FAMILIES: &[&str] = &["any", "4", "6", "prefer-4", "prefer-6", "each"];

pub(super) fn family_of(word: &str) -> Family {
    match word {
        "4" => Family::V4,
        "6" => Family::V6,
        "prefer-4" => Family::PreferV4,
        "prefer-6" => Family::PreferV6,
        "each" => Family::Each,
        _ => Family::Any,
    }
}

pub(super) fn word_of(family: Family) -> &'static str {
    FAMILIES.iter().copied().find(|word| family_of(word) == family).unwrap_or("any")
}

const NETWORK: NodeSpec = NodeSpec {
    name: "network",
    help: "which addresses are gone to, and from where",
    example: r#"network family="4" private=#false from="eth0""#,
    options: &[
        OptionSpec {
            name: "family",
            kind: ValueKind::OneOf(FAMILIES),
            default: Some("any"),
            help: "IPv4 or IPv6 alone or first; `each`: every address is checked, and one that is not up is the verdict",
            example: r#"family="each""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "private",
            kind: ValueKind::Bool,
            help: "#false: public addresses only; #true: any, after a redirect too; where it is not given, any that the file names, and redirects only to public ones or within the same zone",
            example: "private=#false",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "from",
            kind: ValueKind::Name,
            help: "an address of this machine, or on Linux one of its interfaces, to connect from",
            example: r#"from="eth0""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

const RESOLVE: NodeSpec = NodeSpec {
    name: "resolve",
    help: "the addresses of a name, in place of a lookup",
    example: r#"resolve "example.org" "192.0.2.7""#,
    args: &[
        ArgSpec { name: "host", kind: ValueKind::Name, help: "the name", ..ArgSpec::BLANK },
        ArgSpec {
            name: "addresses",
            kind: ValueKind::Name,
            many: true,
            help: "its addresses, in the order in which they are tried",
            ..ArgSpec::BLANK
        },
    ],
    ..NodeSpec::BLANK
};

const RESOLVER: NodeSpec = NodeSpec {
    name: "resolver",
    help: "name servers that are asked in place of the system's",
    example: r#"resolver "192.0.2.53" "192.0.2.54:5353""#,
    args: &[ArgSpec {
        name: "servers",
        kind: ValueKind::Name,
        many: true,
        help: "addresses, with port 53 where none is given",
        ..ArgSpec::BLANK
    }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

const PROXY: NodeSpec = NodeSpec {
    name: "proxy",
    help: "a proxy that all requests go through; trouble with it is the prober's own (unknown)",
    example: r#"proxy "http://proxy.example.org:3128""#,
    args: &[ArgSpec {
        name: "url",
        kind: ValueKind::Url { schemes: &["http", "socks5", "socks5h"] },
        help: "with user and password where it needs them; socks5h leaves the lookup to the proxy",
        ..ArgSpec::BLANK
    }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

const TLS: NodeSpec = NodeSpec {
    name: "tls",
    help: "whom to trust beside the certificate authorities of this machine, and who to be",
    example: r#"tls ca="ca.pem" cert="client.pem" key="client.key""#,
    options: &[
        OptionSpec {
            name: "ca",
            kind: ValueKind::Path,
            help: "a PEM file of further certificate authorities; a site that shows one of these very certificates as its own is trusted too, if name and dates are right",
            example: r#"ca="ca.pem""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "cert",
            kind: ValueKind::Path,
            help: "a PEM file of the client's certificate and those between it and its authority",
            example: r#"cert="client.pem""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "key",
            kind: ValueKind::Path,
            help: "a PEM file of the client's private key",
            example: r#"key="client.key""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "server-name",
            kind: ValueKind::Name,
            help: "the name that is asked for and looked for in the certificate, in place of the URL's host",
            example: r#"server-name="www.example.org""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

pub(super) const AUTHS: &[&str] = &["basic", "digest", "bearer", "oauth2"];

const AUTH: NodeSpec = NodeSpec {
    name: "auth",
    help: "who asks; no credential follows a redirect to another origin",
    example: r#"auth "basic" user="monitor" password=(env)"SITE_PASSWORD""#,
    args: &[ArgSpec {
        name: "scheme",
        kind: ValueKind::OneOf(AUTHS),
        help: "`basic` and `digest` with user and password, `bearer` with a token, `oauth2` with url, client-id and client-secret (client credentials; the token is kept and renewed)",
        ..ArgSpec::BLANK
    }],
    options: &[
        OptionSpec {
            name: "user",
            help: "of basic and digest",
            example: r#"user="monitor""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "password",
            kind: ValueKind::Secret,
            help: "of basic and digest",
            example: r#"password=(env)"SITE_PASSWORD""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "token",
            kind: ValueKind::Secret,
            help: "of bearer",
            example: r#"token=(file)"token""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "url",
            kind: ValueKind::Url { schemes: &["https", "http"] },
            help: "of oauth2: where tokens are given",
            example: r#"url="https://id.example.org/token""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "client-id",
            help: "of oauth2",
            example: r#"client-id="monmon""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "client-secret",
            kind: ValueKind::Secret,
            help: "of oauth2",
            example: r#"client-secret=(env)"CLIENT_SECRET""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "scope",
            kind: ValueKind::Name,
            help: "of oauth2, where the server wants one",
            example: r#"scope="read""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

const REDACT: NodeSpec = NodeSpec {
    name: "redact",
    help: "what is not kept: all that the patterns match becomes ***",
    example: r##"redact #"token=\w+"#"##,
    args: &[ArgSpec {
        name: "patterns",
        kind: ValueKind::Pattern,
        many: true,
        help: "regular expressions",
        ..ArgSpec::BLANK
    }],
    ..NodeSpec::BLANK
};

const EVIDENCE: NodeSpec = NodeSpec {
    name: "evidence",
    help: "keeps the beginning of the body of a measurement that is not up",
    example: r#"evidence max="2KiB""#,
    options: &[OptionSpec {
        name: "max",
        kind: ValueKind::Size { min: 1, max: 16 << 10 },
        default: Some("1KiB"),
        help: "most bytes that are kept",
        example: r#"max="2KiB""#,
        ..OptionSpec::BLANK
    }],
    children: &[&REDACT],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

const MAINTENANCE: NodeSpec = NodeSpec {
    name: "maintenance",
    help: "a window in which measurements are marked with its name; they are made all the same",
    example: r#"maintenance "patching" schedule="0 3 * * SUN" duration="2h" timezone="Europe/Berlin""#,
    args: &[ArgSpec { name: "name", kind: ValueKind::Name, help: "what is going on", ..ArgSpec::BLANK }],
    options: &[
        OptionSpec { required: true, help: "when windows begin", ..SCHEDULE },
        OptionSpec {
            name: "duration",
            kind: ValueKind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(31 * 86_400) },
            required: true,
            help: "how long a window is",
            example: r#"duration="2h""#,
            ..OptionSpec::BLANK
        },
        TIMEZONE,
    ],
    ..NodeSpec::BLANK
};

pub(in crate::source) const SCHEDULE: OptionSpec = OptionSpec {
    name: "schedule",
    kind: ValueKind::Name,
    help: "when the check is due, as a crontab line: minute, hour, day of the month, month, day of the week; in place of `interval`",
    example: r#"schedule="*/5 8-18 * * MON-FRI""#,
    ..OptionSpec::BLANK
};

pub(in crate::source) const TIMEZONE: OptionSpec = OptionSpec {
    name: "timezone",
    kind: ValueKind::Name,
    default: Some("UTC"),
    help: "the time zone of `schedule`, by its IANA name",
    example: r#"timezone="Europe/Berlin""#,
    ..OptionSpec::BLANK
};

pub(in crate::source) const HTTP_VERSION: OptionSpec = OptionSpec {
    name: "http",
    kind: ValueKind::OneOf(&["any", "1.1", "2"]),
    help: "the version to speak; `any`: HTTP/2 where the server agrees in TLS, HTTP/1.1 otherwise",
    example: r#"http="2""#,
    ..OptionSpec::BLANK
};

pub(in crate::source) const COOKIES: OptionSpec = OptionSpec {
    name: "cookies",
    kind: ValueKind::Bool,
    help: "whether cookies that a site sets are sent back to it within the same measurement (#true unless given)",
    example: "cookies=#false",
    ..OptionSpec::BLANK
};

pub(in crate::source) const BODY_HASH: OptionSpec = OptionSpec {
    name: "body-hash",
    kind: ValueKind::Bool,
    help: "whether the SHA-256 of the decoded body is kept (#false unless given)",
    example: "body-hash=#true",
    ..OptionSpec::BLANK
};

pub(in crate::source) const WHEN_DOWN: OptionSpec = OptionSpec {
    name: "interval-when-down",
    kind: ValueKind::Duration { min: INTERVAL_MIN, max: INTERVAL_MAX },
    help: "time from slot to slot while the check is down: by its transport, an `expect`, or a matcher inside of it",
    example: r#"interval-when-down="10s""#,
    ..OptionSpec::BLANK
};

/// The nodes that stand in a source and in a check alike.
pub(in crate::source) const NODES: [&NodeSpec; 11] = [
    &TIMEOUTS,
    &REDIRECTS,
    &RETRY,
    &NETWORK,
    &RESOLVE,
    &RESOLVER,
    &PROXY,
    &TLS,
    &AUTH,
    &EVIDENCE,
    &MAINTENANCE,
];
