//! What one request needs, worked out once: for a check when it is opened, for a redirect when it is met.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use url::{Host, Position, Url};

use super::reach::Place;

/// What monmon calls itself where the file does not say.
pub(crate) const USER_AGENT: &str = concat!("monmon/", env!("CARGO_PKG_VERSION"));
const ENCODINGS: &str = "gzip, br, zstd, deflate";
/// What a redirect may carry in its `Location`.
const LOCATION_BYTES_MAX: usize = 8 * 1024;

/// A header that the pipeline asks for. It stays with the first origin, whatever its name: any may be a credential
/// (`x-api-key`, `private-token`), and no list of names knows them all.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) name: HeaderName,
    pub(crate) value: HeaderValue,
}

/// A request that can be sent any number of times. It keeps what tells it from others, and no more: there are as many of
/// these as checks, and what is sent is written anew each time.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// Without user, password and fragment.
    pub(crate) url: Url,
    pub(crate) method: Method,
    pub(crate) wanted: Arc<Wanted>,
    /// Whether the check's own headers are sent: no other origin was met on the way.
    pub(crate) origin_kept: bool,
}

/// What a check wants sent, whatever the URL.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) headers: Vec<Header>,
    pub(crate) body: Bytes,
    pub(crate) user_agent: HeaderValue,
}

/// A request as hyper takes it.
pub(crate) type Asked = Request<Full<Bytes>>;

