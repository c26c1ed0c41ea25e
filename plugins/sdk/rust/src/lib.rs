//! A matcher for monmon: a WebAssembly plugin that looks at one response and says whether it is as it should be.
//!
//! ```no_run
//! use monmon_matcher::{Description, Matcher, Parameter, Response, Verdict};
//!
//! struct Word(String);
//!
//! #[derive(monmon_matcher::serde::Deserialize)]
//! #[serde(crate = "monmon_matcher::serde")]
//! struct Config {
//!     word: String,
//! }
//!
//! impl Matcher for Word {
//!     type Config = Config;
//!
//!     fn describe() -> Description {
//!         Description::new("word", "1.0.0", "looks for a word")
//!             .needs_body()
//!             .parameter(Parameter::text("word", "the word").required())
//!     }
//!
//!     fn new(config: Config) -> Result<Word, String> {
//!         Ok(Word(config.word))
//!     }
//!
//!     fn check(&mut self, response: &Response) -> Result<Verdict, String> {
//!         Ok(Verdict::new(response.text().contains(&self.0)))
//!     }
//! }
//!
//! monmon_matcher::export!(Word);
//! ```
//!
//! What a `Matcher` keeps in itself may live on from page to page; it is gone after a trap, and whenever monmon makes a new
//! instance. A panic is a trap: its place is logged, not its message, which could have the page in it.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

pub use serde;

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "matcher",
        pub_export_macro: true,
        export_macro_name: "export_matcher",
        default_bindings_module: "monmon_matcher::bindings",
    });
}

use bindings::monmon::matcher::{host, types};

pub use types::Phases;

/// What a plugin does.
pub trait Matcher: Sized + 'static {
    /// What `config { }` in the pipeline file gives, as JSON.
    type Config: DeserializeOwned;

    /// What the plugin is and takes.
    fn describe() -> Description;

    /// Called on every new instance. An error refuses the configuration, in words for whoever wrote it.
    fn new(config: Self::Config) -> Result<Self, String>;

    /// Looks at a response. An error says that it could not be decided; the measurement is `unknown` then.
    fn check(&mut self, response: &Response) -> Result<Verdict, String>;
}

/// What a plugin is, and what it takes.
pub struct Description(types::Description);

impl Description {
    pub fn new(name: &str, version: &str, help: &str) -> Description {
        Description(types::Description {
            name: name.to_owned(),
            version: version.to_owned(),
            help: help.to_owned(),
            needs: types::Needs::empty(),
            parameters: Vec::new(),
        })
    }

    /// The plugin looks at bodies; else they are not copied to it.
    pub fn needs_body(mut self) -> Description {
        self.0.needs = self.0.needs | types::Needs::BODY;
        self
    }

    /// The plugin looks at headers.
    pub fn needs_headers(mut self) -> Description {
        self.0.needs = self.0.needs | types::Needs::HEADERS;
        self
    }

    pub fn parameter(mut self, parameter: Parameter) -> Description {
        self.0.parameters.push(parameter.0);
        self
    }
}

/// One thing that `config { }` may say.
pub struct Parameter(types::Parameter);

impl Parameter {
    pub fn boolean(name: &str, help: &str) -> Parameter {
        Parameter::of(name, types::Kind::Boolean, help)
    }

    /// A whole number.
    pub fn integer(name: &str, help: &str) -> Parameter {
        Parameter::of(name, types::Kind::Integer, help)
    }

    pub fn number(name: &str, help: &str) -> Parameter {
        Parameter::of(name, types::Kind::Number, help)
    }

    pub fn text(name: &str, help: &str) -> Parameter {
        Parameter::of(name, types::Kind::Text, help)
    }

    fn of(name: &str, kind: types::Kind, help: &str) -> Parameter {
        Parameter(types::Parameter {
            name: name.to_owned(),
            kind,
            many: false,
            required: false,
            default: None,
            one_of: Vec::new(),
            min: None,
            max: None,
            help: help.to_owned(),
        })
    }

    /// Any number of values: a `Vec` in the configuration.
    pub fn many(mut self) -> Parameter {
        self.0.many = true;
        self
    }

    pub fn required(mut self) -> Parameter {
        self.0.required = true;
        self
    }

