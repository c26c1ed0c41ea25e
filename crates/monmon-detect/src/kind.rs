//! How a detector is written in a pipeline file.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use monmon_postgres::Target;
use monmon_stage::{
    DecodeContext, FROM, OpenFuture, OpenStage, STAGE_NAME, Section, StageContext, StageError, StageKind,
    StageSpec,
};
use monmon_syntax::{
    ArgSpec, Code, Late, Node, NodeSpec, Occurs, OptionSpec, Problem, Problems, Span, Spanned, Value,
    ValueKind, format_duration,
};
use serde_json::json;
use uuid::Uuid;

use crate::file::StateFile;
use crate::glob;
use crate::policy::{Dependency, Flapping, Policy, Selection, micros};
use crate::recall::{Recall, StoreRecall};
use crate::transform::Detector;
use crate::watch::CHANGES_MAX;
use crate::window::Mark;

/// `detect`: incidents out of measurements.
pub static DETECT: StageKind = StageKind { section: Section::Transforms, spec: &NODE, decode };

/// The folder of the prober's state in which detectors keep theirs.
const FOLDER: &str = "detect";
/// Slots that one prober's verdict may take.
const SLOTS_MAX: i64 = 60;
const PROBERS_MAX: i64 = 64;
/// Selections and dependencies of one detector: each is held against the name of every check.
const RULES_MAX: usize = 200;

