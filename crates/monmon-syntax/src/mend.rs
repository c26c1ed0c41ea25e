//! A text that is no URL, written as the one that was meant.

use url::{Host, Url};

use crate::nearest::nearest;
use crate::report::printable;

/// Ports at which a site is more likely to speak TLS.
const TLS_PORTS: [u16; 2] = [443, 8443];

/// The URL that was most likely meant: the scheme put right or put before, its `://` whole, spaces out of the way.
/// `None` where nothing is near.
pub fn mended_url(text: &str, schemes: &[&str]) -> Option<String> {
    let plain = text.trim_matches(|c: char| c.is_whitespace() || is_unseen(c));
    let (scheme, rest) = split(plain, schemes)?;
    let rest = rest.trim_start_matches(['/', '\\', ':']).replace(char::is_whitespace, "%20");
    let scheme = match scheme {
        Some(scheme) => scheme,
        None => likely(&rest, schemes)?,
    };
    let mended = format!("{scheme}://{rest}");
    let url = Url::parse(&mended).ok()?;
    (url.has_host() && mended != text && !mended.contains(is_unseen)).then_some(mended)
}

fn is_unseen(c: char) -> bool {
    !c.is_ascii_graphic() && printable(c.encode_utf8(&mut [0; 4])) != c.to_string()
}

/// The scheme, if there is one, and what comes after it. `None` for a scheme that is another altogether.
fn split<'a>(text: &'a str, schemes: &[&'a str]) -> Option<(Option<&'a str>, &'a str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let after_colon = rest.strip_prefix(':');
    // `localhost:8080` is a host with its port.
    let is_port = |rest: &str| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        digits > 0 && matches!(rest.as_bytes().get(digits), None | Some(b'/' | b'?' | b'#'))
    };
    let has_scheme = match after_colon {
        Some(rest) => !is_port(rest),
        None => rest.starts_with("//"),
    };
    if word.is_empty() || !has_scheme {
        return Some((None, text));
    }
    match nearest(word, schemes.iter().copied()) {
        Some(scheme) => Some((Some(scheme), after_colon.unwrap_or(rest))),
        // A host with a slash too many.
        None if after_colon.is_none() && word.contains('.') => Some((None, text)),
        None => None,
    }
}

/// The scheme for a host without one: http for this machine, for bare addresses and for unusual ports, where it may be.
fn likely<'a>(rest: &str, schemes: &[&'a str]) -> Option<&'a str> {
    let first = schemes.first().copied()?;
    let url = Url::parse(&format!("http://{rest}")).ok()?;
    let is_inner = match url.host()? {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    };
    let is_odd = url.port().is_some_and(|port| !TLS_PORTS.contains(&port));
    if (is_inner || is_odd) && schemes.contains(&"http") { Some("http") } else { Some(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        for (text, meant) in [
            ("htp:/x", Some("http://x")),
            ("http//x", Some("http://x")),
            ("http:/x", Some("http://x")),
            ("http:x", Some("http://x")),
            ("http:///x", Some("http://x")),
            ("http:\\\\x\\y", Some("http://x\\y")),
            ("HTTPS//x", Some("https://x")),
            ("httsp://x/y?z", Some("https://x/y?z")),
            ("://x", Some("https://x")),
            ("//x", Some("https://x")),
            ("/x", Some("https://x")),
            ("example.com", Some("https://example.com")),
            ("example.com//x", Some("https://example.com//x")),
            ("www.example.com/a?b=c:d", Some("https://www.example.com/a?b=c:d")),
            ("example.com:443", Some("https://example.com:443")),
            ("example.com:8080/x", Some("http://example.com:8080/x")),
            ("localhost:8080/x", Some("http://localhost:8080/x")),
            ("localhost", Some("http://localhost")),
            ("192.0.2.1/x", Some("http://192.0.2.1/x")),
            ("[::1]:80/x", Some("http://[::1]:80/x")),
            (" http://x", Some("http://x")),
            ("\u{200b}http://x\u{feff}", Some("http://x")),
            ("http://x\u{202e}y", None),
            ("http//münchen.test/ü", Some("http://münchen.test/ü")),
            ("http://x ", Some("http://x")),
            ("http://x/a b", Some("http://x/a%20b")),
            ("http://x/", None),
            ("ftp://x", None),
            ("mailto:x@y", None),
            ("user:secret@x", None),
            ("", None),
            ("http://", None),
            ("//", None),
            ("http://a:99999/", None),
        ] {
            assert_eq!(mended_url(text, &["https", "http"]).as_deref(), meant, "{text}");
        }
        assert_eq!(mended_url("db:5432/x", &["postgres"]).as_deref(), Some("postgres://db:5432/x"));
    }
}
