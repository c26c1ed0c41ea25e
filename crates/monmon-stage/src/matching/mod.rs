//! What looks into pages, and can stand inside a check: patterns and plugins. How they are written is said here, since
//! the source that has the checks and the transforms that do the work see each other only through it.

mod pattern;
mod plugin;
mod values;

use std::sync::Arc;

use monmon_syntax::Spanned;
use serde_json::Value;
use uuid::Uuid;

pub use pattern::{MATCH, MatchSpec};
pub use plugin::{INLINE_PLUGIN, PLUGIN_CHILDREN, PLUGIN_OPTIONS, PluginLimits, PluginSpec};
pub use values::{VALUE_CHARS_MAX, VALUES_BYTES_MAX, VALUES_MAX, storable, values_bytes};

/// A matcher that belongs to one check.
#[derive(Clone, Debug)]
pub struct InlineMatch {
    pub check: Uuid,
    pub spec: InlineSpec,
}

/// Shared with the stage that does the work.
#[derive(Clone, Debug)]
pub enum InlineSpec {
    Pattern(Arc<MatchSpec>),
    Plugin(Arc<PluginSpec>),
}

impl InlineSpec {
    pub fn name(&self) -> &Spanned<String> {
        match self {
            InlineSpec::Pattern(spec) => &spec.name,
            InlineSpec::Plugin(spec) => &spec.name,
        }
    }

    /// What a snapshot shows.
    pub fn describe(&self) -> Value {
        match self {
            InlineSpec::Pattern(spec) => spec.describe(),
            InlineSpec::Plugin(spec) => spec.describe(),
        }
    }
}
