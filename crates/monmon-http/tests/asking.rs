//! How a check asks: what is sent, by which way, how often, and what is put on record of it.

#![expect(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

mod common;

use std::time::Duration;

use common::{Running, checked, failure, once, started, told};
use monmon_model::{Measurement, Note, Outcome};
use monmon_stage::{Item, Mode};
use monmon_syntax::MemoryLoader;
use monmon_testkit::{
    Answer, Dialogue, DnsAnswer, DnsServer, ForwardMode, ForwardProxy, Line, Site, SiteOptions, Tls,
};

fn site(paths: &[(&str, Answer)]) -> Site {
    let site = Site::start().unwrap();
    for (path, answer) in paths {
        site.set(path, answer.clone());
    }
    site
}

fn home() -> Site {
    site(&[("/", Answer::html("home", 400))])
}

/// A reply to whatever ends like this.
fn replies(end: &str, reply: &str) -> Dialogue {
    let reply = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{reply}", reply.len());
    Dialogue::script(vec![Line::hear(end), Line::say(&reply)], None).unwrap()
}

#[tokio::test]
async fn a_body_a_query_and_headers_are_sent() {
    let posted = replies("content-length: 7\r\n\r\nhello=1", "ok");
    let site = home();
    let found = checked(&format!(
        r#"check "post" "http://{}/form" method="POST" {{ body "hello=1" type="application/x-www-form-urlencoded" }}
           check "query" "{}?a=b" {{ query q="open source" r="1&2"; header "x-own" "yes" }}"#,
        posted.addr(),
        site.url("/"),
    ))
    .await;
    assert_eq!(
        found.iter().map(|one| one.outcome).collect::<Vec<_>>(),
        [Outcome::Up, Outcome::Up],
        "{found:?}"
    );
    assert_eq!(found[0].method, "POST");
    let hit = &site.hits_of("/")[0];
    assert_eq!(hit.query.as_deref(), Some("a=b&q=open+source&r=1%262"));
    assert_eq!(hit.header("x-own"), Some("yes"));
    assert!(found[1].check.url.ends_with("?a=b&q=open+source&r=1%262"), "{}", found[1].check.url);
}

