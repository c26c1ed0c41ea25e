//! What belongs to a check of one kind: how it is written, and what it becomes.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use fancy_regex::Regex;
use http::{HeaderName, Method};
use monmon_stage::{DecodeContext, StageContext, StageError};
use monmon_syntax::{Code, Late, Node, Problem, Problems, Span};
use serde_json_path::JsonPath;
use url::Url;

use super::asking::pattern;
use super::decode::{default_status, headers};
use super::spec::{CaptureSource, CaptureSpec, CheckSpec, MoreSpec, StepSpec};
use super::window;
use crate::probe::{
    Capture, CaptureFrom, Chain, Dns, Endpoint, Header, Kind, Manner, Ping, Prepared, StartTls, Step, Tcp,
    Template, WebSocket, What, basic_auth,
};

/// Most steps of a check.
const STEPS_MAX: usize = monmon_model::bounds::STEPS_MAX;
/// The port of `tls://` where the URL names none.
const TLS_PORT: u16 = 443;

/// What is for some kinds only: names of nodes and options, and the schemes that they are for.
const FOR_KINDS: [(&str, &[&str]); 16] = [
    ("http", &["http", "https"]),
    ("cookies", &["http", "https"]),
    ("body-hash", &["http", "https"]),
    ("match", &["http", "https", "ws", "wss", "tcp", "dns"]),
    ("wasm", &["http", "https", "ws", "wss", "tcp", "dns"]),
    ("method", &["http", "https"]),
    ("header", &["http", "https", "ws", "wss"]),
    ("body", &["http", "https"]),
    ("query", &["http", "https", "ws", "wss"]),
    ("step", &["http", "https"]),
    ("auth", &["http", "https", "ws", "wss"]),
    ("redirects", &["http", "https"]),
    ("send", &["tcp", "ws", "wss"]),
    ("reply", &["tcp", "ws", "wss"]),
    ("answer", &["dns"]),
    ("starttls", &["tcp"]),
];

/// Tells what a check has that its kind has no use for.
pub(super) fn fits_kind(node: &Node, scheme: &str, problems: &mut Problems) {
    for (name, schemes) in FOR_KINDS {
        if schemes.contains(&scheme) {
            continue;
        }
        let given = node.spec.option(name).is_some().then(|| node.option_span(name)).flatten();
        let child = node.children.iter().find(|child| child.spec.name == name).map(|child| child.name_span);
        if let Some(span) = given.or(child) {
            let message = format!("`{name}` is for {}, and this is a check of {scheme}", schemes.join(", "));
            problems.push(Problem::new(Code::Conflict, span, message).label("has no meaning here"));
        }
    }
    let expect = node.child("expect");
    for (option, schemes) in [
        ("status", &["http", "https", "ws", "wss"][..]),
        ("certificate", &["https", "wss", "tls", "tcp"][..]),
    ] {
        if let Some(span) = expect.and_then(|expect| expect.option_span(option))
            && !schemes.contains(&scheme)
        {
            let message =
                format!("`{option}` is for {}, and this is a check of {scheme}", schemes.join(", "));
            problems.push(Problem::new(Code::Conflict, span, message).label("has no meaning here"));
        }
    }
}

/// What few checks have; none where this one has nothing of it.
pub(super) fn more(
    node: &Node,
    context: &DecodeContext<'_>,
    problems: &mut Problems,
) -> Option<Box<MoreSpec>> {
    let expect = node.child("expect");
    let late = |name: &str| {
        node.child(name).and_then(|child| child.arg_late(0)).map(|late| late.rooted(context.sources))
    };
    let says = expect.is_some_and(|expect| expect.is_given("slow") || expect.is_given("certificate"))
        || node.is_given("schedule")
        || node.is_given("starttls")
        || ["body", "query", "send", "reply", "answer", "step"].iter().any(|name| node.child(name).is_some());
    if node.is_given("timezone") && !node.is_given("schedule") {
        let span = node.option_span("timezone").unwrap_or(node.name_span);
        problems.push(
            Problem::new(Code::Conflict, span, "`timezone` is given and `schedule` is not")
                .label("belongs to `schedule`"),
        );
    }
    if !says {
        return None;
    }
    if node.is_given("schedule")
        && let Some(span) = node.option_span("interval")
    {
        problems.push(
            Problem::new(Code::Conflict, span, "the check has an `interval` and a `schedule`")
                .label("only one can say when it is due"),
        );
    }
    let query = node.children_named("query").flat_map(|query| &query.extra);
    Some(Box::new(MoreSpec {
        schedule: node.is_given("schedule").then(|| window::cron(node, problems)).flatten(),
        slow: expect.and_then(|expect| expect.below("slow")).map(|given| given.value),
        certificate: expect.and_then(|expect| expect.duration("certificate")).map(|given| given.value),
        body: late("body"),
        query: query
            .filter_map(|(name, value)| Some((name.value.clone(), value.value.as_text()?.to_owned())))
            .collect(),
        send: late("send"),
        reply: node
            .child("reply")
            .and_then(|child| child.arg_text(0))
            .and_then(|given| pattern(&given, problems).map(|_| given.value)),
        answers: node
            .child("answer")
            .map(|child| {
                (0..child.args().count())
                    .filter_map(|at| child.arg_text(at))
                    .map(|given| given.value)
                    .collect()
            })
            .unwrap_or_default(),
        starttls: node.one_of("starttls").and_then(|given| StartTls::of(&given.value)),
        steps: steps(node, context, problems),
    }))
}

