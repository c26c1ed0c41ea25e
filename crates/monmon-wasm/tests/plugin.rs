//! What a plugin is given and what becomes of its answers.

mod common;

use common::{Guest, ask, host};
use monmon_stage::matching::PluginLimits;
use monmon_wasm::{Answer, Kind};

#[test]
fn a_plugin_says_what_it_is() {
    let plugin = Guest::default().load(&host()).unwrap();
    let description = &plugin.description;
    assert_eq!((&*description.name, &*description.version, &*description.help), ("test", "1.2.3", "help"));
    assert!(description.needs_body && description.needs_headers);
    let [parameter] = &description.parameters[..] else { panic!("one parameter: {description:?}") };
    assert_eq!((&*parameter.name, parameter.kind, parameter.many), ("word", Kind::Text, true));
    assert_eq!((parameter.required, &parameter.default, parameter.min), (false, &None, None));
    assert_eq!(parameter.help, "help");
}

#[test]
fn a_plugin_matches() {
    let mut matcher = Guest::default().matcher(&host(), PluginLimits::default());
    for _ in 0..3 {
        let Answer::Verdict(verdict) = ask(&mut matcher, b"page") else { panic!("a verdict") };
        assert!(verdict.matched && verdict.message.is_none() && verdict.values.is_empty());
    }
    assert_eq!(matcher.counts().calls, 3);
}
