//! The head of a node: its annotation, name, arguments and properties, each where it stands. The KDL parser is given
//! each piece on its own, so that it never recurses, and what is broken costs only its own piece.

use std::ops::Range;

use kdl::{KdlEntry, KdlIdentifier, KdlNode, KdlValue};

use crate::parse::lex::Lexer;
use crate::problem::{Code, Problem};

#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) start: usize,
    /// Past the last piece.
    pub(crate) end: usize,
    pub(crate) annotation: Option<Range<usize>>,
    /// `None` where it is broken.
    pub(crate) name: Option<Range<usize>>,
    pub(crate) name_end: usize,
    pub(crate) pieces: Vec<Piece>,
}

/// An argument or a property.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) key: Option<Range<usize>>,
    pub(crate) annotation: Option<Range<usize>>,
    /// `None` where it is broken; something stands in its place.
    pub(crate) value: Option<Range<usize>>,
    /// Of the value with its annotation.
    pub(crate) span: Range<usize>,
}

impl Head {
    /// The node as KDL understands it. What it does not understand is a problem and leaves a gap.
    pub(crate) fn node(&self, lexer: &Lexer<'_>, report: &mut dyn FnMut(Problem)) -> KdlNode {
        let name_span = self.start..self.name_end;
        let name = match &self.name {
            Some(name) => identifier(lexer, name.clone(), report),
            None => placeholder(name_span),
        };
        let mut node = KdlNode::new(name);
        node.clear_format();
        if let Some(annotation) = &self.annotation {
            *node.ty_mut() = Some(identifier(lexer, annotation.clone(), report));
        }
        node.entries_mut().reserve_exact(self.pieces.len());
        for piece in &self.pieces {
            let entry = piece.entry(lexer, report);
            node.entries_mut().push(entry);
        }
        node.set_span(self.start..self.end);
        node
    }
}

impl Piece {
    fn entry(&self, lexer: &Lexer<'_>, report: &mut dyn FnMut(Problem)) -> KdlEntry {
        let value = match self.value.clone().map(|value| value_of(lexer.slice(value))) {
            Some(Ok(value)) => value,
            Some(Err(error)) => {
                report(disagreement(lexer, self.span.clone(), &error));
                KdlValue::Null
            }
            None => KdlValue::Null,
        };
        let mut entry = match &self.key {
            Some(key) => KdlEntry::new_prop(identifier(lexer, key.clone(), report), value),
            None => KdlEntry::new(value),
        };
        if let Some(annotation) = &self.annotation {
            entry.set_ty(identifier(lexer, annotation.clone(), report));
        }
        let ty_span = self.annotation.clone();
        if let (Some(ty), Some(span)) = (entry.ty_mut(), ty_span) {
            ty.set_span(span);
        }
        entry.clear_format();
        entry.set_span(self.span.clone());
        entry
    }
}

/// A text is parsed as a name is: as an entry it would be parsed twice, for a `=` may follow.
fn value_of(text: &str) -> Result<KdlValue, kdl::KdlError> {
    let number_or_keyword = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'))
        || (text.starts_with('#') && !text.starts_with("#\"") && !text.starts_with("##"));
    match number_or_keyword {
        true => KdlEntry::parse(text).map(|entry| entry.value().clone()),
        false => KdlIdentifier::parse(text).map(|name| KdlValue::String(name.value().to_owned())),
    }
}

fn identifier(lexer: &Lexer<'_>, range: Range<usize>, report: &mut dyn FnMut(Problem)) -> KdlIdentifier {
    match KdlIdentifier::parse(lexer.slice(range.clone())) {
        Ok(mut identifier) => {
            identifier.clear_format();
            identifier.set_span(range);
            identifier
        }
        Err(error) => {
            report(disagreement(lexer, range.clone(), &error));
            placeholder(range)
        }
    }
}

fn placeholder(range: Range<usize>) -> KdlIdentifier {
    let mut identifier = KdlIdentifier::from("_");
    identifier.set_span(range);
    identifier
}

/// The scan found nothing wrong and KDL does; then its words have to do.
fn disagreement(lexer: &Lexer<'_>, range: Range<usize>, error: &kdl::KdlError) -> Problem {
    let diagnostic = error.diagnostics.first();
    let message = diagnostic.and_then(|diagnostic| diagnostic.message.clone());
    let message = message.unwrap_or_else(|| "this is not KDL".to_owned());
    Problem::new(Code::Syntax, lexer.span(range), message.to_lowercase().trim_end_matches('.'))
        .label("KDL cannot read this")
        .maybe_help(diagnostic.and_then(|diagnostic| diagnostic.help.clone()))
}