static DOWN: NodeSpec = NodeSpec {
    name: "down",
    help: "when a prober finds a check down",
    example: "down after=2 of=3",
    options: &[
        OptionSpec {
            name: "after",
            kind: ValueKind::Integer { min: 1, max: SLOTS_MAX },
            default: Some("2"),
            help: "so many bad slots",
            example: "after=2",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "of",
            kind: ValueKind::Integer { min: 1, max: SLOTS_MAX },
            help: "among the last so many that said anything; as many as `after` when not given, so that they stand in a row",
            example: "of=3",
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static UP: NodeSpec = NodeSpec {
    name: "up",
    help: "when a prober finds a check up again",
    example: "up after=2",
    options: &[OptionSpec {
        name: "after",
        kind: ValueKind::Integer { min: 1, max: SLOTS_MAX },
        default: Some("2"),
        help: "so many good slots in a row",
        example: "after=2",
        ..OptionSpec::BLANK
    }],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static PROBERS: NodeSpec = NodeSpec {
    name: "probers",
    help: "how many probers must find a check down at the same time",
    example: "probers agree=2 of=3",
    options: &[
        OptionSpec {
            name: "agree",
            kind: ValueKind::Integer { min: 1, max: PROBERS_MAX },
            default: Some("1"),
            help: "so many make an incident; with fewer it ends",
            example: "agree=2",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "of",
            kind: ValueKind::Integer { min: 1, max: PROBERS_MAX },
            default: Some("16"),
            help: "so many have a say at most; one more takes the place of one that is silent",
            example: "of=3",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "silent",
            kind: ValueKind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(86_400 * 30) },
            default: Some("10m"),
            help: "one that has told nothing for so long, and for two slots, has no say",
            example: r#"silent="10m""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static FLAPPING: NodeSpec = NodeSpec {
    name: "flapping",
    help: "keeps an incident open, and says so, while the check comes and goes",
    example: r#"flapping changes=6 within="1h""#,
    options: &[
        OptionSpec {
            name: "changes",
            kind: ValueKind::Integer { min: 2, max: CHANGES_MAX as i64 },
            default: Some("6"),
            help: "so many times down or up again",
            example: "changes=6",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "within",
            kind: ValueKind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(86_400 * 7) },
            default: Some("1h"),
            help: "in so much time",
            example: r#"within="1h""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

const CHECKS: ArgSpec = ArgSpec {
    name: "checks",
    kind: ValueKind::Name,
    help: "name of a check, or pipeline/source/name; `*` stands for any text",
    ..ArgSpec::BLANK
};

static SELECT: NodeSpec = NodeSpec {
    name: "select",
    help: "watches only these checks; with several of them those that fit any",
    example: r#"select "shop-*" team="web""#,
    args: &[CHECKS],
    open_properties: Some(ValueKind::Name),
    ..NodeSpec::BLANK
};

static DEPENDS: NodeSpec = NodeSpec {
    name: "depends",
    help: "these checks need another one: while it is in trouble their incidents are kept, and nobody need be told",
    example: r#"depends "shop-*" on="gateway""#,
    args: &[CHECKS],
    options: &[OptionSpec {
        name: "on",
        kind: ValueKind::Name,
        required: true,
        help: "name of the check that is needed, or pipeline/source/name",
        example: r#"on="gateway""#,
        ..OptionSpec::BLANK
    }],
    ..NodeSpec::BLANK
};

static NODE: NodeSpec = NodeSpec {
    name: "detect",
    help: "finds incidents: when a check goes down and comes up again; measurements pass, and incidents come behind them",
    example: r#"detect "outages" from="events" { down after=2 of=3; up after=2; probers agree=2 of=3; }"#,
    args: &[STAGE_NAME],
    options: &[
        FROM,
        OptionSpec {
            name: "degraded",
            kind: ValueKind::OneOf(&["good", "bad", "nothing"]),
            default: Some("good"),
            help: "what a slot is whose outcome is degraded",
            example: r#"degraded="bad""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "attempts",
            kind: ValueKind::Integer { min: 1, max: 20 },
            default: Some("1"),
            help: "a bad attempt before this one waits for the next attempt, or the next slot; as the checks' retries are",
            example: "attempts=3",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "store",
            kind: ValueKind::Url { schemes: &["postgres", "postgresql"] },
            help: "where the incidents are stored: asked for what other consumers decided before a partition came here",
            example: r#"store (env)"MONMON_POSTGRES_URL""#,
            ..OptionSpec::BLANK
        },
    ],
    children: &[&DOWN, &UP, &PROBERS, &FLAPPING, &SELECT, &DEPENDS],
    ..NodeSpec::BLANK
};

#[derive(Debug)]
struct DetectSpec {
    policy: Arc<Policy>,
    store: Option<Late>,
}

fn decode(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let mut policy = Policy::default();
    if let Some(down) = node.child("down") {
        policy.down_after = count(down, "after").unwrap_or(policy.down_after);
        policy.down_of = count(down, "of").unwrap_or(policy.down_after);
        hold(down, ("after", policy.down_after), ("of", policy.down_of), problems);
    }
    if let Some(after) = node.child("up").and_then(|up| count(up, "after")) {
        policy.up_after = after;
    }
    if let Some(probers) = node.child("probers") {
        policy.quorum = count(probers, "agree").unwrap_or(policy.quorum);
        policy.probers = count(probers, "of").unwrap_or(policy.probers);
        policy.silent_us = probers.duration("silent").map_or(policy.silent_us, |silent| micros(silent.value));
        hold(probers, ("agree", policy.quorum), ("of", policy.probers), problems);
    }
    policy.flapping = node.child("flapping").map(|flapping| Flapping {
        changes: count(flapping, "changes").unwrap_or(CHANGES_MAX),
        within_us: flapping.duration("within").map_or(0, |within| micros(within.value)),
    });
    policy.degraded = match node.one_of("degraded").as_ref().map(|word| word.value.as_str()) {
        Some("bad") => Mark::Bad,
        Some("nothing") => Mark::Nothing,
        _ => Mark::Good,
    };
    policy.attempts = count(node, "attempts").and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
    policy.selections = node.children_named("select").filter_map(selection).collect();
    let dependencies: Vec<Rule> = node.children_named("depends").filter_map(Rule::read).collect();
    check_rules(node, policy.selections.len() + dependencies.len(), problems);
    check_circles(&dependencies, problems);
    policy.dependencies = dependencies
        .into_iter()
        .map(|rule| Dependency { pattern: rule.pattern.value, on: rule.on.value })
        .collect();
    let store = node.late("store").map(|late| late.rooted(context.sources));
    Box::new(DetectSpec { policy: Arc::new(policy), store })
}

fn count(node: &Node, name: &str) -> Option<usize> {
    node.integer(name).and_then(|number| usize::try_from(number.value).ok())
}

/// A part can't be larger than its whole.
fn hold(node: &Node, part: (&str, usize), whole: (&str, usize), problems: &mut Problems) {
    if part.1 <= whole.1 {
        return;
    }
    let place = node.integer(whole.0).map_or(node.name_span, |number| number.span);
    let message = format!("`{}` {} of {} can never be", part.0, part.1, whole.1);
    problems
        .push(Problem::new(Code::Conflict, place, message).label(format!("expected at least {}", part.1)));
}

fn selection(node: &Node) -> Option<Selection> {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let labels = node
        .extra
        .iter()
        .filter_map(|(name, value)| Some((name.value.clone(), text(&value.value)?)))
        .collect();
    Some(Selection { pattern: node.arg_text(0)?.value, labels })
}

/// A dependency with its places.
struct Rule {
    pattern: Spanned<String>,
    on: Spanned<String>,
}

impl Rule {
    fn read(node: &Node) -> Option<Rule> {
        Some(Rule { pattern: node.arg_text(0)?, on: node.text("on")? })
    }

    /// Whether what this one needs needs what that one needs: `a*` on `b`, `b` on `c`.
    fn leads_to(&self, other: &Rule) -> bool {
        self.on.value != other.on.value && glob::matches(&other.pattern.value, &self.on.value)
    }
}

fn check_rules(node: &Node, count: usize, problems: &mut Problems) {
    if count > RULES_MAX {
        let message = format!("there can be at most {RULES_MAX} of `select` and `depends` in one detector");
        problems.push(Problem::new(Code::TooMany, node.name_span, message).label("too many in its block"));
    }
}

/// Checks that need each other in a circle would keep each other's incidents quiet.
fn check_circles(rules: &[Rule], problems: &mut Problems) {
    let mut told: BTreeSet<usize> = BTreeSet::new();
    for start in 0..rules.len().min(RULES_MAX) {
        let Some(circle) =
            circle_from(rules, start).filter(|circle| circle.iter().all(|at| !told.contains(at)))
        else {
            continue;
        };
        let names: Vec<&str> = circle.iter().map(|at| rules[*at].on.value.as_str()).collect();
        let message = format!("checks depend on each other in a circle: `{}`", names.join("` -> `"));
        let spans: Vec<Span> = circle.iter().map(|at| rules[*at].on.span).collect();
        let mut problem = Problem::new(Code::Cycle, spans[0], message).label("part of the circle");
        for span in &spans[1..] {
            problem = problem.related(*span, "part of the circle");
        }
        problems.push(problem.help("take one of them out: each would keep the other's incidents quiet"));
        told.extend(circle);
    }
}

/// The shortest way from a rule back to itself.
fn circle_from(rules: &[Rule], start: usize) -> Option<Vec<usize>> {
    let mut before: Vec<Option<usize>> = vec![None; rules.len()];
    let mut open = std::collections::VecDeque::from([start]);
    while let Some(at) = open.pop_front() {
        for next in (0..rules.len()).filter(|next| rules[at].leads_to(&rules[*next])) {
            if next == start {
                let mut circle = vec![at];
                while let Some(earlier) = before[*circle.last()?] {
                    circle.push(earlier);
                }
                circle.reverse();
                return Some(circle);
            }
            if before[next].is_none() {
                before[next] = Some(at);
                open.push_back(next);
            }
        }
    }
    None
}

impl StageSpec for DetectSpec {
    fn describe(&self) -> serde_json::Value {
        let policy = &*self.policy;
        let duration = |us: i64| format_duration(Duration::from_micros(us.unsigned_abs()));
        let mut value = json!({
            "down": { "after": policy.down_after, "of": policy.down_of },
            "up": { "after": policy.up_after },
            "probers": { "agree": policy.quorum, "of": policy.probers, "silent": duration(policy.silent_us) },
            "degraded": policy.degraded.as_str(),
            "attempts": policy.attempts,
        });
        if let Some(flapping) = policy.flapping {
            value["flapping"] =
                json!({ "changes": flapping.changes, "within": duration(flapping.within_us) });
        }
        if !policy.selections.is_empty() {
            let shown = |one: &Selection| json!({ "checks": one.pattern, "labels": one.labels });
            value["select"] = policy.selections.iter().map(shown).collect();
        }
        if !policy.dependencies.is_empty() {
            let shown = |one: &Dependency| json!({ "checks": one.pattern, "on": one.on });
            value["depends"] = policy.dependencies.iter().map(shown).collect();
        }
        if let Some(store) = &self.store {
            value["store"] = json!(format!("{store:?}"));
        }
        value
    }

    /// Matching may wait for a disk or a store.
    fn needs_own_thread(&self) -> bool {
        true
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let recall: Option<Box<dyn Recall>> = match &self.store {
                Some(store) => {
                    let target = Target::of_url(store, &context.world)?;
                    Some(Box::new(StoreRecall::new(target, context.clone())))
                }
                None => None,
            };
            let file = context.prober.state.as_deref().map(|state| open_file(state, &context)).transpose()?;
            let file = file.map(|file| Arc::new(Mutex::new(file)));
            Ok(OpenStage::Transform(Box::new(Detector::new(self.policy.clone(), context, file, recall))))
        })
    }
}

/// A file for each detector, by a name that any file system takes.
fn open_file(state: &Path, context: &StageContext) -> Result<StateFile, StageError> {
    let name = format!("{}\0{}", context.pipeline, context.stage);
    let folder = state.join(FOLDER);
    let path = folder.join(format!("{}.db", Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())));
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        StageError::permanent(format!("the state of incidents cannot be kept in {}", path.display()))
            .caused_by(error)
            .help("--state-dir names another folder")
    };
    std::fs::create_dir_all(&folder).map_err(|error| failed(error.into()))?;
    StateFile::open(&path).map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_table_is_sound() {
        assert_eq!(super::NODE.faults(), [""; 0]);
    }
}
