//! How the stages hang together: from a [`PipelineSpec`] to a [`Plan`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use monmon_stage::{EDGE_PLACES, Section};
use monmon_syntax::{Code, FileLoader, Problem, Problems, Span, Spanned, did_you_mean};

use crate::graph::Graph;
use crate::{Catalogue, PipelineSpec, Plan, PlanEdge, PlanStage, PlanTask, StageEntry, StageId};

/// Checks the graph as a type checker checks a program, then lays it out. `None` if anything was wrong with it.
pub fn compile(
    spec: PipelineSpec,
    catalogue: &Catalogue,
    loader: &dyn FileLoader,
    problems: &mut Problems,
) -> Option<Plan> {
    let errors_before = problems.error_count();
    check_sections(&spec, problems);
    check_claims(&spec.stages, problems);
    let graph = connect(&spec.stages, problems);
    let order = check_order(&spec.stages, &graph, problems);
    if problems.error_count() == errors_before {
        check_reach(&spec.stages, &graph, problems);
        check_pages(&spec.stages, &graph, problems);
    }
    let pipeline: Arc<str> = spec.name.value.as_str().into();
    let nodes = with_inline_matchers(spec.stages, graph, catalogue, loader, problems);
    if problems.error_count() > errors_before || order.is_none() {
        return None;
    }
    Some(lay_out(pipeline, nodes))
}

fn check_sections(spec: &PipelineSpec, problems: &mut Problems) {
    for (section, example) in [(Section::Sources, "http"), (Section::Sinks, "sqlite")] {
        if !spec.stages.iter().any(|stage| stage.section == section) {
            let message = format!("the pipeline has no {}", section.singular());
            let problem = Problem::new(Code::EmptyPipeline, spec.name.span, message)
                .label(format!("needs at least one {}", section.singular()))
                .help(format!("add `{} {{ {example} \"name\" {{ ... }} }}`", section.as_str()));
            problems.push(problem);
        }
    }
}

/// A file that a stage needs for itself alone is named once.
fn check_claims(stages: &[StageEntry], problems: &mut Problems) {
    let mut claimed: BTreeMap<PathBuf, Span> = BTreeMap::new();
    for claim in stages.iter().flat_map(|stage| stage.spec.claims()) {
        match claimed.get(&claim.value) {
            None => {
                claimed.insert(claim.value, claim.span);
            }
            Some(first) => {
                let message = format!("two stages want the file `{}` for themselves", claim.value.display());
                let problem = Problem::new(Code::Conflict, claim.span, message)
                    .label("the same file again")
                    .related(*first, "the first one")
                    .help("give each its own file");
                problems.push(problem);
            }
        }
    }
}

/// The edges that `from` asks for, and those that go without saying.
fn connect(stages: &[StageEntry], problems: &mut Problems) -> Graph {
    let by_name: BTreeMap<&str, usize> =
        stages.iter().enumerate().rev().map(|(index, stage)| (stage.name.value.as_str(), index)).collect();
    let mut graph = Graph::new(stages.len());
    for (index, stage) in stages.iter().enumerate().filter(|(_, stage)| stage.section != Section::Sources) {
        let feeders = || stages.iter().enumerate().filter(|(other, feeder)| *other != index && gives(feeder));
        for from in &stage.from {
            match by_name.get(from.value.as_str()) {
                Some(other) if gives(&stages[*other]) => graph.join(*other, index),
                Some(other) => problems.push(wrong_from(stage, from, &stages[*other])),
                None => {
                    let names = feeders().map(|(_, feeder)| feeder.name.value.as_str());
                    let problem = Problem::new(
                        Code::UnknownStage,
                        from.span,
                        format!("no stage is named `{}`", from.value),
                    )
                    .label("expected the name of a source or transform")
                    .maybe_help(did_you_mean(&from.value, names));
                    problems.push(problem);
                }
            }
        }
        if stage.from.is_empty() {
            let candidates: Vec<(usize, &StageEntry)> = feeders().collect();
            match candidates.as_slice() {
                [(only, _)] => graph.join(*only, index),
                candidates => problems.push(missing_from(stage, candidates)),
            }
        }
    }
    graph
}

