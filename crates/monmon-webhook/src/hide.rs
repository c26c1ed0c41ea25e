//! What must not be shown, also when a server says it back.

use base64::Engine as _;
use http::HeaderMap;
use monmon_syntax::Secret;
use url::Url;

const HIDDEN: &str = "***";
/// Shorter ones are words, and hidden they would tell more than shown.
const CHARS_MIN: usize = 6;

/// The parts of a request that are secrets or may be.
#[derive(Default)]
pub(crate) struct Hidden {
    /// The longest first, so that no part of one is left of it.
    parts: Vec<String>,
}

impl Hidden {
    pub(crate) fn of(url: &Url, headers: &HeaderMap, secrets: &[&Secret]) -> Hidden {
        let mut parts = vec![url.path().to_owned(), url.username().to_owned()];
        parts.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
        parts.extend(url.password().map(str::to_owned));
        parts.extend(url.query().map(str::to_owned));
        parts.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        for value in headers.values().filter_map(|value| value.to_str().ok()) {
            parts.push(value.to_owned());
            // `Bearer TOKEN`, `Basic TOKEN`.
            parts.extend(value.split_whitespace().map(str::to_owned));
        }
        if let Some(password) = url.password() {
            // As it goes over the wire.
            let decoded = |text| percent_encoding::percent_decode_str(text).decode_utf8_lossy();
            let both = format!("{}:{}", decoded(url.username()), decoded(password));
            parts.push(base64::engine::general_purpose::STANDARD.encode(both));
        }
        parts.extend(secrets.iter().map(|secret| secret.expose().to_owned()));
        let decoded: Vec<String> = parts
            .iter()
            .map(|part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into())
            .collect();
        parts.extend(decoded);
        parts.retain(|part| part.chars().count() >= CHARS_MIN);
        parts.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        parts.dedup();
        Hidden { parts }
    }

    pub(crate) fn longest(&self) -> usize {
        self.parts.first().map_or(0, String::len)
    }

    pub(crate) fn hide(&self, text: &str) -> String {
        self.parts.iter().fold(text.to_owned(), |text, part| text.replace(part.as_str(), HIDDEN))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_a_server_says_back_has_no_secret() {
        let url = Url::parse("https://user:pa%24sword@example.org/hooks/T0AB12/SECRETsecret?key=k%20value-1")
            .unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer token-1234"));
        let hidden = Hidden::of(&url, &headers, &[&Secret::new("routing-key-9".to_owned())]);
        for said in [
            "Cannot POST /hooks/T0AB12/SECRETsecret",
            "The webhook SECRETsecret is not registered",
            "key=k%20value-1; k value-1",
            "pa$sword pa%24sword",
            "authorization: token-1234",
            "authorization: Basic dXNlcjpwYSRzd29yZA==",
            "unknown routing-key-9",
        ] {
            let shown = hidden.hide(said);
            for secret in [
                "SECRETsecret",
                "value-1",
                "sword",
                "token-1234",
                "routing-key-9",
                "T0AB12",
                "dXNlcjpwYSRzd29yZA",
            ] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
        assert_eq!(hidden.hide("not found"), "not found");
    }
}
