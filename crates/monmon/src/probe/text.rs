//! From the command line to a pipeline's text.

use std::fmt::Write as _;

use super::ProbeArgs;

/// The schemes that may begin an URL; everything else is taken for a host.
const SCHEMES: [&str; 8] = ["https", "http", "ws", "wss", "tcp", "tls", "dns", "ping"];

pub(super) fn pipeline(args: &ProbeArgs) -> Result<String, String> {
    let inside = inside(args)?;
    let method = args.method.clone().or_else(|| args.data.as_ref().map(|_| "POST".to_owned()));
    let mut options = String::new();
    if let Some(method) = method {
        write_option(&mut options, "method", &method.to_ascii_uppercase());
    }
    if let Some(http) = &args.http {
        write_option(&mut options, "http", http);
    }
    let mut text =
        format!("pipeline \"probe\"\nsources {{\n    http \"now\" timeout={} {{\n", quoted(&args.timeout));
    for (at, url) in args.urls.iter().enumerate() {
        let url = quoted(&with_scheme(url));
        line(&mut text, &format!("        check \"{:05}\" {url}{options} {{", at + 1));
        for part in &inside {
            line(&mut text, &format!("            {part}"));
        }
        line(&mut text, "        }");
    }
    text.push_str("    }\n}\nsinks {\n    collect \"shown\"\n}\n");
    Ok(text)
}

fn inside(args: &ProbeArgs) -> Result<Vec<String>, String> {
    let mut nodes = Vec::new();
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| format!("`{header}` is no header: write it as \"NAME: VALUE\""))?;
        nodes.push(format!("header {} {}", quoted(name.trim()), quoted(value.trim())));
    }
    if let Some(data) = &args.data {
        nodes.push(match data.strip_prefix('@') {
            Some(path) => format!("body (file){}", quoted(path)),
            None => format!("body {}", quoted(data)),
        });
    }
    if let Some(user) = &args.user {
        let (user, password) = user.split_once(':').ok_or("`--user` is USER:PASSWORD")?;
        nodes.push(format!("auth \"basic\" user={} password={}", quoted(user), quoted(password)));
    }
    if let Some(status) = &args.status {
        nodes.push(format!("expect status={}", quoted(status)));
    }
    for (at, pattern) in args.matches.iter().enumerate() {
        nodes.push(format!("match \"match {}\" {}", at + 1, quoted(pattern)));
    }
    let family = [(args.ipv4, "4"), (args.ipv6, "6"), (args.each, "each")];
    if let Some((_, word)) = family.iter().find(|(given, _)| *given) {
        nodes.push(format!("network family=\"{word}\""));
    }
    for resolve in &args.resolve {
        let (host, address) = resolve
            .split_once('=')
            .ok_or_else(|| format!("`{resolve}` is no override: write it as HOST=ADDRESS"))?;
        nodes.push(format!("resolve {} {}", quoted(host), quoted(address)));
    }
    if !args.resolver.is_empty() {
        let servers: Vec<String> = args.resolver.iter().map(|server| quoted(server)).collect();
        nodes.push(format!("resolver {}", servers.join(" ")));
    }
    if let Some(proxy) = &args.proxy {
        nodes.push(format!("proxy {}", quoted(proxy)));
    }
    if args.no_redirects {
        nodes.push("redirects follow=\"never\"".to_owned());
    }
    let mut tls = String::new();
    for (name, path) in [("ca", &args.ca), ("cert", &args.cert), ("key", &args.key)] {
        if let Some(path) = path {
            let path = path.to_str().ok_or_else(|| format!("the path of `--{name}` is not UTF-8"))?;
            write_option(&mut tls, name, path);
        }
    }
    if let Some(name) = &args.server_name {
        write_option(&mut tls, "server-name", name);
    }
    if !tls.is_empty() {
        nodes.push(format!("tls{tls}"));
    }
    nodes.extend(args.ask.iter().cloned());
    Ok(nodes)
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn write_option(into: &mut String, name: &str, value: &str) {
    write!(into, " {name}={}", quoted(value)).expect("a String takes all");
}

fn with_scheme(url: &str) -> String {
    let known = url.split_once("://").is_some_and(|(scheme, _)| {
        SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known)) || !scheme.contains(['/', '.'])
    });
    if known { url.to_owned() } else { format!("https://{url}") }
}

/// A text as KDL has it (KDL 2.0.0, section 3.11).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other if other.is_control() => {
                write!(quoted, "\\u{{{:x}}}", u32::from(other)).expect("a String takes all");
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ProbeArgs,
    }

    fn text(words: &[&str]) -> Result<String, String> {
        let words = ["probe"].iter().chain(words);
        pipeline(&Command::try_parse_from(words).expect("arguments").args)
    }

    #[test]
    fn a_command_line_becomes_a_pipeline() {
        let words = [
            "example.org",
            "tcp://db.test:5432",
            "-H",
            "accept: text/html",
            "-d",
            "a=\"1\"\n",
            "-u",
            "me:pa:ss",
            "-4",
            "--resolve",
            "example.org=127.0.0.1",
            "-x",
            "http://proxy.test:3128",
            "--ca",
            "ca.pem",
            "-m",
            r"\d+",
            "--ask",
            "expect time=\"<1s\"",
        ];
        insta::assert_snapshot!(text(&words).unwrap(), @r##"
        pipeline "probe"
        sources {
            http "now" timeout="10s" {
                check "00001" "https://example.org" method="POST" {
                    header "accept" "text/html"
                    body "a=\"1\"\n"
                    auth "basic" user="me" password="pa:ss"
                    match "match 1" "\\d+"
                    network family="4"
                    resolve "example.org" "127.0.0.1"
                    proxy "http://proxy.test:3128"
                    tls ca="ca.pem"
                    expect time="<1s"
                }
                check "00002" "tcp://db.test:5432" method="POST" {
                    header "accept" "text/html"
                    body "a=\"1\"\n"
                    auth "basic" user="me" password="pa:ss"
                    match "match 1" "\\d+"
                    network family="4"
                    resolve "example.org" "127.0.0.1"
                    proxy "http://proxy.test:3128"
                    tls ca="ca.pem"
                    expect time="<1s"
                }
            }
        }
        sinks {
            collect "shown"
        }
        "##);
        assert!(text(&["a.test", "-H", "none"]).unwrap_err().contains("NAME: VALUE"));
        assert!(text(&["a.test", "--resolve", "none"]).unwrap_err().contains("HOST=ADDRESS"));
        assert!(text(&["ftp://a.test"]).unwrap().contains("\"ftp://a.test\""), "told by the language");
    }
}
