//! The prober against servers that the world really runs: nginx, Apache, tinyproxy, microsocks, dnsmasq, unbound.

mod support;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use monmon_model::{Measurement, Outcome, wire};
use monmon_testkit::{Answer, CertFiles, Site, Tls};
use support::{Place, eventually};

/// A server of somebody else's, ended with the test.
struct Part(Child);

impl Part {
    /// Starts a program, and waits until it takes connections at all of these.
    fn start(place: &Place, program: &str, arguments: &[&str], ready: &[SocketAddr]) -> Part {
        // Debian keeps servers outside of a plain user's PATH.
        let path = ["/usr/sbin", "/usr/bin"].iter().map(|folder| Path::new(folder).join(program));
        let path = path.into_iter().find(|path| path.exists());
        let path =
            path.unwrap_or_else(|| panic!("{program} is not there: run `cargo xtask doctor --install`"));
        let log = std::fs::File::create(place.path(&format!("{program}.log"))).expect("a log");
        let child = Command::new(path)
            .args(arguments)
            .current_dir(place.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let part = Part(child);
        for address in ready {
            eventually(&format!("{program} at {address}"), || TcpStream::connect(address).is_ok());
        }
        part
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // nginx and Apache have children, which end with their parent's orderly end only.
        let pid = self.0.id().to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status());
        drop(self.0.wait());
    }
}

/// Ports that nobody has now.
fn free_ports<const N: usize>() -> [u16; N] {
    let held: [(TcpListener, UdpSocket); N] = std::array::from_fn(|_| {
        (0..64)
            .find_map(|_| {
                let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
                let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
                Some((tcp, udp))
            })
            .expect("a free port")
    });
    held.map(|(tcp, _)| tcp.local_addr().expect("bound").port())
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Root's servers would else become users who may not read the test's folder.
fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| {
            line.strip_prefix("Uid:").is_some_and(|ids| ids.split_whitespace().next() == Some("0"))
        })
    })
}

fn certificates(place: &Place) -> CertFiles {
    Tls::new("an authority").expect("an authority").write(place.folder.path(), "monmon").expect("files")
}

