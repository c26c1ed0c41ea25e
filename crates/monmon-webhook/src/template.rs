//! Bodies as the pipeline file gives them: JSON with fields in its texts.
//!
//! Fields are put into the values of parsed JSON, never into JSON's text, so whatever a page or a reason holds stays within
//! the quotes that it was put into.

use monmon_model::Incident;
use monmon_syntax::did_you_mean;
use serde_json::{Map, Value, json};

use crate::format::{duration_s, summary};

/// Longest template, in bytes.
pub(crate) const TEMPLATE_BYTES_MAX: usize = 64 << 10;

/// A label of the check, by its name.
const LABEL: &str = "check.labels.";

type Get = fn(&Incident) -> Value;

/// The fields, as `docs/incidents.md` lists them.
static FIELDS: &[(&str, Get)] = &[
    ("check.id", |incident| json!(incident.check.id)),
    ("check.labels", |incident| json!(incident.check.labels)),
    ("check.method", |incident| json!(incident.check.method)),
    ("check.name", |incident| json!(incident.check.name)),
    ("check.pipeline", |incident| json!(incident.check.pipeline)),
    ("check.source", |incident| json!(incident.check.source)),
    ("check.url", |incident| json!(incident.check.url)),
    ("incident.began_at", |incident| json!(incident.began_at)),
    ("incident.closed_at", |incident| json!(incident.closed_at)),
    ("incident.detector", |incident| json!(incident.detector)),
    ("incident.duration_s", |incident| json!(duration_s(incident))),
    ("incident.flapping", |incident| json!(incident.flapping)),
    ("incident.id", |incident| json!(incident.id)),
    ("incident.last_bad_at", |incident| json!(incident.last_bad_at)),
    ("incident.opened_at", |incident| json!(incident.opened_at)),
    ("incident.pipeline", |incident| json!(incident.pipeline)),
    ("incident.probers", |incident| json!(incident.probers)),
    ("incident.reason", |incident| json!(incident.reason)),
    ("incident.recovered_at", |incident| json!(incident.recovered_at)),
    ("incident.revision", |incident| json!(incident.revision)),
    ("incident.state", |incident| json!(incident.state())),
    ("incident.summary", |incident| json!(summary(incident))),
];

/// A template that was read.
#[derive(Clone, Debug)]
pub(crate) enum Template {
    /// A field alone keeps its type.
    Field(Field),
    Text(Vec<Part>),
    List(Vec<Template>),
    Object(Vec<(String, Template)>),
    Fixed(Value),
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    Literal(String),
    Field(Field),
}

#[derive(Clone)]
pub(crate) enum Field {
    Known(Get),
    Label(String),
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Field")
    }
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    /// Text in the template at which it is.
    pub(crate) near: Option<String>,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Template, Vec<Fault>> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            vec![Fault { message: format!("the body is not JSON: {error}"), help: None, near: None }]
        })?;
        let mut faults = Vec::new();
        let template = compile(value, &mut faults);
        if faults.is_empty() { Ok(template) } else { Err(faults) }
    }

    pub(crate) fn fill(&self, incident: &Incident) -> Value {
        match self {
            Template::Field(field) => field.get(incident),
            Template::Text(parts) => Value::String(parts.iter().map(|part| part.text(incident)).collect()),
            Template::List(list) => list.iter().map(|one| one.fill(incident)).collect(),
            Template::Object(object) => {
                let filled: Map<String, Value> =
                    object.iter().map(|(name, one)| (name.clone(), one.fill(incident))).collect();
                Value::Object(filled)
            }
            Template::Fixed(value) => value.clone(),
        }
    }
}

impl Part {
    fn text(&self, incident: &Incident) -> String {
        match self {
            Part::Literal(text) => text.clone(),
            Part::Field(field) => match field.get(incident) {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => other.to_string(),
            },
        }
    }
}