fn steps(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Vec<StepSpec> {
    let mut steps: Vec<StepSpec> = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for child in node.children_named("step") {
        if steps.len() == STEPS_MAX {
            let message = format!("a check has at most {STEPS_MAX} steps");
            problems.push(Problem::new(Code::TooMany, child.name_span, message).label("one too many"));
            break;
        }
        let (Some(name), Some(url)) = (child.arg_text(0), child.arg_text(1)) else { continue };
        if steps.iter().any(|step| step.name == name.value) {
            let message = format!("the check has two steps named `{}`", name.value);
            problems.push(Problem::new(Code::DuplicateName, name.span, message).label("the second"));
        }
        check_template(&url.value, url.span, &known, problems);
        let headers = headers(child, context, problems);
        let body =
            child.child("body").and_then(|body| body.arg_late(0)).map(|late| late.rooted(context.sources));
        for late in headers.iter().map(|(_, late)| late).chain(&body) {
            if let Some(text) = late.as_literal() {
                check_template(text, late.span, &known, problems);
            }
        }
        let expect = child.child("expect");
        let captures: Vec<CaptureSpec> =
            child.children_named("capture").filter_map(|capture| capture_of(capture, problems)).collect();
        known.extend(captures.iter().map(|capture| capture.name.clone()));
        steps.push(StepSpec {
            name: name.value,
            url: url.value,
            method: child.one_of("method").map_or_else(|| "GET".to_owned(), |given| given.value),
            headers: with_type(child, headers),
            body,
            status: expect
                .and_then(|expect| expect.ranges("status"))
                .map_or_else(default_status, |given| given.value),
            time: expect.and_then(|expect| expect.below("time")).map(|given| given.value),
            captures,
        });
    }
    steps
}

/// A body's type is a header like any other.
pub(super) fn with_type(node: &Node, mut headers: Vec<(String, Late)>) -> Vec<(String, Late)> {
    let given = node.child("body").and_then(|body| body.text("type"));
    if let Some(given) = given
        && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
    {
        headers.push(("content-type".to_owned(), Late::literal(given.value, given.span)));
    }
    headers
}

fn check_template(text: &str, span: Span, known: &BTreeSet<String>, problems: &mut Problems) {
    match Template::new(text) {
        Err(why) => problems.push(Problem::new(Code::BadName, span, why).label("as in \"/orders/${id}\"")),
        Ok(template) => {
            if let Some(name) = template.names().find(|name| !known.contains(*name)) {
                problems.push(
                    Problem::new(Code::UnknownWord, span, format!("no earlier step captures `{name}`"))
                        .label(format!(
                            "`${{{name}}}` has no value; write `$${{` for the characters themselves"
                        )),
                );
            }
        }
    }
}

fn capture_of(node: &Node, problems: &mut Problems) -> Option<CaptureSpec> {
    let name = node.arg_text(0)?;
    if !name.value.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        problems.push(
            Problem::new(Code::BadName, name.span, format!("`{}` cannot name a value", name.value))
                .label("expected letters, digits, `-` and `_`"),
        );
    }
    let given: Vec<&str> =
        ["regex", "json", "header"].into_iter().filter(|option| node.is_given(option)).collect();
    let [source] = given.as_slice() else {
        problems.push(
            Problem::new(Code::Conflict, node.name_span, "a capture takes one of regex, json and header")
                .label(format!("has {}", if given.is_empty() { "none" } else { "several" })),
        );
        return None;
    };
    let text = node.text(source)?;
    let bad = |why: String| Problem::new(Code::BadPattern, text.span, why).label("cannot be looked for");
    let from = match *source {
        "regex" => {
            pattern(&text, problems)?;
            CaptureSource::Pattern(text.value)
        }
        "json" => match JsonPath::parse(&text.value) {
            Ok(_) => CaptureSource::Json(text.value),
            Err(error) => {
                problems.push(bad(format!("`{}` is no JSONPath: {error}", text.value)));
                return None;
            }
        },
        _ => match HeaderName::from_bytes(text.value.as_bytes()) {
            Ok(_) => CaptureSource::Header(text.value),
            Err(_) => {
                problems.push(bad(format!("`{}` cannot be a header's name", text.value)));
                return None;
            }
        },
    };
    Some(CaptureSpec { name: name.value, from })
}

