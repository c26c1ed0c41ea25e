//! `monmon plugin test`.

use std::sync::Arc;
use std::time::Duration;

use comfy_table::{Table, presets};
use monmon_stage::matching::PluginLimits;
use monmon_syntax::{format_size, printable};
use monmon_wasm::{Answer, Host, HostOptions, Plugin, PluginMatcher, Usage, Verdict};

use super::fixture::{Case, Expect, Fixture};
use super::{TestArgs, Trouble, language, read_plugin, refused, show};
use crate::Exit;

/// More than any call needs: what it used is shown.
const FUEL: u64 = 1_000_000_000_000;

pub(crate) fn test(args: &TestArgs) -> Result<Exit, Trouble> {
    let file = match &args.plugin {
        Some(file) => file.clone(),
        None => language::built(&args.folder)?,
    };
    let fixtures = Fixture::of(&args.folder)?;
    if fixtures.is_empty() {
        let message = format!("there is nothing in {}", args.folder.join("tests").display());
        return Err(Trouble::new(message).help("a test is NAME.http, a response, and NAME.json beside it"));
    }
    let bytes = read_plugin(&file).map_err(|trouble| trouble.help("`monmon plugin build` builds it"))?;
    let host = Host::new(HostOptions::default());
    let load = |metered| host.load_bytes(&bytes, metered).map_err(|error| refused(&file, &error));
    let (plain, metered) = (load(false)?, load(true)?);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["test", "verdict", "time", "fuel", "memory", ""]);
    let mut failed = Vec::new();
    for fixture in &fixtures {
        let config = serde_json::to_string(&fixture.case.config).expect("a map of JSON is JSON");
        let (answer, usage) = try_once(&plain, &metered, &config, fixture);
        let wrong = differences(&fixture.case, &answer);
        table.add_row([
            fixture.name.clone(),
            short(&answer),
            format!("{:.1?}", usage.time),
            usage.fuel.map(|fuel| fuel.to_string()).unwrap_or_default(),
            format_size(usage.memory_bytes),
            if wrong.is_empty() { "ok".to_owned() } else { "FAILED".to_owned() },
        ]);
        if !wrong.is_empty() {
            failed.push((fixture, wrong));
        }
    }
    let mut text = format!("{}\n", table.trim_fmt());
    for (fixture, wrong) in &failed {
        wrong.iter().for_each(|wrong| text.push_str(&format!("{}: {}\n", fixture.name, printable(wrong))));
    }
    text.push_str(&format!("{} of {} passed\n", fixtures.len() - failed.len(), fixtures.len()));
    show(&text);
    Ok(if failed.is_empty() { Exit::Good } else { Exit::Bad })
}

/// The verdict, with the time of ordinary code and the fuel of metered code.
fn try_once(plain: &Arc<Plugin>, metered: &Arc<Plugin>, config: &str, fixture: &Fixture) -> (Answer, Usage) {
    // A bound for what hangs; otherwise the author is to see what a call takes.
    let limits = PluginLimits { time: Duration::from_secs(10), ..PluginLimits::default() };
    let look = |plugin: &Arc<Plugin>, limits| {
        let mut matcher = PluginMatcher::new(plugin.clone(), config.into(), limits, false);
        // The first call also makes the instance.
        let first = fixture.show(|response| matcher.look(&"test".into(), response));
        if matches!(first, Answer::Fault(_)) {
            return (first, matcher.usage());
        }
        let answer = fixture.show(|response| matcher.look(&"test".into(), response));
        if answer != first {
            let why = format!("answered otherwise at the second call: first {first:?}, then {answer:?}");
            return (Answer::NotAsked(why), matcher.usage());
        }
        (answer, matcher.usage())
    };
    let (answer, mut usage) = look(plain, limits);
    usage.fuel = look(metered, PluginLimits { fuel: Some(FUEL), ..limits }).1.fuel;
    (answer, usage)
}

fn short(answer: &Answer) -> String {
    match answer {
        Answer::Verdict(verdict) if verdict.matched => "matched".to_owned(),
        Answer::Verdict(_) => "not matched".to_owned(),
        Answer::Undecided(_) => "undecided".to_owned(),
        Answer::Fault(fault) => format!("fault ({})", fault.kind()),
        Answer::NotAsked(_) => "none".to_owned(),
    }
}

/// What is other than expected.
fn differences(case: &Case, answer: &Answer) -> Vec<String> {
    if let Some(words) = &case.refused {
        return match answer {
            Answer::Fault(fault) if fault.to_string().contains("refuses its configuration") => {
                contains("the refusal", &fault.to_string(), words).into_iter().collect()
            }
            other => vec![format!("the configuration was not refused: {}", told(other))],
        };
    }
    let expect = case.expect.as_ref().expect("a fixture has one of the two");
    match (answer, &expect.error) {
        (Answer::Undecided(why), Some(words)) => contains("the error", why, words).into_iter().collect(),
        (Answer::Verdict(verdict), None) => differences_of(verdict, expect),
        (other, _) => vec![told(other)],
    }
}

fn differences_of(verdict: &Verdict, expect: &Expect) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(matched) = expect.matched
        && matched != verdict.matched
    {
        let message = verdict.message.as_deref().unwrap_or("no message");
        wrong.push(format!("matched is {}, expected {matched} ({message})", verdict.matched));
    }
    if let Some(words) = &expect.message {
        wrong.extend(contains("the message", verdict.message.as_deref().unwrap_or_default(), words));
    }
    for (name, value) in &expect.values {
        match verdict.values.get(name) {
            Some(given) if given == value => {}
            Some(given) => wrong.push(format!("the value {name} is `{given}`, expected `{value}`")),
            None => wrong.push(format!("the value {name} is missing, expected `{value}`")),
        }
    }
    for (name, metric) in &expect.metrics {
        match verdict.metrics.get(name) {
            // A number that was worked out may differ in its last digits.
            Some(given) if is_close(given.value(), metric.value) && given.unit() == metric.unit => {}
            Some(given) => wrong.push(format!(
                "the metric {name} is {} {}, expected {} {}",
                given.value(),
                given.unit(),
                metric.value,
                metric.unit
            )),
            None => wrong.push(format!("the metric {name} is missing")),
        }
    }
    wrong
}

fn is_close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-6 * one.abs().max(other.abs()).max(1.0)
}

fn contains(what: &str, text: &str, words: &str) -> Option<String> {
    (!text.contains(words)).then(|| format!("{what} is `{text}`, expected to contain `{words}`"))
}

fn told(answer: &Answer) -> String {
    match answer {
        Answer::Verdict(verdict) => format!("there was a verdict: {verdict:?}"),
        Answer::Undecided(why) => format!("the plugin could not decide: {why}"),
        Answer::Fault(fault) => format!("the plugin {fault}"),
        Answer::NotAsked(why) => format!("the plugin {why}"),
    }
}
