//! Guests written by hand, and a page to show them.

#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::Arc;

use monmon_model::Timings;
use monmon_stage::matching::PluginLimits;
use monmon_wasm::{Answer, Host, HostOptions, Plugin, PluginError, PluginMatcher, Response};

/// A guest: the functions that a test puts in place of the ordinary ones.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) describe: String,
    pub(crate) configure: String,
    pub(crate) check: String,
    pub(crate) more: String,
}

impl Default for Guest {
    /// One that says yes.
    fn default() -> Guest {
        Guest {
            describe: "(i32.const 0)".to_owned(),
            configure: "(i32.const 1024)".to_owned(),
            check: "(i32.store8 (i32.const 1092) (i32.const 1)) (i32.const 1088)".to_owned(),
            more: String::new(),
        }
    }
}

impl Guest {
    pub(crate) fn checking(check: &str) -> Guest {
        Guest { check: check.to_owned(), ..Guest::default() }
    }

    pub(crate) fn with(mut self, more: &str) -> Guest {
        self.more = more.to_owned();
        self
    }

    pub(crate) fn text(&self) -> String {
        include_str!("../guests/matcher.wat")
            .replace("{describe}", &self.describe)
            .replace("{configure}", &self.configure)
            .replace("{check}", &self.check)
            .replace("{more}", &self.more)
    }

    pub(crate) fn load(&self, host: &Host) -> Result<Arc<Plugin>, PluginError> {
        host.load_bytes(self.text().as_bytes(), false)
    }

    pub(crate) fn matcher(&self, host: &Host, limits: PluginLimits) -> PluginMatcher {
        let plugin = host.load_bytes(self.text().as_bytes(), limits.fuel.is_some()).expect("a plugin");
        PluginMatcher::new(plugin, "{}".into(), limits, false)
    }
}

pub(crate) fn host() -> Host {
    Host::new(HostOptions::default())
}

pub(crate) fn ask(matcher: &mut PluginMatcher, body: &[u8]) -> Answer {
    let phases = Timings { total_us: 1234, ..Timings::default() };
    let mut headers = http::HeaderMap::new();
    headers.insert("content-type", http::HeaderValue::from_static("text/html"));
    let response = Response {
        url: "https://example.org/",
        status: 200,
        headers: Some(&headers),
        body,
        body_truncated: false,
        phases: &phases,
    };
    matcher.look(&"docs".into(), &response)
}
