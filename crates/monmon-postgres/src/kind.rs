//! How a postgres sink is written in a pipeline file.

use std::time::Duration;

use monmon_spool::{SPOOL, wrap};
use monmon_stage::{
    DecodeContext, FROM, OpenFuture, OpenStage, RETENTION, Retention, STAGE_NAME, Section, StageContext,
    StageKind, StageSpec,
};
use monmon_syntax::{Node, NodeSpec, OptionSpec, Problems, ValueKind, format_duration};
use serde_json::{Value, json};

use crate::access::{Access, CONNECT_TIMEOUT, TLS, URL};
use crate::partitions::Window;
use crate::sink::{PostgresSink, Settings};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

static SPEC: NodeSpec = NodeSpec {
    name: "postgres",
    help: "stores measurements in PostgreSQL, each once, whatever is killed when",
    example: r#"postgres "store" from="events" { url (env)"MONMON_POSTGRES_URL"; }"#,
    args: &[STAGE_NAME],
    options: &[
        FROM,
        URL,
        OptionSpec {
            name: "migrate",
            kind: ValueKind::Bool,
            default: Some("false"),
            help: "bring the schema up to date at the start",
            example: "migrate=#true",
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "batch",
            kind: ValueKind::Integer { min: 1, max: 20_000 },
            default: Some("2000"),
            help: "the most items that one transaction stores",
            example: "batch=2000",
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
            name: "connections",
            kind: ValueKind::Integer { min: 1, max: 16 },
            default: Some("2"),
            help: "how many batches are stored at the same time, each over its own connection",
            example: "connections=2",
            ..OptionSpec::BLANK
        },
        CONNECT_TIMEOUT,
        OptionSpec {
            name: "statement-timeout",
            kind: ValueKind::Duration { min: SECOND, max: Duration::from_secs(3_600) },
            default: Some("1m"),
            help: "how long the server may work on one statement before it is tried again",
            example: r#"statement-timeout="1m""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "oldest",
            kind: ValueKind::Duration { min: DAY, max: Duration::from_secs(86_400 * 3_650) },
            default: Some("400d"),
            help: "measurements older than this go to the dead letters, and get no partition",
            example: r#"oldest="400d""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "ahead",
            kind: ValueKind::Duration { min: Duration::from_secs(60), max: Duration::from_secs(86_400 * 30) },
            default: Some("2d"),
            help: "measurements further in the future than this go to the dead letters",
            example: r#"ahead="2d""#,
            ..OptionSpec::BLANK
        },
    ],
    children: &[&TLS, &RETENTION, &SPOOL],
    ..NodeSpec::BLANK
};

/// The kind `postgres`.
pub static SINK: StageKind = StageKind { section: Section::Sinks, spec: &SPEC, decode };

#[derive(Debug)]
struct PostgresSpec {
    access: Access,
    migrate: bool,
    batch: usize,
    linger: Duration,
    connections: usize,
    statement_timeout: Duration,
    window: Window,
    retention: Option<Retention>,
}

fn decode(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let duration = |name, default| node.duration(name).map_or(default, |duration| duration.value);
    let integer = |name, default| {
        node.integer(name).and_then(|number| usize::try_from(number.value).ok()).unwrap_or(default)
    };
    let sink = PostgresSpec {
        access: Access::decode(node, context, problems),
        migrate: node.flag("migrate"),
        batch: integer("batch", 2_000),
        linger: duration("linger", Duration::from_millis(50)),
        connections: integer("connections", 2),
        statement_timeout: duration("statement-timeout", Duration::from_secs(60)),
        window: Window { past: duration("oldest", 400 * DAY), future: duration("ahead", 2 * DAY) },
        retention: node.child(RETENTION.name).map(|child| Retention::decode(child, problems)),
    };
    wrap(node, context, Box::new(sink))
}

impl StageSpec for PostgresSpec {
    fn describe(&self) -> Value {
        let mut value = json!({
            "migrate": self.migrate,
            "batch": self.batch,
            "linger": format_duration(self.linger),
            "connections": self.connections,
            "statement-timeout": format_duration(self.statement_timeout),
            "oldest": format_duration(self.window.past),
            "ahead": format_duration(self.window.future),
        });
        self.access.describe(&mut value);
        if let Some(retention) = &self.retention {
            value["retention"] = retention.describe();
        }
        value
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let target = self.access.target(&context.world)?;
            let settings = Settings {
                migrate: self.migrate,
                batch: self.batch,
                linger: self.linger,
                connections: self.connections,
                statement_timeout: self.statement_timeout,
                window: self.window,
                retention: self.retention.clone(),
            };
            Ok(OpenStage::Sink(Box::new(PostgresSink::new(target, settings, context))))
        })
    }
}
