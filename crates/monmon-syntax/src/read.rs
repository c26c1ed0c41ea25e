//! Holds a node against its spec. Everything that is wrong with it is reported in one go.

use std::collections::BTreeMap;

use kdl::{KdlDocument, KdlEntry, KdlNode, KdlValue};

use crate::decode::Written;
use crate::free::{FreeEntry, FreeValue};
use crate::nearest::{did_you_mean, nearest};
use crate::node::{Given, Node};
use crate::parse::{node_name_span, node_span};
use crate::problem::{Code, Problem, Problems};
use crate::span::{FileId, Span, Spanned};
use crate::table::{ArgSpec, NodeSpec, Occurs, OptionSpec, ValueKind};
use crate::value::Value;

/// Most names in a free block, and most values of one of them.
const FREE_ENTRIES_MAX: usize = 1000;

/// Reads `node`, whose name the caller has already matched with the spec's. What is wrong goes to `problems`; a value
/// that is wrong is left out of the result, so that its getter gives the default.
pub fn read(node: &KdlNode, file: FileId, spec: &'static NodeSpec, problems: &mut Problems) -> Node {
    let mut reader = Reader {
        file,
        node,
        spec,
        problems,
        out: Node::empty(spec, node_span(file, node), node_name_span(file, node)),
        misspelt: Vec::new(),
    };
    reader.annotation();
    reader.entries();
    reader.block();
    reader.absences();
    reader.out
}

struct Reader<'a> {
    file: FileId,
    node: &'a KdlNode,
    spec: &'static NodeSpec,
    problems: &'a mut Problems,
    out: Node,
    /// What the unknown names were probably meant to be; these are not missing as well.
    misspelt: Vec<&'static str>,
}

