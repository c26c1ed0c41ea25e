//! How a sqlite sink is written in a pipeline file.

use std::path::PathBuf;
use std::time::Duration;

use monmon_spool::{SPOOL, wrap};
use monmon_stage::{
    DecodeContext, FROM, FROM_STORE, OpenFuture, OpenStage, RETENTION, Replay, ReplaySettings, Retention,
    STAGE_NAME, Section, StageContext, StageError, StageKind, StageSpec, decode_selection,
};
use monmon_syntax::{Late, Node, NodeSpec, OptionSpec, Problems, ValueKind, format_duration};
use serde_json::{Value, json};

use crate::database::Synchronous;
use crate::read::Reader;
use crate::sink::{Settings, SqliteSink};

/// `sqlite`: an embedded database in one file.
pub static SINK: StageKind = StageKind { section: Section::Sinks, spec: &NODE, decode };

static NODE: NodeSpec = NodeSpec {
    name: "sqlite",
    help: "stores measurements in a SQLite file, which it makes itself, each once, whatever is killed when",
    example: r#"sqlite "store" from="sites" path="monmon.db""#,
    args: &[STAGE_NAME],
    options: &[
        FROM,
        OptionSpec {
            name: "path",
            kind: ValueKind::Path,
            required: true,
            help: "the file; it is made when it is not there",
            example: r#"path="monmon.db""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "batch",
            kind: ValueKind::Integer { min: 1, max: 20_000 },
            default: Some("1000"),
            help: "the most items that one transaction stores",
            example: "batch=1000",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "linger",
            kind: ValueKind::Duration { min: Duration::ZERO, max: Duration::from_secs(10) },
            default: Some("50ms"),
            help: "how long a batch that is not full waits for more",
            example: r#"linger="50ms""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "synchronous",
            kind: ValueKind::OneOf(&["full", "normal"]),
            default: Some("full"),
            help: "full: on the disk before it is acked; normal: a power cut may lose the last commits",
            example: r#"synchronous="full""#,
            ..OptionSpec::BLANK
        },
    ],
    children: &[&RETENTION, &SPOOL],
    ..NodeSpec::BLANK
};

/// `sqlite` as a source: everything that a file holds, once.
pub static SOURCE: StageKind =
    StageKind { section: Section::Sources, spec: &SOURCE_NODE, decode: decode_source };

static SOURCE_NODE: NodeSpec = NodeSpec {
    name: "sqlite",
    help: "reads what a sqlite sink has stored, from the first row to the last, and ends; to move and merge datasets",
    example: r#"sqlite "laptop" path="monmon.db""#,
    args: &[STAGE_NAME],
    options: &[
        OptionSpec {
            name: "path",
            kind: ValueKind::Path,
            required: true,
            help: "the file",
            example: r#"path="monmon.db""#,
            ..OptionSpec::BLANK
        },
        FROM_STORE[0],
        FROM_STORE[1],
        FROM_STORE[2],
    ],
    ..NodeSpec::BLANK
};

#[derive(Debug)]
struct SourceSpec {
    path: Late,
    /// Relative paths start here.
    folder: PathBuf,
    replay: ReplaySettings,
}

fn decode_source(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let path = node.late("path").unwrap_or_else(|| Late::literal("", node.name_span));
    Box::new(SourceSpec {
        path: path.rooted(context.sources),
        folder: context.folder.to_owned(),
        replay: decode_selection(node, problems),
    })
}

impl StageSpec for SourceSpec {
    fn describe(&self) -> Value {
        let mut value = json!({ "path": format!("{:?}", self.path) });
        self.replay.describe(&mut value);
        value
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let path = self.folder.join(self.path.resolve(&*context.world)?.expose());
            let selection = self.replay.selection(&*context.world)?;
            let opening = tokio::task::spawn_blocking(move || Reader::open(path, &selection));
            let reader = opening
                .await
                .map_err(|error| StageError::permanent("the reading thread ended").caused_by(error))??;
            Ok(OpenStage::Source(Box::new(Replay::new(reader, context))))
        })
    }
}

#[derive(Debug)]
struct SqliteSpec {
    path: Late,
    /// Relative paths start here.
    folder: PathBuf,
    settings: Settings,
}

fn decode(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let path = node.late("path").unwrap_or_else(|| Late::literal("", node.name_span));
    let batch = node.integer("batch").and_then(|number| usize::try_from(number.value).ok());
    let normal = node.one_of("synchronous").is_some_and(|word| word.value == "normal");
    let sink = SqliteSpec {
        path: path.rooted(context.sources),
        folder: context.folder.to_owned(),
        settings: Settings {
            batch: batch.unwrap_or(1000),
            linger: node.duration("linger").map_or(Duration::from_millis(50), |linger| linger.value),
            synchronous: if normal { Synchronous::Normal } else { Synchronous::Full },
            retention: node.child(RETENTION.name).map(|child| Retention::decode(child, problems)),
        },
    };
    wrap(node, context, Box::new(sink))
}

impl StageSpec for SqliteSpec {
    fn describe(&self) -> Value {
        let Settings { batch, linger, synchronous, retention } = &self.settings;
        let mut value = json!({
            "path": format!("{:?}", self.path),
            "batch": batch,
            "linger": format_duration(*linger),
            "synchronous": format!("{synchronous:?}").to_lowercase(),
        });
        if let Some(retention) = retention {
            value["retention"] = retention.describe();
        }
        value
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let path = self.folder.join(self.path.resolve(&*context.world)?.expose());
            let sink = SqliteSink::open(path, self.settings.clone(), context).await?;
            Ok(OpenStage::Sink(Box::new(sink)))
        })
    }
}
