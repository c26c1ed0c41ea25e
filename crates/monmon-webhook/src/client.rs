//! One request: signed, bounded, and to nobody but whom the file names.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use monmon_syntax::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sha2::Sha256;
use url::Url;

use crate::hide::Hidden;

/// Longest wait that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// What is read of an answer, for the log.
const ANSWER_BYTES_MAX: usize = 4 << 10;
/// What the log shows of it.
const ANSWER_CHARS_MAX: usize = 300;

/// The answers that say that the very thing that was sent is at fault. All others (a token that expired, a URL that is no
/// longer there, a server in trouble) may pass once somebody mends them, and what was to be told is told then.
const GIVEN_UP: [StatusCode; 3] =
    [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Taken,
    /// Worth another try, at the earliest after this long.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// What was sent is at fault, and would be refused again.
    Refused(String),
}

pub(crate) struct Client {
    client: reqwest::Client,
    url: Url,
    headers: HeaderMap,
    secret: Option<Secret>,
    routing_key: Secret,
    hidden: Hidden,
}

/// Certificates in PEM.
#[derive(Default)]
pub(crate) struct Pem {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Client {
    pub(crate) fn new(
        url: Url,
        headers: HeaderMap,
        secret: Option<Secret>,
        routing_key: Secret,
        pem: &Pem,
        timeout: Duration,
    ) -> Result<Client, String> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(pem)?)
            .timeout(timeout)
            // A body with secrets goes where the file says, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            // Proxies of the environment are no part of the pipeline.
            .no_proxy()
            .user_agent(concat!("monmon/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        let secrets: Vec<&Secret> = secret.iter().chain([&routing_key]).collect();
        let hidden = Hidden::of(&url, &headers, &secrets);
        Ok(Client { client, url, headers, secret, routing_key, hidden })
    }

    /// Scheme, host and port: what may be shown of a URL that is a secret itself with many services.
    pub(crate) fn place(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// What goes into the bodies of some formats; empty where the file names none.
    pub(crate) fn routing_key(&self) -> &str {
        self.routing_key.expose()
    }

    /// `key` is the same for every try of one thing, and `now` is in seconds since 1970.
    pub(crate) async fn post(&self, body: &[u8], key: &str, event: &str, now: i64) -> Answer {
        let mut request =
            self.client.post(self.url.clone()).body(body.to_vec()).headers(self.headers.clone());
        request = request.header(CONTENT_TYPE, "application/json");
        request = request.header("idempotency-key", key).header("monmon-event", event);
        if let Some(secret) = &self.secret {
            request = request.header("monmon-signature", signature(secret.expose().as_bytes(), now, body));
        }
        match request.send().await {
            Ok(reply) => judge(reply, &self.hidden).await,
            Err(error) => Answer::Later { why: causes(&error.without_url()), after: None },
        }
    }
}

/// What stands in the header `monmon-signature`: the time of the try, and HMAC-SHA256 of it, a full stop, and the body.
pub fn signature(secret: &[u8], now: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(now.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now},v1={hex}")
}

async fn judge(mut reply: reqwest::Response, hidden: &Hidden) -> Answer {
    let status = reply.status();
    if status.is_success() {
        return Answer::Taken;
    }
    let after = reply.headers().get(RETRY_AFTER).and_then(retry_after);
    if status.is_redirection() {
        let to =
            reply.headers().get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| Url::parse(to).ok());
        let to = to.map_or_else(|| "elsewhere".to_owned(), |to| to.origin().ascii_serialization());
        let why = format!("status {status} leads to {to}, and redirects are not followed");
        return Answer::Later { why, after };
    }
    let mut said = Vec::new();
    while let Ok(Some(chunk)) = reply.chunk().await {
        said.extend_from_slice(&chunk);
        if said.len() >= ANSWER_BYTES_MAX {
            // Of a secret at the cut a part would stay.
            said.truncate(ANSWER_BYTES_MAX - hidden.longest().min(ANSWER_BYTES_MAX));
            break;
        }
    }
    let said: String = hidden
        .hide(&String::from_utf8_lossy(&said))
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(ANSWER_CHARS_MAX)
        .collect();
    let why = format!("status {status} {}", said.trim()).trim_end().to_owned();
    match GIVEN_UP.contains(&status) {
        true => Answer::Refused(why),
        false => Answer::Later { why, after },
    }
}

/// Seconds; a date is left to the ordinary waits, since it would ask for the server's clock.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let seconds = value.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

fn tls(pem: &Pem) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &pem.ca {
        Some(ca) => {
            for certificate in CertificateDer::pem_slice_iter(ca) {
                let certificate =
                    certificate.map_err(|error| format!("`ca` is no PEM of certificates: {error}"))?;
                roots.add(certificate).map_err(|error| format!("`ca` cannot be used: {error}"))?;
            }
            if roots.is_empty() {
                return Err("`ca` holds no certificate".to_owned());
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((cert, key)) = &pem.client else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("`cert` is no PEM of certificates: {error}"))?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("`key` is no PEM of a key: {error}"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the client certificate cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_the_documentation_says() {
        // printf '1795435200.{"a":1}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            signature(b"secret", 1_795_435_200, br#"{"a":1}"#),
            "t=1795435200,v1=183a9dc86dd443f2f52b87236f645470ea010a5030c29fcddd7e8cae23577656"
        );
    }

    #[test]
    fn a_server_may_ask_for_an_hour_at_most() {
        let asked = |text: &'static str| retry_after(&HeaderValue::from_static(text));
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("99999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(asked("Fri, 31 Dec 1999 23:59:59 GMT"), None);
    }
}
