//! How a postgres sink is written in a pipeline file.

use std::path::PathBuf;
use std::time::Duration;

use monmon_spool::{SPOOL, wrap};
use monmon_stage::{
    DecodeContext, FROM, OpenFuture, OpenStage, RETENTION, Retention, STAGE_NAME, Section, StageContext,
    StageKind, StageSpec,
};
use monmon_syntax::{
    Code, Late, Node, NodeSpec, Occurs, OptionSpec, Problem, Problems, ValueKind, World, format_duration,
};
use serde_json::{Value, json};

use crate::error::StoreError;
use crate::partitions::Window;
use crate::sink::{PostgresSink, Settings};
use crate::target::{Address, Target, TlsFiles, Verify};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const PEM_BYTES_MAX: usize = 1 << 20;

static TLS: NodeSpec = NodeSpec {
    name: "tls",
    help: "encrypts the connection and checks who answers; goes before sslmode in the URL",
    example: r#"tls ca="ca.pem" cert="service.cert" key="service.key""#,
    options: &[
        OptionSpec {
            name: "ca",
            kind: ValueKind::Path,
            help: "the authorities that are trusted, a PEM file; the system's when not given",
            example: r#"ca="ca.pem""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "cert",
            kind: ValueKind::Path,
            help: "the client's certificate, a PEM file",
            example: r#"cert="service.cert""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "key",
            kind: ValueKind::Path,
            help: "the key of the client's certificate, a PEM file",
            example: r#"key="service.key""#,
            ..OptionSpec::BLANK
        },
        OptionSpec {
            name: "verify",
            kind: ValueKind::OneOf(&["full", "ca", "none"]),
            help: "how much of the server's certificate is checked: chain and name, chain, nothing; \
                   else what sslmode says, else full",
            example: r#"verify="full""#,
            ..OptionSpec::BLANK
        },
    ],
    occurs: Occurs::AtMostOnce,
    ..NodeSpec::BLANK
};

