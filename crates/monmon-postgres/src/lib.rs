//! The postgres sink, its migrations, and reading the store back.
