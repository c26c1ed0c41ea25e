//! The structure of a file: nodes, their heads, their blocks. It goes on after every mistake, so that one run shows
//! them all, and it keeps its own stack, so that no nesting can exhaust the thread's.

use std::ops::Range;

use kdl::{KdlDocument, KdlNode};

use crate::parse::head::{Head, Piece};
use crate::parse::lex::{Kind, Lexer, Token, is_space};
use crate::parse::strings::as_quoted;
use crate::parse::{BLOCK_DEPTH_MAX, ITEMS_MAX, SLASHDASH_DEPTH_MAX, SYNTAX_PROBLEMS_MAX};
use crate::problem::{Code, Problem, Problems};

/// Reads the text from `start`.
pub(crate) fn outline(lexer: Lexer<'_>, start: usize, problems: &mut Problems) -> KdlDocument {
    let mut outline = Outline {
        lexer,
        problems,
        at: start,
        stack: Vec::new(),
        top: Vec::new(),
        commented_out: None,
        unclosed: None,
        indent: 0,
        items: 0,
        faults: Vec::new(),
        fault_count: 0,
        stopped: false,
    };
    outline.indent = outline.indent_at(start);
    outline.nodes();
    outline.finish()
}

struct Outline<'t, 'p> {
    lexer: Lexer<'t>,
    problems: &'p mut Problems,
    at: usize,
    /// The blocks that are open.
    stack: Vec<Block>,
    /// The nodes outside of all blocks.
    top: Vec<KdlNode>,
    /// A `/-` that waits for its node.
    commented_out: Option<usize>,
    /// The block that was probably left open, told by the indentation of a later `}`.
    unclosed: Option<usize>,
    /// The indentation of the line in hand, in bytes.
    indent: usize,
    /// Nodes and values so far.
    items: usize,
    /// What is wrong with the node in hand.
    faults: Vec<Problem>,
    fault_count: usize,
    stopped: bool,
}

struct Block {
    nodes: Vec<KdlNode>,
    owner: Owner,
    /// Of the `{`.
    open: usize,
    indent: usize,
    /// Commented out by a `/-` before the `{`.
    skipped: bool,
}

/// The node that a block belongs to.
struct Owner {
    /// `None` where it is commented out or has no name.
    node: Option<KdlNode>,
    start: usize,
    /// Of the line that it begins on, in bytes.
    indent: usize,
    /// Commented out itself by a `/-`.
    skipped: bool,
    has_block: bool,
}

/// How a head ends.
enum HeadEnd {
    Node,
    Block(Token),
    SkippedBlock(Token),
}

impl Outline<'_, '_> {
    fn nodes(&mut self) {
        while !self.stopped {
            let token = self.next();
            match token.kind {
                Kind::End => break,
                Kind::Space | Kind::Newline | Kind::LineComment | Kind::BlockComment | Kind::LineJoin => {}
                Kind::Semicolon => self.fault(
                    Problem::new(Code::Syntax, self.lexer.span(token.range()), "a `;` ends no node")
                        .label("nothing stands before it")
                        .help("leave it out"),
                ),
                Kind::SlashDash => match self.commented_out {
                    None => self.commented_out = Some(token.start),
                    Some(_) => self.fault(
                        Problem::new(Code::Syntax, self.lexer.span(token.range()), "`/-` stands twice")
                            .label("one is enough")
                            .help("one `/-` comments out one node or one value"),
                    ),
                },
                Kind::Close => {
                    self.idle_slashdash();
                    self.close(&token);
                }
                Kind::Open => self.nameless_block(token),
                _ => self.node(token),
            }
            self.flush();
        }
    }

    /// The next token. What is wrong with it is noted; a token that swallows the rest is the last one.
    fn next(&mut self) -> Token {
        let mut token = self.lexer.token(self.at);
        self.at = token.end;
        if token.swallows_rest {
            self.stopped = true;
        }
        if token.kind == Kind::Newline {
            self.indent = self.indent_at(token.end);
        }
        if let Some(problem) = token.fault.take() {
            self.fault(*problem);
        }
        token
    }

