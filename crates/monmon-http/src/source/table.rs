//! How an http source is written.

use std::time::Duration;

use monmon_model::bounds::INTERVAL_US_MIN;
use monmon_stage::STAGE_NAME;
use monmon_stage::matching::{INLINE_PLUGIN, MATCH};
use monmon_syntax::{ArgSpec, NodeSpec, Occurs, OptionSpec, ValueKind};

use super::asking::table::{BODY_HASH, COOKIES, HTTP_VERSION, NODES, SCHEDULE, TIMEZONE, WHEN_DOWN};
use crate::probe::StartTls;

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const INTERVAL_MIN: Duration = Duration::from_micros(INTERVAL_US_MIN);
pub(crate) const INTERVAL_MAX: Duration = DAY;
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(10);
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(600);
pub(crate) const METHODS: &[&str] = &["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
pub(crate) const STATUS_MIN: u16 = 100;
pub(crate) const STATUS_MAX: u16 = 999;
/// What a check expects that does not say: success, after redirects.
pub(crate) const STATUS_DEFAULT: &str = "200-299";
/// The kinds of checks, by the schemes of their URLs.
pub(crate) const SCHEMES: &[&str] = &["https", "http", "tcp", "tls", "dns", "ws", "wss", "ping"];

const INTERVAL: OptionSpec = OptionSpec {
    name: "interval",
    kind: ValueKind::Duration { min: INTERVAL_MIN, max: INTERVAL_MAX },
    help: "time from slot to slot",
    example: r#"interval="30s""#,
    ..OptionSpec::BLANK
};

const TIMEOUT: OptionSpec = OptionSpec {
    name: "timeout",
    kind: ValueKind::Duration { min: TIMEOUT_MIN, max: TIMEOUT_MAX },
    help: "longest time of one measurement, redirects included; may be longer than the interval",
    example: r#"timeout="10s""#,
    ..OptionSpec::BLANK
};

pub(crate) static HTTP: NodeSpec = NodeSpec {
    name: "http",
    help: "checks websites on a schedule, each time over a fresh connection, and times every phase",
    example: r#"http "sites" interval="30s" { check "home" "https://example.org/" }"#,
    args: &[STAGE_NAME],
    options: &[
        OptionSpec {
            default: Some("1m"),
            help: "time from slot to slot, where a check does not say",
            ..INTERVAL
        },
        OptionSpec {
            default: Some("10s"),
            help: "longest time of one measurement, where a check does not say",
            ..TIMEOUT
        },
        OptionSpec {
            name: "concurrency",
            kind: ValueKind::Integer { min: 1, max: 20_000 },
            default: Some("2000"),
            help: "most checks under way at once; slots beyond it are unknown (overload)",
            example: "concurrency=500",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "wire-max",
            kind: ValueKind::Size { min: 1024, max: 256 * MIB },
            default: Some("2MiB"),
            help: "most bytes of a body read over the wire; a longer body is cut and marked as truncated",
            example: r#"wire-max="2MiB""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "body-max",
            kind: ValueKind::Size { min: 1024, max: 256 * MIB },
            default: Some("8MiB"),
            help: "most bytes of a body after decoding; a longer body is cut and marked as truncated",
            example: r#"body-max="8MiB""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "pages-max",
            kind: ValueKind::Size { min: MIB, max: 64 << 30 },
            default: Some("64MiB"),
            help: "most memory for pages that wait for their matchers; a page beyond it is not kept",
            example: r#"pages-max="64MiB""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "demo-site",
            kind: ValueKind::Name,
            help: "serves monmon's own few demo pages at this loopback address while the source runs",
            example: r#"demo-site="127.0.0.1:8480""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "per-host",
            kind: ValueKind::Integer { min: 1, max: 20_000 },
            help: "most checks of one host under way at once; others wait for their turn, and are unknown (overload) if it does not come within their timeout",
            example: "per-host=4",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "contact",
            kind: ValueKind::Name,
            help: "whom the operators of the sites can ask; added to the user agent",
            example: r#"contact="ops@example.org""#,
            ..OptionSpec::BLANK
        },
        HTTP_VERSION,
        COOKIES,
        BODY_HASH,
        WHEN_DOWN,
    ],
    children: &SOURCE_NODES,
    ..NodeSpec::BLANK
};

/// `all` and those that stand in a source and in a check alike.
const fn with_asking<const N: usize, const M: usize>(all: [&'static NodeSpec; N]) -> [&'static NodeSpec; M] {
    let mut nodes = [all[0]; M];
    let mut at = 0;
    while at < M {
        nodes[at] = if at < N { all[at] } else { NODES[at - N] };
        at += 1;
    }
    nodes
}

static SOURCE_NODES: [&NodeSpec; 3 + NODES.len()] = with_asking([&CHECK, &CHECKS_FROM, &REFERENCE]);
static CHECK_NODES: [&NodeSpec; 11 + NODES.len()] = with_asking([
    &EXPECT,
    &MATCH,
    &INLINE_PLUGIN,
    &HEADER,
    &LABEL,
    &BODY,
    &QUERY,
    &SEND,
    &REPLY,
    &ANSWER,
    &STEP,
]);

static CHECK: NodeSpec = NodeSpec {
    name: "check",
    help: "one thing to check",
    example: r#"check "home" "https://example.org/" { expect status="200" time="<2s" }"#,
    args: &[
        ArgSpec {
            name: "name",
            kind: ValueKind::Name,
            help: "the check's name, unique in the source",
            ..ArgSpec::BLANK
        },
        ArgSpec {
            name: "url",
            kind: ValueKind::Url { schemes: SCHEMES },
            help: "what to ask for; its scheme is the kind of the check: https, http, ws and wss (a handshake and an answer), tcp://host:port (a connection), tls://host (a handshake), dns://server/name?type=A (a question), ping://host (an echo)",
            ..ArgSpec::BLANK
        },
    ],
    options: &[
        INTERVAL,
        TIMEOUT,
        OptionSpec {
            name: "method",
            kind: ValueKind::OneOf(METHODS),
            default: Some("GET"),
            help: "the request's method",
            example: r#"method="HEAD""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "id",
            kind: ValueKind::Name,
            help: "the check's UUID, to keep its history under a new name; made from pipeline, source and name otherwise",
            example: r#"id="0d6a7a2e-7c1f-5a52-9d4e-6f3a0f7c1b11""#,
            ..OptionSpec::BLANK
        },
        SCHEDULE,
        TIMEZONE,
        HTTP_VERSION,
        COOKIES,
        BODY_HASH,
        WHEN_DOWN,
        OptionSpec {
            name: "starttls",
            kind: ValueKind::OneOf(StartTls::WORDS),
            help: "of tcp: the protocol in whose way the connection goes over to TLS",
            example: r#"starttls="smtp""#,
            ..OptionSpec::BLANK
        },
    ],
    children: &CHECK_NODES,
    ..NodeSpec::BLANK
};

static EXPECT: NodeSpec = NodeSpec {
    name: "expect",
    help: "what a good reply is like; anything else is down",
    example: r#"expect status="200-299,304" time="<2s""#,
    options: &[
        OptionSpec {
            name: "status",
            kind: ValueKind::Ranges { min: STATUS_MIN, max: STATUS_MAX },
            default: Some(STATUS_DEFAULT),
            help: "good statuses, after redirects; a redirect that is listed is not followed",
            example: r#"status="200-299""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "time",
            kind: ValueKind::Below,
            help: "bound of the total time",
            example: r#"time="<2s""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "slow",
            kind: ValueKind::Below,
            help: "the same, but what is slower is degraded, not down",
            example: r#"slow="<500ms""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "certificate",
            kind: ValueKind::Duration {
                min: Duration::from_secs(1),
                max: Duration::from_secs(3650 * 86_400),
            },
            help: "how long every certificate of the chain must be valid yet; less is degraded",
            example: r#"certificate="14d""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static BODY: NodeSpec = NodeSpec {
    name: "body",
    help: "the request's body, in place or from a file; with a method other than GET and HEAD",
    example: r#"body "{"ping": true}" type="application/json""#,
    args: &[ArgSpec { name: "text", kind: ValueKind::Text, help: "what is sent", ..ArgSpec::BLANK }],
    options: &[OptionSpec {
        name: "type",
        kind: ValueKind::Name,
        help: "its content type",
        example: r#"type="application/json""#,
        ..OptionSpec::BLANK
    }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static QUERY: NodeSpec = NodeSpec {
    name: "query",
    help: "added to the URL, encoded as it has to be",
    example: r#"query q="open source" page="2""#,
    open_properties: Some(ValueKind::Name),
    ..NodeSpec::BLANK
};

static SEND: NodeSpec = NodeSpec {
    name: "send",
    help: "of tcp and ws: what is sent once the connection is there",
    example: r#"send "PING
""#,
    args: &[ArgSpec { name: "text", kind: ValueKind::Text, help: "what is sent", ..ArgSpec::BLANK }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static REPLY: NodeSpec = NodeSpec {
    name: "reply",
    help: "of tcp and ws: what has to come back",
    example: r##"reply #"^\+PONG"#"##,
    args: &[ArgSpec {
        name: "pattern",
        kind: ValueKind::Pattern,
        help: "a regular expression over the first 64 KiB, or over each message",
        ..ArgSpec::BLANK
    }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static ANSWER: NodeSpec = NodeSpec {
    name: "answer",
    help: "of dns: records that have to be among the answers",
    example: r#"answer "192.0.2.7""#,
    args: &[ArgSpec {
        name: "records",
        kind: ValueKind::Name,
        many: true,
        help: "as zone files have them: an address, a name, `10 mail.example.org.`",
        ..ArgSpec::BLANK
    }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static STEP: NodeSpec = NodeSpec {
    name: "step",
    help: "one of several requests that are one measurement; they run in order and share cookies, and ${name} stands for what an earlier one captured",
    example: r##"step "sign in" "/session" method="POST" { body "user=monitor"; capture "token" json="$.token" }"##,
    args: &[
        ArgSpec { name: "name", kind: ValueKind::Name, help: "the step's name", ..ArgSpec::BLANK },
        ArgSpec {
            name: "url",
            kind: ValueKind::Name,
            help: "what to ask for, relative to the check's URL",
            ..ArgSpec::BLANK
        },
    ],
    options: &[OptionSpec {
        name: "method",
        kind: ValueKind::OneOf(METHODS),
        default: Some("GET"),
        help: "the request's method",
        example: r#"method="POST""#,
        ..OptionSpec::BLANK
    }],
    children: &[&HEADER, &BODY, &STEP_EXPECT, &CAPTURE],
    ..NodeSpec::BLANK
};

static STEP_EXPECT: NodeSpec = NodeSpec {
    name: "expect",
    help: "what a good reply to the step is like; anything else ends the check as down",
    example: r#"expect status="302" time="<1s""#,
    options: &[
        OptionSpec {
            name: "status",
            kind: ValueKind::Ranges { min: STATUS_MIN, max: STATUS_MAX },
            default: Some(STATUS_DEFAULT),
            help: "good statuses; a redirect that is listed is not followed",
            example: r#"status="302""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "time",
            kind: ValueKind::Below,
            help: "bound of the step's time",
            example: r#"time="<1s""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static CAPTURE: NodeSpec = NodeSpec {
    name: "capture",
    help: "a value of the step's reply, for later steps; a reply without it ends the check as down",
    example: r#"capture "token" json="$.token""#,
    args: &[ArgSpec { name: "name", kind: ValueKind::Name, help: "what it is called", ..ArgSpec::BLANK }],
    options: &[
        OptionSpec {
            name: "regex",
            kind: ValueKind::Pattern,
            help: "the first group of this in the body, or all that it matches",
            example: r##"regex=#"csrf=(\w+)"#"##,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "json",
            kind: ValueKind::Name,
            help: "the first value that this JSONPath (RFC 9535) leads to",
            example: r#"json="$.token""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "header",
            kind: ValueKind::Name,
            help: "a header's value",
            example: r#"header="location""#,
            ..OptionSpec::BLANK
        },
    ],
    ..NodeSpec::BLANK
};

static REFERENCE: NodeSpec = NodeSpec {
    name: "reference",
    help: "something that answers whenever the prober's own network is alive; where none of them does, what could not be reached is unknown, not down",
    example: r#"reference "tcp://192.0.2.1:53""#,
    args: &[ArgSpec {
        name: "url",
        kind: ValueKind::Url { schemes: SCHEMES },
        help: "asked when a check fails, not on a schedule; any answer will do",
        ..ArgSpec::BLANK
    }],
    options: &[OptionSpec {
        name: "timeout",
        kind: ValueKind::Duration { min: TIMEOUT_MIN, max: TIMEOUT_MAX },
        default: Some("2s"),
        help: "how long it has for its answer",
        example: r#"timeout="1s""#,
        ..OptionSpec::BLANK
    }],
    ..NodeSpec::BLANK
};

static HEADER: NodeSpec = NodeSpec {
    name: "header",
    help: "a header to send; none of a check's headers follows a redirect to another origin",
    example: r#"header "accept" "text/html""#,
    args: &[
        ArgSpec { name: "name", kind: ValueKind::Name, help: "the header's name", ..ArgSpec::BLANK },
        ArgSpec { name: "value", kind: ValueKind::Text, help: "its value", ..ArgSpec::BLANK },
    ],
    ..NodeSpec::BLANK
};

static LABEL: NodeSpec = NodeSpec {
    name: "label",
    help: "free words by which checks are grouped and found",
    example: r#"label team="docs" tier="1""#,
    open_properties: Some(ValueKind::Name),
    ..NodeSpec::BLANK
};

static CHECKS_FROM: NodeSpec = NodeSpec {
    name: "checks-from",
    help: "more checks from a CSV file with the columns name, url, interval, timeout, method, status, time, label.*, header.*, match.*",
    example: r#"checks-from "sites.csv""#,
    args: &[ArgSpec { name: "path", kind: ValueKind::Path, help: "the CSV file", ..ArgSpec::BLANK }],
    ..NodeSpec::BLANK
};
