//! A plugin's file (first byte 0), what it says of itself (1), or what it answers (any other): a plugin, or a reason why it
//! is none; a verdict that the wire format takes, or a fault. Never a panic, and never more than its limits.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use monmon_model::{Timings, bounds};
use monmon_stage::matching::{PluginLimits, VALUE_CHARS_MAX, VALUES_MAX};
use monmon_wasm::{Answer, Host, HostOptions, Plugin, PluginMatcher, Response};

static HOST: LazyLock<Host> = LazyLock::new(|| Host::new(HostOptions::default()));

/// Answers with what stands in the body of the page.
static ECHO: LazyLock<Arc<Plugin>> = LazyLock::new(|| {
    let check = "(memory.copy (i32.const 1088) (i32.load offset=20 (local.get $response))
        (i32.load offset=24 (local.get $response))) (i32.const 1088)";
    HOST.load_bytes(guest(check, "").as_bytes(), false).expect("a plugin of ours")
});

const ANSWER_BYTES_MAX: usize = 2000;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    match first {
        0 => drop(HOST.load_bytes(rest, false).map(|plugin| look(plugin, b"page"))),
        1 => {
            let data: String = rest.iter().take(600).map(|byte| format!("\\{byte:02x}")).collect();
            let text = guest("(i32.const 1088)", &format!("(data (i32.const 0) \"{data}\")"));
            drop(HOST.load_bytes(text.as_bytes(), false).map(|plugin| plugin.description.clone()));
        }
        _ => look(ECHO.clone(), &rest[..rest.len().min(ANSWER_BYTES_MAX)]),
    }
});

fn guest(check: &str, more: &str) -> String {
    include_str!("../../crates/monmon-wasm/tests/guests/matcher.wat")
        .replace("{describe}", "(i32.const 0)")
        .replace("{configure}", "(i32.const 1024)")
        .replace("{check}", check)
        .replace("{more}", more)
}

fn look(plugin: Arc<Plugin>, body: &[u8]) {
    let limits =
        PluginLimits { time: Duration::from_millis(20), memory_bytes: 4 << 20, ..PluginLimits::default() };
    let mut matcher = PluginMatcher::new(plugin, "{}".into(), limits, false);
    let phases = Timings::default();
    let response = Response {
        url: "http://127.0.0.1/",
        status: 200,
        headers: None,
        body,
        body_truncated: false,
        phases: &phases,
    };
    if let Answer::Verdict(verdict) = matcher.look(&"fuzz".into(), &response) {
        assert!(verdict.values.len() <= VALUES_MAX && verdict.metrics.len() <= bounds::METRICS_MAX);
        assert!(verdict.values.values().all(|value| bounds::fits(value, VALUE_CHARS_MAX)));
        assert!(verdict.values.values().all(|value| !value.contains('\0')));
        assert!(verdict.metrics.values().all(|metric| metric.value().is_finite()));
        let message = verdict.message.unwrap_or_default();
        assert!(bounds::fits(&message, bounds::MESSAGE_CHARS_MAX) && !message.chars().any(char::is_control));
    }
}
