//! The site that is checked.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use monmon_testkit::{Site, SiteOptions};

use crate::process::Measured;

/// A site in a process of its own.
pub(crate) struct SiteProcess {
    pub(crate) process: Measured,
    pub(crate) addr: SocketAddr,
    pub(crate) access_log: PathBuf,
}

impl SiteProcess {
    pub(crate) fn start(folder: &Path, name: &str) -> io::Result<SiteProcess> {
        let access_log = folder.join(format!("{name}.jsonl"));
        let mut command = crate::process::myself()?;
        // It ends when its standard input does, so also when this program is killed.
        command.arg("site").arg(&access_log).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Measured::start(&mut command)?;
        let mut line = String::new();
        let out = process.stdout().ok_or(io::ErrorKind::BrokenPipe)?;
        BufReader::new(out).read_line(&mut line)?;
        let addr = line.trim().parse().map_err(io::Error::other)?;
        Ok(SiteProcess { process, addr, access_log })
    }
}

/// The body of that process.
#[expect(clippy::print_stdout, reason = "tells its parent where it listens")]
pub(crate) fn serve(access_log: PathBuf) -> io::Result<String> {
    let options =
        SiteOptions { access_log: Some(access_log), hits_max: 0, demo: true, ..SiteOptions::default() };
    let site = Site::with(options)?;
    println!("{}", site.addr());
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(site);
    Ok(String::new())
}