#[tokio::test]
async fn credentials_of_every_kind() {
    let token = Answer::body(&br#"{"access_token":"t-1","token_type":"Bearer","expires_in":600}"#[..]);
    let site = site(&[
        ("/", Answer::html("home", 100)),
        ("/token", token),
        ("/no-token", Answer::body(&br#"{"error":"invalid_client"}"#[..]).with_status(401)),
    ]);
    let asks = |auth: &str| format!("{{ auth {auth} }}");
    let checks: String = [
        ("basic", r#""basic" user="a" password="b""#.to_owned()),
        ("bearer", r#""bearer" token="xyz""#.to_owned()),
        (
            "oauth",
            format!(r#""oauth2" url="{}" client-id="me" client-secret="s" scope="read""#, site.url("/token")),
        ),
        ("refused", format!(r#""oauth2" url="{}" client-id="me" client-secret="s""#, site.url("/no-token"))),
    ]
    .iter()
    .map(|(name, auth)| format!("check \"{name}\" \"{}?{name}\" {}\n", site.url("/"), asks(auth)))
    .collect();
    let found = checked(&checks).await;
    let sent = |name: &str| {
        let hits = site.hits_of("/");
        let hit = hits.iter().find(|hit| hit.query.as_deref() == Some(name))?;
        hit.header("authorization").map(str::to_owned)
    };
    assert_eq!(sent("basic").as_deref(), Some("Basic YTpi"));
    assert_eq!(sent("bearer").as_deref(), Some("Bearer xyz"));
    assert_eq!(sent("oauth").as_deref(), Some("Bearer t-1"));
    assert_eq!(failure(&found[3]), ("token_failed", "start"));
    assert_eq!(found[3].outcome, Outcome::Unknown);
    assert!(found[3].error.as_ref().unwrap().message.contains("401 invalid_client"), "{:?}", found[3].error);
    assert_eq!(site.hits_of("/").len(), 3);
}

#[tokio::test]
async fn a_digest_is_answered_once() {
    let challenge = "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Digest realm=\"r\", qop=\"auth\", \
                     nonce=\"n1\", algorithm=MD5\r\ncontent-length: 0\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    // Every connection is a script of its own: the first asks, an answer is let in.
    let script = vec![Line::hear("\r\n\r\n"), Line::say(challenge)];
    let refuses = Dialogue::script(script, None).unwrap();
    let accepts =
        Dialogue::script(vec![Line::hear("username=\"a\""), Line::hear("\r\n\r\n"), Line::say(ok)], None);
    let accepts = accepts.unwrap();
    let found = checked(&format!(
        r#"check "wrong" "http://{}/x?y" {{ auth "digest" user="a" password="b" }}
           check "without" "http://{}/x" timeout="500ms" {{ auth "digest" user="a" password="b" }}"#,
        refuses.addr(),
        accepts.addr(),
    ))
    .await;
    // Asked once more with the answer, which is refused; nobody goes on for ever.
    let wrong = &found[1];
    assert_eq!((wrong.status, wrong.redirects.len(), wrong.redirects[0].status), (Some(401), 1, 401));
    // Nothing is sent unasked.
    assert_eq!(failure(&found[0]), ("timeout", "wait"));
}

#[tokio::test]
async fn cookies_live_as_long_as_the_measurement() {
    let site = site(&[
        ("/", Answer::redirect("/next").header("set-cookie", "sid=1; Path=/")),
        ("/next", Answer::html("next", 100)),
    ]);
    let url = site.url("/");
    let found = checked(&format!(r#"check "a" "{url}"; check "b" "{url}" cookies=#false"#)).await;
    assert!(found.iter().all(|one| one.outcome == Outcome::Up));
    let mut sent: Vec<_> =
        site.hits_of("/next").iter().map(|hit| hit.header("cookie").map(str::to_owned)).collect();
    sent.sort();
    assert_eq!(sent, [None, Some("sid=1".to_owned())]);
    assert!(site.hits_of("/").iter().all(|hit| hit.header("cookie").is_none()));
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_they_may() {
    let other = home();
    let site = site(&[("/", Answer::redirect("/here")), ("/here", Answer::redirect(&other.url("/")))]);
    let url = site.url("/");
    let found = checked(&format!(
        r#"check "a-always" "{url}"
           check "b-origin" "{url}" {{ redirects follow="origin"; expect status="302" }}
           check "c-never" "{url}" {{ redirects follow="never" }}
           check "d-one" "{url}" {{ redirects max=1 }}
           check "e-private" "{url}" {{ network private=#false }}"#
    ))
    .await;
    assert_eq!((found[0].outcome, found[0].redirects.len()), (Outcome::Up, 2));
    // An expected redirect is not followed at all.
    assert_eq!((found[1].outcome, found[1].redirects.len()), (Outcome::Up, 0));
    assert_eq!((found[2].outcome, found[2].status, found[2].redirects.len()), (Outcome::Down, Some(302), 0));
    assert_eq!(failure(&found[3]), ("too_many_redirects", "wait"));
    assert_eq!(failure(&found[4]), ("blocked_address", "dns"));
    let found = checked(&format!(r#"check "origin" "{url}" {{ redirects follow="origin" }}"#)).await;
    assert_eq!((found[0].status, found[0].redirects.len()), (Some(302), 1));
    assert_eq!(found[0].details.as_ref().unwrap().notes, [Note::RedirectNotFollowed]);
}

#[tokio::test]
async fn from_https_to_http_is_another_origin() {
    let tls = Tls::new("an authority").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = tls.write(folder.path(), "monmon").unwrap().ca;
    let (plain, secure) = (home(), Site::start_tls(&tls).unwrap());
    secure.set("/", Answer::redirect(&plain.url("/")));
    let url = secure.url("/");
    let found = checked(&format!(
        r#"check "a" "{url}" {{ tls ca="{0}"; header "x-key" "k"; }}
           check "b" "{url}" {{ tls ca="{0}"; redirects follow="origin"; }}"#,
        ca.display()
    ))
    .await;
    assert_eq!((found[0].outcome, found[0].redirects.len()), (Outcome::Up, 1), "{:?}", found[0].error);
    assert_eq!(plain.hits_of("/")[0].header("x-key"), None);
    assert_eq!((found[1].outcome, found[1].status), (Outcome::Down, Some(302)));
    assert_eq!(found[1].details.as_ref().unwrap().notes, [Note::RedirectNotFollowed]);
}

#[tokio::test]
async fn a_redirect_leads_out_of_its_zone_only_where_it_may() {
    let site = site(&[("/", Answer::redirect("http://169.254.169.254:1/latest/meta-data/"))]);
    let url = site.url("/");
    let found = checked(&format!(
        r#"check "a" "{url}" timeout="300ms"
           check "b" "{url}" timeout="300ms" {{ network private=#true }}"#
    ))
    .await;
    assert_eq!(failure(&found[0]), ("blocked_address", "dns"));
    assert_eq!(found[0].remote_addr.as_deref(), Some("169.254.169.254:1"));
    assert_ne!(failure(&found[1]).0, "blocked_address");
}

#[tokio::test]
async fn names_come_from_where_the_file_says() {
    let (site, dns) = (home(), DnsServer::start().unwrap());
    let loopback = || vec!["127.0.0.1".parse().unwrap()];
    dns.set("good.test", DnsAnswer::Addresses(loopback()));
    dns.set("alias.test", DnsAnswer::Alias("good.test".to_owned()));
    dns.set("many.test", DnsAnswer::Addresses((1..=1000).map(|_| loopback()[0]).collect()));
    dns.set("dead-first.test", DnsAnswer::Addresses(vec!["127.0.0.9".parse().unwrap(), loopback()[0]]));
    dns.set("six.test", DnsAnswer::Addresses(vec!["::1".parse().unwrap()]));
    dns.set("empty.test", DnsAnswer::Empty);
    dns.set("broken.test", DnsAnswer::ServerFailure);
    dns.set("refused.test", DnsAnswer::Refused);
    dns.set("loop.test", DnsAnswer::Alias("loop.test".to_owned()));
    dns.set("silent.test", DnsAnswer::Silence);
    dns.set("garbage.test", DnsAnswer::Garbage);
    dns.set("wrong-id.test", DnsAnswer::WrongId);
    let port = site.addr().port();
    let expected = [
        ("alias", ("up", "")),
        ("broken", ("dns_failed", "dns")),
        ("dead-first", ("up", "")),
        ("empty", ("dns_no_address", "dns")),
        ("garbage", ("dns_timeout", "dns")),
        ("good", ("up", "")),
        ("loop", ("dns_no_address", "dns")),
        ("many", ("up", "")),
        ("none", ("dns_not_found", "dns")),
        ("refused", ("dns_failed", "dns")),
        ("silent", ("dns_timeout", "dns")),
        ("wrong-id", ("dns_timeout", "dns")),
    ];
    let checks: String = expected
        .iter()
        .map(|(name, _)| format!("check \"{name}\" \"http://{name}.test:{port}/\"\n"))
        .collect();
    let found = once(&format!(
        "http \"sites\" timeout=\"5s\" {{ resolver \"{}\"; timeouts dns=\"1500ms\"\n{checks} }}",
        dns.addr()
    ))
    .await;
    let told: Vec<_> = found.iter().map(|one| (one.check.name.as_str(), failure(one))).collect();
    assert_eq!(told, expected, "{:#?}", found.iter().map(|one| &one.error).collect::<Vec<_>>());
    for one in &found {
        let phases: u64 = one.timings.phases().into_iter().flatten().sum();
        assert_eq!(phases, one.timings.total_us, "{}", one.check.name);
        assert!(one.timings.dns_us.is_some());
    }
    let tried = &found[2].details.as_ref().unwrap().addresses;
    assert_eq!((tried.len(), tried[0].outcome), (1, Outcome::Down));
    assert!(tried[0].address.starts_with("127.0.0.9:"), "{tried:?}");

    let found = once(&format!(
        r#"http "sites" {{
            resolver "{}"
            check "a" "http://good.test:{port}/" {{ network family="6" }}
            check "b" "http://six.test:1/" {{ network family="6" }}
            check "c" "http://anything.test:{port}/" {{ resolve "anything.test" "127.0.0.1" }}
            check "d" "http://127.0.0.1:{port}/" {{ network family="6" }}
        }}"#,
        dns.addr()
    ))
    .await;
    assert_eq!(failure(&found[0]), ("dns_no_address", "dns"));
    assert_eq!(found[1].remote_addr.as_deref(), Some("[::1]:1"));
    assert_eq!((found[2].outcome, found[2].timings.dns_us), (Outcome::Up, None));
    assert_eq!(failure(&found[3]).0, "dns_no_address");
    assert_eq!(
        site.hits_of("/").last().unwrap().header("host"),
        Some(format!("anything.test:{port}").as_str())
    );
}

/// The address that was judged is the one that is dialled, whatever the name says the next time.
#[tokio::test]
async fn a_name_that_changes_its_mind_leads_nowhere_else() {
    let (site, dns) = (home(), DnsServer::start().unwrap());
    let port = site.addr().port();
    dns.set_in_turn(
        "rebind.test",
        vec![
            DnsAnswer::Addresses(vec!["93.184.216.34".parse().unwrap()]),
            DnsAnswer::Addresses(vec!["127.0.0.1".parse().unwrap()]),
        ],
    );
    let found = once(&format!(
        r#"http "sites" timeout="400ms" {{
            resolver "{}"
            network family="4" private=#false
            check "rebind" "http://rebind.test:{port}/"
        }}"#,
        dns.addr()
    ))
    .await;
    assert!(site.hits().is_empty());
    assert_eq!(found[0].remote_addr.as_deref(), Some(format!("93.184.216.34:{port}").as_str()));
    assert_eq!(dns.asked(), ["rebind.test A"]);
}

#[tokio::test]
async fn every_address_is_checked_where_the_file_says_so() {
    let (site, dns) = (home(), DnsServer::start().unwrap());
    let port = site.addr().port();
    let both = ["127.0.0.1", "127.0.0.7"].map(|ip| ip.parse().unwrap()).to_vec();
    dns.set("both.test", DnsAnswer::Addresses(both));
    dns.set("one.test", DnsAnswer::Addresses(vec!["127.0.0.1".parse().unwrap()]));
    let found = once(&format!(
        r#"http "sites" {{
            resolver "{}"
            network family="each"
            check "both" "http://both.test:{port}/"
            check "one" "http://one.test:{port}/"
        }}"#,
        dns.addr()
    ))
    .await;
    assert_eq!(failure(&found[0]), ("connect_refused", "connect"));
    let addresses = &found[0].details.as_ref().unwrap().addresses;
    let told: Vec<_> =
        addresses.iter().map(|tried| (tried.address.as_str(), tried.outcome, tried.status)).collect();
    let (first, second) = (format!("127.0.0.1:{port}"), format!("127.0.0.7:{port}"));
    assert_eq!(told, [(first.as_str(), Outcome::Up, Some(200)), (second.as_str(), Outcome::Down, None)]);
    assert_eq!((found[1].outcome, found[1].details.as_ref().unwrap().addresses.len()), (Outcome::Up, 1));
    assert!(found[1].timings.dns_us.is_some());
}

#[tokio::test]
async fn phases_have_bounds_of_their_own() {
    let site = site(&[
        ("/late", Answer::html("late", 100).delay_head(Duration::from_secs(60))),
        ("/stalls", Answer::html("stalls", 1000).delay_body(Duration::from_secs(60))),
        ("/stalls-gzip", Answer::html("stalls", 100_000).gzip().delay_body(Duration::from_secs(60))),
    ]);
    let mute = Dialogue::script(vec![Line::Hang], None).unwrap();
    let found = once(&format!(
        r#"http "sites" timeout="50s" {{
            timeouts dns="5s" connect="5s" tls="200ms" wait="200ms" idle="200ms"
            check "a" "{}"
            check "b" "{}"
            check "c" "{}"
            check "d" "https://{}/"
        }}"#,
        site.url("/late"),
        site.url("/stalls"),
        site.url("/stalls-gzip"),
        mute.addr(),
    ))
    .await;
    let told: Vec<_> = found.iter().map(failure).collect();
    assert_eq!(
        told,
        [("timeout", "wait"), ("timeout", "transfer"), ("timeout", "transfer"), ("timeout", "tls")]
    );
    assert!(found[0].error.as_ref().unwrap().message.contains("`wait` took longer than 200ms"));
    assert!(found[1].body_bytes > Some(0));
}

#[tokio::test]
async fn the_way_may_lead_through_a_proxy() {
    let tls = Tls::new("an authority").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = tls.write(folder.path(), "monmon").unwrap();
    let (plain, secure) = (home(), Site::start_tls(&tls).unwrap());
    secure.set("/", Answer::html("home", 100));
    let (http, socks) =
        (ForwardProxy::http(Some(("u", "p w"))).unwrap(), ForwardProxy::socks(Some(("u", "p w"))).unwrap());
    let at = |scheme: &str, proxy: &ForwardProxy| format!("{scheme}://u:p%20w@{}", proxy.addr());
    let ca = files.ca.display();
    let named = plain.url("/").replace("127.0.0.1", "localhost");
    let checks = [("http", &http), ("socks5", &socks), ("socks5h", &socks)]
        .map(|(scheme, proxy)| {
            let proxy = at(scheme, proxy);
            format!(
                "check \"{scheme} plain\" \"{named}\" {{ proxy \"{proxy}\" }}\n\
                 check \"{scheme} tls\" \"{}\" {{ proxy \"{proxy}\"; tls ca=\"{ca}\" }}\n",
                secure.url("/")
            )
        })
        .concat();
    let found = checked(&checks).await;
    for one in &found {
        assert_eq!(one.outcome, Outcome::Up, "{}: {:?}", one.check.name, one.error);
        let proxy = one.details.as_ref().unwrap().proxy.clone().unwrap();
        assert!(proxy.contains("127.0.0.1:") && !proxy.contains('@'), "{proxy}");
    }
    let (port, tls_port) = (plain.addr().port(), secure.addr().port());
    let mut asked = http.asked();
    asked.sort();
    assert_eq!(asked, [format!("CONNECT 127.0.0.1:{tls_port}"), format!("GET http://localhost:{port}/")]);
    let asked = socks.asked();
    assert!(asked.contains(&format!("name localhost:{port}")), "{asked:?}");
    assert!(asked.iter().any(|one| one.starts_with("address 127.0.0.1:") || one.starts_with("address ::1:")));
    assert!(plain.hits().iter().all(|hit| hit.header("proxy-authorization").is_none()));
}

/// What the proxy does is the prober's trouble; what it says of the site is the site's.
#[tokio::test]
async fn a_proxys_trouble_is_not_the_sites() {
    let site = home();
    let url = site.url("/").replace("http://", "https://");
    let (http, socks) = (ForwardProxy::http(None).unwrap(), ForwardProxy::socks(None).unwrap());
    let asks = |scheme: &str, proxy: &ForwardProxy| {
        format!(
            "check \"x\" \"{url}\" timeout=\"600ms\" {{ proxy \"{scheme}://{}\"; timeouts connect=\"300ms\" }}",
            proxy.addr()
        )
    };
    for (mode, kind, outcome) in [
        (ForwardMode::Refuse(403), "proxy_failed", Outcome::Unknown),
        (ForwardMode::Refuse(502), "connect_unreachable", Outcome::Down),
        (ForwardMode::Refuse(504), "connect_timeout", Outcome::Down),
        (ForwardMode::Hang, "connect_timeout", Outcome::Down),
        (ForwardMode::Close, "proxy_failed", Outcome::Unknown),
        (ForwardMode::Garbage, "proxy_failed", Outcome::Unknown),
    ] {
        http.set_mode(mode.clone());
        let found = checked(&asks("http", &http)).await;
        assert_eq!((failure(&found[0]), found[0].outcome), ((kind, "connect"), outcome), "{mode:?}");
    }
    for (mode, kind, outcome) in [
        (ForwardMode::Refuse(2), "proxy_failed", Outcome::Unknown),
        (ForwardMode::Refuse(4), "connect_unreachable", Outcome::Down),
        (ForwardMode::Refuse(5), "connect_refused", Outcome::Down),
        (ForwardMode::Close, "proxy_failed", Outcome::Unknown),
        (ForwardMode::Garbage, "proxy_failed", Outcome::Unknown),
    ] {
        socks.set_mode(mode.clone());
        let found = checked(&asks("socks5", &socks)).await;
        assert_eq!((failure(&found[0]), found[0].outcome), ((kind, "connect"), outcome), "{mode:?}");
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = checked(&format!("check \"x\" \"{url}\" {{ proxy \"http://{gone}\" }}")).await;
    assert_eq!((failure(&found[0]), found[0].outcome), (("proxy_failed", "connect"), Outcome::Unknown));
    let closed = ForwardProxy::http(Some(("u", "p"))).unwrap();
    let found = checked(&asks("http", &closed)).await;
    assert!(found[0].error.as_ref().unwrap().message.contains("407"), "{:?}", found[0].error);
}

#[tokio::test]
async fn certificates_of_both_sides() {
    let tls = Tls::new("an authority").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = tls.write(folder.path(), "monmon").unwrap();
    let (below, between) = tls.intermediate("one below").unwrap();
    let mut identity =
        below.server(&["elsewhere.test".to_owned()], monmon_testkit::Validity::Always).unwrap();
    identity.chain.push(between);
    let demanding = tls.loopback_server().unwrap().client_demanding_config(&tls).unwrap();
    let with = |config| Site::with(SiteOptions { tls: Some(config), ..SiteOptions::default() }).unwrap();
    let (demanding, elsewhere) = (with(demanding), with(identity.server_config().unwrap()));
    for site in [&demanding, &elsewhere] {
        site.set("/", Answer::html("home", 100));
    }
    let (ca, cert, key) =
        (files.ca.display(), files.client_certificate.display(), files.client_key.display());
    let found = once(&format!(
        r#"http "sites" {{
            tls ca="{ca}"
            check "a" "{0}"
            check "b" "{0}" {{ tls cert="{cert}" key="{key}" }}
            check "c" "{1}"
            check "d" "{1}" {{ tls server-name="elsewhere.test" }}
            check "e" "{1}" {{ tls server-name="elsewhere.test"; expect certificate="3650d" }}
            check "f" "{0}" {{ tls cert="{cert}" key="{key}"; expect certificate="1d" }}
        }}"#,
        demanding.url("/"),
        elsewhere.url("/"),
    ))
    .await;
    assert_eq!(failure(&found[0]).0, "tls_client_certificate", "{:?}", found[0].error);
    assert_eq!(found[1].outcome, Outcome::Up, "{:?}", found[1].error);
    assert_eq!(failure(&found[2]), ("tls_wrong_name", "tls"));
    assert_eq!(found[3].outcome, Outcome::Up, "{:?}", found[3].error);
    for one in &found[2..4] {
        let record = one.tls.as_ref().unwrap();
        assert_eq!(record.chain.len(), 1, "the whole chain is on record, refused or not");
        assert_eq!(record.chain[0].subject, "CN=one below");
        assert!(record.certificate.as_ref().unwrap().sha256.as_ref().is_some_and(|hash| hash.len() == 64));
    }
    // Far in the future, so never too soon; what is asked for has a bound in the language.
    assert_eq!((found[4].outcome, found[5].outcome), (Outcome::Up, Outcome::Up));
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_degraded() {
    let tls = Tls::new("an authority").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let files = tls.write(folder.path(), "monmon").unwrap();
    let soon = tls.server(&["127.0.0.1".to_owned()], monmon_testkit::Validity::Days(3)).unwrap();
    let options = SiteOptions { tls: Some(soon.server_config().unwrap()), ..SiteOptions::default() };
    let site = Site::with(options).unwrap();
    site.set("/", Answer::html("home", 100));
    let found = once(&format!(
        r#"http "sites" {{
            tls ca="{}"
            check "a" "{1}" {{ expect certificate="14d" }}
            check "b" "{1}" {{ expect certificate="1d" }}
            check "c" "{2}" {{ expect certificate="14d" }}
        }}"#,
        files.ca.display(),
        site.url("/"),
        site.url("/").replace("https://", "tls://"),
    ))
    .await;
    assert_eq!(found[0].outcome, Outcome::Degraded);
    assert_eq!(found[0].reason.as_ref().unwrap().name(), Some("certificate"));
    assert_eq!((found[1].outcome, found[2].outcome), (Outcome::Up, Outcome::Degraded));
}

#[tokio::test]
async fn what_is_kept_of_a_body() {
    let site = site(&[
        ("/down", Answer::text("secret=abc the database is away").with_status(500)),
        ("/up", Answer::html("up", 20_000).gzip()),
        ("/busy", Answer::status(503).header("retry-after", "120")),
    ]);
    let found = once(&format!(
        r##"http "sites" {{
            evidence max="20B" {{ redact #"secret=\w+"#; }}
            body-hash #true
            check "a" "{}"
            check "b" "{}"
            check "c" "{}"
        }}"##,
        site.url("/down"),
        site.url("/up"),
        site.url("/busy"),
    ))
    .await;
    let details = found[0].details.as_ref().unwrap();
    assert_eq!(details.evidence.as_deref(), Some("*** the datab"));
    assert_eq!(details.body_sha256.as_ref().unwrap().len(), 64);
    let up = &found[1];
    assert_eq!(up.details.as_ref().unwrap().evidence, None);
    assert!(up.body_wire_bytes.unwrap() < up.body_bytes.unwrap(), "{up:?}");
    assert_eq!(found[2].details.as_ref().unwrap().retry_after_s, Some(120));
}

#[tokio::test]
async fn a_slot_that_is_not_up_is_tried_again() {
    let site = site(&[("/down", Answer::status(503)), ("/", Answer::html("home", 100))]);
    let found = once(&format!(
        r#"http "sites" {{
            retry attempts=3 wait="10ms"
            check "down" "{}"
            check "up" "{}"
        }}"#,
        site.url("/down"),
        site.url("/"),
    ))
    .await;
    let told: Vec<_> = found.iter().map(|one| (one.check.name.as_str(), one.attempt, one.outcome)).collect();
    assert_eq!(
        told,
        [
            ("down", 1, Outcome::Down),
            ("down", 2, Outcome::Down),
            ("down", 3, Outcome::Down),
            ("up", 1, Outcome::Up)
        ]
    );
    let ids: std::collections::BTreeSet<_> = found.iter().map(|one| one.id).collect();
    assert_eq!(ids.len(), 4);
    assert!(found[..3].iter().all(|one| one.scheduled_at == found[0].scheduled_at));
}

#[tokio::test]
async fn a_check_that_is_down_is_looked_at_more_often() {
    let site = site(&[("/", Answer::status(500))]);
    let text = format!(
        r#"http "sites" interval="2s" {{ check "a" "{}" interval-when-down="100ms" }}"#,
        site.url("/")
    );
    let mut running = started(&text, Mode::Continuous, Duration::from_secs(5), 64).await;
    let down = running.take(8).await;
    site.set("/", Answer::html("home", 100));
    running.stop.cancel();
    let (rest, _) = running.end().await;
    assert!(down.len() + rest.len() >= 8);
    let mut slots: Vec<i64> = down.iter().chain(&rest).map(|one| one.scheduled_at.as_microsecond()).collect();
    slots.sort_unstable();
    for pair in slots.windows(2) {
        assert!(pair[1] > pair[0], "no slot twice");
    }
    let offset = slots[0].rem_euclid(100_000);
    assert!(slots.iter().all(|slot| slot.rem_euclid(100_000) == offset), "{slots:?}");
}

/// The stage behind the source, which has the matchers of its checks: says the outcome that `verdict` gives, if any.
async fn judged(
    running: &mut Running,
    at_least: usize,
    verdict: impl Fn(&Measurement) -> Option<Outcome>,
) -> Vec<Measurement> {
    let mut taken = Vec::new();
    while taken.len() < at_least {
        let Some(batch) = running.inlet.recv().await else { break };
        for envelope in batch {
            let Item::Measurement(measured) = envelope.item else { continue };
            if let Some(outcome) = verdict(&measured.measurement) {
                envelope.ack.judge(outcome);
            }
            taken.push(*measured.measurement);
            envelope.ack.deliver();
        }
    }
    taken
}

#[tokio::test]
async fn what_the_matchers_of_a_check_find_is_tried_again() {
    let site = home();
    let text = format!(
        r#"http "sites" {{
            retry attempts=3 wait="10ms"
            check "a" "{0}" {{ match "pitch" "x" }}
            check "b" "{0}" {{ match "pitch" "x" }}
            check "c" "{0}"
            check "d" "{0}" {{ match "pitch" "x" }}
        }}"#,
        site.url("/")
    );
    let mut running = started(&text, Mode::Once, Duration::from_secs(30), 64).await;
    // The second try of `a` is good; `b` never is; `c` has no matchers, and of `d` nothing is ever said.
    let verdict = |one: &Measurement| match one.check.name.as_str() {
        "a" if one.attempt == 2 => Some(Outcome::Up),
        "d" => None,
        _ => Some(Outcome::Down),
    };
    let mut found = judged(&mut running, usize::MAX, verdict).await;
    running.task.await.unwrap().unwrap();
    found.sort_by(|a, b| (&a.check.name, a.attempt).cmp(&(&b.check.name, b.attempt)));
    let told: Vec<_> = found.iter().map(|one| (one.check.name.as_str(), one.attempt)).collect();
    assert_eq!(told, [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3), ("c", 1), ("d", 1)]);
    assert!(found[2..5].iter().all(|one| one.scheduled_at == found[2].scheduled_at));
}

#[tokio::test]
async fn what_the_matchers_of_a_check_find_has_it_looked_at_more_often() {
    let site = home();
    let text = format!(
        r#"http "sites" interval="2s" {{
            check "a" "{}" interval-when-down="100ms" {{ match "pitch" "x" }}
        }}"#,
        site.url("/")
    );
    let mut running = started(&text, Mode::Continuous, Duration::from_secs(5), 64).await;
    let mut slots: Vec<i64> = judged(&mut running, 8, |_| Some(Outcome::Down))
        .await
        .iter()
        .map(|one| one.scheduled_at.as_microsecond())
        .collect();
    running.stop.cancel();
    running.end().await;
    slots.sort_unstable();
    assert!(slots.windows(2).all(|pair| pair[0] < pair[1]), "no slot twice: {slots:?}");
    assert!(slots[7] - slots[0] < 7 * 2_000_000, "more often than every 2 s: {slots:?}");
}

