//! Self-signed certificates that the pipeline names, shown by a site as its own.

use monmon_model::Outcome;
use monmon_testkit::{Answer, Identity, Site, SiteOptions};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};

use super::tests::{measure, prober};
use super::*;

/// What `openssl req -x509` makes: an authority that signed itself, with the names of a site.
fn own(names: &[&str], years: std::ops::Range<i32>) -> Identity {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "an internal site");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) =
        (date_time_ymd(years.start, 1, 1), date_time_ymd(years.end, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
    }
}

/// What a check says of a site that shows `shown`, where `tls ca=` names `named`.
async fn said(shown: &Identity, named: &str) -> String {
    let tls = Some(shown.server_config().unwrap());
    let site = Site::with(SiteOptions { tls, ..SiteOptions::default() }).unwrap();
    site.set("/", Answer::html("home", 100));
    let url = site.url("/");
    let prober = prober(named, None);
    let target = prober.target(&url, Vec::new(), Duration::from_secs(10));
    let (measurement, _) = measure(&prober, &target, &url).await;
    let record = measurement.tls.as_ref().unwrap();
    assert_eq!(record.verified, Some(measurement.outcome == Outcome::Up), "{record:?}");
    assert!(record.certificate.is_some());
    match &measurement.error {
        None => measurement.outcome.as_str().to_owned(),
        Some(failure) => format!("{}: {}", failure.kind.as_str(), failure.message),
    }
}

const ALWAYS: std::ops::Range<i32> = 2000..3000;

#[tokio::test]
async fn a_sites_own_certificate_is_trusted_where_it_is_named() {
    let site = own(&["localhost", "127.0.0.1"], ALWAYS);
    assert_eq!(said(&site, &site.certificate_pem).await, "up");
    // Nobody named it, or one that is the same but for its key.
    let twin = own(&["localhost", "127.0.0.1"], ALWAYS);
    let expected =
        "tls_self_signed: the certificate is self-signed; to trust it as it is, name it in `tls ca=`";
    assert_eq!(said(&site, &twin.certificate_pem).await, expected);
    // One that is a server's and nothing else.
    let leaf = Identity::self_signed(&["127.0.0.1".to_owned()]).unwrap();
    assert_eq!(said(&leaf, &leaf.certificate_pem).await, "up");
    assert_eq!(said(&leaf, "").await, expected);
}

#[tokio::test]
async fn name_and_dates_of_a_named_certificate_count() {
    let elsewhere = own(&["elsewhere.test", "192.0.2.1"], ALWAYS);
    assert_eq!(
        said(&elsewhere, &elsewhere.certificate_pem).await,
        "tls_wrong_name: the certificate is for `elsewhere.test`, `192.0.2.1`, not for `127.0.0.1`"
    );
    let over = own(&["127.0.0.1"], 2000..2001);
    assert_eq!(
        said(&over, &over.certificate_pem).await,
        "tls_expired: the certificate expired at 2001-01-01T00:00:00Z"
    );
    let early = own(&["127.0.0.1"], 2990..3000);
    assert_eq!(
        said(&early, &early.certificate_pem).await,
        "tls_not_yet_valid: the certificate is not valid before 2990-01-01T00:00:00Z"
    );
}
