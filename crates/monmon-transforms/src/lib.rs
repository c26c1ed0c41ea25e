//! Transforms that need nothing but the page: regex.

mod kind;
mod matcher;
mod pattern;
mod plain;
mod transform;

pub use kind::{REGEX, inline_stage};
pub use matcher::MATCHERS_MAX;
pub use pattern::{BACKTRACK_LIMIT, PATTERN_BYTES_MAX, PATTERN_SIZE_MAX, PATTERNS_KEPT_MAX, PATTERNS_MAX};