#[tokio::test]
async fn steps_share_cookies_and_pass_values_on() {
    let site = site(&[
        ("/login", Answer::html("<input name=csrf value=a1b2>", 200).header("set-cookie", "sid=7; Path=/")),
        ("/session", Answer::body(&br#"{"token":"t/1","user":{"id":42}}"#[..])),
        ("/users/42", Answer::html("you", 100).header("x-next", "/last")),
        ("/last", Answer::html("last", 100)),
        ("/none", Answer::status(404)),
    ]);
    let found = checked(&format!(
        r##"check "a" "{0}" {{
            step "form" "/login" {{ capture "csrf" regex=#"name=csrf value=(\w+)"#; }}
            step "sign in" "/session?x=${{csrf}}" method="POST" {{
                body "csrf=${{csrf}}"
                capture "token" json="$.token"
                capture "id" json="$.user.id"
            }}
            step "me" "/users/${{id}}" {{ header "authorization" "Bearer ${{token}}"; capture "next" header="x-next"; }}
            step "last" "/last" {{ header "x-came-from" "${{next}}" }}
        }}
        check "b" "{0}" {{
            step "missing" "/none"
            step "never" "/last"
        }}
        check "c" "{0}" {{
            step "nothing" "/last" {{ capture "x" json="$.x" }}
            step "never" "/login"
        }}"##,
        site.url("/"),
    ))
    .await;
    let steps = |at: usize| &found[at].details.as_ref().unwrap().steps;
    assert_eq!(found[0].outcome, Outcome::Up, "{:?} {:?}", found[0].error, found[0].reason);
    let told: Vec<_> =
        steps(0).iter().map(|step| (step.name.as_str(), step.status, step.method.as_str())).collect();
    assert_eq!(
        told,
        [
            ("form", Some(200), "GET"),
            ("sign in", Some(200), "POST"),
            ("me", Some(200), "GET"),
            ("last", Some(200), "GET")
        ]
    );
    let sum: u64 = steps(0).iter().map(|step| step.timings.total_us).sum();
    assert_eq!(sum, found[0].timings.total_us);
    assert_eq!(site.hits_of("/session")[0].query.as_deref(), Some("x=a1b2"));
    assert_eq!(site.hits_of("/session")[0].header("cookie"), Some("sid=7"));
    assert_eq!(site.hits_of("/users/42")[0].header("authorization"), Some("Bearer t/1"));
    assert!(site.hits_of("/last").iter().any(|hit| hit.header("x-came-from") == Some("/last")));

    assert_eq!((found[1].outcome, steps(1).len()), (Outcome::Down, 1));
    assert_eq!(found[1].reason.as_ref().unwrap().name(), Some("step missing"));
    assert_eq!(failure(&found[2]), ("capture_failed", "transfer"));
    assert_eq!((steps(2).len(), steps(2)[0].outcome), (1, Outcome::Down));
}

#[tokio::test]
async fn who_is_offline_blames_nobody() {
    let alive = home();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let with = |reference: &str| {
        format!(
            r#"http "sites" {{
                reference "{reference}"
                check "gone" "http://{gone}/"
                check "here" "{}"
            }}"#,
            alive.url("/")
        )
    };
    let found = once(&with(&format!("tcp://{}", alive.addr()))).await;
    assert_eq!((failure(&found[0]), found[0].outcome), (("connect_refused", "connect"), Outcome::Down));
    let found = once(&with(&format!("tcp://{gone}"))).await;
    assert_eq!((failure(&found[0]), found[0].outcome), (("prober_offline", "connect"), Outcome::Unknown));
    assert_eq!(found[1].outcome, Outcome::Up, "what can be reached is reached");
}