    fn fault(&mut self, problem: Problem) {
        self.faults.push(problem);
    }

    /// Hands on what is wrong with the node that ends here.
    fn flush(&mut self) {
        // A missing quote makes words of what was in quotes; then these are no mistakes of their own.
        let quote = self.faults.iter().position(|fault| fault.code == Code::UnterminatedString);
        for (index, fault) in std::mem::take(&mut self.faults).into_iter().enumerate() {
            let caused = quote.is_some_and(|quote| index < quote) && fault.code == Code::MissingSpace;
            if caused || self.fault_count > SYNTAX_PROBLEMS_MAX {
                continue;
            }
            self.fault_count += 1;
            if self.fault_count > SYNTAX_PROBLEMS_MAX {
                let message = format!("the file has more than {SYNTAX_PROBLEMS_MAX} mistakes in its syntax");
                self.problems.push_broken(
                    Problem::new(Code::TooMany, fault.span, message)
                        .label("the rest of the file is not looked at"),
                );
                self.stopped = true;
                continue;
            }
            self.problems.push_broken(fault);
        }
    }

    fn stop(&mut self, problem: Problem) {
        self.fault(problem);
        self.stopped = true;
    }

    fn count(&mut self, items: usize, at: usize) {
        self.items += items;
        if self.items > ITEMS_MAX && !self.stopped {
            let message = format!("the file has more than {ITEMS_MAX} nodes and values");
            self.stop(
                Problem::new(Code::TooMany, self.lexer.span(at..at), message)
                    .label("one too many")
                    .help("many checks are better kept in a list of their own, which `checks-from` reads"),
            );
        }
    }

    fn node(&mut self, first: Token) {
        let skipped = self.commented_out.take().is_some();
        let indent = self.indent;
        let mut head = Head { start: first.start, end: first.end, name_end: first.end, ..Head::default() };
        let end = self.head(&mut head, first);
        self.count(1 + head.pieces.len(), head.start);
        let node = match skipped || self.in_skipped() {
            true => None,
            false => {
                let faults = &mut self.faults;
                Some(head.node(&self.lexer, &mut |problem| faults.push(problem)))
            }
        };
        let owner = Owner { node, start: head.start, indent, skipped, has_block: false };
        match end {
            HeadEnd::Node => self.done(owner),
            HeadEnd::Block(open) => self.open(owner, open, false),
            HeadEnd::SkippedBlock(open) => self.open(owner, open, true),
        }
    }

    fn in_skipped(&self) -> bool {
        self.stack.iter().any(|block| block.skipped || block.owner.skipped)
    }

    /// The node is complete.
    fn done(&mut self, owner: Owner) {
        let Some(node) = owner.node else { return };
        match self.stack.last_mut() {
            Some(block) => block.nodes.push(node),
            None => self.top.push(node),
        }
    }

    fn head(&mut self, head: &mut Head, first: Token) -> HeadEnd {
        let mut token = first;
        if token.kind == Kind::OpenParen {
            head.annotation = self.annotation(&token);
            token = self.next_past_space();
            head.name_end = token.start;
        }
        match token.kind {
            Kind::Bare | Kind::Quoted => {
                head.name = (!token.broken).then(|| token.range());
                head.name_end = token.end;
                head.end = token.end;
            }
            Kind::Newline | Kind::LineComment | Kind::Semicolon | Kind::End | Kind::Open | Kind::Close => {
                self.at = token.start;
                self.no_name(head.start..head.name_end.max(head.start + 1), "an annotation without a node");
            }
            _ => {
                head.name_end = token.end;
                head.end = token.end;
                if !token.broken {
                    let text = self.lexer.slice(token.range());
                    self.no_name(token.range(), &format!("`{text}` cannot be the name of a node"));
                }
            }
        }
        self.entries(head)
    }

