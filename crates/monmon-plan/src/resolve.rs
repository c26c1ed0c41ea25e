//! Names, types and units: from nodes to a [`PipelineSpec`].

use std::collections::BTreeMap;
use std::path::Path;

use kdl::{KdlDocument, KdlNode};
use monmon_stage::{DecodeContext, Section, StageKind};
use monmon_syntax::{
    ArgSpec, Code, FileId, FileLoader, Loaded, Node, NodeSpec, Problem, Problems, Span, Spanned, TopNode,
    ValueKind, did_you_mean, node_name_span, node_span, read,
};

use crate::{Catalogue, PipelineSpec, StageEntry};

/// Most stages in a pipeline. Each may have a task or a thread of its own.
const STAGES_MAX: usize = 256;

/// The node that names the pipeline.
static PIPELINE: NodeSpec = NodeSpec {
    name: "pipeline",
    help: "the pipeline's name; ids of checks are made from it",
    example: r#"pipeline "producer""#,
    args: &[ArgSpec { name: "name", kind: ValueKind::Name, help: "the pipeline's name", ..ArgSpec::BLANK }],
    ..NodeSpec::BLANK
};

/// What may stand at the top of a file.
const TOP: [&str; 5] = ["pipeline", "include", "sources", "transforms", "sinks"];

/// Reads every node of the file against the catalogue. What is wrong goes to `problems`; `None` if the pipeline has no
/// name to go on with.
pub fn resolve(
    loaded: &Loaded,
    catalogue: &Catalogue,
    loader: &dyn FileLoader,
    problems: &mut Problems,
) -> Option<PipelineSpec> {
    if loaded.nodes.is_empty() {
        if !problems.has_errors() {
            let message = "the file has no pipeline in it".to_owned();
            let help =
                "a pipeline has a name, `sources` and `sinks`; pipelines/quickstart.kdl is one to start from";
            let start = loaded.sources.iter().next().map(|(file, _)| Span::new(file, 0, 0));
            problems.push(Problem::new(Code::EmptyPipeline, start, message).label("nothing here").help(help));
        }
        return None;
    }
    let name = pipeline_name(loaded, problems);
    let pipeline = name.as_ref().map_or("", |name| &name.value);
    let mut resolving = Resolving { loaded, catalogue, loader, pipeline, problems, stages: Vec::new() };
    for top in &loaded.nodes {
        resolving.top(top);
    }
    let stages = resolving.stages;
    check_names(&stages, problems);
    Some(PipelineSpec { name: name?, stages })
}

fn pipeline_name(loaded: &Loaded, problems: &mut Problems) -> Option<Spanned<String>> {
    let mut named = loaded.nodes.iter().filter(|top| top.node.name().value() == PIPELINE.name);
    let Some(first) = named.next() else {
        let start = loaded.nodes.first().map(|top| Span::new(top.file, 0, 0));
        let problem = Problem::new(Code::MissingNode, start, "the pipeline has no name")
            .label("`pipeline \"name\"` is expected at the top")
            .help("write for example `pipeline \"producer\"`; ids of checks are made from it, so choose it to last");
        problems.push(problem);
        return None;
    };
    let node = read(&first.node, first.file, &PIPELINE, problems);
    for again in named {
        let problem = Problem::new(
            Code::RepeatedNode,
            node_span(again.file, &again.node),
            "the pipeline has two names",
        )
        .label("a second name")
        .related(node.span, "the first name");
        problems.push(problem);
    }
    node.arg_text(0)
}

struct Resolving<'a> {
    loaded: &'a Loaded,
    catalogue: &'a Catalogue,
    loader: &'a dyn FileLoader,
    pipeline: &'a str,
    problems: &'a mut Problems,
    stages: Vec<StageEntry>,
}

