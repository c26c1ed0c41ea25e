//! Words and numbers: what stands in the text without quotes. Here is where most slips are made, so most of this is
//! about telling what was meant.

use crate::parse::lex::{Kind, Lexer, Token, ends_word, is_newline, is_space};
use crate::problem::{Code, Problem};
use crate::quantity::{parse_duration, parse_ranges, parse_size};

pub(crate) fn token(lexer: &Lexer<'_>, start: usize) -> Token {
    let end = lexer.until(start, ends_word);
    let word = lexer.slice(start..end);
    let plain =
        |end| Token { kind: Kind::Bare, start, end, fault: None, broken: false, swallows_rest: false };
    if let Some(problem_end) = foreign_quotes(lexer, start) {
        let inner = lexer.slice(start..problem_end).trim_matches(is_foreign_quote);
        let problem =
            Problem::new(Code::BareValue, lexer.span(start..problem_end), "only \" begins and ends a text")
                .label("quotes of another kind")
                .help(format!("write it as \"{inner}\""));
        return lexer.fault(plain(problem_end), problem);
    }
    let next = lexer.char_at(end);
    match next {
        Some('"' | '#') if word == "r" => old_raw_string(lexer, start),
        Some('/' | '\\' | '[' | ']') if !is_comment_after(lexer, end, word) => unquoted(lexer, start),
        Some('(') if matches!(word, "env" | "file") => call(lexer, start, end),
        Some('{') if word == "$" => shell_variable(lexer, start),
        _ => match word_fault(word) {
            Some(fault) => {
                let problem = Problem::new(fault.code, lexer.span(start..end), fault.message)
                    .label(fault.label)
                    .help(fault.help);
                lexer.fault(plain(end), problem)
            }
            None if is_number(word) => Token { kind: Kind::Number, ..plain(end) },
            None => plain(end),
        },
    }
}

/// Whether what follows the word is a comment and not the rest of a URL or of a path.
fn is_comment_after(lexer: &Lexer<'_>, end: usize, word: &str) -> bool {
    let rest = &lexer.text[end..];
    // KDL reads `https://x` as the word `https:` and a comment. Nobody means that.
    (rest.starts_with("//") && !word.ends_with(':'))
        || rest.starts_with("/*")
        || rest.starts_with("/-")
        || rest.starts_with("\\\n")
        || rest.starts_with("\\\r")
}

fn unquoted(lexer: &Lexer<'_>, start: usize) -> Token {
    let end = lexer.until(start, |c| is_newline(c) || is_space(c) || matches!(c, '"' | ';' | '{' | '}'));
    let word = lexer.slice(start..end);
    let what = if word.contains("://") { "a URL" } else { "a text with such characters" };
    let problem = Problem::new(Code::BareValue, lexer.span(start..end), format!("`{word}` needs quotes"))
        .label(format!("{what} is written in quotes"))
        .help(format!("write it as {}", quoted(word)));
    lexer.fault(
        Token { kind: Kind::Bare, start, end, fault: None, broken: false, swallows_rest: false },
        problem,
    )
}

/// In quotes, raw where that spares escapes.
pub(crate) fn quoted(text: &str) -> String {
    if text.contains(['\\', '"']) && !text.contains("\"#") {
        format!("#\"{text}\"#")
    } else {
        format!("\"{text}\"")
    }
}

fn is_foreign_quote(c: char) -> bool {
    matches!(c, '\'' | '`' | '‘' | '’' | '“' | '”' | '„' | '«' | '»')
}

/// The end of a text in quotes that KDL does not know.
fn foreign_quotes(lexer: &Lexer<'_>, start: usize) -> Option<usize> {
    let open = lexer.char_at(start).filter(|c| is_foreign_quote(*c))?;
    let after = start + open.len_utf8();
    let close = lexer.until(after, |c| is_newline(c) || is_foreign_quote(c));
    match lexer.char_at(close).filter(|c| is_foreign_quote(*c)) {
        Some(quote) => Some(close + quote.len_utf8()),
        None => Some(lexer.until(after, |c| is_newline(c) || is_space(c) || matches!(c, ';' | '{' | '}'))),
    }
}

/// `r"..."` and `r#"..."#`, as KDL 1 wrote them.
fn old_raw_string(lexer: &Lexer<'_>, start: usize) -> Token {
    let hashes = lexer.text[start + 1..].bytes().take_while(|byte| *byte == b'#').count();
    let body = start + 1 + hashes + 1;
    let kind = Kind::Bare;
    let close = format!("\"{}", "#".repeat(hashes.min(64)));
    let line_end = lexer.line_end(start);
    let (end, inner) = match lexer.text.get(body..line_end).and_then(|rest| rest.find(&close)) {
        Some(length) => (body + length + close.len(), lexer.slice(body..body + length)),
        None => (line_end, lexer.slice(body.min(line_end)..line_end)),
    };
    let hash = "#".repeat(hashes.clamp(1, 64));
    let problem = Problem::new(
        Code::OldRawString,
        lexer.span(start..end),
        "a raw string is not written with `r` any more",
    )
    .label("this is how KDL 1 wrote it")
    .help(format!("write it as {hash}\"{inner}\"{hash}"));
    lexer.fault(Token { kind, start, end, fault: None, broken: false, swallows_rest: false }, problem)
}