    fn no_name(&mut self, range: Range<usize>, message: &str) {
        self.fault(
            Problem::new(Code::MissingName, self.lexer.span(range), message)
                .label("expected the name of a node")
                .help("a line begins with a name, as in: topic \"...\""),
        );
    }

    fn entries(&mut self, head: &mut Head) -> HeadEnd {
        let mut spaced = false;
        while !self.stopped {
            let token = self.next();
            match token.kind {
                Kind::Space | Kind::BlockComment | Kind::LineJoin => spaced = true,
                Kind::Newline | Kind::LineComment | Kind::Semicolon | Kind::End => return HeadEnd::Node,
                Kind::Close => {
                    self.at = token.start;
                    return HeadEnd::Node;
                }
                Kind::Open => return HeadEnd::Block(token),
                Kind::SlashDash => {
                    if let Some(open) = self.skipped_entry(&token) {
                        return HeadEnd::SkippedBlock(open);
                    }
                    spaced = false;
                }
                Kind::Equals => {
                    self.stray_equals(head, &token);
                    spaced = true;
                }
                Kind::CloseParen => self.fault(
                    Problem::new(Code::BadAnnotation, self.lexer.span(token.range()), "a `)` closes nothing")
                        .label("no `(` stands before it"),
                ),
                Kind::OpenParen | Kind::Bare | Kind::Quoted | Kind::Keyword | Kind::Junk => {
                    if !spaced {
                        self.touching(&token);
                    }
                    let comma = self.lexer.slice(token.range()) == ",";
                    let piece = self.piece(token);
                    head.end = piece.span.end;
                    // A comma is an excuse, not a value.
                    if !comma {
                        head.pieces.push(piece);
                    }
                    spaced = false;
                    if self.items + head.pieces.len() > ITEMS_MAX {
                        break;
                    }
                }
            }
        }
        HeadEnd::Node
    }

    fn touching(&mut self, token: &Token) {
        if token.broken {
            return;
        }
        let text = self.lexer.slice(token.range());
        self.fault(
            Problem::new(Code::MissingSpace, self.lexer.span(token.range()), "two values touch each other")
                .label("expected a space before this")
                .help(format!(
                    "write a space before `{}`, or `\\\"` if a quote inside of the text is meant",
                    shortened(text)
                )),
        );
    }

    /// `every = "30s"`: a node is no property.
    fn stray_equals(&mut self, head: &Head, token: &Token) {
        let value_start = self.lexer.until(token.end, |c| !is_space(c));
        let value = self.lexer.token(value_start);
        let is_value = matches!(value.kind, Kind::Bare | Kind::Quoted | Kind::Keyword | Kind::OpenParen);
        let problem = match (&head.name, head.pieces.is_empty()) {
            (Some(name), true) if is_value => {
                let name = self.lexer.slice(name.clone());
                let rest =
                    shortened(self.lexer.slice(value_start..self.lexer.line_end(value_start)).trim_end());
                // What needs quotes gets them in the help too.
                let rest = if value.kind == Kind::Bare && value.broken {
                    as_quoted(self.lexer.slice(value.range()))
                } else {
                    rest.to_owned()
                };
                Problem::new(
                    Code::StrayEquals,
                    self.lexer.span(token.range()),
                    format!("`{name}` stands alone and takes no `=`"),
                )
                .label("no `=` between a node and its value")
                .help(format!("write it as: {name} {rest}"))
            }
            (Some(_), true) => {
                Problem::new(Code::StrayEquals, self.lexer.span(token.range()), "a `=` without a value")
                    .label("no `=` after the name of a node")
            }
            _ => {
                Problem::new(Code::StrayEquals, self.lexer.span(token.range()), "a `=` has no name before it")
                    .label("expected a value or the end of the line")
                    .help("a property is one name, `=`, one value: topic=\"...\"")
            }
        };
        self.fault(problem);
    }