static SPEC: NodeSpec = NodeSpec {
    name: "postgres",
    help: "stores measurements in PostgreSQL, each once, whatever is killed when",
    example: r#"postgres "store" from="events" { url (env)"MONMON_POSTGRES_URL"; }"#,
    args: &[STAGE_NAME],
    options: &[
        FROM,
        OptionSpec {
            name: "url",
            kind: ValueKind::Url { schemes: &["postgres", "postgresql"] },
            required: true,
            help: "the database, as libpq writes it, with sslmode, sslrootcert, sslcert and sslkey",
            example: r#"url (env)"MONMON_POSTGRES_URL""#,
            ..OptionSpec::BLANK
        },
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
        OptionSpec {
            name: "connect-timeout",
            kind: ValueKind::Duration { min: SECOND, max: Duration::from_secs(300) },
            help: "how long a connection with its login may take; else what the URL says, else 10s",
            example: r#"connect-timeout="10s""#,
            ..OptionSpec::BLANK
        },
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
    source: AddressSpec,
    migrate: bool,
    batch: usize,
    linger: Duration,
    connections: usize,
    connect_timeout: Option<Duration>,
    statement_timeout: Duration,
    window: Window,
    retention: Option<Retention>,
}

#[derive(Clone, Debug)]
struct AddressSpec {
    url: Late,
    tls: Option<TlsSpec>,
    /// Certificate files start here.
    folder: PathBuf,
}

#[derive(Clone, Debug)]
struct TlsSpec {
    ca: Option<Late>,
    cert: Option<Late>,
    key: Option<Late>,
    verify: Option<Verify>,
}

fn decode(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Box<dyn StageSpec> {
    let duration = |name, default| node.duration(name).map_or(default, |duration| duration.value);
    let integer = |name, default| {
        node.integer(name).and_then(|number| usize::try_from(number.value).ok()).unwrap_or(default)
    };
    let url = node.late("url").unwrap_or_else(|| Late::literal("", node.name_span));
    let sink = PostgresSpec {
        source: AddressSpec {
            url: url.rooted(context.sources),
            tls: node.child("tls").map(|tls| decode_tls(tls, context, problems)),
            folder: context.folder.to_owned(),
        },
        migrate: node.flag("migrate"),
        batch: integer("batch", 2_000),
        linger: duration("linger", Duration::from_millis(50)),
        connections: integer("connections", 2),
        connect_timeout: node.duration("connect-timeout").map(|duration| duration.value),
        statement_timeout: duration("statement-timeout", Duration::from_secs(60)),
        window: Window { past: duration("oldest", 400 * DAY), future: duration("ahead", 2 * DAY) },
        retention: node.child(RETENTION.name).map(|child| Retention::decode(child, problems)),
    };
    wrap(node, context, Box::new(sink))
}

fn decode_tls(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> TlsSpec {
    let file = |name| node.late(name).map(|late| late.rooted(context.sources));
    let pair = (node.is_given("cert"), node.is_given("key"));
    if let (true, false) | (false, true) = pair {
        let (given, other) = if pair.0 { ("cert", "key") } else { ("key", "cert") };
        problems.push(
            Problem::new(
                Code::Conflict,
                node.option_span(given),
                format!("`{given}` is given without `{other}`"),
            )
            .label("a client certificate needs both")
            .help(format!("add {other}=\"service.{other}\"")),
        );
    }
    let verify = node.one_of("verify").and_then(|word| match word.value.as_str() {
        "full" => Some(Verify::Full),
        "ca" => Some(Verify::Ca),
        "none" => Some(Verify::None),
        _ => None,
    });
    TlsSpec { ca: file("ca"), cert: file("cert"), key: file("key"), verify }
}

impl StageSpec for PostgresSpec {
    fn describe(&self) -> Value {
        let mut value = json!({
            "url": format!("{:?}", self.source.url),
            "migrate": self.migrate,
            "batch": self.batch,
            "linger": format_duration(self.linger),
            "connections": self.connections,
            "statement-timeout": format_duration(self.statement_timeout),
            "oldest": format_duration(self.window.past),
            "ahead": format_duration(self.window.future),
        });
        if let Some(timeout) = self.connect_timeout {
            value["connect-timeout"] = json!(format_duration(timeout));
        }
        if let Some(tls) = &self.source.tls {
            let shown = |late: &Option<Late>| late.as_ref().map(|late| format!("{late:?}"));
            let verify = tls.verify.map(|verify| format!("{verify:?}").to_lowercase());
            value["tls"] = json!({
                "ca": shown(&tls.ca), "cert": shown(&tls.cert), "key": shown(&tls.key), "verify": verify,
            });
        }
        if let Some(retention) = &self.retention {
            value["retention"] = retention.describe();
        }
        value
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let source = self.source.clone();
            // What is wrong with the pipeline's own words is told with their place.
            source.address(&*context.world)?;
            let world = context.world.clone();
            let asked = move || source.address(&*world).map_err(|error| StoreError::BadUrl(error.message));
            let mut target = Target::new(asked, context.world.clone())?;
            if let Some(timeout) = self.connect_timeout {
                target = target.with_connect_timeout(timeout);
            }
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

impl AddressSpec {
    /// As environment and files have it now.
    fn address(&self, world: &dyn World) -> Result<Address, Problem> {
        let pem = |late: &Option<Late>| late.as_ref().map(|late| self.pem(late, world)).transpose();
        let tls = match &self.tls {
            None => None,
            Some(tls) => Some(TlsFiles {
                ca: pem(&tls.ca)?,
                cert: pem(&tls.cert)?,
                key: pem(&tls.key)?,
                verify: tls.verify,
            }),
        };
        Ok(Address { url: self.url.resolve(world)?.into_secret(), tls })
    }

    /// A path, or the PEM text itself: platforms that hand out certificates as variables are common.
    fn pem(&self, late: &Late, world: &dyn World) -> Result<Vec<u8>, Problem> {
        let value = late.resolve(world)?;
        if value.expose().trim_start().starts_with("-----BEGIN") {
            return Ok(value.into_string().into_bytes());
        }
        let path = self.folder.join(value.expose());
        let bytes = world.read_file(&path, PEM_BYTES_MAX).map_err(|error| {
            Problem::new(
                Code::UnreadableFile,
                late.span,
                format!("the file `{}` cannot be read: {error}", path.display()),
            )
            .label("needed here")
        })?;
        Ok(bytes)
    }
}
