//! A monmon under way, and what the kernel says of it.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::services::patience;

const POLL: Duration = Duration::from_millis(20);

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Holds {
    pub(crate) rss_mib: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl Holds {
    pub(crate) fn most(self, other: Holds) -> Holds {
        Holds {
            rss_mib: self.rss_mib.max(other.rss_mib),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
        }
    }
}

pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    /// Where this life's lines begin in the log, which all lives share.
    log_start: u64,
}

impl Program {
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Program> {
        let file = OpenOptions::new().create(true).append(true).open(log).context("opening a log")?;
        let log_start = file.metadata().context("looking at a log")?.len();
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Program { child, log: log.to_owned(), log_start })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written in this life.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("asking after a child")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.ended(), Ok(None))
    }

    pub(crate) fn says(&mut self, text: &str) -> Result<()> {
        let begun = Instant::now();
        while !self.log().contains(text) {
            if let Some(status) = self.ended()? {
                bail!("it ended with {status} before it said `{text}`:\n{}", self.tail());
            }
            ensure!(begun.elapsed() < patience(), "it never said `{text}`:\n{}", self.tail());
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        signal_to(self.child.id(), signal)
    }

    /// Kills it with no chance to clean up; an error if it had ended before.
    pub(crate) fn kill(&mut self) -> Result<()> {
        use std::os::unix::process::ExitStatusExt as _;
        ensure!(self.is_running(), "it had ended by itself:\n{}", self.tail());
        self.child.kill().context("killing")?;
        let status = self.child.wait().context("waiting")?;
        ensure!(status.signal() == Some(9), "it ended with {status}, not by the kill");
        Ok(())
    }

    pub(crate) fn end(&mut self) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            ensure!(begun.elapsed() < patience(), "it did not end in time:\n{}", self.tail());
            std::thread::sleep(POLL);
        }
    }

    /// Asks it to end, once it listens: a program that has only begun is simply ended by the signal.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus> {
        self.says("\"running\"")?;
        self.signal(Signal::TERM)?;
        self.end()
    }

    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    pub(crate) fn holds(&self) -> Option<Holds> {
        let folder = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{folder}/status")).ok()?;
        let number = |name: &str| -> Option<u64> {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Some(Holds {
            rss_mib: number("VmRSS:")? / 1024,
            threads: number("Threads:")?,
            descriptors: fs::read_dir(format!("{folder}/fd")).ok()?.count() as u64,
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn signal_to(id: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("a pid is positive")?;
    kill_process(pid, signal).with_context(|| format!("sending {signal:?} to {id}"))
}

/// The letter of a process's state, as ps(1) shows it.
pub(crate) fn state_of(id: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
