//! TLS as a prober wants it: every handshake a full one, and the certificate on record even when it is refused.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use monmon_model::bounds::CHAIN_MAX;
use monmon_model::{Certificate, Failure, FailureKind, Tls};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::manner::HttpVersion;
use super::pinned::Pinned;

/// How much of a name in a certificate is put on record.
const NAME_CHARS_MAX: usize = 256;

const SELF_SIGNED: &str = "the certificate is self-signed; to trust it as it is, name it in `tls ca=`";

/// Which protocols are offered within TLS (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alpn {
    None,
    Any,
    Http1,
    Http2,
}

impl Alpn {
    pub(crate) fn of(version: HttpVersion) -> Alpn {
        match version {
            HttpVersion::Negotiated => Alpn::Any,
            HttpVersion::One => Alpn::Http1,
            HttpVersion::Two => Alpn::Http2,
        }
    }

    fn protocols(self) -> &'static [&'static [u8]] {
        match self {
            Alpn::None => &[],
            Alpn::Any => &[b"h2", b"http/1.1"],
            Alpn::Http1 => &[b"http/1.1"],
            Alpn::Http2 => &[b"h2"],
        }
    }
}

/// What all handshakes of a source have in common.
#[derive(Clone, Debug)]
pub(crate) struct TlsSetup {
    config: ClientConfig,
    verifier: Arc<dyn ServerCertVerifier>,
}

impl TlsSetup {
    /// `pinned`: certificates that are trusted as a server's own too, whatever they are beside.
    /// `client`: the certificate and key that a server which asks for one is shown.
    pub(crate) fn new(
        roots: RootCertStore,
        pinned: Vec<CertificateDer<'static>>,
        client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<TlsSetup, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut verifier = verifier(roots, &provider)?;
        if !pinned.is_empty() {
            verifier = Arc::new(Pinned { inner: verifier, certificates: pinned });
        }
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier));
        let mut config = match client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        // A resumed handshake would hide a certificate that has gone bad since.
        config.resumption = Resumption::disabled();
        Ok(TlsSetup { config, verifier })
    }

    /// For a client that is not the prober itself.
    pub(crate) fn plain(&self) -> ClientConfig {
        self.config.clone()
    }

    /// The configuration of one connection, and where its certificate will be on record.
    pub(crate) fn one(&self, alpn: Alpn) -> (Arc<ClientConfig>, Arc<Witness>) {
        let witness = Arc::new(Witness { inner: Arc::clone(&self.verifier), seen: Mutex::new(None) });
        let mut config = self.config.clone();
        config.dangerous().set_certificate_verifier(Arc::<Witness>::clone(&witness));
        config.alpn_protocols = alpn.protocols().iter().map(|protocol| protocol.to_vec()).collect();
        (Arc::new(config), witness)
    }
}

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
    if roots.is_empty() {
        return Ok(Arc::new(NoRoots(Arc::clone(provider))));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
        .map_err(|error| rustls::Error::General(error.to_string()))
}

/// The verifier of one connection: it judges as the one beneath it, and remembers what it saw.
#[derive(Debug)]
pub(crate) struct Witness {
    inner: Arc<dyn ServerCertVerifier>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    end_entity: Vec<u8>,
    others: Vec<Vec<u8>>,
    verified: bool,
}

impl Witness {
    /// What is known of the handshake so far.
    pub(crate) fn tls(&self) -> Option<Tls> {
        let seen = self.seen.lock().ok()?.clone()?;
        Some(Tls {
            version: None,
            cipher: None,
            verified: Some(seen.verified),
            certificate: certificate(&seen.end_entity),
            chain: seen.others.iter().filter_map(|der| certificate(der)).collect(),
        })
    }

    /// A certificate without a known issuer that issued itself has a kind of its own.
    pub(crate) fn refine(&self, mut failure: Failure) -> Failure {
        let own = || {
            let seen = self.seen.lock().ok()?.clone()?;
            let (_, parsed) = X509Certificate::from_der(&seen.end_entity).ok()?;
            Some(parsed.issuer() == parsed.subject())
        };
        if failure.kind == FailureKind::TlsUntrusted && own() == Some(true) {
            failure.kind = FailureKind::TlsSelfSigned;
            SELF_SIGNED.clone_into(&mut failure.message);
        }
        failure
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn certificate(der: &[u8]) -> Option<Certificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    let name =
        |name: &x509_parser::x509::X509Name<'_>| name.to_string().chars().take(NAME_CHARS_MAX).collect();
    Some(Certificate {
        subject: name(parsed.subject()),
        issuer: name(parsed.issuer()),
        not_before: time(parsed.validity().not_before)?,
        not_after: time(parsed.validity().not_after)?,
        sha256: Some(hex(&Sha256::digest(der))),
    })
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if let Ok(mut seen) = self.seen.lock() {
            let others = intermediates.iter().take(CHAIN_MAX).map(|der| der.to_vec()).collect();
            *seen = Some(Seen { end_entity: end_entity.to_vec(), others, verified: verdict.is_ok() });
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A machine that trusts nobody: every chain is untrusted, and still on record.
#[derive(Debug)]
struct NoRoots(Arc<CryptoProvider>);

impl ServerCertVerifier for NoRoots {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
