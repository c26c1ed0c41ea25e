//! `docs/pipelines.md` is made from the catalogue, the failure kinds and the problem codes, so that it can't differ from
//! what is decoded. `MONMON_BLESS=1` writes it anew.

use std::fmt::Write;

use monmon::CATALOGUE;
use monmon_model::{FailureKind, Owner, RejectedReason};
use monmon_stage::Section;
use monmon_syntax::{Code, NodeSpec, Occurs, OptionSpec, Severity};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pipelines.md");

#[test]
fn the_reference_is_published_as_generated() {
    let text = reference();
    if std::env::var_os("MONMON_BLESS").is_some() {
        std::fs::write(PATH, &text).expect("the folder is there");
    }
    let published = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(published == text, "docs/pipelines.md is out of date; run the test with MONMON_BLESS=1");
}

/// What stands in the tables is the reference, so nothing may be left without its words.
#[test]
fn every_option_is_explained() {
    fn check(spec: &NodeSpec) {
        assert!(!spec.help.is_empty(), "`{}` has no help", spec.name);
        for option in spec.options {
            assert!(!option.help.is_empty(), "`{}` of `{}` has no help", option.name, spec.name);
        }
        for arg in spec.args {
            assert!(!arg.help.is_empty(), "`{}` of `{}` has no help", arg.name, spec.name);
        }
        spec.children.iter().for_each(|child| check(child));
    }
    CATALOGUE.kinds.iter().for_each(|kind| check(kind.spec));
}

const CHECKS: &str = include_str!("../docs/checks.md");

#[test]
fn every_failure_has_its_line_in_the_page_about_checks() {
    for kind in FailureKind::ALL {
        assert!(CHECKS.contains(&format!("`{}`", kind.as_str())), "{} is missing", kind.as_str());
    }
}

/// What is shown to people is what the language takes.
#[test]
fn the_examples_of_the_page_about_checks_are_sound() {
    let mut examples = 0;
    for block in CHECKS.split("```kdl\n").skip(1) {
        let block = block.split("```").next().expect("a block has an end");
        let inner = if block.starts_with("http ") {
            block.to_owned()
        } else {
            format!("http \"sites\" {{\n{block}}}")
        };
        let text = format!(
            "pipeline \"docs\"\nsources {{\n{inner}\n}}\nsinks {{ stdout \"out\" from=\"sites\" }}\n"
        );
        let loader = monmon_syntax::MemoryLoader::new().with("docs.kdl", text.as_bytes());
        let front = monmon::front(std::path::Path::new("docs.kdl"), &loader);
        let told: Vec<&str> = front.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert!(front.plan.is_some() && told.is_empty(), "{told:?} in {text}");
        examples += 1;
    }
    assert_eq!(examples, 2);
}

/// Each example of the page about incidents, as a part of a pipeline.
#[test]
fn the_examples_of_the_page_about_incidents_are_sound() {
    let page = include_str!("../docs/incidents.md");
    let mut examples = 0;
    for block in page.split("```kdl\n").skip(1) {
        let block = block.split("```").next().expect("a block has an end");
        let detector =
            if block.contains("transforms {") { "" } else { "transforms { detect \"outages\"; }\n" };
        let source = "sources { kafka \"events\" brokers=\"b:1\" topic=\"t\" group=\"g\"; }\n";
        let text = format!("pipeline \"docs\"\n{source}{detector}{block}");
        let loader = monmon_syntax::MemoryLoader::new().with("docs.kdl", text.as_bytes());
        let front = monmon::front(std::path::Path::new("docs.kdl"), &loader);
        let told: Vec<&str> = front.problems.iter().map(|problem| problem.message.as_str()).collect();
        assert!(front.plan.is_some() && told.is_empty(), "{told:?} in {text}");
        examples += 1;
    }
    assert_eq!(examples, 2);
}