/// What a check asks for, worked out.
pub(super) fn what(
    spec: &CheckSpec,
    mut url: Url,
    manner: &Arc<Manner>,
    mut headers: Vec<Header>,
    context: &StageContext,
) -> Result<What, StageError> {
    let none = MoreSpec::default();
    let more = spec.more.as_deref().unwrap_or(&none);
    let wrong = |why: String| -> StageError {
        Problem::new(Code::BadUrl, spec.url.span, why).label(format!("of the check `{}`", spec.name)).into()
    };
    let text = |late: &Option<Late>| -> Result<Option<Bytes>, StageError> {
        let Some(late) = late else { return Ok(None) };
        Ok(Some(Bytes::from(late.resolve(&*context.world)?.into_string())))
    };
    if !more.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&more.query);
    }
    // What the file gave was compiled when it was read.
    let reply = more.reply.as_ref().and_then(|text| Regex::new(text).ok());
    let kind = match url.scheme() {
        "http" | "https" => {
            headers.splice(0..0, basic_auth(&url));
            let wanted = manner.wanted(headers, text(&more.body)?.unwrap_or_default());
            let method = Method::from_bytes(spec.method.as_bytes()).expect("the table lists methods only");
            let first = Prepared::new(&url, method, &wanted, true).map_err(wrong)?;
            let steps = more.steps.iter().map(|step| ready_step(step, context)).collect::<Result<_, _>>()?;
            return Ok(What::Http(Box::new(Chain { first, steps })));
        }
        "ws" | "wss" => {
            let scheme = if url.scheme() == "ws" { "http" } else { "https" };
            let as_http = url.as_str().replacen(url.scheme(), scheme, 1);
            let as_http = Url::parse(&as_http).map_err(|error| wrong(error.to_string()))?;
            headers.splice(0..0, basic_auth(&as_http));
            let wanted = manner.wanted(headers, Bytes::new());
            let request = Prepared::new(&as_http, Method::GET, &wanted, true).map_err(wrong)?;
            Kind::WebSocket(Box::new(WebSocket { request, send: text(&more.send)?, reply }))
        }
        "tcp" => Kind::Tcp(Tcp {
            at: Endpoint::new(&url, None).map_err(wrong)?,
            starttls: more.starttls,
            send: text(&more.send)?,
            reply,
        }),
        "tls" => Kind::Tls(Endpoint::new(&url, Some(TLS_PORT)).map_err(wrong)?),
        "dns" => Kind::Dns(Dns::new(&url, more.answers.clone()).map_err(wrong)?),
        "ping" => Kind::Ping(Ping { at: Endpoint::new(&url, Some(0)).map_err(wrong)? }),
        other => return Err(wrong(format!("`{other}` URLs cannot be checked"))),
    };
    Ok(What::Other(Box::new(kind)))
}

fn ready_step(spec: &StepSpec, context: &StageContext) -> Result<Step, StageError> {
    let template = |late: &Late| -> Result<Template, StageError> {
        let resolved = late.resolve(&*context.world)?;
        // What comes from elsewhere is taken as it is: its `$` are its own.
        let text = match late.as_literal() {
            Some(text) => text.to_owned(),
            None => resolved.expose().replace("${", "$${"),
        };
        Template::new(&text).map_err(|why| Problem::new(Code::BadName, late.span, why).into())
    };
    let mut headers = Vec::new();
    for (name, value) in &spec.headers {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            headers.push((name, template(value)?));
        }
    }
    let none = || Template::new("").expect("nothing is a template");
    let captures = spec.captures.iter().filter_map(|capture| {
        let from = match &capture.from {
            CaptureSource::Pattern(text) => CaptureFrom::Pattern(Box::new(Regex::new(text).ok()?)),
            CaptureSource::Json(text) => CaptureFrom::Json(Box::new(JsonPath::parse(text).ok()?)),
            CaptureSource::Header(text) => CaptureFrom::Header(HeaderName::from_bytes(text.as_bytes()).ok()?),
        };
        Some(Capture { name: capture.name.clone(), from })
    });
    Ok(Step {
        name: spec.name.clone(),
        method: Method::from_bytes(spec.method.as_bytes()).expect("the table lists methods only"),
        url: Template::new(&spec.url).unwrap_or_else(|_| none()),
        headers,
        body: spec.body.as_ref().map(template).transpose()?.unwrap_or_else(none),
        statuses: spec.status.clone(),
        time_max: spec.time,
        captures: captures.collect(),
    })
}
