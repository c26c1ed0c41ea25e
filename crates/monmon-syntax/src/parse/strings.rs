//! Texts in quotes: on one line, over several, raw.

use crate::parse::lex::{Kind, Lexer, Token, is_newline, is_space};
use crate::problem::{Code, Problem};

/// How much of a text is repeated in a help line.
const SHOWN_BYTES_MAX: usize = 120;

impl Lexer<'_> {
    pub(crate) fn quoted(&self, start: usize) -> Token {
        let token = Token {
            kind: Kind::Quoted,
            start,
            end: start + 1,
            fault: None,
            broken: false,
            swallows_rest: false,
        };
        if !self.text[start..].starts_with("\"\"\"") {
            return self.single_line(token);
        }
        if self.char_at(start + 3).is_some_and(is_newline) {
            return self.multi_line(token);
        }
        let end = self.triple_end(start + 3, "\"\"\"");
        let problem =
            Problem::new(Code::BadString, self.span(start..start + 3), "a new line must follow `\"\"\"`")
                .label("begins a text over several lines")
                .help("for a text on one line one quote is enough: \"...\"");
        self.fault(Token { end, ..token }, problem)
    }

    /// The end of what was begun with triple quotes in the midst of a line.
    fn triple_end(&self, from: usize, close: &str) -> usize {
        let line_end = self.line_end(from);
        match self.slice(from..line_end).find(close) {
            Some(length) => from + length + close.len(),
            None => line_end,
        }
    }

    fn single_line(&self, token: Token) -> Token {
        let mut at = token.start + 1;
        let mut bad_escape = None;
        loop {
            at = self.until(at, |c| matches!(c, '"' | '\\') || is_newline(c));
            match self.char_at(at) {
                Some('"') => break,
                Some('\\') => match self.escape(at) {
                    Ok(end) => at = end,
                    Err(end) => {
                        bad_escape.get_or_insert(at..end);
                        at = end;
                    }
                },
                _ => return self.unterminated(token, at),
            }
        }
        let token = Token { end: at + 1, ..token };
        match bad_escape {
            None => token,
            Some(escape) => {
                let inner = self.slice(token.start + 1..at);
                let shown = self.slice(escape.clone());
                let help = match inner.len() <= SHOWN_BYTES_MAX && !inner.contains("\\\"") {
                    true => format!("a raw string takes every `\\` as it is: #\"{inner}\"#"),
                    false => "a raw string takes every `\\` as it is: #\"...\"#".to_owned(),
                };
                let message = format!("`{shown}` is no escape that KDL knows");
                let problem = Problem::new(Code::BadEscape, self.span(escape), message)
                    .label("expected \\\\ \\\" \\n \\r \\t \\b \\f \\s or \\u{...}")
                    .help(help);
                self.fault(token, problem)
            }
        }
    }

    /// The end of the escape at `at`; of a wrong one what is to be shown of it.
    fn escape(&self, at: usize) -> Result<usize, usize> {
        let after = at + 1;
        match self.char_at(after) {
            Some('\\' | '"' | 'b' | 'f' | 'n' | 'r' | 't' | 's') => Ok(after + 1),
            Some('u') if self.text[after + 1..].starts_with('{') => {
                let digits = after + 2;
                let end = self.until(digits, |c| !c.is_ascii_hexdigit());
                let code = u32::from_str_radix(self.slice(digits..end), 16).ok();
                let known = (1..=6).contains(&(end - digits)) && code.and_then(char::from_u32).is_some();
                match self.char_at(end) == Some('}') {
                    true if known => Ok(end + 1),
                    true => Err(end + 1),
                    false => Err(end),
                }
            }
            Some(c) if is_space(c) || is_newline(c) => {
                Ok(self.until(after, |c| !is_space(c) && !is_newline(c)))
            }
            Some(c) => Err(after + c.len_utf8()),
            None => Err(after),
        }
    }

    fn unterminated(&self, token: Token, end: usize) -> Token {
        // The line that it begins on is all that it takes: what follows is most likely not a part of it, and neither
        // is a block that is opened at the end of the line.
        let end = end.min(self.line_end(token.start));
        let line = self.slice(token.start + 1..end).trim_end();
        let end = token.start + 1 + line.strip_suffix('{').unwrap_or(line).len();
        let text = self.slice(token.start + 1..end).trim_end();
        let help = match text.len() <= SHOWN_BYTES_MAX && !text.contains(['"', ' ', '\\']) && !text.is_empty()
        {
            true => format!("close it on the same line: \"{text}\""),
            false => "close it with `\"` on the same line; a text over several lines stands between `\"\"\"`"
                .to_owned(),
        };
        let end = token.start + 1 + self.slice(token.start + 1..end).trim_end_matches(is_space).len();
        let problem =
            Problem::new(Code::UnterminatedString, self.span(token.start..end), "a text is never closed")
                .label("opened here, and the line ends")
                .help(help);
        self.fault(Token { end, ..token }, problem)
    }

    fn multi_line(&self, token: Token) -> Token {
        let mut at = token.start + 3;
        let mut bad_escape = None;
        loop {
            at = self.until(at, |c| matches!(c, '"' | '\\'));
            match self.char_at(at) {
                Some('"') if self.text[at..].starts_with("\"\"\"") => break,
                Some('"') => at += 1,
                Some('\\') => match self.escape(at) {
                    Ok(end) => at = end,
                    Err(end) => {
                        bad_escape.get_or_insert(at..end);
                        at = end;
                    }
                },
                _ => return self.never_closed(token, "\"\"\""),
            }
        }
        let token = Token { end: at + 3, ..token };
        if let Some(escape) = bad_escape {
            let message = format!("`{}` is no escape that KDL knows", self.slice(escape.clone()));
            let problem = Problem::new(Code::BadEscape, self.span(escape), message)
                .label("expected \\\\ \\\" \\n \\r \\t \\b \\f \\s or \\u{...}")
                .help("a raw string takes every `\\` as it is: #\"\"\" ... \"\"\"#");
            return self.fault(token, problem);
        }
        let body = token.start + 3..at;
        // With joined lines the rules are KDL's own to apply.
        match self.slice(body.clone()).contains('\\') {
            true => token,
            false => self.check_indent(token, body),
        }
    }

    /// All lines of a text over several begin as its last one does.
    fn check_indent(&self, token: Token, body: std::ops::Range<usize>) -> Token {
        let text = self.slice(body.clone());
        let last =
            text.rfind(is_newline).map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
        let indent = &text[last..];
        if !indent.chars().all(is_space) {
            let at = body.start + last;
            let problem = Problem::new(
                Code::BadString,
                self.span(at..body.end),
                "the closing quotes stand on a line of their own",
            )
            .label("text before the closing quotes")
            .help(
                "put the closing quotes on the next line; the new line before them is not part of the text",
            );
            return self.fault(token, problem);
        }
        let mut at = body.start;
        for line in text[..last].split(is_newline) {
            let blank = line.chars().all(is_space);
            if !blank && !line.starts_with(indent) {
                let shown = self.span(at..at + line.len());
                let closing = self.span(body.end - indent.len()..body.end + 3);
                let problem =
                    Problem::new(Code::BadString, shown, "a line is indented less than the closing quotes")
                        .label("expected at least the indentation of the closing quotes")
                        .related(closing, "the indentation to have")
                        .help("the indentation of the closing quotes is taken off every line");
                return self.fault(token, problem);
            }
            at += line.len();
            at += self.char_at(at).map_or(0, char::len_utf8);
        }
        token
    }

    pub(crate) fn raw(&self, start: usize) -> Token {
        let hashes = self.text[start..].bytes().take_while(|byte| *byte == b'#').count();
        let hash = self.slice(start..start + hashes);
        let open = start + hashes;
        let token = Token {
            kind: Kind::Quoted,
            start,
            end: open + 1,
            fault: None,
            broken: false,
            swallows_rest: false,
        };
        if self.text[open..].starts_with("\"\"\"") && self.char_at(open + 3).is_some_and(is_newline) {
            let close = format!("\"\"\"{hash}");
            return match self.text[open + 3..].find(&close) {
                None => self.never_closed(token, &close),
                Some(length) => {
                    let at = open + 3 + length;
                    self.check_indent(Token { end: at + close.len(), ..token }, open + 3..at)
                }
            };
        }
        let close = format!("\"{hash}");
        let line_end = self.line_end(open);
        let body = self.slice(open + 1..line_end);
        match body.find(&close) {
            Some(length) if &body[..length] == "\"" => {
                let end = open + 1 + length + close.len();
                let problem = Problem::new(
                    Code::BadString,
                    self.span(start..end),
                    "a raw string of one quote looks like three",
                )
                .label("reads as the beginning of a text over several lines")
                .help("write it as \"\\\"\"");
                self.fault(Token { end, ..token }, problem)
            }
            Some(length) => Token { end: open + 1 + length + close.len(), ..token },
            None => {
                let end = open + 1 + body.trim_end_matches(is_space).len();
                let help = match body.rfind('"') {
                    Some(at) if end - open < SHOWN_BYTES_MAX => {
                        format!("it ends with as many `#` as it begins with: {hash}\"{}\"{hash}", &body[..at])
                    }
                    _ => format!("close it with `{}` on the same line", shown_close(&close)),
                };
                let problem = Problem::new(
                    Code::UnterminatedString,
                    self.span(start..end),
                    "a raw text is never closed",
                )
                .label("opened here, and the line ends")
                .help(help);
                self.fault(Token { end, ..token }, problem)
            }
        }
    }

    fn never_closed(&self, token: Token, close: &str) -> Token {
        let first_line = self.span(token.start..self.line_end(token.start));
        let problem =
            Problem::new(Code::UnterminatedString, first_line, "a text over several lines is never closed")
                .label("opened here, and the file ends")
                .help(format!("close it with `{}` on a line of its own", shown_close(close)));
        self.fault(Token { end: self.text.len(), swallows_rest: true, ..token }, problem)
    }
}

fn shown_close(close: &str) -> &str {
    close.get(..SHOWN_BYTES_MAX).unwrap_or(close)
}
