//! Plugins: WebAssembly components that look at pages, within bounds.
//!
//! A plugin's file becomes a component ([`Form`]), the component code (in a process of its own, [`Compiler`]), and code is
//! kept on disk. A [`Host`] loads it and holds it against the contract of `plugins/wit/matcher.wit`; a [`PluginMatcher`]
//! runs it with one configuration. Whatever a plugin does, the answer is a match, if need be one with an error.
//!
//! Calls are ordinary calls on the stage's own thread: the engine's epoch clock stops those that take too long.

mod bindings;
mod cache;
mod compile;
mod component;
mod config;
mod describe;
mod engine;
mod error;
mod host;
mod inspect;
mod instance;
mod kind;
mod log;
mod matcher;
mod quarantine;
mod transform;
mod verdict;

pub use compile::{COMPILE_TIME, Compiler, work};
pub use component::{Form, PLUGIN_BYTES_MAX, WIT};
pub use describe::{Description, Kind, Parameter};
pub use error::{Fault, PluginError};
pub use host::{Host, HostOptions, Plugin, host, set_up};
pub use inspect::{Inspection, inspect};
pub use instance::{Instance, Usage};
pub use kind::{PLUGINS_MAX, WASM, inline_stage};
pub use log::Logbook;
pub use matcher::{Answer, Counts, PluginMatcher};
pub use quarantine::FAULTS_MAX;
pub use verdict::{Response, Verdict};
