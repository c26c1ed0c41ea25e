//! What is refused before the text is looked at as KDL.

use std::borrow::Cow;

use crate::load::FILE_BYTES_MAX;
use crate::problem::{Code, Problem, Problems};
use crate::span::{FileId, Span};

/// How many forbidden characters are reported one by one.
const FORBIDDEN_SHOWN_MAX: usize = 10;

/// The text with forbidden characters made harmless, and where it begins (after a byte order mark).
pub(crate) fn checked<'t>(
    file: FileId,
    text: &'t str,
    problems: &mut Problems,
) -> Option<(usize, Cow<'t, str>)> {
    if text.len() > FILE_BYTES_MAX {
        problems.push(Problem::new(Code::TooLarge, Span::new(file, 0, 0), "the file is larger than 1MiB"));
        return None;
    }
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut shown = 0;
    for (offset, c) in text[start..].char_indices().filter(|(_, c)| is_forbidden(*c)) {
        let span = Span::new(file, start + offset, c.len_utf8());
        shown += 1;
        if shown > FORBIDDEN_SHOWN_MAX {
            let message = format!("the file has more than {FORBIDDEN_SHOWN_MAX} characters that KDL forbids");
            problems.push(
                Problem::new(Code::ForbiddenCharacter, span, message)
                    .label("the file is not looked at any further"),
            );
            return None;
        }
        problems.push_broken(forbidden(c, span));
    }
    let text = match shown {
        0 => Cow::Borrowed(text),
        _ => text.chars().enumerate().map(|(at, c)| harmless(at, c)).collect::<String>().into(),
    };
    Some((start, text))
}

/// The code points that KDL v2 does not allow to stand in a text as themselves.
fn is_forbidden(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn forbidden(c: char, span: Span) -> Problem {
    let (name, help) = match c {
        '\0' => ("NUL", "the file may be binary, or UTF-16"),
        '\u{1b}' => ("the escape character", "leave it out"),
        '\u{feff}' => ("a byte order mark", "it may only be the first character of a file"),
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => (
            "a character that turns the direction of writing",
            "it makes the text look other than it is; leave it out",
        ),
        _ => ("a control character", "leave it out"),
    };
    Problem::new(
        Code::ForbiddenCharacter,
        span,
        format!("{name}, U+{:04X}, stands in the file", u32::from(c)),
    )
    .label("not allowed in KDL")
    .help(help)
}

/// As long in UTF-8 as what it replaces, so that all spans stay right.
fn harmless(at: usize, c: char) -> char {
    match (c, c.len_utf8()) {
        ('\u{feff}', _) if at == 0 => c,
        (c, 1) if is_forbidden(c) => '_',
        (c, _) if is_forbidden(c) => '\u{fffd}',
        (c, _) => c,
    }
}
