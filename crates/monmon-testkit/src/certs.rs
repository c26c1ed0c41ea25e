//! A certificate authority made on the spot, and what it signs.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// The names and addresses that a server certificate carries unless told otherwise.
const LOOPBACK_NAMES: [&str; 2] = ["localhost", "site.test"];

/// A certificate authority with a key of its own, made when it is made.
pub struct Tls {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// From 1975 to 4096.
    Always,
    /// Ended in 2001.
    Over,
    /// Begins in 2999.
    NotYet,
    /// Ends in so many days from now.
    Days(u8),
}

/// A certificate with the chain that leads to its authority, and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate, then its intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    pub certificate_pem: String,
    pub key_pem: String,
}

/// Where [`Tls::write`] has put its files.
#[derive(Clone, Debug)]
pub struct CertFiles {
    pub ca: PathBuf,
    pub server_certificate: PathBuf,
    pub server_key: PathBuf,
    pub client_certificate: PathBuf,
    pub client_key: PathBuf,
}

impl Tls {
    pub fn new(common_name: &str) -> io::Result<Tls> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let params = authority_params(common_name);
        let ca_pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        Ok(Tls { issuer: Issuer::new(params, key), ca_pem })
    }

    /// The authority's own certificate, for a client to trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A server certificate for these names (DNS names or addresses).
    pub fn server(&self, names: &[String], validity: Validity) -> io::Result<Identity> {
        let params = leaf_params(names, validity, ExtendedKeyUsagePurpose::ServerAuth)?;
        self.sign(params)
    }

    /// A server certificate for loopback: `localhost`, `site.test`, `127.0.0.1`, `::1`.
    pub fn loopback_server(&self) -> io::Result<Identity> {
        self.server(&loopback_names(), Validity::Always)
    }

    /// A client certificate whose common name is `user`, as PostgreSQL's `cert` rule and Kafka want it.
    pub fn client(&self, user: &str) -> io::Result<Identity> {
        let mut params = leaf_params(&[], Validity::Always, ExtendedKeyUsagePurpose::ClientAuth)?;
        params.distinguished_name.push(DnType::CommonName, user);
        self.sign(params)
    }

    /// An authority below this one, with its certificate: who gets the chain without it cannot build a path.
    pub fn intermediate(&self, common_name: &str) -> io::Result<(Tls, CertificateDer<'static>)> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let params = authority_params(common_name);
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let below = Tls { issuer: Issuer::new(params, key), ca_pem: certificate.pem() };
        Ok((below, certificate.der().clone()))
    }

    /// Writes `ca.pem`, a loopback server's and a client's certificate and key into a folder. Keys are
    /// readable by their owner alone: PostgreSQL refuses others.
    pub fn write(&self, folder: &Path, client: &str) -> io::Result<CertFiles> {
        fs::create_dir_all(folder)?;
        let files = CertFiles {
            ca: folder.join("ca.pem"),
            server_certificate: folder.join("server.pem"),
            server_key: folder.join("server.key"),
            client_certificate: folder.join("client.pem"),
            client_key: folder.join("client.key"),
        };
        let server = self.loopback_server()?;
        let client = self.client(client)?;
        fs::write(&files.ca, &self.ca_pem)?;
        fs::write(&files.server_certificate, &server.certificate_pem)?;
        fs::write(&files.client_certificate, &client.certificate_pem)?;
        write_private(&files.server_key, &server.key_pem)?;
        write_private(&files.client_key, &client.key_pem)?;
        Ok(files)
    }

    fn sign(&self, params: CertificateParams) -> io::Result<Identity> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        Ok(Identity {
            chain: vec![certificate.der().clone()],
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

impl Identity {
    /// A certificate that no authority signed.
    pub fn self_signed(names: &[String]) -> io::Result<Identity> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let params = leaf_params(names, Validity::Always, ExtendedKeyUsagePurpose::ServerAuth)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        Ok(Identity {
            chain: vec![certificate.der().clone()],
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// A server that shows this certificate and asks for none.
    pub fn server_config(&self) -> io::Result<Arc<ServerConfig>> {
        let key = provider().key_provider.load_private_key(self.key()?).map_err(io::Error::other)?;
        // Not `with_single_cert`: it looks into the certificate, and refuses those that are too bad.
        let shown = SingleCertAndKey::from(CertifiedKey::new(self.chain.clone(), key));
        let config = server_builder(rustls::DEFAULT_VERSIONS)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        Ok(Arc::new(config))
    }

    /// A TLS 1.2 server that demands a certificate of `clients`. In TLS 1.2 the refusal comes within the
    /// handshake, in 1.3 after the client holds it for done.
    pub fn client_demanding_config(&self, clients: &Tls) -> io::Result<Arc<ServerConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(clients.ca_pem.as_bytes()).map_err(io::Error::other)?;
        roots.add(ca).map_err(io::Error::other)?;
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(io::Error::other)?;
        let config = server_builder(&[&rustls::version::TLS12])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key()?)
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }

    fn key(&self) -> io::Result<PrivateKeyDer<'static>> {
        PrivatePkcs8KeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map(PrivateKeyDer::Pkcs8)
            .map_err(io::Error::other)
    }
}

pub(crate) fn loopback_names() -> Vec<String> {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let names = LOOPBACK_NAMES.iter().map(ToString::to_string);
    names.chain(addresses.iter().map(ToString::to_string)).collect()
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn server_builder(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> io::Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>> {
    ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).map_err(io::Error::other)
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(
    names: &[String],
    validity: Validity,
    usage: ExtendedKeyUsagePurpose,
) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = names.first() {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    for name in names {
        params.subject_alt_names.push(match name.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(io::Error::other)?),
        });
    }
    match validity {
        Validity::Always => {}
        Validity::Over => {
            params.not_before = date_time_ymd(2000, 1, 1);
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        Validity::NotYet => {
            params.not_before = date_time_ymd(2999, 1, 1);
            params.not_after = date_time_ymd(3000, 1, 1);
        }
        Validity::Days(days) => {
            let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * i64::from(days) + 12);
            let end = end.to_zoned(jiff::tz::TimeZone::UTC).date();
            let part = |number: i8| number.unsigned_abs();
            params.not_after = date_time_ymd(i32::from(end.year()), part(end.month()), part(end.day()));
        }
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn write_private(path: &Path, pem: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // A file that was there keeps its mode through `open`.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    io::Write::write_all(&mut file, pem.as_bytes())
}
