//! From `config { }` to the JSON that a plugin is given, held against what the plugin takes.

use std::collections::BTreeMap;

use monmon_stage::matching::PluginSpec;
use monmon_syntax::{
    Code, FreeEntry, FreeValue, Late, Problem, Problems, Resolved, Spanned, World, did_you_mean,
};
use serde_json::{Map, Value, json};

use crate::describe::{Description, Kind, Parameter};

/// A configuration whose types are right. Texts may still be to come.
#[derive(Clone, Debug)]
pub(crate) struct Config(BTreeMap<String, Given>);

#[derive(Clone, Debug)]
struct Given {
    is_list: bool,
    /// For texts that come late: the only ones that may.
    one_of: Vec<String>,
    items: Vec<Item>,
}

#[derive(Clone, Debug)]
enum Item {
    Ready(Value),
    Late(Late),
}

impl Config {
    /// Holds what is given against what the plugin takes; `None` where something was reported.
    pub(crate) fn read(
        spec: &PluginSpec,
        description: &Description,
        problems: &mut Problems,
    ) -> Option<Config> {
        let before = problems.error_count();
        let mut given: BTreeMap<String, Given> = BTreeMap::new();
        let mut first: BTreeMap<&str, &FreeEntry> = BTreeMap::new();
        for entry in &spec.config.entries {
            let Some(parameter) = description.parameter(&entry.name.value) else {
                problems.push(unknown(entry, description));
                continue;
            };
            if let Some(earlier) = first.get(&*parameter.name)
                && !parameter.many
            {
                let message = format!("`{}` is given twice", parameter.name);
                problems.push(
                    Problem::new(Code::RepeatedOption, entry.name.span, message)
                        .label("given again here")
                        .related(earlier.name.span, "first given here"),
                );
                continue;
            }
            first.entry(&parameter.name).or_insert(entry);
            let items = items(parameter, entry, problems);
            let into = given.entry(parameter.name.clone()).or_insert_with(|| Given {
                is_list: parameter.many,
                one_of: parameter.one_of.clone(),
                items: Vec::new(),
            });
            into.items.extend(items);
        }
        for missing in
            description.parameters.iter().filter(|one| one.required && !first.contains_key(&*one.name))
        {
            let message = format!("the plugin `{}` needs `{}`", description.name, missing.name);
            problems.push(
                Problem::new(Code::MissingOption, spec.config_span, message)
                    .label(format!("needs `{}`: {}", missing.name, missing.expected()))
                    .help(missing.help.clone()),
            );
        }
        (problems.error_count() == before).then_some(Config(given))
    }

    /// The JSON, if nothing of it comes late.
    pub(crate) fn ready(&self) -> Option<String> {
        let late = |item: &Item| matches!(item, Item::Late(_));
        let any = self.0.values().flat_map(|given| &given.items).any(late);
        (!any).then(|| self.json(|_| Ok(Value::Null)).unwrap_or_default())
    }

    /// The JSON, with what comes late.
    pub(crate) fn resolve(&self, world: &dyn World) -> Result<String, Problem> {
        self.json(|late| {
            let text = late.resolve(world).map(Resolved::into_string)?;
            Ok(Value::String(text))
        })
    }

    fn json(&self, mut resolve: impl FnMut(&Late) -> Result<Value, Problem>) -> Result<String, Problem> {
        let mut json = Map::new();
        for (name, given) in &self.0 {
            let mut values = Vec::new();
            for item in &given.items {
                match item {
                    Item::Ready(value) => values.push(value.clone()),
                    Item::Late(late) => {
                        let value = resolve(late)?;
                        hold_word(name, &value, late, &given.one_of)?;
                        values.push(value);
                    }
                }
            }
            let value = if given.is_list { Some(Value::Array(values)) } else { values.pop() };
            json.extend(value.map(|value| (name.clone(), value)));
        }
        Ok(Value::Object(json).to_string())
    }
}