impl Resolving<'_> {
    fn top(&mut self, top: &TopNode) {
        let name = top.node.name().value();
        if name == PIPELINE.name {
            return;
        }
        match Section::ALL.into_iter().find(|section| section.as_str() == name) {
            Some(section) => self.section(section, top),
            None => self.unknown_top(top),
        }
    }

    fn section(&mut self, section: Section, top: &TopNode) {
        for entry in top.node.entries() {
            let span = Span::new(top.file, entry.span().offset(), entry.span().len());
            let message = format!("`{}` takes no arguments and no properties", section.as_str());
            self.problems.push(
                Problem::new(Code::ExtraArgument, span, message)
                    .label("stages stand in the block, options at the stages"),
            );
        }
        for node in top.node.children().map(KdlDocument::nodes).unwrap_or_default() {
            self.stage(section, top.file, node);
        }
    }

    fn stage(&mut self, section: Section, file: FileId, node: &KdlNode) {
        let Some(kind) = self.catalogue.kind(section, node.name().value()) else {
            return self.unknown_kind(section, file, node);
        };
        if self.stages.len() == STAGES_MAX {
            let message = format!("a pipeline has at most {STAGES_MAX} stages");
            let span = node_name_span(file, node);
            self.problems.push(Problem::new(Code::TooMany, span, message).label("one too many"));
        }
        if self.stages.len() >= STAGES_MAX {
            return;
        }
        let read = read(node, file, kind.spec, self.problems);
        let Some(name) = read.arg_text(0) else {
            // The name is what was complained about; the rest of the stage is still looked at.
            let nobody = Spanned::new(String::new(), read.name_span);
            self.decode(section, file, kind, &read, nobody);
            return;
        };
        self.check_stage_name(&name);
        if let Some(entry) = self.decode(section, file, kind, &read, name) {
            self.stages.push(entry);
        }
    }

    fn decode(
        &mut self,
        section: Section,
        file: FileId,
        kind: &'static StageKind,
        node: &Node,
        name: Spanned<String>,
    ) -> Option<StageEntry> {
        let folder = self.loaded.sources.get(file).map_or(Path::new(""), |file| file.folder());
        let context = DecodeContext {
            pipeline: self.pipeline,
            stage: &name.value,
            sources: &self.loaded.sources,
            folder,
            loader: self.loader,
        };
        let spec = (kind.decode)(node, &context, self.problems);
        let from = self.inputs(node);
        let named = !name.value.is_empty();
        named.then_some(StageEntry { name, section, kind, kind_span: node.name_span, from, spec })
    }

    /// `from="a,b"`, each name with its own place.
    fn inputs(&mut self, node: &Node) -> Vec<Spanned<String>> {
        // A source has no such option.
        let from = node.spec.option("from").and_then(|option| node.text(option.name));
        let Some(from) = from else { return Vec::new() };
        let mut inputs: Vec<Spanned<String>> = Vec::new();
        let written = self.loaded.sources.text(from.span).unwrap_or_default();
        let mut at = 0;
        for part in from.value.split(',').map(str::trim) {
            // An escape in the text makes its places unlike the value's; the whole is pointed at then.
            let span = match written.get(at..).and_then(|rest| rest.find(part)) {
                Some(found) if !part.is_empty() => {
                    let start = at + found;
                    at = start + part.len();
                    Span::new(from.span.file, from.span.offset + start, part.len())
                }
                _ => from.span,
            };
            if part.is_empty() {
                let problem = Problem::new(Code::BadName, span, "`from` has an empty name in it");
                self.problems.push(problem.label("expected the names of stages with commas between"));
            } else if let Some(first) = inputs.iter().find(|input| input.value == part) {
                let problem =
                    Problem::new(Code::RepeatedOption, span, format!("`{part}` feeds this stage twice"))
                        .label("a second time")
                        .related(first.span, "the first time");
                self.problems.push(problem);
            } else {
                inputs.push(Spanned::new(part.to_owned(), span));
            }
        }
        inputs
    }

    fn check_stage_name(&mut self, name: &Spanned<String>) {
        let bad = name.value.chars().find(|char| char.is_whitespace() || [',', '/'].contains(char));
        if let Some(bad) = bad {
            let message = format!("the stage's name `{}` has a {bad:?} in it", name.value);
            let problem = Problem::new(Code::BadName, name.span, message)
                .label("a stage's name has no spaces, commas or slashes")
                .help("`from` lists stages by name, with commas between");
            self.problems.push(problem);
        }
    }

    fn unknown_kind(&mut self, section: Section, file: FileId, node: &KdlNode) {
        let name = node.name().value();
        let elsewhere = Section::ALL.into_iter().find(|other| self.catalogue.kind(*other, name).is_some());
        let help = match elsewhere {
            Some(other) => {
                Some(format!("`{name}` is a {}: it belongs in `{}`", other.singular(), other.as_str()))
            }
            None => did_you_mean(name, self.catalogue.of(section).map(|kind| kind.spec.name)),
        };
        let message = format!("`{name}` is no kind of {}", section.singular());
        let problem = Problem::new(Code::UnknownKind, node_name_span(file, node), message)
            .label(format!("expected a kind of {}", section.singular()))
            .maybe_help(help);
        self.problems.push(problem);
    }

    fn unknown_top(&mut self, top: &TopNode) {
        let name = top.node.name().value();
        let section = Section::ALL.into_iter().find(|section| self.catalogue.kind(*section, name).is_some());
        let help = match section {
            Some(section) => Some(format!(
                "`{name}` is a kind of {}: put it inside `{} {{ }}`",
                section.singular(),
                section.as_str()
            )),
            None => did_you_mean(name, TOP),
        };
        let span = node_name_span(top.file, &top.node);
        let problem =
            Problem::new(Code::UnknownNode, span, format!("`{name}` means nothing at the top of a pipeline"))
                .label("expected `pipeline`, `include`, `sources`, `transforms` or `sinks`")
                .maybe_help(help);
        self.problems.push(problem);
    }
}

/// Stages are told apart by name; names that differ by case alone are told apart by the machine only.
fn check_names(stages: &[StageEntry], problems: &mut Problems) {
    let mut seen: BTreeMap<String, &Spanned<String>> = BTreeMap::new();
    for stage in stages {
        let name = &stage.name;
        match seen.get(&name.value.to_lowercase()) {
            None => {
                seen.insert(name.value.to_lowercase(), name);
            }
            Some(first) if first.value == name.value => {
                let problem = Problem::new(
                    Code::DuplicateName,
                    name.span,
                    format!("two stages are named `{}`", name.value),
                )
                .label("the same name again")
                .related(first.span, "the first one")
                .help("give one of them another name");
                problems.push(problem);
            }
            Some(first) => {
                let message = format!("`{}` and `{}` differ by case alone", first.value, name.value);
                let problem = Problem::new(Code::Confusable, name.span, message)
                    .label("easily mistaken")
                    .related(first.span, "for this one");
                problems.push(problem);
            }
        }
    }
}
