//! Opening the source: late values come, certificate authorities are read, the demo site's port is taken.

use std::path::Path;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use monmon_model::Check;
use monmon_stage::{OpenStage, PageBudget, StageContext, StageError};
use monmon_syntax::{Code, Late, Problem};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::Url;

use super::descriptors;
use super::run::HttpSource;
use super::spec::{CheckSpec, HttpSpec};
use crate::probe::{Header, Prober, Target, TlsSetup, shown};
use crate::schedule::Cadence;

const CA_BYTES_MAX: usize = 4 << 20;

/// A check that is ready to be carried out.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) check: Arc<Check>,
    pub(crate) target: Target,
    pub(crate) cadence: Cadence,
}

pub(crate) async fn open(spec: &HttpSpec, context: StageContext) -> Result<OpenStage, StageError> {
    let checks = spec.checks.iter().map(|check| ready(check, &context)).collect::<Result<Vec<_>, _>>()?;
    let extra = match &spec.tls_ca {
        Some(late) => authorities(late, &spec.folder, &context)?,
        None => Vec::new(),
    };
    let tls = tokio::task::spawn_blocking(move || TlsSetup::new(roots(&extra), extra))
        .await
        .map_err(|error| {
            StageError::permanent("the certificate authorities could not be read").caused_by(error)
        })?
        .map_err(|error| StageError::permanent("TLS cannot be set up").caused_by(error))?;
    let demo = match spec.demo_site {
        Some(address) => Some(std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        }).map_err(|error| {
            StageError::permanent(format!("the demo site cannot be served at {address}"))
                .caused_by(error)
                .help("is something else listening there? choose another port in `demo-site` and in the checks")
        })?),
        None => None,
    };
    descriptors::warn_if_few(&context.stage, checks.len(), spec.concurrency, descriptors::raise());
    let pages = context.keep_pages.then(|| PageBudget::new(spec.pages_bytes_max));
    let prober = Prober { tls, limits: spec.limits, pages };
    let concurrency = spec.concurrency;
    Ok(OpenStage::Source(Box::new(HttpSource { checks, prober, concurrency, demo, context })))
}

fn ready(spec: &CheckSpec, context: &StageContext) -> Result<Ready, StageError> {
    let resolved = spec.url.resolve(&*context.world)?;
    let wrong = |code: Code, late: &Late, message: String| {
        StageError::from(
            Problem::new(code, late.span, message).label(format!("of the check `{}`", spec.name)),
        )
    };
    let url = match Url::parse(resolved.expose()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        Ok(_) => {
            return Err(wrong(
                Code::BadUrl,
                &spec.url,
                "the URL is not one of http:// or https://".to_owned(),
            ));
        }
        Err(error) => return Err(wrong(Code::BadUrl, &spec.url, format!("the URL is none: {error}"))),
    };
    let mut headers = Vec::with_capacity(spec.headers.len());
    for (name, late) in &spec.headers {
        let value = late.resolve(&*context.world)?;
        let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value.expose()))
        else {
            return Err(wrong(
                Code::BadSecret,
                late,
                format!("the value of the header `{name}` cannot be sent"),
            ));
        };
        value.set_sensitive(late.as_literal().is_none());
        headers.push(Header { name, value });
    }
    let method = Method::from_bytes(spec.method.as_bytes()).expect("the table lists methods only");
    let target = Target::new(&url, method, headers, spec.status.clone(), spec.time, spec.timeout)
        .map_err(|why| wrong(Code::BadUrl, &spec.url, why))?;
    let check = Check {
        id: spec.id,
        name: spec.name.clone(),
        pipeline: context.pipeline.to_string(),
        source: context.stage.to_string(),
        method: spec.method.clone(),
        url: shown(&url),
        schedule: None,
        interval_us: spec.interval.as_micros() as u64,
        timeout_us: spec.timeout.as_micros() as u64,
        labels: spec.labels.clone(),
    };
    Ok(Ready { cadence: Cadence::new(spec.id, spec.interval), check: Arc::new(check), target })
}

fn authorities(
    late: &Late,
    folder: &Path,
    context: &StageContext,
) -> Result<Vec<CertificateDer<'static>>, StageError> {
    let resolved = late.resolve(&*context.world)?;
    let path = folder.join(resolved.expose());
    let wrong = |code, message: String| {
        StageError::from(Problem::new(code, late.span, message).label("expected a PEM file of certificates"))
    };
    let bytes = context.world.read_file(&path, CA_BYTES_MAX).map_err(|error| {
        wrong(Code::UnreadableFile, format!("the file `{}` cannot be read: {error}", path.display()))
    })?;
    if bytes.len() > CA_BYTES_MAX {
        return Err(wrong(Code::TooLarge, format!("the file `{}` is larger than 4MiB", path.display())));
    }
    let found = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(wrong(Code::BadSecret, format!("the file `{}` holds no certificate", path.display()))),
    }
}

fn roots(extra: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::debug!(%error, "a certificate authority of this machine cannot be read");
    }
    let (_, ignored) = roots.add_parsable_certificates(native.certs);
    let (_, unusable) = roots.add_parsable_certificates(extra.iter().cloned());
    if unusable > 0 {
        tracing::warn!(unusable, "certificates of the `tls` block that cannot be used");
    }
    if roots.is_empty() {
        tracing::warn!(
            ignored,
            "this machine trusts no certificate authority: https checks will be untrusted"
        );
    }
    roots
}