/// What a request is sent with beside what the file says: it came up on the way.
#[derive(Clone, Debug, Default)]
pub(crate) struct More {
    pub(crate) cookies: Option<HeaderValue>,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Prepared {
    /// `origin_kept`: whether the URL is of the origin that the headers are for.
    pub(crate) fn new(
        url: &Url,
        method: Method,
        wanted: &Arc<Wanted>,
        origin_kept: bool,
    ) -> Result<Prepared, String> {
        let mut plain = url.clone();
        plain.set_fragment(None);
        // A URL with a host can always be without user and password.
        if plain.set_username("").is_err() || plain.set_password(None).is_err() {
            return Err("the URL cannot be used".to_owned());
        }
        let prepared = Prepared { url: plain, method, wanted: Arc::clone(wanted), origin_kept };
        prepared.check()?;
        Ok(prepared)
    }

    /// Makes everything once that is made for each sending, so that nothing of it can fail later.
    fn check(&self) -> Result<(), String> {
        let host = self.url.host_str().ok_or("the URL names no host")?;
        self.url.port_or_known_default().ok_or("the URL names no port")?;
        if self.is_tls() && self.server_name().is_none() {
            return Err(format!("`{host}` is no name for TLS"));
        }
        if authority(&self.url).is_none() {
            return Err("the host cannot be sent".to_owned());
        }
        for text in [self.path(), self.url.as_str()] {
            text.parse::<Uri>().map_err(|error| format!("the URL cannot be sent: {error}"))?;
        }
        Ok(())
    }

    pub(crate) fn place(&self) -> Place<'_> {
        let ip = match self.url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(Host::Domain(_)) | None => None,
        };
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        Place { host, ip, port: self.url.port_or_known_default().unwrap_or_default() }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// What the certificate must be for.
    pub(crate) fn server_name(&self) -> Option<ServerName<'static>> {
        match self.url.host()? {
            Host::Ipv4(ip) => Some(ServerName::IpAddress(IpAddr::V4(ip).into())),
            Host::Ipv6(ip) => Some(ServerName::IpAddress(IpAddr::V6(ip).into())),
            Host::Domain(name) => ServerName::try_from(name.to_owned()).ok(),
        }
    }

    /// What stands in the request's first line over HTTP/1.1.
    pub(crate) fn path(&self) -> &str {
        let path = &self.url[Position::BeforePath..Position::AfterQuery];
        if path.is_empty() { "/" } else { path }
    }

    /// A body may hold credentials as a header may; a method without one has none to send.
    pub(crate) fn body(&self) -> Bytes {
        if self.origin_kept && takes_body(&self.method) { self.wanted.body.clone() } else { Bytes::new() }
    }

    /// As HTTP/1.1 has it: the path, and the host in a header. To a proxy that is given the request whole: the whole URL,
    /// and what the proxy wants to see.
    pub(crate) fn http1(&self, more: &More, by_proxy: Option<Option<HeaderValue>>) -> Asked {
        let mut headers = HeaderMap::with_capacity(self.wanted.headers.len() + 8);
        headers.extend(authority(&self.url).map(|host| (header::HOST, host)));
        self.put_headers(&mut headers);
        // The connection is not used again; a server that knows may close it at once.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        self.put_own(&mut headers);
        let uri = match by_proxy {
            Some(authorization) => {
                headers.extend(authorization.map(|value| (header::PROXY_AUTHORIZATION, value)));
                self.url.as_str()
            }
            None => self.path(),
        };
        self.request(uri, headers, more)
    }

    /// As HTTP/2 has it: the whole URL, and no host header.
    pub(crate) fn http2(&self, more: &More) -> Asked {
        let mut headers = HeaderMap::with_capacity(self.wanted.headers.len() + 6);
        self.put_headers(&mut headers);
        self.put_own(&mut headers);
        headers.remove(header::HOST);
        headers.remove(header::CONNECTION);
        self.request(self.url.as_str(), headers, more)
    }

    fn put_headers(&self, headers: &mut HeaderMap) {
        headers.insert(header::USER_AGENT, self.wanted.user_agent.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(ENCODINGS));
    }

    fn put_own(&self, headers: &mut HeaderMap) {
        if self.origin_kept {
            for header in &self.wanted.headers {
                headers.insert(header.name.clone(), header.value.clone());
            }
        }
    }

    fn request(&self, uri: &str, mut headers: HeaderMap, more: &More) -> Asked {
        if let Some(cookies) = &more.cookies {
            // The file's own cookies go first.
            let cookies = match headers.get(header::COOKIE) {
                Some(own) => {
                    HeaderValue::from_bytes(&[own.as_bytes(), b"; ", cookies.as_bytes()].concat()).ok()
                }
                None => Some(cookies.clone()),
            };
            headers.extend(cookies.map(|cookies| (header::COOKIE, cookies)));
        }
        if let Some(authorization) = more.authorization.as_ref().filter(|_| self.origin_kept) {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let mut request = Request::new(Full::new(self.body()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.parse().expect("a request is prepared only if its URL can be sent");
        *request.headers_mut() = headers;
        request
    }
}

fn takes_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// The host as the header has it, with the port where it is not the scheme's own.
fn authority(url: &Url) -> Option<HeaderValue> {
    let host = url.host_str()?;
    match url.port() {
        Some(port) => HeaderValue::try_from(format!("{host}:{port}")).ok(),
        None => HeaderValue::from_str(host).ok(),
    }
}

/// User and password as the header that they stand for (RFC 7617).
pub(crate) fn basic(user: &[u8], password: &[u8]) -> Option<Header> {
    let pair = [user, b":", password].concat();
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(Header { name: header::AUTHORIZATION, value })
}

/// User and password of a URL, as the header that they stand for.
pub(crate) fn basic_auth(url: &Url) -> Option<Header> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user: Vec<u8> = percent_decode_str(url.username()).collect();
    let password: Vec<u8> = percent_decode_str(url.password().unwrap_or_default()).collect();
    basic(&user, &password)
}

/// A URL as it may be shown: a password becomes `***`.
pub(crate) fn shown(url: &Url) -> String {
    if url.password().is_none() {
        return url.to_string();
    }
    let mut shown = url.clone();
    match shown.set_password(Some("***")) {
        Ok(()) => shown.to_string(),
        Err(()) => url.host_str().unwrap_or_default().to_owned(),
    }
}

/// Where a redirect leads, or why it leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Leads {
    To(Box<Url>),
    Nowhere(String),
    OtherScheme(String),
}

/// Reads the `Location` of a redirect. User and password in it are dropped: a site may not choose our credentials.
pub(crate) fn leads(from: &Url, headers: &HeaderMap) -> Leads {
    let Some(value) = headers.get(header::LOCATION) else {
        return Leads::Nowhere("a redirect without a Location".to_owned());
    };
    if value.len() > LOCATION_BYTES_MAX {
        return Leads::Nowhere("a Location longer than 8KiB".to_owned());
    }
    let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
        return Leads::Nowhere("a Location that is not UTF-8".to_owned());
    };
    if text.trim().is_empty() {
        return Leads::Nowhere("an empty Location".to_owned());
    }
    match from.join(text) {
        Err(error) => Leads::Nowhere(format!("a Location that is no URL: {error}")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => Leads::OtherScheme(url.scheme().to_owned()),
        Ok(url) if url.host_str().is_none_or(str::is_empty) => {
            Leads::Nowhere("a Location without a host".to_owned())
        }
        Ok(mut url) => {
            if url.set_username("").is_err() || url.set_password(None).is_err() {
                return Leads::Nowhere("a Location that cannot be used".to_owned());
            }
            url.set_fragment(None);
            Leads::To(Box::new(url))
        }
    }
}

