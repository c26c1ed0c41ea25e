//! The prober against everything that the hostile site can do.

use std::sync::Arc;

use jiff::Timestamp;
use monmon_model::{Check, Outcome, Phase, Prober as ProberRecord};
use monmon_stage::PageBudget;
use monmon_syntax::parse_ranges;
use monmon_testkit::{Answer, Behaviour, Expected, HOSTILE_PAGE_TITLE, HostileSite, Site, Tls as TestTls};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::*;

const LIMITS: Limits = Limits { body_wire_bytes_max: 2 << 20, body_bytes_max: 8 << 20 };

pub(super) fn prober(ca_pem: &str, pages: Option<PageBudget>) -> TestProber {
    let mut roots = RootCertStore::empty();
    let named: Vec<_> = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).map(Result::unwrap).collect();
    for certificate in &named {
        roots.add(certificate.clone()).unwrap();
    }
    let tls = TlsSetup::new(roots, named, None).unwrap();
    TestProber { prober: Prober { limits: LIMITS, pages, own_pages: PageBudget::new(1 << 20) }, tls }
}

/// A prober with whom it trusts, which its checks have in their manner.
pub(super) struct TestProber {
    pub(super) prober: Prober,
    tls: TlsSetup,
}

impl TestProber {
    pub(super) async fn probe(&self, target: &Target) -> Probed {
        self.prober.probe(target).await
    }

    pub(super) fn manner(&self) -> Manner {
        Manner {
            resolver: Resolver::System,
            family: Family::Any,
            overrides: Vec::new(),
            reach: Reach::AsGiven,
            from: From::Anywhere,
            proxy: None,
            tls: self.tls.clone(),
            server_name: None,
            version: HttpVersion::Negotiated,
            timeouts: Timeouts::default(),
            redirects: Redirects::default(),
            cookies: true,
            auth: None,
            user_agent: http::HeaderValue::from_static(USER_AGENT),
            evidence: None,
            body_hash: false,
        }
    }

    pub(super) fn target(&self, url: &str, headers: Vec<Header>, timeout: Duration) -> Target {
        let url: Url = url.parse().unwrap();
        let headers = basic_auth(&url).into_iter().chain(headers).collect();
        let manner = self.manner();
        let wanted = Wanted { headers, body: Bytes::new(), user_agent: manner.user_agent.clone() };
        let wanted = Arc::new(wanted);
        let first = Prepared::new(&url, Method::GET, &wanted, true).unwrap();
        let statuses = parse_ranges("200-299").unwrap();
        Target {
            what: What::Http(Box::new(Chain { first, steps: Box::default() })),
            manner: Arc::new(manner),
            expect: Expect { statuses, ..Expect::default() },
            timeout,
        }
    }
}

fn blank(url: &str) -> Measurement {
    let check = Check {
        id: Uuid::nil(),
        name: "hostile".to_owned(),
        pipeline: "tests".to_owned(),
        source: "sites".to_owned(),
        method: "GET".to_owned(),
        url: shown(&url.parse().unwrap()),
        schedule: None,
        interval_us: 1_000_000,
        timeout_us: 1_000_000,
        labels: Default::default(),
    };
    let record = ProberRecord { id: Uuid::nil(), name: "here".to_owned(), location: None, boot: Uuid::nil() };
    let none = Failure::new(FailureKind::Internal, Phase::Start, "");
    let mut measurement = Measurement::not_made(
        Uuid::nil(),
        1,
        1,
        Arc::new(check),
        Arc::new(record),
        Timestamp::UNIX_EPOCH,
        none,
    );
    measurement.outcome = Outcome::Up;
    measurement.error = None;
    measurement.reason = None;
    measurement
}

pub(super) async fn measure(prober: &TestProber, target: &Target, url: &str) -> (Measurement, Option<Page>) {
    let mut measurement = blank(url);
    let page = prober.probe(target).await.write(target, &mut measurement);
    (measurement, page)
}

