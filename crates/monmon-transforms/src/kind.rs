//! How matchers are written, in a stage of their own or inside checks, and how they become a stage.

use std::collections::HashMap;
use std::sync::Arc;

use monmon_stage::matching::{InlineMatch, InlineSpec, MATCH, MatchSpec};
use monmon_stage::{
    DecodeContext, FROM, OpenFuture, OpenStage, STAGE_NAME, Section, StageContext, StageKind, StageSpec,
};
use monmon_syntax::{
    Code, FileLoader, Node, NodeSpec, Occurs, OptionSpec, Problem, Problems, Span, Spanned, ValueKind,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::matcher::{MATCHERS_MAX, Matcher};
use crate::pattern::{BACKTRACK_LIMIT, Gathering, Patterns};
use crate::transform::{RegexTransform, Scope};

/// `regex`: matchers over every page that passes.
pub static REGEX: StageKind = StageKind { section: Section::Transforms, spec: &NODE, decode };

static NODE: NodeSpec = NodeSpec {
    name: "regex",
    help: "looks for patterns in every page that passes",
    example: r##"regex "titles" from="sites" { match "title" #"<title>(?<title>[^<]*)</title>"#; }"##,
    args: &[STAGE_NAME],
    options: &[
        FROM,
        OptionSpec {
            name: "backtrack-limit",
            kind: ValueKind::Integer { min: 1_000, max: 100_000_000 },
            // The same number as BACKTRACK_LIMIT, which matchers inside checks have.
            default: Some("1000000"),
            help: "how many steps back one search may take before it gives up; only look-around and backreferences step back",
            example: "backtrack-limit=100000",
            ..OptionSpec::BLANK
        },
    ],
    children: &[&NodeSpec { occurs: Occurs::AtLeastOnce, ..MATCH_NODE }],
    ..NodeSpec::BLANK
};

/// [`MATCH`], as a constant that a table can be made from.
const MATCH_NODE: NodeSpec = MATCH;

/// A `regex` stage, or the stage behind a source for the matchers inside its checks.
#[derive(Debug)]
struct RegexSpec {
    /// As the matches name it; a stage of its own has its own name.
    stage: Option<Arc<str>>,
    scope: Scope,
    patterns: Arc<Patterns>,
}

fn decode(node: &Node, _context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let limit = node.integer("backtrack-limit").and_then(|limit| usize::try_from(limit.value).ok());
    let specs: Vec<Arc<MatchSpec>> =
        node.children_named("match").filter_map(MatchSpec::read).map(Arc::new).collect();
    let mut patterns = Gathering::new(limit.unwrap_or(BACKTRACK_LIMIT));
    let mut names = Names::default();
    let mut matchers = Vec::new();
    for spec in &specs {
        names.add(&spec.name, problems);
        if let Some(pattern) = patterns.take(&spec.pattern, problems) {
            matchers.push(Matcher { check: None, spec: Arc::clone(spec), pattern });
        }
    }
    let patterns = Arc::new(patterns.finish());
    Box::new(RegexSpec { stage: None, scope: Scope::all(matchers), patterns })
}

/// The stage that the plan puts behind a source with patterns inside its checks: the same transform, told by check.
pub fn inline_stage(
    source_stage: &str,
    matches: &[InlineMatch],
    _loader: &dyn FileLoader,
    problems: &mut Problems,
) -> Option<Box<dyn StageSpec>> {
    let mut patterns = Gathering::new(BACKTRACK_LIMIT);
    let mut matchers = Vec::new();
    // Those of one check follow one another; that their names differ was seen to where the check was read.
    let mut of_check = (Uuid::nil(), 0);
    let mut any = false;
    for inline in matches {
        let InlineSpec::Pattern(spec) = &inline.spec else { continue };
        any = true;
        of_check =
            if of_check.0 == inline.check { (inline.check, of_check.1 + 1) } else { (inline.check, 1) };
        if of_check.1 == MATCHERS_MAX + 1 {
            problems.push(too_many(spec.name.span));
        }
        if let Some(pattern) = patterns.take(&spec.pattern, problems) {
            matchers.push(Matcher { check: Some(inline.check), spec: Arc::clone(spec), pattern });
        }
    }
    if !any {
        return None;
    }
    let (scope, patterns) = (Scope::by_check(matchers), Arc::new(patterns.finish()));
    Some(Box::new(RegexSpec { stage: Some(source_stage.into()), scope, patterns }))
}

/// The names of one stage's matchers, with their places.
#[derive(Default)]
struct Names<'a>(HashMap<&'a str, Span>);

impl<'a> Names<'a> {
    fn add(&mut self, name: &'a Spanned<String>, problems: &mut Problems) {
        if let Some(first) = self.0.get(name.value.as_str()) {
            problems.push(
                Problem::new(
                    Code::DuplicateName,
                    name.span,
                    format!("two matchers are named `{}`", name.value),
                )
                .label("the second")
                .related(*first, "the first")
                .help("give each matcher a name of its own: its matches are told apart by it"),
            );
            return;
        }
        self.0.insert(&name.value, name.span);
        if self.0.len() == MATCHERS_MAX + 1 {
            problems.push(too_many(name.span));
        }
    }
}

fn too_many(span: Span) -> Problem {
    let message = format!("there can be at most {MATCHERS_MAX} matchers for one page");
    Problem::new(Code::TooMany, span, message).label("one too many")
}

impl StageSpec for RegexSpec {
    fn needs_page(&self) -> bool {
        true
    }

    fn describe(&self) -> Value {
        let matches: Vec<Value> = self.scope.matchers().iter().map(describe).collect();
        json!({ "backtrack-limit": self.patterns.backtrack_limit, "matches": matches })
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        let stage = self.stage.clone().unwrap_or(context.stage);
        let (scope, patterns) = (self.scope.clone(), Arc::clone(&self.patterns));
        let transform = RegexTransform { stage, scope, patterns };
        Box::pin(async move { Ok(OpenStage::Transform(Box::new(transform))) })
    }
}

fn describe(matcher: &Matcher) -> Value {
    let mut value = matcher.spec.describe();
    if let Some(check) = matcher.check {
        value["check"] = json!(check);
    }
    value
}
