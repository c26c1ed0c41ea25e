//! The site that is checked.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use monmon_testkit::{Behaviour, HostileSite, Identity, Site, SiteOptions, Tls};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::process::Measured;

/// A site in a process of its own.
pub(crate) struct SiteProcess {
    pub(crate) process: Measured,
    pub(crate) addr: SocketAddr,
    pub(crate) access_log: PathBuf,
    /// Of the authority that signed its certificate, where it speaks TLS.
    pub(crate) ca: Option<PathBuf>,
    /// Everything that a site should not do, beside it.
    pub(crate) hostile: Vec<String>,
}

impl SiteProcess {
    pub(crate) fn start(folder: &Path, name: &str, tls: bool, hostile: bool) -> io::Result<SiteProcess> {
        let access_log = folder.join(format!("{name}.jsonl"));
        let mut command = crate::process::myself()?;
        let mut ca = None;
        if tls {
            let files = Tls::new("the benchmark's authority")?.write(&folder.join("tls"), "bench")?;
            command.arg("site").arg("--certificate").arg(&files.server_certificate);
            command.arg("--key").arg(&files.server_key);
            ca = Some(files.ca);
        } else {
            command.arg("site");
        }
        // It ends when its standard input does, so also when this program is killed.
        if hostile {
            command.arg("--hostile");
        }
        command.arg(&access_log).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Measured::start(&mut command)?;
        let mut line = String::new();
        let out = process.stdout().ok_or(io::ErrorKind::BrokenPipe)?;
        BufReader::new(out).read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let addr = words.next().unwrap_or_default().parse().map_err(io::Error::other)?;
        let hostile = words.map(str::to_owned).collect();
        Ok(SiteProcess { process, addr, access_log, ca, hostile })
    }
}

#[derive(clap::Args)]
pub(crate) struct Options {
    access_log: PathBuf,
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
    #[arg(long)]
    hostile: bool,
}

/// The body of that process.
#[expect(clippy::print_stdout, reason = "tells its parent where it listens")]
pub(crate) fn serve(options: Options) -> io::Result<String> {
    let tls = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => {
            let certificate_pem = std::fs::read_to_string(certificate)?;
            let chain = CertificateDer::pem_slice_iter(certificate_pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(io::Error::other)?;
            let identity = Identity { chain, certificate_pem, key_pem: std::fs::read_to_string(key)? };
            Some(identity.server_config()?)
        }
        _ => None,
    };
    let (access_log, is_hostile) = (Some(options.access_log), options.hostile);
    let options = SiteOptions { access_log, tls, hits_max: 0, demo: true, ..SiteOptions::default() };
    let site = Site::with(options)?;
    let hostile = is_hostile.then(HostileSite::start).transpose()?;
    let urls = hostile.iter().flat_map(|hostile| {
        Behaviour::ALL.iter().filter_map(|behaviour| hostile.url(*behaviour)).collect::<Vec<_>>()
    });
    println!("{} {}", site.addr(), urls.collect::<Vec<_>>().join(" "));
    io::stdin().read_to_end(&mut Vec::new())?;
    drop((site, hostile));
    Ok(String::new())
}
