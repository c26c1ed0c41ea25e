//! Values that may come late: from the environment or from a file, when the pipeline is built and not before.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::problem::{Code, Problem};
use crate::span::{SourceMap, Span};

/// The largest file that a value may come from.
pub const SECRET_FILE_BYTES_MAX: usize = 64 * 1024;

/// Where a late value comes from.
#[derive(Clone, Eq, PartialEq)]
pub enum LateSource {
    /// Written in place.
    Literal(String),
    /// `(env)"NAME"`
    Env(String),
    /// `(file)"path"`
    File(PathBuf),
}

/// A text that may come late. `Debug` shows where it comes from and never a secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Late {
    pub source: LateSource,
    pub secret: bool,
    pub span: Span,
}

/// What late values are taken from; the binary has the real one.
pub trait World {
    fn env(&self, name: &str) -> Option<String>;
    /// The file's bytes; at most `max + 1` of them, so that a longer file is known as such.
    fn read_file(&self, path: &Path, max: usize) -> Result<Vec<u8>, io::Error>;
}

/// A text that is never shown.
#[derive(Clone, Eq, PartialEq, Default)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A late value that has come. `Debug` shows it unless it is, or may hold, a secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Resolved {
    text: String,
    hidden: bool,
}

impl Resolved {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.text
    }

    pub fn into_secret(self) -> Secret {
        Secret(self.text)
    }

    pub fn into_string(self) -> String {
        self.text
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hidden { f.write_str("***") } else { write!(f, "{:?}", without_password(&self.text)) }
    }
}

impl Late {
    pub fn literal(text: impl Into<String>, span: Span) -> Self {
        Self { source: LateSource::Literal(text.into()), secret: false, span }
    }

    /// The text, where it was written in place.
    pub fn as_literal(&self) -> Option<&str> {
        match &self.source {
            LateSource::Literal(text) => Some(text),
            LateSource::Env(_) | LateSource::File(_) => None,
        }
    }

    /// The same value with a `(file)` path made to start from the folder of the file that names it.
    #[must_use]
    pub fn rooted(mut self, sources: &SourceMap) -> Self {
        if let LateSource::File(path) = &mut self.source {
            *path = sources.rooted(self.span.file, path);
        }
        self
    }

    /// Takes the value from the world. One newline at the end of a file is not part of the value.
    pub fn resolve(&self, world: &dyn World) -> Result<Resolved, Problem> {
        let (text, origin, hidden) = match &self.source {
            LateSource::Literal(text) => (text.clone(), "the value".to_owned(), self.secret),
            // What was kept out of the file is not shown either, whatever the option is.
            LateSource::Env(name) => (self.from_env(name, world)?, format!("the variable `{name}`"), true),
            LateSource::File(path) => {
                (self.from_file(path, world)?, format!("the file `{}`", path.display()), true)
            }
        };
        if text.contains('\0') {
            return Err(Problem::new(Code::BadSecret, self.span, format!("{origin} holds a NUL character"))
                .label("no value may hold NUL"));
        }
        Ok(Resolved { text, hidden })
    }

    #[expect(
        clippy::wrong_self_convention,
        reason = "the value is taken from the world, not made from a type"
    )]
    fn from_env(&self, name: &str, world: &dyn World) -> Result<String, Problem> {
        world.env(name).ok_or_else(|| {
            Problem::new(Code::UnsetEnv, self.span, format!("the environment variable `{name}` is not set"))
                .label("needed here")
                .help(format!("set it before the start: {name}=... monmon ..."))
        })
    }

    #[expect(
        clippy::wrong_self_convention,
        reason = "the value is taken from the world, not made from a type"
    )]
    fn from_file(&self, path: &Path, world: &dyn World) -> Result<String, Problem> {
        let shown = path.display();
        let bytes = world.read_file(path, SECRET_FILE_BYTES_MAX).map_err(|error| {
            Problem::new(
                Code::UnreadableFile,
                self.span,
                format!("the file `{shown}` cannot be read: {error}"),
            )
            .label("needed here")
            .help("the path starts from the folder of the pipeline file")
        })?;
        if bytes.len() > SECRET_FILE_BYTES_MAX {
            return Err(Problem::new(
                Code::TooLarge,
                self.span,
                format!("the file `{shown}` is larger than 64KiB"),
            )
            .label("a value of at most 64KiB"));
        }
        let mut text = String::from_utf8(bytes).map_err(|_| {
            Problem::new(Code::BadSecret, self.span, format!("the file `{shown}` is not UTF-8"))
                .label("a value must be UTF-8")
        })?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        Ok(text)
    }
}

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            LateSource::Literal(_) if self.secret => f.write_str("***"),
            LateSource::Literal(text) => write!(f, "{:?}", without_password(text)),
            LateSource::Env(name) => write!(f, "(env){name:?}"),
            LateSource::File(path) => write!(f, "(file){:?}", path.display().to_string()),
        }
    }
}

impl fmt::Debug for LateSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Alone, it does not know whether it is a secret.
            LateSource::Literal(_) => f.write_str("***"),
            LateSource::Env(name) => write!(f, "(env){name:?}"),
            LateSource::File(path) => write!(f, "(file){:?}", path.display().to_string()),
        }
    }
}

