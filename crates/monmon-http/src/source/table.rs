//! How an http source is written.

use std::time::Duration;

use monmon_stage::STAGE_NAME;
use monmon_stage::matching::{INLINE_PLUGIN, MATCH};
use monmon_syntax::{ArgSpec, NodeSpec, Occurs, OptionSpec, ValueKind};

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const INTERVAL_MIN: Duration = Duration::from_millis(100);
pub(crate) const INTERVAL_MAX: Duration = DAY;
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(10);
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(600);
pub(crate) const METHODS: &[&str] = &["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
pub(crate) const STATUS_MIN: u16 = 100;
pub(crate) const STATUS_MAX: u16 = 999;
/// What a check expects that does not say: success, after redirects.
pub(crate) const STATUS_DEFAULT: &str = "200-299";

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
    ],
    children: &[&CHECK, &CHECKS_FROM, &TLS],
    ..NodeSpec::BLANK
};

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
            kind: ValueKind::Url { schemes: &["https", "http"] },
            help: "what to ask for",
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
            help: "the request's method; no body is sent",
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
    ],
    children: &[&EXPECT, &MATCH, &INLINE_PLUGIN, &HEADER, &LABEL],
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
    ],
    occurs: Occurs::AtMostOnce,
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
    help: "more checks from a CSV file with the columns name, url, interval, timeout, method, status, time, label.*",
    example: r#"checks-from "sites.csv""#,
    args: &[ArgSpec { name: "path", kind: ValueKind::Path, help: "the CSV file", ..ArgSpec::BLANK }],
    ..NodeSpec::BLANK
};

static TLS: NodeSpec = NodeSpec {
    name: "tls",
    help: "whom to trust beside the certificate authorities of this machine",
    example: r#"tls ca="ca.pem""#,
    options: &[OptionSpec {
        name: "ca",
        kind: ValueKind::Path,
        required: true,
        help: "a PEM file of further certificate authorities; a site that shows one of these very certificates as its own is trusted too, if name and dates are right",
        example: r#"ca="ca.pem""#,
        ..OptionSpec::BLANK
    }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};