    /// What stands behind a `/-` in a head. A block is left to the caller.
    fn skipped_entry(&mut self, slashdash: &Token) -> Option<Token> {
        loop {
            let token = self.next();
            match token.kind {
                _ if token.is_space() => {}
                Kind::Newline | Kind::LineComment => {}
                Kind::Open => return Some(token),
                Kind::OpenParen | Kind::Bare | Kind::Quoted | Kind::Keyword | Kind::Junk => {
                    self.piece(token);
                    return None;
                }
                _ => {
                    self.at = token.start;
                    self.idle(slashdash.start);
                    return None;
                }
            }
        }
    }

    fn idle_slashdash(&mut self) {
        if let Some(start) = self.commented_out.take() {
            self.idle(start);
        }
    }

    fn idle(&mut self, start: usize) {
        self.fault(
            Problem::new(Code::Syntax, self.lexer.span(start..start + 2), "`/-` comments out nothing")
                .label("expected a node, a value or a block after it"),
        );
    }

    /// An argument, or a property if a `=` follows.
    fn piece(&mut self, first: Token) -> Piece {
        if first.kind == Kind::OpenParen {
            let start = first.start;
            let annotation = self.annotation(&first);
            let value = self.next_past_space();
            let mut piece = self.value(start, annotation, value);
            self.annotated_key(&mut piece);
            return piece;
        }
        if !matches!(first.kind, Kind::Bare | Kind::Quoted) || !self.equals_follows() {
            return self.value(first.start, None, first);
        }
        let key = first.range();
        let key_fault = first.broken;
        let token = self.next_past_space();
        let start = token.start;
        let mut piece = match token.kind {
            Kind::OpenParen => {
                let annotation = self.annotation(&token);
                let value = self.next_past_space();
                self.value(start, annotation, value)
            }
            Kind::Bare | Kind::Quoted | Kind::Keyword | Kind::Junk => self.value(start, None, token),
            _ => {
                self.at = token.start;
                let name = self.lexer.slice(key.clone());
                self.fault(
                    Problem::new(
                        Code::MissingValue,
                        self.lexer.span(key.start..start.min(self.lexer.line_end(key.start))),
                        format!("`{name}` has no value"),
                    )
                    .label("expected a value after the `=`")
                    .help(format!("write it as {name}=\"...\"")),
                );
                Piece { key: None, annotation: None, value: None, span: key.clone() }
            }
        };
        piece.key = (!key_fault).then_some(key);
        piece
    }

    /// `(env)topic="X"`: the annotation belongs to the value.
    fn annotated_key(&mut self, piece: &mut Piece) {
        if piece.value.is_none() || !self.equals_follows() {
            return;
        }
        let key = piece.value.take().map_or("", |range| self.lexer.slice(range));
        let annotation = piece.annotation.take().map_or("", |range| self.lexer.slice(range));
        let value = self.next_past_space();
        let value_text = shortened(self.lexer.slice(value.range())).to_owned();
        self.fault(
            Problem::new(
                Code::BadAnnotation,
                self.lexer.span(piece.span.clone()),
                "an annotation stands before a property's name",
            )
            .label("expected before the value")
            .help(format!("write it as {key}=({annotation}){value_text}")),
        );
        piece.span.end = value.end;
    }

    /// Consumes the `=` if it is what comes next.
    fn equals_follows(&mut self) -> bool {
        let mut at = self.at;
        loop {
            let token = self.lexer.token(at);
            match token.kind {
                Kind::Equals => {
                    self.at = token.end;
                    return true;
                }
                _ if token.is_space() && !token.broken => at = token.end,
                _ => return false,
            }
        }
    }

