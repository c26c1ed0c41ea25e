//! The cookies of one measurement: what a site sets is sent back to it along the chain, and forgotten with the end.

use cookie_store::{CookieStore, RawCookie};
use http::HeaderMap;
use http::header::{HeaderValue, SET_COOKIE};
use url::Url;

/// Most cookies of one measurement.
const COOKIES_MAX: usize = 64;
/// The longest cookie (RFC 6265, section 6.1: at least 4096 bytes).
const COOKIE_BYTES_MAX: usize = 4096;

/// Made when the first cookie comes.
#[derive(Debug, Default)]
pub(crate) struct Jar {
    store: Option<Box<CookieStore>>,
    count: usize,
}

impl Jar {
    /// Keeps what a reply sets.
    pub(crate) fn keep(&mut self, url: &Url, headers: &HeaderMap) {
        for value in headers.get_all(SET_COOKIE) {
            let Ok(text) = std::str::from_utf8(value.as_bytes()) else { continue };
            if text.len() > COOKIE_BYTES_MAX || self.count >= COOKIES_MAX {
                continue;
            }
            let Ok(cookie) = RawCookie::parse(text.to_owned()) else { continue };
            // A cookie for another site than the one that sets it is refused here.
            if self.store.get_or_insert_default().insert_raw(&cookie, url).is_ok() {
                self.count += 1;
            }
        }
    }

    /// What the next request to this URL sends.
    pub(crate) fn header(&self, url: &Url) -> Option<HeaderValue> {
        let pairs: Vec<String> = self
            .store
            .as_ref()?
            .get_request_values(url)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if pairs.is_empty() {
            return None;
        }
        let mut value = HeaderValue::try_from(pairs.join("; ")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_go_back_to_whom_they_came_from() {
        let mut jar = Jar::default();
        let at: Url = "https://a.test/login".parse().unwrap();
        let mut headers = HeaderMap::new();
        for cookie in [
            "sid=1; Path=/; Secure; HttpOnly",
            "other=2; Domain=b.test",
            "deep=3; Path=/deep",
            "gone=4; Max-Age=0",
        ] {
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        jar.keep(&at, &headers);
        let sent =
            |url: &str| jar.header(&url.parse().unwrap()).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(sent("https://a.test/").as_deref(), Some("sid=1"));
        let mut deep: Vec<String> =
            sent("https://a.test/deep").unwrap().split("; ").map(str::to_owned).collect();
        deep.sort();
        assert_eq!(deep, ["deep=3", "sid=1"]);
        assert_eq!(sent("http://a.test/"), None, "a secure cookie stays with https");
        assert_eq!(sent("https://b.test/"), None);
    }
}
