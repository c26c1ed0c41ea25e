//! Credentials that are more than a header written in the file: an answer to a challenge, and a token that is fetched.

use std::sync::Arc;
use std::time::Duration;

use digest_auth::{AuthContext, HttpMethod};
use http::HeaderMap;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use monmon_model::{Failure, FailureKind, Phase};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;
use url::Url;

use super::request::Prepared;

/// Longest time of fetching a token. It is not part of the measurement.
const TOKEN_TIME: Duration = Duration::from_secs(10);
/// Largest reply of a token endpoint.
const TOKEN_BYTES_MAX: usize = 256 << 10;
/// How long a token is used whose server does not say.
const TOKEN_LIFE: Duration = Duration::from_secs(300);
/// A token is renewed so long before its end.
const TOKEN_SLACK: Duration = Duration::from_secs(30);
/// After a failure the endpoint is left alone for so long.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) enum Auth {
    /// RFC 7616.
    Digest(Credentials),
    /// OAuth 2 client credentials (RFC 6749, section 4.4).
    Token(Arc<TokenSource>),
}

#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// The answer to a reply's challenge, if it is one of this kind.
    pub(crate) fn answer(&self, headers: &HeaderMap, request: &Prepared) -> Option<HeaderValue> {
        let challenge = headers.get_all(WWW_AUTHENTICATE).iter().find_map(|value| {
            let text = value.to_str().ok()?;
            text.get(..6)?.eq_ignore_ascii_case("digest").then_some(text)
        })?;
        let mut prompt = digest_auth::parse(challenge).ok()?;
        let method = HttpMethod::from(request.method.as_str().to_owned());
        let body = request.body();
        let context = AuthContext::new_with_method(
            self.user.as_str(),
            self.password.as_str(),
            request.path(),
            Some(&*body),
            method,
        );
        let mut value = HeaderValue::try_from(prompt.respond(&context).ok()?.to_string()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Fetches access tokens, and keeps the last one as long as it is good. All checks that ask alike share one.
pub(crate) struct TokenSource {
    client: reqwest::Client,
    url: Url,
    form: Vec<(&'static str, String)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<(HeaderValue, Instant)>,
    failed: Option<(Failure, Instant)>,
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSource").finish_non_exhaustive()
    }
}

impl TokenSource {
    pub(crate) fn new(
        url: Url,
        client_id: String,
        client_secret: String,
        scope: Option<String>,
        tls: rustls::ClientConfig,
    ) -> Result<TokenSource, String> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(TOKEN_TIME)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?;
        let mut form = vec![
            ("grant_type", "client_credentials".to_owned()),
            ("client_id", client_id),
            ("client_secret", client_secret),
        ];
        form.extend(scope.map(|scope| ("scope", scope)));
        Ok(TokenSource { client, url, form, state: Mutex::default() })
    }

    /// The header that stands for a good token. Whoever comes while one is fetched waits for it.
    pub(crate) async fn token(&self) -> Result<HeaderValue, Failure> {
        let mut state = self.state.lock().await;
        let now = Instant::now();
        if let Some((token, until)) = &state.token
            && now < *until
        {
            return Ok(token.clone());
        }
        if let Some((failure, until)) = &state.failed
            && now < *until
        {
            return Err(failure.clone());
        }
        match self.fetch().await {
            Ok((token, life)) => {
                let slack = TOKEN_SLACK.min(life / 2);
                *state = State { token: Some((token.clone(), now + (life - slack))), failed: None };
                Ok(token)
            }
            Err(why) => {
                let message = format!("no access token from {}: {why}", self.url.host_str().unwrap_or("?"));
                let failure = Failure::new(FailureKind::TokenFailed, Phase::Start, message);
                state.failed = Some((failure.clone(), Instant::now() + RETRY_AFTER));
                Err(failure)
            }
        }
    }

    /// What the site refused is not used again.
    pub(crate) async fn forget(&self) {
        self.state.lock().await.token = None;
    }

    async fn fetch(&self) -> Result<(HeaderValue, Duration), String> {
        let said = |error: reqwest::Error| error.without_url().to_string();
        let mut reply = self.client.post(self.url.clone()).form(&self.form).send().await.map_err(said)?;
        let status = reply.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = reply.chunk().await.map_err(said)? {
            if body.len() + chunk.len() > TOKEN_BYTES_MAX {
                return Err("the reply is too large".to_owned());
            }
            body.extend_from_slice(&chunk);
        }
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != 200 {
            // Its own word of the closed list of RFC 6749, section 5.2; the rest may hold anything.
            let word = value["error"].as_str().unwrap_or_default();
            let plain: String =
                word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
            return Err(format!("status {status} {plain}").trim_end().to_owned());
        }
        let token = value["access_token"].as_str().ok_or("the reply has no `access_token`")?;
        let kind = value["token_type"].as_str().unwrap_or("bearer");
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(format!("the token is of the type `{}`, not `bearer`", kind.escape_debug()));
        }
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "the token cannot be sent in a header".to_owned())?;
        header.set_sensitive(true);
        let life = value["expires_in"].as_u64().map_or(TOKEN_LIFE, |seconds| {
            // A year is as good as for ever.
            Duration::from_secs(seconds.clamp(1, 31_536_000))
        });
        Ok((header, life))
    }
}
