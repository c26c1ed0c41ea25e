//! `postgres` as a source: everything that a database holds, once.

use monmon_stage::{
    DecodeContext, FROM_STORE, OpenFuture, OpenStage, Replay, ReplaySettings, STAGE_NAME, Section,
    StageContext, StageKind, StageSpec, decode_selection,
};
use monmon_syntax::{Node, NodeSpec, Problems};
use serde_json::{Value, json};

use crate::access::{Access, CONNECT_TIMEOUT, TLS, URL};
use crate::read::Reader;

static SPEC: NodeSpec = NodeSpec {
    name: "postgres",
    help: "reads what a postgres sink has stored, from the first row to the last, and ends; to move and merge datasets",
    example: r#"postgres "old" { url (env)"MONMON_POSTGRES_URL"; }"#,
    args: &[STAGE_NAME],
    options: &[URL, CONNECT_TIMEOUT, FROM_STORE[0], FROM_STORE[1], FROM_STORE[2]],
    children: &[&TLS],
    ..NodeSpec::BLANK
};

/// The kind `postgres` among the sources.
pub static SOURCE: StageKind = StageKind { section: Section::Sources, spec: &SPEC, decode };

#[derive(Debug)]
struct SourceSpec {
    access: Access,
    replay: ReplaySettings,
}

fn decode(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let access = Access::decode(node, context, problems);
    Box::new(SourceSpec { access, replay: decode_selection(node, problems) })
}

impl StageSpec for SourceSpec {
    fn describe(&self) -> Value {
        let mut value = json!({});
        self.access.describe(&mut value);
        self.replay.describe(&mut value);
        value
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let target = self.access.target(&context.world)?;
            let selection = self.replay.selection(&*context.world)?;
            let reader = Reader::open(target, &selection).await?;
            Ok(OpenStage::Source(Box::new(Replay::new(reader, context))))
        })
    }
}
