//! Transforms that need nothing but the page: regex.
