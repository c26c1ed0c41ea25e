//! Tokens of KDL v2, read one at a time at any place of the text. A token that is not as it should be ends where its
//! writer most likely meant it to end, and carries what is wrong with it.

use std::ops::Range;

use crate::nearest::nearest;
use crate::parse::bare;
use crate::problem::{Code, Problem};
use crate::span::{FileId, Span};

/// How deep `/*` may nest.
pub(crate) const COMMENT_DEPTH_MAX: usize = 8;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Kind {
    End,
    Space,
    Newline,
    LineComment,
    BlockComment,
    /// A `\` that joins two lines.
    LineJoin,
    SlashDash,
    Open,
    Close,
    OpenParen,
    CloseParen,
    Equals,
    Semicolon,
    /// Without quotes: a word.
    Bare,
    /// Without quotes: a number.
    Number,
    /// In quotes of any kind.
    Quoted,
    /// `#true` and the like.
    Keyword,
    /// What can be no part of KDL.
    Junk,
}

#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) fault: Option<Box<Problem>>,
    /// Whether there is, or was, a fault.
    pub(crate) broken: bool,
    /// The rest of the file is inside of this token.
    pub(crate) swallows_rest: bool,
}

impl Token {
    pub(crate) fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Space that does not end a node.
    pub(crate) fn is_space(&self) -> bool {
        matches!(self.kind, Kind::Space | Kind::BlockComment | Kind::LineJoin)
    }
}

pub(crate) struct Lexer<'t> {
    pub(crate) file: FileId,
    pub(crate) text: &'t str,
}

pub(crate) fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{b}' | '\u{c}' | '\u{2028}' | '\u{2029}')
}