fn reference() -> String {
    let mut text = String::from(
        "# Pipelines: the reference\n\nMade from the tables that monmon itself decodes by; the README has the tour. Any option may \
         be written as a property\n(`topic=\"x\"`) or as a child (`topic \"x\"`). Values of the types text, secret, URL and path may \
         come late, as `(env)\"NAME\"`\nor `(file)\"path\"`.\n",
    );
    for section in Section::ALL {
        writeln!(text, "\n## {}", section.as_str()).expect("a String takes all");
        for kind in CATALOGUE.of(section) {
            node(&mut text, kind.spec, 3, &[]);
        }
    }
    lists(&mut text);
    text
}

fn node(text: &mut String, spec: &NodeSpec, level: usize, within: &[&str]) {
    let path: Vec<&str> = within.iter().copied().chain([spec.name]).collect();
    let title = path.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" > ");
    writeln!(text, "\n{} {title}\n\n{}.", "#".repeat(level), sentence(spec.help))
        .expect("a String takes all");
    if level > 3 {
        let occurs = match spec.occurs {
            Occurs::AtMostOnce => "at most once",
            Occurs::Once => "exactly once",
            Occurs::Many => "any number of times",
            Occurs::AtLeastOnce => "at least once",
        };
        writeln!(text, "Occurs {occurs}.").expect("a String takes all");
    }
    if !spec.example.is_empty() {
        writeln!(text, "\n```kdl\n{}\n```", spec.example).expect("a String takes all");
    }
    let mut rows = String::new();
    for arg in spec.args {
        let required = if arg.required { "required" } else { "" };
        row(&mut rows, &format!("*{}* (argument)", arg.name), &arg.kind.expected(), required, arg.help);
    }
    for option in spec.options {
        row(&mut rows, &format!("`{}`", option.name), &option.kind.expected(), &default(option), option.help);
    }
    if let Some(kind) = spec.open_properties {
        row(&mut rows, "*any name*", &kind.expected(), "", "names of your choice");
    }
    if !rows.is_empty() {
        write!(text, "\n| option | expects | default | meaning |\n| --- | --- | --- | --- |\n{rows}")
            .expect("a String takes all");
    }
    for child in spec.children {
        node(text, child, level + 1, &path);
    }
}

fn default(option: &OptionSpec) -> String {
    match (option.required, option.default) {
        (true, _) => "required".to_owned(),
        (false, Some(default)) => format!("`{default}`"),
        (false, None) => String::new(),
    }
}

fn row(rows: &mut String, name: &str, expects: &str, default: &str, help: &str) {
    writeln!(rows, "| {name} | {} | {default} | {} |", expects.replace('|', "\\|"), help.replace('|', "\\|"))
        .expect("a String takes all");
}

fn sentence(help: &str) -> String {
    let help = help.trim_end_matches('.');
    let mut chars = help.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn lists(text: &mut String) {
    let list = |text: &mut String, line: String| writeln!(text, "{line}").expect("a String takes all");
    list(text, "\n## Kinds of failure\n\nWhat `error.kind` of a measurement can be. Those of the site make it `down`, those of the \
                prober `unknown`.\n".to_owned());
    for owner in [Owner::Site, Owner::Prober] {
        let kinds: Vec<String> = FailureKind::ALL
            .iter()
            .filter(|kind| kind.owner() == owner)
            .map(|kind| format!("`{}`", kind.as_str()))
            .collect();
        let whose = if owner == Owner::Site { "the site's" } else { "the prober's" };
        list(text, format!("- {whose}: {}", kinds.join(", ")));
    }
    list(text, "\n## Reasons of dead letters\n".to_owned());
    let reasons: Vec<String> =
        RejectedReason::ALL.iter().map(|reason| format!("`{}`", reason.as_str())).collect();
    list(text, reasons.join(", "));
    list(text, "\n## Problems\n\nThe codes are stable.\n\n| code | meaning |\n| --- | --- |".to_owned());
    for code in Code::all() {
        let severity = if code.severity() == Severity::Warning { " (warning)" } else { "" };
        list(text, format!("| `{}`{severity} | {} |", code.as_str(), code.about()));
    }
}
