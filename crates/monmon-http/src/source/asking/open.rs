//! From a spec to what checks share at work: late values come, certificates are read.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use monmon_stage::{StageContext, StageError};
use monmon_syntax::{Code, Late, Problem};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use url::Url;

use super::{AskSpec, AuthSpec, Pem, TlsSpec};
use crate::probe::{
    Auth, Credentials, Evidence, Header, Manner, Proxy, Resolver, TlsSetup, TokenSource, USER_AGENT, Wanted,
    basic,
};

const PEM_BYTES_MAX: usize = 4 << 20;

/// What was made of specs already: checks that ask alike share it.
pub(in crate::source) struct Manners<'a> {
    context: &'a StageContext,
    roots: RootCertStore,
    made: HashMap<*const AskSpec, (Arc<Manner>, Vec<Header>)>,
    tls: HashMap<String, TlsSetup>,
}

impl<'a> Manners<'a> {
    pub(in crate::source) fn new(context: &'a StageContext) -> Manners<'a> {
        Manners { context, roots: native_roots(), made: HashMap::new(), tls: HashMap::new() }
    }

    /// What a spec comes to, with the headers that its credentials are.
    pub(in crate::source) fn of(
        &mut self,
        spec: &Arc<AskSpec>,
    ) -> Result<(Arc<Manner>, Vec<Header>), StageError> {
        let key = Arc::as_ptr(spec);
        if let Some(made) = self.made.get(&key) {
            return Ok(made.clone());
        }
        let made = self.make(spec)?;
        self.made.insert(key, made.clone());
        Ok(made)
    }

    fn make(&mut self, spec: &AskSpec) -> Result<(Arc<Manner>, Vec<Header>), StageError> {
        let tls = self.tls(&spec.tls)?;
        let (auth, headers) = self.auth(spec, &tls)?;
        let resolver = match spec.resolver.as_slice() {
            [] => Resolver::System,
            servers => Resolver::of_servers(servers, spec.family).map_err(|why| {
                StageError::permanent(format!("the name servers of `resolver` cannot be used: {why}"))
            })?,
        };
        let proxy = match &spec.proxy {
            None => None,
            Some(late) => {
                let url = parsed_url(late, self.context)?;
                let proxy = Proxy::new(&url);
                Some(proxy.map_err(|why| wrong(Code::BadUrl, late, why, "of the proxy"))?)
            }
        };
        let user_agent = match &spec.contact {
            Some(contact) => format!("{USER_AGENT} ({contact})"),
            None => USER_AGENT.to_owned(),
        };
        let evidence = spec.evidence.as_ref().map(|evidence| {
            let redact =
                evidence.redact.iter().filter_map(|text| fancy_regex::Regex::new(text).ok()).collect();
            let bytes_max = usize::try_from(evidence.bytes_max).unwrap_or(0);
            Arc::new(Evidence { bytes_max, redact })
        });
        let manner = Manner {
            resolver,
            family: spec.family,
            overrides: spec.overrides.clone(),
            reach: spec.reach,
            from: spec.from.clone(),
            proxy,
            tls,
            server_name: spec.tls.server_name.clone().and_then(|name| ServerName::try_from(name).ok()),
            version: spec.http,
            timeouts: spec.timeouts,
            redirects: spec.redirects,
            cookies: spec.cookies,
            auth,
            user_agent: HeaderValue::try_from(user_agent)
                .unwrap_or_else(|_| HeaderValue::from_static(USER_AGENT)),
            evidence,
            body_hash: spec.body_hash,
        };
        Ok((Arc::new(manner), headers))
    }

    fn auth(&self, spec: &AskSpec, tls: &TlsSetup) -> Result<(Option<Auth>, Vec<Header>), StageError> {
        let text = |late: &Late| late.resolve(&*self.context.world).map(|resolved| resolved.into_string());
        Ok(match &spec.auth {
            None => (None, Vec::new()),
            Some(AuthSpec::Basic { user, password }) => {
                let header = basic(text(user)?.as_bytes(), text(password)?.as_bytes());
                (None, header.into_iter().collect())
            }
            Some(AuthSpec::Bearer { token }) => {
                let mut value = HeaderValue::try_from(format!("Bearer {}", text(token)?)).map_err(|_| {
                    wrong(
                        Code::BadSecret,
                        token,
                        "the token cannot be sent in a header".to_owned(),
                        "of `auth`",
                    )
                })?;
                value.set_sensitive(true);
                (None, vec![Header { name: http::header::AUTHORIZATION, value }])
            }
            Some(AuthSpec::Digest { user, password }) => {
                let credentials = Credentials { user: text(user)?, password: text(password)? };
                (Some(Auth::Digest(credentials)), Vec::new())
            }
            Some(AuthSpec::OAuth { url, client_id, client_secret, scope }) => {
                let at = parsed_url(url, self.context)?;
                let (id, secret) = (text(client_id)?, text(client_secret)?);
                let source = TokenSource::new(at, id, secret, scope.clone(), tls.plain())
                    .map_err(|why| StageError::permanent(format!("tokens cannot be fetched: {why}")))?;
                (Some(Auth::Token(Arc::new(source))), Vec::new())
            }
        })
    }

    fn tls(&mut self, spec: &TlsSpec) -> Result<TlsSetup, StageError> {
        let key = format!("{:?}", (&spec.ca, &spec.cert, &spec.key));
        if let Some(made) = self.tls.get(&key) {
            return Ok(made.clone());
        }
        let extra = match &spec.ca {
            Some(pem) => certificates(pem, self.context)?,
            None => Vec::new(),
        };
        let client = match (&spec.cert, &spec.key) {
            (Some(cert), Some(key)) => {
                Some((certificates(cert, self.context)?, private_key(key, self.context)?))
            }
            _ => None,
        };
        let mut roots = self.roots.clone();
        let (_, unusable) = roots.add_parsable_certificates(extra.iter().cloned());
        if unusable > 0 {
            tracing::warn!(unusable, "certificates of a `tls` node that cannot be used");
        }
        if roots.is_empty() {
            tracing::warn!("this machine trusts no certificate authority: https checks will be untrusted");
        }
        let setup = TlsSetup::new(roots, extra, client).map_err(|error| match &spec.cert {
            Some(cert) => wrong(
                Code::BadSecret,
                &cert.late,
                format!("the client certificate and its key cannot be used: {error}"),
                "this certificate",
            ),
            None => StageError::permanent("TLS cannot be set up").caused_by(error),
        })?;
        self.tls.insert(key, setup.clone());
        Ok(setup)
    }
}

fn wrong(code: Code, late: &Late, message: String, label: &str) -> StageError {
    Problem::new(code, late.span, message).label(label).into()
}

pub(in crate::source) fn parsed_url(late: &Late, context: &StageContext) -> Result<Url, StageError> {
    let resolved = late.resolve(&*context.world)?;
    Url::parse(resolved.expose())
        .map_err(|error| wrong(Code::BadUrl, late, format!("the URL is none: {error}"), "this URL"))
}

fn read(pem: &Pem, context: &StageContext) -> Result<Bytes, StageError> {
    let resolved = pem.late.resolve(&*context.world)?;
    let path = pem.folder.join(resolved.expose());
    let label = "expected a PEM file";
    let bytes = context.world.read_file(&path, PEM_BYTES_MAX).map_err(|error| {
        let message = format!("the file `{}` cannot be read: {error}", path.display());
        wrong(Code::UnreadableFile, &pem.late, message, label)
    })?;
    if bytes.len() > PEM_BYTES_MAX {
        let message = format!("the file `{}` is larger than 4MiB", path.display());
        return Err(wrong(Code::TooLarge, &pem.late, message, label));
    }
    Ok(bytes.into())
}

fn certificates(pem: &Pem, context: &StageContext) -> Result<Vec<CertificateDer<'static>>, StageError> {
    let bytes = read(pem, context)?;
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(wrong(
            Code::BadSecret,
            &pem.late,
            "the file holds no certificate".to_owned(),
            "expected a PEM file of certificates",
        )),
    }
}

fn private_key(pem: &Pem, context: &StageContext) -> Result<PrivateKeyDer<'static>, StageError> {
    PrivateKeyDer::from_pem_slice(&read(pem, context)?).map_err(|_| {
        wrong(
            Code::BadSecret,
            &pem.late,
            "the file holds no private key that can be used".to_owned(),
            "expected a PEM file of a private key without a password",
        )
    })
}

fn native_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "a certificate authority of this machine cannot be read");
    }
    let (_, ignored) = roots.add_parsable_certificates(native.certs);
    if ignored > 0 {
        tracing::debug!(ignored, "certificate authorities of this machine that cannot be used");
    }
    roots
}

impl Manner {
    /// What a check wants sent, with the headers of its credentials first, so that its own replace them.
    pub(in crate::source) fn wanted(&self, headers: Vec<Header>, body: Bytes) -> Arc<Wanted> {
        Arc::new(Wanted { headers, body, user_agent: self.user_agent.clone() })
    }
}