impl Reader<'_> {
    fn annotation(&mut self) {
        let Some(ty) = self.node.ty() else { return };
        let span = Span::new(self.file, ty.span().offset(), ty.span().len());
        self.report(
            Problem::new(
                Code::BadAnnotation,
                span,
                format!("`({})` means nothing before a node", ty.value()),
            )
            .label("only values have annotations")
            .help("(env) and (file) stand before the value, as in topic=(env)\"TOPIC\""),
        );
    }

    fn entries(&mut self) {
        let mut arg_index = 0;
        for entry in self.node.entries() {
            match entry.name() {
                None => {
                    self.arg(arg_index, entry);
                    arg_index += 1;
                }
                Some(name) => {
                    let name_span = Span::new(self.file, name.span().offset(), name.span().len());
                    self.property(Spanned::new(name.value(), name_span), entry);
                }
            }
        }
    }

    fn arg(&mut self, index: usize, entry: &KdlEntry) {
        let spec: Option<&'static ArgSpec> =
            self.spec.args.get(index).or_else(|| self.spec.args.last().filter(|last| last.many));
        match spec {
            Some(spec) => {
                let value = self.value(spec.name, spec.kind, entry);
                self.out.args.push(value);
            }
            None => {
                let span = self.value_span(entry);
                let taken = match self.spec.args {
                    [] => "no argument".to_owned(),
                    [only] => format!("one argument, the {}", only.name),
                    all => {
                        let names = all.iter().map(|arg| arg.name).collect::<Vec<_>>().join(", ");
                        format!("{} arguments: {names}", all.len())
                    }
                };
                let help = self.spec.options.first().map(|option| {
                    format!("what is not an argument is given by name, as in {}=...", option.name)
                });
                self.report(
                    Problem::new(Code::ExtraArgument, span, format!("`{}` takes {taken}", self.spec.name))
                        .label("one too many")
                        .maybe_help(help),
                );
            }
        }
    }

    fn property(&mut self, name: Spanned<&str>, entry: &KdlEntry) {
        if let Some(option) = self.spec.option(name.value) {
            self.option(option, name.span, entry);
        } else if let Some(kind) = self.spec.open_properties {
            let earlier = self
                .out
                .extra
                .iter()
                .find(|(known, _)| known.value == name.value)
                .map(|(known, _)| known.span);
            match earlier {
                Some(first) => self.repeated(name.value, name.span, first),
                None => {
                    if let Some(value) = self.value(name.value, kind, entry) {
                        self.out.extra.push((name.map(str::to_owned), value));
                    }
                }
            }
        } else if self.spec.free_block {
            let values = self.free_value(name.value, entry).into_iter().collect();
            self.free_entry(FreeEntry { name: name.map(str::to_owned), values });
        } else if self.spec.child(name.value).is_some() {
            self.report(
                Problem::new(
                    Code::UnknownOption,
                    name.span,
                    format!("`{}` is a node, not a property", name.value),
                )
                .label(format!("`{}` takes it in its block", self.spec.name))
                .help(format!("write it in the block: {} {{ {} ... }}", self.spec.name, name.value)),
            );
        } else {
            self.unknown(Code::UnknownOption, name);
        }
    }

    fn option(&mut self, option: &'static OptionSpec, name_span: Span, entry: &KdlEntry) {
        if let Some(first) = self.out.options.get(option.name) {
            let first = first.span;
            return self.repeated(option.name, name_span, first);
        }
        let value = self.value(option.name, option.kind, entry);
        self.out.options.insert(option.name, Given { span: name_span, value });
    }

    fn repeated(&mut self, name: &str, span: Span, first: Span) {
        self.report(
            Problem::new(Code::RepeatedOption, span, format!("`{name}` is given twice"))
                .label("given again here")
                .related(first, "first given here"),
        );
    }

    fn unknown(&mut self, code: Code, name: Spanned<&str>) {
        let words = self.spec.options.iter().map(|option| option.name);
        let words: Vec<&'static str> =
            words.chain(self.spec.children.iter().map(|child| child.name)).collect();
        let spec = self.spec.name;
        let what = match (code, self.spec.options.is_empty()) {
            (Code::UnknownOption, _) => "option",
            (_, true) => "node",
            (_, false) => "node or option",
        };
        self.misspelt.extend(nearest(name.value, words.iter().copied()));
        let label =
            if words.is_empty() { format!("`{spec}` has none") } else { format!("unknown to `{spec}`") };
        self.report(
            Problem::new(code, name.span, format!("`{spec}` has no {what} `{}`", name.value))
                .label(label)
                .maybe_help(did_you_mean(name.value, words)),
        );
    }

    fn block(&mut self) {
        let Some(block) = self.node.children() else { return };
        if self.spec.free_block {
            return self.free_block(block);
        }
        if self.spec.children.is_empty() && self.spec.options.is_empty() && !block.nodes().is_empty() {
            let span = node_name_span(self.file, &block.nodes()[0]);
            return self.report(
                Problem::new(Code::UnexpectedBlock, span, format!("`{}` takes no block", self.spec.name))
                    .label("nothing can stand here"),
            );
        }
        let mut seen: BTreeMap<&'static str, Span> = BTreeMap::new();
        for child in block.nodes() {
            let name = Spanned::new(child.name().value(), node_name_span(self.file, child));
            if let Some(spec) = self.spec.child(name.value) {
                let first = *seen.entry(spec.name).or_insert(name.span);
                if first != name.span && matches!(spec.occurs, Occurs::Once | Occurs::AtMostOnce) {
                    self.report(
                        Problem::new(
                            Code::RepeatedNode,
                            name.span,
                            format!("`{}` is there twice", spec.name),
                        )
                        .label("there again here")
                        .related(first, "first here"),
                    );
                    continue;
                }
                let child = read(child, self.file, spec, self.problems);
                self.out.sound &= child.is_sound();
                self.out.children.push(child);
            } else if let Some(option) = self.spec.option(name.value) {
                self.option_child(option, child, name.span);
            } else {
                self.unknown(Code::UnknownNode, name);
            }
        }
    }

    fn free_block(&mut self, block: &KdlDocument) {
        for child in block.nodes() {
            let name = Spanned::new(child.name().value().to_owned(), node_name_span(self.file, child));
            if let Some(inner) = child.children().and_then(|block| block.nodes().first()) {
                let span = node_name_span(self.file, inner);
                let message = format!("`{}` takes values and no block", name.value);
                self.report(
                    Problem::new(Code::UnexpectedBlock, span, message).label("nothing can stand here"),
                );
            }
            let mut values = Vec::new();
            for entry in child.entries().iter().take(FREE_ENTRIES_MAX + 1) {
                if entry.name().is_none() {
                    values.extend(self.free_value(&name.value, entry));
                } else {
                    let span = self.entry_span(entry);
                    let message = format!("`{}` takes values without names", name.value);
                    let problem = Problem::new(Code::UnknownOption, span, message);
                    self.report(problem.label("expected a value alone"));
                }
            }
            self.free_entry(FreeEntry { name, values });
        }
    }

    fn free_entry(&mut self, entry: FreeEntry) {
        let entries = self.out.free.entries.len();
        if entries == FREE_ENTRIES_MAX || entry.values.len() > FREE_ENTRIES_MAX {
            let message =
                format!("`{}` takes at most {FREE_ENTRIES_MAX} names and values of each", self.spec.name);
            self.report(Problem::new(Code::TooMany, entry.name.span, message).label("one too many"));
        }
        if entries < FREE_ENTRIES_MAX {
            self.out.free.entries.push(entry);
        }
    }

    fn free_value(&mut self, name: &str, entry: &KdlEntry) -> Option<Spanned<FreeValue>> {
        let span = self.value_span(entry);
        let plain = entry.ty().is_none();
        let value = match entry.value() {
            KdlValue::Bool(flag) if plain => FreeValue::Bool(*flag),
            KdlValue::Integer(number) if plain && i64::try_from(*number).is_ok() => {
                FreeValue::Integer(i64::try_from(*number).ok()?)
            }
            KdlValue::Float(number) if plain && number.is_finite() => FreeValue::Number(*number),
            KdlValue::String(_) => match self.value(name, ValueKind::Text, entry)?.value {
                Value::Late(late) => FreeValue::Text(late),
                _ => return None,
            },
            KdlValue::Bool(_) | KdlValue::Integer(_) | KdlValue::Float(_) | KdlValue::Null => {
                let message = format!("the value of `{name}` is none that can be given here");
                self.report(
                    Problem::new(Code::WrongType, span, message)
                        .label("expected a text, a number of 64 bits, #true or #false"),
                );
                return None;
            }
        };
        Some(Spanned::new(value, span))
    }

    /// `topic "x"`: an option written as a child with one argument.
    fn option_child(&mut self, option: &'static OptionSpec, child: &KdlNode, name_span: Span) {
        let expected = || format!("expected {}", option.kind.expected());
        let (first, rest) = match child.entries() {
            [first, rest @ ..] if first.name().is_none() => (first, rest),
            _ => {
                self.out.options.entry(option.name).or_insert(Given { span: name_span, value: None });
                return self.report(
                    Problem::new(Code::MissingArgument, name_span, format!("`{}` has no value", option.name))
                        .label(expected())
                        .help(format!("write it as: {} ...", option.name)),
                );
            }
        };
        if let Some(extra) = rest.first() {
            let span = self.entry_span(extra);
            self.report(
                Problem::new(Code::ExtraArgument, span, format!("`{}` takes one value", option.name))
                    .label("one too many"),
            );
        } else if let Some(inner) = child.children().and_then(|block| block.nodes().first()) {
            let span = node_name_span(self.file, inner);
            self.report(
                Problem::new(
                    Code::UnexpectedBlock,
                    span,
                    format!("`{}` takes one value and no block", option.name),
                )
                .label("nothing can stand here"),
            );
        }
        if let Some(ty) = child.ty() {
            let span = Span::new(self.file, ty.span().offset(), ty.span().len());
            self.report(
                Problem::new(Code::BadAnnotation, span, format!("`({})` stands before the name", ty.value()))
                    .label("expected before the value")
                    .help(format!("write it as: {} ({})\"...\"", option.name, ty.value())),
            );
        }
        self.option(option, name_span, first);
    }

    fn absences(&mut self) {
        let name_span = self.out.name_span;
        // A broken piece of the head may well be what seems to be missing.
        if self.problems.is_broken(self.head_span()) {
            self.out.sound = false;
            return;
        }
        for arg in self.spec.args.iter().skip(self.out.args.len()).filter(|arg| arg.required) {
            self.report(
                Problem::new(
                    Code::MissingArgument,
                    name_span,
                    format!("`{}` has no {}", self.spec.name, arg.name),
                )
                .label(format!("expected {}", arg.kind.expected()))
                .maybe_help(example(self.spec.example)),
            );
        }
        for option in self.spec.options.iter().filter(|option| option.required) {
            if self.out.options.contains_key(option.name) || self.misspelt.contains(&option.name) {
                continue;
            }
            self.report(
                Problem::new(
                    Code::MissingOption,
                    name_span,
                    format!("`{}` has no `{}`", self.spec.name, option.name),
                )
                .label(format!("needs `{}`: {}", option.name, option.kind.expected()))
                .maybe_help(example(option.example)),
            );
        }
        for child in self
            .spec
            .children
            .iter()
            .filter(|child| matches!(child.occurs, Occurs::Once | Occurs::AtLeastOnce))
        {
            let there = self
                .node
                .children()
                .is_some_and(|block| block.nodes().iter().any(|node| node.name().value() == child.name));
            if !there && !self.misspelt.contains(&child.name) {
                self.report(
                    Problem::new(
                        Code::MissingNode,
                        name_span,
                        format!("`{}` has no `{}`", self.spec.name, child.name),
                    )
                    .label(format!("needs `{}` in its block", child.name))
                    .maybe_help(example(child.example)),
                );
            }
        }
    }

    fn value(&mut self, name: &str, kind: ValueKind, entry: &KdlEntry) -> Option<Spanned<Value>> {
        let span = self.value_span(entry);
        let written =
            Written { name, annotation: entry.ty().map(|ty| ty.value()), value: entry.value(), span };
        // What may be a secret is not shown with the line it stands in, right or wrong.
        if kind == ValueKind::Secret && entry.ty().is_none() {
            self.problems.hide(span);
        }
        match written.decode(kind) {
            Ok(value) => Some(Spanned::new(value, span)),
            Err(problem) => {
                self.report(problem);
                None
            }
        }
    }

    fn report(&mut self, problem: Problem) {
        self.out.sound = false;
        // A place whose syntax is broken was explained already.
        if !problem.span.is_some_and(|span| self.problems.is_broken(span)) {
            self.problems.push(problem);
        }
    }

    /// Name, arguments and properties.
    fn head_span(&self) -> Span {
        match self.node.entries().last() {
            Some(last) => self.out.name_span.to(self.entry_span(last)),
            None => self.out.name_span,
        }
    }

    fn entry_span(&self, entry: &KdlEntry) -> Span {
        Span::new(self.file, entry.span().offset(), entry.span().len())
    }

    /// The value of a property without its name; an argument as a whole.
    fn value_span(&self, entry: &KdlEntry) -> Span {
        crate::parse::value_span(self.file, entry)
    }
}

fn example(example: &str) -> Option<String> {
    (!example.is_empty()).then(|| format!("for example: {example}"))
}
