//! `monmon plugin inspect`.

use std::fmt::Write as _;

use monmon_syntax::format_size;
use monmon_wasm::{Description, Form, Host, HostOptions, Inspection};
use serde_json::json;

use super::{Format, InspectArgs, Trouble, read_plugin, refused, show};
use crate::Exit;

pub(crate) fn inspect(args: &InspectArgs) -> Result<Exit, Trouble> {
    let bytes = read_plugin(&args.file)?;
    let host = Host::new(HostOptions::default());
    let found = monmon_wasm::inspect(&host, &bytes).map_err(|error| refused(&args.file, &error))?;
    match args.format {
        Format::Text => show(&text(&found)),
        Format::Json => show(&format!("{:#}\n", value(&found))),
    }
    Ok(Exit::Good)
}

/// What the file is, in words.
fn form(form: Form) -> &'static str {
    match form {
        Form::Component => "a component",
        Form::CoreModule => {
            "a core module; a component is made of it at every load that finds no compiled code"
        }
        Form::Text => "WebAssembly text",
    }
}

fn needs(description: &Description) -> String {
    let parts = [(description.needs_body, "body"), (description.needs_headers, "headers")];
    let parts: Vec<&str> = parts.into_iter().filter(|(needed, _)| *needed).map(|(_, part)| part).collect();
    if parts.is_empty() { "status and phases alone".to_owned() } else { parts.join(" and ") }
}

/// What it has before any page, four times over, and never less than the least that can be given.
fn memory_limit(found: &Inspection) -> u64 {
    (found.memory_bytes * 4).max(1 << 20).next_power_of_two().min(256 << 20)
}

fn text(found: &Inspection) -> String {
    let Inspection { description, .. } = found;
    let mut text = String::new();
    let mut line =
        |name: &str, value: String| writeln!(text, "{name:<12}{value}").expect("a String takes all");
    line("name", format!("{} {}", description.name, description.version));
    line("", description.help.clone());
    line("file", format!("{}, {}", format_size(found.bytes), form(found.form)));
    line("world", "monmon:matcher/matcher@0.1.0".to_owned());
    line("imports", if found.imports.is_empty() { "nothing".to_owned() } else { found.imports.join(", ") });
    line("exports", found.exports.join(", "));
    line("looks at", needs(description));
    line("compiled", format!("{} in {:.0?}", format_size(found.code_bytes), found.compile_time));
    line(
        "instance",
        format!(
            "{} of memory in {} memories, {} tables, made in {:.0?}",
            format_size(found.memory_bytes),
            found.memories,
            found.tables,
            found.start_time
        ),
    );
    line(
        "limits",
        format!("memory=\"{}\" is four times what it starts with", format_size(memory_limit(found))),
    );
    line(
        "config",
        if description.parameters.is_empty() { "takes nothing".to_owned() } else { String::new() },
    );
    for parameter in &description.parameters {
        let state = match (&parameter.default, parameter.required) {
            (_, true) => ", required".to_owned(),
            (Some(default), false) => format!(", {default} if not given"),
            (None, false) => String::new(),
        };
        writeln!(text, "  {}: {}{state}\n      {}", parameter.name, parameter.expected(), parameter.help)
            .expect("a String takes all");
    }
    text
}

fn value(found: &Inspection) -> serde_json::Value {
    json!({
        "world": "monmon:matcher/matcher@0.1.0",
        "form": format!("{:?}", found.form),
        "bytes": found.bytes,
        "component_bytes": found.component_bytes,
        "code_bytes": found.code_bytes,
        "compile_us": u64::try_from(found.compile_time.as_micros()).unwrap_or(u64::MAX),
        "start_us": u64::try_from(found.start_time.as_micros()).unwrap_or(u64::MAX),
        "imports": found.imports,
        "exports": found.exports,
        "memories": found.memories,
        "tables": found.tables,
        "memory_bytes": found.memory_bytes,
        "memory_limit_bytes": memory_limit(found),
        "description": found.description,
    })
}