    fn value(&mut self, start: usize, annotation: Option<Range<usize>>, token: Token) -> Piece {
        let is_value = matches!(token.kind, Kind::Bare | Kind::Quoted | Kind::Keyword);
        if !is_value && !token.broken {
            self.at = token.start;
            self.fault(
                Problem::new(
                    Code::BadAnnotation,
                    self.lexer.span(start..self.lexer_trim(start, token.start)),
                    "an annotation without a value",
                )
                .label("expected a value after it")
                .help("write it as (env)\"NAME\""),
            );
            return Piece {
                key: None,
                annotation: None,
                value: None,
                span: start..token.start.max(start + 1),
            };
        }
        let broken = token.broken;
        Piece { key: None, annotation, value: (!broken).then(|| token.range()), span: start..token.end }
    }

    fn lexer_trim(&self, start: usize, end: usize) -> usize {
        start + self.lexer.slice(start..end).trim_end().len().max(1)
    }

    /// The word in parentheses; the `(` is `open`.
    fn annotation(&mut self, open: &Token) -> Option<Range<usize>> {
        let word = self.next_past_space();
        if !matches!(word.kind, Kind::Bare | Kind::Quoted) {
            if word.kind != Kind::CloseParen {
                self.at = word.start;
            }
            let end = if word.kind == Kind::CloseParen { word.end } else { open.end };
            self.bad_annotation(open.start..end, "expected a word, as in (env)");
            return None;
        }
        let close = self.next_past_space();
        if close.kind != Kind::CloseParen {
            self.at = close.start;
            self.bad_annotation(open.start..word.end, "expected `)` after the word");
            return None;
        }
        (!word.broken).then(|| word.range())
    }

    fn bad_annotation(&mut self, range: Range<usize>, label: &str) {
        self.fault(
            Problem::new(
                Code::BadAnnotation,
                self.lexer.span(range),
                "an annotation is one word in parentheses",
            )
            .label(label)
            .help("write it as (env)\"NAME\"; a text that holds parentheses needs quotes"),
        );
    }

    fn next_past_space(&mut self) -> Token {
        loop {
            let token = self.next();
            if !token.is_space() || self.stopped {
                return token;
            }
        }
    }

    /// A `{` with nothing before it: on the line after its node, or without one.
    fn nameless_block(&mut self, open: Token) {
        let skipped = self.commented_out.take().is_some();
        let siblings = match self.stack.last_mut() {
            Some(block) => &mut block.nodes,
            None => &mut self.top,
        };
        let before = siblings.last().filter(|node| node.children().is_none() && !skipped);
        let only_space = before.is_some_and(|node| {
            let end = node.span().offset() + node.span().len();
            self.lexer.text.get(end..open.start).is_some_and(|between| between.trim().is_empty())
        });
        let span = self.lexer.span(open.range());
        if only_space && let Some(node) = siblings.pop() {
            let name = shortened(node.name().value()).to_owned();
            self.fault(
                Problem::new(
                    Code::MissingName,
                    span,
                    format!("the `{{` of `{name}` stands on a line of its own"),
                )
                .label("belongs on the line above")
                .help(format!("write it as: {name} ... {{")),
            );
            let start = node.span().offset();
            return self.open(
                Owner { node: Some(node), start, indent: self.indent, skipped, has_block: false },
                open,
                false,
            );
        }
        self.fault(
            Problem::new(Code::MissingName, span, "a block stands without a node")
                .label("expected the name of a node before it")
                .help("write it as: name { ... }"),
        );
        let owner =
            Owner { node: None, start: open.start, indent: self.indent, skipped: true, has_block: false };
        self.open(owner, open, false);
    }

    fn open(&mut self, owner: Owner, open: Token, skipped: bool) {
        if self.stack.len() == BLOCK_DEPTH_MAX {
            let message = format!("blocks are nested deeper than {BLOCK_DEPTH_MAX}");
            self.stop(
                Problem::new(Code::TooDeep, self.lexer.span(open.range()), message).label("one too deep"),
            );
        }
        let slashdashes = self.stack.iter().filter(|block| block.skipped || block.owner.skipped).count();
        if (skipped || owner.skipped) && slashdashes == SLASHDASH_DEPTH_MAX {
            let message = format!("`/-` is nested deeper than {SLASHDASH_DEPTH_MAX}");
            self.stop(
                Problem::new(Code::TooDeep, self.lexer.span(open.range()), message)
                    .label("one too deep")
                    .help("what stands in a block that is commented out needs no `/-` of its own"),
            );
        }
        let indent = owner.indent;
        self.stack.push(Block { nodes: Vec::new(), owner, open: open.start, indent, skipped });
    }