/// The method of the next request (RFC 9110, section 15.4; 301 and 302 as all clients do it).
pub(crate) fn next_method(status: u16, method: &Method) -> Method {
    match (status, method) {
        (303, &Method::HEAD) | (301 | 302, &Method::HEAD) => Method::HEAD,
        (303, _) => Method::GET,
        (301 | 302, &Method::POST) => Method::GET,
        (_, method) => method.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(from: &str, to: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::try_from(to).unwrap());
        match leads(&from.parse().unwrap(), &headers) {
            Leads::To(url) => url.to_string(),
            Leads::Nowhere(why) => format!("nowhere: {why}"),
            Leads::OtherScheme(scheme) => format!("scheme: {scheme}"),
        }
    }

    #[test]
    fn locations() {
        let base = "http://a.test/x/y?q=1";
        for (to, expected) in [
            ("z", "http://a.test/x/z"),
            ("/z", "http://a.test/z"),
            ("//b.test/z", "http://b.test/z"),
            ("?r", "http://a.test/x/y?r"),
            ("#f", "http://a.test/x/y?q=1"),
            ("https://u:p@b.test/", "https://b.test/"),
            ("file:///etc/passwd", "scheme: file"),
            ("ftp://b.test/", "scheme: ftp"),
            ("javascript:alert(1)", "scheme: javascript"),
            ("", "nowhere: an empty Location"),
            ("http://", "nowhere: a Location that is no URL: empty host"),
            ("http://a:99999/", "nowhere: a Location that is no URL: invalid port number"),
        ] {
            assert_eq!(led(base, to), expected, "{to}");
        }
    }

    #[test]
    fn methods() {
        assert_eq!(next_method(303, &Method::POST), Method::GET);
        assert_eq!(next_method(302, &Method::POST), Method::GET);
        assert_eq!(next_method(307, &Method::POST), Method::POST);
        assert_eq!(next_method(301, &Method::HEAD), Method::HEAD);
        assert_eq!(next_method(303, &Method::HEAD), Method::HEAD);
        assert_eq!(next_method(308, &Method::PUT), Method::PUT);
    }

    #[test]
    fn headers_stay_with_their_origin() {
        let url: Url = "http://user:p%40ss@a.test/".parse().unwrap();
        let asked = |name, value| Header { name, value: HeaderValue::from_static(value) };
        let headers = vec![
            basic_auth(&url).unwrap(),
            asked(header::COOKIE, "session=1"),
            asked(HeaderName::from_static("x-key"), "k"),
            asked(header::ACCEPT, "text/html"),
            asked(header::HOST, "b.test"),
        ];
        let wanted = Wanted { headers, body: Bytes::new(), user_agent: HeaderValue::from_static(USER_AGENT) };
        let wanted = Arc::new(wanted);
        let own = Prepared::new(&url, Method::GET, &wanted, true).unwrap().http1(&More::default(), None);
        assert_eq!(own.headers()["authorization"], "Basic dXNlcjpwQHNz");
        assert_eq!(
            (&own.headers()["x-key"], &own.headers()["accept"]),
            (&"k".parse().unwrap(), &"text/html".parse().unwrap())
        );
        assert_eq!(own.headers()["host"], "b.test");
        let other = Prepared::new(&url, Method::GET, &wanted, false).unwrap().http1(&More::default(), None);
        for name in ["authorization", "cookie", "x-key"] {
            assert!(!other.headers().contains_key(name), "{name}");
        }
        assert_eq!(
            (&other.headers()["host"], &other.headers()["accept"]),
            (&"a.test".parse().unwrap(), &"*/*".parse().unwrap())
        );
        assert!(other.headers().contains_key("user-agent"));
        assert_eq!(shown(&url), "http://user:***@a.test/");
    }
}