/// Everything once; measurements by the names of their checks.
fn checked(place: &Place, checks: &str) -> Vec<Measurement> {
    let file = place.write(
        "parts.kdl",
        &format!("pipeline \"parts\"\nsources {{ http \"sites\" {{\n{checks}\n}} }}\nsinks {{ stdout \"out\" from=\"sites\" }}\n"),
    );
    let output = place.output(&["run", "--once", "--log-level", "warn", file.to_str().expect("a path")]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut found: Vec<Measurement> = text
        .lines()
        .map(|line| wire::decode(line.as_bytes()).unwrap_or_else(|error| panic!("{error}: {line} {log}")))
        .collect();
    found.sort_by(|a, b| a.check.name.cmp(&b.check.name));
    assert!(!found.is_empty(), "{log}");
    found
}

fn kind(one: &Measurement) -> &str {
    one.error.as_ref().map_or(one.outcome.as_str(), |error| error.kind.as_str())
}

fn tls_version(one: &Measurement) -> Option<&str> {
    one.tls.as_ref()?.version.as_deref()
}

#[test]
fn nginx_in_all_its_protocols() {
    let place = Place::new();
    let files = certificates(&place);
    let [plain, tls12, tls13, demanding] = free_ports();
    place.write("index.html", &format!("<title>nginx</title>{}", "<p>text</p>".repeat(500)));
    let show = |path: &PathBuf| path.display().to_string();
    let (cert, key, ca) = (show(&files.server_certificate), show(&files.server_key), show(&files.ca));
    let root = place.folder.path().display();
    let user = if is_root() { "user root;" } else { "" };
    let config = place.write(
        "nginx.conf",
        &format!(
            "{user} daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; types {{ text/html html; }} gzip on; gzip_min_length 100;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  ssl_certificate {cert}; ssl_certificate_key {key};
  server {{ listen 127.0.0.1:{plain}; root {root}; location /moved {{ return 301 /index.html; }} location /busy {{ return 503; }} }}
  server {{ listen 127.0.0.1:{tls12} ssl http2; ssl_protocols TLSv1.2; root {root}; }}
  server {{ listen 127.0.0.1:{tls13} ssl http2; ssl_protocols TLSv1.3; root {root}; }}
  server {{ listen 127.0.0.1:{demanding} ssl; ssl_client_certificate {ca}; ssl_verify_client on; root {root}; }}
}}
"
        ),
    );
    let _nginx =
        Part::start(&place, "nginx", &["-c", &show(&config)], &[plain, tls12, tls13, demanding].map(at));
    let (client, client_key) = (show(&files.client_certificate), show(&files.client_key));
    let page = r#"{ match "title" "<title>nginx</title>" }"#;
    let found = checked(
        &place,
        &format!(
            r#"tls ca="{ca}"
check "a plain" "http://127.0.0.1:{plain}/" {page}
check "b moved" "http://127.0.0.1:{plain}/moved" {page}
check "c busy" "http://127.0.0.1:{plain}/busy"
check "d tls12 h2" "https://127.0.0.1:{tls12}/" {page}
check "e tls12 h1" "https://127.0.0.1:{tls12}/" http="1.1" {page}
check "f tls13 h2" "https://localhost:{tls13}/" http="2" {page}
check "g no certificate" "https://127.0.0.1:{demanding}/"
check "h certificate" "https://127.0.0.1:{demanding}/" {{ tls cert="{client}" key="{client_key}" }}
check "i handshake" "tls://127.0.0.1:{tls13}"
check "j plain to tls" "http://127.0.0.1:{tls13}/"
check "k tls to plain" "https://127.0.0.1:{plain}/"
check "l h2 where there is none" "https://127.0.0.1:{demanding}/" http="2" {{ tls cert="{client}" key="{client_key}" }}"#
        ),
    );
    let told: Vec<_> = found
        .iter()
        .map(|one| (kind(one), one.status, one.http_version.as_deref(), tls_version(one)))
        .collect();
    assert_eq!(told[0], ("up", Some(200), Some("1.1"), None));
    assert_eq!((told[1].0, found[1].redirects[0].status), ("up", 301));
    assert_eq!((told[2].0, told[2].1), ("down", Some(503)));
    assert_eq!(told[3], ("up", Some(200), Some("2"), Some("TLSv1.2")));
    assert_eq!(told[4], ("up", Some(200), Some("1.1"), Some("TLSv1.2")));
    assert_eq!(told[5], ("up", Some(200), Some("2"), Some("TLSv1.3")));
    // nginx says it in HTTP.
    assert_eq!((told[6].0, told[6].1), ("down", Some(400)));
    assert_eq!((told[7].0, told[8].0), ("up", "up"));
    assert_eq!((told[9].0, told[9].1), ("down", Some(400)));
    assert_eq!(told[10].0, "tls_protocol");
    assert!(["h2_protocol", "tls_handshake_failure"].contains(&told[11].0), "{:?}", found[11].error);
    for one in &found {
        let sum: u64 = one.timings.phases().into_iter().flatten().sum();
        assert_eq!(sum, one.timings.total_us, "{}", one.check.name);
    }
    assert!(found[0].body_wire_bytes < found[0].body_bytes, "gzip: {:?}", found[0].body_wire_bytes);
}