    fn indent_at(&self, line_start: usize) -> usize {
        self.lexer.until(line_start, |c| !is_space(c)) - line_start
    }

    fn close(&mut self, token: &Token) {
        let Some(block) = self.stack.pop() else {
            return self.fault(
                Problem::new(Code::StrayBrace, self.lexer.span(token.range()), "a `}` closes no block")
                    .label("no block is open here")
                    .help("one `}` is too many, here or above"),
            );
        };
        let first_on_line =
            self.lexer.slice(0..token.start).chars().rev().find(|c| !is_space(*c)).is_none_or(|c| c == '\n');
        if first_on_line && self.unclosed.is_none() && self.indent < block.indent {
            self.unclosed = Some(block.open);
        }
        let mut owner = block.owner;
        if !block.skipped {
            owner.has_block = true;
            if let Some(node) = &mut owner.node {
                let mut children = KdlDocument::new();
                *children.nodes_mut() = block.nodes;
                children.set_span(block.open..token.end);
                node.set_children(children);
            }
        }
        if let Some(node) = &mut owner.node {
            node.set_span(owner.start..token.end);
        }
        self.after_block(owner);
    }

    /// After a block its node ends, but for blocks that are commented out.
    fn after_block(&mut self, owner: Owner) {
        loop {
            let token = self.next();
            let after = match token.kind {
                _ if token.is_space() => continue,
                Kind::Newline | Kind::LineComment | Kind::Semicolon | Kind::End => return self.done(owner),
                Kind::Close => {
                    self.at = token.start;
                    return self.done(owner);
                }
                Kind::SlashDash => match self.skipped_entry(&token) {
                    Some(open) => return self.open(owner, open, true),
                    None => continue,
                },
                Kind::Open if !owner.has_block => return self.open(owner, token, false),
                _ => token,
            };
            self.at = after.start;
            if !after.broken {
                self.fault(
                    Problem::new(
                        Code::Syntax,
                        self.lexer.span(after.range()),
                        "a node goes on after its block",
                    )
                    .label("expected a new line or `;` before this")
                    .help("arguments and properties stand before the block"),
                );
            } else {
                // It will be read, and complained of, as the beginning of the next node.
                self.faults.pop();
            }
            return self.done(owner);
        }
    }

    fn finish(mut self) -> KdlDocument {
        if !self.stopped {
            self.idle_slashdash();
            if let Some(block) = self.stack.last() {
                let suspect = self.unclosed.unwrap_or(block.open);
                let label = match self.unclosed {
                    Some(_) => "opened here; the indentation below says that it should have ended",
                    None => "opened here, and the file ends",
                };
                let count = match self.stack.len() {
                    1 => "a block is never closed".to_owned(),
                    count => format!("{count} blocks are never closed"),
                };
                let problem = Problem::new(Code::UnclosedBlock, self.lexer.span(suspect..suspect + 1), count)
                    .label(label)
                    .help("close it with `}`");
                self.fault(problem);
            }
        }
        self.flush();
        while let Some(block) = self.stack.pop() {
            let mut owner = block.owner;
            if let Some(node) = &mut owner.node
                && !block.skipped
            {
                let mut children = KdlDocument::new();
                *children.nodes_mut() = block.nodes;
                node.set_children(children);
            }
            self.done(owner);
        }
        let mut document = KdlDocument::new();
        *document.nodes_mut() = self.top;
        document
    }
}

fn shortened(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 80;
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}
