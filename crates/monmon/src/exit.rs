//! Exit codes, the same for every command.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// What was asked for is done, and the verdict is good.
    Good,
    /// The verdict is bad: a check is down, a file is invalid.
    Bad,
    /// Monmon could not do it: usage, files, servers, a bug.
    Failed,
    /// Stopped by a second signal before it was done.
    Interrupted,
}

impl Exit {
    /// For `--help`.
    pub const HELP: &'static str = "\
Exit codes:
  0    good
  1    the verdict is bad: a check is down, a file is invalid, a store lacks a measurement
  2    monmon could not do it: usage, files, servers, internal
  130  interrupted by a second signal";

    pub fn code(self) -> u8 {
        match self {
            Exit::Good => 0,
            Exit::Bad => 1,
            Exit::Failed => 2,
            Exit::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
