//! Kinds of stages, and the three things a stage can be once it is open.

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use async_trait::async_trait;
use monmon_syntax::{
    ArgSpec, FileLoader, Node, NodeSpec, OptionSpec, Problems, SourceMap, Spanned, ValueKind,
};

use crate::matching::InlineMatch;
use crate::{Batch, Emitter, Inlet, StageContext, StageError};

/// The section of the file in which a kind stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    Sources,
    Transforms,
    Sinks,
}

impl Section {
    pub const ALL: [Section; 3] = [Section::Sources, Section::Transforms, Section::Sinks];

    /// The section's node name.
    pub fn as_str(self) -> &'static str {
        match self {
            Section::Sources => "sources",
            Section::Transforms => "transforms",
            Section::Sinks => "sinks",
        }
    }

    /// The word for one stage of the section.
    pub fn singular(self) -> &'static str {
        match self {
            Section::Sources => "source",
            Section::Transforms => "transform",
            Section::Sinks => "sink",
        }
    }
}

/// The first argument of every stage.
pub const STAGE_NAME: ArgSpec = ArgSpec {
    name: "name",
    kind: ValueKind::Name,
    help: "the stage's name, unique in the pipeline",
    ..ArgSpec::BLANK
};

/// The inputs of every transform and sink.
pub const FROM: OptionSpec = OptionSpec {
    name: "from",
    kind: ValueKind::Name,
    help: "the stage that feeds this one, or several with commas between",
    example: r#"from="sites""#,
    ..OptionSpec::BLANK
};

/// A kind of stage: what a pipeline file can name.
#[derive(Debug)]
pub struct StageKind {
    pub section: Section,
    /// How it is written. The node's name is the kind's.
    pub spec: &'static NodeSpec,
    /// Turns a node that was read into a spec; what is wrong goes into `Problems`, and decoding goes on.
    pub decode: fn(&Node, &DecodeContext<'_>, &mut Problems) -> Box<dyn StageSpec>,
}

/// What decoding may know beside the node.
pub struct DecodeContext<'a> {
    pub pipeline: &'a str,
    pub stage: &'a str,
    pub sources: &'a SourceMap,
    /// The folder of the file in which the stage stands; relative paths start there.
    pub folder: &'a Path,
    /// For files that belong to the pipeline's text, such as lists of checks.
    pub loader: &'a dyn FileLoader,
}

pub type OpenFuture<'a> = Pin<Box<dyn Future<Output = Result<OpenStage, StageError>> + Send + 'a>>;

/// A stage as the file asks for it: plain data, typed; secrets stay late.
pub trait StageSpec: fmt::Debug + Send + Sync {
    /// Whether the stage looks at pages.
    fn needs_page(&self) -> bool {
        false
    }

    /// Whether a transform may hold up those that would share its thread.
    fn needs_own_thread(&self) -> bool {
        false
    }

    /// Whether a source has pages to give.
    fn gives_page(&self) -> bool {
        false
    }

    /// Matchers that stand inside a source's checks. The plan puts a stage for them right behind the source.
    fn inline_matches(&self) -> Vec<InlineMatch> {
        Vec::new()
    }

    /// Leaves only the checks that are wanted, for one look at them; gives the names of all that there were.
    fn keep_checks(&mut self, _wanted: &dyn Fn(&str) -> bool) -> Vec<String> {
        Vec::new()
    }

    /// Files that no other stage may use, each with its place in the pipeline file; those that are known by now.
    fn claims(&self) -> Vec<Spanned<PathBuf>> {
        Vec::new()
    }

    /// What a snapshot shows: every value in its text form, no secret.
    fn describe(&self) -> serde_json::Value;

    /// Opens the stage: the first step that touches the world.
    fn open(&self, context: StageContext) -> OpenFuture<'_>;
}

pub enum OpenStage {
    Source(Box<dyn Source>),
    Transform(Box<dyn Transform>),
    Sink(Box<dyn Sink>),
}

#[async_trait]
pub trait Source: Send {
    /// Emits until `StageContext::stop` is cancelled or, in `Mode::Once`, everything was done once; then waits for the
    /// acks that it needs.
    async fn run(self: Box<Self>, out: Emitter) -> Result<(), StageError>;
}

/// A function over batches. It runs on threads of its own, and what it can't decide is a match with an error.
pub trait Transform: Send {
    fn apply(&mut self, batch: &mut Batch);

    /// How many places of the edge are taken by what waits for the stage; told before each batch.
    fn backlog(&mut self, _places: usize) {}
}

#[async_trait]
pub trait Sink: Send {
    /// Takes until the inlet ends, flushes, and resolves every ack.
    async fn run(self: Box<Self>, input: Inlet) -> Result<(), StageError>;
}
