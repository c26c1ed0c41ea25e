//! Checks that are no HTTP requests.

#![expect(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

mod common;

use common::{checked, failure, once};
use monmon_model::Outcome;
use monmon_testkit::{Dialogue, DnsAnswer, DnsServer, Line, Site, Tls, Validity, WebSocketMode};

fn gone() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn tcp_connects_sends_and_looks_at_the_reply() {
    let echo = Dialogue::script(vec![Line::Echo], None).unwrap();
    let greets = Dialogue::script(vec![Line::say("220 ready\r\n")], None).unwrap();
    let closes = Dialogue::script(vec![Line::hear("x")], None).unwrap();
    let found = checked(&format!(
        r##"check "a-connect" "tcp://{echo}"
           check "b-echo" "tcp://{echo}" {{ send "PING\r\n"; reply "^PING\r\n$" }}
           check "c-greeting" "tcp://{greets}" {{ reply #"^220 "#; }}
           check "d-other" "tcp://{greets}" timeout="300ms" {{ reply #"^500 "#; }}
           check "e-gone" "tcp://{gone}"
           check "f-mute" "tcp://{closes}" timeout="200ms" {{ reply "x" }}"##,
        echo = echo.addr(),
        greets = greets.addr(),
        closes = closes.addr(),
        gone = gone(),
    ))
    .await;
    let told: Vec<_> = found.iter().map(failure).collect();
    assert_eq!(
        told,
        [
            ("up", ""),
            ("up", ""),
            ("up", ""),
            ("timeout", "wait"),
            ("connect_refused", "connect"),
            ("timeout", "wait")
        ],
        "{found:#?}"
    );
    assert_eq!((found[0].method.as_str(), found[0].status), ("TCP", None));
    assert_eq!(found[1].body_bytes, Some(6));
    for one in &found {
        let phases: u64 = one.timings.phases().into_iter().flatten().sum();
        assert_eq!(phases, one.timings.total_us, "{}", one.check.name);
    }
}

#[tokio::test]
async fn protocols_go_over_to_tls_in_their_own_way() {
    let tls = Tls::new("an authority").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = tls.write(folder.path(), "monmon").unwrap();
    let identity = tls.server(&["127.0.0.1".to_owned()], Validity::Always).unwrap();
    let line = |text: &str| Line::say(&format!("{text}\r\n"));
    let scripts: [(&str, Vec<Line>); 7] = [
        (
            "smtp",
            vec![
                line("220-mail.test"),
                line("220 ready"),
                Line::hear("\r\n"),
                line("250-mail.test"),
                line("250-STARTTLS"),
                line("250 SIZE 1"),
                Line::hear("STARTTLS\r\n"),
                line("220 go on"),
            ],
        ),
        ("imap", vec![line("* OK ready"), Line::hear("STARTTLS\r\n"), line("* NOOP"), line("a1 OK begin")]),
        ("pop3", vec![line("+OK ready"), Line::hear("STLS\r\n"), line("+OK begin")]),
        ("ftp", vec![line("220 ready"), Line::hear("AUTH TLS\r\n"), line("234 begin")]),
        (
            "xmpp",
            vec![
                Line::hear("streams'>"),
                Line::say(
                    "<stream:stream><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
                ),
                Line::hear("/>"),
                Line::say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
            ],
        ),
        (
            "ldap",
            vec![
                Line::hear("1466.20037"),
                Line::Say(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00".to_vec()),
            ],
        ),
        ("postgres", vec![Line::Hear(vec![4, 210, 22, 47]), Line::say("S")]),
    ];
    let refusals: [(&str, Vec<Line>); 7] = [
        ("smtp", vec![line("220 ready"), Line::hear("\r\n"), line("250 SIZE 1")]),
        ("imap", vec![line("* OK ready"), Line::hear("\r\n"), line("a1 BAD no")]),
        ("pop3", vec![line("+OK ready"), Line::hear("\r\n"), line("-ERR no")]),
        ("ftp", vec![line("220 ready"), Line::hear("\r\n"), line("500 no")]),
        (
            "xmpp",
            vec![Line::hear("streams'>"), Line::say("<stream:stream><stream:features></stream:features>")],
        ),
        (
            "ldap",
            vec![
                Line::hear("1466.20037"),
                Line::Say(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x02\x04\x00\x04\x00".to_vec()),
            ],
        ),
        ("postgres", vec![Line::Hear(vec![4, 210, 22, 47]), Line::say("N")]),
    ];
    let mut servers = Vec::new();
    let mut checks = String::new();
    for (expected, all) in [("good", scripts), ("refuses", refusals)] {
        for (protocol, mut lines) in all {
            if expected == "good" {
                lines.push(Line::StartTls);
            }
            let server = Dialogue::script(lines, Some(&identity)).unwrap();
            let name = format!("{expected} {protocol}");
            checks
                .push_str(&format!("check \"{name}\" \"tcp://{}\" starttls=\"{protocol}\"\n", server.addr()));
            servers.push(server);
        }
    }
    let found = once(&format!("http \"sites\" {{ tls ca=\"{}\"\n{checks} }}", files.ca.display())).await;
    assert_eq!(found.len(), 14);
    for one in &found {
        let expected = if one.check.name.starts_with("good") { ("up", "") } else { ("protocol", "wait") };
        assert_eq!(failure(one), expected, "{}: {:?}", one.check.name, one.error);
        assert_eq!(one.tls.is_some(), expected.0 == "up");
    }
}

#[tokio::test]
async fn tls_is_a_check_of_its_own() {
    let tls = Tls::new("an authority").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = tls.write(folder.path(), "monmon").unwrap();
    let site = Site::start_tls(&tls).unwrap();
    let plain = Site::start().unwrap();
    let found = checked(&format!(
        r#"check "a" "tls://{0}" {{ tls ca="{1}" }}
           check "b" "tls://{0}"
           check "c" "tls://{2}" timeout="300ms""#,
        site.addr(),
        files.ca.display(),
        plain.addr(),
    ))
    .await;
    let told: Vec<_> = found.iter().map(failure).collect();
    assert_eq!(told[..2], [("up", ""), ("tls_untrusted", "tls")]);
    assert_eq!(told[2].1, "tls");
    assert!(found[..2].iter().all(|one| one.tls.as_ref().unwrap().certificate.is_some()));
    assert!(site.hits().is_empty() && found[0].status.is_none());
}

#[tokio::test]
async fn dns_is_asked_and_its_answers_are_held_against_what_is_expected() {
    let dns = DnsServer::start().unwrap();
    let addresses = ["192.0.2.7", "192.0.2.8"].map(|ip| ip.parse().unwrap()).to_vec();
    dns.set("a.test", DnsAnswer::Addresses(addresses));
    dns.set("mx.test", DnsAnswer::Mail(10, "mail.test".to_owned()));
    dns.set("txt.test", DnsAnswer::Text("v=spf1 -all".to_owned()));
    dns.set("broken.test", DnsAnswer::ServerFailure);
    let found = once(&format!(
        r#"http "sites" {{
            check "a" "dns://{0}/a.test" {{ answer "192.0.2.8" }}
            check "b" "dns://{0}/a.test?type=A" {{ answer "192.0.2.9" }}
            check "c" "dns://{0}/mx.test?type=mx" {{ answer "10 mail.test" }}
            check "d" "dns://{0}/txt.test?type=TXT"
            check "e" "dns://{0}/none.test"
            check "f" "dns://{0}/broken.test"
            check "g" "dns://{1}/a.test" timeout="1s"
        }}"#,
        dns.addr(),
        gone(),
    ))
    .await;
    let told: Vec<_> = found.iter().map(failure).collect();
    assert_eq!(
        told[..6],
        [("up", ""), ("down", ""), ("up", ""), ("up", ""), ("dns_not_found", "dns"), ("dns_failed", "dns")]
    );
    assert_eq!(found[1].reason.as_ref().unwrap().name(), Some("answer"));
    assert!(found[1].reason.as_ref().unwrap().message().contains("192.0.2.7, 192.0.2.8"));
    assert_eq!(found[3].body_bytes, Some("v=spf1 -all".len() as u64));
    assert_eq!((found[6].outcome, told[6].1), (Outcome::Down, "dns"));
    assert_eq!(found[0].remote_addr.as_deref(), Some(dns.addr().to_string().as_str()));
}

#[tokio::test]
async fn web_sockets_shake_hands_and_answer() {
    let tls = Tls::new("an authority").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = tls.write(folder.path(), "monmon").unwrap();
    let identity = tls.loopback_server().unwrap();
    let start = |mode| Dialogue::web_socket(mode, None).unwrap();
    let (echo, mute) = (start(WebSocketMode::Echo), start(WebSocketMode::Mute));
    let (refuses, wrong, closes) =
        (start(WebSocketMode::Refuse(403)), start(WebSocketMode::WrongKey), start(WebSocketMode::Close));
    let secure = Dialogue::web_socket(WebSocketMode::Echo, Some(&identity)).unwrap();
    let found = checked(&format!(
        r#"check "a" "ws://{echo}/x"
           check "b" "ws://{echo}/" {{ send "hello"; reply "^hello$" }}
           check "c" "ws://{mute}/"
           check "d" "ws://{mute}/" timeout="200ms" {{ send "hello"; reply "hello" }}
           check "e" "ws://{refuses}/"
           check "f" "ws://{wrong}/"
           check "g" "ws://{closes}/"
           check "h" "wss://{secure}/" {{ tls ca="{ca}"; send "hello" }}
           check "i" "ws://{echo}/" timeout="300ms" {{ send "hello"; reply "other" }}"#,
        echo = echo.addr(),
        mute = mute.addr(),
        refuses = refuses.addr(),
        wrong = wrong.addr(),
        closes = closes.addr(),
        secure = secure.addr(),
        ca = files.ca.display(),
    ))
    .await;
    let told: Vec<_> = found.iter().map(failure).collect();
    assert_eq!(
        told,
        [
            ("up", ""),
            ("up", ""),
            ("up", ""),
            ("timeout", "transfer"),
            ("down", ""),
            ("protocol", "wait"),
            ("closed_early", "transfer"),
            ("up", ""),
            ("timeout", "transfer")
        ],
        "{found:#?}"
    );
    assert_eq!((found[0].status, found[0].method.as_str()), (Some(101), "WEBSOCKET"));
    assert_eq!((found[4].status, found[4].reason.as_ref().unwrap().name()), (Some(403), Some("status")));
    assert!(found[7].tls.is_some());
}

/// Where the system lets us; where it does not the check says what to do, and blames nobody.
#[tokio::test]
async fn an_echo_comes_back_or_it_is_said_why_none_was_sent() {
    let found = checked(r#"check "a" "ping://127.0.0.1""#).await;
    match found[0].outcome {
        Outcome::Up => assert!(found[0].timings.wait_us.is_some()),
        _ => {
            assert_eq!((failure(&found[0]), found[0].outcome), (("internal", "start"), Outcome::Unknown));
            assert!(found[0].error.as_ref().unwrap().message.contains("ping_group_range"));
        }
    }
}
