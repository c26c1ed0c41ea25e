//! The forms of a page, as a browser would see them, from its tokens: what is broken does not matter.

use std::collections::BTreeSet;

use html5gum::{DefaultEmitter, StartTag, Token, Tokenizer};

/// Forms beyond this many are not looked at.
const FORMS_MAX: usize = 200;
/// Fields of one form, and buttons that send it elsewhere.
const FIELDS_MAX: usize = 500;

#[derive(Debug, Default)]
pub struct Page {
    pub base: Option<String>,
    pub forms: Vec<Form>,
}

#[derive(Debug, Default)]
pub struct Form {
    id: Option<String>,
    /// As written; empty for the page's own URL.
    pub action: String,
    /// `get`, `post` or `dialog`.
    pub method: String,
    /// Where buttons send it.
    pub elsewhere: Vec<String>,
    pub fields: BTreeSet<String>,
}

/// A field outside of the form that it names.
struct Stray {
    form: String,
    name: String,
    elsewhere: Option<String>,
}

pub fn forms(body: &[u8]) -> Page {
    let mut page = Page::default();
    let mut strays: Vec<Stray> = Vec::new();
    let mut open = None;
    // What stands in a script or a text area is no tag.
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    for token in Tokenizer::new_with_emitter(body, emitter).flatten() {
        match token {
            Token::StartTag(tag) => match &tag.name[..] {
                b"base" if page.base.is_none() => page.base = attribute(&tag, b"href"),
                // A form in a form is none.
                b"form" if open.is_none() && page.forms.len() < FORMS_MAX => {
                    page.forms.push(form(&tag));
                    open = Some(page.forms.len() - 1);
                }
                b"input" | b"select" | b"textarea" | b"button" => {
                    let name = attribute(&tag, b"name").unwrap_or_default();
                    let elsewhere = attribute(&tag, b"formaction");
                    match (attribute(&tag, b"form"), open) {
                        (Some(form), _) if strays.len() < FIELDS_MAX => {
                            strays.push(Stray { form, name, elsewhere });
                        }
                        (None, Some(at)) => page.forms[at].add(name, elsewhere),
                        _ => {}
                    }
                }
                _ => {}
            },
            Token::EndTag(tag) if tag.name[..] == *b"form" => open = None,
            _ => {}
        }
    }
    for stray in strays {
        if let Some(form) = page.forms.iter_mut().find(|form| form.id.as_ref() == Some(&stray.form)) {
            form.add(stray.name, stray.elsewhere);
        }
    }
    page
}

impl Form {
    fn add(&mut self, name: String, elsewhere: Option<String>) {
        if !name.is_empty() && self.fields.len() < FIELDS_MAX {
            self.fields.insert(name);
        }
        if self.elsewhere.len() < FIELDS_MAX {
            self.elsewhere.extend(elsewhere);
        }
    }
}

fn form(tag: &StartTag<()>) -> Form {
    let method = attribute(tag, b"method").unwrap_or_default().trim().to_ascii_lowercase();
    let method = if ["post", "dialog"].contains(&&*method) { method } else { "get".to_owned() };
    let action = attribute(tag, b"action").unwrap_or_default();
    Form { id: attribute(tag, b"id"), action, method, ..Form::default() }
}

fn attribute(tag: &StartTag<()>, name: &[u8]) -> Option<String> {
    tag.attributes.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
}
