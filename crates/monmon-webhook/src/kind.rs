//! How a webhook is written in a pipeline file.

use std::time::Duration;

use http::header::HeaderName;
use monmon_spool::{SPOOL, wrap};
use monmon_stage::{DecodeContext, FROM, STAGE_NAME, Section, StageKind, StageSpec};
use monmon_syntax::{
    ArgSpec, Code, Late, Node, NodeSpec, Occurs, OptionSpec, Problem, Problems, Span, ValueKind,
};

use crate::format::Format;
use crate::spec::{TlsSpec, WebhookSpec};
use crate::template::{TEMPLATE_BYTES_MAX, Template};

/// `webhook`: incidents to whoever must know.
pub static SINK: StageKind = StageKind { section: Section::Sinks, spec: &NODE, decode };

const HEADERS_MAX: usize = 32;
/// What the sink writes itself.
const OWN_HEADERS: [&str; 6] =
    ["content-type", "content-length", "host", "idempotency-key", "monmon-event", "monmon-signature"];

static TLS: NodeSpec = NodeSpec {
    name: "tls",
    help: "whom to trust, and who we are; the server's certificate and name are always verified",
    example: r#"tls ca="ca.pem" cert="client.cert" key="client.key""#,
    options: &[
        OptionSpec {
            name: "ca",
            kind: ValueKind::Path,
            help: "PEM file of the authorities to trust, or (env) with the PEM itself; the system's when not given",
            example: r#"ca="ca.pem""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "cert",
            kind: ValueKind::Path,
            help: "PEM file of the client's certificate with its chain, or (env) with the PEM itself",
            example: r#"cert="client.cert""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "key",
            kind: ValueKind::Path,
            help: "PEM file of the client's key, or (env) with the PEM itself",
            example: r#"key="client.key""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static HEADER: NodeSpec = NodeSpec {
    name: "header",
    help: "a header of every request; its value is never shown",
    example: r#"header "authorization" (env)"ALERTS_TOKEN""#,
    args: &[
        ArgSpec { name: "name", kind: ValueKind::Name, help: "the header's name", ..ArgSpec::BLANK },
        ArgSpec { name: "value", kind: ValueKind::Secret, help: "the header's value", ..ArgSpec::BLANK },
    ],
    ..NodeSpec::BLANK
};

static NODE: NodeSpec = NodeSpec {
    name: "webhook",
    help: "sends each incident to a URL when it opens, flaps and closes, until it is taken",
    example: r#"webhook "alerts" from="outages" { url (env)"ALERTS_URL"; format "slack"; }"#,
    args: &[STAGE_NAME],
    options: &[
        FROM,
        OptionSpec {
            name: "url",
            kind: ValueKind::Url { schemes: &["https", "http"] },
            help: "where to; PagerDuty's own when not given with that format, else required",
            example: r#"url (env)"ALERTS_URL""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "format",
            kind: ValueKind::OneOf(Format::WORDS),
            default: Some("json"),
            help: "the form of the body: monmon's own, or that of a service",
            example: r#"format "slack""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "body",
            kind: ValueKind::Text,
            help: "a body of your own: JSON with fields such as {{check.name}} in its texts",
            example: r##"body #"{"text": "{{incident.summary}}"}"#"##,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "routing-key",
            kind: ValueKind::Secret,
            help: "the integration key that PagerDuty wants",
            example: r#"routing-key (env)"PAGERDUTY_KEY""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "topic",
            kind: ValueKind::Name,
            help: "the topic that ntfy wants",
            example: r#"topic "alerts""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "secret",
            kind: ValueKind::Secret,
            help: "signs each request with HMAC-SHA256, in the header monmon-signature",
            example: r#"secret (env)"ALERTS_SECRET""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "measurements",
            kind: ValueKind::Bool,
            default: Some("false"),
            help: "also send each measurement, in the wire format",
            example: "measurements=#true",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "timeout",
            kind: ValueKind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(120) },
            default: Some("10s"),
            help: "how long one request may take before it is tried again",
            example: r#"timeout="10s""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "max-in-flight",
            kind: ValueKind::Integer { min: 1, max: 64 },
            default: Some("4"),
            help: "how many requests may be under way; of one check it is one at a time",
            example: "max-in-flight=4",
            ..OptionSpec::BLANK
        },
    ],
    children: &[&HEADER, &TLS, &SPOOL],
    ..NodeSpec::BLANK
};

fn decode(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let word = node.one_of("format").map_or_else(String::new, |word| word.value);
    let mut format = Format::from_word(&word);
    let late = |name| node.late(name).map(|late| late.rooted(context.sources));
    check_fit(node, &format, problems);
    let url = late("url").or_else(|| format.default_url().map(|url| Late::literal(url, node.name_span)));
    if url.is_none() && !node.is_given("url") {
        let problem = Problem::new(Code::MissingOption, node.name_span, "`webhook` needs `url`")
            .label("does not say where to")
            .help(r#"add url (env)"ALERTS_URL""#);
        problems.push(problem);
    }
    if let Some(template) = template(node, problems) {
        format = Format::Template(template);
    }
    let mut url = url.unwrap_or_else(|| Late::literal("", node.name_span));
    // With many services a URL is a password.
    url.secret = true;
    let sink = WebhookSpec {
        url,
        format,
        routing_key: late("routing-key"),
        topic: node.text("topic").map(|topic| topic.value),
        secret: late("secret"),
        headers: headers(node, context, problems),
        tls: node.child("tls").map(|tls| decode_tls(tls, context, problems)),
        folder: context.folder.to_owned(),
        measurements: node.flag("measurements"),
        timeout: node.duration("timeout").map_or(Duration::from_secs(10), |timeout| timeout.value),
        max_in_flight: node
            .integer("max-in-flight")
            .and_then(|count| usize::try_from(count.value).ok())
            .unwrap_or(4),
    };
    wrap(node, context, Box::new(sink))
}

/// Some formats need more, and some options mean something with one format only.
fn check_fit(node: &Node, format: &Format, problems: &mut Problems) {
    let place = |name: &str| node.option_span(name).unwrap_or(node.name_span);
    for (option, word) in [("routing-key", "pagerduty"), ("topic", "ntfy")] {
        let is_it = format.as_str() == word;
        if is_it && !node.is_given(option) {
            let message = format!("the format `{word}` needs `{option}`");
            problems.push(
                Problem::new(Code::MissingOption, place("format"), message).label("does not say which"),
            );
        } else if !is_it && node.is_given(option) {
            let message = format!("`{option}` means something with the format `{word}` only");
            problems.push(Problem::new(Code::Conflict, place(option), message).label("means nothing here"));
        }
    }
    if node.is_given("body") && node.is_given("format") {
        let problem = Problem::new(Code::Conflict, place("body"), "`body` and `format` are both given")
            .label("says what the body is")
            .related(place("format"), "so does this")
            .help("take one of them out");
        problems.push(problem);
    }
    let is_own = matches!(format, Format::Json) && !node.is_given("body");
    if node.flag("measurements") && !is_own {
        let message = "`measurements` are sent in monmon's own format only";
        let problem = Problem::new(Code::Conflict, place("measurements"), message)
            .label("whoever takes the one cannot read the other")
            .help("give measurements a webhook of their own");
        problems.push(problem);
    }
}

fn template(node: &Node, problems: &mut Problems) -> Option<Template> {
    let late = node.late("body")?;
    let Some(text) = late.as_literal() else {
        let message = "`body` is checked with the file, so it must be written in place";
        problems.push(Problem::new(Code::LateNotAllowed, late.span, message).label("comes late"));
        return None;
    };
    if text.len() > TEMPLATE_BYTES_MAX {
        let message = format!("the body has {} bytes, more than {TEMPLATE_BYTES_MAX}", text.len());
        problems.push(Problem::new(Code::TooLarge, late.span, message).label("too long"));
        return None;
    }
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(faults) => {
            for fault in faults {
                let near = fault.near.as_deref().and_then(|near| inner(&late, text, near));
                let label = if near.is_some() { "here" } else { "this body" };
                problems.push(
                    Problem::new(Code::BadTemplate, near.unwrap_or(late.span), fault.message)
                        .label(label)
                        .maybe_help(fault.help),
                );
            }
            None
        }
    }
}

/// The place of a part of the text, where the text stands in the file as it is: in a raw string, or without any escape.
fn inner(late: &Late, text: &str, near: &str) -> Option<Span> {
    let marks = late.span.len.checked_sub(text.len())?;
    let is_verbatim = marks.is_multiple_of(2) && (marks > 2 || !text.contains(['"', '\\']));
    let at = text.find(near).filter(|_| is_verbatim && !text.contains('\n'))?;
    Some(Span::new(late.span.file, late.span.offset + marks / 2 + at, near.len()))
}

fn headers(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Vec<(HeaderName, Late)> {
    let mut headers = Vec::new();
    for header in node.children_named("header") {
        let (Some(name), Some(value)) = (header.arg_text(0), header.arg_late(1)) else { continue };
        match HeaderName::from_bytes(name.value.as_bytes()) {
            Ok(own) if OWN_HEADERS.contains(&own.as_str()) => {
                let message = format!("the header `{own}` is written by the sink itself");
                problems.push(Problem::new(Code::Conflict, name.span, message).label("cannot be set"));
            }
            Ok(name) => headers.push((name, value.rooted(context.sources))),
            Err(_) => {
                let message = format!("`{}` cannot name a header", name.value);
                problems.push(Problem::new(Code::BadName, name.span, message).label("not a header's name"));
            }
        }
    }
    if headers.len() > HEADERS_MAX {
        let message = format!("there can be at most {HEADERS_MAX} headers");
        problems.push(Problem::new(Code::TooMany, node.name_span, message).label("too many in its block"));
    }
    headers
}

fn decode_tls(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> TlsSpec {
    let file = |name| node.late(name).map(|late| late.rooted(context.sources));
    if let (true, false) | (false, true) = (node.is_given("cert"), node.is_given("key")) {
        let (given, other) = if node.is_given("cert") { ("cert", "key") } else { ("key", "cert") };
        let message = format!("`{given}` is given without `{other}`");
        problems.push(
            Problem::new(Code::Conflict, node.option_span(given), message)
                .label("a client certificate needs both")
                .help(format!("add {other}=\"client.{other}\"")),
        );
    }
    TlsSpec { ca: file("ca"), cert: file("cert"), key: file("key") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_sound() {
        assert_eq!(super::NODE.faults(), [""; 0]);
    }
}