fn wrong(behaviour: Behaviour, measurement: &Measurement, page: Option<&Page>) -> Option<String> {
    let said = measurement.error.as_ref().map(|failure| (failure.kind.as_str(), failure.phase.as_str()));
    let expected = behaviour.expected();
    let right = match expected {
        Expected::Up => {
            let titled =
                page.is_some_and(|page| String::from_utf8_lossy(&page.body).contains(HOSTILE_PAGE_TITLE));
            measurement.outcome == Outcome::Up && said.is_none() && (titled || page.is_some())
        }
        Expected::Status(status) => measurement.status == Some(status) && said.is_none(),
        Expected::Truncated => {
            said.is_none() && measurement.body_truncated && page.is_some_and(|page| page.truncated)
        }
        Expected::Undecodable => said.is_none() && page.is_none() && measurement.outcome == Outcome::Up,
        Expected::Down { kind, phase } => {
            said == Some((kind, phase)) && measurement.outcome == Outcome::Down && page.is_none()
        }
    };
    let timings = measurement.timings;
    let sum: u64 = timings.phases().into_iter().flatten().sum();
    if sum != timings.total_us {
        return Some(format!("{}: phases {timings:?} do not add up", behaviour.name()));
    }
    if measurement.body_bytes.is_some_and(|bytes| bytes > LIMITS.body_bytes_max) {
        return Some(format!("{}: {:?} bytes", behaviour.name(), measurement.body_bytes));
    }
    (!right).then(|| {
        format!(
            "{}: expected {expected:?}, got {:?} {:?} status {:?} truncated {} page {:?}",
            behaviour.name(),
            measurement.outcome,
            measurement.error,
            measurement.status,
            measurement.body_truncated,
            page.map(|page| page.body.len()),
        )
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_behaviour_has_its_kind_and_phase() {
    let site = HostileSite::start().unwrap();
    let prober = Arc::new(prober(site.ca_pem(), Some(PageBudget::new(256 << 20))));
    let mut probes = JoinSet::new();
    for behaviour in Behaviour::ALL {
        let url = site.url(*behaviour).unwrap();
        let prober = Arc::clone(&prober);
        probes.spawn(async move {
            let target = prober.target(&url, Vec::new(), Duration::from_secs(6));
            let (measurement, page) = measure(&prober, &target, &url).await;
            wrong(*behaviour, &measurement, page.as_ref())
        });
    }
    let mut faults: Vec<String> = probes.join_all().await.into_iter().flatten().collect();
    faults.sort();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for behaviour in Behaviour::ALL {
        let by_kernel = matches!(behaviour, Behaviour::ConnectRefused | Behaviour::ConnectBlackhole);
        assert!(by_kernel || site.connections(*behaviour) > 0, "{} was not met", behaviour.name());
    }
}

#[tokio::test]
async fn a_checks_headers_never_reach_another_origin() {
    let (first, other) = (Site::start().unwrap(), Site::start().unwrap());
    first.set("/", Answer::redirect("/same"));
    first.set("/same", Answer::redirect(&other.url("/away")));
    other.set("/away", Answer::redirect(&first.url("/back")));
    first.set("/back", Answer::redirect("/last"));
    first.set("/last", Answer::html("last", 100));
    let url = first.url("/").replace("http://", "http://user:hunter2@");
    // A name that no list of credentials has, written in place or come late: the probe cannot tell them apart.
    let header = |name: &'static str, value: &'static str| Header {
        name: http::HeaderName::from_static(name),
        value: http::HeaderValue::from_static(value),
    };
    let own = vec![header("x-site-key", "k"), header("accept", "text/html"), header("user-agent", "ours")];
    let prober = prober("", None);
    let target = prober.target(&url, own, Duration::from_secs(10));
    let (measurement, _) = measure(&prober, &target, &url).await;
    assert_eq!(measurement.outcome, Outcome::Up, "{measurement:?}");
    assert_eq!(measurement.redirects.len(), 4);
    for path in ["/", "/same"] {
        let hit = &first.hits_of(path)[0];
        let own = ["x-site-key", "accept", "user-agent"].map(|name| hit.header(name));
        assert_eq!(own, [Some("k"), Some("text/html"), Some("ours")], "{path}");
        assert!(hit.header("authorization").is_some(), "{path}");
    }
    for hits in [other.hits_of("/away"), first.hits_of("/back"), first.hits_of("/last")] {
        assert_eq!((hits[0].header("x-site-key"), hits[0].header("authorization")), (None, None));
        assert_eq!(hits[0].header("accept"), Some("*/*"));
        assert!(hits[0].header("user-agent").is_some_and(|agent| agent.starts_with("monmon/")));
    }
    let hops: u64 = measurement.redirects.iter().map(|hop| hop.timings.total_us).sum();
    assert!(hops <= measurement.timings.total_us);
    let shown = format!("{measurement:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_redirect_that_is_expected_is_not_followed() {
    let site = Site::start().unwrap();
    site.set("/", Answer::redirect("/next"));
    let url = site.url("/");
    let prober = prober("", None);
    let mut target = prober.target(&url, Vec::new(), Duration::from_secs(10));
    target.expect.statuses = parse_ranges("302").unwrap();
    let (measurement, _) = measure(&prober, &target, &url).await;
    assert_eq!((measurement.outcome, measurement.status), (Outcome::Up, Some(302)));
    assert!(site.hits_of("/next").is_empty());
}

#[tokio::test]
async fn a_page_beyond_the_budget_is_counted_and_not_kept() {
    let site = Site::start().unwrap();
    site.set("/", Answer::html("big", 100_000).gzip());
    let url = site.url("/");
    let large = prober("", Some(PageBudget::new(256 << 10)));
    let target = large.target(&url, Vec::new(), Duration::from_secs(10));
    let (measurement, page) = measure(&large, &target, &url).await;
    let page = page.expect("there is room for it");
    assert_eq!(measurement.body_bytes, Some(page.body.len() as u64));
    assert!(String::from_utf8_lossy(&page.body).contains("<title>big</title>"));
    let (same, page) = measure(&prober("", Some(PageBudget::new(64 << 10))), &target, &url).await;
    assert_eq!((same.outcome, same.body_bytes, page.is_none()), (Outcome::Up, measurement.body_bytes, true));
}

#[tokio::test]
async fn tls_is_on_record_and_expectations_are_judged() {
    let tls = TestTls::new("an authority").unwrap();
    let site = Site::start_tls(&tls).unwrap();
    site.set("/", Answer::status(404));
    let url = site.url("/");
    let trusting = prober(tls.ca_pem(), None);
    let target = trusting.target(&url, Vec::new(), Duration::from_secs(10));
    let (measurement, _) = measure(&trusting, &target, &url).await;
    assert_eq!((measurement.outcome, measurement.status), (Outcome::Down, Some(404)));
    assert_eq!(measurement.reason.as_ref().unwrap().name(), Some("status"));
    let record = measurement.tls.unwrap();
    assert_eq!((record.version.as_deref(), record.verified), (Some("TLSv1.3"), Some(true)));
    assert!(record.certificate.is_some() && record.cipher.is_some());
    assert!(measurement.timings.tls_us > Some(0));

    let trusts_nobody = prober("", None);
    let target = trusts_nobody.target(&url, Vec::new(), Duration::from_secs(10));
    let (measurement, _) = measure(&trusts_nobody, &target, &url).await;
    assert!(measurement.failed_with(FailureKind::TlsUntrusted), "{:?}", measurement.error);
    let record = measurement.tls.unwrap();
    assert_eq!((record.verified, record.certificate.is_some()), (Some(false), true));
}

#[tokio::test]
async fn names_are_looked_up() {
    let site = Site::start().unwrap();
    site.set("/", Answer::html("home", 100));
    let url = site.url("/").replace("127.0.0.1", "localhost");
    let prober = prober("", None);
    let target = prober.target(&url, Vec::new(), Duration::from_secs(10));
    let (measurement, _) = measure(&prober, &target, &url).await;
    assert_eq!(measurement.outcome, Outcome::Up, "{measurement:?}");
    assert!(measurement.timings.dns_us.is_some());
}
