//! A child process, and what the kernel says that it uses (proc(5)).

use std::{
    fs, io,
    process::{Child, ChildStdout, Command, ExitStatus},
    time::Duration,
};

use jiff::Timestamp;

/// The kernel counts CPU time in ticks of a hundredth of a second: USER_HZ, the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used up to an instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) at: Timestamp,
    pub(crate) cpu: Duration,
    pub(crate) rss_kib: u64,
    pub(crate) rss_peak_kib: u64,
}

/// A child that is killed when it is dropped.
pub(crate) struct Measured {
    child: Child,
}

/// This program, to be started once more.
pub(crate) fn myself() -> io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

impl Measured {
    pub(crate) fn start(command: &mut Command) -> io::Result<Measured> {
        Ok(Measured { child: command.spawn()? })
    }

    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    pub(crate) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let folder = format!("/proc/{}", self.child.id());
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let unreadable = || io::Error::other(format!("{folder} is not as proc(5) says"));
        Ok(Usage {
            at: Timestamp::now(),
            cpu: cpu(&stat).ok_or_else(unreadable)?,
            rss_kib: kib(&status, "VmRSS:").ok_or_else(unreadable)?,
            rss_peak_kib: kib(&status, "VmHWM:").ok_or_else(unreadable)?,
        })
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Fields 14 and 15, counted behind the name, which may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    Some(TICK * (user + system))
}

fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn memory_is_found_by_its_name() {
        assert_eq!(kib("Name:\tx\nVmHWM:\t  900 kB\nVmRSS:\t  800 kB\n", "VmRSS:"), Some(800));
        assert_eq!(kib("Name:\tx\n", "VmRSS:"), None);
    }
}
