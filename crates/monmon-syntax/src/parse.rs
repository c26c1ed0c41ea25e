//! From text to a KDL document, with every broken place explained.

use crate::problem::{Code, Problem, Problems};
use crate::span::{FileId, Span};

/// Reads KDL v2.
pub fn parse(file: FileId, text: &str, problems: &mut Problems) -> Option<kdl::KdlDocument> {
    match kdl::KdlDocument::parse_v2(text) {
        Ok(document) => Some(document),
        Err(error) => {
            for diagnostic in error.diagnostics {
                let span = Span::new(file, diagnostic.span.offset(), diagnostic.span.len());
                problems.push(Problem::new(Code::Syntax, span, diagnostic.message.unwrap_or_default()));
            }
            None
        }
    }
}

/// The whole node, without the white space around it.
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