/// `scheme://user:password@host` with the password as `***`; any other text as it is.
///
/// Works on the text and not on a parsed URL, so that a password is also hidden in a URL that does not parse.
pub(crate) fn without_password(text: &str) -> String {
    let Some(start) = text.find("://").map(|at| at + 3) else { return text.to_owned() };
    let Some(user_end) = user_end(&text[start..]).map(|at| start + at) else { return text.to_owned() };
    match text[start..user_end].find(':') {
        Some(colon) => format!("{}***{}", &text[..start + colon + 1], &text[user_end..]),
        None => text.to_owned(),
    }
}

/// The `@` that ends user and password in what follows the `://` of a URL.
pub(crate) fn user_end(url: &str) -> Option<usize> {
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    // A password may hold a raw `/`, against the rules; then the last `@` ends it. What follows the `:` is no port then.
    let has_password = || {
        authority.rsplit_once(':').is_some_and(|(_, port)| !port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    authority.rfind('@').or_else(|| url.rfind('@').filter(|_| has_password()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::{FileId, SourceFile};

    struct Small;

    impl World for Small {
        fn env(&self, name: &str) -> Option<String> {
            match name {
                "TOKEN" => Some("hunter2\n".to_owned()),
                "NUL" => Some("a\0b".to_owned()),
                _ => None,
            }
        }

        fn read_file(&self, path: &Path, max: usize) -> Result<Vec<u8>, io::Error> {
            match path.to_str() {
                Some("etc/line") => Ok(b"hunter2\n".to_vec()),
                Some("etc/crlf") => Ok(b"hunter2\n\r\n".to_vec()),
                Some("etc/binary") => Ok(vec![0xff]),
                Some("etc/full") => Ok(vec![b'x'; max]),
                Some("etc/more") => Ok(vec![b'x'; max + 1]),
                _ => Err(io::Error::from(io::ErrorKind::NotFound)),
            }
        }
    }

    fn late(source: LateSource, secret: bool) -> Late {
        Late { source, secret, span: Span::new(FileId(0), 0, 1) }
    }

    #[test]
    fn values_come_from_the_world() {
        let env = |name: &str| late(LateSource::Env(name.to_owned()), false).resolve(&Small);
        let file = |name: &str| {
            let mut sources = SourceMap::new();
            sources.add(SourceFile::new("etc/pipeline.kdl", ""));
            late(LateSource::File(name.into()), true).rooted(&sources).resolve(&Small)
        };
        let text = |resolved: Result<Resolved, Problem>| {
            resolved.map(Resolved::into_string).map_err(|problem| problem.code)
        };
        assert_eq!(text(env("TOKEN")), Ok("hunter2\n".to_owned()), "a variable is taken as it is");
        assert_eq!(text(env("NONE")), Err(Code::UnsetEnv));
        assert_eq!(text(env("NUL")), Err(Code::BadSecret));
        assert_eq!(text(file("line")), Ok("hunter2".to_owned()));
        assert_eq!(text(file("crlf")), Ok("hunter2\n".to_owned()), "one newline is taken off, not two");
        assert_eq!(text(file("binary")), Err(Code::BadSecret));
        assert_eq!(text(file("none")), Err(Code::UnreadableFile));
        assert_eq!(text(file("more")), Err(Code::TooLarge));
        assert_eq!(text(file("full")).map(|text| text.len()), Ok(SECRET_FILE_BYTES_MAX));
        assert_eq!(
            text(late(LateSource::Literal("x".to_owned()), false).resolve(&Small)),
            Ok("x".to_owned())
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let show = |source: LateSource, secret| format!("{:?}", late(source, secret));
        assert_eq!(show(LateSource::Literal("hunter2".to_owned()), true), "***");
        assert_eq!(show(LateSource::Literal("plain".to_owned()), false), "\"plain\"");
        assert_eq!(show(LateSource::Env("TOKEN".to_owned()), true), "(env)\"TOKEN\"");
        assert_eq!(show(LateSource::File("a/b".into()), true), "(file)\"a/b\"");
        assert_eq!(
            show(LateSource::Literal("postgres://me:hunter2@host/db".to_owned()), false),
            "\"postgres://me:***@host/db\""
        );
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", LateSource::Literal("hunter2".to_owned())),
            "*** *** ***"
        );
        let resolved = late(LateSource::Env("TOKEN".to_owned()), false).resolve(&Small).expect("it is set");
        assert_eq!(format!("{resolved:?}"), "***");
        assert_eq!(resolved.into_secret().expose(), "hunter2\n");
    }

    #[test]
    fn passwords_are_found_in_urls_that_are_wrong_too() {
        let check = |text: &str, shown: &str| assert_eq!(without_password(text), shown);
        check("https://user:p@ss@host/", "https://user:***@host/");
        check("https://user:pa/ss@host/", "https://user:***@host/");
        check("https://user@host/", "https://user@host/");
        check("https://host:8080/@somebody", "https://host:8080/@somebody");
        check("https://user:p ss@", "https://user:***@");
        check("user:pass", "user:pass");
    }
}
