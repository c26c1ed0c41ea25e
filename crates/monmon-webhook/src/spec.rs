//! The sink as a pipeline file asks for it, and what of it comes late.

use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use monmon_stage::{OpenFuture, OpenStage, StageContext, StageError, StageSpec};
use monmon_syntax::{Code, Late, Problem, Span, format_duration};
use serde_json::{Value, json};
use url::Url;

use crate::client::{Client, Pem};
use crate::format::Format;
use crate::sink::{Settings, WebhookSink};

const PEM_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(crate) struct WebhookSpec {
    pub(crate) url: Late,
    pub(crate) format: Format,
    pub(crate) routing_key: Option<Late>,
    pub(crate) topic: Option<String>,
    pub(crate) secret: Option<Late>,
    pub(crate) headers: Vec<(HeaderName, Late)>,
    pub(crate) tls: Option<TlsSpec>,
    /// Certificate files start here.
    pub(crate) folder: PathBuf,
    pub(crate) measurements: bool,
    pub(crate) timeout: Duration,
    pub(crate) max_in_flight: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct TlsSpec {
    pub(crate) ca: Option<Late>,
    pub(crate) cert: Option<Late>,
    pub(crate) key: Option<Late>,
}

impl StageSpec for WebhookSpec {
    fn describe(&self) -> Value {
        let shown = |late: &Option<Late>| late.as_ref().map(|late| format!("{late:?}"));
        let mut value = json!({
            "url": shown_url(&self.url),
            "format": self.format.as_str(),
            "measurements": self.measurements,
            "timeout": format_duration(self.timeout),
            "max-in-flight": self.max_in_flight,
        });
        for (name, late) in [("routing-key", &self.routing_key), ("secret", &self.secret)] {
            if late.is_some() {
                value[name] = json!(shown(late));
            }
        }
        if let Some(topic) = &self.topic {
            value["topic"] = json!(topic);
        }
        if let Some(tls) = &self.tls {
            value["tls"] = json!({ "ca": shown(&tls.ca), "cert": shown(&tls.cert), "key": shown(&tls.key) });
        }
        if !self.headers.is_empty() {
            let headers: Vec<String> =
                self.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
            value["headers"] = json!(headers);
        }
        value
    }

    fn open(&self, context: StageContext) -> OpenFuture<'_> {
        Box::pin(async move {
            let client = self.client(&context)?;
            let (spec, asked) = (self.clone(), context.clone());
            let recipe = move || spec.client(&asked);
            let settings = Settings {
                format: self.format.clone(),
                topic: self.topic.clone().unwrap_or_default(),
                measurements: self.measurements,
                max_in_flight: self.max_in_flight,
            };
            Ok(OpenStage::Sink(Box::new(WebhookSink::new(client, Box::new(recipe), settings, context))))
        })
    }
}

/// Of a URL that stands in the file only whom it leads to: with many services the rest of it is a password.
fn shown_url(url: &Late) -> String {
    match url.as_literal().map(Url::parse) {
        Some(Ok(url)) => format!("{}/…", url.origin().ascii_serialization()),
        Some(Err(_)) => String::new(),
        None => format!("{url:?}"),
    }
}

impl WebhookSpec {
    fn client(&self, context: &StageContext) -> Result<Client, StageError> {
        let text = self.url.resolve(&*context.world)?;
        let url = Url::parse(text.expose().trim()).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty())
        });
        let url = url.ok_or_else(|| wrong(self.url.span, "the value is no URL of http or https"))?;
        let mut headers = HeaderMap::new();
        for (name, late) in &self.headers {
            let text = late.resolve(&*context.world)?;
            let mut value = HeaderValue::try_from(text.expose())
                .map_err(|_| wrong(late.span, "the value cannot be sent in a header"))?;
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
        let secret = self.secret.as_ref().map(|late| late.resolve(&*context.world)).transpose()?;
        let secret = secret.map(monmon_syntax::Resolved::into_secret);
        let pem = match &self.tls {
            Some(tls) => self.pem(tls, context)?,
            None => Pem::default(),
        };
        let routing_key = self.routing_key.as_ref().map(|late| late.resolve(&*context.world)).transpose()?;
        let routing_key = routing_key.map(monmon_syntax::Resolved::into_secret).unwrap_or_default();
        Client::new(url, headers, secret, routing_key, &pem, self.timeout)
            .map_err(|why| StageError::permanent(format!("the webhook cannot be set up: {why}")))
    }

    fn pem(&self, tls: &TlsSpec, context: &StageContext) -> Result<Pem, StageError> {
        let read = |late: &Option<Late>| late.as_ref().map(|late| self.read(late, context)).transpose();
        let client = match (read(&tls.cert)?, read(&tls.key)?) {
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => None,
        };
        Ok(Pem { ca: read(&tls.ca)?, client })
    }

    /// A path, or the PEM text itself.
    fn read(&self, late: &Late, context: &StageContext) -> Result<Vec<u8>, StageError> {
        let value = late.resolve(&*context.world)?;
        if value.expose().trim_start().starts_with("-----BEGIN") {
            return Ok(value.into_string().into_bytes());
        }
        let path = self.folder.join(value.expose());
        let bytes = context.world.read_file(&path, PEM_BYTES_MAX).map_err(|error| {
            let message = format!("the file `{}` cannot be read: {error}", path.display());
            Problem::new(Code::UnreadableFile, late.span, message).label("needed here")
        })?;
        Ok(bytes)
    }
}

fn wrong(span: Span, message: &str) -> StageError {
    Problem::new(Code::BadSecret, span, message).label("this value").into()
}
