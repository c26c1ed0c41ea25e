//! A node that was read: its values by name, typed, with the defaults of its spec.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decode::decode_default;
use crate::free::FreeBlock;
use crate::late::Late;
use crate::quantity::Ranges;
use crate::span::{Span, Spanned};
use crate::table::NodeSpec;
use crate::value::Value;

/// What [`read`](crate::read) gives. A getter asked for an option that the spec does not have finds nothing.
#[derive(Clone, Debug)]
pub struct Node {
    pub spec: &'static NodeSpec,
    pub span: Span,
    pub name_span: Span,
    pub children: Vec<Node>,
    /// The properties whose names the user chose, where the spec allows them.
    pub extra: Vec<(Spanned<String>, Spanned<Value>)>,
    /// What stands in the block, where the spec leaves it free.
    pub free: FreeBlock,
    /// In their places; one that was wrong is `None`.
    pub(crate) args: Vec<Option<Spanned<Value>>>,
    pub(crate) options: BTreeMap<&'static str, Given>,
    pub(crate) sound: bool,
}

/// An option that the user gave.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    /// Of its name.
    pub(crate) span: Span,
    /// `None` where it was wrong.
    pub(crate) value: Option<Spanned<Value>>,
}

impl Node {
    pub(crate) fn empty(spec: &'static NodeSpec, span: Span, name_span: Span) -> Self {
        Self {
            spec,
            span,
            name_span,
            children: Vec::new(),
            extra: Vec::new(),
            free: FreeBlock::default(),
            args: Vec::new(),
            options: BTreeMap::new(),
            sound: true,
        }
    }

    /// Whether nothing was reported for this node and what is in it.
    pub fn is_sound(&self) -> bool {
        self.sound
    }

    /// Whether the user wrote the option, right or wrong.
    pub fn is_given(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// Where the user wrote the option's name.
    pub fn option_span(&self, name: &str) -> Option<Span> {
        self.options.get(name).map(|given| given.span)
    }

    /// The option's value or its default. The place of a default is the node's name.
    pub fn value(&self, name: &str) -> Option<Spanned<Value>> {
        if let Some(value) = self.options.get(name).and_then(|given| given.value.as_ref()) {
            return Some(value.clone());
        }
        let option = self.spec.option(name);
        debug_assert!(option.is_some(), "`{}` has no option `{name}` in its table", self.spec.name);
        let option = option?;
        let value = decode_default(name, option.default?, option.kind, self.name_span).ok()?;
        Some(Spanned::new(value, self.name_span))
    }

    /// Of a kind that cannot come late (`Name`, `OneOf`, `Pattern`). What may come late is asked for with
    /// [`Node::late`]; here it is only found where it was written in place.
    pub fn text(&self, name: &str) -> Option<Spanned<String>> {
        self.typed(name, |value| value.as_text().map(str::to_owned))
    }

    /// The same as [`Node::text`], for a `OneOf`.
    pub fn one_of(&self, name: &str) -> Option<Spanned<String>> {
        self.text(name)
    }

    /// `false` where neither the user nor a default says otherwise.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Spanned { value: Value::Bool(true), .. }))
    }

    pub fn integer(&self, name: &str) -> Option<Spanned<i64>> {
        self.typed(name, |value| match value {
            Value::Integer(number) => Some(*number),
            _ => None,
        })
    }

    pub fn duration(&self, name: &str) -> Option<Spanned<Duration>> {
        self.typed(name, |value| match value {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        })
    }

    /// Bytes.
    pub fn size(&self, name: &str) -> Option<Spanned<u64>> {
        self.typed(name, |value| match value {
            Value::Size(bytes) => Some(*bytes),
            _ => None,
        })
    }

    pub fn ranges(&self, name: &str) -> Option<Spanned<Ranges>> {
        self.typed(name, |value| match value {
            Value::Ranges(ranges) => Some(ranges.clone()),
            _ => None,
        })
    }

    /// The upper bound of a `Below`.
    pub fn below(&self, name: &str) -> Option<Spanned<Duration>> {
        self.typed(name, |value| match value {
            Value::Below(bound) => Some(*bound),
            _ => None,
        })
    }

    /// Of a kind that may come late: `Text`, `Secret`, `Url`, `Path`.
    pub fn late(&self, name: &str) -> Option<Late> {
        self.typed(name, |value| match value {
            Value::Late(late) => Some(late.clone()),
            _ => None,
        })
        .map(|late| late.value)
    }

    /// A URL that was written in place, parsed.
    pub fn url(&self, name: &str) -> Option<Spanned<url::Url>> {
        self.typed(name, |value| url::Url::parse(value.as_text()?).ok())
    }

    fn typed<T>(&self, name: &str, pick: impl FnOnce(&Value) -> Option<T>) -> Option<Spanned<T>> {
        let value = self.value(name)?;
        Some(Spanned::new(pick(&value.value)?, value.span))
    }

    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.spec.name == name)
    }

    pub fn children_named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Node> {
        self.children.iter().filter(move |child| child.spec.name == name)
    }

    /// The argument in this place, if it is there and right.
    pub fn arg(&self, index: usize) -> Option<&Spanned<Value>> {
        self.args.get(index)?.as_ref()
    }

    /// All arguments that are right.
    pub fn args(&self) -> impl Iterator<Item = &Spanned<Value>> {
        self.args.iter().flatten()
    }

    /// The argument in this place, if it is a text that was written in place.
    pub fn arg_text(&self, index: usize) -> Option<Spanned<String>> {
        let arg = self.arg(index)?;
        Some(Spanned::new(arg.value.as_text()?.to_owned(), arg.span))
    }

    /// The argument in this place, if it is of a kind that may come late.
    pub fn arg_late(&self, index: usize) -> Option<Late> {
        match &self.arg(index)?.value {
            Value::Late(late) => Some(late.clone()),
            _ => None,
        }
    }

    /// The argument in this place, if it is a URL that was written in place.
    pub fn arg_url(&self, index: usize) -> Option<Spanned<url::Url>> {
        let arg = self.arg(index)?;
        Some(Spanned::new(url::Url::parse(arg.value.as_text()?).ok()?, arg.span))
    }
}
