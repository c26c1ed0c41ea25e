//! Reads a pipeline file and all that it includes.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::parse::{node_span, parse};
use crate::problem::{Code, Problem, Problems};
use crate::span::{FileId, SourceFile, SourceMap, Span};

/// The largest pipeline file.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// How deep includes may include.
pub const INCLUDE_DEPTH_MAX: usize = 16;
/// How many files one pipeline may be made of.
pub const INCLUDE_FILES_MAX: usize = 64;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("there is no such file")]
    Missing,
    #[error("it is a {0}, not a file")]
    NotAFile(&'static str),
    #[error("permission denied")]
    Denied,
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => LoadError::Missing,
            io::ErrorKind::PermissionDenied => LoadError::Denied,
            _ => LoadError::Io(error),
        }
    }
}

/// Where pipeline files come from.
pub trait FileLoader {
    /// The file's bytes; of a larger file at most `bytes_max` and one more, so that it is known as such.
    fn load(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, LoadError>;
    /// The one name of a file that may be named in several ways.
    fn canonical(&self, path: &Path) -> Result<PathBuf, LoadError>;
    /// Whether paths are those of the file system.
    fn is_disk(&self) -> bool {
        false
    }
}

/// Files on disk. Directories, pipes and devices are refused before anything is read from them.
#[derive(Copy, Clone, Debug, Default)]
pub struct DiskLoader;

impl FileLoader for DiskLoader {
    fn load(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, LoadError> {
        // Asked before opening: to open a pipe would wait for its writer.
        let kind = std::fs::metadata(path)?.file_type();
        if kind.is_dir() {
            return Err(LoadError::NotAFile("directory"));
        }
        if !kind.is_file() {
            return Err(LoadError::NotAFile("pipe, socket or device"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, LoadError> {
        Ok(std::fs::canonicalize(path)?)
    }

    fn is_disk(&self) -> bool {
        true
    }
}

/// Files in memory, for tests and for text that comes from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct MemoryLoader {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl MemoryLoader {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.insert(plain(&path.into()), bytes.into());
        self
    }
}

impl FileLoader for MemoryLoader {
    fn load(&self, path: &Path, bytes_max: usize) -> Result<Vec<u8>, LoadError> {
        let bytes = self.files.get(&plain(path)).ok_or(LoadError::Missing)?;
        Ok(bytes[..bytes.len().min(bytes_max.saturating_add(1))].to_vec())
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, LoadError> {
        let path = plain(path);
        if self.files.contains_key(&path) { Ok(path) } else { Err(LoadError::Missing) }
    }
}

/// The path without `.` and with `..` taken back.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// A node at the top of a file.
#[derive(Clone, Debug)]
pub struct TopNode {
    pub file: FileId,
    pub node: kdl::KdlNode,
}

/// A pipeline's files and their top nodes, those of an included file in the place of its `include`.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub sources: SourceMap,
    pub nodes: Vec<TopNode>,
}

/// Reads `entry` and what it includes. What is wrong goes to `problems`; what is right is in the result all the same.
pub fn load(entry: &Path, loader: &dyn FileLoader, problems: &mut Problems) -> Loaded {
    let mut loading =
        Loading { loader, problems, loaded: Loaded::default(), known: BTreeMap::new(), chain: Vec::new() };
    loading.file(entry, None);
    loading.loaded
}

struct Loading<'a> {
    loader: &'a dyn FileLoader,
    problems: &'a mut Problems,
    loaded: Loaded,
    known: BTreeMap<PathBuf, FileId>,
    /// The files that are being read, each with the include that led to the next.
    chain: Vec<(FileId, Option<Span>)>,
}

impl Loading<'_> {
    fn file(&mut self, path: &Path, include: Option<Span>) {
        let (canonical, bytes) = match self.bytes(path, include) {
            Ok(Some(found)) => found,
            Ok(None) => return,
            Err(problem) => return self.problems.push(problem),
        };
        let (text, problem) = text_of(bytes);
        let file = self.loaded.sources.add(SourceFile::new(path, text.as_str()));
        self.known.insert(canonical, file);
        if let Some((code, offset, message)) = problem {
            let mut problem = Problem::new(code, Span::new(file, offset, 0), message);
            if let Some(include) = include {
                problem = problem.related(include, "included here");
            }
            return self.problems.push(problem);
        }
        let Some(mut document) = parse(file, &text, self.problems) else { return };
        self.chain.push((file, include));
        for node in std::mem::take(document.nodes_mut()) {
            match node.name().value() {
                "include" => self.include(file, &node),
                _ => self.loaded.nodes.push(TopNode { file, node }),
            }
        }
        self.chain.pop();
    }

    /// Nothing where the file was read before.
    fn bytes(&self, path: &Path, include: Option<Span>) -> Result<Option<(PathBuf, Vec<u8>)>, Problem> {
        let unreadable = |error: LoadError| {
            let message = format!("`{}` cannot be read: {error}", path.display());
            Problem::new(Code::UnreadableFile, include, message).label("needed here")
        };
        let canonical = self.loader.canonical(path).map_err(unreadable)?;
        // Problems show lines of the file they are in: an include must not make them show a key or a password file.
        if include.is_some() && canonical.extension().is_none_or(|extension| extension != "kdl") {
            let message = format!("`{}` is not named as a pipeline file", path.display());
            return Err(Problem::new(Code::BadInclude, include, message)
                .label("expected a file whose name ends in .kdl")
                .help("links are followed; the name of the file itself counts"));
        }
        if let Some(known) = self.known.get(&canonical) {
            return match self.chain.iter().position(|(file, _)| file == known) {
                Some(first) => Err(self.loop_problem(first, include)),
                None => Ok(None),
            };
        }
        if self.chain.len() >= INCLUDE_DEPTH_MAX {
            let message = format!("includes are nested deeper than {INCLUDE_DEPTH_MAX} files");
            return Err(Problem::new(Code::TooDeep, include, message).label("one too deep"));
        }
        if self.loaded.sources.iter().count() >= INCLUDE_FILES_MAX {
            let message = format!("a pipeline is made of more than {INCLUDE_FILES_MAX} files");
            return Err(Problem::new(Code::TooMany, include, message).label("one too many"));
        }
        Ok(Some((canonical, self.loader.load(path, FILE_BYTES_MAX).map_err(unreadable)?)))
    }

    fn loop_problem(&self, first: usize, include: Option<Span>) -> Problem {
        let name = |file: FileId| self.loaded.sources.get(file).map_or("?", |file| file.name.as_str());
        let mut names: Vec<&str> = self.chain[first..].iter().map(|(file, _)| name(*file)).collect();
        names.push(names[0]);
        let mut problem = Problem::new(Code::IncludeLoop, include, format!("`{}` includes itself", names[0]))
            .label("closes the loop")
            .help(format!("the loop: {}", names.join(" -> ")));
        for (file, led_here) in &self.chain[first + 1..] {
            if let Some(span) = led_here {
                problem = problem.related(*span, format!("includes `{}`", name(*file)));
            }
        }
        problem
    }

    fn include(&mut self, file: FileId, node: &kdl::KdlNode) {
        let span = node_span(file, node);
        let path = match (node.entries(), node.children()) {
            ([entry], None) if entry.name().is_none() && entry.ty().is_none() => entry.value().as_string(),
            _ => None,
        };
        match path.filter(|path| !path.is_empty()) {
            Some(path) => {
                let path = self.loaded.sources.rooted(file, Path::new(path));
                self.file(&path, Some(span));
            }
            None if self.problems.is_broken(span) => {}
            None => self.problems.push(
                Problem::new(Code::BadInclude, span, "an include names one file")
                    .label("expected one path in quotes")
                    .help("write it as: include \"common.kdl\""),
            ),
        }
    }
}

/// The text, and why it is none: code, offset, message.
fn text_of(bytes: Vec<u8>) -> (String, Option<(Code, usize, String)>) {
    if bytes.len() > FILE_BYTES_MAX {
        let message = "the file is larger than 1MiB".to_owned();
        return (String::new(), Some((Code::TooLarge, 0, message)));
    }
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let offset = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let message = match bytes.as_slice() {
                [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "the file is UTF-16, not UTF-8".to_owned(),
                _ => format!("the file is not UTF-8: byte {:#04x} at offset {offset}", bytes[offset]),
            };
            (String::from_utf8_lossy(&bytes).into_owned(), Some((Code::NotUtf8, offset, message)))
        }
    }
}