fn gives(stage: &StageEntry) -> bool {
    stage.section != Section::Sinks
}

fn wrong_from(stage: &StageEntry, from: &Spanned<String>, sink: &StageEntry) -> Problem {
    let message =
        format!("`{}` takes from `{}`, which is a sink and gives nothing", stage.name.value, from.value);
    Problem::new(Code::WrongFrom, from.span, message)
        .label("expected the name of a source or transform")
        .related(sink.name.span, "the sink")
}

fn missing_from(stage: &StageEntry, candidates: &[(usize, &StageEntry)]) -> Problem {
    let who = format!("the {} `{}`", stage.section.singular(), stage.name.value);
    if candidates.is_empty() {
        let code = if stage.section == Section::Sinks { Code::SinkWithoutInput } else { Code::MissingFrom };
        return Problem::new(code, stage.kind_span, format!("{who} is fed by nothing"))
            .label("there is no source or transform to take from");
    }
    let names: Vec<String> =
        candidates.iter().map(|(_, feeder)| format!("`{}`", feeder.name.value)).collect();
    let example = candidates.last().map_or("", |(_, feeder)| &feeder.name.value);
    Problem::new(
        Code::AmbiguousFrom,
        stage.kind_span,
        format!("{who} does not say where its input comes from"),
    )
    .label(format!("it could be {}", names.join(" or ")))
    .help(format!("add `from=\"{example}\"`"))
}

fn check_order(stages: &[StageEntry], graph: &Graph, problems: &mut Problems) -> Option<Vec<usize>> {
    match graph.order() {
        Ok(order) => Some(order),
        Err(circle) => {
            let names: Vec<&str> = circle.iter().map(|index| stages[*index].name.value.as_str()).collect();
            let message = match names.as_slice() {
                [only] => format!("`{only}` feeds itself"),
                names => format!("stages feed each other in a circle: `{}`", names.join("` -> `")),
            };
            let first = &stages[circle[0]];
            let mut problem = Problem::new(Code::Cycle, first.name.span, message).label("part of the circle");
            for other in &circle[1..] {
                problem = problem.related(stages[*other].name.span, "part of the circle");
            }
            problems.push(
                problem.help("a stage takes from sources, or from transforms that do not depend on it"),
            );
            None
        }
    }
}

/// What is given and not taken is an error: whoever wrote it meant it to go somewhere.
fn check_reach(stages: &[StageEntry], graph: &Graph, problems: &mut Problems) {
    let sinks = (0..stages.len()).filter(|index| stages[*index].section == Section::Sinks);
    let reaches = graph.leading_to(sinks);
    for (stage, _) in stages.iter().zip(reaches).filter(|(_, reaches)| !reaches) {
        let message =
            format!("what the {} `{}` gives reaches no sink", stage.section.singular(), stage.name.value);
        let problem =
            Problem::new(Code::UnusedStage, stage.name.span, message).label("taken by nothing").help(
                format!("name it in the `from` of a sink, `from=\"{}\"`, or take it out", stage.name.value),
            );
        problems.push(problem);
    }
}

/// Whoever looks at pages must get them from every input.
fn check_pages(stages: &[StageEntry], graph: &Graph, problems: &mut Problems) {
    let pageless: Vec<usize> = (0..stages.len())
        .filter(|index| stages[*index].section == Section::Sources && !stages[*index].spec.gives_page())
        .collect();
    for (index, stage) in stages.iter().enumerate().filter(|(_, stage)| stage.spec.needs_page()) {
        let leads = graph.leading_to([index]);
        for source in pageless.iter().filter(|source| leads[**source]).map(|source| &stages[*source]) {
            let (kind, name) = (stage.kind.spec.name, &stage.name.value);
            let (source_kind, source_name) = (source.kind.spec.name, &source.name.value);
            let message = format!(
                "the {kind} stage `{name}` needs pages, and those that come from the {source_kind} source \
                 `{source_name}` have none"
            );
            let problem = Problem::new(Code::NeedsPage, stage.kind_span, message)
                .label("looks at the page's body")
                .related(source.name.span, "gives measurements only: pages never leave the process that fetched them")
                .help("put the stage in the pipeline that has the http source; its matches travel with the measurement");
            problems.push(problem);
        }
    }
}

