//! Whether a link leaves its page's origin. Links are read as browsers read them (WHATWG URL, "special" schemes), as far
//! as their origin goes; what is not clear leaves it.

/// Whether `link`, on the page at `page`, stays with its scheme, host and port.
pub fn is_same_origin(page: &str, link: &str) -> bool {
    let link = plain(link);
    let Some(home) = origin(page) else { return false };
    if let Some(scheme) = scheme(&link) {
        return match origin(&link) {
            Some(other) => other == home,
            // `https:path` is a path of the same scheme, and another scheme has no origin to share.
            None => scheme == home.0 && ["http", "https"].contains(&&*scheme) && !link[scheme.len() + 1..].starts_with('/'),
        };
    }
    if link.starts_with("//") {
        return origin(&format!("{}:{link}", home.0)).is_some_and(|other| other == home);
    }
    true
}

/// Without what browsers take out, and with backslashes as they take them.
fn plain(link: &str) -> String {
    let trimmed = link.trim_matches(|c: char| c <= ' ');
    trimmed.chars().filter(|c| !['\t', '\n', '\r'].contains(c)).map(|c| if c == '\\' { '/' } else { c }).collect()
}

fn scheme(link: &str) -> Option<String> {
    let (scheme, _) = link.split_once(':')?;
    let mut chars = scheme.chars();
    let begins = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    let goes_on = chars.all(|c| c.is_ascii_alphanumeric() || ['+', '-', '.'].contains(&c));
    (begins && goes_on).then(|| scheme.to_ascii_lowercase())
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String, String)> {
    let scheme = scheme(url)?;
    let default = match &*scheme {
        "http" => "80",
        "https" => "443",
        _ => return None,
    };
    let rest = url[scheme.len() + 1..].strip_prefix("//")?.trim_start_matches('/');
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host_and_port.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => {
            (host, if port.is_empty() { default } else { port })
        }
        _ => (host_and_port, default),
    };
    (!host.is_empty()).then(|| (scheme, host.to_ascii_lowercase(), port.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_stay_and_links_that_leave() {
        let page = "https://shop.example.org/login?next=/";
        for stays in [
            "", "/login", "login", "?a=b", "#top", "https://shop.example.org/x", "HTTPS://SHOP.example.org:443/x",
            "//shop.example.org/x", " /login\n", "https:login", "/a:b",
        ] {
            assert!(is_same_origin(page, stays), "{stays}");
        }
        for leaves in [
            "https://evil.example.org/", "http://shop.example.org/", "//evil.example.org", "\\\\evil.example.org",
            "/\\evil.example.org", "https://shop.example.org@evil.example.org/", "https://shop.example.org:8443/",
            "javascript:alert(1)", "ht\ntps://evil.example.org", "https:/evil.example.org", "data:text/html,x",
        ] {
            assert!(!is_same_origin(page, leaves), "{leaves}");
        }
    }
}