    /// What is taken when it is not given, for people to read.
    pub fn default(mut self, text: &str) -> Parameter {
        self.0.default = Some(text.to_owned());
        self
    }

    pub fn one_of(mut self, words: &[&str]) -> Parameter {
        self.0.one_of = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    pub fn range(mut self, min: f64, max: f64) -> Parameter {
        (self.0.min, self.0.max) = (Some(min), Some(max));
        self
    }
}

/// What the site answered.
pub struct Response {
    /// Of the last request, after redirects.
    pub url: String,
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// The body went on, and the rest was cut off.
    pub body_truncated: bool,
    pub phases: Phases,
}

impl Response {
    /// The body as text; what is not UTF-8 becomes U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The first header of this name, which is written in lower case.
    pub fn header<'a>(&'a self, name: &'a str) -> Option<Cow<'a, str>> {
        self.headers(name).next()
    }

    /// All headers of this name, in order.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
        let named = self.headers.iter().filter(move |(known, _)| known == name);
        named.map(|(_, value)| String::from_utf8_lossy(value))
    }
}

/// The plugin's word on a response.
pub struct Verdict(types::Verdict);

impl Verdict {
    pub fn new(matched: bool) -> Verdict {
        Verdict(types::Verdict { matched, message: None, values: Vec::new(), metrics: Vec::new() })
    }

    /// Why, in one line: people read it at night.
    pub fn message(mut self, message: impl Into<String>) -> Verdict {
        self.0.message = Some(message.into());
        self
    }

    /// Something that was read from the response.
    pub fn value(mut self, name: &str, value: impl Into<String>) -> Verdict {
        self.0.values.push((name.to_owned(), value.into()));
        self
    }

    /// A number with its unit, such as `ms`; an empty unit for a bare number.
    pub fn metric(mut self, name: &str, value: f64, unit: &str) -> Verdict {
        self.0.metrics.push(types::Metric { name: name.to_owned(), value, unit: unit.to_owned() });
        self
    }
}

/// Writes a line to monmon's log.
pub fn log(level: Level, message: &str) {
    host::log(level.into(), message);
}

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl From<Level> for host::Level {
    fn from(level: Level) -> host::Level {
        match level {
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        }
    }
}

#[doc(hidden)]
pub mod adapter {
    //! What stands between the contract and a [`Matcher`].

    use super::*;

    pub fn describe<M: Matcher>() -> types::Description {
        M::describe().0
    }

    pub fn configure<M: Matcher>(config: &str) -> Result<M, String> {
        std::panic::set_hook(Box::new(|panic| {
            // The message may quote the page.
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            log(Level::Error, &format!("panic at {place}"));
        }));
        let config = serde_json::from_str(config).map_err(|error| error.to_string())?;
        M::new(config)
    }

    pub fn check<M: Matcher>(
        matcher: Option<&mut M>,
        response: types::Response,
    ) -> Result<types::Verdict, String> {
        let matcher = matcher.ok_or("it was not configured")?;
        let response = Response {
            url: response.url,
            status: response.status,
            headers: response.headers.into_iter().map(|header| (header.name, header.value)).collect(),
            body: response.body,
            body_truncated: response.body_truncated,
            phases: response.phases,
        };
        matcher.check(&response).map(|verdict| verdict.0)
    }
}

/// Makes a plugin of a [`Matcher`].
#[macro_export]
macro_rules! export {
    ($matcher:ty) => {
        const _: () = {
            struct Adapter;

            ::std::thread_local! {
                static MATCHER: ::std::cell::RefCell<Option<$matcher>> =
                    const { ::std::cell::RefCell::new(None) };
            }

            impl $crate::bindings::Guest for Adapter {
                fn describe() -> $crate::bindings::Description {
                    $crate::adapter::describe::<$matcher>()
                }

                fn configure(config: String) -> Result<(), String> {
                    let matcher = $crate::adapter::configure::<$matcher>(&config)?;
                    MATCHER.set(Some(matcher));
                    Ok(())
                }

                fn check(
                    response: $crate::bindings::Response,
                ) -> Result<$crate::bindings::Verdict, String> {
                    MATCHER.with_borrow_mut(|matcher| $crate::adapter::check(matcher.as_mut(), response))
                }
            }

            $crate::bindings::export_matcher!(Adapter with_types_in $crate::bindings);
        };
    };
}