#[test]
fn apache_with_digest_and_http2() {
    let place = Place::new();
    let files = certificates(&place);
    let [plain, secure] = free_ports();
    place.write("index.html", "<title>apache</title>");
    let hash = Command::new("bash")
        .args(["-c", "printf 'monitor:r:s3cret' | md5sum | cut -d' ' -f1"])
        .output()
        .expect("md5sum runs");
    let hash = String::from_utf8(hash.stdout).expect("digits");
    place.write("users", &format!("monitor:r:{}\n", hash.trim()));
    let root = place.folder.path().display();
    let modules = [
        "mpm_event",
        "authz_core",
        "authn_core",
        "authn_file",
        "auth_digest",
        "authz_user",
        "dir",
        "http2",
        "ssl",
        "mime",
    ];
    let modules: String = modules
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    place.write("mime.types", "text/html html\n");
    let user = if is_root() { "User root\nGroup root\n" } else { "" };
    let (cert, key) = (files.server_certificate.display(), files.server_key.display());
    let config = place.write(
        "apache.conf",
        &format!(
            "ServerRoot {root}\nServerName localhost\nPidFile {root}/apache.pid\nErrorLog {root}/apache-error.log\nMutex file:{root}
{modules}{user}Listen 127.0.0.1:{plain}\nListen 127.0.0.1:{secure}\nTypesConfig {root}/mime.types
DocumentRoot {root}\nDirectoryIndex index.html\nProtocols h2c http/1.1
<Directory {root}>\nRequire all granted\n</Directory>
<Location /secret>\nAuthType Digest\nAuthName r\nAuthDigestProvider file\nAuthUserFile {root}/users\nRequire valid-user\n</Location>
<VirtualHost 127.0.0.1:{secure}>\nProtocols h2 http/1.1\nSSLEngine on\nSSLCertificateFile {cert}\nSSLCertificateKeyFile {key}\n</VirtualHost>
"
        ),
    );
    std::fs::create_dir(place.path("secret")).expect("a folder");
    place.write("secret/index.html", "secret");
    if is_root() {
        // Apache refuses root as the user of its children unless it was built for that; the folder is opened to all.
        let text =
            std::fs::read_to_string(&config).expect("written").replace(user, "User nobody\nGroup nogroup\n");
        std::fs::write(&config, text).expect("written");
        let open =
            Command::new("chmod").args(["-R", "a+rX", &root.to_string()]).status().expect("chmod runs");
        assert!(open.success());
    }
    let conf = config.display().to_string();
    let _apache =
        Part::start(&place, "apache2", &["-D", "FOREGROUND", "-f", &conf], &[plain, secure].map(at));
    let ca = files.ca.display();
    let found = checked(
        &place,
        &format!(
            r#"tls ca="{ca}"
check "a" "http://127.0.0.1:{plain}/"
check "b h2c" "http://127.0.0.1:{plain}/" http="2"
check "c h2" "https://127.0.0.1:{secure}/"
check "d digest" "http://127.0.0.1:{plain}/secret/" {{ auth "digest" user="monitor" password="s3cret" }}
check "e wrong" "http://127.0.0.1:{plain}/secret/" {{ auth "digest" user="monitor" password="other" }}
check "f none" "http://127.0.0.1:{plain}/secret/""#
        ),
    );
    let told: Vec<_> = found.iter().map(|one| (kind(one), one.status, one.http_version.as_deref())).collect();
    assert_eq!(
        told[..3],
        [("up", Some(200), Some("1.1")), ("up", Some(200), Some("2")), ("up", Some(200), Some("2"))]
    );
    assert_eq!((told[3].0, found[3].redirects[0].status), ("up", 401));
    assert_eq!((told[4].1, told[5].1), (Some(401), Some(401)));
}

#[test]
fn proxies_of_the_world() {
    let place = Place::new();
    let files = certificates(&place);
    let tls = Tls::new("an authority").expect("an authority");
    let own = tls.write(&place.path("own"), "monmon").expect("files");
    drop(files);
    let (plain, secure) = (Site::start().expect("a site"), Site::start_tls(&tls).expect("a site"));
    for site in [&plain, &secure] {
        site.set("/", Answer::html("home", 2_000));
    }
    let [http, socks] = free_ports();
    let config = place.write(
        "tinyproxy.conf",
        &format!(
            "Port {http}\nListen 127.0.0.1\nTimeout 20\nMaxClients 50\nBasicAuth u pw\nLogFile \"{}\"\n",
            place.path("tinyproxy.out").display()
        ),
    );
    let config = config.display().to_string();
    let _tinyproxy = Part::start(&place, "tinyproxy", &["-d", "-c", &config], &[at(http)]);
    let port = socks.to_string();
    let arguments = ["-i", "127.0.0.1", "-p", &port, "-u", "u", "-P", "pw"];
    let _microsocks = Part::start(&place, "microsocks", &arguments, &[at(socks)]);
    let ca = own.ca.display();
    let (site, secure_site) = (plain.url("/"), secure.url("/"));
    let gone = free_ports::<1>()[0];
    let proxied =
        |name: &str, url: &str, proxy: &str| format!("check \"{name}\" \"{url}\" {{ proxy \"{proxy}\" }}\n");
    let found = checked(
        &place,
        &[
            format!("tls ca=\"{ca}\"\n"),
            proxied("a", &site, &format!("http://u:pw@127.0.0.1:{http}")),
            proxied("b", &secure_site, &format!("http://u:pw@127.0.0.1:{http}")),
            proxied("c", &site, &format!("socks5://u:pw@127.0.0.1:{socks}")),
            proxied("d", &secure_site, &format!("socks5h://u:pw@127.0.0.1:{socks}")),
            proxied("e", &secure_site, &format!("http://u:no@127.0.0.1:{http}")),
            proxied("f", &secure_site, &format!("socks5://u:no@127.0.0.1:{socks}")),
            proxied("g", &format!("https://127.0.0.1:{gone}/"), &format!("http://u:pw@127.0.0.1:{http}")),
            proxied("h", &format!("tcp://127.0.0.1:{gone}"), &format!("socks5://u:pw@127.0.0.1:{socks}")),
        ]
        .concat(),
    );
    for one in &found[..4] {
        assert_eq!(one.outcome, Outcome::Up, "{}: {:?}", one.check.name, one.error);
    }
    // A refused user is the prober's trouble; a site that is gone is the site's.
    let told: Vec<_> = found[4..].iter().map(|one| (kind(one), one.outcome)).collect();
    assert_eq!(told[..2], [("proxy_failed", Outcome::Unknown), ("proxy_failed", Outcome::Unknown)]);
    for (kind, outcome) in &told[2..] {
        assert!(kind.starts_with("connect_") && *outcome == Outcome::Down, "{told:?}");
    }
}

