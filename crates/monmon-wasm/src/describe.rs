//! What a plugin says of itself, held against what may be said.

use serde::{Deserialize, Serialize};

use crate::PluginError;
use crate::bindings::monmon::matcher::types;
use crate::log::line;

/// Most parameters of a plugin.
const PARAMETERS_MAX: usize = 64;
/// Most words of a parameter that takes only some.
const WORDS_MAX: usize = 64;
const NAME_CHARS_MAX: usize = 64;
const HELP_CHARS_MAX: usize = 400;

/// What a plugin is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub help: String,
    pub needs_body: bool,
    pub needs_headers: bool,
    pub parameters: Vec<Parameter>,
}

/// One thing that `config { }` may say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    pub name: String,
    pub kind: Kind,
    pub many: bool,
    pub required: bool,
    pub default: Option<String>,
    /// Empty if any is.
    pub one_of: Vec<String>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Boolean,
    Integer,
    Number,
    Text,
}

impl Description {
    pub(crate) fn read(said: types::Description) -> Result<Description, PluginError> {
        let name = word("name", &said.name)?;
        if said.parameters.len() > PARAMETERS_MAX {
            return Err(wrong(format!("it has more than {PARAMETERS_MAX} parameters")));
        }
        let mut parameters: Vec<Parameter> = Vec::new();
        for parameter in said.parameters {
            let parameter = Parameter::read(parameter)?;
            if parameters.iter().any(|known| known.name == parameter.name) {
                return Err(wrong(format!("two parameters are named `{}`", parameter.name)));
            }
            parameters.push(parameter);
        }
        Ok(Description {
            name,
            version: word("version", &said.version)?,
            help: help(&said.help)?,
            needs_body: said.needs.contains(types::Needs::BODY),
            needs_headers: said.needs.contains(types::Needs::HEADERS),
            parameters,
        })
    }

    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

impl Parameter {
    fn read(said: types::Parameter) -> Result<Parameter, PluginError> {
        let name = said.name;
        let mut chars = name.chars();
        let begins = chars.next().is_some_and(|first| first.is_ascii_lowercase());
        let goes_on = chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !begins || !goes_on || name.len() > NAME_CHARS_MAX {
            return Err(wrong(format!("`{}` cannot be a parameter's name", line(&name))));
        }
        let kind = match said.kind {
            types::Kind::Boolean => Kind::Boolean,
            types::Kind::Integer => Kind::Integer,
            types::Kind::Number => Kind::Number,
            types::Kind::Text => Kind::Text,
        };
        let is_number = matches!(kind, Kind::Integer | Kind::Number);
        let bounds = [said.min, said.max].into_iter().flatten();
        if bounds.clone().any(|bound| !bound.is_finite() || !is_number) {
            return Err(wrong(format!("the bounds of `{name}` are none")));
        }
        if said.one_of.len() > WORDS_MAX || (!said.one_of.is_empty() && kind != Kind::Text) {
            return Err(wrong(format!("`one-of` of `{name}` is not a list of at most {WORDS_MAX} texts")));
        }
        let one_of = said.one_of.iter().map(|one| word("word", one)).collect::<Result<_, _>>()?;
        Ok(Parameter {
            kind,
            many: said.many,
            required: said.required,
            default: said.default.as_deref().map(help).transpose()?,
            one_of,
            min: said.min,
            max: said.max,
            help: help(&said.help)?,
            name,
        })
    }

    /// What is expected, for labels and for lists of parameters.
    pub fn expected(&self) -> String {
        let one = match self.kind {
            Kind::Boolean => "#true or #false".to_owned(),
            Kind::Integer => format!("a whole number{}", self.range()),
            Kind::Number => format!("a number{}", self.range()),
            Kind::Text if self.one_of.is_empty() => "a text".to_owned(),
            Kind::Text => {
                let words: Vec<String> = self.one_of.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", words.join(", "))
            }
        };
        if self.many { format!("any number of values, each {one}") } else { one }
    }

    fn range(&self) -> String {
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!(" from {min} to {max}"),
            (Some(min), None) => format!(" of at least {min}"),
            (None, Some(max)) => format!(" of at most {max}"),
            (None, None) => String::new(),
        }
    }
}

fn wrong(message: String) -> PluginError {
    PluginError::Description(message)
}

fn word(what: &str, text: &str) -> Result<String, PluginError> {
    let plain = line(text) == text && !text.trim().is_empty();
    if plain && text.chars().count() <= NAME_CHARS_MAX {
        Ok(text.to_owned())
    } else {
        Err(wrong(format!("its {what} is not a short text: `{}`", line(text))))
    }
}

fn help(text: &str) -> Result<String, PluginError> {
    if text.chars().count() <= HELP_CHARS_MAX {
        Ok(line(text))
    } else {
        Err(wrong(format!("a text of help is longer than {HELP_CHARS_MAX} characters")))
    }
}
