//! From nodes to a spec. Everything that is wrong is reported in one go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use monmon_model::bounds::{LABEL_NAME_CHARS_MAX, LABELS_MAX, fits};
use monmon_model::{Labels, check_id};
use monmon_stage::matching::{InlineSpec, MatchSpec, PluginSpec};
use monmon_stage::{DecodeContext, StageSpec};
use monmon_syntax::{Code, Node, Problem, Problems, Ranges, Span, Value, parse_ranges, printable};
use uuid::Uuid;

use super::asking::{AskSpec, asking};
use super::kinds::{fits_kind, more};
use super::sites;
use super::spec::{CheckSpec, Checks, HttpSpec, ReferenceSpec};
use super::table::{METHODS, STATUS_DEFAULT};
use crate::probe::Limits;

/// Most checks of one source.
pub(crate) const CHECKS_MAX: usize = 100_000;

/// From where on a crontab line's mean interval is taken: fixed, so that a definition is the same whenever it is read.
const MEAN_FROM: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// What a check has that does not say otherwise.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) ask: Arc<AskSpec>,
}

pub(crate) fn decode(
    node: &Node,
    context: &DecodeContext<'_>,
    problems: &mut Problems,
) -> Box<dyn StageSpec> {
    let duration = |name, otherwise| node.duration(name).map_or(otherwise, |given| given.value);
    let size = |name, otherwise| node.size(name).map_or(otherwise, |given| given.value);
    let defaults = Defaults {
        interval: duration("interval", Duration::from_secs(60)),
        timeout: duration("timeout", Duration::from_secs(10)),
        ask: asking(node, &Arc::default(), context, problems),
    };
    let mut names = Names::default();
    let mut checks = Vec::new();
    for child in &node.children {
        match child.spec.name {
            "check" => checks.extend(check(child, context, &defaults, &mut names, problems)),
            "checks-from" => sites::read(child, context, &defaults, &mut names, &mut checks, problems),
            _ => {}
        }
        if checks.len() > CHECKS_MAX {
            let message = format!("the source has more than {CHECKS_MAX} checks");
            problems.push(Problem::new(Code::TooMany, child.name_span, message).label("one too many"));
            checks.truncate(CHECKS_MAX);
            break;
        }
    }
    if checks.is_empty() && node.is_sound() && !problems.has_errors() {
        problems.push(
            Problem::new(Code::MissingNode, node.name_span, "the source has nothing to check")
                .label("needs a `check` or `checks-from` in its block")
                .help("for example: check \"home\" \"https://example.org/\""),
        );
    }
    Box::new(HttpSpec {
        checks: Checks::new(checks),
        concurrency: node
            .integer("concurrency")
            .and_then(|given| usize::try_from(given.value).ok())
            .unwrap_or(2000),
        limits: Limits {
            body_wire_bytes_max: size("wire-max", 2 << 20),
            body_bytes_max: size("body-max", 8 << 20),
        },
        pages_bytes_max: size("pages-max", 64 << 20),
        demo_site: demo_site(node, problems),
        demo_site_may_be_taken: false,
        per_host: node.integer("per-host").and_then(|given| usize::try_from(given.value).ok()),
        references: references(node, context),
        ask: defaults.ask,
    })
}

fn references(node: &Node, context: &DecodeContext<'_>) -> Vec<ReferenceSpec> {
    let read = |reference: &Node| {
        let timeout = reference.duration("timeout")?.value;
        Some(ReferenceSpec { url: reference.arg_late(0)?.rooted(context.sources), timeout })
    };
    node.children_named("reference").filter_map(read).collect()
}

fn demo_site(node: &Node, problems: &mut Problems) -> Option<SocketAddr> {
    let given = node.text("demo-site")?;
    match given.value.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() && address.port() != 0 => return Some(address),
        Ok(_) => problems.push(
            Problem::new(Code::OutOfRange, given.span, "the demo site is served on loopback only")
                .label("expected an address such as \"127.0.0.1:8480\""),
        ),
        Err(_) => problems.push(
            Problem::new(
                Code::BadName,
                given.span,
                format!("`{}` is not an address with a port", given.value),
            )
            .label("expected an address such as \"127.0.0.1:8480\""),
        ),
    }
    None
}