/// What came late is not shown.
fn hold_word(name: &str, value: &Value, late: &Late, one_of: &[String]) -> Result<(), Problem> {
    let known =
        one_of.is_empty() || value.as_str().is_some_and(|text| one_of.iter().any(|word| word == text));
    if known {
        return Ok(());
    }
    let message = format!("what was given for `{name}` is none of its words");
    Err(Problem::new(Code::UnknownWord, late.span, message)
        .label(format!("expected one of {}", one_of.join(", "))))
}

fn unknown(entry: &FreeEntry, description: &Description) -> Problem {
    let message = format!("the plugin `{}` takes no `{}`", description.name, entry.name.value);
    let names: Vec<&str> = description.parameters.iter().map(|parameter| &*parameter.name).collect();
    let label = if names.is_empty() {
        "it takes nothing".to_owned()
    } else {
        format!("it takes {}", names.join(", "))
    };
    Problem::new(Code::UnknownOption, entry.name.span, message)
        .label(label)
        .maybe_help(did_you_mean(&entry.name.value, names))
}

fn items(parameter: &Parameter, entry: &FreeEntry, problems: &mut Problems) -> Vec<Item> {
    let name = &parameter.name;
    if entry.values.is_empty() {
        let message = format!("`{name}` has no value");
        problems.push(
            Problem::new(Code::MissingArgument, entry.name.span, message)
                .label(format!("expected {}", parameter.expected()))
                .help(parameter.help.clone()),
        );
    } else if let Some(second) = entry.values.get(1)
        && !parameter.many
    {
        let message = format!("`{name}` takes one value");
        problems.push(Problem::new(Code::ExtraArgument, second.span, message).label("one too many"));
    }
    entry.values.iter().filter_map(|value| item(parameter, value, problems)).collect()
}

fn item(parameter: &Parameter, given: &Spanned<FreeValue>, problems: &mut Problems) -> Option<Item> {
    let value = match (parameter.kind, &given.value) {
        (Kind::Boolean, FreeValue::Bool(flag)) => json!(flag),
        (Kind::Integer | Kind::Number, FreeValue::Integer(number)) => {
            hold_bounds(parameter, *number as f64, given, problems)?;
            json!(number)
        }
        (Kind::Number, FreeValue::Number(number)) => {
            hold_bounds(parameter, *number, given, problems)?;
            json!(number)
        }
        (Kind::Text, FreeValue::Text(late)) => match late.as_literal() {
            None => return Some(Item::Late(late.clone())),
            Some(text) => {
                hold_one_of(parameter, text, given, problems)?;
                json!(text)
            }
        },
        (_, other) => {
            let message = format!("`{}` is {}", parameter.name, other.what());
            problems.push(
                Problem::new(Code::WrongType, given.span, message)
                    .label(format!("expected {}", parameter.expected()))
                    .help(parameter.help.clone()),
            );
            return None;
        }
    };
    Some(Item::Ready(value))
}

fn hold_bounds(
    parameter: &Parameter,
    number: f64,
    given: &Spanned<FreeValue>,
    problems: &mut Problems,
) -> Option<()> {
    let above = parameter.min.is_none_or(|min| number >= min);
    let below = parameter.max.is_none_or(|max| number <= max);
    if above && below {
        return Some(());
    }
    let what = if above { "large" } else { "small" };
    let message = format!("`{}` is too {what}: {number}", parameter.name);
    problems.push(
        Problem::new(Code::OutOfRange, given.span, message)
            .label(format!("expected {}", parameter.expected())),
    );
    None
}

fn hold_one_of(
    parameter: &Parameter,
    text: &str,
    given: &Spanned<FreeValue>,
    problems: &mut Problems,
) -> Option<()> {
    if parameter.one_of.is_empty() || parameter.one_of.iter().any(|word| word == text) {
        return Some(());
    }
    let message = format!("`{text}` is no value of `{}`", parameter.name);
    problems.push(
        Problem::new(Code::UnknownWord, given.span, message)
            .label(format!("expected {}", parameter.expected()))
            .maybe_help(did_you_mean(text, parameter.one_of.iter().map(String::as_str))),
    );
    None
}