/// `env("NAME")` instead of `(env)"NAME"`.
fn call(lexer: &Lexer<'_>, start: usize, word_end: usize) -> Token {
    let close = lexer.until(word_end, |c| is_newline(c) || c == ')');
    let end = if lexer.char_at(close) == Some(')') { close + 1 } else { close };
    let word = lexer.slice(start..word_end);
    let inner = lexer.slice(word_end + 1..close).trim().trim_matches(['"', '\'']);
    let problem =
        Problem::new(Code::BadAnnotation, lexer.span(start..end), format!("`{word}` is not a function"))
            .label("the annotation goes in parentheses, before the text")
            .help(format!("write it as ({word})\"{inner}\""));
    lexer.fault(
        Token { kind: Kind::Bare, start, end, fault: None, broken: false, swallows_rest: false },
        problem,
    )
}

/// `${NAME}` instead of `(env)"NAME"`.
fn shell_variable(lexer: &Lexer<'_>, start: usize) -> Token {
    let close = lexer.until(start, |c| is_newline(c) || c == '}');
    let end = if lexer.char_at(close) == Some('}') { close + 1 } else { close };
    let name = lexer.slice(start + 2..close).trim();
    let problem =
        Problem::new(Code::BareValue, lexer.span(start..end), "variables are not written as in a shell")
            .label("expected a value")
            .help(format!("write it as (env)\"{name}\""));
    lexer.fault(
        Token { kind: Kind::Bare, start, end, fault: None, broken: false, swallows_rest: false },
        problem,
    )
}

struct WordFault {
    code: Code,
    message: String,
    label: String,
    help: String,
}

fn word_fault(word: &str) -> Option<WordFault> {
    if matches!(word, "true" | "false" | "null" | "inf" | "-inf" | "nan") {
        return Some(WordFault {
            code: Code::BareKeyword,
            message: format!("`{word}` is written `#{word}`"),
            label: "a keyword begins with `#`".to_owned(),
            help: format!("write it as #{word}, or in quotes if the text is meant"),
        });
    }
    if let Some(value) = word.strip_suffix(',') {
        return Some(WordFault {
            code: Code::BareValue,
            message: "values are separated by spaces, not by commas".to_owned(),
            label: "a comma that KDL would take as a part of the word".to_owned(),
            help: match value {
                "" => "leave the comma out".to_owned(),
                value => format!("write it as {value}, or as \"{word}\" if the comma is meant"),
            },
        });
    }
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    let digits = unsigned.strip_prefix('.').unwrap_or(unsigned);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || is_number(word) {
        return None;
    }
    if is_number_too_large(word) {
        return Some(WordFault {
            code: Code::BadNumber,
            message: format!("the number `{word}` is larger than can be counted"),
            label: "too many digits".to_owned(),
            help: format!("write it as \"{word}\" if a text is meant"),
        });
    }
    let what = if parse_duration(word).is_ok() {
        "a duration is written in quotes"
    } else if parse_size(word).is_ok() {
        "a size is written in quotes"
    } else if parse_ranges(word).is_ok() {
        "a range is written in quotes"
    } else if word.starts_with(['.', '-', '+']) && is_number(&format!("0{unsigned}")) {
        return Some(WordFault {
            code: Code::BadNumber,
            message: format!("`{word}` is not a number"),
            label: "a digit stands before the point".to_owned(),
            help: format!("write it as {}0{unsigned}", word.strip_suffix(unsigned).unwrap_or("")),
        });
    } else {
        "what begins with a digit and is not a number is written in quotes"
    };
    Some(WordFault {
        code: Code::BareValue,
        message: format!("`{word}` needs quotes"),
        label: what.to_owned(),
        help: format!("write it as \"{word}\""),
    })
}

/// Whether KDL reads the word as a number that fits into 128 bits.
fn is_number(word: &str) -> bool {
    number_digits(word).is_some_and(|(digits, radix)| {
        digits.iter().all(|part| i128::from_str_radix(&part.replace('_', ""), radix).is_ok())
    })
}

fn is_number_too_large(word: &str) -> bool {
    number_digits(word).is_some() && !is_number(word)
}

/// The runs of digits of a number, and its base.
fn number_digits(word: &str) -> Option<(Vec<&str>, u32)> {
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    for (prefixes, radix) in [(["0x", "0X"], 16), (["0o", "0O"], 8), (["0b", "0B"], 2)] {
        if let Some(digits) = prefixes.iter().find_map(|prefix| unsigned.strip_prefix(prefix)) {
            return is_digits(digits, radix).then(|| (vec![digits], radix));
        }
    }
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let parts: Vec<&str> = [Some(whole), fraction, exponent].into_iter().flatten().collect();
    parts.iter().all(|part| is_digits(part, 10)).then_some((parts, 10))
}

fn is_digits(text: &str, radix: u32) -> bool {
    text.starts_with(|c: char| c.is_digit(radix)) && text.chars().all(|c| c == '_' || c.is_digit(radix))
}