impl Field {
    fn parse(name: &str) -> Result<Field, Fault> {
        if let Some((_, get)) = FIELDS.iter().find(|(known, _)| *known == name) {
            return Ok(Field::Known(*get));
        }
        if let Some(label) = name.strip_prefix(LABEL).filter(|label| !label.is_empty()) {
            return Ok(Field::Label(label.to_owned()));
        }
        Err(Fault {
            message: format!("no field is named `{name}`"),
            help: did_you_mean(name, FIELDS.iter().map(|(known, _)| *known)),
            near: Some(name.to_owned()),
        })
    }

    fn get(&self, incident: &Incident) -> Value {
        match self {
            Field::Known(get) => get(incident),
            Field::Label(name) => json!(incident.check.labels.get(name)),
        }
    }
}

fn compile(value: Value, faults: &mut Vec<Fault>) -> Template {
    match value {
        Value::String(text) => compile_text(&text, faults),
        Value::Array(list) => Template::List(list.into_iter().map(|one| compile(one, faults)).collect()),
        Value::Object(object) => {
            let object = object.into_iter().map(|(name, one)| {
                if name.contains("{{") {
                    faults.push(Fault {
                        message: format!("the name `{name}` holds `{{{{`: fields stand in values only"),
                        help: None,
                        near: Some(name.clone()),
                    });
                }
                let one = compile(one, faults);
                (name, one)
            });
            Template::Object(object.collect())
        }
        fixed => Template::Fixed(fixed),
    }
}

fn compile_text(text: &str, faults: &mut Vec<Fault>) -> Template {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, behind)) = after.split_once("}}") else {
            faults.push(Fault {
                message: "a `{{` has no `}}` behind it".to_owned(),
                help: Some("a field is written as {{check.name}}".to_owned()),
                near: Some(text.to_owned()),
            });
            return Template::Text(parts);
        };
        if !before.is_empty() {
            parts.push(Part::Literal(before.to_owned()));
        }
        match Field::parse(name.trim()) {
            Ok(field) => parts.push(Part::Field(field)),
            Err(fault) => faults.push(fault),
        }
        rest = behind;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    match parts.as_slice() {
        [] => Template::Fixed(json!(text)),
        [Part::Literal(_)] => Template::Fixed(json!(text)),
        [Part::Field(field)] => Template::Field(field.clone()),
        _ => Template::Text(parts),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::tests::incident;

    fn filled(text: &str) -> Value {
        Template::parse(text).unwrap_or_else(|faults| panic!("{faults:?}")).fill(&incident())
    }

    #[test]
    fn fields_are_put_into_texts_and_keep_their_type_alone() {
        let body = r#"{"text": "{{check.name}} is {{ incident.state }}: {{incident.reason}}", "n": 1, "list": ["{{incident.flapping}}",
            "{{check.labels.team}}", "{{check.labels.none}}", "x{{check.labels.none}}y", "{{incident.probers}}"], "plain": "}} {"}"#;
        assert_eq!(
            filled(body),
            json!({"text": "shop \"start\" is open: connection refused", "n": 1,
                "list": [false, "web", null, "xy", ["berlin", "oslo"]], "plain": "}} {"})
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_the_nearest_right_word() {
        let faults = |text: &str| Template::parse(text).err().unwrap_or_default();
        let one = faults(r#"{"a": "{{check.nam}} {{incident.reason}}", "{{check.id}}": ["{{"]}"#);
        let told: Vec<_> = one.iter().map(|fault| (fault.message.as_str(), fault.help.as_deref())).collect();
        insta::assert_debug_snapshot!(told);
        assert!(faults("{").first().is_some_and(|fault| fault.message.starts_with("the body is not JSON")));
    }

    proptest! {
        /// Whatever a reason and a name hold, the body has the shape of its template.
        #[test]
        fn nothing_breaks_out_of_its_text(name in ".*", reason in ".*") {
            let mut incident = incident();
            let mut check = (*incident.check).clone();
            check.name = name.clone();
            incident.check = check.into();
            incident.reason = reason.clone();
            let template = Template::parse(r#"{"a": "{{check.name}}|{{incident.reason}}", "b": ["{{incident.reason}}"]}"#).unwrap();
            let text = template.fill(&incident).to_string();
            let back: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(back, json!({"a": format!("{name}|{reason}"), "b": [reason]}));
        }
    }
}
