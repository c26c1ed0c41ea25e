//! What can be wrong with a plugin: before it runs, and while it runs.

use std::time::Duration;

use monmon_syntax::{format_duration, format_size};

use crate::component::PLUGIN_BYTES_MAX;

/// Why a file is no plugin for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum PluginError {
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it is larger than {}", format_size(PLUGIN_BYTES_MAX as u64))]
    TooLarge,
    #[error("it is not WebAssembly")]
    NotWasm,
    #[error("it is not sound WebAssembly: {0}")]
    Invalid(String),
    /// A core module that no component can be made of.
    #[error("no component can be made of the core module: {0}")]
    Core(String),
    #[error("it asks for what plugins are not given: {}", .0.join(", "))]
    Imports(Vec<String>),
    #[error("it lacks what a matcher has: {}", .0.join(", "))]
    Exports(Vec<String>),
    #[error("it is no matcher as monmon:matcher@0.1.0 has it: {0}")]
    World(String),
    #[error("it takes longer than {} to compile", format_duration(*.0))]
    CompileTime(Duration),
    #[error("it cannot be compiled: {0}")]
    Compile(String),
    #[error("it does not say what it is: `describe` {0}")]
    Describe(Fault),
    #[error("what it says of itself is not right: {0}")]
    Description(String),
    #[error("no plugin can run here: {0}")]
    Machine(String),
}

impl PluginError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            PluginError::Unreadable(_) => "the path starts from the folder of the pipeline file",
            PluginError::TooLarge => "build it for release, without debug information",
            PluginError::NotWasm => "`monmon plugin build` makes a .wasm file from a plugin's source",
            PluginError::Invalid(_) => "build it again; the file may have been cut off",
            PluginError::Core(_) | PluginError::Exports(_) => {
                "a matcher exports `describe`, `configure` and `check`; `monmon plugin new` writes one to start from"
            }
            PluginError::Imports(_) => {
                "a plugin may import monmon:matcher/host@0.1.0 and nothing else: it has no files, network, clock, randomness or environment"
            }
            PluginError::World(_) => "build it against the matcher.wit of this version of monmon",
            PluginError::CompileTime(_) | PluginError::Compile(_) => {
                "a plugin of ordinary size compiles within seconds; look at what is linked into it"
            }
            PluginError::Describe(_) => "`describe` has 1 s and the memory of a plugin without `limits`",
            PluginError::Description(_) => "tell the plugin's author",
            PluginError::Machine(_) => "WebAssembly needs address space: look at `ulimit -v`",
        }
    }
}

/// Why a call of a plugin gave no answer. The instance is not used again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum Fault {
    #[error("did not come to an end within {}", format_duration(*.0))]
    Time(Duration),
    #[error("used up its fuel of {0}")]
    Fuel(u64),
    #[error("wanted more memory than {}", format_size(*.0))]
    Memory(u64),
    #[error("wanted more table elements than {0}")]
    Table(u32),
    #[error("has more core modules than {0}")]
    Instances(u32),
    #[error("used up its stack")]
    Stack,
    #[error("gave or logged more than {} at once", format_size(*.0))]
    Output(u64),
    /// In the runtime's words.
    #[error("trapped: {0}")]
    Trap(String),
    /// The answer is not what the contract says.
    #[error("gave a malformed answer: {0}")]
    Malformed(String),
    #[error("asked for `{0}`, which plugins are not given")]
    Import(String),
    #[error("could not be started: {0}")]
    Start(String),
}

impl Fault {
    /// By which faults are counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Time(_) => "time",
            Fault::Fuel(_) => "fuel",
            Fault::Memory(_) | Fault::Table(_) | Fault::Instances(_) => "memory",
            Fault::Stack => "stack",
            Fault::Output(_) => "output",
            Fault::Trap(_) => "trap",
            Fault::Malformed(_) => "malformed",
            Fault::Import(_) => "import",
            Fault::Start(_) => "start",
        }
    }
}