#[test]
fn name_servers_of_the_world() {
    let place = Place::new();
    let site = Site::start().expect("a site");
    site.set("/", Answer::html("home", 100));
    let port = site.addr().port();
    let [dnsmasq, unbound] = free_ports();
    let listen = dnsmasq.to_string();
    let user = if is_root() { "--user=root" } else { "--keep-in-foreground" };
    let _dnsmasq = Part::start(
        &place,
        "dnsmasq",
        &[
            "--keep-in-foreground",
            user,
            "--port",
            &listen,
            "--listen-address=127.0.0.1",
            "--bind-interfaces",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
            "--conf-file=/dev/null",
            "--local=/test/",
            "--host-record=site.test,127.0.0.1",
            "--mx-host=site.test,mail.test,10",
            "--txt-record=site.test,v=spf1 -all",
            "--cname=www.test,site.test",
        ],
        &[at(dnsmasq)],
    );
    let root = place.folder.path().display();
    let config = place.write(
        "unbound.conf",
        &format!(
            "server:\n  interface: 127.0.0.1\n  port: {unbound}\n  do-daemonize: no\n  chroot: \"\"\n  username: \"\"
  directory: \"{root}\"\n  pidfile: \"{root}/unbound.pid\"\n  use-syslog: no\n  num-threads: 1\n  do-ip6: no
  module-config: \"iterator\"\n  local-zone: \"test.\" static\n  local-data: \"site.test. 0 IN A 127.0.0.1\"
  local-zone: \"refused.test.\" refuse\nremote-control:\n  control-enable: no\n"
        ),
    );
    let config = config.display().to_string();
    let _unbound = Part::start(&place, "unbound", &["-d", "-c", &config], &[at(unbound)]);
    let both: String = [("dnsmasq", dnsmasq), ("unbound", unbound)]
        .map(|(name, server)| {
            format!(
                r#"check "{name} a" "http://site.test:{port}/" {{ resolver "127.0.0.1:{server}" }}
check "{name} b" "http://none.test:{port}/" {{ resolver "127.0.0.1:{server}" }}
check "{name} c" "dns://127.0.0.1:{server}/site.test" {{ answer "127.0.0.1" }}
check "{name} d" "http://site.test:{port}/" {{ resolver "127.0.0.1:{server}"; network family="6" }}
"#
            )
        })
        .concat();
    let found = checked(
        &place,
        &format!(
            r#"{both}
check "mx" "dns://127.0.0.1:{dnsmasq}/site.test?type=MX" {{ answer "10 mail.test." }}
check "txt" "dns://127.0.0.1:{dnsmasq}/site.test?type=TXT" {{ answer "v=spf1 -all" }}
check "www" "http://www.test:{port}/" {{ resolver "127.0.0.1:{dnsmasq}" }}
check "x refused" "dns://127.0.0.1:{unbound}/x.refused.test""#
        ),
    );
    let told: Vec<_> = found.iter().map(|one| (one.check.name.as_str(), kind(one))).collect();
    for name in ["dnsmasq", "unbound"] {
        for (letter, expected) in [("a", "up"), ("b", "dns_not_found"), ("c", "up"), ("d", "dns_no_address")]
        {
            let name = format!("{name} {letter}");
            assert!(told.contains(&(name.as_str(), expected)), "{name} {expected}: {told:?}");
        }
    }
    for expected in [("mx", "up"), ("txt", "up"), ("www", "up"), ("x refused", "dns_failed")] {
        assert!(told.contains(&expected), "{expected:?}: {told:?}");
    }
}
