//! How matchers are written, in a stage of their own or inside checks, and how they become a stage.

use std::collections::HashMap;
use std::sync::Arc;

use monmon_stage::matching::{InlineMatch, InlineSpec, MATCH, MatchSpec};
use monmon_stage::{
    DecodeContext, FROM, OpenFuture, OpenStage, STAGE_NAME, Section, StageContext, StageKind, StageSpec,
};
use monmon_syntax::{
    Code, FileLoader, Node, NodeSpec, Occurs, OptionSpec, Problem, Problems, Span, ValueKind,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::matcher::{MATCHERS_MAX, Matcher};
use crate::pattern::{BACKTRACK_LIMIT, Patterns};
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
    backtrack_limit: usize,
    /// As the file has them, with the check that each belongs to.
    written: Vec<(Option<Uuid>, MatchSpec)>,
    scope: Scope,
}

fn decode(node: &Node, _context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let limit = node.integer("backtrack-limit").and_then(|limit| usize::try_from(limit.value).ok());
    let backtrack_limit = limit.unwrap_or(BACKTRACK_LIMIT);
    let specs: Vec<MatchSpec> = node.children_named("match").filter_map(MatchSpec::read).collect();
    let mut patterns = Patterns::new(backtrack_limit);
    let mut names = Names::default();
    let matchers =
        specs.iter().filter_map(|spec| matcher(spec, &mut names, &mut patterns, problems)).collect();
    let written = specs.into_iter().map(|spec| (None, spec)).collect();
    Box::new(RegexSpec { stage: None, backtrack_limit, written, scope: Scope::All(matchers) })
}

/// The stage that the plan puts behind a source with patterns inside its checks: the same transform, told by check.
pub fn inline_stage(
    source_stage: &str,
    matches: &[InlineMatch],
    _loader: &dyn FileLoader,
    problems: &mut Problems,
) -> Option<Box<dyn StageSpec>> {
    let mut patterns = Patterns::new(BACKTRACK_LIMIT);
    let mut checks: HashMap<Uuid, (Names, Vec<Matcher>)> = HashMap::new();
    let mut written = Vec::new();
    for inline in matches {
        let InlineSpec::Pattern(spec) = &inline.spec else { continue };
        let (names, matchers) = checks.entry(inline.check).or_default();
        matchers.extend(matcher(spec, names, &mut patterns, problems));
        written.push((Some(inline.check), spec.clone()));
    }
    if written.is_empty() {
        return None;
    }
    let scope = checks.into_iter().map(|(check, (_, matchers))| (check, matchers)).collect();
    Some(Box::new(RegexSpec {
        stage: Some(source_stage.into()),
        backtrack_limit: BACKTRACK_LIMIT,
        written,
        scope: Scope::ByCheck(Arc::new(scope)),
    }))
}

/// The names of one stage or check, with their places.
type Names = HashMap<String, Span>;

fn matcher(
    spec: &MatchSpec,
    names: &mut Names,
    patterns: &mut Patterns,
    problems: &mut Problems,
) -> Option<Matcher> {
    let name = &spec.name;
    if let Some(first) = names.get(&name.value) {
        problems.push(
            Problem::new(Code::DuplicateName, name.span, format!("two matchers are named `{}`", name.value))
                .label("the second")
                .related(*first, "the first")
                .help("give each matcher a name of its own: its matches are told apart by it"),
        );
    } else {
        names.insert(name.value.clone(), name.span);
        if names.len() == MATCHERS_MAX + 1 {
            let message = format!("there can be at most {MATCHERS_MAX} matchers for one page");
            problems.push(Problem::new(Code::TooMany, name.span, message).label("one too many"));
        }
    }
    let regex = patterns.compile(&spec.pattern, problems)?;
    Some(Matcher::new(spec, regex))
}

impl StageSpec for RegexSpec {
    fn needs_page(&self) -> bool {
        true
    }

    fn describe(&self) -> Value {
        let matches: Vec<Value> = self.written.iter().map(|(check, spec)| describe(*check, spec)).collect();
        json!({ "backtrack-limit": self.backtrack_limit, "matches": matches })
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        let stage = self.stage.clone().unwrap_or(context.stage);
        let transform = RegexTransform { stage, scope: self.scope.clone() };
        Box::pin(async move { Ok(OpenStage::Transform(Box::new(transform))) })
    }
}

fn describe(check: Option<Uuid>, spec: &MatchSpec) -> Value {
    let mut value = spec.describe();
    if let Some(check) = check {
        value["check"] = json!(check);
    }
    value
}