/// A node of the laid-out graph.
struct Nodes {
    stages: Vec<PlanStage>,
    graph: Graph,
}

/// Puts matchers right behind each source whose checks have matches of their own.
fn with_inline_matchers(
    entries: Vec<StageEntry>,
    graph: Graph,
    catalogue: &Catalogue,
    loader: &dyn FileLoader,
    problems: &mut Problems,
) -> Nodes {
    let mut stages: Vec<PlanStage> = Vec::with_capacity(entries.len());
    let mut matchers: Vec<(usize, PlanStage)> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let inline = entry.spec.inline_matches();
        let first = matchers.len();
        let name = entry.name.value;
        for kind in catalogue.inline_kinds.iter().filter(|_| !inline.is_empty()) {
            if let Some(spec) = (kind.stage)(&name, &inline, loader, problems) {
                let name = format!("{name}/{}", kind.name);
                matchers.push((index, PlanStage::new(name, Section::Transforms, kind.name, spec)));
            }
        }
        if let Some((_, last)) = matchers[first..].last_mut() {
            last.judges = true;
        }
        stages.push(PlanStage::new(name, entry.section, entry.kind.spec.name, entry.spec));
    }
    let mut joined = Graph::new(stages.len() + matchers.len());
    let mut given_by: Vec<usize> = (0..stages.len()).collect();
    for (source, matcher) in matchers {
        joined.join(given_by[source], stages.len());
        given_by[source] = stages.len();
        stages.push(matcher);
    }
    for (to, inputs) in graph.inputs.iter().enumerate() {
        inputs.iter().for_each(|from| joined.join(given_by[*from], to));
    }
    Nodes { stages, graph: joined }
}

/// Topological order, pages where they are wanted, runs of transforms in one task.
fn lay_out(pipeline: Arc<str>, nodes: Nodes) -> Plan {
    let Nodes { stages, graph } = nodes;
    let order = graph.order().expect("a graph without circles has none after a stage was put into an edge");
    let wanting: Vec<usize> = (0..stages.len()).filter(|index| stages[*index].needs_page).collect();
    let wants_pages = graph.leading_to(wanting);

    let mut place = vec![0; stages.len()];
    order.iter().enumerate().for_each(|(at, index)| place[*index] = at);
    let mut taken: Vec<Option<PlanStage>> = stages.into_iter().map(Some).collect();
    let mut sorted = Vec::with_capacity(taken.len());
    for index in &order {
        let mut stage = taken[*index].take().expect("an order names each stage once");
        stage.keep_pages = graph.outputs[*index].iter().any(|next| wants_pages[*next]);
        sorted.push(stage);
    }

    let mut tasks: Vec<PlanTask> = Vec::new();
    let mut edges = Vec::new();
    for index in &order {
        let id = StageId(place[*index]);
        let fused = match graph.inputs[*index].as_slice() {
            [only] => {
                let both = [*only, *index].map(|node| sorted[place[node]].may_share_task());
                both == [true, true] && graph.outputs[*only].len() == 1
            }
            _ => false,
        };
        if fused {
            let before = StageId(place[graph.inputs[*index][0]]);
            let task = tasks.iter_mut().find(|task| task.stages.last() == Some(&before));
            task.expect("a stage's only input has a task and is its end").stages.push(id);
            continue;
        }
        tasks.push(PlanTask { stages: vec![id] });
        for from in &graph.inputs[*index] {
            let carries_pages = wants_pages[*index];
            edges.push(PlanEdge {
                from: StageId(place[*from]),
                to: id,
                capacity: EDGE_PLACES,
                carries_pages,
            });
        }
    }
    Plan { pipeline, stages: sorted, edges, tasks }
}