fn check(
    node: &Node,
    context: &DecodeContext<'_>,
    defaults: &Defaults,
    names: &mut Names,
    problems: &mut Problems,
) -> Option<CheckSpec> {
    let name = node.arg_text(0)?;
    let is_new = names.add(&name.value, name.span, None, problems);
    let expect = node.child("expect");
    let url = node.arg_late(1)?.rooted(context.sources);
    let scheme = url.as_literal().and_then(|text| text.split_once(':')).map(|(scheme, _)| scheme);
    let status = match (expect.filter(|expect| expect.is_given("status")), scheme) {
        (None, Some("ws" | "wss")) => parse_ranges("101").expect("a number is a range"),
        (expect, _) => {
            expect.and_then(|expect| expect.ranges("status")).map_or_else(default_status, |given| given.value)
        }
    };
    if let Some(scheme) = scheme {
        fits_kind(node, scheme, problems);
    }
    let ask = asking(node, &defaults.ask, context, problems);
    let more = more(node, context, problems);
    let interval = match more.as_ref().and_then(|more| more.schedule.as_ref()) {
        Some(schedule) => schedule.mean_interval(MEAN_FROM),
        None => node.duration("interval").map_or(defaults.interval, |given| given.value),
    };
    let time = expect.and_then(|expect| expect.below("time")).map(|given| given.value);
    let headers = headers(node, context, problems);
    let labels = labels(node, problems);
    let matches = matches(node, context, problems);
    let id = match node.text("id") {
        None => check_id(context.pipeline, context.stage, &name.value),
        Some(given) => match Uuid::try_parse(&given.value) {
            Ok(id) if !id.is_nil() => id,
            _ => {
                problems.push(
                    Problem::new(Code::BadName, given.span, format!("`{}` is not a UUID", given.value))
                        .label("expected a UUID such as \"0d6a7a2e-7c1f-5a52-9d4e-6f3a0f7c1b11\""),
                );
                return None;
            }
        },
    };
    if is_new {
        names.add_id(id, node.option_span("id").unwrap_or(name.span), problems);
    }
    Some(CheckSpec {
        id,
        name: name.value,
        url,
        interval,
        timeout: node.duration("timeout").map_or(defaults.timeout, |given| given.value),
        method: node.one_of("method").and_then(|given| method(&given.value)).unwrap_or(METHODS[0]),
        status,
        time,
        headers,
        labels,
        matches,
        ask,
        more,
    })
}

/// The method of this name.
pub(super) fn method(name: &str) -> Option<&'static str> {
    METHODS.iter().copied().find(|known| *known == name)
}

pub(crate) fn default_status() -> Ranges {
    parse_ranges(STATUS_DEFAULT).expect("the default in the table is a range")
}

/// Why a header cannot be a check's own, if it cannot.
pub(super) fn header_fault(name: &str) -> Option<String> {
    const OF_THE_CONNECTION: [&str; 6] =
        ["connection", "content-length", "transfer-encoding", "upgrade", "te", "accept-encoding"];
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Some(format!("`{name}` cannot be a header's name"));
    }
    let is_own = OF_THE_CONNECTION.iter().any(|own| name.eq_ignore_ascii_case(own));
    is_own.then(|| format!("the header `{name}` is set by monmon"))
}

pub(super) fn headers(
    node: &Node,
    context: &DecodeContext<'_>,
    problems: &mut Problems,
) -> Vec<(String, monmon_syntax::Late)> {
    let mut headers: Vec<(String, monmon_syntax::Late)> = Vec::new();
    for header in node.children_named("header") {
        let (Some(name), Some(value)) = (header.arg_text(0), header.arg_late(1)) else { continue };
        if let Some(fault) = header_fault(&name.value) {
            let (code, label) = match HeaderName::from_bytes(name.value.as_bytes()) {
                Ok(_) => (Code::Unsupported, "belongs to the connection, not to the check"),
                Err(_) => (Code::BadName, "expected letters, digits and `-`, as in \"accept-language\""),
            };
            problems.push(Problem::new(code, name.span, fault).label(label));
            continue;
        }
        if value.as_literal().is_some_and(|text| HeaderValue::from_str(text).is_err()) {
            problems.push(
                Problem::new(
                    Code::ForbiddenCharacter,
                    value.span,
                    format!("the value of `{}` cannot be sent", name.value),
                )
                .label("a header holds no line breaks or control characters"),
            );
            continue;
        }
        if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name.value)) {
            problems.push(
                Problem::new(
                    Code::DuplicateName,
                    name.span,
                    format!("the header `{}` is given twice", name.value),
                )
                .label("given before"),
            );
            continue;
        }
        headers.push((name.value, value.rooted(context.sources)));
    }
    headers
}

