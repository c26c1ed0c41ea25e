//! Places in the text: which file, where in it, how much of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file of one [`SourceMap`].
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct FileId(pub u32);

/// A piece of a file, in bytes.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Span {
    pub file: FileId,
    pub offset: usize,
    pub len: usize,
}

impl Span {
    pub fn new(file: FileId, offset: usize, len: usize) -> Self {
        Self { file, offset, len }
    }

    /// The offset just past the last byte.
    pub fn end(self) -> usize {
        self.offset.saturating_add(self.len)
    }

    /// From the beginning of this span to the end of `other`, where both are of one file.
    pub fn to(self, other: Span) -> Span {
        if self.file != other.file {
            return self;
        }
        let offset = self.offset.min(other.offset);
        Span { file: self.file, offset, len: self.end().max(other.end()) - offset }
    }

    /// Whether the two share a byte (an empty span lies in the span around it).
    pub fn overlaps(self, other: Span) -> bool {
        self.file == other.file
            && self.offset < other.offset + other.len.max(1)
            && other.offset < self.offset + self.len.max(1)
    }
}

/// A value and where it was written.
///
/// `Debug` shows the value alone, so that a snapshot of what was read does not change with the layout of the file.
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Spanned<T> {
    pub value: T,
    pub span: Span,
}

impl<T> Spanned<T> {
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: convert(self.value), span: self.span }
    }

    pub fn as_ref(&self) -> Spanned<&T> {
        Spanned { value: &self.value, span: self.span }
    }
}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// One file that was read.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub path: PathBuf,
    /// As it is shown to the user.
    pub name: String,
    pub text: Arc<str>,
}

impl SourceFile {
    /// A file that is shown by the path it was named by.
    pub fn new(path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> Self {
        let path = path.into();
        Self { name: path.display().to_string(), path, text: text.into() }
    }

    /// The folder that relative paths in this file start from.
    pub fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }
}

/// All files of one pipeline.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
}

impl SourceMap {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, file: SourceFile) -> FileId {
        let id = FileId(u32::try_from(self.files.len()).expect("includes are capped far below 2^32 files"));
        self.files.push(file);
        id
    }

    pub fn get(&self, file: FileId) -> Option<&SourceFile> {
        self.files.get(file.0 as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = (FileId, &SourceFile)> {
        (0..).map(FileId).zip(&self.files)
    }

    /// The text that a span covers, or nothing where the span lies outside of its file.
    pub fn text(&self, span: Span) -> Option<&str> {
        self.get(span.file)?.text.get(span.offset..span.end())
    }

    /// `path` as seen from the folder of `file`; an absolute path stays as it is.
    pub fn rooted(&self, file: FileId, path: &Path) -> PathBuf {
        match self.get(file).map(SourceFile::folder) {
            Some(folder) if folder != Path::new(".") => folder.join(path),
            _ => path.to_owned(),
        }
    }

    /// Line and column, both from 1, the column in characters.
    pub fn place(&self, file: FileId, offset: usize) -> Option<(usize, usize)> {
        let text = &self.get(file)?.text;
        let offset = floor_char(text, offset);
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Some((line, before[line_start..].chars().count() + 1))
    }
}

/// The nearest character boundary at or before `offset`.
pub(crate) fn floor_char(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}
