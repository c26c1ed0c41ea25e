//! A value that was read and found right.

use std::time::Duration;

use crate::late::Late;
use crate::quantity::Ranges;

#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Value {
    /// Of the kinds that cannot come late: a name, a word, a pattern.
    Text(String),
    /// Of the kinds that may come late: a text, a secret, a URL, a path.
    Late(Late),
    Bool(bool),
    Integer(i64),
    Duration(Duration),
    /// Bytes.
    Size(u64),
    Ranges(Ranges),
    /// An upper bound.
    Below(Duration),
}

impl Value {
    /// The text, where the value is one that was written in place.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Late(late) => late.as_literal(),
            _ => None,
        }
    }
}
