//! Why a chore ended early.

use std::{
    fmt::{self, Display, Formatter},
    io,
    process::ExitStatus,
};

#[derive(Debug)]
pub(crate) enum Failure {
    /// A step ran and its verdict is bad.
    Step {
        step: String,
        status: ExitStatus,
    },
    /// Several steps, each of which has been told of already.
    Steps(Vec<(String, Failure)>),
    /// Something was looked at and is not as it must be.
    Verdict(String),
    /// The machine lacks things that have been named already.
    Missing(usize),
    /// A program could not be started, or a file not be written.
    Io {
        doing: String,
        error: io::Error,
    },
    /// The environment asks for what cannot be.
    Usage(String),
    Interrupted,
}

impl Failure {
    /// The exit codes of monmon: 1 the verdict is bad, 2 it could not be done, 130 interrupted.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Step { .. } | Self::Verdict(_) | Self::Missing(_) => 1,
            Self::Io { .. } | Self::Usage(_) => 2,
            // What could not be done weighs more than what is bad.
            Self::Steps(failed) => failed.iter().map(|(_, failure)| failure.exit_code()).max().unwrap_or(1),
            Self::Interrupted => 130,
        }
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        |error| Self::Io { doing, error }
    }
}

impl Display for Failure {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { step, status } => write!(to, "step `{step}` ended with {status}"),
            Self::Steps(failed) => {
                let names: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
                write!(to, "{} steps failed: {}", failed.len(), names.join(", "))
            }
            Self::Verdict(text) | Self::Usage(text) => to.write_str(text),
            Self::Missing(1) => {
                to.write_str("one thing is missing: `cargo xtask doctor --install` installs it")
            }
            Self::Missing(count) => {
                write!(to, "{count} things are missing: `cargo xtask doctor --install` installs them")
            }
            Self::Io { doing, error } => write!(to, "{doing}: {error}"),
            Self::Interrupted => to.write_str("interrupted"),
        }
    }
}