pub(crate) fn is_space(c: char) -> bool {
    matches!(
        c,
        '\t' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

/// The characters that end a word.
pub(crate) fn ends_word(c: char) -> bool {
    is_newline(c)
        || is_space(c)
        || matches!(c, '\\' | '/' | '(' | ')' | '{' | '}' | '[' | ']' | ';' | '"' | '#' | '=')
}

impl<'t> Lexer<'t> {
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        Span::new(self.file, range.start, range.end.saturating_sub(range.start))
    }

    pub(crate) fn slice(&self, range: Range<usize>) -> &'t str {
        self.text.get(range).unwrap_or("")
    }

    pub(crate) fn char_at(&self, at: usize) -> Option<char> {
        self.text.get(at..).and_then(|rest| rest.chars().next())
    }

    /// From `at` to the first character that `stop` says, or the end.
    pub(crate) fn until(&self, at: usize, stop: impl Fn(char) -> bool) -> usize {
        self.text[at..].find(stop).map_or(self.text.len(), |length| at + length)
    }

    pub(crate) fn line_end(&self, at: usize) -> usize {
        self.until(at, is_newline)
    }

    pub(crate) fn token(&self, at: usize) -> Token {
        let plain =
            |kind, end| Token { kind, start: at, end, fault: None, broken: false, swallows_rest: false };
        let Some(c) = self.char_at(at) else { return plain(Kind::End, at) };
        let rest = &self.text[at..];
        match c {
            '\r' if rest.starts_with("\r\n") => plain(Kind::Newline, at + 2),
            c if is_newline(c) => plain(Kind::Newline, at + c.len_utf8()),
            c if is_space(c) => plain(Kind::Space, self.until(at, |c| !is_space(c))),
            '/' if rest.starts_with("//") => plain(Kind::LineComment, self.line_end(at)),
            '/' if rest.starts_with("/*") => self.block_comment(at),
            '/' if rest.starts_with("/-") => plain(Kind::SlashDash, at + 2),
            '\\' => match self.line_join(at) {
                Some(end) => plain(Kind::LineJoin, end),
                None => self.junk(at),
            },
            '{' => plain(Kind::Open, at + 1),
            '}' => plain(Kind::Close, at + 1),
            '(' => plain(Kind::OpenParen, at + 1),
            ')' => plain(Kind::CloseParen, at + 1),
            '=' => plain(Kind::Equals, at + 1),
            ';' => plain(Kind::Semicolon, at + 1),
            '"' => self.quoted(at),
            '#' => match rest.trim_start_matches('#').starts_with('"') {
                true => self.raw(at),
                false => self.keyword(at),
            },
            '/' | '[' | ']' => self.junk(at),
            _ => bare::token(self, at),
        }
    }

    pub(crate) fn fault(&self, token: Token, problem: Problem) -> Token {
        Token { fault: Some(Box::new(problem)), broken: true, ..token }
    }

    /// `\`, then nothing but space and a comment to the end of the line.
    fn line_join(&self, at: usize) -> Option<usize> {
        let mut at = at + 1;
        loop {
            let token = match self.char_at(at) {
                // Only what may follow is read: a long string after the `\` is not.
                Some(c) if is_newline(c) || is_space(c) || c == '/' => self.token(at),
                None => return Some(at),
                Some(_) => return None,
            };
            match token.kind {
                Kind::Newline => return Some(token.end),
                Kind::Space | Kind::LineComment => at = token.end,
                Kind::BlockComment if token.fault.is_none() => at = token.end,
                _ => return None,
            }
        }
    }

    fn block_comment(&self, start: usize) -> Token {
        let bytes = self.text.as_bytes();
        let mut opened = vec![start];
        let mut deepest: Option<usize> = None;
        let mut at = start + 2;
        while !opened.is_empty() && at < bytes.len() {
            match bytes[at..] {
                [b'*', b'/', ..] => {
                    opened.pop();
                    at += 2;
                }
                [b'/', b'*', ..] => {
                    if opened.len() == COMMENT_DEPTH_MAX {
                        deepest = Some(at);
                        break;
                    }
                    opened.push(at);
                    at += 2;
                }
                _ => at += 1,
            }
        }
        let mut token = Token {
            kind: Kind::BlockComment,
            start,
            end: at,
            fault: None,
            broken: false,
            swallows_rest: !opened.is_empty(),
        };
        if let Some(deepest) = deepest {
            token.end = self.text.len();
            let message = format!("comments are nested deeper than {COMMENT_DEPTH_MAX}");
            return self.fault(
                token,
                Problem::new(Code::TooDeep, self.span(deepest..deepest + 2), message).label("one too deep"),
            );
        }
        match opened.last() {
            None => token,
            Some(open) => {
                let problem = Problem::new(
                    Code::UnterminatedComment,
                    self.span(*open..*open + 2),
                    "a comment is never closed",
                )
                .label("opened here")
                .help("close it with `*/`; comments nest, so each `/*` needs its own");
                self.fault(token, problem)
            }
        }
    }

    fn keyword(&self, start: usize) -> Token {
        const KEYWORDS: [&str; 6] = ["#true", "#false", "#null", "#inf", "#-inf", "#nan"];
        let end = self.until(start + 1, ends_word);
        let word = self.slice(start..end);
        let token =
            Token { kind: Kind::Keyword, start, end, fault: None, broken: false, swallows_rest: false };
        if KEYWORDS.contains(&word) {
            return token;
        }
        // A colour or an anchor, and not a keyword, is a text.
        let end = self
            .until(start, |c| is_newline(c) || is_space(c) || matches!(c, ';' | '{' | '}' | '"'))
            .max(end);
        let word = self.slice(start..end);
        let help = match nearest(&word.to_lowercase(), KEYWORDS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("a text that begins with `#` needs quotes: \"{word}\""),
        };
        let problem =
            Problem::new(Code::BareKeyword, self.span(start..end), format!("`{word}` is no keyword"))
                .label("KDL has #true, #false, #null, #inf, #-inf and #nan")
                .help(help);
        self.fault(Token { end, ..token }, problem)
    }

    fn junk(&self, start: usize) -> Token {
        let mut end =
            self.until(start + 1, |c| is_newline(c) || is_space(c) || matches!(c, ';' | '{' | '}' | '"'));
        // A list is one mistake, not one for each of its commas.
        if self.text[start..].starts_with('[') {
            let close = self.until(start, |c| is_newline(c) || c == ']');
            if self.char_at(close) == Some(']') {
                end = close + 1;
            }
        }
        let word = self.slice(start..end);
        let (message, help) = match word.as_bytes().first() {
            Some(b'[' | b']') => (
                "KDL has no lists in brackets".to_owned(),
                "write the values side by side, as in: name \"one\" \"two\"".to_owned(),
            ),
            Some(b'\\') => (
                "a `\\` joins two lines and must be the last on its line".to_owned(),
                "a text that holds `\\` needs quotes, best raw ones: #\"\\d+\"#".to_owned(),
            ),
            _ => (format!("`{word}` needs quotes"), format!("write it as \"{word}\"")),
        };
        let problem = Problem::new(Code::BareValue, self.span(start..end), message)
            .label("expected a word or a value")
            .help(help);
        self.fault(
            Token { kind: Kind::Junk, start, end, fault: None, broken: false, swallows_rest: false },
            problem,
        )
    }
}
