//! Steps one after the other. One that fails is told at the end and does not keep the others from being tried; only an
//! interruption does.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{failure::Failure, runner::Runner, say};

pub(crate) struct Steps<'a> {
    runner: &'a Runner,
    took: Vec<(String, Duration)>,
    failed: Vec<(String, Failure)>,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(runner: &'a Runner) -> Self {
        Self { runner, took: Vec::new(), failed: Vec::new() }
    }

    pub(crate) fn run(&mut self, name: &str, command: &mut Command) -> Result<(), Failure> {
        let runner = self.runner;
        self.step(name, || runner.run(name, command)).map(drop)
    }

    /// What the step gives, if it does not fail.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<Option<T>, Failure> {
        say::step(name);
        let start = Instant::now();
        let done = work();
        self.took.push((name.to_owned(), start.elapsed()));
        match done {
            Ok(value) => Ok(Some(value)),
            Err(Failure::Interrupted) => Err(Failure::Interrupted),
            Err(failure) => {
                say::error(format_args!("{name}: {failure}"));
                self.failed.push((name.to_owned(), failure));
                Ok(None)
            }
        }
    }

    /// The last lines: what each step took, and which failed.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let each = self.took.iter().map(|(name, took)| format!("{name} {:.0} s", took.as_secs_f64()));
        say::line(format_args!("\n{}", each.collect::<Vec<_>>().join(", ")));
        match self.failed.len() {
            0 => {
                say::line("all passed");
                Ok(())
            }
            1 => Err(self.failed.remove(0).1),
            _ => Err(Failure::Steps(self.failed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_and_the_next_step_is_tried() {
        let runner = Runner::new().expect("signals can be heard");
        let mut steps = Steps::new(&runner);
        steps.run("good", &mut Command::new("true")).expect("no interruption");
        steps.run("bad", &mut Command::new("false")).expect("no interruption");
        let after = steps.step("after", || Ok(7)).expect("no interruption");
        assert_eq!(after, Some(7));
        let broken: Result<Option<()>, Failure> = steps.step("broken", || Err(Failure::Usage("no".into())));
        assert!(matches!(broken, Ok(None)));
        let failure = steps.finish().expect_err("two steps failed");
        assert_eq!(failure.to_string(), "2 steps failed: bad, broken");
        assert_eq!(failure.exit_code(), 2);
    }
}