#[tokio::test]
async fn maintenance_is_marked_and_schedules_may_be_crontab_lines() {
    let site = home();
    let found = once(&format!(
        r#"http "sites" {{
            maintenance "always" schedule="* * * * *" duration="2m"
            check "a" "{0}" schedule="*/5 8-18 * * MON-FRI" timezone="Europe/Berlin"
            check "b" "{0}" {{ maintenance "never" schedule="0 0 1 1 *" duration="1s" }}
        }}"#,
        site.url("/")
    ))
    .await;
    assert_eq!(found[0].details.as_ref().unwrap().maintenance.as_deref(), Some("always"));
    assert_eq!(found[0].check.schedule.as_deref(), Some("*/5 8-18 * * MON-FRI Europe/Berlin"));
    assert!(found[0].check.interval_us > 300_000_000);
    assert!(found[1].details.is_none());
}

#[tokio::test]
async fn a_host_is_asked_by_so_many_checks_at_once() {
    let site = site(&[("/", Answer::html("home", 100).delay_head(Duration::from_millis(60)))]);
    let checks: String = (0..6).map(|at| format!("check \"c{at}\" \"{}\"\n", site.url("/"))).collect();
    let found = once(&format!("http \"sites\" per-host=1 {{ {checks} }}")).await;
    assert!(found.iter().all(|one| one.outcome == Outcome::Up) && found.len() == 6);
    let mut spans: Vec<_> = found
        .iter()
        .map(|one| {
            let start = one.started_at.unwrap().as_microsecond();
            (start, start + one.timings.total_us as i64)
        })
        .collect();
    spans.sort_unstable();
    // One after another, but for what the clocks of both ends differ by.
    assert!(spans.windows(2).all(|pair| pair[1].0 + 2_000 >= pair[0].1), "{spans:?}");
}

#[test]
fn what_is_wrong_is_told_in_one_go() {
    let text = r##"http "sites" {
        network from="no/interface"
        resolver "example.org"
        proxy "ftp://proxy.test"
        maintenance "m" schedule="61 * * * *" duration="1h"
        maintenance "n" schedule="0 * * * *" duration="1h" timezone="Mars/Base"
        check "a" "tcp://a.test:1" method="POST" { step "s" "/"; expect status="200" }
        check "b" "https://b.test/" interval="1m" schedule="* * * * *" { send "x"; answer "1" }
        check "c" "https://c.test/" timezone="UTC" { auth "basic" user="x" token="y" }
        check "d" "https://d.test/" { tls cert="c.pem"; resolve "x" "y" }
        check "e" "https://e.test/" {
            step "one" "/${gone}"
            step "one" "/" { capture "x" regex="(" ; capture "y" ; capture "z" json="$[" }
        }
        check "f" "ping://f.test" { match "m" "x" }
        check "g" "https://g.test/" { evidence { redact "(" } }
    }"##;
    insta::assert_snapshot!(told(text, &MemoryLoader::new()));
}
