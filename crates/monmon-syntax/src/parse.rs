//! From text to a KDL document, with every broken place explained.
//!
//! The KDL parser is a good judge of a text and a poor guide to it: it recurses with the nesting, takes time that
//! doubles with nested `/-`, keeps two kilobytes for each node, and its words say little. So a scan of our own finds
//! the structure and every mistake in it first, and hands the parser the sound pieces one by one: names and values.
//! Comments, `/-` and joined lines never reach it. What comes out is a `KdlDocument` without its formatting, in which
//! the spans are set by the scan: a node's is that of its head and block, an entry's is that of its value with the
//! annotation, a name's is its own.

mod bare;
mod guard;
mod head;
mod heads;
mod lex;
mod outline;
mod strings;

use crate::parse::lex::Lexer;
use crate::problem::Problems;
use crate::span::{FileId, Span};

/// How deep blocks may nest.
pub(crate) const BLOCK_DEPTH_MAX: usize = 64;
/// How deep `/-` may nest.
pub(crate) const SLASHDASH_DEPTH_MAX: usize = 4;
/// How many nodes and values one file may have: what keeps its memory under 64 MiB.
pub(crate) const ITEMS_MAX: usize = 60_000;
/// After how many mistakes in its syntax a file is left.
pub(crate) const SYNTAX_PROBLEMS_MAX: usize = 50;

/// Reads KDL v2. Broken syntax goes to `problems`, all of it; the document holds what is sound, with `#null` where a
/// value is broken, so that the rest can be looked at as well. Nothing comes of a text that is too large.
pub fn parse(file: FileId, text: &str, problems: &mut Problems) -> Option<kdl::KdlDocument> {
    let (start, text) = guard::checked(file, text, problems)?;
    Some(outline::outline(&Lexer { file, text: &text }, start, problems))
}

/// The whole node, its block included.
pub fn node_span(file: FileId, node: &kdl::KdlNode) -> Span {
    Span::new(file, node.span().offset(), node.span().len())
}

/// The node's name.
pub fn node_name_span(file: FileId, node: &kdl::KdlNode) -> Span {
    Span::new(file, node.name().span().offset(), node.name().span().len())
}

/// The value of a property without its name; an argument as a whole.
pub(crate) fn value_span(file: FileId, entry: &kdl::KdlEntry) -> Span {
    Span::new(file, entry.span().offset(), entry.span().len())
}
