//! Runs programs so that Ctrl-C ends them, and only them: each is in a process group of its own, and xtask, which alone
//! hears the terminal, passes the signal on and then tidies up.

use std::{
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{failure::Failure, say};

const POLL: Duration = Duration::from_millis(50);
/// How long a program may take to end after it was asked to; then it is killed.
const GRACE: Duration = Duration::from_secs(20);

pub(crate) struct Runner {
    interrupted: Arc<AtomicBool>,
}

impl Runner {
    pub(crate) fn new() -> Result<Self, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(Failure::io("listening for signals"))?;
        }
        Ok(Self { interrupted })
    }

    /// Runs to the end, its output shown.
    pub(crate) fn run(&self, step: &str, command: &mut Command) -> Result<(), Failure> {
        self.run_all(vec![(step, command)])
    }

    /// Runs to the end, its output shown only if it fails.
    pub(crate) fn quiet(&self, step: &str, command: &mut Command) -> Result<(), Failure> {
        let output = command
            .stdin(Stdio::null())
            .process_group(0)
            .output()
            .map_err(Failure::io(format!("starting `{step}`")))?;
        self.check()?;
        if output.status.success() {
            return Ok(());
        }
        say::line(String::from_utf8_lossy(&output.stdout));
        say::line(String::from_utf8_lossy(&output.stderr));
        Err(Failure::Step { step: step.to_owned(), status: output.status })
    }

    /// Runs all side by side; the first failure is told when all have ended.
    pub(crate) fn run_all(&self, steps: Vec<(&str, &mut Command)>) -> Result<(), Failure> {
        let mut running = Vec::new();
        let mut failure = None;
        for (step, command) in steps {
            match Running::start(step, command) {
                Ok(child) => running.push(child),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        for child in &mut running {
            if let Err(error) = self.wait(child) {
                failure = failure.or(Some(error));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// What it prints, or nothing where it fails.
    pub(crate) fn answer(&self, command: &mut Command) -> Option<String> {
        let output = command.stdin(Stdio::null()).process_group(0).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// Runs to the end, its output shown and also given.
    pub(crate) fn run_heard(&self, step: &str, command: &mut Command) -> Result<String, Failure> {
        let mut running = Running::start(step, command.stdout(Stdio::piped()))?;
        let output = running.child.stdout.take();
        let reader = thread::spawn(move || {
            let mut heard = String::new();
            for line in
                output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok)
            {
                say::line(&line);
                heard.push_str(&line);
                heard.push('\n');
            }
            heard
        });
        let waited = self.wait(&mut running);
        let heard = reader.join().unwrap_or_default();
        waited.map(|()| heard)
    }

    /// Waits, unless interrupted.
    pub(crate) fn pause(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check()?;
            thread::sleep(POLL.min(time));
        }
        self.check()
    }

    /// Lowers the flag: what follows is the tidying up after an interruption, and may itself be interrupted.
    pub(crate) fn forgive(&self) -> bool {
        self.interrupted.swap(false, Ordering::Relaxed)
    }

    fn check(&self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
    }

    fn wait(&self, running: &mut Running) -> Result<(), Failure> {
        loop {
            if let Some(status) = running.poll()? {
                self.check()?;
                return if status.success() {
                    Ok(())
                } else {
                    Err(Failure::Step { step: running.name.clone(), status })
                };
            }
            if self.check().is_err() {
                // Not INT, which the background jobs of a shell script never hear.
                running.stop("TERM")?;
                return Err(Failure::Interrupted);
            }
            thread::sleep(POLL);
        }
    }
}

/// A program that runs. Dropped, it is killed: nothing outlives a chore by accident.
pub(crate) struct Running {
    pub(crate) name: String,
    child: Child,
}

impl Running {
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self, Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(Failure::io(format!("starting `{program}` for `{name}`")))?;
        Ok(Self { name: name.to_owned(), child })
    }

    pub(crate) fn poll(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().map_err(Failure::io(format!("waiting for `{}`", self.name)))
    }

    /// Asks it and its children to end; kills them when they have not after a while.
    pub(crate) fn stop(&mut self, signal: &str) -> Result<ExitStatus, Failure> {
        self.signal_group(signal)?;
        let end = Instant::now() + GRACE;
        while Instant::now() < end {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        self.signal_group("KILL")?;
        self.child.wait().map_err(Failure::io(format!("waiting for `{}`", self.name)))
    }

    fn signal_group(&mut self, signal: &str) -> Result<(), Failure> {
        if self.poll()?.is_none() {
            send(signal, &format!("-{}", self.child.id()))
                .map_err(Failure::io(format!("stopping `{}`", self.name)))?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.signal_group("KILL").is_ok() {
            // Reaped, so that no zombie stays; there is nobody left to tell of an error.
            self.child.wait().ok();
        }
    }
}

/// By the program `kill`: std cannot, and a process that is gone already is no error.
fn send(signal: &str, target: &str) -> io::Result<()> {
    Command::new("kill").args(["-s", signal, "--", target]).stderr(Stdio::null()).status().map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn an_interruption_ends_a_program_with_its_children() {
        let runner = Runner { interrupted: Arc::new(AtomicBool::new(true)) };
        let mut script = Command::new("bash");
        script
            .args(["-c", "(sleep 60; echo survived) & (sleep 60; echo survived) & wait"])
            .stdout(Stdio::piped());
        let mut running = Running::start("sleepers", &mut script).expect("bash starts");
        let mut output = running.child.stdout.take().expect("its output is piped");
        assert!(matches!(runner.wait(&mut running), Err(Failure::Interrupted)));
        // The pipe ends when the last process that holds it has ended.
        let mut said = String::new();
        output.read_to_string(&mut said).expect("the pipe is read");
        assert_eq!(said, "");
    }

    #[test]
    fn the_failure_is_told_after_all_have_ended() {
        let runner = Runner { interrupted: Arc::new(AtomicBool::new(false)) };
        let (mut bad, mut good) = (Command::new("false"), Command::new("true"));
        let done = runner.run_all(vec![("bad", &mut bad), ("good", &mut good)]);
        assert!(matches!(done, Err(Failure::Step { step, .. }) if step == "bad"));
        let missing = runner.run("missing", &mut Command::new("/nonexistent/program"));
        assert!(matches!(missing, Err(Failure::Io { .. })));
    }
}