fn labels(node: &Node, problems: &mut Problems) -> Labels {
    let mut labels = Labels::new();
    for (name, value) in node.children_named("label").flat_map(|label| &label.extra) {
        let Value::Text(text) = &value.value else { continue };
        if let Err(fault) = label_name(&name.value) {
            problems.push(Problem::new(Code::BadName, name.span, fault).label("cannot name a label"));
            continue;
        }
        if labels.insert(name.value.clone(), text.clone()).is_some() {
            problems.push(
                Problem::new(
                    Code::DuplicateName,
                    name.span,
                    format!("the label `{}` is given twice", name.value),
                )
                .label("given before"),
            );
        } else if labels.len() == LABELS_MAX + 1 {
            let message = format!("the check has more than {LABELS_MAX} labels");
            problems.push(Problem::new(Code::TooMany, name.span, message).label("one too many"));
        }
    }
    labels
}

/// What a label's name may be: short, and nothing that cannot be seen.
pub(crate) fn label_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("a label's name is empty".to_owned());
    }
    if !fits(name, LABEL_NAME_CHARS_MAX) {
        return Err(format!("a label's name is longer than {LABEL_NAME_CHARS_MAX} characters"));
    }
    if printable(name) != name || name.chars().any(char::is_control) {
        let shown = name.escape_debug();
        return Err(format!("the label's name `{shown}` holds a character that cannot be seen"));
    }
    Ok(())
}

fn matches(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Vec<InlineSpec> {
    let mut matches: Vec<InlineSpec> = Vec::new();
    for child in &node.children {
        let found = match child.spec.name {
            "match" => MatchSpec::read(child).map(|spec| InlineSpec::Pattern(Arc::new(spec))),
            "wasm" => PluginSpec::read(child, context.folder, problems)
                .map(|spec| InlineSpec::Plugin(Arc::new(spec))),
            _ => None,
        };
        let Some(found) = found else { continue };
        match matches.iter().find(|known| known.name().value == found.name().value) {
            Some(first) => problems.push(
                Problem::new(
                    Code::DuplicateName,
                    found.name().span,
                    format!("the check has two matchers named `{}`", found.name().value),
                )
                .label("the second")
                .related(first.name().span, "the first"),
            ),
            None => matches.push(found),
        }
    }
    matches
}

/// The names of a source's checks, and where each stands.
#[derive(Default)]
pub(crate) struct Names {
    exact: BTreeMap<String, (Span, Option<u64>)>,
    folded: BTreeMap<String, String>,
    ids: BTreeMap<Uuid, Span>,
}

impl Names {
    /// `line`: of a CSV file, where the span is that of the node which names the file.
    pub(crate) fn add(&mut self, name: &str, span: Span, line: Option<u64>, problems: &mut Problems) -> bool {
        if let Some((first, first_line)) = self.exact.get(name) {
            let at = line.map(|line| format!(" (line {line})")).unwrap_or_default();
            let first_at = first_line.map(|line| format!("the first, line {line}"));
            problems.push(
                Problem::new(Code::DuplicateName, span, format!("two checks are named `{name}`{at}"))
                    .label("the second")
                    .related(*first, first_at.unwrap_or_else(|| "the first".to_owned())),
            );
            return false;
        }
        self.exact.insert(name.to_owned(), (span, line));
        let folded = name.to_lowercase();
        if let Some(other) = self.folded.get(&folded) {
            let first = self.exact.get(other).map(|(first, _)| *first);
            let mut problem = Problem::new(
                Code::Confusable,
                span,
                format!("the checks `{other}` and `{name}` differ by case alone"),
            )
            .label("easily taken for the other");
            if let Some(first) = first {
                problem = problem.related(first, "the other");
            }
            problems.push(problem);
        } else {
            self.folded.insert(folded, name.to_owned());
        }
        true
    }

    pub(crate) fn add_id(&mut self, id: Uuid, span: Span, problems: &mut Problems) {
        match self.ids.get(&id) {
            Some(first) => problems.push(
                Problem::new(Code::DuplicateName, span, format!("two checks have the id `{id}`"))
                    .label("the second")
                    .related(*first, "the first"),
            ),
            None => {
                self.ids.insert(id, span);
            }
        }
    }
}
