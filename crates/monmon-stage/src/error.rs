//! Why a stage can't go on. A site that is down is never one.

use std::error::Error;
use std::fmt;

use monmon_syntax::Problem;

/// Monmon's own trouble in one stage.
#[derive(Debug)]
pub struct StageError {
    kind: Kind,
    message: String,
    help: Option<String>,
    problem: Option<Box<Problem>>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Transient,
    Permanent,
}

impl StageError {
    /// It may go away by itself: worth another try.
    pub fn transient(message: impl Into<String>) -> StageError {
        StageError::new(Kind::Transient, message.into())
    }

    /// It will not go away until someone mends it.
    pub fn permanent(message: impl Into<String>) -> StageError {
        StageError::new(Kind::Permanent, message.into())
    }

    fn new(kind: Kind, message: String) -> StageError {
        StageError { kind, message, help: None, problem: None, source: None }
    }

    /// What caused it; not repeated in the message.
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> StageError {
        self.source = Some(cause.into());
        self
    }

    /// What to do about it.
    pub fn help(mut self, help: impl Into<String>) -> StageError {
        self.help = Some(help.into());
        self
    }

    pub fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    pub fn help_text(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The place in the pipeline file that is at fault, if there is one.
    pub fn problem(&self) -> Option<&Problem> {
        self.problem.as_deref()
    }
}

/// A late value that is not there, or the like: the error keeps the place in the file.
impl From<Problem> for StageError {
    fn from(problem: Problem) -> StageError {
        let mut error = StageError::new(Kind::Permanent, problem.message.clone());
        error.problem = Some(Box::new(problem));
        error
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|cause| &**cause as &(dyn Error + 'static))
    }
}
