//! Reads the head of a node, token by token, and says what is wrong with it.

use std::ops::Range;

use crate::parse::ITEMS_MAX;
use crate::parse::bare::quoted;
use crate::parse::head::{Head, Piece};
use crate::parse::lex::{Kind, Token, is_space};
use crate::parse::outline::{HeadEnd, Outline, shortened};
use crate::problem::{Code, Problem};

impl Outline<'_, '_> {
    pub(crate) fn head(&mut self, head: &mut Head, first: Token) -> HeadEnd {
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
                self.back(&token);
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
                    self.back(&token);
                    return HeadEnd::Node;
                }
                Kind::Open => return HeadEnd::Block(token),
                Kind::SlashDash => {
                    if !spaced {
                        self.touching(&token);
                    }
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
                Kind::OpenParen | Kind::Bare | Kind::Quoted | Kind::Number | Kind::Keyword | Kind::Junk => {
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
                    spaced = comma;
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
        let message = match token.kind {
            Kind::SlashDash => "a `/-` touches what stands before it",
            _ => "two values touch each other",
        };
        self.fault(
            Problem::new(Code::MissingSpace, self.lexer.span(token.range()), message)
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
        let is_value =
            matches!(value.kind, Kind::Bare | Kind::Quoted | Kind::Number | Kind::Keyword | Kind::OpenParen);
        let problem = match (&head.name, head.pieces.is_empty()) {
            (Some(name), true) if is_value => {
                let name = self.lexer.slice(name.clone());
                let rest =
                    shortened(self.lexer.slice(value_start..self.lexer.line_end(value_start)).trim_end());
                // What needs quotes gets them in the help too.
                let rest = if value.kind == Kind::Bare && value.broken {
                    quoted(self.lexer.slice(value.range()))
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
    pub(crate) fn skipped_entry(&mut self, slashdash: &Token) -> Option<Token> {
        loop {
            let token = self.next();
            match token.kind {
                _ if token.is_space() => {}
                Kind::Newline | Kind::LineComment => {}
                Kind::Open => return Some(token),
                Kind::OpenParen | Kind::Bare | Kind::Quoted | Kind::Number | Kind::Keyword | Kind::Junk => {
                    self.piece(token);
                    return None;
                }
                _ => {
                    self.back(&token);
                    self.idle(slashdash.start);
                    return None;
                }
            }
        }
    }

    pub(crate) fn idle_slashdash(&mut self) {
        if let Some(start) = self.commented_out.take() {
            self.idle(start);
        }
    }

    pub(crate) fn idle(&mut self, start: usize) {
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
        let equals_end = self.at;
        let token = self.next_past_space();
        let start = token.start;
        let mut piece = match token.kind {
            // `interval= timeout="1s"`: a name and not the value.
            Kind::Bare if start > equals_end && !token.broken && self.equals_follows() => {
                self.at = equals_end;
                self.no_value(&key, equals_end)
            }
            Kind::OpenParen => {
                let annotation = self.annotation(&token);
                let value = self.next_past_space();
                self.value(start, annotation, value)
            }
            Kind::Bare | Kind::Quoted | Kind::Number | Kind::Keyword | Kind::Junk => {
                self.value(start, None, token)
            }
            _ => {
                self.back(&token);
                self.no_value(&key, equals_end)
            }
        };
        piece.key = (!first.broken).then_some(key);
        piece
    }

    fn no_value(&mut self, key: &Range<usize>, end: usize) -> Piece {
        let name = self.lexer.slice(key.clone());
        self.fault(
            Problem::new(
                Code::MissingValue,
                self.lexer.span(key.start..end),
                format!("`{name}` has no value"),
            )
            .label("expected a value right after the `=`")
            .help(format!("write it as {}=\"...\"", shortened(name))),
        );
        Piece { key: None, annotation: None, value: None, span: key.start..end }
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
        let is_value = matches!(token.kind, Kind::Bare | Kind::Quoted | Kind::Number | Kind::Keyword);
        if !is_value && !token.broken {
            self.back(&token);
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
                self.back(&word);
            }
            let end = if word.kind == Kind::CloseParen { word.end } else { open.end };
            self.bad_annotation(open.start..end, "expected a word, as in (env)");
            return None;
        }
        let close = self.next_past_space();
        if close.kind != Kind::CloseParen {
            self.back(&close);
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
}
