//! A block whose names the catalogue does not know: what is in it is for someone else to hold against a schema.

use crate::late::Late;
use crate::span::{Span, Spanned};

/// What stands in a free block, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FreeBlock {
    pub entries: Vec<FreeEntry>,
}

/// A name with its values: `name=value`, or a node with arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct FreeEntry {
    pub name: Spanned<String>,
    pub values: Vec<Spanned<FreeValue>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FreeValue {
    Bool(bool),
    Integer(i64),
    Number(f64),
    /// May come late.
    Text(Late),
}

impl FreeValue {
    /// For messages: what it is.
    pub fn what(&self) -> &'static str {
        match self {
            FreeValue::Bool(_) => "#true or #false",
            FreeValue::Integer(_) => "a whole number",
            FreeValue::Number(_) => "a number",
            FreeValue::Text(_) => "a text",
        }
    }
}

impl FreeEntry {
    pub fn span(&self) -> Span {
        self.values.last().map_or(self.name.span, |last| self.name.span.to(last.span))
    }
}
