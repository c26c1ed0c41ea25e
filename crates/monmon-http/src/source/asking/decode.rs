//! From nodes to a spec.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use fancy_regex::Regex;
use monmon_stage::DecodeContext;
use monmon_syntax::{Code, Late, Node, Problem, Problems, Spanned};

use super::table::{NODES, family_of};
use super::{AskSpec, AuthSpec, EvidenceSpec, Pem, Retry, TlsSpec};
use crate::probe::{Follow, From, HttpVersion, Override, Reach, Redirects, Timeouts};
use crate::source::window::Window;

const OPTIONS: [&str; 5] = ["http", "cookies", "body-hash", "interval-when-down", "contact"];

/// What a source or a check says, over what stands above it.
pub(in crate::source) fn asking(
    node: &Node,
    above: &Arc<AskSpec>,
    context: &DecodeContext<'_>,
    problems: &mut Problems,
) -> Arc<AskSpec> {
    let says = NODES.iter().any(|kind| node.child(kind.name).is_some())
        || OPTIONS.iter().any(|option| node.spec.option(option).is_some() && node.is_given(option));
    if !says {
        return Arc::clone(above);
    }
    let mut spec = AskSpec::clone(above);
    options(node, &mut spec, problems);
    if let Some(child) = node.child("timeouts") {
        let bound = |name| child.duration(name).map(|given| given.value);
        spec.timeouts = Timeouts {
            dns: bound("dns"),
            connect: bound("connect"),
            tls: bound("tls"),
            wait: bound("wait"),
            idle: bound("idle"),
        };
    }
    if let Some(child) = node.child("redirects") {
        let follow = match child.one_of("follow").map(|given| given.value).as_deref() {
            Some("origin") => Follow::Origin,
            Some("never") => Follow::Never,
            _ => Follow::Always,
        };
        let max = child.integer("max").and_then(|given| usize::try_from(given.value).ok());
        spec.redirects = Redirects { follow, max: max.unwrap_or(crate::probe::REDIRECTS_MAX) };
    }
    if let Some(child) = node.child("retry") {
        let attempts = child.integer("attempts").and_then(|given| u32::try_from(given.value).ok());
        let wait = child.duration("wait").map(|given| given.value);
        spec.retry =
            Retry { attempts: attempts.unwrap_or(1), wait: wait.unwrap_or(AskSpec::default().retry.wait) };
    }
    if let Some(child) = node.child("network") {
        network(child, &mut spec, problems);
    }
    if node.child("resolve").is_some() {
        spec.overrides =
            node.children_named("resolve").filter_map(|child| resolve(child, problems)).collect();
    }
    if let Some(child) = node.child("resolver") {
        spec.resolver = resolver(child, problems);
    }
    if let Some(child) = node.child("proxy") {
        spec.proxy = child.arg_late(0).map(|late| late.rooted(context.sources));
        literal_proxy(&spec, problems);
    }
    if let Some(child) = node.child("tls") {
        tls(child, &mut spec.tls, context, problems);
    }
    if let Some(child) = node.child("auth") {
        spec.auth = auth(child, context, problems);
    }
    if let Some(child) = node.child("evidence") {
        spec.evidence = Some(evidence(child, problems));
    }
    if node.child("maintenance").is_some() {
        spec.maintenance =
            node.children_named("maintenance").filter_map(|child| Window::decode(child, problems)).collect();
    }
    Arc::new(spec)
}

fn options(node: &Node, spec: &mut AskSpec, problems: &mut Problems) {
    let given = |name: &str| node.spec.option(name).is_some() && node.is_given(name);
    if given("http") {
        spec.http = match node.one_of("http").map(|given| given.value).as_deref() {
            Some("1.1") => HttpVersion::One,
            Some("2") => HttpVersion::Two,
            _ => HttpVersion::Negotiated,
        };
    }
    if given("cookies") {
        spec.cookies = node.flag("cookies");
    }
    if given("body-hash") {
        spec.body_hash = node.flag("body-hash");
    }
    if given("interval-when-down") {
        spec.when_down = node.duration("interval-when-down").map(|given| given.value);
    }
    if given("contact") {
        spec.contact = node.text("contact").and_then(|given| {
            if http::HeaderValue::from_str(&given.value).is_ok() {
                return Some(given.value);
            }
            let message = format!("`{}` cannot be part of a user agent", given.value);
            problems.push(
                Problem::new(Code::ForbiddenCharacter, given.span, message).label("expected plain ASCII"),
            );
            None
        });
    }
}

fn network(node: &Node, spec: &mut AskSpec, problems: &mut Problems) {
    spec.family = node.one_of("family").map_or(spec.family, |given| family_of(&given.value));
    if node.is_given("private") {
        spec.reach = if node.flag("private") { Reach::Anywhere } else { Reach::PublicOnly };
    }
    let Some(from) = node.text("from") else { return };
    spec.from = match from.value.parse::<IpAddr>() {
        Ok(ip) => From::Address(ip),
        // As the kernel has it (IFNAMSIZ).
        Err(_) if from.value.len() < 16 && !from.value.contains(['/', ' ', ':']) => {
            From::Interface(from.value)
        }
        Err(_) => {
            problems.push(
                Problem::new(
                    Code::BadName,
                    from.span,
                    format!("`{}` is neither an address nor an interface", from.value),
                )
                .label("expected an address such as \"192.0.2.7\", or an interface such as \"eth0\""),
            );
            From::Anywhere
        }
    };
}

