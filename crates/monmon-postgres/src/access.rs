//! How a stage says which database it means, and how it gets in.

use std::path::PathBuf;
use std::time::Duration;

use monmon_stage::{DecodeContext, StageError, WorldRef};
use monmon_syntax::{
    Code, Late, Node, NodeSpec, Occurs, OptionSpec, Problem, Problems, ValueKind, World, format_duration,
};
use serde_json::{Value, json};

use crate::error::StoreError;
use crate::target::{Address, Target, TlsFiles, Verify};

const SECOND: Duration = Duration::from_secs(1);
const PEM_BYTES_MAX: usize = 1 << 20;

pub(crate) const URL: OptionSpec = OptionSpec {
    name: "url",
    kind: ValueKind::Url { schemes: &["postgres", "postgresql"] },
    required: true,
    help: "the database, as libpq writes it, with sslmode, sslrootcert, sslcert and sslkey",
    example: r#"url (env)"MONMON_POSTGRES_URL""#,
    ..OptionSpec::BLANK
};

pub(crate) const CONNECT_TIMEOUT: OptionSpec = OptionSpec {
    name: "connect-timeout",
    kind: ValueKind::Duration { min: SECOND, max: Duration::from_secs(300) },
    help: "how long a connection with its login may take; else what the URL says, else 10s",
    example: r#"connect-timeout="10s""#,
    ..OptionSpec::BLANK
};

pub(crate) static TLS: NodeSpec = NodeSpec {
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

#[derive(Clone, Debug)]
pub(crate) struct Access {
    url: Late,
    tls: Option<TlsSpec>,
    /// Certificate files start here.
    folder: PathBuf,
    connect_timeout: Option<Duration>,
}

#[derive(Clone, Debug)]
struct TlsSpec {
    ca: Option<Late>,
    cert: Option<Late>,
    key: Option<Late>,
    verify: Option<Verify>,
}

impl Target {
    /// A server that is named by its URL alone, which is asked for anew at each connection.
    pub fn of_url(url: &Late, world: &WorldRef) -> Result<Target, StageError> {
        let access = Access { url: url.clone(), tls: None, folder: PathBuf::new(), connect_timeout: None };
        access.target(world)
    }
}

impl Access {
    pub(crate) fn decode(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Access {
        let url = node.late("url").unwrap_or_else(|| Late::literal("", node.name_span));
        Access {
            url: url.rooted(context.sources),
            tls: node.child("tls").map(|tls| decode_tls(tls, context, problems)),
            folder: context.folder.to_owned(),
            connect_timeout: node.duration("connect-timeout").map(|duration| duration.value),
        }
    }

    /// As a snapshot shows it.
    pub(crate) fn describe(&self, into: &mut Value) {
        into["url"] = json!(format!("{:?}", self.url));
        if let Some(timeout) = self.connect_timeout {
            into["connect-timeout"] = json!(format_duration(timeout));
        }
        if let Some(tls) = &self.tls {
            let shown = |late: &Option<Late>| late.as_ref().map(|late| format!("{late:?}"));
            let verify = tls.verify.map(|verify| format!("{verify:?}").to_lowercase());
            into["tls"] = json!({
                "ca": shown(&tls.ca), "cert": shown(&tls.cert), "key": shown(&tls.key), "verify": verify,
            });
        }
    }

    /// The server, whose address and secrets are asked for anew at each connection.
    pub(crate) fn target(&self, world: &WorldRef) -> Result<Target, StageError> {
        // What is wrong with the pipeline's own words is told with their place.
        self.address(&**world)?;
        let (access, asked) = (self.clone(), world.clone());
        let recipe = move || access.address(&*asked).map_err(|error| StoreError::BadUrl(error.message));
        let target = Target::new(recipe, world.clone())?;
        Ok(match self.connect_timeout {
            Some(timeout) => target.with_connect_timeout(timeout),
            None => target,
        })
    }

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
