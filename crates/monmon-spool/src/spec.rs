//! How a spool is written in a pipeline file: a node inside of a sink's.

use std::path::{Component, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use monmon_stage::{DecodeContext, OpenFuture, OpenStage, StageContext, StageSpec};
use monmon_syntax::{
    ArgSpec, Late, Node, NodeSpec, Occurs, OptionSpec, Spanned, ValueKind, format_duration, format_size,
};
use serde_json::{Value, json};

use crate::file::Bound;
use crate::room::WhenFull;
use crate::sink::SpoolSink;

/// `spool`, for the children of a sink's node.
pub static SPOOL: NodeSpec = NodeSpec {
    name: "spool",
    help: "a queue on disk, for what the sink does not deliver in time; what is there goes to the sink first, in order, and \
           outlives a restart",
    example: r#"spool "monmon.spool" max="1GiB" when-full="block""#,
    args: &[ArgSpec {
        name: "path",
        kind: ValueKind::Path,
        help: "the file; it is made when it is not there, and belongs to this sink alone",
        ..ArgSpec::BLANK
    }],
    options: &[
        OptionSpec {
            name: "max",
            kind: ValueKind::Size { min: Bound::BYTES_MIN, max: 16 << 40 },
            default: Some("1GiB"),
            help: "the most that the spool takes on the disk",
            example: r#"max="1GiB""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "when-full",
            kind: ValueKind::OneOf(WhenFull::WORDS),
            default: Some("block"),
            help: "block: holds the source back, whose slots become unknown; oldest: drops the oldest; newest: drops what comes",
            example: r#"when-full="oldest""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "after",
            kind: ValueKind::Duration { min: Duration::from_millis(10), max: Duration::from_secs(3_600) },
            default: Some("1s"),
            help: "how long the sink may hold an item before it is put on the disk; longer than the sink usually takes",
            example: r#"after="1s""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "replay",
            kind: ValueKind::Integer { min: 1, max: 1_000_000 },
            default: Some("10000"),
            help: "the most items in a second that go from the disk to the sink; more than what comes in, or it never drains",
            example: "replay=10000",
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

/// What a spool is asked to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) bound: Bound,
    pub(crate) when_full: WhenFull,
    pub(crate) after: Duration,
    /// Items in a second.
    pub(crate) replay: u32,
}

#[derive(Debug)]
struct SpooledSpec {
    inner: Arc<dyn StageSpec>,
    path: Late,
    /// Relative paths start here.
    folder: PathBuf,
    settings: Settings,
}

/// Puts the spool that a sink's node asks for in front of the sink; without one the sink is as it was.
pub fn wrap(node: &Node, context: &DecodeContext<'_>, sink: Box<dyn StageSpec>) -> Box<dyn StageSpec> {
    let Some(node) = node.child(SPOOL.name) else { return sink };
    let path = node.arg_late(0).unwrap_or_else(|| Late::literal("", node.name_span));
    let when_full = node.one_of("when-full").and_then(|word| WhenFull::from_word(&word.value));
    let replay = node.integer("replay").and_then(|rate| u32::try_from(rate.value).ok());
    Box::new(SpooledSpec {
        inner: sink.into(),
        folder: context.sources.rooted(path.span.file, "".as_ref()),
        path: path.rooted(context.sources),
        settings: Settings {
            bound: Bound::new(node.size("max").map_or(1 << 30, |max| max.value)),
            when_full: when_full.unwrap_or(WhenFull::Block),
            after: node.duration("after").map_or(Duration::from_secs(1), |after| after.value),
            replay: replay.unwrap_or(10_000),
        },
    })
}

impl StageSpec for SpooledSpec {
    fn needs_page(&self) -> bool {
        self.inner.needs_page()
    }

    fn claims(&self) -> Vec<Spanned<PathBuf>> {
        let mut claims = self.inner.claims();
        let known = self.path.as_literal().filter(|path| !path.is_empty());
        // `./x` is `x`.
        let plain = |path: &str| {
            let whole = self.folder.join(path);
            whole.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>()
        };
        claims.extend(known.map(|path| Spanned::new(plain(path), self.path.span)));
        claims
    }

    fn describe(&self) -> Value {
        let mut value = self.inner.describe();
        let Settings { bound, when_full, after, replay } = &self.settings;
        value["spool"] = json!({
            "path": format!("{:?}", self.path),
            "max": format_size(bound.bytes_max),
            "when-full": when_full.as_str(),
            "after": format_duration(*after),
            "replay": replay,
        });
        value
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let path = self.folder.join(self.path.resolve(&*context.world)?.expose());
            let sink = SpoolSink::open(path, self.settings, self.inner.clone(), context).await?;
            Ok(OpenStage::Sink(Box::new(sink)))
        })
    }
}