fn resolve(node: &Node, problems: &mut Problems) -> Option<Override> {
    let host = node.arg_text(0)?;
    let mut addresses = Vec::new();
    for at in 1..node.args().count().min(1 + monmon_model::bounds::ADDRESSES_MAX) {
        let given = node.arg_text(at)?;
        match given.value.parse() {
            Ok(ip) => addresses.push(ip),
            Err(_) => problems.push(
                Problem::new(Code::BadName, given.span, format!("`{}` is no address", given.value))
                    .label("expected an address such as \"192.0.2.7\" or \"2001:db8::7\""),
            ),
        }
    }
    Some(Override { host: host.value, addresses })
}

fn resolver(node: &Node, problems: &mut Problems) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for at in 0..node.args().count() {
        let Some(given) = node.arg_text(at) else { continue };
        let text = given.value.as_str();
        let plain = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        match plain.or_else(|_| text.parse()) {
            Ok(server) => servers.push(server),
            Err(_) => problems.push(
                Problem::new(Code::BadName, given.span, format!("`{text}` is no name server's address"))
                    .label("expected an address such as \"192.0.2.53\", with a port or without"),
            ),
        }
    }
    servers
}

/// A proxy that is written in place is looked at now, not when the source opens.
fn literal_proxy(spec: &AskSpec, problems: &mut Problems) {
    let Some(late) = &spec.proxy else { return };
    let Some(url) = late.as_literal().and_then(|text| url::Url::parse(text).ok()) else { return };
    if let Err(why) = crate::probe::Proxy::new(&url) {
        problems.push(Problem::new(Code::BadUrl, late.span, why).label("cannot be a proxy"));
    }
}

fn tls(node: &Node, spec: &mut TlsSpec, context: &DecodeContext<'_>, problems: &mut Problems) {
    let pem = |name: &str| {
        node.late(name).map(|late| Pem {
            folder: context.sources.rooted(late.span.file, "".as_ref()),
            late: late.rooted(context.sources),
        })
    };
    for (given, missing) in [("cert", "key"), ("key", "cert")] {
        if node.is_given(given) && !node.is_given(missing) {
            let message = format!("`{given}` is given and `{missing}` is not");
            let span = node.option_span(given).unwrap_or(node.name_span);
            problems.push(
                Problem::new(Code::Conflict, span, message)
                    .label(format!("needs `{missing}` beside it"))
                    .help("a client certificate is a pair: cert=\"client.pem\" key=\"client.key\""),
            );
        }
    }
    spec.ca = pem("ca").or(spec.ca.take());
    if node.is_given("cert") {
        (spec.cert, spec.key) = (pem("cert"), pem("key"));
    }
    if let Some(name) = node.text("server-name") {
        if rustls::pki_types::ServerName::try_from(name.value.as_str()).is_err() {
            problems.push(
                Problem::new(Code::BadName, name.span, format!("`{}` is no name for TLS", name.value))
                    .label("expected a name such as \"www.example.org\""),
            );
        } else {
            spec.server_name = Some(name.value);
        }
    }
}

fn auth(node: &Node, context: &DecodeContext<'_>, problems: &mut Problems) -> Option<AuthSpec> {
    let scheme = node.arg_text(0)?;
    let (needs, may): (&[&str], &[&str]) = match scheme.value.as_str() {
        "basic" | "digest" => (&["user", "password"], &[]),
        "bearer" => (&["token"], &[]),
        _ => (&["url", "client-id", "client-secret"], &["scope"]),
    };
    let mut sound = true;
    for option in node.spec.options {
        let (given, needed) = (node.is_given(option.name), needs.contains(&option.name));
        if given && !needed && !may.contains(&option.name) {
            sound = false;
            let span = node.option_span(option.name).unwrap_or(node.name_span);
            let message = format!("`{}` does not belong to `auth \"{}\"`", option.name, scheme.value);
            problems.push(
                Problem::new(Code::Conflict, span, message)
                    .label(format!("it takes {}", [needs, may].concat().join(", "))),
            );
        } else if needed && !given {
            sound = false;
            let message = format!("`auth \"{}\"` has no `{}`", scheme.value, option.name);
            problems.push(
                Problem::new(Code::MissingOption, scheme.span, message)
                    .label(format!("it takes {}", [needs, may].concat().join(", "))),
            );
        }
    }
    if !sound {
        return None;
    }
    let late = |name: &str| -> Option<Late> { node.late(name).map(|late| late.rooted(context.sources)) };
    Some(match scheme.value.as_str() {
        "basic" => AuthSpec::Basic { user: late("user")?, password: late("password")? },
        "digest" => AuthSpec::Digest { user: late("user")?, password: late("password")? },
        "bearer" => AuthSpec::Bearer { token: late("token")? },
        _ => AuthSpec::OAuth {
            url: late("url")?,
            client_id: late("client-id")?,
            client_secret: late("client-secret")?,
            scope: node.text("scope").map(|given| given.value),
        },
    })
}

fn evidence(node: &Node, problems: &mut Problems) -> EvidenceSpec {
    let mut redact = Vec::new();
    for child in node.children_named("redact") {
        for at in 0..child.args().count() {
            let Some(given) = child.arg_text(at) else { continue };
            if pattern(&given, problems).is_some() {
                redact.push(given.value);
            }
        }
    }
    EvidenceSpec { bytes_max: node.size("max").map_or(1024, |given| given.value), redact }
}

/// A pattern of the file, compiled; what is wrong with it is told.
pub(in crate::source) fn pattern(given: &Spanned<String>, problems: &mut Problems) -> Option<Regex> {
    match Regex::new(&given.value) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            problems.push(
                Problem::new(
                    Code::BadPattern,
                    given.span,
                    format!("the pattern cannot be compiled: {error}"),
                )
                .label("this pattern"),
            );
            None
        }
    }
}
